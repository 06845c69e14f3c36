"""The simulated provider over real sockets: every fault does what it says, byte for byte."""

import asyncio
import gzip
import itertools
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from gateway.sim.faults import (
    HEALTHY,
    Always,
    Burst,
    ErrorEvent,
    Fault,
    GarbageFrame,
    GzipAnyway,
    HugeEvent,
    InOrder,
    JsonReplyToStream,
    MissingDone,
    NeverEnding,
    OneByteWrites,
    PingStorm,
    Refuse,
    ResetAfter,
    Script,
    Silent,
    SlowFirstToken,
    SplitUtf8,
    Stall,
    Status,
    Truncate,
)
from gateway.sim.plan import GARBAGE
from gateway.sim.provider import Provider
from gateway.sim.steps import Fin, HalfClose, Hang, Pause, Reset, Send
from gateway.sim.tempers import INSTANT, Temper

DONE = b"data: [DONE]\n\n"
Fixture = Callable[..., Any]


@pytest.fixture
def faulty(serve: Fixture, ask: Fixture) -> Fixture:
    """Ask one provider for a healthy answer and its twin for the same answer with a fault."""

    async def both(fault: Fault, temper: Temper = INSTANT, **body: Any) -> tuple[Any, Any, Provider]:
        well, ill = await serve(temper), await serve(temper, Always(fault))
        return await ask(well, **body), await ask(ill, **body), ill

    return both


async def test_a_healthy_stream_looks_like_openais(serve: Fixture, ask: Fixture) -> None:
    """Role chunk, content deltas, finish chunk, usage without choices, [DONE], and the body's proper end."""
    provider = await serve()
    got = await ask(provider, stream_options={"include_usage": True})
    frames = [orjson.loads(chunk[6:]) for chunk in got.chunks[:-1]]
    assert got.chunks[-1] == DONE
    assert got.whole
    assert frames[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert all(frame["choices"][0]["delta"]["content"] for frame in frames[1:-2])
    assert (frames[-2]["choices"][0]["delta"], frames[-2]["choices"][0]["finish_reason"]) == ({}, "stop")
    assert (frames[-1]["choices"], frames[-1]["usage"]["completion_tokens"]) == ([], len(frames) - 3)
    [request] = provider.requests
    assert (request.outcome, request.closed_by, request.tokens_sent, request.bytes_sent) == ("completed", "us", 20, len(got.raw))


async def test_at_gap_0_an_answer_is_one_write(serve: Fixture, ask: Fixture) -> None:
    """Nothing is paced that need not be."""
    provider = await serve()
    await ask(provider)
    assert len(provider.requests[0].sent) == 1


async def test_the_same_seed_gives_the_same_answers(serve: Fixture, ask: Fixture) -> None:
    """Seed and ordinal decide every byte; another seed or ordinal says something else."""

    async def said(seed: int) -> list[bytes]:
        provider = await serve(temper=Temper(ttft=0, gap=0, tokens="uniform 5 30"), seed=seed)
        return [(await ask(provider)).raw for _ in range(3)]

    first, again, other = await said(1), await said(1), await said(2)
    assert first == again
    assert len({*first, *other}) == 6


async def test_documents_models_and_health(serve: Fixture, talk: Fixture, render: Fixture) -> None:
    """Every endpoint answers in one conversation, pipelined; what does not exist is a 404 of OpenAI's shape."""
    provider = await serve(models=("a", "b"))
    asks = [
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\n\r\n",
        render("/v1/completions", stream=False),
        render("/v1/embeddings", input=["x", "y"]),
        b"GET /nothing HTTP/1.1\r\nConnection: close\r\n\r\n",
    ]
    got = await talk(provider, b"".join(asks))
    bodies = [orjson.loads(part.partition(b"\r\n\r\n")[2]) for part in got.raw.split(b"HTTP/1.1 ")[1:]]
    assert [row["id"] for row in bodies[1]["data"]] == ["a", "b"]
    assert (bodies[2]["object"], len(bodies[3]["data"])) == ("text_completion", 2)
    assert bodies[4]["error"]["type"] == "invalid_request_error"
    assert (provider.total, [request.ordinal for request in provider.requests]) == (5, [None, None, 0, 1, None])


async def test_a_request_is_read_however_it_is_cut(serve: Fixture, ask: Fixture) -> None:
    """Byte by byte, chunked, with Expect: the same request."""
    provider = await serve()
    body = b'{"model":"m","stream":true}'
    fields = (b"X-Canary: One", b"Connection: close", b"Expect: 100-continue", b"Transfer-Encoding: chunked")
    head = b"\r\n".join([b"POST /v1/chat/completions HTTP/1.1", *fields, b"", b""])
    chunked = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:5], body[5:])) + b"0\r\n\r\n"
    reader, writer = await asyncio.open_connection(provider.host, provider.port)
    for byte in head + chunked:
        writer.write(bytes([byte]))
        await asyncio.sleep(0)
    raw = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert raw.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")
    assert (provider.requests[0].body, provider.requests[0].headers["x-canary"]) == (body, "One")


async def test_what_is_no_http_gets_400(serve: Fixture, talk: Fixture) -> None:
    """Nonsense is answered and the connection closed."""
    got = await talk(await serve(), b"\x16\x03\x01 nonsense\r\n\r\n")
    assert got.head.startswith("HTTP/1.1 400")


@pytest.mark.parametrize("body", [b"", b"[1]", b"{nope"])
async def test_what_is_no_json_object_gets_400(serve: Fixture, talk: Fixture, body: bytes) -> None:
    """A body that is no request is the caller's fault."""
    head = b"POST /v1/chat/completions HTTP/1.1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert (await talk(await serve(), head + body)).head.startswith("HTTP/1.1 400")


async def test_the_header_overrides_the_script(serve: Fixture, ask: Fixture) -> None:
    """x-sim-fault decides for its request alone; one that means nothing is a 400 that says so."""
    provider = await serve()
    assert (await ask(provider, {"x-sim-fault": "status 503"})).head.startswith("HTTP/1.1 503")
    assert b"no such fault" in (await ask(provider, {"x-sim-fault": "explode"})).body
    assert (await ask(provider)).whole


async def test_temper_and_faults_change_while_it_runs(serve: Fixture, ask: Fixture) -> None:
    """What is set holds for the requests that follow, and a new script begins at its first turn."""
    provider = await serve()
    await ask(provider)
    provider.faults = InOrder([Status(500)])
    provider.temper = Temper(ttft=0, gap=0, tokens=3)
    assert (await ask(provider)).head.startswith("HTTP/1.1 500")
    assert len((await ask(provider)).chunks) == 1 + 3 + 1 + 1


async def test_reset(faulty: Fixture) -> None:
    """The tokens before it arrive, then RST."""
    well, ill, provider = await faulty(ResetAfter(after=3))
    assert (ill.chunks, ill.ended) == (well.chunks[:4], "reset")
    assert (provider.requests[0].outcome, provider.requests[0].closed_by, provider.requests[0].tokens_sent) == ("cut", "us", 3)


@pytest.mark.parametrize("terminator", [True, False])
@pytest.mark.parametrize("cut", [0, 9])
async def test_truncate(faulty: Fixture, terminator: bool, cut: int) -> None:
    """A clean FIN, inside a frame or between two, with or without the body's end."""
    well, ill, provider = await faulty(Truncate(after=3, cut=cut, terminator=terminator))
    assert (b"".join(ill.chunks), ill.ended) == (b"".join(well.chunks[:4]) + well.chunks[4][:cut], "fin")
    assert (ill.whole, provider.requests[0].outcome) == (terminator, "cut")


async def test_truncated_document(faulty: Fixture) -> None:
    """A document ends before its Content-Length is full."""
    well, ill, _ = await faulty(Truncate(), stream=False)
    assert (well.head, well.body[: len(ill.body)]) == (ill.head, ill.body)
    assert 0 < len(ill.body) < len(well.body)


async def test_missing_done(faulty: Fixture) -> None:
    """Everything but [DONE]."""
    well, ill, _ = await faulty(MissingDone())
    assert (ill.chunks, ill.whole) == (well.chunks[:-1], True)


async def test_garbage_frame(faulty: Fixture) -> None:
    """One frame more, which is no JSON."""
    well, ill, _ = await faulty(GarbageFrame(after=2))
    assert ill.chunks == [*well.chunks[:3], GARBAGE, *well.chunks[3:]]


async def test_split_utf8(serve: Fixture, ask: Fixture) -> None:
    """Multi-byte text, one byte a chunk, and still the same text in the end."""
    got = await ask(await serve(INSTANT, Always(SplitUtf8())))
    assert {len(chunk) for chunk in got.chunks} == {1}
    text = b"".join(got.chunks).decode()
    assert max(map(ord, text)) > 0xFFFF
    assert text.endswith("data: [DONE]\n\n")


async def test_status(faulty: Fixture) -> None:
    """The status, Retry-After, further headers, and the body as given or of OpenAI's shape."""
    _, ill, _ = await faulty(Status(429, retry_after=7))
    assert ill.head.startswith("HTTP/1.1 429 Too Many Requests")
    assert "Retry-After: 7" in ill.head
    assert orjson.loads(ill.body)["error"]["code"] == "rate_limit_exceeded"
    _, ill, _ = await faulty(Status(302, body="<x>", headers={"Location": "http://127.0.0.1:1/"}))
    assert (ill.body, "Location: http://127.0.0.1:1/" in ill.head) == (b"<x>", True)


@pytest.mark.parametrize("then_done", [True, False])
async def test_error_event(faulty: Fixture, then_done: bool) -> None:
    """Tokens, an error, perhaps [DONE], and a proper end."""
    well, ill, _ = await faulty(ErrorEvent(after=2, code="overloaded", message="Busy.", then_done=then_done))
    assert ill.chunks[:3] == well.chunks[:3]
    assert orjson.loads(ill.chunks[3][6:]) == {"error": {"message": "Busy.", "type": "overloaded", "param": None, "code": "overloaded"}}
    assert (ill.chunks[4:], ill.whole) == ([DONE] if then_done else [], True)


async def test_ping_storm_and_slow_first_token(faulty: Fixture) -> None:
    """Comments in between; without them the stream is the same."""
    for fault in (PingStorm(every=0.01, after=2, lasting=0.05), SlowFirstToken(delay=0.05, ping_every=0.01)):
        well, ill, _ = await faulty(fault)
        assert [chunk for chunk in ill.chunks if chunk != b": ping\n\n"] == well.chunks
        assert len(ill.chunks) >= len(well.chunks) + 3


async def test_stall(faulty: Fixture) -> None:
    """The same bytes, and at least that silence in the middle."""
    well, ill, provider = await faulty(Stall(after=4, length=0.15, cut=7))
    assert b"".join(ill.chunks) == b"".join(well.chunks)
    times = [at for at, _ in provider.requests[0].sent]
    assert len(times) == 2
    assert times[1] - times[0] >= 0.14


async def test_burst(faulty: Fixture) -> None:
    """A paced stream whose frames come in one write after a silence."""
    well, ill, provider = await faulty(Burst(frames=20, pause=0.05), Temper(ttft=0, gap="1ms", tokens=30))
    assert ill.raw == well.raw
    sizes = [size for _, size in provider.requests[0].sent]
    assert max(sizes) > 15 * sorted(sizes)[len(sizes) // 2]


@pytest.mark.parametrize("write", [0, 1024])
async def test_huge_event(faulty: Fixture, write: int) -> None:
    """One event of exactly that size, in writes of that size, and JSON all the same."""
    well, ill, _ = await faulty(HugeEvent(size=100_000, after=2, write=write))
    parts = ill.chunks[3 : 3 + (-(-100_000 // write) if write else 1)]
    event = b"".join(parts)
    assert (len(event), {len(part) for part in parts[:-1]} <= {write}) == (100_000, True)
    assert orjson.loads(event[6:])["choices"][0]["delta"]["content"].startswith("xxx")
    assert [chunk for chunk in ill.chunks if chunk not in parts] == well.chunks


async def test_one_byte_writes(faulty: Fixture) -> None:
    """The same bytes, one a write, the head too."""
    well, ill, provider = await faulty(OneByteWrites(), Temper(ttft=0, gap=0, tokens=2))
    assert ill.raw == well.raw
    assert {size for _, size in provider.requests[0].sent} == {1}


@pytest.mark.parametrize("streamed", [True, False])
async def test_gzip_anyway(faulty: Fixture, streamed: bool) -> None:
    """Compressed, said so in the head, and the same inside."""
    well, ill, _ = await faulty(GzipAnyway(), stream=streamed)
    assert "Content-Encoding: gzip" in ill.head
    if streamed:
        assert gzip.decompress(b"".join(ill.chunks)) == b"".join(well.chunks)
    else:
        assert gzip.decompress(ill.body) == well.body


async def test_json_reply_to_stream(serve: Fixture, ask: Fixture) -> None:
    """A document, though a stream was asked for."""
    got = await ask(await serve(INSTANT, Always(JsonReplyToStream())))
    assert "Content-Type: application/json" in got.head
    assert orjson.loads(got.body)["object"] == "chat.completion"


async def test_silent_until_the_peer_leaves(serve: Fixture, render: Fixture, wait_until: Fixture) -> None:
    """Not a byte comes; when the client goes, the provider knows when and that it was the client."""
    provider = await serve(INSTANT, Always(Silent()))
    reader, writer = await asyncio.open_connection(provider.host, provider.port)
    writer.write(render())
    await wait_until(lambda: provider.open_streams == 1)
    writer.close()
    await writer.wait_closed()
    await wait_until(lambda: provider.open_streams == 0)
    [request] = provider.requests
    assert (request.bytes_sent, request.outcome, request.closed_by) == (0, "peer_left", "peer")
    assert request.closed_at >= request.at
    assert await reader.read() == b""


async def test_refuse_at_accept_and_on_an_open_connection(serve: Fixture, talk: Fixture, render: Fixture) -> None:
    """A refused connection closes before it is read; on one already open the next request gets no byte."""
    provider = await serve(INSTANT, InOrder([Refuse(), HEALTHY, Refuse(), HEALTHY]))
    assert (await talk(provider, b"")).raw == b""
    assert (provider.refused, provider.total) == (1, 0)
    pair = await talk(provider, render(stream=False) + render(stream=False))
    assert pair.raw.count(b"HTTP/1.1 200") == 1
    assert (provider.total, provider.requests[1].outcome, provider.requests[1].bytes_sent) == (2, "cut", 0)
    assert (await talk(provider, render(headers={"Connection": "close"}))).whole


async def test_never_ending_stops_when_the_peer_does_not_read(serve: Fixture, render: Fixture, wait_until: Fixture) -> None:
    """An endless answer is held back by a client that takes nothing, and ends when it leaves."""
    provider = await serve(INSTANT, Always(NeverEnding()))
    reader, writer = await asyncio.open_connection(provider.host, provider.port, limit=1024)
    writer.write(render())
    await wait_until(lambda: bool(provider.requests))
    [request] = provider.requests
    await settled(lambda: request.bytes_sent)
    assert request.bytes_sent < 32 * 1024**2
    held = request.bytes_sent
    for _ in range(200):
        await reader.read(65536)
    await wait_until(lambda: request.bytes_sent > held)
    writer.transport.abort()
    await wait_until(lambda: request.closed_by is not None)
    assert (request.outcome, request.closed_by) == ("peer_left", "peer")


async def settled(value: Callable[[], int]) -> None:
    """Wait until a number has stopped growing for 50 looks in a row, 10 s at most."""
    async with asyncio.timeout(10):
        looks, last = 0, -1
        while looks < 50:
            await asyncio.sleep(0.004)
            looks, last = (looks + 1, last) if value() == last and last > 0 else (0, value())


async def test_a_script_is_sent_verbatim(serve: Fixture, ask: Fixture) -> None:
    """Exact bytes, pauses, half-close, reset: nothing is added."""
    provider = await serve()
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab"
    for ending, how in ((Fin(), "fin"), (Reset(), "reset")):
        provider.faults = Always(Script((Send(data), Pause(0.01), Send(b"c"), ending)))
        got = await ask(provider)
        assert (got.raw, got.ended) == (data + b"c", how)
    provider.faults = Always(Script((Send(data), HalfClose(), Hang())))
    assert (await ask(provider)).raw == data
    await asyncio.sleep(0)


async def test_hang_up_closes_idle_connections_only(serve: Fixture, render: Fixture, wait_until: Fixture) -> None:
    """A kept connection is closed as by a keep-alive timeout, one with an answer under way is not."""
    provider = await serve(INSTANT, InOrder([HEALTHY, Silent()]))
    pairs = [await asyncio.open_connection(provider.host, provider.port) for _ in range(2)]
    pairs[0][1].write(render(stream=False))
    await wait_until(lambda: provider.total == 1 and provider.open_streams == 0)
    pairs[1][1].write(render(stream=False))
    await wait_until(lambda: provider.open_streams == 1)
    assert provider.hang_up() == 1
    assert (await pairs[0][0].read()).startswith(b"HTTP/1.1 200")
    assert provider.open_streams == 1
    assert [request.closed_by for request in provider.requests] == ["us", None]
    for _, writer in pairs:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for _, writer in pairs), return_exceptions=True)


async def test_close_ends_every_answer_and_may_be_called_twice(serve: Fixture, render: Fixture, wait_until: Fixture) -> None:
    """Open answers end as stopped, and the port is free again."""
    provider = await serve(INSTANT, Always(Silent()))
    _, writer = await asyncio.open_connection(provider.host, provider.port)
    writer.write(render())
    await wait_until(lambda: provider.open_streams == 1)
    await provider.close()
    await provider.close()
    assert (provider.requests[0].outcome, provider.requests[0].closed_by) == ("stopped", "us")
    with pytest.raises(OSError):
        await asyncio.open_connection(provider.host, provider.port)
    writer.close()
    await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def test_requests_are_bounded(serve: Fixture, ask: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the last ones are kept, all are counted."""
    monkeypatch.setattr("gateway.sim.provider.KEEP", 3)
    provider = await serve()
    for _ in range(5):
        await ask(provider)
    assert (provider.total, [request.ordinal for request in provider.requests]) == (5, [2, 3, 4])


async def test_many_paced_streams_at_once_are_all_whole(serve: Fixture, ask: Fixture) -> None:
    """A hundred streams of different length, paced, none mixed up with another."""
    provider = await serve(Temper(ttft="uniform 1ms 20ms", gap="uniform 1ms 3ms", tokens="uniform 5 40"))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(provider)) for _ in range(100)]
    for got in (task.result() for task in tasks):
        ids = {orjson.loads(chunk[6:])["id"] for chunk in got.chunks[:-1]}
        assert (len(ids), got.chunks[-1], got.whole) == (1, DONE, True)
    sums = [request.tokens_sent for request in provider.requests]
    assert len(set(sums)) > 5
    assert list(itertools.chain.from_iterable([r.outcome] for r in provider.requests)) == ["completed"] * 100
