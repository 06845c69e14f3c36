"""A client that leaves, in whatever phase: its upstream ends at once, one record says so, nothing is blamed, logged or left."""

import asyncio
from typing import Any

import pytest

from gateway.sim.faults import InOrder, NeverEnding, Silent, SlowFirstToken, Stall
from gateway.sim.load import Aborts, Load
from gateway.sim.tempers import Temper
from tests.rig.rounds import judged_in_rounds

LOOPS = "both"
WITHIN = 1.0
"""Seconds; it takes milliseconds. The rounds leave out a machine that is busy."""
PHASES = {
    "before headers": Silent(),
    "before the first token": SlowFirstToken(delay=30),
    "between pings": SlowFirstToken(delay=30, ping_every=0.05),
    "mid-stream": Stall(after=2, length=30),
    "inside an event": Stall(after=2, length=30, cut=12),
    "a whole answer": Silent(),
    "half an answer": Stall(after=1, length=30),
}


async def left(weir: Any, provider: Any, client: Any, until: Any, leave: str = "reset") -> Any:
    """Let the client go, and see what every phase must show."""
    at = getattr(client, leave)()
    request = provider.requests[-1]
    await until(lambda: request.closed_by, "the upstream's connection is closed", WITHIN)
    assert request.closed_by == "peer"
    assert request.closed_at - at < WITHIN
    record = await weir.record()
    assert (record.outcome, record.error) == ("client_disconnect", None)
    assert record.ended_at - at < WITHIN
    await until(lambda: weir.in_flight() == 0)
    assert len(weir.book.records) == 1
    assert {state.last_error for state in weir.targets()} <= {None}
    return record


@pytest.mark.parametrize("spare", [False, True], ids=["", "held"])
@pytest.mark.parametrize("phase", PHASES)
@judged_in_rounds
async def test_in_every_phase(provide: Any, gate: Any, until: Any, phase: str, spare: bool) -> None:
    """Before headers, before a token, mid-stream, non-stream, whether bytes are held or not: the provider sees it go (B1a B1b B1c B1f)."""
    provider = await provide(PHASES[phase])
    weir = await gate(provider, *([await provide()] if spare else []), first_token={"timeout": 60})
    client = await weir.ask(stream="answer" not in phase)
    await until(lambda: provider.total)
    if phase in {"mid-stream", "inside an event", "half an answer"}:
        await client.saw(b"content")
    elif phase != "before headers" and "answer" not in phase and not spare:
        await client.saw(b'"role"')
    record = await left(weir, provider, client, until)
    assert record.attempts[0].outcome == ("won" if record.winner is not None else "cancelled")


@judged_in_rounds
async def test_with_a_fin(provide: Any, gate: Any, until: Any) -> None:
    """A client that closes properly has left as much as one that resets."""
    provider = await provide(PHASES["mid-stream"])
    weir = await gate(provider)
    await left(weir, provider, await (await weir.ask()).saw(b"content"), until, "close")


@pytest.mark.parametrize("leave", ["reset", "close"])
@judged_in_rounds
async def test_while_clogged(provide: Any, gate: Any, until: Any, make: Any, leave: str) -> None:
    """A client that does not read and then leaves: the write it blocked is given up with it (B1d)."""
    provider = await provide(NeverEnding())
    weir = await gate(provider)
    client = await weir.client(segment=1000, buffer=4096)
    client.transport.pause_reading()
    client.ask(make.request())
    await until(lambda: any(live.ledger.owner == "client_blocked" for live in weir.plane.live.values()))
    record = await left(weir, provider, client, until, leave)
    assert record.seconds["client_blocked"] > 0


@judged_in_rounds
async def test_during_a_fallback(provide: Any, gate: Any, until: Any) -> None:
    """The second attempt ends with its client as the first would have (B1e)."""
    provider = await provide(Silent())
    weir = await gate(await provide(SlowFirstToken(delay=30)), provider, first_token={"timeout": 0.1})
    client = await weir.ask()
    await until(lambda: provider.total)
    record = await left(weir, provider, client, until)
    assert [attempt.outcome for attempt in record.attempts] == ["slow", "cancelled"]


@judged_in_rounds
async def test_during_a_hedge(provide: Any, gate: Any, until: Any) -> None:
    """Both racers end with their client."""
    first, second = await provide(Silent()), await provide(Silent())
    weir = await gate(first, second, first_token={"timeout": 0.1, "on_slow": "hedge", "hedge_limit": 1.0})
    client = await weir.ask()
    await until(lambda: second.total)
    record = await left(weir, second, client, until)
    assert [attempt.outcome for attempt in record.attempts] == ["cancelled", "cancelled"]
    assert first.requests[0].closed_by == "peer"


async def test_while_connecting(gate: Any, until: Any, full_backlog: Any) -> None:
    """A dial that hangs is given up with its client."""
    weir = await gate(full_backlog)
    client = await weir.ask()
    await until(lambda: weir.plane.live)
    client.reset()
    record = await weir.record()
    assert (record.outcome, record.attempts[0].outcome, record.attempts[0].sent_at) == ("client_disconnect", "cancelled", None)
    assert record.seconds["connect"] > 0


async def test_while_queued(provide: Any, gate: Any, until: Any) -> None:
    """A client that leaves the queue of a full upstream leaves its place too: the next in line gets the slot."""
    provider = await provide(InOrder([Stall(after=1, length=0.4)]))
    weir = await gate(provider, upstreams={"a": {"max_streams": 1}})
    running = await (await weir.ask()).saw(b"content")
    leaver, patient = await weir.ask(), await weir.ask()
    await until(lambda: len(weir.plane.live) == 3)
    leaver.reset()
    assert ((await weir.record()).outcome, provider.total) == ("client_disconnect", 1)
    await running.finish()
    assert ((await patient.finish()).status, provider.total) == (200, 2)


async def test_while_sending_its_call(provide: Any, gate: Any, make: Any) -> None:
    """Half a request and then nothing: the record says who it was, no upstream is called."""
    provider = await provide()
    weir = await gate(provider)
    client = (await weir.client()).ask(make.request()[:-20])
    await asyncio.sleep(0.05)
    client.reset()
    assert ((await weir.record()).outcome, provider.total) == ("client_disconnect", 0)


async def test_fifty_aborts_blame_nobody(provide: Any, gate: Any, until: Any) -> None:
    """Clients that leave, one after the other, change neither breaker nor estimate of their target (B6)."""
    provider = await provide(SlowFirstToken(delay=30))
    weir = await gate(provider)
    for number in range(50):
        client = await weir.ask()
        await until(lambda number=number: provider.total > number)
        client.reset()
        await weir.record(number + 1)
    [state] = weir.targets()
    assert (state.breaker, state.last_error, state.ttft) == ("closed", None, None)


async def test_a_crowd_that_comes_and_goes(provide: Any, gate: Any, until: Any) -> None:
    """Four hundred streams, half of whose clients leave at any moment: one record each, nothing left, not a word in the log (B7 G5)."""
    temper = Temper(ttft="uniform 0 20ms", gap="uniform 0 3ms", tokens="uniform 5 20")
    weir = await gate(await provide(temper=temper, seed=3), await provide(temper=temper, seed=4), policy="least-latency")
    load = Load(host="127.0.0.1", port=weir.port, streams=40, aborts=Aborts(0.5, tokens=(1, 10)), model="m")
    report = await load.run(total=400)
    await until(lambda: weir.in_flight() == 0)
    outcomes = [record.outcome for record in weir.book.records]
    assert set(outcomes) <= {"completed", "client_disconnect"}
    assert set(report.ends()) == {"fine", "aborted"}
    assert outcomes.count("completed") >= report.ends()["fine"]
    assert len(outcomes) <= 400  # one that left before its head was read was never a call
