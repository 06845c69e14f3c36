"""What a worker tells while somebody looks on: every token of the streams that are shown, each once, and of silences whose they are."""

from typing import Any

import pytest

from gateway.core.messages import Heard, Moved, Stalled, Watching
from gateway.proxy import plane
from gateway.sim.faults import NO_FAULTS, NeverEnding, Stall
from gateway.sim.tempers import Temper
from tests.rig.rounds import judged_in_rounds

TALK = Temper(ttft=0, gap="10ms", tokens=60)
SLOW = {"segment": 1000, "buffer": 4096}


def told(weir: Any) -> list[tuple[float, int]]:
    """Return every token told of, by time."""
    return [pair for heard in weir.book.of(Heard) for pair in zip(heard.times, heard.many, strict=True)]


async def test_nothing_is_told_while_nobody_looks_on(provide: Any, gate: Any) -> None:
    """Tokens cost no message then, and none after the last onlooker has left."""
    weir = await gate(await provide(temper=TALK))
    await weir.fetch()
    weir.worker.obey(Watching(True))
    weir.worker.obey(Watching(False))
    await weir.fetch()
    assert weir.book.of(Heard) == []


async def test_every_token_is_told_once(provide: Any, gate: Any, until: Any) -> None:
    """From the first one on, also of those before somebody came, in order, each with the time at which its read brought it."""
    weir = await gate(await provide(NO_FAULTS, Temper(ttft=0, gap="10ms", tokens=150)))
    client = await weir.ask()
    await client.until(lambda: len(client.pieces) > 20)
    weir.worker.obey(Watching(True))
    await until(lambda: len(told(weir)) > 60)
    times = [at for at, _ in told(weir)]
    assert times == sorted(set(times))
    await client.finish()
    record = await weir.record()
    assert times[0] == record.first_token_at
    last = times[-1]
    meant = record.cadence
    before = sum(1 for tick in _offsets(meant.ticks) if record.first_token_at + tick <= last + 1e-4)
    assert len(times) == before


async def test_who_comes_later_is_told_of_the_past_once_more(provide: Any, gate: Any, until: Any) -> None:
    """Another page makes the worker begin anew, with so much of the past as is told at once."""
    weir = await gate(await provide(NeverEnding(), Temper(ttft=0, gap="2ms", tokens=5)))
    client = await weir.ask()
    await client.until(lambda: len(client.pieces) > plane.MOST_ARRIVALS + 100)
    for _ in range(2):
        weir.book.messages.clear()
        weir.worker.obey(Watching(True))
        await until(lambda: weir.book.of(Heard))
        assert len(weir.book.of(Heard)[0].times) == plane.MOST_ARRIVALS


@judged_in_rounds
async def test_reasoning_is_told_from_the_answer(provide: Any, gate: Any, until: Any) -> None:
    """Until the first token of the answer there is no time of it; from then on every message has it."""
    weir = await gate(await provide(NO_FAULTS, Temper(ttft=0, gap="20ms", tokens=60, reasoning=40)))
    weir.worker.obey(Watching(True))
    await weir.fetch()
    record = await weir.record()
    answers = [heard.answer for heard in weir.book.of(Heard)]
    assert answers[0] is None
    assert set(answers) == {None, record.first_answer_at}
    assert answers == sorted(answers, key=lambda answer: answer is not None)


async def test_only_the_streams_that_are_shown_are_told_of(provide: Any, gate: Any, until: Any) -> None:
    """Of a share of them those whose ids are in it, for all of their life, and no others."""
    weir = await gate(await provide(NO_FAULTS, Temper(ttft=0, gap="20ms", tokens=100)))
    watching = Watching(True, 0.5)
    weir.worker.obey(watching)
    clients = [await weir.ask() for _ in range(20)]
    for client in clients:
        await client.finish()
    await weir.record(20)
    assert {heard.stream_id for heard in weir.book.of(Heard)} == {r.stream_id for r in weir.book.records if watching.shows(r.stream_id)}
    assert weir.plane.shown == {}


async def test_one_worker_tells_of_so_many_streams_at_most(provide: Any, gate: Any, until: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """When one that is told of ends, there is room for another."""
    monkeypatch.setattr(plane, "MOST_SHOWN", 2)
    weir = await gate(await provide(NeverEnding(), Temper(ttft=0, gap="10ms", tokens=5)))
    weir.worker.obey(Watching(True))
    clients = [await weir.ask() for _ in range(4)]
    await until(lambda: len(weir.book.of(Heard)) >= 8)
    first = {heard.stream_id for heard in weir.book.of(Heard)}
    assert len(first) == 2
    for client in clients[:4]:
        if client.headers.get("x-weir-stream-id") in first:
            client.transport.abort()
    await until(lambda: len({heard.stream_id for heard in weir.book.of(Heard)}) == 4)


@judged_in_rounds
async def test_a_race_is_told_as_one(provide: Any, gate: Any, until: Any) -> None:
    """While two targets race the stream is hedging, with the name of the second; the winner's first token ends that."""
    late = await provide(NO_FAULTS, Temper(ttft="20s"))
    later = await provide(NO_FAULTS, Temper(ttft="700ms", gap="10ms", tokens=60))
    weir = await gate(late, later, first_token={"timeout": "100ms", "on_slow": "hedge", "hedge_limit": "100%"})
    await weir.fetch()
    moves = [(moved.state, moved.upstream) for moved in weir.book.of(Moved)]
    assert ("hedging", "b") in moves
    assert moves[-1] == ("streaming", "b")
    assert {state for state, upstream in moves if upstream == "b"} == {"hedging", "streaming"}


@judged_in_rounds
async def test_a_stall_of_a_client_is_told_while_it_lasts(provide: Any, gate: Any, until: Any, make: Any) -> None:
    """A client that takes nothing for longer than the threshold is named at once, once, and counted once (D8)."""
    said = make.chunked(*[make.event("x" * 100_000)] * 120, make.event(finish="stop"), b"data: [DONE]\n\n")
    weir = await gate(await provide(said), stall={"threshold": 0.3})
    client = await weir.client(**SLOW)
    client.transport.pause_reading()
    client.ask(make.request())
    await until(lambda: weir.book.of(Stalled))
    [stalled] = weir.book.of(Stalled)
    assert (stalled.blame, stalled.phase) == ("client", "streaming")
    assert next(iter(weir.plane.live.values())).state == "stalled"
    client.transport.resume_reading()
    await client.finish(60.0)
    record = await weir.record()
    assert set(record.cadence.stall_time) == {"client"}
    assert record.cadence.stall_count >= len(weir.book.of(Stalled))


@judged_in_rounds
async def test_a_silence_is_told_within_two_seconds(provide: Any, gate: Any, until: Any) -> None:
    """By default a second passes before a silence is one, and a look at each stream comes four times a second."""
    weir = await gate(await provide(Stall(after=3, length=2.5), TALK))
    client = await weir.ask()
    await until(lambda: weir.book.of(Stalled))
    [stalled] = weir.book.of(Stalled)
    assert stalled.blame == "upstream"
    assert 1.0 < weir.plane.clock() - stalled.at < 1.6
    await client.finish()


def _offsets(ticks: list[int]) -> list[float]:
    sums, at = [], 0
    for tick in ticks:
        at += tick
        sums.append(at * 1e-4)
    return sums
