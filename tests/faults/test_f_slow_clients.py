"""Clients that hold what they take: heads and bodies that never end, too many connections, too many bytes, too many once unpacked."""

import asyncio
import time
import zlib
from typing import Any

import pytest

from gateway.core.prompt import Prompt, Text, Turn
from gateway.dialects import DIALECTS
from gateway.proxy.edge import LINGER_SECONDS, room

HELLO = Prompt(model="m", stream=True, turns=(Turn("user", (Text("hello"),)),), max_tokens=50)
QUICK = {"head_timeout": "300ms", "body_timeout": "300ms"}


async def drip(client: Any, piece: bytes, seconds: float) -> None:
    """Write a piece every 50 ms until the client has been hung up on, at most for so long."""
    due = time.monotonic() + seconds
    while client.ended is None and time.monotonic() < due:
        client.transport.write(piece)
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("sent", [b"POST /", b"POST /v1/chat/completions HTTP/1.1\r\nHost: w\r\nAuthorization: Bearer canary"])
async def test_a_head_that_does_not_end(provide: Any, gate: Any, sent: bytes) -> None:
    """Silent or trickling, it is answered 408 and hung up on after `head_timeout`; no upstream hears of it (F6)."""
    provider = await provide()
    weir = await gate(provider, server=QUICK)
    silent, trickling = await weir.client(), await weir.client()
    began = time.monotonic()
    silent.ask(sent)
    trickling.ask(sent)
    await drip(trickling, b"x", 5.0)
    for client in (silent, trickling):
        await client.gone()
        assert (client.status, client.document["error"]["code"], client.headers["connection"]) == (408, "request_timeout", "close")
        assert b"canary" not in client.raw
    assert 0.3 <= time.monotonic() - began < 10
    assert (provider.total, weir.book.records, weir.worker._front.unfinished) == (0, [], {})


async def test_a_connection_without_a_call_stays(provide: Any, gate: Any, make: Any) -> None:
    """Idle before its first call, between two, or with an empty line of an old client: `head_timeout` is not for those."""
    weir = await gate(await provide(), server=QUICK)
    fresh, used, odd = await weir.client(), await weir.client(), await weir.client()
    await used.ask(make.request()).finish()
    odd.transport.write(b"\r\n")
    await asyncio.sleep(1.5)
    for client in (fresh, used, odd):
        assert client.ended is None
        assert (await client.ask(make.request()).finish()).status == 200


async def test_a_second_head_that_does_not_end(provide: Any, gate: Any, make: Any) -> None:
    """The rule holds for every call of a connection, not only for the first (F6)."""
    weir = await gate(await provide(), server=QUICK)
    client = await weir.client()
    await client.ask(make.request()).finish()
    client.ask(b"POST /v1/chat")
    await client.gone()
    assert client.status == 408


UNENDING = (
    (b"Content-Length: 9999\r\n\r\n{", b" "),
    (b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", b"1\r\n \r\n"),
    (b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1;", b"e" * 500),
)
"""Beginnings of bodies, and what goes on and on behind them: of a stated length, in chunks, in a chunk's extension."""


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_body_that_does_not_end(provide: Any, gate: Any, make: Any, dialect: str) -> None:
    """Slower than a byte a millisecond is no upload: 408 in the client's dialect, one record that says so, a closed connection (F6)."""
    provider = await provide()
    weir = await gate(provider, dialects=[dialect], server=QUICK)
    _, request = make.call(dialect, HELLO)
    head = request.partition(b"\r\nContent-Length")[0]
    silent = [(await weir.client()).ask(head + b"\r\n" + opening) for opening, _ in UNENDING]
    trickling = [(await weir.client()).ask(head + b"\r\n" + opening) for opening, _ in UNENDING]
    await asyncio.gather(*(drip(client, piece, 0.6) for client, (_, piece) in zip(trickling, UNENDING, strict=True)))
    for client in silent + trickling:
        await client.finish()
        assert (client.status, client.headers["connection"]) == (408, "close")
        assert "in time" in DIALECTS[dialect].read_error(408, client.body).message
    await weir.record(6)
    assert {(record.outcome, record.error, record.status) for record in weir.book.records} == {("rejected", "request_timeout", 408)}
    assert all(record.seconds["client_blocked"] > 0.25 for record in weir.book.records)
    assert provider.total == 0


async def test_an_upload_that_was_quick_at_first_earns_no_patience(provide: Any, gate: Any, make: Any) -> None:
    """Nearly all of a body at once and then a byte now and then: what is held in memory is not held for as long as it pleases (F6)."""
    weir = await gate(provider := await provide(), server={"body_timeout": "500ms"})
    call = make.request(messages="x" * 400_000)
    client = await weir.client()
    client.transport.write(call[:-1000])
    for place in range(1000, 900, -1):
        if client.status:
            break
        client.transport.write(call[-place : 1 - place])
        await asyncio.sleep(0.05)
    await client.gone()
    assert (client.status, (await weir.record()).error, provider.total) == (408, "request_timeout", 0)


async def test_an_upload_that_goes_on_is_waited_for(provide: Any, gate: Any, make: Any) -> None:
    """Longer than `body_timeout` altogether, but never silent for so long and fast enough on the whole: it is served."""
    weir = await gate(await provide(), server={"body_timeout": "1s"})
    call = make.request(messages="x" * 40_000)
    client = await weir.client()
    began = time.monotonic()
    for start in range(0, len(call), 1000):
        client.transport.write(call[start : start + 1000])
        await asyncio.sleep(0.03)
    await client.finish()
    assert (client.status, time.monotonic() - began > 1.0) == (200, True)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_body_that_says_it_is_too_large(provide: Any, gate: Any, make: Any, dialect: str) -> None:
    """A length above `max_body` is refused by its head alone: not a byte of it is waited for (A14)."""
    provider = await provide()
    weir = await gate(provider, dialects=[dialect], server={"max_body": 100_000})
    _, request = make.call(dialect, HELLO)
    head = request.partition(b"\r\nContent-Length")[0]
    client = await (await weir.client()).ask(head + b"\r\nContent-Length: 99999999999\r\n\r\n").finish()
    assert (client.status, client.headers["connection"], provider.total) == (413, "close", 0)
    assert "max_body" in DIALECTS[dialect].read_error(413, client.body).message
    assert (await weir.record()).error == "request_too_large"


async def test_a_body_that_is_too_large_once_unpacked(provide: Any, gate: Any, make: Any) -> None:
    """A body that unpacks to a thousand times its size is cut off at `max_body`, and the rest of it is never unpacked (A14)."""
    provider = await provide()
    weir = await gate(provider, server={"max_body": 300_000})
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(100)) + packer.flush()
    assert len(bomb) < 200_000
    client = (await weir.client()).ask(make.post(bomb, headers={"Content-Encoding": "gzip"}))
    began = time.monotonic()
    await client.gone()
    assert (client.status, provider.total, time.monotonic() - began < LINGER_SECONDS) == (413, 0, True)


async def test_more_clients_than_there_is_room_for(provide: Any, gate: Any, make: Any) -> None:
    """One more than `max_connections` is answered 503 and hung up on; those inside notice nothing, and one that leaves makes room."""
    weir = await gate(await provide(), server={"max_connections": 3})
    inside = [await weir.client() for _ in range(3)]
    for client in inside:
        await client.ask(make.request()).finish()
    late = await (await weir.client()).gone()
    assert (late.status, late.document["error"]["code"], late.headers["connection"]) == (503, "too_many_connections", "close")
    for client in inside:
        assert (await client.ask(make.request()).finish()).status == 200
    inside[0].close()
    async with asyncio.timeout(5):
        while weir.worker._front._connected > 2:  # noqa: ASYNC110 - the other end of a socket
            await asyncio.sleep(0.01)
    assert (await weir.fetch()).status == 200


def test_there_is_no_more_room_than_files() -> None:
    """A stream takes two file descriptors: what the process may open bounds `max_connections`."""
    assert 1 <= room(10**9) < 10**9
    assert room(7) == 7
