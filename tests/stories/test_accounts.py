"""Stories of what is told: one span, one row and one count for every stream, whoever left it and whichever worker had it."""

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from gateway.sim.load import Aborts, Load
from gateway.sim.tempers import Temper

Fixture = Callable[..., Any]
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


async def test_a_thousand_streams_half_of_them_left_early_are_a_thousand_accounts(
    weir: Fixture, provide: Fixture, collector: Any, eventually: Fixture
) -> None:
    """Whatever point a client leaves at, its stream has exactly one span, one row and one count, and nothing is left live."""
    provider = await provide(temper=Temper(ttft="10ms", gap="2ms", tokens="uniform 5 40"))
    gateway = await weir({"a": provider}, telemetry={"otlp": {"endpoint": collector.url}})
    host, port = gateway.address
    load = Load(host=host, port=port, streams=100, aborts=Aborts(share=0.5, tokens=(1, 15)))
    report = await load.run(total=1000)
    ends = report.ends()
    assert set(ends) == {"fine", "aborted"}
    assert 400 < ends["aborted"] < 600
    rows = await gateway.told(1000)
    await eventually(lambda: len(collector.spans) >= 1000, "1,000 spans have arrived")
    scrape = await gateway.scrape()
    assert scrape.sum("weir_streams_total") == 1000
    assert set(scrape.all("weir_streams_active")) == {0.0}
    assert len(await gateway.streams()) == 1000
    by_metric = {s.labels["outcome"]: 0 for s in scrape.samples if s.name == "weir_streams_total"}
    by_metric = {outcome: scrape.sum("weir_streams_total", outcome=outcome) for outcome in by_metric}
    by_row = Counter(row["outcome"] for row in rows)
    by_span = Counter(collector.attributes(span)["weir.outcome"] for span in collector.spans)
    assert dict(by_row) == dict(by_span) == {outcome: int(count) for outcome, count in by_metric.items() if count}
    assert set(by_row) <= {"completed", "client_disconnect"}
    assert by_row["completed"] >= ends["fine"]
    assert await gateway.stop() == 0
    assert len(collector.spans) == len({span.span_id for span in collector.spans}) == 1000


async def test_four_workers_are_one_on_every_scrape(weir: Fixture, provide: Fixture, client: Fixture, eventually: Fixture) -> None:
    """With several workers behind one port /metrics is their sum, the same whoever is asked, and /healthz knows each of them (G3)."""
    gateway = await weir({"a": await provide()}, server={"workers": 4})

    async def heard() -> bool:
        return len(set(await gateway.workers())) == 4

    await eventually(heard, "four workers are heard of")
    answers = await client(gateway).many(400, 40, connection="close")
    assert {(answer.status, answer.broken) for answer in answers} == {(200, False)}
    rows = await gateway.told(400)
    assert {(await gateway.scrape()).sum("weir_streams_total") for _ in range(10)} == {400}
    details = [await gateway.ask(f"/api/streams/{row['stream_id']}") for row in rows]
    assert {detail["worker"] for detail in details} == set(await gateway.workers())


async def test_a_caller_that_does_not_sample_gets_no_span_but_is_counted(
    weir: Fixture, provide: Fixture, collector: Any, client: Fixture, eventually: Fixture
) -> None:
    """The caller's trace is ours: its ids are kept, its span is our parent, and its decision not to sample holds for spans alone."""
    provider = await provide()
    gateway = await weir({"a": provider}, telemetry={"otlp": {"endpoint": collector.url}})
    mine = client(gateway)
    unsampled = await mine.ask(traceparent=f"00-{TRACE}-{PARENT}-00")
    sampled = await mine.ask(traceparent=f"00-{TRACE}-{PARENT}-01")
    rootless = await mine.ask(traceparent="00-nonsense")
    answers = (unsampled, sampled, rootless)
    await gateway.told(3)
    await eventually(lambda: len(collector.spans) >= 2, "two spans have arrived")
    assert (await gateway.scrape()).sum("weir_streams_total") == 3
    assert await gateway.stop() == 0
    spans = {collector.attributes(span)["weir.stream.id"]: span for span in collector.spans}
    assert set(spans) == {answer.headers["x-weir-stream-id"] for answer in (sampled, rootless)}
    kept = spans[sampled.headers["x-weir-stream-id"]]
    assert (kept.trace_id.hex(), kept.parent_span_id.hex()) == (TRACE, PARENT)
    fresh = spans[rootless.headers["x-weir-stream-id"]]
    assert fresh.trace_id.hex() != TRACE
    assert not fresh.parent_span_id
    for answer in answers:
        match = re.fullmatch(r"00-([0-9a-f]{32})-([0-9a-f]{16})-0[01]", answer.headers["traceresponse"])
        assert match, answer.headers
    assert unsampled.headers["traceresponse"].endswith("-00")
    assert kept.span_id.hex() in sampled.headers["traceresponse"]


async def test_one_trace_shows_all_its_streams(weir: Fixture, provide: Fixture, client: Fixture, eventually: Fixture) -> None:
    """Streams of one caller's trace are found by its id, each with the caller's span as parent, unsampled ones too."""
    gateway = await weir({"a": await provide()})
    mine = client(gateway)
    await asyncio.gather(*(mine.ask(traceparent=f"00-{TRACE}-{PARENT}-0{number % 2}") for number in range(4)))

    async def told() -> list[Any]:
        found = (await gateway.ask(f"/api/traces/{TRACE}")).get("streams", [])
        return found if len(found) == 4 else []

    rows = await eventually(told, "four streams of the trace")
    assert {(row["trace_id"], row["parent_id"], row["outcome"]) for row in rows} == {(TRACE, PARENT, "completed")}
