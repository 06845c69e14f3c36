"""Chaos, and first of all that it would notice: what is lost, altered, told twice or not at all is found by its books."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from gateway.core.record import StreamRecord
from gateway.dialects import DIALECTS
from gateway.sim import faults
from gateway.sim.chaos import judge, mayhem
from gateway.sim.chaos.asking import asking, request
from gateway.sim.chaos.audit import Audit, Books, audit
from gateway.sim.chaos.collector import Collector, Told
from gateway.sim.chaos.crowd import Crowd, Plan, Seen
from gateway.sim.chaos.judge import Heard
from gateway.sim.chaos.ledger import Booked, Ledger
from gateway.sim.chaos.mayhem import Deeds, Kill, Scrape
from gateway.sim.chaos.run import ChaosOptions, run
from gateway.sim.chaos.visitor import Manner, Visitor
from gateway.sim.faults import Always, Fault
from gateway.sim.tempers import INSTANT

PLAN = Plan(ordinal=1, dialect="openai", model="m", stream=True, silent=False, keep=False, pause=0.0, manner=Manner())
SHORT = msgspec.structs.replace(INSTANT, tokens=6)


async def visit(fault: Fault, dialect: str, stream: bool = True) -> tuple[Seen, Ledger]:
    """Let one client of the crowd ask a provider that has this fault, with no gateway between them."""
    ledger = Ledger()
    provider = Booked(ledger, temper=SHORT, faults=Always(fault), name="p")
    port = await provider.start()
    try:
        crowd = Crowd(port, ledger, [(dialect, "m")], 1, 0)
        visitor = Visitor(Manner())
        await visitor.connect("127.0.0.1", port)
        await crowd._ask(msgspec.structs.replace(PLAN, dialect=dialect, stream=stream), visitor, "chaos-000001-0")
        visitor.close()
    finally:
        await provider.close()
    return crowd.seen[0], ledger


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        (faults.HEALTHY, "whole"),
        (faults.OneByteWrites(), "whole"),
        (faults.SplitUtf8(), "whole"),
        (faults.Truncate(after=3, terminator=True), "lost"),
        (faults.Truncate(after=3, cut=9), "broken"),
        (faults.ResetAfter(3), "broken"),
        (faults.ErrorEvent(after=3), "error event"),
        (faults.ErrorEvent(after=3, then_done=True), "error event"),
        (faults.Status(503), "error status"),
        (faults.Refuse(), "broken"),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else None,
)
async def test_a_client_knows_what_it_got(dialect: str, fault: Fault, verdict: str) -> None:
    """In every dialect, and above all: an answer that ends properly before its end is lost, as no gateway has spoken up."""
    seen, ledger = await visit(fault, dialect)
    assert seen.verdict == verdict
    assert seen.faults == ([fault.kind] if fault.kind != "refuse" else [])
    assert [answer.dialect for answer in ledger.of(seen.tag)] == [dialect] * len(seen.faults)


async def test_a_whole_document_is_an_answer() -> None:
    """When no stream was asked for, a JSON document that is no error is all of it."""
    assert {(await visit(faults.HEALTHY, dialect, stream=False))[0].verdict for dialect in DIALECTS} == {"whole"}


async def said(dialect: str, fault: Fault = faults.HEALTHY) -> tuple[Any, Any, bytes]:
    """Return a call, the provider's page of it, and the payload."""
    ledger = Ledger()
    provider = Booked(ledger, temper=SHORT, faults=Always(fault), name="p")
    port = await provider.start()
    call = asking(dialect, "chaos-000001-0: speak")
    try:
        visitor = Visitor(Manner())
        await visitor.connect("127.0.0.1", port)
        await visitor.ask(request(call, "chaos-000001-0"), Manner())
        visitor.close()
    finally:
        await provider.close()
    [answer] = ledger.of("chaos-000001-0")
    return call, answer, bytes(answer.payload or b"")


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_every_byte_is_compared(dialect: str) -> None:
    """The same bytes are verbatim, one byte less than promised is not, a changed one neither; an error may follow a part."""
    call, answer, payload = await said(dialect)
    media_type = DIALECTS[dialect].framing(call).media_type
    whole = Heard(200, media_type, "", payload, True)
    assert judge.ending(call, whole) == "whole"
    assert judge.match(call, whole, [answer], "whole") == "verbatim"
    changed = msgspec.structs.replace(whole, body=payload.replace(b"e", b"E", 1))
    assert judge.match(call, changed, [answer], "whole") == "altered"
    frames = judge.frames(call, payload)
    part = b"".join(frame.raw for frame in frames[:3])
    error = (await said(dialect, faults.ErrorEvent(after=2)))[2]
    last = judge.frames(call, error)[-1].raw
    failed = Heard(200, media_type, "", part + last, True)
    assert judge.ending(call, failed) == "error"
    assert judge.match(call, failed, [answer], "error") == "prefix"
    garbled = msgspec.structs.replace(failed, body=part.replace(b"e", b"E", 1) + last)
    assert judge.match(call, garbled, [answer], "error") == "altered"


def test_spans_are_read_from_the_wire() -> None:
    """As the exporter's own library writes them."""
    sent = ExportTraceServiceRequest()
    span = sent.resource_spans.add().scope_spans.add().spans.add()
    span.span_id, span.name, span.start_time_unix_nano = b"12345678", "chat m", 2**60
    for key, value in (("weir.stream.id", "s1"), ("weir.outcome", "completed")):
        item = span.attributes.add()
        item.key, item.value.string_value = key, value
    count = span.attributes.add()
    count.key, count.value.int_value = "weir.chunks", 300
    collector = Collector()
    collector.take(sent.SerializeToString())
    assert collector.spans == {"s1": [Told(b"12345678".hex(), "completed")]}


def test_outcomes_are_summed_over_all_other_labels() -> None:
    """What /metrics says in Prometheus' own format."""
    text = (
        'weir_streams_total{route="a",outcome="completed",stalled="false"} 3\n'
        'weir_streams_total{route="b",outcome="completed",stalled="true"} 4.0\n'
        'weir_streams_total{route="b",outcome="rejected"} 1e3\n'
        'weir_streams_active{route="b"} 7\n'
    )
    assert mayhem.outcomes(text) == {"completed": 7.0, "rejected": 1000.0}


SAW = Seen(
    tag="chaos-000001-0",
    plan=PLAN,
    verdict="whole",
    how="",
    match="verbatim",
    status=200,
    stream_id="s1",
    upstream="p-openai",
    streamed=True,
    reused=False,
    faults=[],
    size=10,
    digest="",
    dialed_at=100.0,
    started_at=100.0,
    ended_at=105.0,
)


def record(**changes: Any) -> StreamRecord:
    fields: dict[str, Any] = {"stream_id": "s1", "trace_id": "t", "span_id": "x", "received_unix": 0.0, "received_at": 100.0}
    fields |= {"ended_at": 105.0, "outcome": "completed", "bytes": 10, "tags": {"chaos": "chaos-000001-0"}}
    made = StreamRecord(**(fields | changes))
    made.attempts = [msgspec.convert({"upstream": "p-openai", "model": "m", "why": "first", "dialed_at": 100.0}, type=_attempt())]
    return made


def _attempt() -> type[Any]:
    return StreamRecord.__annotations__["attempts"].__args__[0]


def compared(seen: Seen = SAW, records: list[StreamRecord] | None = None, *kills: Kill, **books: Any) -> Audit:
    """Compare one client's view with one record, one span and one count, unless told otherwise."""
    stored = [record()] if records is None else records
    spans = {made.stream_id: [Told(made.span_id, made.outcome)] for made in stored}
    counts: dict[str, float] = {}
    for made in stored:
        counts[made.outcome] = counts.get(made.outcome, 0) + 1
    given = {"spans": spans, "last": Scrape(200.0, counts), "deeds": Deeds(kills=list(kills))} | books
    return audit(Books(seen=[seen], ledger=Ledger(), records=stored, **given))


def killed(role: str, at: float) -> Kill:
    return Kill(role, 7, at, at + 1.0)


def test_books_that_agree_have_no_findings() -> None:
    """One client, one record, one span, one count."""
    assert compared().findings == []


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("lost", lambda: compared(msgspec.structs.replace(SAW, verdict="lost"))),
        ("altered", lambda: compared(msgspec.structs.replace(SAW, match="altered"))),
        ("no record", lambda: compared(SAW, [])),
        ("two records", lambda: compared(SAW, [record(), record(stream_id="s2")])),
        ("record of nobody", lambda: compared(SAW, [record(), record(stream_id="s2", tags={"chaos": "other"})])),
        ("outcome", lambda: compared(SAW, [record(outcome="client_disconnect")])),
        ("outcome", lambda: compared(SAW, [record(outcome="gateway_error", error="translation")])),
        ("death of a living worker", lambda: compared(SAW, [record(outcome="gateway_error", error="worker_died")])),
        ("outcome", lambda: compared(msgspec.structs.replace(SAW, verdict="error event"), [record()])),
        ("bytes", lambda: compared(SAW, [record(bytes=9)])),
        ("upstream", lambda: compared(msgspec.structs.replace(SAW, upstream="q-openai"))),
        ("stream id", lambda: compared(msgspec.structs.replace(SAW, stream_id="s9"))),
        ("no span", lambda: compared(spans={})),
        ("span", lambda: compared(spans={"s1": [Told("x", "shutdown")]})),
        ("span", lambda: compared(spans={"s1": [Told("x", "completed"), Told("y", "completed")]})),
        ("span of nobody", lambda: compared(spans={"s1": [Told("x", "completed")], "s2": [Told("z", "completed")]})),
        ("counts", lambda: compared(last=Scrape(200.0, {"completed": 2.0}))),
        ("counts", lambda: compared(last=Scrape(200.0, {}))),
    ],
)
def test_books_that_disagree_are_found(kind: str, make: Callable[[], Audit]) -> None:
    """Each kind of disagreement is one finding, where no process was killed."""
    assert [finding.kind for finding in make().findings] == [kind]


def test_a_kill_excuses_only_its_own_moment() -> None:
    """What a killed process had not told yet is excused; the same loss a few seconds later is not."""
    broken = msgspec.structs.replace(SAW, verdict="broken", how="reset", match="prefix", status=0)
    died = [record(outcome="gateway_error", error="worker_died", worker=7)]
    assert compared(broken, [], killed("worker", 105.0)).findings == []
    assert compared(broken, [], killed("worker", 110.0)).findings != []
    assert compared(SAW, died, killed("worker", 105.5)).findings == []
    assert compared(SAW, died, killed("worker", 109.0)).findings != []
    assert compared(SAW, None, killed("recorder", 106.0), spans={}).findings == []
    assert compared(SAW, None, killed("recorder", 111.0), spans={}).findings != []
    late = Deeds(kills=[killed("recorder", 105.4)], last_words=[Scrape(105.3, {})])
    assert compared(deeds=late, last=Scrape(200.0, {})).findings == []
    later = Deeds(kills=[killed("recorder", 109.4)], last_words=[Scrape(109.3, {})])
    assert compared(deeds=later, last=Scrape(200.0, {})).findings != []


@pytest.mark.slow
def test_chaos_for_half_a_minute(tmp_path: Path) -> None:
    """Sixty streams at once, workers and recorder killed: nobody is lost, and all books agree."""
    report = run(ChaosOptions(minutes=0.45, streams=60, seed=4), folder=tmp_path)
    assert report.audit.findings == []
    assert report.trouble == []
    assert report.deeds["workers killed"] >= 2
    assert report.deeds["recorders killed"] >= 1
    assert report.verdicts["whole"] > 100
    assert {"error event", "error status", "broken", "left"} <= report.verdicts.keys()
    assert report.matches["whole: verbatim"] > report.matches["whole: translated"] > 20
    assert len(report.faults) > 15
