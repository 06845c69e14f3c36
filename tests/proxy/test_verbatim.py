"""Law 1: the bytes a client gets are the bytes the upstream sent, wherever they are cut. On both event loops."""

import asyncio
import random
from hashlib import sha256
from typing import Any

import pytest

from gateway.sim.faults import (
    Fault,
    GarbageFrame,
    HugeEvent,
    InOrder,
    JsonReplyToStream,
    OneByteWrites,
    Script,
    SplitUtf8,
)
from gateway.sim.plan import head
from gateway.sim.steps import Fin, Pause, Send
from gateway.sim.tempers import Temper

LOOPS = "both"
SPOKEN = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
STOP = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
ODD = (
    b"\xef\xbb\xbf: a comment first\r\n\r\n"
    b'data:{"choices":[{"delta":{"content":"caf\xc3\xa9 \xe6\xb0\xb4 \xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x91\xa7"}}],"a":null,"a":1e2}\r\r'
    b'event: x\nid: 7\nretry: 10\nunknown: y\nno colon\ndata: {"choices" : [ {"delta":{"content":"\\u00e9"}} ],\ndata: "z":100}\n\n'
    b"data: {bad json\r\n\r\ndata:\n\n\n\n" + STOP + b"data: [DONE]\n"
)
"""A byte order mark, every line end, no space, two data lines, odd fields, double keys, an empty event, no blank line at the end."""


def same(got: bytes, sent: bytes) -> bool:
    return sha256(got).hexdigest() == sha256(sent).hexdigest()


async def test_cut_anywhere(provide: Any, gate: Any, make: Any) -> None:
    """Odd framing cut in two at every offset comes out as it went in, and is read alike (A3 A4 A5 A6 A16)."""
    scripts = [make.chunked(ODD[:cut], 0.002, ODD[cut:]) for cut in range(1, len(ODD))]
    provider = await provide(InOrder(scripts))
    weir = await gate(provider, usage="leave")
    for start in range(0, len(scripts), 50):
        for client in await asyncio.gather(*(weir.fetch() for _ in scripts[start : start + 50])):
            assert same(client.body, ODD)
            assert client.complete
    seen = {(r.outcome, r.cadence.chunks, *r.finish, r.parser_errors.get("json")) for r in weir.book.records}
    assert seen == {("completed", 2, "stop", 1)}


async def test_ten_thousand_events_in_random_cuts(provide: Any, gate: Any, make: Any) -> None:
    """Many small events, in reads that hold many or tear them, arrive whole and are all counted (A4)."""
    body, dice = SPOKEN * 10_000 + STOP + DONE, random.Random(7)
    cuts = sorted(dice.sample(range(1, len(body)), 300))
    pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    weir = await gate(await provide(make.chunked(*pieces)), usage="leave")
    assert same((await weir.fetch()).body, body)
    assert (await weir.record()).cadence.chunks == 10_000


@pytest.mark.parametrize(
    ("fault", "errors"),
    [
        (SplitUtf8(), {}),
        (OneByteWrites(), {}),
        (GarbageFrame(after=1), {"json": 1}),
        (HugeEvent(size=8 * 1024**2, write=1024), {"oversize": 1}),
        (HugeEvent(size=200_000), {}),
        (JsonReplyToStream(), {}),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
async def test_strange_writes(provide: Any, gate: Any, direct: Any, fault: Fault, errors: dict[str, int]) -> None:
    """However an upstream writes, the client's bytes are its bytes, and what could not be read is counted (A3 A12 A15c A16)."""
    weir = await gate(await provide(fault), usage="leave")
    through, straight = await weir.fetch(), await direct(await provide(fault))
    record = await weir.record()
    assert same(through.body, straight.body)
    assert (through.complete, through.headers["content-type"]) == (True, straight.headers["content-type"])
    assert (record.outcome, record.parser_errors, record.bytes) == ("completed", errors, len(straight.body))


async def test_an_unknown_encoding_is_passed_on(provide: Any, gate: Any, make: Any) -> None:
    """Bytes in an encoding we do not know are the client's business (A7c)."""
    odd = head(200, {"Content-Type": "text/event-stream", "Content-Encoding": "x-odd"})
    weir = await gate(await provide(make.chunked(b"\x00\xff\r\n", b"\n\ndata", head=odd)))
    client = await weir.fetch()
    assert (client.body, client.headers["content-encoding"]) == (b"\x00\xff\r\n\n\ndata", "x-odd")
    assert (await weir.record()).outcome == "completed"


async def test_a_client_of_http_1_0(provide: Any, gate: Any, direct: Any, make: Any) -> None:
    """It gets the body without chunks and its end by the end of the connection."""
    weir = await gate(await provide(), usage="leave")
    client = (await weir.client()).ask(make.post(make.request().partition(b"\r\n\r\n")[2], version="1.0"))
    await client.gone()
    assert same(client.body, (await direct(await provide())).body)
    assert client.ended == "fin"
    assert "transfer-encoding" not in client.headers


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"])
async def test_documents(provide: Any, gate: Any, direct: Any, path: str) -> None:
    """An answer in one piece is verbatim, with its length, without a first token, and its usage is known."""
    weir = await gate(await provide())
    client = await weir.fetch(path=path, stream=None)
    straight = await direct(await provide(), path=path, stream=None)
    record = await weir.record()
    assert client.body == straight.body
    assert client.headers["content-length"] == str(len(straight.body))
    assert (record.outcome, record.streamed, record.ttft, record.mutations) == ("completed", False, None, {})
    assert record.usage is not None


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_many_calls_on_one_connection(provide: Any, gate: Any, direct: Any, path: str) -> None:
    """Streams and documents follow each other on one connection of the client and one of the upstream."""
    provider, twin = await provide(), await provide()
    weir = await gate(provider, usage="leave")
    client = await weir.client()
    for stream in (True, False, True, True):
        await client.ask(make_call(path, stream)).finish()
        assert client.body == (await direct(twin, path=path, stream=stream)).body
    assert [client.ended, len({request.connection for request in provider.requests})] == [None, 1]


def make_call(path: str, stream: bool) -> bytes:
    content = b'{"model":"m","stream":%s,"messages":[{"role":"user","content":"hello"}]}' % (b"true" if stream else b"false")
    return b"POST %b HTTP/1.1\r\nHost: weir\r\nContent-Length: %d\r\n\r\n%b" % (path.encode(), len(content), content)


WHOLE = SPOKEN + STOP + DONE
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + head(200, {"Content-Type": "TEXT/Event-Stream;x=y"}, len(WHOLE))
FRAMINGS = {
    "http/1.0": (Send(b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + SPOKEN), Pause(0.01), Send(STOP + DONE), Fin()),
    "until close": (Send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + SPOKEN + STOP), Send(DONE), Fin()),
    "length": (Send(head(200, {"Content-Type": "text/event-stream"}, len(WHOLE)) + SPOKEN), Pause(0.01), Send(STOP + DONE)),
    "early hints": (Send(EARLY), Pause(0.01), Send(WHOLE)),
}


@pytest.mark.parametrize("answer", FRAMINGS.values(), ids=FRAMINGS)
async def test_every_framing_of_an_upstream(provide: Any, gate: Any, answer: Any) -> None:
    """Whether an upstream says the length, sends chunks or closes at the end, the client gets a whole body."""
    weir = await gate(await provide(Script(answer)))
    client = await weir.fetch()
    assert (client.body, client.complete, client.status) == (WHOLE, True, 200)
    assert (await weir.record()).outcome == "completed"


async def test_nothing_of_another_stream_crosses(provide: Any, gate: Any) -> None:
    """Two hundred streams at once each end with their own answer and no other's (F4)."""
    provider = await provide(temper=Temper(ttft="uniform 0 20ms", gap="uniform 0 4ms", tokens="uniform 3 9"))
    weir = await gate(provider)
    clients = await asyncio.gather(*(weir.fetch(model=f"m{number}") for number in range(200)))
    for number, client in enumerate(clients):
        said = {part.partition(b'"')[0] for part in client.body.split(b'"model":"')[1:]}
        assert said == {b"m%d" % number}
        assert client.body.endswith(DONE)
