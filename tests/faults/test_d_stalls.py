"""Silences in a stream that is not over: counted by length and by episode, seen while they last, and timed for the caller."""

import asyncio
from typing import Any

import pytest

from gateway.core.messages import Stalled
from gateway.dialects import DIALECTS
from gateway.sim.steps import Hang
from gateway.telemetry.spans import SCHEMA_URL, SPAN_ATTRIBUTES
from tests.faults.audience import heard, owned
from tests.faults.everywhere import in_every_dialect, opened
from tests.faults.scripts import answer, ask, fetch
from tests.faults.tongue import Tongue
from tests.faults.tongues import TONGUES
from tests.rig.rounds import judged_in_rounds

GAPS = (0.02, 0.5, 0.02, 1.2)
"""0.1, 3, 0.1 and 40 s of a real bad day, over a threshold of 2 s; here it is 0.25."""
THRESHOLD = 0.25
STALL = {"threshold": THRESHOLD}
NAMES = {
    *(f"gen_ai.{name}" for name in ("operation.name", "provider.name", "request.model", "request.stream")),
    *(f"gen_ai.request.{name}" for name in ("temperature", "top_p", "max_tokens", "seed")),
    *(f"gen_ai.response.{name}" for name in ("id", "model", "finish_reasons", "time_to_first_chunk")),
    *(f"gen_ai.server.{name}" for name in ("time_to_first_token", "time_per_output_token")),
    *(f"gen_ai.usage.{name}" for name in ("input_tokens", "output_tokens", "cache_read.input_tokens")),
    *(f"gen_ai.usage.{name}" for name in ("cache_creation.input_tokens", "reasoning.output_tokens")),
    *("server.address", "server.port", "error.type", "http.response.status_code", "session.id"),
    *("weir.stream.id", "weir.route", "weir.tenant", "weir.upstream", "weir.outcome", "weir.reason", "weir.attempts", "weir.hedged"),
    *("weir.fallback.reason", "weir.missing_done", "weir.client.retry", "weir.prompt.name", "weir.prompt.version"),
    *("weir.cost.usd", "weir.usage.partial", "weir.resumed", "weir.ttft", "weir.ttfb", "weir.time_to_first_answer"),
    *(f"weir.duration.{owner}" for owner in ("queue", "connect", "upstream_wait", "gateway", "client_blocked", "guard_held")),
    *("weir.chunks", "weir.bytes", "weir.gap.p50", "weir.gap.p95", "weir.gap.max", "weir.gap.histogram"),
    *("weir.stalls", "weir.stall.time", "weir.stall.blame", "weir.stalled", "weir.burst"),
}
"""What users' queries rely on, written down once more by hand."""


def scripted(tongue: Any) -> Any:
    """Return an answer with these gaps; in the longest of them only idle words come."""
    said = [tongue.token("0")]
    for number, gap in enumerate(GAPS, 1):
        said += [gap / 3, tongue.idle, gap / 3, tongue.idle, gap / 3] if gap == max(GAPS) else [gap]
        said.append(tongue.token(str(number)))
    return opened(tongue, *said, tongue.proper)


async def test_stalls_are_counted_by_episode(provide: Any, gate: Any) -> None:
    """Two silences of four are stalls, with their time, the longest gap and an event each; idle words do not make one stall two (D8)."""

    async def story(tongue: Tongue) -> None:
        weir = await gate(await provide(scripted(tongue)), dialects=[tongue.name], stall=STALL)
        async with heard(weir) as audience:
            await fetch(weir, tongue)
            record = await weir.record()
            scrape = await audience.scrape()
            [span] = await audience.spans()
        assert (record.outcome, record.cadence.chunks, record.cadence.stall_count) == ("completed", 5, 2)
        assert scrape.sum("weir_stalls_total", blame="upstream", phase="streaming") == len(weir.book.of(Stalled)) == 2
        assert (scrape.sum("weir_streams_total", stalled="true"), scrape.sum("weir_streams_total", stalled="false")) == (1, 0)
        assert scrape.sum("weir_stall_seconds_total") == pytest.approx(0.5 + 1.2, abs=0.2)
        assert span.attributes["weir.gap.max"] == pytest.approx(1.2, abs=0.1)
        assert span.attributes["weir.stall.time"] == pytest.approx(scrape.sum("weir_stall_seconds_total"))
        lengths = [event.attributes["length"] for event in span.events if event.name == "stall"]
        assert lengths == pytest.approx([0.5, 1.2], abs=0.1)
        bins = scrape.bins("weir_chunk_gap_seconds")
        assert (bins[str(THRESHOLD)], bins["+Inf"]) == (2, 4)  # the threshold is a bound: stalls can be counted from the histogram

    await in_every_dialect(story)


async def test_a_live_stream_shows_its_state(provide: Any, gate: Any, until: Any) -> None:
    """Before it ends a stream is listed as waiting for its first token, then as streaming, then as stalled, with whom to blame (D11)."""

    async def story(tongue: Tongue) -> None:
        said = opened(tongue, 0.6, tongue.token("one"), 0.02, tongue.token("two"), Hang())
        weir = await gate(await provide(said), dialects=[tongue.name], stall=STALL)
        async with heard(weir) as audience:
            client = await ask(weir, tongue)
            seen: list[dict[str, Any]] = []

            async def shown(state: str) -> Any:
                while not seen or seen[-1]["state"] != state:
                    assert len(seen) < 500
                    await asyncio.sleep(0.02)
                    seen.extend((await audience.ask("/api/streams"))["streams"])
                return seen[-1]

            await shown("first_token")
            await client.saw(tongue.token("two"))
            row = await shown("stalled")
            metric = (await audience.scrape()).sum("weir_streams_active", upstream="a")
            assert not weir.book.records
            client.reset()
            record = await weir.record()
            assert (await audience.ask("/api/streams"))["streams"] == []
        assert "streaming" in {row["state"] for row in seen}
        assert (row["stream_id"], row["trace_id"], row["upstream"]) == (record.stream_id, record.trace_id, "a")
        assert (row["outcome"], row["ended"], row["stall_blame"], metric) == (None, None, "upstream", 1)
        assert row["age"] > 0.6
        assert 0.2 < row["in_state"] < row["age"]

    await in_every_dialect(story)


async def test_a_stall_that_is_over_is_not_shown(provide: Any, gate: Any) -> None:
    """When tokens come again, a stream that was listed as stalled is listed as streaming (D11)."""

    async def story(tongue: Tongue) -> None:
        again = [piece for number in range(60) for piece in (tongue.token(f"again {number}"), 0.03)]
        weir = await gate(await provide(opened(tongue, tongue.token("one"), 0.6, *again, Hang())), dialects=[tongue.name], stall=STALL)
        async with heard(weir) as audience:
            client = await ask(weir, tongue)
            await client.saw(tongue.token("again 30"))  # a second later, and four looks at every stream
            [row] = (await audience.ask("/api/streams"))["streams"]
            assert row["state"] == "streaming"
            client.reset()

    await in_every_dialect(story)


async def test_streams_that_wait_are_listed(provide: Any, gate: Any, until: Any, full_backlog: str) -> None:
    """One that waits for a slot is listed in the queue, one that waits for a connection as connecting (D11)."""
    tongue = TONGUES["openai"]
    queued = await gate(await provide(opened(tongue, tongue.token("one"), Hang())), upstreams={"a": {"max_streams": 1}})
    dialing = await gate(full_backlog)
    for weir, first, state in ((queued, True, "queue"), (dialing, False, "connect")):
        async with heard(weir) as audience:
            if first:
                await (await ask(weir, tongue)).saw(tongue.token("one"))
            await ask(weir, tongue)
            await until(lambda weir=weir, state=state: state in {live.state for live in weir.plane.live.values()})
            states = [row["state"] for row in (await audience.ask("/api/streams"))["streams"]]
        assert state in states


async def test_a_draining_worker_shows_on_its_streams(provide: Any, gate: Any, until: Any) -> None:
    """Streams that run on while their worker shuts down are listed as draining, also when they have been looked at since (D11)."""
    tongue = TONGUES["openai"]
    weir = await gate(await provide(opened(tongue, tongue.token("one"), 3.0, tongue.proper)), stall={"threshold": 30})
    async with heard(weir) as audience:
        client = await (await ask(weir, tongue)).saw(tongue.token("one"))
        async with asyncio.TaskGroup() as group:
            group.create_task(weir.worker.drain(30.0))
            await until(lambda: [live.state for live in weir.plane.live.values()] == ["draining"])
            await asyncio.sleep(0.4)  # every stream is looked at meanwhile
            states = [row["state"] for row in (await audience.ask("/api/streams"))["streams"]]
            await client.finish()
    assert states == ["draining"]


@pytest.mark.parametrize("dialect", DIALECTS)
@judged_in_rounds
async def test_the_caller_learns_its_times(provide: Any, gate: Any, dialect: str) -> None:
    """At the commit the headers have attempts, queue, the upstream's first byte and first token; overhead is what only we owned (D12)."""
    tongue = TONGUES[dialect]
    said = answer(tongue, 0.1, b"".join(tongue.preamble), 0.1, tongue.token("one"), tongue.proper)
    weir = await gate(await provide(said), await provide(said), dialects=[dialect, dialect])
    async with heard(weir) as audience:
        client = await fetch(weir, tongue)
        record = await weir.record()
        scrape = await audience.scrape()
        [span] = await audience.spans()
    timing = {name: float(ms) / 1000 for name, _, ms in (part.partition(";dur=") for part in client.headers["server-timing"].split(", "))}
    assert client.headers["x-weir-attempts"] == "1"
    assert timing["ttft"] == pytest.approx(record.ttft, abs=0.005)
    assert set(timing) == {"queue", "ttfb", "ttft"}
    assert 0 <= timing["queue"] < 0.1 <= timing["ttft"]
    assert timing["ttfb"] == pytest.approx(record.first_byte_at - record.received_at, abs=0.001)
    assert scrape.sum("weir_overhead_seconds_count") == 1
    assert scrape.sum("weir_overhead_seconds_sum") == pytest.approx(owned(span)["gateway"])
    assert owned(span)["gateway"] < 0.1 < owned(span)["upstream_wait"]


def test_the_names_on_a_span() -> None:
    """No attribute that users' queries name goes or changes its name; ours may be added to, the conventions' may not (D10)."""
    there = {row.name for row in SPAN_ATTRIBUTES}
    assert there >= NAMES
    assert {name for name in there - NAMES if not name.startswith("weir.")} == set()
    assert SCHEMA_URL == "https://opentelemetry.io/schemas/1.41.1"


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_span_names_its_conventions(provide: Any, gate: Any, dialect: str) -> None:
    """A real stream's span carries what everybody asks for, and says which version of the conventions it follows (D10)."""
    tongue = TONGUES[dialect]
    weir = await gate(await provide(opened(tongue, tongue.token("one"), 0.02, tongue.token("two"), tongue.proper)), dialects=[dialect])
    async with heard(weir) as audience:
        await fetch(weir, tongue)
        [span] = await audience.spans()
    wanted = {
        "gen_ai.operation.name",
        "gen_ai.request.model",
        "gen_ai.response.model",
        "gen_ai.usage.output_tokens",
        "weir.ttft",
        "weir.stalls",
    }
    assert wanted <= set(span.attributes) | ({"gen_ai.response.model"} if dialect == "bedrock" else set())  # ConverseStream names no model
    assert span.instrumentation_scope.schema_url == span.resource.schema_url == SCHEMA_URL


async def test_our_own_lateness_is_seen(provide: Any, gate: Any, until: Any) -> None:
    """How late the loop was, and the longest silence of a live stream, can be read while it lasts (D8)."""

    async def story(tongue: Tongue) -> None:
        weir = await gate(await provide(opened(tongue, tongue.token("one"), Hang())), dialects=[tongue.name], stall=STALL)
        async with heard(weir) as audience:
            client = await (await ask(weir, tongue)).saw(tongue.token("one"))
            gauges: dict[str, float] = {}
            for _ in range(200):
                await asyncio.sleep(0.02)
                scrape = await audience.scrape()
                gauges = {name: scrape.sum(name) for name in ("weir_oldest_gap_seconds", "weir_loop_lag_seconds")}
                if gauges["weir_oldest_gap_seconds"] > THRESHOLD:
                    break
            client.reset()
        assert gauges["weir_oldest_gap_seconds"] > THRESHOLD
        assert any(sample.name == "weir_loop_lag_seconds" for sample in scrape.samples)

    await in_every_dialect(story)
