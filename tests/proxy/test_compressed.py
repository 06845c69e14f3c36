"""Answers that come compressed although nobody asked: opened on their way, read by read, in every dialect."""

import gzip
import time
import zlib
from typing import Any

import msgspec
import pytest

from gateway.core.prompt import Prompt, Text, Turn
from gateway.dialects import DIALECTS
from gateway.proxy.inflate import MOST_MEMBERS, Inflated
from gateway.sim.faults import GzipAnyway, Script
from gateway.sim.plan import head
from gateway.sim.steps import Send
from gateway.sim.tempers import INSTANT, Temper
from tests.rig.rounds import judged_in_rounds

HELLO = Prompt(model="m", stream=True, turns=(Turn("user", (Text("hello"),)),))
SLOW = Temper(ttft=0, gap="20ms", tokens=5)
OK = b'{"id":"c","model":"said","choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3}}'


def compressed(encoding: str = "gzip", media_type: str = "text/event-stream") -> bytes:
    """Return the head of a chunked answer in this encoding."""
    return head(200, {"Content-Type": media_type, "Content-Encoding": encoding})


@pytest.mark.parametrize("dialect", DIALECTS)
@judged_in_rounds
async def test_a_stream_in_gzip_is_opened_as_it_comes(provide: Any, gate: Any, direct: Any, make: Any, dialect: str) -> None:
    """The client gets what the provider would have sent plainly, block by block; tokens and usage are known (A7a A7b)."""
    provider = await provide(GzipAnyway(), SLOW)
    weir = await gate(provider, dialects=[dialect], usage="leave")
    _, request = make.call(dialect, HELLO, {"Accept-Encoding": "gzip, br"})
    client = await (await weir.client()).ask(request).finish()
    record = await weir.record()
    assert client.body == (await direct(await provide(temper=SLOW), request=request)).body
    assert (client.complete, "content-encoding" in client.headers) == (True, False)
    assert len(client.pieces) >= 5
    assert (record.outcome, record.cadence.chunks, record.usage.output, record.parser_errors) == ("completed", 5, 5, {})
    assert record.mutations["decompressed"] == 1
    assert provider.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_document_in_gzip(provide: Any, gate: Any, direct: Any, make: Any, dialect: str) -> None:
    """An answer in one piece likewise, without the length that is no longer its own (A7b)."""
    instant = msgspec.structs.replace(INSTANT, tokens=3)
    weir = await gate(await provide(GzipAnyway()), dialects=[dialect])
    _, request = make.call(dialect, msgspec.structs.replace(HELLO, stream=False))
    client = await (await weir.client()).ask(request).finish()
    record = await weir.record()
    assert (client.status, client.complete, "content-encoding" in client.headers) == (200, True, False)
    assert client.document.keys() == (await direct(await provide(temper=instant), request=request)).document.keys()
    assert (record.outcome, record.usage.output) == ("completed", 3)


async def test_a_compressed_answer_is_translated(provide: Any, gate: Any, make: Any) -> None:
    """To a client of another dialect it makes no difference how its upstream packed the answer."""
    weir = await gate(await provide(GzipAnyway()), dialects=["anthropic"])
    call, request = make.call("openai", HELLO)
    client = await (await weir.client()).ask(request).finish()
    assert len(make.heard(call, client.body)) > 3
    assert (await weir.record()).outcome == "completed"


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, lambda body: gzip.compress(body[:20]) + gzip.compress(body[20:])])
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "X-GZIP"])
async def test_what_is_opened(provide: Any, gate: Any, make: Any, pack: Any, encoding: str) -> None:
    """Gzip and zlib under either name, one member or several, in one read or byte by byte."""
    body = pack(OK)
    for pieces in ([body], [body[place : place + 1] for place in range(len(body))]):
        weir = await gate(await provide(make.chunked(*pieces, head=compressed(encoding, "application/json"))))
        client = await weir.fetch(stream=False)
        assert (client.body, client.complete) == (OK, True)
        assert (await weir.record()).usage.input == 3


@pytest.mark.parametrize("junk", [b"no gzip at all", gzip.compress(b"\0" * (9 << 20))], ids=["not gzip", "a bomb"])
async def test_what_cannot_be_opened_is_an_error(provide: Any, gate: Any, make: Any, junk: bytes) -> None:
    """Bytes that are not what they are called, or that would fill the memory: 502, or an error event after what was heard."""
    weir = await gate(await provide(make.chunked(junk, head=compressed())), retry={"attempts": 1})
    client = await weir.fetch()
    assert (client.status, (await weir.record()).error) == (502, "bad_response")
    spoken = zlib.compressobj(wbits=31)
    first = spoken.compress(make.event("one")) + spoken.flush(zlib.Z_SYNC_FLUSH)
    weir = await gate(await provide(make.chunked(first, 0.05, b"\xff" * 99, head=compressed())))
    client = await weir.fetch()
    assert client.body.startswith(make.event("one") + b"data: {")
    assert ((await weir.record()).outcome, b"bad_response" in client.body) == ("upstream_truncated", True)


async def test_an_error_status_in_gzip(provide: Any, gate: Any) -> None:
    """The upstream's own error reaches the client in plain text."""
    body = gzip.compress(b'{"error":{"message":"no"}}')
    answer = Send(head(400, {"Content-Type": "application/json", "Content-Encoding": "gzip"}, len(body)) + body)
    client = await (await gate(await provide(Script((answer,))))).fetch()
    assert (client.status, client.body) == (400, b'{"error":{"message":"no"}}')


class Heard:
    """What takes an opened answer: its bytes, and how it ended."""

    def __init__(self) -> None:
        self.body, self.ends, self.given_up = b"", list[str | None](), 0
        self.inflated = Inflated(self.take, self, self.give_up)

    def take(self, chunk: bytes, _: float, __: bytes | None = None) -> None:
        self.body += chunk

    def give_up(self) -> None:
        self.given_up += 1

    def on_head(self, *_: Any) -> None:
        raise AssertionError("the head has been read")

    def on_end(self, why: str | None, _: float, last: bytes = b"") -> None:
        self.body += last
        self.ends.append(why)


def test_members_of_one_read_are_bounded() -> None:
    """Each costs a copy of what follows it: so many in one read are an answer, one more is none; over many reads there is no limit."""
    member = gzip.compress(b"x")
    heard = Heard()
    for _ in range(3):
        heard.inflated(member * MOST_MEMBERS, 0.0)
    heard.inflated.on_end(None, 0.0)
    assert (heard.body, heard.ends, heard.given_up) == (b"x" * 3 * MOST_MEMBERS, [None], 0)
    heard = Heard()
    heard.inflated(member * (MOST_MEMBERS + 1), 0.0)
    assert (heard.ends, heard.given_up) == (["bad_response"], 1)
    heard = Heard()
    heard.inflated.on_end(None, 0.0, member * (MOST_MEMBERS + 1))
    assert heard.ends == ["bad_response"]


def test_a_read_full_of_members_costs_little() -> None:
    """The largest read there is, of nothing but empty members, is given up before it is copied thousands of times."""
    heard = Heard()
    started = time.perf_counter()
    heard.inflated(gzip.compress(b"") * 100_000, 0.0)
    assert heard.ends == ["bad_response"]
    assert time.perf_counter() - started < 2.0


async def test_too_many_members_are_an_error(provide: Any, gate: Any, make: Any) -> None:
    """To a client they are a bad answer like any other bomb."""
    body = gzip.compress(b"") * (MOST_MEMBERS * 200)
    weir = await gate(await provide(make.chunked(body, head=compressed())), retry={"attempts": 1})
    client = await weir.fetch()
    assert (client.status, (await weir.record()).error) == (502, "bad_response")


def raw(body: bytes) -> bytes:
    """Compress as some servers do that call it deflate: without any header."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


@pytest.mark.parametrize(("encoding", "body"), [("deflate", raw(OK)), ("gzip", gzip.compress(OK) + b"\0" * 64)], ids=["raw", "padded"])
async def test_what_others_open_too(provide: Any, gate: Any, make: Any, encoding: str, body: bytes) -> None:
    """Deflate without a header, and gzip with padding behind it: whole answers, as every client takes them."""
    for pieces in ([body], [body[place : place + 1] for place in range(len(body))]):
        weir = await gate(await provide(make.chunked(*pieces, head=compressed(encoding, "application/json"))))
        client = await weir.fetch(stream=False)
        assert (client.status, client.body) == (200, OK)
        assert (await weir.record()).outcome == "completed"


async def test_a_packed_answer_without_its_end_is_half_an_answer(provide: Any, gate: Any, make: Any) -> None:
    """The HTTP message is whole and what is in it is not: the client sees a body that breaks off (A1e)."""
    body = gzip.compress(bytes(range(256)) * 20_000, compresslevel=0)
    weir = await gate(await provide(make.chunked(body[:-4000], head=compressed(media_type="application/json"))), retry={"attempts": 1})
    client = await (await weir.ask(stream=False)).gone()
    assert (client.complete, (await weir.record()).outcome) == (False, "upstream_truncated")
