"""What one stream may cost: a client that does not read holds its upstream back, large events cost in proportion, no queue is hidden."""

import asyncio
import statistics
import time
from typing import Any

import pytest

from gateway.core.prompt import Prompt, Text, Turn
from gateway.dialects import DIALECTS
from gateway.sim.steps import Hang
from gateway.stream.cadence import CadenceMeter
from gateway.stream.observer import Observer
from tests.faults.audience import heard, owned
from tests.faults.everywhere import in_every_dialect, opened
from tests.faults.scripts import ask, fetch
from tests.faults.tongue import Tongue
from tests.faults.tongues import TONGUES
from tests.rig.fixtures import open_sockets
from tests.rig.rounds import judged_in_rounds

HELLO = Prompt(model="m", stream=True, turns=(Turn("user", (Text("hello"),)),), max_tokens=50)
BIG, MANY = "x" * 50_000, 400
KERNEL = 8 * 1024**2
"""What four socket buffers on loopback may hold, generously; a relay that did not wait would hold all of MANY x BIG."""
HELD = 64 * 1024 + 512 * 1024
"""Our high-water mark, and one read beyond it."""
MIB, LINEAR, TRIES = 1024**2, 6.0, 4
CROWD = 300


@pytest.mark.parametrize("dialect", DIALECTS)
@judged_in_rounds
async def test_a_client_that_reads_nothing(provide: Any, gate: Any, until: Any, dialect: str) -> None:
    """Its upstream is made to wait, we hold little, and after `write_timeout` it is dropped and nobody else is blamed (E1a E1b)."""
    tongue = TONGUES[dialect]
    provider = await provide(opened(tongue, *[tongue.token(BIG)] * MANY, Hang()))
    weir = await gate(provider, dialects=[dialect], client={"write_timeout": 0.5}, stall={"liveness": 0.3, "progress": 0.3})
    async with heard(weir) as audience:
        client = await weir.client(segment=1000, buffer=4096)
        client.transport.pause_reading()
        client.ask(tongue.request())
        [live] = await until(lambda: [live for live in weir.plane.live.values() if live.ledger.owner == "client_blocked" and live.stop])
        held = 0
        while not weir.book.records:
            await asyncio.sleep(0.01)
            held = max(held, live.reply.transport.get_write_buffer_size())
        record = await weir.record()
        [span] = await audience.spans()
    assert (record.outcome, record.error, record.attempts[0].error) == ("client_stalled", "write_timeout", None)
    assert 0 < held < HELD
    assert provider.requests[0].bytes_sent < KERNEL < MANY * len(BIG)
    assert owned(span)["client_blocked"] >= 0.5
    assert weir.targets()[0].last_error is None
    await until(lambda: provider.requests[0].closed_by == "peer")
    client.transport.resume_reading()
    await client.gone()
    assert not client.complete


@pytest.mark.parametrize(("size", "large"), [(64, MIB), (64 * 1024, 4 * MIB)])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_large_event_costs_in_proportion(dialect: str, size: int, large: int) -> None:
    """An event four times as large takes about four times the CPU, in reads of 64 bytes and in large ones (E2)."""
    tongue = TONGUES[dialect]

    def work(total: int) -> float:
        call = DIALECTS[dialect].compose(HELLO)
        cut, see = DIALECTS[dialect].framing(call).cutter().push, Observer(DIALECTS[dialect], call, CadenceMeter(1.0)).feed
        stream = tongue.speech("small", "x" * total, "small")
        reads = [stream[at : at + size] for at in range(0, len(stream), size)]
        started = time.process_time()
        for read in reads:
            if whole := cut(read):
                see(whole, 0.0)
        return time.process_time() - started

    ratios: list[float] = []
    while len(ratios) < TRIES and (not ratios or ratios[-1] > LINEAR):
        ratios.append(work(large) / work(large // 4))
    assert min(ratios) <= LINEAR, ratios


@pytest.mark.parametrize("dialect", ["openai", "bedrock", "ollama"])
@judged_in_rounds
async def test_three_hundred_at_once(provide: Any, gate: Any, until: Any, dialect: str) -> None:
    """The last of 300 streams to one host begins as soon as the first, none waits in a queue, and every socket comes back (E3 B7)."""
    tongue = TONGUES[dialect]
    provider = await provide(opened(tongue, tongue.token("one"), Hang()))
    weir = await gate(provider, dialects=[dialect], upstreams={"a": {"max_streams": 2 * CROWD}})
    before = open_sockets()
    clients = [await (await ask(weir, tongue)).saw(tongue.token("one")) for _ in range(CROWD)]
    assert (provider.open_streams, len(weir.plane.live)) == (CROWD, CROWD)
    for client in clients:
        client.reset()
    await weir.record(CROWD)
    await until(lambda: open_sockets() <= before, "every socket is given back")
    records = sorted(weir.book.records, key=lambda record: record.received_at)
    assert {record.seconds.get("queue", 0.0) for record in records} == {0.0}
    early, late = (statistics.median(record.ttft for record in part) for part in (records[:30], records[-30:]))
    assert late < 2 * early + 0.005


async def test_a_queue_that_is_wanted_is_measured(provide: Any, gate: Any, until: Any) -> None:
    """Beyond `max_streams` calls wait in order, and the wait is in their spans and no upstream's (E3)."""

    async def story(tongue: Tongue) -> None:
        provider = await provide(opened(tongue, tongue.token("one"), 0.3, tongue.proper))
        weir = await gate(provider, dialects=[tongue.name], upstreams={"a": {"max_streams": 2}})
        async with heard(weir) as audience:
            clients = []
            for number in range(4):
                clients.append(await ask(weir, tongue))
                await until(lambda number=number: len(weir.plane.live) > number)
            for client in clients:
                assert tongue.ended((await client.finish()).body)
            await weir.record(4)
            waits = [owned(span)["queue"] for span in await audience.spans()]
        records = weir.book.records
        assert [wait > 0.2 for wait in sorted(waits)] == [False, False, True, True]
        assert max(record.attempts[0].first_token_at - record.attempts[0].sent_at for record in records) < 0.2
        assert provider.total == 4

    await in_every_dialect(story)


async def test_a_thousand_answers_leave_nothing(provide: Any, gate: Any) -> None:
    """After a thousand answers one after the other nothing is kept of them: no stream, no ticket, and one connection (E1 B7)."""

    async def story(tongue: Tongue) -> None:
        provider = await provide(opened(tongue, tongue.token("one"), tongue.proper))
        weir = await gate(provider, dialects=[tongue.name])
        client = await weir.client()
        for _ in range(1000 // len(TONGUES) + 1):
            assert tongue.ended((await client.ask(tongue.request()).finish()).body)
        assert (weir.in_flight(), provider.connections, len(weir.plane.pools["a"]._all)) == (0, 1, 1)
        assert len(weir.plane.setup._routes) == 1

    await in_every_dialect(story)


async def test_half_an_event_does_not_pile_up(provide: Any, gate: Any, until: Any) -> None:
    """An event that never ends is passed on in pieces: what is kept of it stays small, however much of it has come (E1 A12)."""

    async def story(tongue: Tongue) -> None:
        endless = tongue.token("x" * 6 * MIB)[:-100]
        pieces = [endless[at : at + 65_536] for at in range(0, len(endless), 65_536)]
        weir = await gate(await provide(opened(tongue, tongue.token("one"), *pieces, Hang())), dialects=[tongue.name])
        client = await ask(weir, tongue)
        [relay] = await until(lambda: list(weir.plane.watch.watched))
        await client.until(lambda: len(client.body) > 5 * MIB, 30.0)
        assert len(relay.reading.cutter.tail) <= 64 * 1024
        client.reset()

    await in_every_dialect(story)


async def test_large_answers_are_whole(provide: Any, gate: Any) -> None:
    """An event of 2 MiB comes through byte for byte, and what came around it is still counted (E2 A12)."""

    async def story(tongue: Tongue) -> None:
        speech = tongue.speech("before", "x" * 2 * MIB, "after")
        weir = await gate(await provide(opened(tongue, speech.removeprefix(b"".join(tongue.preamble)))), dialects=[tongue.name])
        client = await fetch(weir, tongue)
        record = await weir.record()
        assert client.body == speech
        assert (record.outcome, record.cadence.chunks >= 2, record.usage is not None) == ("completed", True, True)

    await in_every_dialect(story)
