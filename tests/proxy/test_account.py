"""From a client's socket to the recorder's audiences, in one process: spans and metrics say what happened, once, and add up."""

from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from gateway.sim.faults import ErrorEvent, Fault, InOrder, Script, SlowFirstToken, Stall, Status, Truncate
from gateway.sim.plan import head
from gateway.sim.steps import Reset, Send
from gateway.telemetry.recorder import Recorder
from tests.rig.rounds import judged_in_rounds

OWNERS = ("queue", "connect", "upstream_wait", "gateway", "client_blocked", "guard_held")
ENDS: tuple[tuple[Fault, str, str | None], ...] = (
    (Stall(after=2, length=0.1), "completed", None),
    (Truncate(after=2), "upstream_truncated", "connection_closed"),
    (ErrorEvent(after=2, code="overloaded_error"), "upstream_error", "overloaded_error"),
    (Status(503), "upstream_error", "503"),
    (Stall(after=2, length=30), "upstream_stalled", "upstream_silent"),
    (Script((Send(head(200, {"Content-Type": "text/event-stream"})), Reset())), "upstream_truncated", "connection_reset"),
)


class Told:
    """A recorder behind a gate, and what it told once it is closed."""

    def __init__(self, weir: Any) -> None:
        self._exporter = InMemorySpanExporter()
        self.recorder = Recorder(weir.worker.config, span_exporter=self._exporter)
        weir.book.readers.append(self.recorder.receive)

    async def spans(self) -> list[ReadableSpan]:
        await self.recorder.close()
        return list(self._exporter.get_finished_spans())

    def total(self, name: str, **labels: str) -> float:
        """Sum the values of a metric whose labels are these."""
        family = next(family for family in self.recorder.collect() if family.instrument.name == name)
        return sum(
            value for given, value in family.values if labels.items() <= dict(zip(family.instrument.labels, given, strict=True)).items()
        )


@pytest.fixture
def told() -> Any:
    async def start(weir: Any) -> Told:
        told = Told(weir)
        await told.recorder.start()
        return told

    return start


async def test_every_stream_is_one_span_that_adds_up(provide: Any, gate: Any, told: Any) -> None:
    """However it ended: one span, its outcome, its error, ERROR where the upstream failed, and six owners that sum to it (D3 D6 A1a)."""
    provider = await provide(InOrder([*(fault for fault, _, _ in ENDS), Stall(after=2, length=30)]))
    weir = await gate(provider, retry={"attempts": 1}, stall={"liveness": 0.3}, breaker={"failures": 100})
    audience = await told(weir)
    for _ in ENDS:
        await weir.fetch()
    (await (await weir.ask()).saw(b"content")).reset()
    await weir.record(len(ENDS) + 1)
    await weir.fetch(model="")
    spans = await audience.spans()
    seen = [(span.attributes["weir.outcome"], span.attributes.get("error.type")) for span in spans]
    assert seen[: len(ENDS)] == [(outcome, error) for _, outcome, error in ENDS]
    assert seen[len(ENDS) :] == [("client_disconnect", None), ("rejected", None)]
    for span in spans:
        owned = sum(span.attributes.get(f"weir.duration.{owner}", 0.0) for owner in OWNERS)
        assert abs(owned - (span.end_time - span.start_time) / 1e9) < 0.001
        failed = str(span.attributes["weir.outcome"]).startswith("upstream")
        assert (span.status.status_code is StatusCode.ERROR) == failed
    for outcome in {outcome for outcome, _ in seen}:
        assert audience.total("weir_streams_total", outcome=outcome) == [name for name, _ in seen].count(outcome)


@judged_in_rounds
async def test_a_fallback_is_told(provide: Any, gate: Any, told: Any) -> None:
    """Who was left, for whom and why; asked and served model; one event for each attempt (B2 B12)."""
    weir = await gate(await provide(SlowFirstToken(delay=30)), await provide(), first_token={"timeout": 0.2})
    audience = await told(weir)
    await weir.fetch({"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"})
    [span] = await audience.spans()
    assert (span.parent.span_id, span.context.trace_id) == (0x00F067AA0BA902B7, 0x4BF92F3577B34DA6A3CE929D0E0E4736)
    told_of = {name: span.attributes[name] for name in ("weir.upstream", "weir.attempts", "weir.fallback.reason")}
    assert told_of == {"weir.upstream": "b", "weir.attempts": 2, "weir.fallback.reason": "slow_first_token"}
    assert [event.attributes["upstream"] for event in span.events if event.name == "attempt"] == ["a", "b"]
    assert audience.total("weir_fallbacks_total", **{"from": "a", "to": "b", "reason": "slow_first_token"}) == 1
    assert audience.total("weir_attempts_total", upstream="a", outcome="slow") == 1


async def test_a_live_stream_can_be_seen(provide: Any, gate: Any, told: Any, until: Any) -> None:
    """While it runs it is listed with its upstream, as streaming and then as stalled; when it has ended it is gone (D8 D11)."""
    weir = await gate(await provide(Stall(after=2, length=1.0)), stall={"threshold": 0.3})
    audience = await told(weir)
    client = await weir.ask()
    live = audience.recorder.live
    await until(lambda: [stream.upstream for stream in live.streams.values()] == ["a"])
    await until(lambda: "stalled" in [stream.state for stream in live.streams.values()])
    assert audience.total("weir_stalls_total", upstream="a", blame="upstream") == 1
    await client.finish()
    await weir.record()
    assert not live.streams
    await audience.spans()
    assert audience.total("weir_stalls_total", upstream="a", blame="upstream") == 1  # announced is not counted again at the end
