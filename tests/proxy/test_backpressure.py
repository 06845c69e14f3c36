"""A client that reads slowly makes its upstream wait, not our memory grow; the time is the client's, and is not for ever."""

import asyncio
from typing import Any

import pytest

from gateway.core.messages import Stalled
from gateway.sim.faults import InOrder, NeverEnding, Script
from gateway.sim.plan import head
from gateway.sim.steps import Hang, Send
from tests.rig.rounds import judged_in_rounds

LOOPS = "both"
SLOW = {"segment": 1000, "buffer": 4096}
EVENT = b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % (b"x" * 4000)
DONE = b"data: [DONE]\n\n"
KERNEL = 8 * 1024**2
"""What four socket buffers on loopback may hold, generously; a relay that did not wait would hold everything."""


async def clogged(weir: Any, until: Any) -> Any:
    """Wait until the gateway waits for its only client, and return that stream."""
    return await until(
        lambda: next((live for live in weir.plane.live.values() if live.ledger.owner == "client_blocked" and live.stop), None)
    )


async def unread(weir: Any, make: Any, **body: Any) -> Any:
    """Ask, and read nothing."""
    client = await weir.client(**SLOW)
    client.transport.pause_reading()
    return client.ask(make.request(**body))


@judged_in_rounds
async def test_the_upstream_waits_for_the_client(provide: Any, gate: Any, make: Any, until: Any) -> None:
    """Unread, the upstream sends no more than buffers hold; then all of it comes, verbatim, and the silence was the client's (E1a)."""
    body = EVENT * 8000
    provider = await provide(make.chunked(*(body[at : at + 500_000] for at in range(0, len(body), 500_000)), DONE))
    weir = await gate(provider, stall={"threshold": 0.2, "liveness": 0.5, "progress": 0.6})
    client = await unread(weir, make)
    await clogged(weir, until)
    await asyncio.sleep(1.0)  # longer than liveness and progress: neither runs while it is us who do not read (B5)
    sent = provider.requests[0].bytes_sent
    await asyncio.sleep(0.1)
    assert provider.requests[0].bytes_sent == sent
    assert sent < KERNEL < len(body)
    assert client.transport.get_write_buffer_size() == 0
    client.transport.resume_reading()
    await client.finish(30.0)
    record = await weir.record()
    assert client.body == body + DONE
    assert (record.outcome, record.bytes) == ("completed", len(body + DONE))
    assert record.seconds["client_blocked"] > 1.0
    assert set(record.cadence.stall_time) == {"client"}
    assert [stall.blame for stall in weir.book.of(Stalled) if stall.blame != "client"] == []


async def test_the_gateway_holds_little(provide: Any, gate: Any, make: Any, until: Any) -> None:
    """What waits in the gateway for one client is its high-water mark and one read (E1a)."""
    weir = await gate(await provide(NeverEnding()))
    await unread(weir, make)
    live = await clogged(weir, until)
    await asyncio.sleep(0.3)
    assert live.reply.transport.get_write_buffer_size() < 64 * 1024 + 512 * 1024


@judged_in_rounds
async def test_a_client_that_never_reads_is_dropped(provide: Any, gate: Any, make: Any, until: Any) -> None:
    """After `write_timeout` without a byte taken: client_stalled, the upstream closed, nobody blamed but the client (E1b)."""
    provider = await provide(NeverEnding())
    weir = await gate(provider, client={"write_timeout": 0.4})
    client = await unread(weir, make)
    record = await weir.record()
    await until(lambda: provider.requests[0].closed_by == "peer")
    client.transport.resume_reading()
    await client.gone()
    assert (record.outcome, record.error, client.complete) == ("client_stalled", "write_timeout", False)
    assert record.seconds["client_blocked"] > 0.3
    assert weir.targets()[0].last_error is None


@pytest.mark.parametrize("kind", ["text/event-stream", "application/json"])
@judged_in_rounds
async def test_also_when_the_upstream_has_ended(provide: Any, gate: Any, make: Any, until: Any, kind: str) -> None:
    """An answer whose end waits in our buffer for a client that takes nothing has not reached it: stalled, not completed (E1b)."""
    weir = await gate(await provide(NeverEnding()))
    await unread(weir, make)
    live = await clogged(weir, until)
    kernel = live.reply.unsent() - live.reply.transport.get_write_buffer_size()
    least = kernel + 64 * 1024 + 16_000  # more than the kernel and our buffer below its high-water mark take for this client
    sizes = range(least, least + 300_000, 10_000)
    bodies = [EVENT * (size // len(EVENT)) + DONE for size in sizes]
    provider = await provide(InOrder([Script((Send(head(200, {"Content-Type": kind}, len(body)) + body),)) for body in bodies]))
    weir = await gate(provider, client={"write_timeout": 0.4})
    clients = [await unread(weir, make, stream=kind.startswith("text")) for _ in sizes]
    await weir.record(len(sizes))
    for record in weir.book.records:
        assert (record.outcome, record.error, record.attempts[0].outcome) == ("client_stalled", "write_timeout", "won")
        assert record.seconds["client_blocked"] > 0.3
    for client in clients:
        client.transport.resume_reading()
        await client.gone()
        assert not client.complete


@judged_in_rounds
async def test_a_slow_reader_is_not_a_dead_one(provide: Any, gate: Any, make: Any, until: Any) -> None:
    """Whoever takes something now and then keeps its stream, however slow."""
    weir = await gate(await provide(NeverEnding()), client={"write_timeout": 0.6})
    client = await unread(weir, make)
    await clogged(weir, until)
    for _ in range(8):
        client.transport.resume_reading()
        reads = len(client.reads)
        await client.until(lambda reads=reads: len(client.reads) > reads + 3)
        client.transport.pause_reading()
        await asyncio.sleep(0.25)
    assert weir.book.records == []
    client.reset()
    assert (await weir.record()).outcome == "client_disconnect"


@pytest.mark.parametrize("length", [True, False], ids=["length", "chunks"])
async def test_documents_wait_too(provide: Any, gate: Any, make: Any, until: Any, length: bool) -> None:
    """A large answer in one piece is held back for a slow client as a stream is."""
    body = b'{"data":"' + b"x" * 16_000_000 + b'"}'
    answer = Script((Send(head(200, {"Content-Type": "application/json"}, len(body)) + body), Hang()))
    if not length:
        answer = make.chunked(body, head=head(200, {"Content-Type": "application/json"}))
    weir = await gate(await provide(answer))
    client = await unread(weir, make, stream=False)
    live = await clogged(weir, until)
    assert live.reply.transport.get_write_buffer_size() < 64 * 1024 + 512 * 1024
    client.transport.resume_reading()
    await client.finish(30.0)
    record = await weir.record()
    assert client.body == body
    assert (record.outcome, record.parser_errors) == ("completed", {"oversize": 1})
