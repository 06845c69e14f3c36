"""The console's files: read once, served with a policy under which a page can load nothing that does not come from here."""

import asyncio
import hashlib
from pathlib import Path

from aiohttp import web
from msgspec import Struct

STATIC = Path(__file__).parent / "static"
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
ADDRESSES = ("/", "/streams", "/streams/{stream_id}", "/traces/{trace_id}", "/routes", "/compare")
"""Addresses of pages: all are the same document, which shows what its address says."""


class File(Struct, frozen=True):
    """One file as it is served; `mark` is its entity tag, so that a browser asks but does not load it again."""

    body: bytes
    content_type: str
    mark: str


def files() -> dict[str, File]:
    """Return the console's files by their path below /static."""
    found = {}
    for path in sorted(STATIC.rglob("*")):
        if path.suffix in TYPES:
            body = path.read_bytes()
            found[path.relative_to(STATIC).as_posix()] = File(body, TYPES[path.suffix], hashlib.sha256(body).hexdigest()[:16])
    return found


class Pages:
    """The doors of the console; its files are read when the application starts, in a thread."""

    def __init__(self) -> None:
        self._files: dict[str, File] = {}

    async def load(self, _: web.Application) -> None:
        self._files = await asyncio.to_thread(files)

    async def page(self, request: web.Request) -> web.Response:
        return _answer(request, self._files["index.html"])

    async def static(self, request: web.Request) -> web.Response:
        if (file := self._files.get(request.match_info["name"])) is None:
            raise web.HTTPNotFound
        return _answer(request, file)


def add_pages(app: web.Application) -> None:
    """Open the doors of the console."""
    pages = Pages()
    app.on_startup.append(pages.load)
    for address in ADDRESSES:
        app.router.add_get(address, pages.page)
    app.router.add_get("/static/{name:.+}", pages.static)


def _answer(request: web.Request, file: File) -> web.Response:
    headers = {**HEADERS, "ETag": f'"{file.mark}"'}
    if any(mark.value in (file.mark, "*") for mark in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    return web.Response(body=file.body, content_type=file.content_type, charset="utf-8", headers=headers)
