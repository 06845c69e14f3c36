"""A client that lost its connection comes back for its stream, and has not lost a byte; one that does not, ends it."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from gateway.core.errors import Stopped
from gateway.core.messages import Moved, Rejoined
from gateway.core.prompt import Prompt, Text, Turn
from gateway.dialects import DIALECTS
from gateway.proxy import shelf as shelves
from gateway.sim.faults import ErrorEvent, NeverEnding, Script, Silent, SlowFirstToken, Stall, Status
from gateway.sim.plan import head
from gateway.sim.steps import Hang, Send
from gateway.sim.tempers import INSTANT, Temper
from tests.rig.rounds import judged_in_rounds

LOOPS = "both"
HELLO = Prompt(model="m", stream=True, turns=(Turn("user", (Text("hello"),)),), max_tokens=200)
PACED = msgspec.structs.replace(INSTANT, gap=0.01, tokens=60)
DRAIN = {"x-weir-on-disconnect": "drain"}
KEY = {"Authorization": "Bearer one"}
FINE = "completed"
LEFT = "client_disconnect"
DONE = b"data: [DONE]\nid: %d\n\n"


def get(stream_id: str, last: int | None = None, headers: Mapping[str, str] | None = None, path: str = "", method: str = "GET") -> bytes:
    said = {} if last is None else {"Last-Event-ID": str(last)}
    lines = [f"{name}: {value}" for name, value in (said | dict(headers or {})).items()]
    return "\r\n".join([f"{method} /v1/streams/{stream_id}{path} HTTP/1.1", "Host: weir", *lines, "", ""]).encode()


async def back(weir: Any, stream_id: str, last: int | None = None, headers: Mapping[str, str] | None = None, **more: Any) -> Any:
    """Come back for a stream on a new connection."""
    return (await weir.client()).ask(get(stream_id, last, headers, **more))


def had(call: Any, body: bytes) -> tuple[bytes, int]:
    """Return the whole events of what came, as a client keeps them, and the number of the last."""
    framing = DIALECTS[call.dialect].framing(call)
    kept, count, passed = b"", 0, b""
    for frame in framing.parser().feed(body):
        passed += frame.raw
        if frame.data or frame.name:
            kept, count = passed, count + 1
            assert not framing.takes_lines or b"\nid: %d\n" % count in frame.raw
    return kept, count


async def whole(provide: Any, gate: Any, make: Any, dialect: str, temper: Temper = PACED) -> bytes:
    """Return what a client gets of the first answer of a provider when nothing breaks."""
    weir = await gate(await provide(temper=temper), dialects=[dialect])
    _, request = make.call(dialect, HELLO, DRAIN)
    client = await (await weir.client()).ask(request).finish()
    assert (client.status, client.complete, client.headers["x-weir-on-disconnect"]) == (200, True, "drain")
    return bytes(client.body)


async def talking(weir: Any, make: Any, headers: Mapping[str, str] | None = None) -> Any:
    """Ask for an OpenAI stream, and return its client when some of it has come."""
    return await (await weir.ask(headers)).saw(b"id: 3\n")


@pytest.mark.parametrize("dialect", DIALECTS)
@judged_in_rounds
async def test_nothing_is_lost_and_nothing_comes_twice(provide: Any, gate: Any, make: Any, until: Any, dialect: str) -> None:
    """Thrice reset, thrice back with the last event it had: the parts are the unbroken answer, and the upstream never knew (B13)."""
    expected = await whole(provide, gate, make, dialect)
    provider = await provide(temper=PACED)
    weir = await gate(provider, dialects=[dialect], client={"on_disconnect": "drain"})
    call, request = make.call(dialect, HELLO, KEY)
    client = (await weir.client()).ask(request)
    body, last = b"", 0
    for _ in range(3):
        await client.until(lambda client=client, body=body, last=last: had(call, body + client.body)[1] > last + 5)
        client.reset()
        body, last = had(call, body + client.body)
        await until(lambda: not weir.plane.watch.watched or next(iter(weir.plane.live.values())).state == "draining")
        client = await back(weir, client.headers["x-weir-stream-id"], last, KEY)
    await client.finish()
    record = await weir.record()
    assert body + client.body == expected
    assert (client.complete, record.outcome, record.reconnects, len(weir.book.of(Rejoined))) == (True, FINE, 3, 3)
    assert (provider.total, provider.requests[0].closed_by) == (1, None)
    assert record.bytes + sum(len(b"id: %d\n" % n) for n in range(1, record.mutations.get("event_id", 0) + 1)) == len(expected)


@pytest.mark.parametrize(("client", "target"), [("openai", "anthropic"), ("ollama", "openai"), ("bedrock", "gemini")])
async def test_a_translated_stream(provide: Any, gate: Any, make: Any, client: str, target: str) -> None:
    """What another dialect says is on the tape as the client's says it."""
    weir = await gate(await provide(temper=PACED), dialects=[target], client={"on_disconnect": "drain"})
    call, request = make.call(client, HELLO)
    first = (await weir.client()).ask(request)
    await first.until(lambda: had(call, first.body)[1] > 5)
    first.close()
    body, last = had(call, first.body)
    rest = await (await back(weir, first.headers["x-weir-stream-id"], last)).finish()
    again = await (await back(weir, first.headers["x-weir-stream-id"])).finish()
    assert body + rest.body == again.body
    assert make.heard(call, again.body)
    assert ((await weir.record()).outcome, rest.headers["content-type"]) == (FINE, first.headers["content-type"])


@pytest.mark.parametrize("other", ["openai", "anthropic"])
@judged_in_rounds
async def test_a_stream_that_is_resumed_elsewhere_with_nobody_there(provide: Any, gate: Any, make: Any, until: Any, other: str) -> None:
    """Its upstream dies after its client has gone, another goes on, and who comes back hears one answer."""
    dying, second = await provide(Stall(after=3, length=60), temper=PACED), await provide(temper=PACED)
    patience = {"mid_stream": "resume", "stall": {"liveness": 0.4, "threshold": 0.2}}
    weir = await gate(dying, second, dialects=["openai", other], client={"on_disconnect": "drain"}, **patience)
    call, request = make.call("openai", HELLO)
    first = await (await weir.client()).ask(request).saw(b"id: 3\n")
    first.reset()
    body, last = had(call, first.body)
    await until(lambda: second.total)
    rest = await (await back(weir, first.headers["x-weir-stream-id"], last)).finish()
    again = await (await back(weir, first.headers["x-weir-stream-id"])).finish()
    assert body + rest.body == again.body
    assert had(call, again.body)[0].endswith(DONE % again.body.count(b"\nid: "))
    record = await weir.record()
    assert (record.outcome, [attempt.why for attempt in record.attempts], record.reconnects >= 1) == (FINE, ["first", "resume"], True)


PHASES = {
    "before the first token": SlowFirstToken(delay=0.4),
    "before the first token, held": SlowFirstToken(delay=0.4),
    "inside an event": Stall(after=2, length=0.4, cut=12),
}


@pytest.mark.parametrize("phase", PHASES)
async def test_in_every_phase(provide: Any, gate: Any, make: Any, until: Any, phase: str) -> None:
    """Also a client that leaves before it was told anything but that it waits finds the whole of it, when it knows the id."""
    provider = await provide(PHASES[phase])
    spare = [await provide()] if "held" in phase else []
    weir = await gate(provider, *spare, first_token={"timeout": 60}, client={"on_disconnect": "drain"})
    client = await weir.ask()
    await until(lambda: provider.total and weir.plane.live)
    if "inside" in phase:
        await client.saw(b"content")
    [stream_id] = weir.plane.live
    client.reset()
    await until(lambda: weir.plane.live[stream_id].state == "draining")
    rest = await (await back(weir, stream_id)).finish()
    assert (rest.status, rest.complete) == (200, True)
    assert rest.body.endswith(DONE % rest.body.count(b"data: "))
    assert ((await weir.record()).outcome, provider.total) == (FINE, 1)


@judged_in_rounds
async def test_the_route_or_the_header_decides(provide: Any, gate: Any, until: Any) -> None:
    """On a route that drains, `x-weir-on-disconnect: cancel` ends the upstream with its client; nothing is added to such a stream."""
    provider = await provide(Stall(after=4, length=30))
    weir = await gate(provider, client={"on_disconnect": "drain"})
    client = await (await weir.ask({"x-weir-on-disconnect": "cancel"})).saw(b"content")
    assert b"id: " not in client.body.replace(b'"id":', b"")
    assert "x-weir-on-disconnect" not in client.headers
    refused = await (await back(weir, client.headers["x-weir-stream-id"])).finish()
    assert (refused.status, refused.document["error"]["code"]) == (409, "not_resumable")
    at = client.reset()
    await until(lambda: provider.requests[0].closed_by)
    assert provider.requests[0].closed_at - at < 1.0
    assert (await weir.record()).outcome == LEFT


async def test_one_answer_in_one_piece_is_not_drained(provide: Any, gate: Any, until: Any) -> None:
    """A call that asks for no stream ends with its client on any route."""
    provider = await provide(Silent())
    weir = await gate(provider, client={"on_disconnect": "drain"})
    client = await weir.ask(stream=False)
    await until(lambda: provider.total)
    client.reset()
    assert ((await weir.record()).outcome, len(weir.plane.shelf)) == (LEFT, 0)


@pytest.mark.parametrize("fault", [NeverEnding(), Silent(), Stall(after=3, length=30)], ids=["talking", "before headers", "silent"])
@judged_in_rounds
async def test_a_stream_that_nobody_comes_back_for(provide: Any, gate: Any, until: Any, fault: Any) -> None:
    """After `client.drain` it is ended as one whose client has left, its upstream closed; it cannot be had any more."""
    provider = await provide(fault, Temper(ttft=0, gap="5ms", tokens=5))
    weir = await gate(provider, client={"on_disconnect": "drain", "drain": 0.4})
    client = await weir.ask()
    await client.until(lambda: b"id: 3\n" in client.body) if fault.kind != "silent" else await until(lambda: provider.total)
    at = client.reset()
    await until(lambda: weir.book.of(Moved) and weir.book.of(Moved)[-1].state == "draining")
    assert weir.in_flight() > 0
    record = await weir.record()
    await until(lambda: provider.requests[0].closed_by == "peer")
    assert 0.3 < record.ended_at - at < 5.0
    assert (record.outcome, record.error, record.reconnects) == (LEFT, None, 0)
    assert record.cadence.chunks == 0 if fault.kind == "silent" else record.cadence.chunks >= 2
    assert weir.targets()[0].last_error is None
    assert (await (await back(weir, record.stream_id, 3)).finish()).status == 404
    assert len(weir.plane.shelf) == 0


@judged_in_rounds
async def test_a_stream_that_ended_while_nobody_listened(provide: Any, gate: Any, until: Any) -> None:
    """It has completed when a client has fetched its end, and its slot is free meanwhile; else its client has left."""
    provider = await provide(Stall(after=2, length=0.1))
    weir = await gate(provider, client={"on_disconnect": "drain", "drain": 0.6}, upstreams={"a": {"max_streams": 1}})
    for number, outcome in enumerate([FINE, LEFT], 1):
        client = await (await weir.ask()).saw(b"id: 2\n")
        client.reset()
        _, slot = await until(lambda: weir.plane.live), weir.plane.pools["a"].slots
        await until(lambda slot=slot: slot._free == 1)
        assert len(weir.book.records) == number - 1
        if outcome == FINE:
            rest = await (await back(weir, client.headers["x-weir-stream-id"], 2)).finish()
            assert (rest.complete, b"[DONE]" in rest.body) == (True, True)
        record = await weir.record(number)
        assert (record.outcome, record.attempts[0].outcome, record.usage is not None) == (outcome, "won", True)


async def test_who_leaves_after_the_end_has_completed(provide: Any, gate: Any, make: Any) -> None:
    """A client that goes once it has everything has had everything, though its upstream's connection is open still (A17)."""
    weir = await gate(await provide(make.chunked(make.event("a"), b"data: [DONE]\n\n", 0.3)), client={"on_disconnect": "drain"})
    client = await (await weir.ask()).saw(b"[DONE]")
    client.close()
    assert (await weir.record()).outcome == FINE


@judged_in_rounds
async def test_after_the_end_it_can_be_had_for_a_while(provide: Any, gate: Any, until: Any) -> None:
    """A client that lost the last bytes gets them, as often as it asks, until `client.drain` is over; then nobody knows the stream."""
    weir = await gate(await provide(), client={"on_disconnect": "drain", "drain": 0.8})
    client = await weir.fetch()
    record = await weir.record()
    for last in (0, 2, 2):
        again = await (await back(weir, record.stream_id, last)).finish()
        assert again.complete
        assert client.body.endswith(again.body)
        assert again.body.count(b"\nid: ") == client.body.count(b"\nid: ") - last
    await until(lambda: len(weir.plane.shelf) == 0)
    assert (await (await back(weir, record.stream_id, 2)).finish()).status == 404
    assert (record.outcome, record.reconnects, len(weir.book.of(Rejoined))) == (FINE, 0, 3)


async def test_an_error_is_told_to_who_comes_back(provide: Any, gate: Any, until: Any) -> None:
    """A stream that failed while nobody listened ends as that: its record at once, and its client by the error event."""
    weir = await gate(await provide(Stall(after=2, length=30)), client={"on_disconnect": "drain"}, stall={"liveness": 0.3})
    client = await (await weir.ask()).saw(b"id: 2\n")
    client.reset()
    record = await weir.record()
    rest = await (await back(weir, record.stream_id, 2)).finish()
    assert (record.outcome, rest.status, rest.complete) == ("upstream_stalled", 200, True)
    assert b"upstream_silent" in rest.body
    await rest.finish()


@pytest.mark.parametrize("fault", [Status(code=429), ErrorEvent(after=0)], ids=["status", "event"])
async def test_no_stream_at_all(provide: Any, gate: Any, fault: Any) -> None:
    """A call that is refused is refused as on any route."""
    route = {"retry": {"attempts": 1}}
    plain = await (await gate(await provide(fault), **route)).fetch()
    weir = await gate(await provide(fault), client={"on_disconnect": "drain"}, **route)
    client = await weir.fetch()
    assert (client.status, client.complete, client.headers["content-type"]) == (plain.status, True, plain.headers["content-type"])
    assert client.document["error"].keys() == plain.document["error"].keys()
    assert (await weir.record()).outcome == "upstream_error"


async def test_a_body_that_is_no_stream_ends_with_its_client(provide: Any, gate: Any, until: Any) -> None:
    """A document in answer to a stream call is passed on as it is, cannot be taken up, and is not drained."""
    body = b'{"a":"' + b"x" * 1000
    provider = await provide(Script((Send(head(200, {"Content-Type": "application/json"}, 5000) + body), Hang())))
    weir = await gate(provider, client={"on_disconnect": "drain"})
    client = await weir.ask()
    await client.until(lambda: client.body == body)
    refused = await (await back(weir, client.headers["x-weir-stream-id"])).finish()
    assert (refused.status, refused.document["error"]["code"]) == (409, "not_resumable")
    client.reset()
    await until(lambda: provider.requests[0].closed_by == "peer")
    assert (await weir.record()).outcome == LEFT


@pytest.mark.parametrize(
    ("mine", "other"),
    [
        ({"Authorization": "Bearer one"}, {"Authorization": "Bearer two"}),
        ({"Authorization": "Bearer one"}, {}),
        ({"Authorization": "Bearer one"}, {"x-api-key": "Bearer one"}),
        ({"x-api-key": "one"}, {"x-api-key": "onE"}),
        ({"x-goog-api-key": "one"}, {"x-goog-api-key": ""}),
        ({}, {"api-key": "one"}),
    ],
)
async def test_only_who_made_the_call_may_come_back(provide: Any, gate: Any, mine: Any, other: Any) -> None:
    """With another credential, or none, a stream is as one that never was, live or over, on tape or not (F)."""
    weir = await gate(await provide(Stall(after=2, length=0.5)), client={"on_disconnect": "drain"})
    never = await (await back(weir, "0" * 32, 1, other)).finish()
    cancels = await (await weir.ask({**mine, "x-weir-on-disconnect": "cancel"})).saw(b"content")
    drains = await (await weir.ask(mine)).saw(b"id: 2\n")
    for stream in (cancels, drains):
        refused = await (await back(weir, stream.headers["x-weir-stream-id"], 1, other)).finish()
        assert (refused.status, refused.body) == (404, never.body)
    assert (await (await back(weir, cancels.headers["x-weir-stream-id"], 1, mine)).finish()).status == 409
    await drains.finish()
    assert (await (await back(weir, drains.headers["x-weir-stream-id"], 1, other)).finish()).status == 404
    assert (await (await back(weir, drains.headers["x-weir-stream-id"], 1, mine)).finish()).status == 200


async def test_a_key_in_the_query_is_the_key_in_the_header(provide: Any, gate: Any, make: Any) -> None:
    """Gemini's clients may show theirs either way."""
    weir = await gate(await provide(), dialects=["gemini"], client={"on_disconnect": "drain"})
    _, request = make.call("gemini", HELLO)
    asked = request.replace(b"alt=sse", b"alt=sse&key=one")
    client = await (await weir.client()).ask(asked).finish()
    stream_id = client.headers["x-weir-stream-id"]
    assert asked != request
    for shown in ({"path": "?key=one"}, {"headers": {"x-goog-api-key": "one"}}):
        assert (await (await back(weir, stream_id, **shown)).finish()).body == client.body
    for shown in ({"path": "?key=two"}, {"headers": {"x-api-key": "one"}}):
        assert (await (await back(weir, stream_id, **shown)).finish()).status == 404


@pytest.mark.parametrize(
    ("stream_id", "method", "status"),
    [("0" * 32, "GET", 404), ("f" * 32, "GET", 404), ("0" * 31, "GET", 404), ("..%2f" * 4, "GET", 404), ("0" * 32, "HEAD", 405)],
)
async def test_ids_that_are_none(provide: Any, gate: Any, stream_id: str, method: str, status: int) -> None:
    """Whatever is asked for, an answer comes."""
    weir = await gate(await provide())
    client = await back(weir, stream_id, method=method)
    await client.until(lambda: client.status)
    assert client.status == status


async def test_last_ids_that_are_none(provide: Any, gate: Any) -> None:
    """An id that was never given is the caller's mistake, told in the words of the stream's dialect."""
    weir = await gate(await provide(), client={"on_disconnect": "drain"})
    await weir.fetch()
    record = await weir.record()
    for last in ("x", "-1", "1.0", "99", "9" * 40):
        refused = await (await back(weir, record.stream_id, last)).finish()
        assert (refused.status, refused.document["error"]["code"]) == (400, "invalid_last_event_id")


async def test_who_comes_back_takes_over(provide: Any, gate: Any) -> None:
    """A connection that nobody has noticed to be dead is left for the new one; the stream goes on in it alone."""
    provider = await provide(temper=PACED)
    weir = await gate(provider, client={"on_disconnect": "drain"})
    first = await talking(weir, None)
    second = await (await back(weir, first.headers["x-weir-stream-id"], 3)).saw(b"id: 5\n")
    third = await back(weir, first.headers["x-weir-stream-id"])
    await first.gone()
    await second.gone()
    await third.finish()
    assert (first.complete, second.complete, third.complete) == (False, False, True)
    assert third.body.startswith(first.body)
    assert ((await weir.record()).outcome, provider.total) == (FINE, 1)


async def test_a_tail_that_is_dropped_cannot_be_had(provide: Any, gate: Any) -> None:
    """On a short tape the beginning goes as the stream does: 410, in the words of its dialect; what is kept can be had."""
    weir = await gate(await provide(temper=msgspec.structs.replace(INSTANT, tokens=200)), client={"on_disconnect": "drain", "tape": 2048})
    client = await weir.fetch()
    record = await weir.record()
    refused = await (await back(weir, record.stream_id, 3)).finish()
    assert (refused.status, refused.document["error"]["code"]) == (410, "tail_dropped")
    rest = await (await back(weir, record.stream_id, record.mutations["event_id"] - 4)).finish()
    assert client.body.endswith(rest.body)
    assert rest.body.count(b"\nid: ") == 4


async def test_an_endless_stream_fills_no_memory(provide: Any, gate: Any, until: Any) -> None:
    """With nobody there a stream may say as much as its tape holds; then it is ended, long before `client.drain`."""
    provider = await provide(NeverEnding())
    weir = await gate(provider, client={"on_disconnect": "drain", "drain": 60, "tape": "1MiB"})
    client = await talking(weir, None)
    taped = weir.plane.shelf.find(client.headers["x-weir-stream-id"])
    client.reset()
    record = await weir.record()
    assert (record.outcome, taped.size <= (1 << 20) + 64 * 1024) == (LEFT, True)
    await until(lambda: provider.requests[0].closed_by == "peer")


async def test_a_listener_keeps_no_more_than_the_tape(provide: Any, gate: Any) -> None:
    """A client that hears a long stream makes its tape no longer."""
    weir = await gate(await provide(NeverEnding()), client={"on_disconnect": "drain", "tape": "64KiB"})
    client = await talking(weir, None)
    taped = weir.plane.shelf.find(client.headers["x-weir-stream-id"])
    await client.until(lambda: len(client.raw) > 2 << 20)
    assert taped.size < (64 << 10) + (1 << 20)
    client.transport.pause_reading()
    assert len(taped.tape._pieces) < 20_000


async def test_a_slow_reader_that_has_come_back_is_waited_for(provide: Any, gate: Any, until: Any) -> None:
    """It makes its upstream wait, not our memory grow; and gets every byte."""
    temper = msgspec.structs.replace(INSTANT, tokens=40_000)
    weir = await gate(provider := await provide(temper=temper), client={"on_disconnect": "drain", "tape": "256KiB"})
    client = await talking(weir, None)
    client.transport.pause_reading()
    taped, slow = weir.plane.shelf.find(client.headers["x-weir-stream-id"]), await weir.client(segment=1000, buffer=4096)
    [live] = weir.plane.live.values()
    await until(lambda: live.ledger.owner == "client_blocked")
    last = taped.tape.count
    slow.transport.pause_reading()
    slow.ask(get(taped.stream_id, last))
    await until(lambda: live.record.reconnects and taped.tape.count > last and live.ledger.owner == "client_blocked")
    await asyncio.sleep(0.3)
    sent = provider.requests[0].bytes_sent
    await asyncio.sleep(0.2)
    assert provider.requests[0].bytes_sent == sent
    assert taped.size < 1 << 20
    slow.transport.resume_reading()
    await slow.finish(60.0)
    numbers = [int(part.partition(b"\n")[0]) for part in slow.body.split(b"\nid: ")[1:]]
    record = await weir.record()
    assert numbers == list(range(last + 1, record.mutations["event_id"] + 1))
    assert record.outcome == FINE
    assert record.seconds["client_blocked"] > 0.3


@judged_in_rounds
async def test_a_client_that_never_reads_is_dropped(provide: Any, gate: Any, make: Any, until: Any) -> None:
    """`write_timeout` holds as on any route, while the stream runs and when an old tape is played: it has been given its time."""
    provider = await provide(NeverEnding())
    weir = await gate(provider, client={"on_disconnect": "drain", "write_timeout": 0.4})
    client = await weir.client(segment=1000, buffer=4096)
    client.transport.pause_reading()
    client.ask(make.request())
    record = await weir.record()
    await until(lambda: provider.requests[0].closed_by == "peer")
    assert (record.outcome, record.error) == ("client_stalled", "write_timeout")
    deaf = await weir.client(segment=1000, buffer=4096)
    deaf.transport.pause_reading()
    deaf.ask(get(record.stream_id, 0))
    taped = weir.plane.shelf.find(record.stream_id)
    await until(lambda: taped._playback is not None)
    await until(lambda: taped._playback is None)
    deaf.transport.resume_reading()
    await deaf.gone()
    assert not deaf.complete


async def test_the_longest_alone_is_given_up_first(provide: Any, gate: Any, until: Any, monkeypatch: Any) -> None:
    """Only so many streams run on without a listener; one more ends the one that has waited longest."""
    monkeypatch.setattr(shelves, "DRAINED", 3)
    weir = await gate(await provide(Stall(after=3, length=30)), client={"on_disconnect": "drain", "drain": 1.5})
    ids = []
    for number in range(5):
        client = await (await weir.ask()).saw(b"id: 2\n")
        ids.append(client.headers["x-weir-stream-id"])
        client.reset()
        await until(lambda number=number: len(weir.plane.shelf._alone) == min(number + 1, 3))
    await weir.record(2)
    assert [record.stream_id for record in weir.book.records] == ids[:2]
    assert set(weir.plane.live) == set(ids[2:])


async def test_tapes_of_the_past_go_when_there_is_too_much(provide: Any, gate: Any, monkeypatch: Any) -> None:
    """Only so many bytes of streams that are over are kept: the oldest tapes go."""
    weir = await gate(await provide(), client={"on_disconnect": "drain"})
    size = len((await weir.fetch()).body)
    monkeypatch.setattr(shelves, "KEPT_BYTES", 3 * size + size // 2)
    for _ in range(5):
        await weir.fetch()
    await weir.record(6)
    assert len(weir.plane.shelf) == 3
    assert [weir.plane.shelf.find(record.stream_id) is not None for record in weir.book.records] == [False] * 3 + [True] * 3


@judged_in_rounds
async def test_keepalives_are_not_on_the_tape(provide: Any, gate: Any) -> None:
    """They were for a client that waited; who comes back gets the answer, without them."""
    weir = await gate(await provide(SlowFirstToken(delay=0.5)), client={"on_disconnect": "drain"}, server={"keepalive": 0.1})
    client = await weir.fetch()
    again = await (await back(weir, client.headers["x-weir-stream-id"])).finish()
    assert b": keepalive\n\n" in client.body
    assert client.body.replace(b": keepalive\n\n", b"") == again.body


async def test_a_failure_that_is_cut_is_cut_for_who_comes_back_too(provide: Any, gate: Any, until: Any) -> None:
    """With `on_failure: cut` the body ends visibly unfinished behind its error event, whenever it is heard."""
    route = {"client": {"on_disconnect": "drain", "on_failure": "cut"}, "stall": {"liveness": 0.3}}
    weir = await gate(await provide(Stall(after=2, length=30)), **route)
    client = await (await weir.fetch()).gone()
    again = await (await back(weir, client.headers["x-weir-stream-id"])).gone()
    assert (client.complete, again.complete, again.body) == (False, False, client.body)
    assert b"upstream_silent" in again.body


async def test_calls_follow_each_other_on_one_connection(provide: Any, gate: Any, make: Any) -> None:
    """A stream on tape, its tape again, and the next stream, all on one connection that is kept."""
    weir = await gate(await provide(), client={"on_disconnect": "drain"})
    client = await weir.client()
    for _ in range(3):
        first = (await client.ask(make.request()).finish()).body
        again = await client.ask(get(client.headers["x-weir-stream-id"], 1)).finish()
        assert first.endswith(again.body)
        assert again.body.startswith(b"data: ")
    assert client.ended is None


@judged_in_rounds
async def test_a_drain_ends_tapes_too(provide: Any, gate: Any) -> None:
    """While the worker drains a client may come back; at the deadline who listens is told, and nothing outlives it (B9)."""
    provider = await provide(NeverEnding(), Temper(ttft=0, gap="5ms", tokens=5))
    weir = await gate(provider, client={"on_disconnect": "drain"})
    clients = [await talking(weir, None) for _ in range(2)]
    for client in clients:
        client.reset()
    draining = asyncio.get_running_loop().create_task(weir.worker.drain(0.6))
    await asyncio.sleep(0.1)
    listener = await back(weir, clients[0].headers["x-weir-stream-id"], 3)
    await listener.finish()
    await draining
    assert (listener.complete, b"server_shutdown" in listener.body) == (True, True)
    assert [record.outcome for record in weir.book.records] == ["shutdown"] * 2
    await weir.worker.close()
    assert len(weir.plane.shelf) == 0


async def test_a_drain_does_not_wait_for_those_who_have_heard_nothing(provide: Any, gate: Any, until: Any) -> None:
    """A stream that is over and waits to be fetched is, at the deadline, one whose client has left: it was cut by nobody."""
    weir = await gate(await provide(Stall(after=2, length=0.1)), client={"on_disconnect": "drain"})
    client = await (await weir.ask()).saw(b"id: 2\n")
    client.reset()
    await until(lambda: weir.plane.pools["a"].slots._free == weir.plane.pools["a"].config.max_streams)
    started = time.monotonic()
    await weir.worker.drain(0.1)
    assert time.monotonic() - started < 5.0
    assert (await weir.record()).outcome == LEFT


async def test_an_operator_or_a_drain_ends_it_in_every_phase(provide: Any, gate: Any, until: Any) -> None:
    """A stream on tape that waits for its first token is ended from our side as any other."""
    weir = await gate(await provide(Silent()), client={"on_disconnect": "drain"})
    client = await weir.ask()
    [live] = await until(lambda: list(weir.plane.live.values()))
    live.end_early(Stopped("enough"))
    await client.finish()
    assert (client.status, (await weir.record()).outcome) == (503, "shutdown")
    assert live.reply.over


async def test_a_crowd_that_comes_and_goes(provide: Any, gate: Any, make: Any) -> None:
    """Sixty clients that each break off and come back three times: every one has its own answer whole, one record each."""
    provider = await provide(temper=Temper(ttft="uniform 0 20ms", gap="uniform 1ms 5ms", tokens="uniform 20 60"))
    weir = await gate(provider, client={"on_disconnect": "drain"})

    async def one(number: int) -> bytes:
        client = await weir.ask(KEY, model=f"m{number}")
        await client.saw(b"id: 2\n")
        stream_id, body = client.headers["x-weir-stream-id"], client.body
        for _ in range(3):
            client.reset()
            body = body[: body.rfind(b"\n\n") + 2]
            last = int(body[body.rfind(b"\nid: ") + 5 :])
            client = await back(weir, stream_id, last, KEY)
            await client.until(lambda client=client: client.pieces or client.complete)
            body += client.body
            already = len(client.body)
        await client.finish()
        return bytes(body + client.body[already:])

    for number, body in enumerate(await asyncio.gather(*(one(number) for number in range(60)))):
        numbers = [int(part.partition(b"\n")[0]) for part in body.split(b"\nid: ")[1:]]
        assert numbers == list(range(1, len(numbers) + 1))
        assert body.endswith(DONE % len(numbers))
        assert {part.partition(b'"')[0] for part in body.split(b'"model":"')[1:]} == {b"m%d" % number}
    assert {record.outcome for record in weir.book.records} == {FINE}
    assert (len(weir.book.records), provider.total) == (60, 60)
