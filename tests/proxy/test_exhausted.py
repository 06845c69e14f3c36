"""When no target answers: one clear error in the caller's dialect, with the last failure's status; and how often that was tried."""

from typing import Any

import pytest

from gateway.sim.faults import ErrorEvent, InOrder, PingStorm, Refuse, Script, Silent, Status
from gateway.sim.plan import head
from gateway.sim.steps import End, Reset, Send, framed

HEAD = Send(head(200, {"Content-Type": "text/event-stream"}))
ERROR = Send(b'data: {"error":{"code":"overloaded","message":"secret"}}\n\n', "body")
LAST = {
    "error event": (Script((HEAD, *framed((ERROR, End())))), 503, "overloaded"),
    "reset": (Script((HEAD, Reset())), 502, "connection_reset"),
    "closed": (Refuse(), 502, "connection_closed"),
    "silent": (Silent(), 504, "upstream_silent"),
    "only pings": (PingStorm(every=0.02), 504, "no_progress"),
}
OUTCOMES = {"error event": "upstream_error", "silent": "upstream_stalled", "only pings": "upstream_stalled"}


@pytest.mark.parametrize("how", LAST)
async def test_the_last_failure_is_the_answer(provide: Any, gate: Any, how: str) -> None:
    """Two targets fail before they speak: OpenAI's error shape, a proxy's status, and no word of the upstream's own."""
    fault, status, code = LAST[how]
    weir = await gate(await provide(Status(503)), await provide(fault), stall={"liveness": 0.3, "progress": 0.5})
    client = await weir.fetch()
    record = await weir.record()
    if how == "only pings":  # the last target's preamble is not held, so the failure can only be told as an event
        assert client.body.rpartition(b"data: ")[2].endswith(b'"code":"no_progress"}}\n\n')
        assert client.headers["x-weir-upstream"] == "b"
    else:
        assert (client.status, client.document["error"]["code"], client.headers["content-type"]) == (status, code, "application/json")
        assert set(client.document["error"]) == {"message", "type", "param", "code"}
        assert "x-weir-upstream" not in client.headers
    assert b"secret" not in client.body
    assert client.headers["x-weir-attempts"] == "2"
    assert (record.outcome, record.error) == (OUTCOMES.get(how, "upstream_truncated"), code)


async def test_a_last_status_is_passed_on(provide: Any, gate: Any) -> None:
    """If the last target answers with an error status of its own, that is the answer, Retry-After included."""
    weir = await gate(await provide(ErrorEvent(after=0)), await provide(Status(503, retry_after=9)))
    client = await weir.fetch()
    record = await weir.record()
    assert (client.status, client.headers["retry-after"], client.headers["x-weir-upstream"]) == (503, "9", "b")
    assert (record.outcome, record.error, record.status) == ("upstream_error", "503", 503)


async def test_a_passing_trouble_is_tried_again(provide: Any, gate: Any) -> None:
    """One target, 503 twice, then well: the same target is asked again after a short wait (at most 3 attempts)."""
    provider = await provide(InOrder([Status(503), Status(503)]))
    weir = await gate(provider)
    client = await weir.fetch()
    record = await weir.record()
    assert (client.status, provider.total) == (200, 3)
    assert [(a.why, a.outcome) for a in record.attempts] == [("first", "status"), ("retry", "status"), ("retry", "won")]
    assert provider.requests[1].at - provider.requests[0].at >= 0.07
    assert record.seconds["queue"] > 0.2
    assert float(client.headers["server-timing"].partition(",")[0].removeprefix("queue;dur=")) > 200


async def test_it_is_not_tried_for_ever(provide: Any, gate: Any) -> None:
    """`retry.attempts` counts the first try too."""
    provider = await provide(Status(503))
    weir = await gate(provider, retry={"attempts": 2})
    assert ((await weir.fetch()).status, provider.total) == (503, 2)


async def test_a_short_retry_after_is_waited_for(provide: Any, gate: Any) -> None:
    """What the upstream asks for is granted before it is asked again."""
    provider = await provide(InOrder([Status(429, retry_after=0.4)]))
    weir = await gate(provider)
    assert ((await weir.fetch()).status, provider.total) == (200, 2)
    assert provider.requests[1].at - provider.requests[0].at >= 0.4


async def test_retries_have_a_budget(provide: Any, gate: Any) -> None:
    """An upstream that is down sees few calls more than the clients make: 10 extra, then 20 % of the calls (B10)."""
    provider = await provide(Status(503))
    weir = await gate(provider, breaker={"failures": 10_000})
    for _ in range(30):
        assert (await weir.fetch()).status == 503
        if provider.total - len(weir.book.records) >= 10:
            break
    extra = provider.total - len(weir.book.records)
    for _ in range(10):
        await weir.fetch()
    assert extra == 10
    assert provider.total - len(weir.book.records) == 10


async def test_a_budget_of_nothing(provide: Any, gate: Any) -> None:
    """`retry.budget: 0%` asks no target twice."""
    provider = await provide(Status(503))
    weir = await gate(provider, retry={"budget": 0})
    assert ((await weir.fetch()).status, provider.total) == (503, 1)


async def test_a_client_may_leave_while_we_wait(provide: Any, gate: Any, until: Any) -> None:
    """Between two attempts a client that goes is noticed, and the next attempt is not made."""
    provider = await provide(Status(429, retry_after=4))
    weir = await gate(provider)
    client = await weir.ask()
    await until(lambda: any(state.last_error for state in weir.targets()))
    client.reset()
    assert ((await weir.record()).outcome, provider.total) == ("client_disconnect", 1)
