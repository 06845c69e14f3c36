"""A race between two targets: the first token wins, the loser is closed, told as lost and blamed for nothing."""

from typing import Any

from gateway.sim.faults import ErrorEvent, InOrder, SlowFirstToken, Status
from gateway.sim.tempers import Temper
from tests.rig.rounds import judged_in_rounds

HEDGE = {"timeout": 0.2, "on_slow": "hedge", "hedge_limit": 1.0}


@judged_in_rounds
async def test_the_first_token_wins(provide: Any, gate: Any, direct: Any, until: Any) -> None:
    """Not the first byte: a target that pings and names its role loses to one that speaks, and its socket goes (B11)."""
    first, second = (
        await provide(SlowFirstToken(delay=30, ping_every=0.02)),
        await provide(temper=Temper(ttft="100ms", gap=0, tokens=2), seed=5),
    )
    weir = await gate(first, second, first_token=HEDGE, usage="leave")
    client = await weir.fetch()
    record = await weir.record()
    twin = await provide(temper=Temper(ttft="100ms", gap=0, tokens=2), seed=5)
    assert client.body == (await direct(twin)).body
    assert (client.headers["x-weir-upstream"], client.headers["x-weir-attempts"]) == ("b", "2")
    await until(lambda: first.requests[0].closed_by == "peer")
    assert [(a.why, a.outcome, a.error) for a in record.attempts] == [("first", "hedge_lost", None), ("hedge", "won", None)]
    assert (record.hedged, record.outcome, record.fallback_reason) == (True, "completed", "slow_first_token")
    assert weir.targets()[0].last_error is None


@judged_in_rounds
async def test_the_slow_one_may_still_win(provide: Any, gate: Any, until: Any) -> None:
    """A hedge costs the first target nothing: if it speaks first it has won, and the other is closed."""
    first, second = await provide(temper=Temper(ttft="350ms", gap=0, tokens=2)), await provide(SlowFirstToken(delay=30))
    weir = await gate(first, second, first_token=HEDGE)
    client = await weir.fetch()
    record = await weir.record()
    assert client.headers["x-weir-upstream"] == "a"
    assert [a.outcome for a in record.attempts] == ["won", "hedge_lost"]
    await until(lambda: second.requests[0].closed_by == "peer")


@judged_in_rounds
async def test_an_error_does_not_win(provide: Any, gate: Any) -> None:
    """A hedge that fails leaves the race to the one still in it, whatever status came first."""
    for fault in (Status(500), Status(400), ErrorEvent(after=0)):
        weir = await gate(await provide(temper=Temper(ttft="400ms", gap=0, tokens=2)), await provide(fault), first_token=HEDGE)
        client = await weir.fetch()
        assert (client.status, client.headers["x-weir-upstream"]) == (200, "a")
        assert next(a.outcome for a in (await weir.record()).attempts) == "won"


@judged_in_rounds
async def test_the_first_may_fail_while_the_hedge_runs(provide: Any, gate: Any, make: Any) -> None:
    """When the first one breaks after the hedge was sent, the hedge is all there is, and its frames are held no longer."""
    first = await provide(make.chunked(b": x\n\n", 0.3, b'data: {"error":{"code":"late"}}\n\n'))
    second = await provide(SlowFirstToken(delay=0.5))
    weir = await gate(first, second, first_token=HEDGE)
    client = await weir.fetch()
    record = await weir.record()
    assert (client.status, client.headers["x-weir-upstream"], record.outcome) == (200, "b", "completed")
    assert [a.outcome for a in record.attempts] == ["error_event", "won"]
    assert client.pieces[0][0] < client.pieces[-1][0] - 0.1  # the role came before the token, at once


@judged_in_rounds
async def test_hedges_are_limited(provide: Any, gate: Any) -> None:
    """Of ten slow calls a limit of 5 % lets one be raced; the others wait for the target they have (B11)."""
    first, second = await provide(temper=Temper(ttft="120ms", gap=0, tokens=1)), await provide(InOrder([SlowFirstToken(delay=30)] * 9))
    weir = await gate(first, second, first_token={"timeout": 0.05, "on_slow": "hedge"})
    for _ in range(5):
        assert (await weir.fetch()).headers["x-weir-upstream"] == "a"
    assert sum(record.hedged for record in weir.book.records) == 1
    assert second.total == 1


@judged_in_rounds
async def test_waiting_is_a_choice(provide: Any, gate: Any) -> None:
    """`on_slow: wait` asks nobody else."""
    other = await provide()
    weir = await gate(await provide(temper=Temper(ttft="200ms", gap=0, tokens=1)), other, first_token={"timeout": 0.05, "on_slow": "wait"})
    assert ((await weir.fetch()).headers["x-weir-upstream"], other.total) == ("a", 0)
