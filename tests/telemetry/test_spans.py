"""The span of a stream: what is on it for every outcome, and what is absent when it is not known."""

from collections.abc import Callable
from typing import Any, get_args

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from gateway.core.events import Usage
from gateway.core.owners import OWNERS
from gateway.core.record import Attempt, Cadence, Outcome, Seam, Stall, StreamRecord
from gateway.telemetry.account import account
from gateway.telemetry.happenings import EVENTS, MOST_EVENTS
from gateway.telemetry.spans import SPAN_ATTRIBUTES, resource, span

MakeRecord = Callable[..., StreamRecord]
ERRORS = {
    "upstream_error": "overloaded_error",
    "upstream_truncated": "stream_truncated",
    "upstream_stalled": "upstream_silent",
    "first_token_timeout": "slow_first_token",
    "gateway_error": "gateway_error",
    "shutdown": "server_shutdown",
}


def built(record: StreamRecord, cost: float | None = None) -> ReadableSpan:
    return span(account(record, cost), resource())


def attributes(record: StreamRecord, cost: float | None = None) -> dict[str, Any]:
    return dict(built(record, cost).attributes or {})


def test_a_completed_stream(make_record: MakeRecord) -> None:
    """Every known fact is on the span under its contracted name, and nothing else is."""
    found = attributes(make_record(received_unix=1_700_000_000.0), cost=0.25)
    assert found == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.request.stream": True,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.model": "gpt-4o-mini",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.response.time_to_first_chunk": pytest.approx(0.2),
        "gen_ai.server.time_to_first_token": pytest.approx(0.25),
        "gen_ai.server.time_per_output_token": pytest.approx(0.4),
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "server.address": "127.0.0.1",
        "server.port": 1,
        "http.response.status_code": 200,
        "weir.stream.id": "stream-1",
        "weir.route": "chat",
        "weir.upstream": "fast",
        "weir.outcome": "completed",
        "weir.attempts": 1,
        "weir.hedged": False,
        "weir.cost.usd": 0.25,
        "weir.ttft": pytest.approx(0.3),
        "weir.ttfb": pytest.approx(0.2),
        "weir.time_to_first_answer": pytest.approx(0.4),
        "weir.duration.queue": 0.01,
        "weir.duration.connect": 0.04,
        "weir.duration.upstream_wait": 1.9,
        "weir.duration.gateway": 0.03,
        "weir.duration.client_blocked": 0.02,
        "weir.duration.guard_held": 0.0,
        "weir.chunks": 5,
        "weir.bytes": 900,
        "weir.gap.p50": 0.03,
        "weir.gap.p95": 0.04,
        "weir.gap.max": 0.04,
        "weir.gap.histogram": "20ms:1,40ms:3",
        "weir.stalls": 0,
        "weir.stalled": False,
        "weir.burst": False,
    }


def test_identity_and_times(make_record: MakeRecord) -> None:
    """The span has the record's own ids and times, the caller's span as remote parent, and the caller's tracestate."""
    record = make_record(7, received_unix=1_700_000_000.0, tracestate="vendor=1")
    told = built(record)
    assert told.name == "chat gpt-4o-mini"
    assert told.kind is SpanKind.CLIENT
    assert (told.start_time, told.end_time) == (1_700_000_000_000_000_000, 1_700_000_002_000_000_000)
    assert told.context is not None
    assert told.parent is not None
    assert (told.context.trace_id, told.context.span_id, told.parent.span_id) == (7, 7, 0xAA)
    assert told.parent.is_remote
    assert told.context.trace_state.to_header() == "vendor=1"
    assert told.start_time + round(sum(record.seconds.values()) * 1e9) == pytest.approx(told.end_time, abs=1_000_000)


@pytest.mark.parametrize("outcome", get_args(Outcome))
def test_every_outcome(outcome: Outcome, make_record: MakeRecord) -> None:
    """ERROR and error.type exactly for the outcomes that are not the client's, the guard's, the operator's or a refusal's."""
    told = built(make_record(outcome=outcome, error=ERRORS.get(outcome, "why") if outcome != "completed" else None))
    found = dict(told.attributes or {})
    assert found["weir.outcome"] == outcome
    assert told.status.status_code is (StatusCode.ERROR if outcome in ERRORS else StatusCode.UNSET)
    assert found.get("error.type") == ERRORS.get(outcome)
    assert found.get("weir.reason") == (None if outcome in ERRORS or outcome == "completed" else "why")
    assert found["http.response.status_code"] == 200
    assert found.get("weir.usage.partial") == (None if outcome == "completed" else True)
    assert {event.name for event in told.events} <= set(EVENTS)


def test_a_rejected_call_has_only_what_is_known(make_record: MakeRecord) -> None:
    """No attempt, no token, no usage: none of their attributes, least of all zeros."""
    found = attributes(
        StreamRecord(
            stream_id="s",
            trace_id="1",
            span_id="2",
            received_unix=1.0,
            received_at=5.0,
            ended_at=5.1,
            outcome="rejected",
            error="model_not_found",
            status=404,
            asked_model="nope",
        )
    )
    assert set(found) == {
        *("gen_ai.operation.name", "gen_ai.request.model", "gen_ai.request.stream", "http.response.status_code", "weir.stream.id"),
        *("weir.outcome", "weir.reason", "weir.attempts", "weir.hedged", "weir.chunks", "weir.bytes"),
    }


def test_one_token_has_no_time_per_token(make_record: MakeRecord) -> None:
    """(last - first) / (n - 1) needs two tokens; an explicit zero of the provider is a zero."""
    assert "gen_ai.server.time_per_output_token" not in attributes(make_record(usage=Usage(input=0, output=1)))
    assert attributes(make_record(usage=Usage(input=0, output=1)))["gen_ai.usage.input_tokens"] == 0


def test_a_whole_document_has_no_token_times(make_record: MakeRecord) -> None:
    """Without streaming nobody knows when the first token was made."""
    found = attributes(make_record(streamed=False))
    assert not {"weir.ttft", "gen_ai.server.time_to_first_token", "gen_ai.response.time_to_first_chunk"} & set(found)
    assert "weir.ttfb" in found


def test_events_are_bounded_and_in_order(make_record: MakeRecord) -> None:
    """At most sixteen: start, first token, attempts, the first and the longest stalls, end."""
    attempts = [
        Attempt(upstream="slow", model="tiny", why="retry", dialed_at=100.0 + n / 100, outcome="status", error="http_500") for n in range(9)
    ]
    stalls = [Stall(100.5 + n / 20, 5.0 if n == 15 else 1.0 + n / 1000, "upstream", n) for n in range(16)]
    record = make_record(cadence=Cadence(chunks=9, stalls=stalls, stall_count=40, stall_time={"upstream": 40.0, "client": 1.0}))
    record.attempts = [*attempts, *record.attempts]
    told = built(record)
    names = [event.name for event in told.events]
    assert len(names) == MOST_EVENTS
    assert (names[-1], names.count("attempt")) == ("stream.end", 5)
    assert [event.timestamp for event in told.events] == sorted(event.timestamp for event in told.events)
    lengths = [event.attributes["length"] for event in told.events if event.name == "stall" and event.attributes]
    assert max(lengths) == 5.0
    assert (told.attributes or {})["weir.stall.blame"] == "mixed"
    assert (told.attributes or {})["weir.stalls"] == 40


def test_a_resumed_stream_shows_its_seams(make_record: MakeRecord) -> None:
    """An event where another target went on, and an attribute; its usage is partial, and time per token is not guessed from it."""
    seam = Seam(at=101.0, chunks=3, characters=12, source="fast", target="slow", why="connection_reset")
    record = make_record(seams=[seam])
    told = built(record)
    [event] = [event for event in told.events if event.name == "resume"]
    assert dict(event.attributes or {}) == {"from": "fast", "to": "slow", "why": "connection_reset", "after_chunks": 3}
    assert event.timestamp == record.unix_ns(101.0)
    found = attributes(record)
    assert (found["weir.resumed"], found["weir.usage.partial"]) == (True, True)
    assert "gen_ai.server.time_per_output_token" not in found
    assert not {"weir.resumed", "weir.usage.partial"} & set(attributes(make_record()))


def test_the_sdk_takes_it(make_record: MakeRecord) -> None:
    """The SDK's encoder accepts every attribute: none is dropped or renamed on the wire."""
    record = make_record(tracestate="a=b,c=d")
    sent = encode_spans([built(record)]).resource_spans[0]
    assert {item.key for item in sent.scope_spans[0].spans[0].attributes} == set(attributes(record))
    assert sent.scope_spans[0].schema_url == "https://opentelemetry.io/schemas/1.41.1"


def test_names_are_unique_and_contracted() -> None:
    """The table names each attribute once; hops cover every owner; only gen_ai, weir and general semconv names are used."""
    names = [row.name for row in SPAN_ATTRIBUTES]
    assert len(names) == len(set(names))
    assert {f"weir.duration.{owner}" for owner in OWNERS} <= set(names)
    assert {name.split(".")[0] for name in names} == {"gen_ai", "weir", "server", "http", "error", "session"}


def test_the_environment_may_add_to_the_resource(monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_RESOURCE_ATTRIBUTES adds, and OTEL_SERVICE_NAME replaces our name."""
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    assert resource().attributes["deployment.environment.name"] == "test"
    assert resource().attributes["service.name"] == "weir"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    assert resource().attributes["service.name"] == "mine"
