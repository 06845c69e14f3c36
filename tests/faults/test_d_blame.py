"""Whose silence it was: a slow upstream, a client that does not read and a loop of ours that is blocked are each blamed alone, and their
seconds add up to the span."""

import asyncio
import time
from typing import Any

import pytest

from gateway.core.messages import Begun, Stalled
from gateway.dialects import DIALECTS
from gateway.sim.steps import End, Hang, Pause
from tests.faults.audience import adds_up, heard, owned
from tests.faults.everywhere import in_every_dialect, opened
from tests.faults.scripts import ask, fetch
from tests.faults.tongue import Tongue
from tests.faults.tongues import TONGUES
from tests.rig.rounds import judged_in_rounds

THRESHOLD = 0.25
LONG = 0.5
SLOW = {"segment": 1000, "buffer": 4096}
BIG, MANY = "x" * 100_000, 120
"""More than four socket buffers on loopback hold: whoever sends it must wait for a client that does not read."""


async def clogged(weir: Any, until: Any) -> None:
    """Wait until the gateway waits for its only client."""
    await until(lambda: any(live.ledger.owner == "client_blocked" and live.stop for live in weir.plane.live.values()))


async def unread(weir: Any, tongue: Any) -> Any:
    """Ask, and read nothing."""
    client = await weir.client(**SLOW)
    client.transport.pause_reading()
    return client.ask(tongue.request())


def steady(tongue: Tongue, count: int) -> list[bytes | float]:
    """Return so many tokens, t0 and on, 30 ms apart."""
    return [piece for number in range(count) for piece in (tongue.token(f"t{number}"), 0.03)]


async def judged(audience: Any, weir: Any, blame: str) -> Any:
    """Every audience names this one: the record's stalls, the live word, the span, the counters; return the span."""
    record = await weir.record()
    assert {stall.blame for stall in record.cadence.stalls} == set(record.cadence.stall_time) == {blame}
    assert {told.blame for told in weir.book.of(Stalled)} <= {blame}
    scrape = await audience.scrape()
    assert scrape.by("weir_stalls_total", "blame") == {blame: record.cadence.stall_count}
    assert scrape.by("weir_stall_seconds_total", "blame") == {blame: pytest.approx(sum(record.cadence.stall_time.values()))}
    [span] = await audience.spans()
    assert span.attributes["weir.stall.blame"] == blame
    assert {event.attributes["blame"] for event in span.events if event.name == "stall"} == {blame}
    assert adds_up(span)
    return span


async def test_a_slow_upstream(provide: Any, gate: Any) -> None:
    """An upstream that pauses before its first token and between two owns that time, and is blamed for the stall (D8)."""

    async def story(tongue: Tongue) -> None:
        said = opened(tongue, 0.2, tongue.token("one"), LONG, tongue.token("two"), tongue.proper)
        weir = await gate(await provide(said), dialects=[tongue.name], stall={"threshold": THRESHOLD})
        async with heard(weir) as audience:
            await fetch(weir, tongue)
            span = await judged(audience, weir, "upstream")
        assert owned(span)["upstream_wait"] >= 0.2 + LONG - 0.05
        assert owned(span)["client_blocked"] + owned(span)["queue"] < 0.2

    await in_every_dialect(story)


@pytest.mark.parametrize("dialect", DIALECTS)
@judged_in_rounds
async def test_a_client_that_does_not_read(provide: Any, gate: Any, until: Any, dialect: str) -> None:
    """A client that takes nothing for a while owns that time: its upstream had to wait and is blamed for nothing (D8 B5)."""
    tongue = TONGUES[dialect]
    said = opened(tongue, *[tongue.token(BIG)] * MANY, tongue.proper)
    weir = await gate(await provide(said), dialects=[dialect], stall={"threshold": THRESHOLD, "liveness": 0.4, "progress": 0.4})
    async with heard(weir) as audience:
        client = await unread(weir, tongue)
        await clogged(weir, until)
        await asyncio.sleep(LONG)
        client.transport.resume_reading()
        await client.finish(60.0)
        span = await judged(audience, weir, "client")
    assert (await weir.record()).outcome == "completed"
    assert owned(span)["client_blocked"] >= LONG - 0.05


async def test_a_loop_that_does_not_run(provide: Any, gate: Any) -> None:
    """While our own loop was blocked bytes may have lain in the kernel: the time and the stall are the gateway's (D8)."""
    ready = asyncio.Barrier(len(TONGUES))

    async def story(tongue: Tongue) -> None:
        weir = await gate(
            await provide(opened(tongue, *steady(tongue, 8), tongue.proper)), dialects=[tongue.name], stall={"threshold": THRESHOLD}
        )
        async with heard(weir) as audience:
            client = await (await ask(weir, tongue)).saw(tongue.token("t1"))
            if await ready.wait() == 0:
                time.sleep(LONG)  # noqa: ASYNC251 - the fault that is tested
            await client.finish()
            span = await judged(audience, weir, "gateway")
            assert (await audience.scrape()).sum("weir_overhead_seconds_sum") >= LONG - 0.1
        assert owned(span)["gateway"] >= LONG - 0.1

    await in_every_dialect(story)


async def test_one_after_the_other(provide: Any, gate: Any) -> None:
    """A stall of the upstream's and one of ours in one stream are blamed one by one, and the stream is called mixed (D8)."""
    ready = asyncio.Barrier(len(TONGUES))

    async def story(tongue: Tongue) -> None:
        said = opened(tongue, tongue.token("first"), LONG, *steady(tongue, 8), tongue.proper)
        weir = await gate(await provide(said), dialects=[tongue.name], stall={"threshold": THRESHOLD})
        async with heard(weir) as audience:
            client = await (await ask(weir, tongue)).saw(tongue.token("t1"))
            if await ready.wait() == 0:
                time.sleep(LONG)  # noqa: ASYNC251 - the fault that is tested
            await client.finish()
            record = await weir.record()
            stalls = (await audience.scrape()).by("weir_stalls_total", "blame")
            [span] = await audience.spans()
        assert [stall.blame for stall in record.cadence.stalls] == ["upstream", "gateway"]
        assert (span.attributes["weir.stall.blame"], stalls) == ("mixed", {"upstream": 1, "gateway": 1})
        assert owned(span)["upstream_wait"] >= LONG - 0.1
        assert owned(span)["gateway"] >= LONG - 0.1
        assert adds_up(span)

    await in_every_dialect(story)


@pytest.mark.parametrize("worse", ["upstream", "gateway"])
async def test_both_at_once(provide: Any, gate: Any, worse: str) -> None:
    """Of one silence in which our loop was blocked for a part each owns its own, and who held most of it is blamed for the stall (D8)."""
    ready, blocked = asyncio.Barrier(len(TONGUES)), 0.25 if worse == "upstream" else 0.7

    async def story(tongue: Tongue) -> None:
        weir = await gate(await provide(opened(tongue, tongue.token("first"), 1.0, tongue.token("last"), tongue.proper)),
                          dialects=[tongue.name], stall={"threshold": 0.4})  # fmt: skip
        async with heard(weir) as audience:
            client = await (await ask(weir, tongue)).saw(tongue.token("first"))
            if await ready.wait() == 0:
                time.sleep(blocked)  # noqa: ASYNC251 - the fault that is tested
            await client.finish()
            record = await weir.record()
            [span] = await audience.spans()
        assert [stall.blame for stall in record.cadence.stalls] == [worse]
        assert owned(span)["gateway"] == pytest.approx(blocked, abs=0.15)
        assert owned(span)["upstream_wait"] == pytest.approx(1.0 - blocked, abs=0.15)
        assert adds_up(span)

    await in_every_dialect(story)


async def test_a_loop_that_does_not_run_before_the_first_token(provide: Any, gate: Any, until: Any) -> None:
    """A loop that is blocked while a first token is waited for makes the gateway slow, not its upstream (D8)."""
    ready = asyncio.Barrier(len(TONGUES))

    async def story(tongue: Tongue) -> None:
        provider = await provide(opened(tongue, 0.2, tongue.token("one"), tongue.proper))
        weir = await gate(provider, dialects=[tongue.name])
        async with heard(weir) as audience:
            client = await ask(weir, tongue)
            await client.until(lambda: client.pieces)  # what comes before the first token
            if await ready.wait() == 0:
                time.sleep(LONG)  # noqa: ASYNC251 - the fault that is tested
            await client.finish()
            [span] = await audience.spans()
        assert owned(span)["gateway"] >= LONG - 0.1
        assert owned(span)["upstream_wait"] < 0.4
        assert adds_up(span)

    await in_every_dialect(story)


@judged_in_rounds
async def test_a_loop_that_does_not_run_while_connecting(provide: Any, gate: Any) -> None:
    """A connection that was there at once, and that our blocked loop took late, did not take its upstream that long (D8)."""
    tongue = TONGUES["openai"]
    weir = await gate(await provide(opened(tongue, tongue.token("one"), tongue.proper)))
    loop = asyncio.get_running_loop()
    weir.book.readers.append(lambda message: loop.call_soon(time.sleep, LONG) if type(message) is Begun else None)
    async with heard(weir) as audience:
        await fetch(weir, tongue)
        [span] = await audience.spans()
    assert adds_up(span)
    assert owned(span)["gateway"] + owned(span)["connect"] >= LONG - 0.05
    assert owned(span)["gateway"] >= LONG - 0.1


async def test_a_client_that_sends_slowly(provide: Any, gate: Any) -> None:
    """The time a client takes to send its call is its own, and no part of what its upstream took (D8 D1)."""

    async def story(tongue: Tongue) -> None:
        weir = await gate(await provide(opened(tongue, tongue.token("one"), tongue.proper)), dialects=[tongue.name])
        request = tongue.request()
        async with heard(weir) as audience:
            client = (await weir.client()).ask(request[:-20])
            await asyncio.sleep(LONG)
            client.transport.write(request[-20:])
            await client.finish()
            record = await weir.record()
            [span] = await audience.spans()
        assert owned(span)["client_blocked"] >= LONG - 0.05
        assert owned(span)["upstream_wait"] < 0.3
        assert record.attempts[0].first_token_at - record.attempts[0].sent_at < 0.3 < LONG - 0.05 <= record.ttft
        assert adds_up(span)

    await in_every_dialect(story)


@pytest.mark.parametrize("dialect", ["openai", "bedrock"])
@pytest.mark.parametrize("worse", ["client", "upstream"])
@judged_in_rounds
async def test_a_client_and_then_its_upstream(provide: Any, gate: Any, until: Any, dialect: str, worse: str) -> None:
    """Where both made the stream wait each owns its own part, and more of the stalled time is the worse one's (D8)."""
    tongue = TONGUES[dialect]
    client_held, upstream_held = (1.0, 0.5) if worse == "client" else (0.3, 1.2)
    said = opened(tongue, *[tongue.token(BIG)] * MANY, upstream_held, tongue.token("last"), tongue.proper)
    weir = await gate(await provide(said), dialects=[dialect], stall={"threshold": 0.2})
    async with heard(weir) as audience:
        client = await unread(weir, tongue)
        await clogged(weir, until)
        await asyncio.sleep(client_held)
        client.transport.resume_reading()
        await client.finish(60.0)
        record = await weir.record()
        [span] = await audience.spans()
    assert max(record.cadence.stall_time, key=lambda blame: record.cadence.stall_time[blame]) == worse
    assert owned(span)["client_blocked"] >= client_held - 0.05
    assert owned(span)["upstream_wait"] >= upstream_held - 0.4  # for a while it waits in vain, until the client has caught up
    assert adds_up(span)


@pytest.mark.parametrize("end", ["upstream_stalled", "client_disconnect", "upstream_truncated"])
async def test_a_silence_that_ends_the_stream_was_a_stall(provide: Any, gate: Any, until: Any, end: str) -> None:
    """A stall that was announced stays one when no token follows: given up, left by its client or broken off, the record has it (D8)."""

    async def story(tongue: Tongue) -> None:
        ending: Any = Pause(0.7) if end == "upstream_truncated" else Hang()
        said = opened(tongue, tongue.token("one"), tongue.token("two"), ending, End())
        stall = {"threshold": THRESHOLD, "liveness": 0.6 if end == "upstream_stalled" else 30.0}
        weir = await gate(await provide(said), dialects=[tongue.name], stall=stall)
        async with heard(weir) as audience:
            client = await ask(weir, tongue)
            await until(lambda: weir.book.of(Stalled), "the stall is noticed")
            if end == "client_disconnect":
                client.reset()
            else:
                await client.finish()
            record = await weir.record()
            assert (record.outcome, record.cadence.stall_count) == (end, 1)
            span = await judged(audience, weir, "upstream")
        assert span.attributes["weir.stalled"] is True

    await in_every_dialect(story)
