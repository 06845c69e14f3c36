"""Telemetry cannot hurt the relay: whatever becomes of spans, readers and records, streams are whole and in time, losses counted."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from gateway.config import Otlp
from gateway.core.messages import Ended
from gateway.core.record import StreamRecord
from gateway.dialects import DIALECTS
from gateway.telemetry.export import SPAN_BATCH, SPAN_QUEUE, span_exporter
from tests.faults.audience import heard
from tests.faults.everywhere import in_every_dialect, opened
from tests.faults.scripts import ask, fetch
from tests.faults.tongue import Tongue
from tests.faults.tongues import TONGUES
from tests.rig.rounds import judged_in_rounds

FLOOD = SPAN_QUEUE + 4 * SPAN_BATCH
GAP, TOKENS = 0.02, 10


class Broken(Exception):
    """What nobody expects."""


class Hanging(SpanExporter):
    """A collector that takes spans and never says a word."""

    def __init__(self) -> None:
        self.over = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: ARG002
        self.over.wait(20.0)
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        self.over.set()


class Raising(SpanExporter):
    """One that is broken on our side."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: ARG002
        raise Broken

    def shutdown(self) -> None:
        """There is nothing to end."""


def steady(tongue: Tongue) -> Any:
    return opened(tongue, *[piece for number in range(TOKENS) for piece in (tongue.token(f"t{number}"), GAP)], tongue.proper)


def said(tongue: Tongue) -> bytes:
    return tongue.speech(*(f"t{number}" for number in range(TOKENS)))


async def flood(recorder: Any, like: StreamRecord) -> None:
    """Tell a recorder of so many ended streams that no queue of spans has room for them, a few at a time."""
    for number in range(FLOOD):
        recorder.receive(Ended(number, msgspec.structs.replace(like, stream_id=f"{number:032x}", span_id=f"{number + 1:016x}")))
        if number % 50 == 0:
            await asyncio.sleep(0)


@pytest.mark.parametrize("kind", ["hangs", "raises", "black hole"])
async def test_a_collector_that_is_gone(provide: Any, gate: Any, caplog: pytest.LogCaptureFixture, full_backlog: str, kind: str) -> None:
    """Streams keep their bytes and their pace, spans beyond the queue are lost and counted, and the log says so once a minute (E4)."""
    exporter = {"hangs": Hanging, "raises": Raising, "black hole": lambda: span_exporter(Otlp(endpoint=full_backlog.removesuffix("/v1")))}
    tongue = TONGUES["openai"]
    weir = await gate(await provide(steady(tongue)))
    made = exporter[kind]()
    async with heard(weir, made) as audience:
        await fetch(weir, tongue)
        clients = [await ask(weir, tongue) for _ in range(10)]
        await flood(audience.recorder, await weir.record())
        for client in clients:
            assert (await client.finish()).body == said(tongue)
        await weir.record(11)
        told = weir.book.records
        lost = 0.0
        for _ in range(200):
            lost = (await audience.scrape()).sum("weir_telemetry_dropped_total", kind="span")
            if lost >= FLOOD - SPAN_QUEUE - SPAN_BATCH:
                break
            await asyncio.sleep(0.02)
        assert (await audience.scrape()).sum("weir_streams_total") == FLOOD + 11
        made.shutdown() if kind == "hangs" else None
    assert lost >= FLOOD - SPAN_QUEUE - SPAN_BATCH
    assert audience.recorder.dropped()["span"] == FLOOD + 11
    assert {(record.outcome, record.cadence.chunks) for record in told} == {("completed", TOKENS)}
    assert sum("spans lost" in logged.getMessage() for logged in caplog.records) <= 1
    assert max(record.duration for record in told) < TOKENS * GAP + 2.0
    caplog.clear()


class Mute:
    """A reader that can read nothing."""

    def events(self, frame: Any) -> Any:  # noqa: ARG002
        raise Broken


@pytest.mark.parametrize("dialect", DIALECTS)
@judged_in_rounds
async def test_a_reader_that_fails_at_every_event(provide: Any, gate: Any, monkeypatch: pytest.MonkeyPatch, dialect: str) -> None:
    """The client's bytes are the upstream's, as they come; that we were blind is counted, and nothing is made up about the stream (E4)."""
    tongue = TONGUES[dialect]
    weir = await gate(await provide(steady(tongue)), dialects=[dialect])
    monkeypatch.setattr(type(DIALECTS[dialect]), "reader", lambda *_: Mute())
    async with heard(weir) as audience:
        client = await fetch(weir, tongue)
        record = await weir.record()
        scrape = await audience.scrape()
        [span] = await audience.spans()
    assert client.body == said(tongue)
    assert len(client.pieces) >= TOKENS - 2
    assert (record.outcome, record.parser_errors, record.usage) == ("completed", {"observer": 1}, None)
    assert scrape.sum("weir_parser_errors_total", reason="observer", dialect=dialect) == 1
    assert scrape.sum("weir_ttft_seconds_count") == 0
    assert not {"weir.ttft", "gen_ai.usage.output_tokens", "weir.gap.max"} & set(span.attributes)


async def test_a_recorder_that_fails_at_every_word(provide: Any, gate: Any) -> None:
    """Whatever the recorder does with what it is told, streams of any dialect do not notice, and every word is counted as lost (E4)."""

    async def story(tongue: Tongue) -> None:
        weir = await gate(await provide(steady(tongue)), dialects=[tongue.name])
        weir.book.readers.append(fails)
        client = await fetch(weir, tongue)
        assert client.body == said(tongue)
        lost = weir.worker._link.dropped
        assert (lost["begun"], lost["ended"]) == (1, 1)
        weir.worker._link.dropped.clear()

    await in_every_dialect(story)


def fails(message: Any) -> None:
    raise Broken
