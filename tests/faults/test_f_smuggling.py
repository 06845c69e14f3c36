"""Requests that two readers could take for different things: none reaches an upstream, and each ends its connection."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from gateway.core.prompt import Prompt, Text, Turn
from gateway.dialects import DIALECTS
from gateway.sim.doors import ROOTS

HELLO = Prompt(model="m", stream=True, turns=(Turn("user", (Text("hello"),)),), max_tokens=50)
CANARY = b"canary-in-the-head"
Build = Callable[[bytes, bytes], bytes]


def lines(*said: bytes, version: bytes = b"1.1") -> Build:
    """Return what makes a request with these header lines; LEN stands for the body's length."""

    def build(path: bytes, body: bytes) -> bytes:
        head = [b"POST " + path + b" HTTP/" + version, b"Host: w", b"Authorization: Bearer " + CANARY, *said]
        return b"\r\n".join(head).replace(b"LEN", b"%d" % len(body)) + b"\r\n\r\n" + body

    return build


def chunks(*said: bytes, coding: bytes = b"Transfer-Encoding: chunked") -> Build:
    """Return what makes a chunked request of exactly these pieces; SIZE and BODY stand for the body's."""

    def build(path: bytes, body: bytes) -> bytes:
        head = b"POST " + path + b" HTTP/1.1\r\nHost: w\r\nAuthorization: Bearer " + CANARY + b"\r\n" + coding + b"\r\n\r\n"
        return head + b"".join(said).replace(b"SIZE", b"%x" % len(body)).replace(b"BODY", body)

    return build


def just(data: bytes) -> Build:
    """Return what makes exactly these bytes."""
    return lambda *_: data


WHOLE = (b"SIZE\r\nBODY\r\n0\r\n\r\n",)
ODD: dict[str, tuple[Build, int]] = {
    "both lengths": (chunks(*WHOLE, coding=b"Content-Length: 3\r\nTransfer-Encoding: chunked"), 400),
    "both lengths, the other way round": (chunks(*WHOLE, coding=b"Transfer-Encoding: chunked\r\nContent-Length: 3"), 400),
    "two lengths": (lines(b"Content-Length: LEN", b"Content-Length: 3"), 400),
    "one length twice": (lines(b"Content-Length: LEN", b"Content-Length: LEN"), 400),
    "a list of lengths": (lines(b"Content-Length: LEN, LEN"), 400),
    "a length with a sign": (lines(b"Content-Length: +LEN"), 400),
    "a length below zero": (lines(b"Content-Length: -1"), 400),
    "a length in hex": (lines(b"Content-Length: 0x40"), 400),
    "an empty length": (lines(b"Content-Length:"), 400),
    "a length beyond all": (lines(b"Content-Length: 99999999999999999999999999"), 400),
    "identity, chunked": (chunks(*WHOLE, coding=b"Transfer-Encoding: identity, chunked"), 400),
    "chunked, identity": (chunks(*WHOLE, coding=b"Transfer-Encoding: chunked, identity"), 400),
    "gzip, chunked": (chunks(*WHOLE, coding=b"Transfer-Encoding: gzip, chunked"), 400),
    "chunked twice": (chunks(*WHOLE, coding=b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), 400),
    "chunked after chunked": (chunks(*WHOLE, coding=b"Transfer-Encoding: chunked, chunked"), 400),
    "identity and chunked": (chunks(*WHOLE, coding=b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked"), 400),
    "xchunked": (chunks(*WHOLE, coding=b"Transfer-Encoding: xchunked"), 400),
    "a vertical tab": (chunks(*WHOLE, coding=b"Transfer-Encoding: \x0bchunked"), 400),
    "chunked in HTTP/1.0": (lines(b"Transfer-Encoding: chunked", version=b"1.0"), 400),
    "a folded header": (chunks(*WHOLE, coding=b"Transfer-Encoding:\r\n chunked"), 400),
    "a folded header of no weight": (lines(b"X-A: b", b" c", b"Content-Length: LEN"), 400),
    "a space before the colon": (lines(b"Content-Length: LEN", b"Transfer-Encoding : chunked"), 400),
    "a header without a name": (lines(b": x", b"Content-Length: LEN"), 400),
    "a bare LF": (lines(b"X-A: b\nContent-Length: LEN"), 400),
    "a bare CR": (lines(b"X-A: b\rContent-Length: 3", b"Content-Length: LEN"), 400),
    "a NUL": (lines(b"X-A: b\x00c", b"Content-Length: LEN"), 400),
    "a control character": (lines(b"X-A: b\x01c", b"Content-Length: LEN"), 400),
    "two hosts": (lines(b"Host: other", b"Content-Length: LEN"), 400),
    "a chunk too large for any number": (chunks(b"ffffffffffffffffff\r\nBODY\r\n0\r\n\r\n"), 400),
    "a chunk of 0x": (chunks(b"0xSIZE\r\nBODY\r\n0\r\n\r\n"), 400),
    "a chunk below zero": (chunks(b"-1\r\nBODY\r\n0\r\n\r\n"), 400),
    "a space after a chunk's size": (chunks(b"SIZE \r\nBODY\r\n0\r\n\r\n"), 400),
    "a chunk's size and a bare LF": (chunks(b"SIZE\nBODY\r\n0\r\n\r\n"), 400),
    "a bare LF in a chunk's extension": (chunks(b"SIZE;a\nb\r\nBODY\r\n0\r\n\r\n"), 400),
    "a chunk longer than it says": (chunks(b"SIZE\r\nBODYxx0\r\n\r\n"), 400),
    "trailers without end": (chunks(b"SIZE\r\nBODY\r\n0\r\n" + b"X-A: b\r\n" * 2000 + b"\r\n"), 431),
    "a header of 100 kB": (lines(b"X-A: " + b"a" * 100_000, b"Content-Length: LEN"), 431),
    "a thousand headers": (lines(*(b"X-%d: a" % n for n in range(1000)), b"Content-Length: LEN"), 431),
    "HTTP/0.9": (just(b"GET /livez\r\n\r\n"), 505),
    "HTTP/1.2": (lines(b"Content-Length: LEN", version=b"1.2"), 400),
    "HTTP/2 without being asked": (just(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 400),
    "TLS": (just(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n"), 400),
    "CONNECT": (just(b"CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: w\r\n\r\n"), 405),
    "TRACE": (just(b"TRACE / HTTP/1.1\r\nHost: w\r\nCookie: " + CANARY + b"\r\n\r\n"), 405),
    "an expectation nobody knows": (lines(b"Expect: 200-maybe", b"Content-Length: LEN"), 417),
}
LATER = {
    "a bad size": (b"SIZE\r\nBODY\r\n", b"zz\r\nrubbish"),
    "a chunk too long": (b"5\r\n", b"{    }\r\n0\r\n\r\n"),
    "no end of the chunk": (b"SIZE\r\n", b"BODYxx0\r\n\r\n"),
}


def asked(make: Any, dialect: str) -> tuple[bytes, bytes]:
    """Return path and body of a call as a client of this dialect sends it."""
    call, _ = make.call(dialect, HELLO)
    return (ROOTS.get(dialect, "") + call.path).encode(), call.body


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_request_that_can_be_read_in_two_ways(
    provide: Any, gate: Any, make: Any, caplog: pytest.LogCaptureFixture, dialect: str
) -> None:
    """Each is one error and a closed connection: what follows it is not served, no upstream asked, no byte repeated (F6 F1)."""
    caplog.set_level("DEBUG")
    provider = await provide()
    weir = await gate(provider, dialects=[dialect])
    path, body = asked(make, dialect)
    smuggled = b"GET /livez HTTP/1.1\r\nHost: w\r\n\r\n"
    for case, (build, status) in ODD.items():
        client = await (await weir.client()).ask(build(path, body)).gone()
        assert (case, client.status) == (case, status)
        assert client.raw.count(b"Server: weir\r\n") == 1, case
        assert {"error", "message"} & set(client.document), case
        assert CANARY not in client.raw
        assert b"alive" not in client.raw
        follower = await weir.client()
        follower.ask(build(path, body) + smuggled)
        await follower.until(lambda client=follower: client.ended or client.status)
        assert b"alive" not in follower.raw, case
    assert provider.total == 0
    assert weir.book.records == []
    assert CANARY.decode() not in caplog.text


@pytest.mark.parametrize("case", LATER)
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_body_that_breaks_on_its_way(provide: Any, gate: Any, make: Any, until: Any, dialect: str, case: str) -> None:
    """A chunk that goes wrong in a later packet is told at once, once, in the client's dialect, and the connection closes (F6)."""
    provider = await provide()
    weir = await gate(provider, dialects=[dialect])
    path, body = asked(make, dialect)
    first, rest = (chunks(piece)(path, body) for piece in LATER[case])
    client = await weir.client()
    client.ask(first)
    await until(lambda: weir.worker._front.connections[0]._current_request, "the body is waited for")
    client.transport.write(rest.partition(b"\r\n\r\n")[2])
    await client.gone()
    assert (client.status, client.complete, client.raw.count(b"HTTP/1.1 ")) == (400, True, 1)
    assert DIALECTS[dialect].read_error(400, client.body).message
    record = await weir.record()
    assert (record.outcome, record.error, record.dialect, provider.total) == ("rejected", "invalid_body", "", 0)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_what_is_odd_but_clear_is_served(provide: Any, gate: Any, make: Any, dialect: str) -> None:
    """Chunks with extensions and trailers, an absolute URL, HTTP/1.0, empty lines before: one reading each, one answer each (F6)."""
    provider = await provide()
    weir = await gate(provider, dialects=[dialect])
    path, body = asked(make, dialect)
    served = [
        chunks(b'SIZE;a=b;c="d e"\r\nBODY\r\n0\r\n\r\n'),
        chunks(b"SIZE\r\nBODY\r\n0\r\nX-Trailer: a\r\n\r\n"),
        chunks(b"1\r\n{\r\n", *WHOLE),
        lines(b"Content-Length: LEN", version=b"1.0"),
        lambda path, body: b"\r\n" + lines(b"Content-Length: LEN")(path, body),
        lambda path, body: lines(b"Content-Length: LEN")(b"http://169.254.169.254" + path, body),
    ]
    for number, build in enumerate(served, 1):
        sent = body[1:] if number == 3 else body
        client = await (await weir.client()).ask(build(path, sent)).finish()
        assert (client.status, provider.total) == (200, number)
        assert provider.requests[-1].headers["content-length"] == str(len(provider.requests[-1].body))
        assert "transfer-encoding" not in provider.requests[-1].headers
        assert ("content-length" in client.headers) + ("transfer-encoding" in client.headers) == (number != 4)
    assert {record.outcome for record in weir.book.records} == {"completed"}


async def test_calls_in_one_packet_are_answered_in_their_order(provide: Any, gate: Any, make: Any) -> None:
    """Pipelined calls are served one after the other, each with its own answer; hundreds more of them wait unread (F6)."""
    provider = await provide()
    weir = await gate(provider)
    client = await weir.client()
    count = 300
    calls = b"".join(make.request(stream=False, user=f"u{number}") for number in range(count))
    client.ask(calls)
    await client.until(lambda: client.raw.count(b"HTTP/1.1 200") == count)
    assert [orjson.loads(request.body)["user"] for request in provider.requests] == [f"u{number}" for number in range(count)]


async def test_a_continue_is_said_once_and_only_where_the_body_is_wanted(provide: Any, gate: Any, make: Any) -> None:
    """`Expect: 100-continue` gets its 100 before a body that will be read, and an error at once where none will be (F6)."""
    weir = await gate(await provide())
    call = make.request({"Expect": "100-continue"}, stream=False)
    head, _, body = call.partition(b"\r\n\r\n")
    client = (await weir.client()).ask(head + b"\r\n\r\n")
    await client.until(lambda: client.raw.startswith(b"HTTP/1.1 100 Continue\r\n\r\n"))
    client.transport.write(body)
    await client.until(lambda: b"HTTP/1.1 200 OK" in client.raw)
    assert client.raw.count(b"100 Continue") == 1
    nowhere = await (await weir.client()).ask(head.replace(b"/chat/", b"/nowhere/") + b"\r\n\r\n").finish()
    assert nowhere.status == 404
