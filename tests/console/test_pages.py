"""The console's files as a browser gets them: with a policy, a type and a mark, and nothing but them."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import ClientSession

from gateway.console.pages import ADDRESSES, POLICY, STATIC, TYPES, files
from gateway.telemetry.recorder import Recorder

Serve = Callable[..., Awaitable[tuple[Recorder, ClientSession]]]
EVERY = sorted(path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.suffix in TYPES)


@pytest.mark.parametrize("address", [address.format(stream_id="s-1", trace_id="t-1") for address in ADDRESSES])
async def test_every_address_is_the_page_under_its_policy(serve: Serve, address: str) -> None:
    """Each page is the same document, may load only from here, may be framed by nobody, and is asked for anew each time."""
    _, session = await serve()
    async with session.get(address) as reply:
        assert (reply.status, reply.content_type, reply.charset) == (200, "text/html", "utf-8")
        assert reply.headers["Content-Security-Policy"] == POLICY
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Cache-Control"] == "no-cache"
        assert await reply.read() == (STATIC / "index.html").read_bytes()


def test_the_policy_opens_nothing() -> None:
    """Nothing is allowed that is not named, and what is named is this origin; no inline script, no eval, no frame, no base, no form."""
    rules = dict(rule.strip().split(" ", 1) for rule in POLICY.split(";"))
    assert rules.pop("default-src") == rules.pop("frame-ancestors") == rules.pop("base-uri") == rules.pop("form-action") == "'none'"
    assert set(rules.values()) == {"'self'"}


@pytest.mark.parametrize("name", EVERY)
async def test_every_file_has_its_type_and_loads_nothing_from_elsewhere(serve: Serve, name: str) -> None:
    """A file is served as what it is, byte for byte; none names another origin to load from."""
    _, session = await serve()
    async with session.get(f"/static/{name}") as reply:
        body = await reply.read()
        assert (reply.status, reply.content_type) == (200, TYPES[Path(name).suffix])
    assert body == (STATIC / name).read_bytes()
    for word in (b"@import url(http", b'src="http', b"src='http", b'import("http', b'from "http', b"url(http", b"url(//"):
        assert word not in body


async def test_a_browser_that_has_a_file_is_not_sent_it_again(serve: Serve) -> None:
    """The mark of a file is that of its bytes: with it the answer is 304 and empty, with another one the file."""
    _, session = await serve()
    async with session.get("/static/app.js") as reply:
        mark = reply.headers["ETag"]
    for known, status in ((mark, 304), (f'"other", {mark}', 304), (f"W/{mark}", 304), ('"other"', 200)):
        async with session.get("/static/app.js", headers={"If-None-Match": known}) as reply:
            assert (reply.status, reply.headers["ETag"]) == (status, mark)
            assert bool(await reply.read()) is (status == 200)
            assert reply.headers["Content-Security-Policy"] == POLICY


@pytest.mark.parametrize("name", ["none.js", "../pages.py", "..%2fpages.py", "vendor", "vendor/", "app.js/", "%00", "weir.db"])
async def test_nothing_else_is_to_be_had(serve: Serve, name: str) -> None:
    """Only files that were there at the start have an address; no path leads out of their folder."""
    _, session = await serve()
    reader, writer = await asyncio.open_connection(session._base_url.host, session._base_url.port)
    writer.write(f"GET /static/{name} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    said = await reader.read()
    writer.close()
    assert said.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 400 "))
    assert b"def " not in said


async def test_documents_need_no_token_and_facts_do(serve: Serve) -> None:
    """Where a token is wanted a browser can load the page that asks for it, and nothing that a stream has said."""
    _, session = await serve(token="secret")
    documents = dict.fromkeys(("/", "/static/app.js", "/streams/s-1"), 200)
    facts = dict.fromkeys(("/api/live", "/api/overview", "/api/streams"), 401)
    for path, status in {**documents, **facts}.items():
        async with session.get(path) as reply:
            assert reply.status == status, path


def test_every_module_that_is_loaded_exists() -> None:
    """What the page's files import is among the files."""
    known = files()
    for name, file in known.items():
        if name.endswith(".js") and "/" not in name:
            for line in file.body.decode().splitlines():
                if line.startswith("import ") or (" from " in line and line.startswith("}")):
                    assert line.split('"')[1].removeprefix("./") in known, f"{name}: {line}"
