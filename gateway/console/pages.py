"""The console's files: read once, served with a policy under which a page can load nothing that does not come from here."""

import hashlib
from collections.abc import Awaitable, Callable
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


def add_pages(router: web.UrlDispatcher) -> None:
    """Open the doors of the console."""
    known = files()
    for address in ADDRESSES:
        router.add_get(address, _serve(known["index.html"]))
    for name, file in known.items():
        router.add_get(f"/static/{name}", _serve(file))


def _serve(file: File) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def serve(request: web.Request) -> web.Response:
        headers = {**HEADERS, "ETag": f'"{file.mark}"'}
        if any(mark.value == file.mark for mark in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        return web.Response(body=file.body, content_type=file.content_type, charset="utf-8", headers=headers)

    return serve
