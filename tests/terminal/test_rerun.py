"""A recorded stream as a provider: sent through the gateway again, it makes the same record."""

import asyncio
from collections.abc import Callable
from itertools import accumulate
from typing import Any, NamedTuple

import orjson
import pytest

from gateway.console.views import detail
from gateway.core.events import Delta, ToolOpened
from gateway.core.prompt import Prompt, Text, Turn
from gateway.core.record import StreamRecord
from gateway.sim.faults import ErrorEvent, Fault, MissingDone, ResetAfter, Silent, SlowFirstToken, Stall, Status, Truncate
from gateway.sim.tempers import Temper
from gateway.telemetry.account import account
from gateway.terminal.recording import Recording, read
from gateway.terminal.rerun import Rerun

STEADY = Temper(ttft="60ms", gap="uniform 10ms 40ms", tokens=20, role_delay="5ms")
PATIENT = {"stall": {"threshold": "500ms", "liveness": "2s", "progress": "2s"}, "retry": {"attempts": 1, "on": []}}
NEAR = 0.4
"""Seconds that one moment of a replay may differ from the recorded one on a busy machine; the stall of these tests is 1.2 s."""
HELLO = Prompt(model="m", stream=True, turns=(Turn("user", (Text("hello"),)),), max_tokens=100)
DIALECTS = ("openai", "openai-responses", "anthropic", "gemini", "bedrock", "ollama", "azure")


def recording(record: StreamRecord, content: Any = None) -> Recording:
    """Return a record's recording after its way through the API: as JSON."""
    return read(orjson.loads(orjson.dumps(detail(account(record)))), content)


@pytest.fixture
def rerun(world: list[Any]) -> Callable[..., Any]:
    """Start a provider that plays recordings."""

    async def start(*recordings: Recording, speed: float = 1.0) -> Rerun:
        provider = Rerun(recordings, speed)
        world.append(provider)
        await provider.start()
        return provider

    return start


class Start(NamedTuple):
    """What starts a provider: a simulated one, or one that plays recordings."""

    provide: Any
    rerun: Any


@pytest.fixture
def start(provide: Any, rerun: Any) -> Start:
    return Start(provide, rerun)


async def through(gate: Any, make: Any, provider: Any, dialect: str) -> tuple[StreamRecord, Any]:
    """Send one call through a gateway of its own to a provider; returns the record and the client."""
    door = await gate(provider, dialects=(dialect,), **PATIENT)
    call, request = make.call(dialect, HELLO)
    client = await door.client()
    await client.ask(request).finish()
    return await door.record(), (call, client)


def moments(record: StreamRecord) -> list[float]:
    """Return when each token came, in seconds after the first; several may share one read."""
    many, times = dict(record.cadence.counts), list[float]()
    for place, ticks in enumerate(accumulate(record.cadence.ticks)):
        times += [ticks / 10_000] * many.get(place, 1)
    return times


def same(first: StreamRecord, again: StreamRecord) -> None:
    """Check that two records tell of the same stream."""
    assert (again.outcome, again.cadence.chunks) == (first.outcome, first.cadence.chunks), (first.error, again.error)
    assert moments(again) == pytest.approx(moments(first), abs=NEAR)
    assert (again.ttft is None) == (first.ttft is None)
    assert again.ttft == pytest.approx(first.ttft, abs=NEAR) if first.ttft is not None else True
    assert again.duration == pytest.approx(first.duration, abs=2 * NEAR)
    if "gateway" in first.cadence.stall_time | again.cadence.stall_time:
        return  # this machine was too busy for its own loop, which says so, and says nothing of the replay
    assert again.cadence.stall_count == first.cadence.stall_count
    assert again.cadence.stall_time == pytest.approx(first.cadence.stall_time, abs=NEAR)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_replayed_stream_makes_the_same_record(gate: Any, provide: Any, rerun: Any, make: Any, dialect: str) -> None:
    """A stalled stream, played again as an upstream, has the same first token, gaps, stall with its owner, and outcome."""
    first, _ = await through(gate, make, await provide(Stall(after=8, length=1.2), STEADY), dialect)
    assert (first.outcome, first.cadence.stall_count) == ("completed", 1)
    again, (call, client) = await through(gate, make, await rerun(recording(first)), dialect)
    same(first, again)
    assert again.usage is not None
    assert first.usage is not None
    assert (again.usage.input, again.usage.output) == (first.usage.input, first.usage.output)
    assert again.finish == first.finish
    assert make.heard(call, client.body)


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (Truncate(after=5), "upstream_truncated"),
        (Truncate(after=5, terminator=True), "upstream_truncated"),
        (ResetAfter(after=5), "upstream_truncated"),
        (ErrorEvent(after=5), "upstream_error"),
        (ErrorEvent(after=5, first=True), "upstream_error"),
        (Status(code=429), "upstream_error"),
        (Status(code=500), "upstream_error"),
        (MissingDone(), "completed"),
        (Stall(after=5, length=30.0), "upstream_stalled"),
        (Silent(), "upstream_stalled"),
        (SlowFirstToken(delay=30.0), "upstream_stalled"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.kind,
)
@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
async def test_a_replay_ends_as_the_stream_did(gate: Any, start: Start, make: Any, fault: Fault, outcome: str, dialect: str) -> None:
    """Broken off, failed, refused or silent for good: whatever was the upstream's doing is done again, at the same moment."""
    first, (_, told) = await through(gate, make, await start.provide(fault, STEADY), dialect)
    if first.outcome != outcome:
        assert isinstance(fault, MissingDone), first.outcome  # not every dialect is complete without its end marker
    again, (_, client) = await through(gate, make, await start.rerun(recording(first)), dialect)
    same(first, again)
    assert again.error == first.error
    assert client.status == told.status


async def test_speed_and_turns(gate: Any, provide: Any, rerun: Any, make: Any) -> None:
    """Several streams are played one after the other and then from the first again; speed divides every wait."""
    long, _ = await through(gate, make, await provide(Stall(after=8, length=0.9), STEADY), "openai")
    short, _ = await through(gate, make, await provide(temper=Temper(ttft=0, gap="5ms", tokens=4)), "openai")
    door = await gate(await rerun(recording(long), recording(short), speed=4.0), **PATIENT)
    for _ in range(3):
        await door.fetch()
    records = [await door.record(number) for number in (1, 2, 3)]
    assert [record.cadence.chunks for record in records] == [20, 4, 20]
    assert records[0].duration == pytest.approx(long.duration / 4, abs=NEAR)
    assert [record.cadence.stall_count for record in records] == [0, 0, 0]


async def test_captured_text_is_said_again(gate: Any, provide: Any, rerun: Any, make: Any) -> None:
    """With its text the replay says what was said, each part at its own arrival; without, a mark for each token."""
    first, _ = await through(gate, make, await provide(temper=Temper(ttft="5ms", gap="10ms", tokens=6)), "openai")
    text = "Größe 🌊 of the weir"
    reads = first.cadence.arrivals
    cuts = [len(text) * (place + 1) // reads for place in range(reads)]
    known = recording(first, {"text": text, "reasoning": "", "tools": [], "cuts": cuts})
    assert "".join(arrival.text or "" for arrival in known.arrivals) == text
    for played, expected in ((known, text), (recording(first), "▪" * 6)):
        _, (call, client) = await through(gate, make, await rerun(played), "openai")
        assert "".join(getattr(event, "text", "") for event in make.heard(call, client.body)) == expected


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_tool_calls_are_made_again(gate: Any, start: Start, make: Any, dialect: str) -> None:
    """A stream that called two tools calls them again, by their names and with their arguments, after its text."""
    temper = Temper(ttft="5ms", gap="10ms", tokens=20, speech="tools")
    first, _ = await through(gate, make, await start.provide(temper=temper), dialect)
    tools = [{"id": "call_1", "name": "weather", "arguments": '{"place":"Oslo"}'}, {"id": "x", "name": "now", "arguments": ""}]
    played = recording(first, {"text": "", "reasoning": "", "tools": tools, "cuts": [0] * first.cadence.arrivals})
    again, (call, client) = await through(gate, make, await start.rerun(played), dialect)
    heard = make.heard(call, client.body)
    assert [event.name for event in heard if isinstance(event, ToolOpened)] == ["weather", "now"]
    assert "".join(event.text for event in heard if isinstance(event, Delta)).replace(" ", "") == '{"place":"Oslo"}{}'
    assert (again.outcome, again.finish) == ("completed", first.finish)


async def test_who_asks_for_a_document_gets_one(direct: Any, gate: Any, provide: Any, rerun: Any, make: Any) -> None:
    """A call that wants no stream is answered in one piece, when the stream was over; a broken one with an error."""
    first, _ = await through(gate, make, await provide(temper=STEADY), "openai")
    broken, _ = await through(gate, make, await provide(Truncate(after=5), STEADY), "openai")
    provider = await rerun(recording(first), recording(broken))
    async with asyncio.timeout(10):
        whole, failed = [await direct(provider, stream=None) for _ in range(2)]
    assert whole.document["choices"][0]["message"]["content"] == "▪" * 20
    assert whole.reads[0][0] - whole.sent_at == pytest.approx(first.duration, abs=NEAR)
    assert failed.status == 502
