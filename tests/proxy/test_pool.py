"""Connections to an upstream: kept, reused, noticed when stale, counted; and the queue of a full upstream."""

import asyncio
from typing import Any

import pytest

from gateway.core.messages import Begun
from gateway.sim.faults import InOrder, Refuse, Script, Stall
from gateway.sim.plan import head
from gateway.sim.steps import Fin, Send
from gateway.sim.tempers import Temper
from tests.rig.rounds import judged_in_rounds

LOOPS = "both"


def connections(provider: Any) -> list[int]:
    return [request.connection for request in provider.requests]


async def test_a_connection_is_used_again(provide: Any, gate: Any) -> None:
    """Calls one after the other go over one connection, calls at once over one each, and those are kept."""
    provider = await provide(temper=Temper(ttft="50ms", gap=0, tokens=1))
    weir = await gate(provider)
    for _ in range(3):
        await weir.fetch()
    assert connections(provider) == [1, 1, 1]
    await asyncio.gather(*(weir.fetch() for _ in range(5)))
    assert (len(set(connections(provider))), provider.connections) == (5, 5)
    await asyncio.gather(*(weir.fetch() for _ in range(5)))
    assert provider.connections == 5


async def test_a_stale_connection_is_replaced_once(provide: Any, gate: Any, until: Any) -> None:
    """An idle connection that closes as the call is written costs a new connection, not an error, and blames nobody (B8)."""
    provider = await provide(InOrder([Script((Send(head(200, {"Content-Type": "application/json"}, 2) + b"{}"),)), Refuse()]))
    weir = await gate(provider)
    await weir.fetch()
    client = await weir.fetch()
    record = await weir.record(2)
    assert (client.status, client.body.endswith(b"[DONE]\n\n"), connections(provider)) == (200, True, [1, 1, 2])
    assert (record.outcome, len(record.attempts), record.attempts[0].outcome) == ("completed", 1, "won")
    assert weir.targets()[0].last_error is None
    assert [told.attempts[0].redialed for told in weir.book.records] == [False, True]


async def test_a_new_connection_that_closes_is_no_stale_one(provide: Any, gate: Any) -> None:
    """Closed without a byte on a fresh connection is a failure: asked once, not twice (B8)."""
    provider = await provide(InOrder([Refuse()]))
    weir = await gate(provider, retry={"attempts": 1})
    client = await weir.fetch()
    assert (client.status, provider.total, provider.refused) == (502, 0, 1)


async def test_after_one_byte_nothing_is_sent_twice(provide: Any, gate: Any) -> None:
    """A reused connection that breaks when the answer has begun is a broken answer: the call is not sent again (B8)."""
    provider = await provide()
    weir = await gate(provider, retry={"attempts": 1})
    await weir.fetch()
    provider.faults = InOrder([Script((Send(b"HTTP/1.1 200 OK\r\nContent-Le"), Fin()))])
    assert (await weir.fetch()).status == 502
    assert (connections(provider), (await weir.record(2)).outcome) == ([1, 1], "upstream_truncated")


async def test_hang_ups_are_noticed_while_idle(provide: Any, gate: Any, until: Any) -> None:
    """A server that ends its keep-alive takes the connection out of the pool; the next call opens a new one."""
    provider = await provide()
    weir = await gate(provider)
    await weir.fetch()
    assert provider.hang_up() == 1
    await until(lambda: provider.connections == 0)
    assert (await weir.fetch()).status == 200
    assert connections(provider) == [1, 2]


async def test_many_hang_ups_at_the_worst_moment(provide: Any, gate: Any) -> None:
    """Idle connections closed just as calls are written to them: every client gets its answer."""
    provider = await provide()
    weir = await gate(provider)
    for _ in range(10):
        await asyncio.gather(*(weir.fetch() for _ in range(4)))
        asyncio.get_running_loop().call_soon(provider.hang_up)
        clients = await asyncio.gather(*(weir.fetch() for _ in range(4)))
        assert {client.status for client in clients} == {200}
    assert {record.outcome for record in weir.book.records} == {"completed"}


@pytest.mark.parametrize("size", [70_000, 150_000, 1_000_000])
async def test_a_large_answer_leaves_the_connection_fit(provide: Any, gate: Any, size: int) -> None:
    """However the last read of an answer fell, and whatever was paused then, the next call on the connection is read."""
    body = b'{"data":"' + b"x" * size + b'"}'
    provider = await provide(Script((Send(head(200, {"Content-Type": "application/json"}, len(body)) + body),)))
    weir = await gate(provider)
    for _ in range(4):
        assert (await weir.fetch(stream=False)).body == body
    assert connections(provider) == [1, 1, 1, 1]


@judged_in_rounds
async def test_streams_queue_at_a_full_upstream(provide: Any, gate: Any, until: Any) -> None:
    """With max_streams 1 the second call waits for the first to end; the wait is the queue's and is told so."""
    provider = await provide(InOrder([Stall(after=1, length=0.3)]))
    weir = await gate(provider, upstreams={"a": {"max_streams": 1}})
    first = await (await weir.ask()).saw(b"content")
    second = await weir.ask()
    await until(lambda: len(weir.plane.live) == 2)
    assert "queue" in [begun.state for begun in weir.book.of(Begun)]
    await first.finish()
    await second.finish()
    record = await weir.record(2)
    assert (second.status, provider.total, connections(provider)) == (200, 2, [1, 1])
    assert record.seconds["queue"] > 0.15
    assert record.seconds.get("upstream_wait", 0) < 0.15
    assert float(second.headers["server-timing"].partition(",")[0].removeprefix("queue;dur=")) > 150


async def test_the_queue_is_first_come_first_served(provide: Any, gate: Any, until: Any) -> None:
    """Slots go to who waits longest; all of ten calls over two slots are served in order."""
    provider = await provide(temper=Temper(ttft="10ms", gap=0, tokens=1))
    weir = await gate(provider, upstreams={"a": {"max_streams": 2}})
    clients = []
    for number in range(10):
        clients.append(await weir.ask(model=f"m{number}"))
        await until(lambda number=number: len(weir.book.of(Begun)) > number)
    for client in clients:
        assert (await client.finish()).status == 200
    asked = [request.body.partition(b'"model":"')[2][:2] for request in provider.requests]
    assert asked == [b"m%d" % number for number in range(10)]
    assert provider.connections == 2


async def test_waiting_in_our_queue_is_no_failure_of_the_upstream(provide: Any, gate: Any) -> None:
    """A call queued for longer than `liveness` is neither given up nor held against the upstream."""
    provider = await provide(InOrder([Stall(after=1, length=0.3)] * 3))
    weir = await gate(provider, upstreams={"a": {"max_streams": 1}}, stall={"liveness": 0.6, "progress": 5})
    clients = await asyncio.gather(*(weir.fetch() for _ in range(4)))
    assert {client.status for client in clients} == {200}
    assert {record.outcome for record in weir.book.records} == {"completed"}
    assert weir.targets()[0].last_error is None
