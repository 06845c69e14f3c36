"""Stopping: no new calls, running streams run on, and at the deadline each is told why it ends; nothing is cut in silence."""

import asyncio
import time
from typing import Any

import pytest

from gateway.sim.faults import InOrder, NeverEnding, Silent, SlowFirstToken, Stall
from gateway.sim.steps import Hang
from gateway.sim.tempers import Temper
from tests.rig.rounds import judged_in_rounds

LOOPS = "both"
DONE = b"data: [DONE]\n\n"
LAST = b'"code":"server_shutdown"}}\n\n'


async def test_a_draining_worker_takes_no_calls(provide: Any, gate: Any, make: Any) -> None:
    """While a stream runs on, /readyz says 503, /livez 200, and a new call is refused on a connection that closes (B9)."""
    weir = await gate(await provide(Stall(after=1, length=0.4)))
    running = await (await weir.ask()).saw(b"content")
    kept = await weir.client()
    other = await weir.client()
    started = time.monotonic()
    draining = asyncio.get_running_loop().create_task(weir.worker.drain(10.0))
    await asyncio.sleep(0)
    ready = await kept.ask(b"GET /readyz HTTP/1.1\r\nHost: w\r\n\r\n").finish()
    assert (ready.status, ready.document) == (503, {"status": "draining"})
    assert (await kept.ask(b"GET /livez HTTP/1.1\r\nHost: w\r\n\r\n").finish()).status == 200
    await other.ask(make.request()).finish()
    assert (other.status, other.headers["connection"], other.document["error"]["code"]) == (503, "close", "server_shutdown")
    await other.gone()
    await running.finish()
    assert running.body.endswith(DONE)
    await draining
    assert time.monotonic() - started < 5.0  # it waits for the streams, not for the deadline
    assert sorted(record.outcome for record in weir.book.records) == ["completed", "rejected"]


async def test_streams_that_do_not_end_are_ended(provide: Any, gate: Any, until: Any) -> None:
    """At the deadline each stream gets an error event of its own and a proper end; its upstream is closed, and not to blame (B9)."""
    provider = await provide(NeverEnding(), Temper(ttft=0, gap="5ms", tokens=5))
    weir = await gate(provider)
    clients = [await (await weir.ask()).saw(b"content") for _ in range(3)]
    await weir.worker.drain(0.1)
    for client in clients:
        await client.gone()
        assert (client.body.endswith(LAST), client.complete, DONE in client.body) == (True, True, False)
    assert {(record.outcome, record.error, record.status) for record in weir.book.records} == {("shutdown", "server_shutdown", 200)}
    await until(lambda: {request.closed_by for request in provider.requests} == {"peer"})
    assert weir.targets()[0].last_error is None


PHASES = {
    "before headers": (Silent(), {}, 503),
    "before a token, held": (SlowFirstToken(delay=30), {"spare": True}, 503),
    "before a token": (SlowFirstToken(delay=30), {}, 200),
    "after a comment": (Silent(), {"server": {"keepalive": 0.1}}, 200),
    "a whole answer": (Silent(), {"stream": False}, 503),
    "inside an event": (Stall(after=1, length=30, cut=12), {}, 200),
}


@pytest.mark.parametrize("phase", PHASES)
async def test_in_every_phase(provide: Any, gate: Any, until: Any, phase: str) -> None:
    """Where nothing is out yet it is a 503, where something is it is an event: the client always learns why."""
    fault, more, status = PHASES[phase]
    provider = await provide(fault)
    spare = [await provide()] if more.get("spare") else []
    weir = await gate(provider, *spare, first_token={"timeout": 60}, server=more.get("server"))
    client = await weir.ask(stream=more.get("stream", True))
    await until(lambda: provider.total)
    await client.until(lambda: status == 503 or client.body)
    await weir.worker.drain(0.1)
    await client.gone()
    assert (client.status, client.complete) == (status, True)
    assert (client.body if status == 200 else client.body + b"\n\n").endswith(LAST)
    record = await weir.record()
    assert (record.outcome, record.error) == ("shutdown", "server_shutdown")
    await until(lambda: provider.requests[0].closed_by == "peer")


async def test_half_a_document_is_broken_off(provide: Any, gate: Any) -> None:
    """A document has no place for an error: it ends visibly short."""
    weir = await gate(await provide(Stall(after=1, length=30)))
    client = await (await weir.ask(stream=False)).until(lambda: True)
    await client.until(lambda: client.body)
    await weir.worker.drain(0.1)
    await client.gone()
    assert (client.status, client.complete) == (200, False)
    assert (await weir.record()).outcome == "shutdown"


async def test_a_stream_that_is_whole_has_not_been_cut(provide: Any, gate: Any, make: Any) -> None:
    """A stream that has said its end, though its connection is open still, completes; nothing is put after its [DONE]."""
    weir = await gate(await provide(make.chunked(make.event("a"), DONE, Hang())))
    client = await (await weir.ask()).saw(DONE)
    await weir.worker.drain(0.1)
    await client.finish()
    assert client.body == make.event("a") + DONE
    assert (await weir.record()).outcome == "completed"


async def test_a_client_that_does_not_read_delays_no_exit(provide: Any, gate: Any, make: Any, until: Any) -> None:
    """Whoever takes nothing cannot be told anything: the drain ends all the same, and the record says shutdown."""
    weir = await gate(await provide(NeverEnding()))
    client = await weir.client(segment=1000, buffer=4096)
    client.transport.pause_reading()
    client.ask(make.request())
    await until(lambda: any(live.ledger.owner == "client_blocked" for live in weir.plane.live.values()))
    started = time.monotonic()
    await weir.worker.drain(0.1)
    await weir.worker.close()
    assert time.monotonic() - started < 8.0
    assert (await weir.record()).outcome == "shutdown"


@judged_in_rounds
async def test_nothing_to_drain(provide: Any, gate: Any) -> None:
    """An idle worker drains at once."""
    weir = await gate(await provide())
    await weir.fetch()
    started = time.monotonic()
    await weir.worker.drain(30.0)
    assert time.monotonic() - started < 1.0


async def test_closing_without_draining(provide: Any, gate: Any) -> None:
    """An embedder that closes outright has shut its streams down; their clients did not leave."""
    provider = await provide(NeverEnding(), Temper(ttft=0, gap="5ms", tokens=5))
    weir = await gate(provider)
    client = await (await weir.ask()).saw(b"content")
    await weir.worker.close()
    await client.gone()
    assert (await weir.record()).outcome == "shutdown"


async def test_an_upload_at_the_deadline_is_told(provide: Any, gate: Any, make: Any, until: Any) -> None:
    """A call that is still being sent when the drain is over did not leave: it is refused by status, and recorded as shutdown (B9)."""
    weir = await gate(await provide())
    client = await weir.client()
    client.ask(make.request()[:-5])
    await until(lambda: weir.plane.arriving)
    await weir.worker.drain(0.1)
    await client.until(lambda: client.status)
    assert (client.status, client.headers["connection"]) == (503, "close")
    record = await weir.record()
    assert (record.outcome, record.error) == ("shutdown", "server_shutdown")


async def test_an_upload_that_ends_within_the_drain_is_carried(provide: Any, gate: Any, make: Any, until: Any) -> None:
    """It was accepted before the end was announced."""
    weir = await gate(await provide())
    client = await weir.client()
    client.ask(make.request()[:-5])
    await until(lambda: weir.plane.arriving)
    draining = asyncio.get_running_loop().create_task(weir.worker.drain(10.0))
    await asyncio.sleep(0.05)
    client.transport.write(make.request()[-5:])
    await client.finish()
    assert client.body.endswith(DONE)
    await draining


@judged_in_rounds
async def test_the_end_of_a_stream_that_its_client_did_not_take(provide: Any, gate: Any, make: Any, until: Any) -> None:
    """An upstream that has said everything does not make a stream complete whose client has not got it when the drain is over."""

    async def clogged(weir: Any, count: int) -> list[Any]:
        for _ in range(count):
            client = await weir.client(segment=1000, buffer=4096)
            client.transport.pause_reading()
            client.ask(make.request())
        living = weir.plane.live.values()
        await until(lambda: sum(live.ledger.owner == "client_blocked" and live.stop is not None for live in living) == count)
        return list(living)

    event, [endless] = make.event("x" * 4000), await clogged(await gate(await provide(NeverEnding())), 1)
    least = endless.reply.unsent() - endless.reply.transport.get_write_buffer_size() + 80_000  # what kernel and our buffer take
    bodies = [event * (size // len(event)) + DONE for size in range(least, least + 300_000, 10_000)]
    weir = await gate(await provide(InOrder([make.chunked(body) for body in bodies])))
    streams = await clogged(weir, len(bodies))
    await until(lambda: any(live.stop.__self__.ended for live in streams), "an upstream has ended")
    ended = {live.record.stream_id for live in streams if live.stop.__self__.ended}
    draining = asyncio.get_running_loop().create_task(weir.worker.drain(0.1))
    told = "what has ended is over before those that may still take their error event are given up"
    await until(lambda: ended <= {record.stream_id for record in weir.book.records}, told, 1.8)
    await draining
    await weir.worker.close()
    assert [(record.outcome, record.error) for record in weir.book.records] == [("shutdown", "server_shutdown")] * len(bodies)
