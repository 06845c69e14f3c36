"""The one table of metrics: what exists, under which name for Prometheus and for OTLP, with which labels, unit and bounds."""

from typing import Literal

from msgspec import Struct

from gateway.config import Config
from gateway.core.buckets import GAP_BOUNDS, LATENCY_BOUNDS, TOKEN_BOUNDS, with_thresholds

Kind = Literal["counter", "gauge", "histogram"]
Bounds = Literal["latency", "gap", "tokens"]


class Instrument(Struct, frozen=True):
    """One metric. `name` is Prometheus's, `otel` OTLP's; `unit` is UCUM, in seconds wherever it is a time."""

    name: str
    otel: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    help: str
    bounds: Bounds | None = None


_CALL = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "route", "upstream")
_TARGET = ("route", "upstream", "model")

_HISTOGRAMS: tuple[tuple[str, str, tuple[str, ...], Bounds, str], ...] = (
    ("gen_ai_server_time_to_first_token_seconds", "gen_ai.server.time_to_first_token", _CALL, "latency",
     "From the served attempt's request sent to its first token."),
    ("gen_ai_server_time_per_output_token_seconds", "gen_ai.server.time_per_output_token", _CALL, "gap",
     "Time per output token after the first; only when the provider said how many there were."),
    ("gen_ai_client_operation_duration_seconds", "gen_ai.client.operation.duration", (*_CALL, "error_type"), "latency",
     "From request received to the end; error_type is the outcome unless the stream completed."),
    ("gen_ai_client_operation_time_to_first_chunk_seconds", "gen_ai.client.operation.time_to_first_chunk", _CALL, "latency",
     "From the served attempt's request sent to its first event."),
    ("gen_ai_client_token_usage", "gen_ai.client.token.usage", (*_CALL, "gen_ai_token_type"), "tokens",
     "Tokens of one call as the provider counted them; nothing when it did not say."),
    ("weir_ttft_seconds", "weir.ttft", _TARGET, "latency",
     "From request received to the first token, as the user feels it; streams without a token add nothing."),
    ("weir_chunk_gap_seconds", "weir.chunk.gap", _TARGET, "gap",
     "Silence between two arrivals of tokens, binned in the worker."),
    ("weir_overhead_seconds", "weir.overhead", ("route",), "latency",
     "Time of a stream that the gateway itself owned."),
    ("weir_realtime_first_token_seconds", "weir.realtime.first_token", _TARGET, "latency",
     "From an answer of a realtime session asked for to its first token."),
    ("weir_realtime_first_audio_seconds", "weir.realtime.first_audio", _TARGET, "latency",
     "From an answer of a realtime session asked for to its first sound."),
)  # fmt: skip

_COUNTERS = (
    ("weir_streams_total", "weir.streams", "{stream}", ("route", "upstream", "model", "outcome", "stalled", "streamed"),
     "Ended streams; the sum over outcomes is the requests accepted."),
    ("weir_stalls_total", "weir.stalls", "{stall}", ("route", "upstream", "blame", "phase"),
     "Silences longer than the route's threshold, counted when noticed."),
    ("weir_stall_seconds_total", "weir.stall.time", "s", ("route", "upstream", "blame"),
     "Time spent in such silences, counted when the stream ends."),
    ("weir_attempts_total", "weir.attempts", "{attempt}", ("route", "upstream", "why", "outcome"),
     "Tries at one target each, losers of a race included."),
    ("weir_fallbacks_total", "weir.fallbacks", "{fallback}", ("route", "from", "to", "reason"),
     "Changes of target before the first byte, and what the one before had done."),
    ("weir_stale_connections_total", "weir.stale_connections", "{connection}", ("upstream",),
     "Kept-alive connections that an upstream had closed as a call was sent on them; it was sent again on a new one."),
    ("weir_retry_after_first_chunk_total", "weir.retry_after_first_chunk", "{attempt}", ("route",),
     "Attempts begun after the client had its first bytes: 0, but for routes with `mid_stream: resume`."),
    ("weir_cost_usd_total", "weir.cost.usd", "{USD}", ("route", "tenant"),
     "Cost by public list prices; only of streams whose usage and price are known."),
    ("weir_traces_total", "weir.traces", "{trace}", ("route",),
     "Traces with a stream on this route, each counted at its first one's end: cost divided by these is the cost of a trace."),
    ("weir_reconnects_total", "weir.reconnects", "{reconnect}", ("route",),
     "Clients that came back for a stream after their connection had broken, counted when they come."),
    ("weir_feedback_total", "weir.feedback", "{opinion}", ("route", "score", "stream"),
     "Scores that clients gave (-1, 0, 1), counted when a stream's is new or another, by what the stream was like."),
    ("weir_client_retries_total", "weir.client_retries", "{retry}", ("route",),
     "Calls that the client's SDK says it is making again."),
    ("weir_streams_without_usage_total", "weir.streams_without_usage", "{stream}", ("route", "outcome"),
     "Streams that spoke and whose provider never said how many tokens they held."),
    ("weir_stream_mutations_total", "weir.stream_mutations", "{mutation}", ("kind",),
     "Deliberate changes to a stream's bytes."),
    ("weir_parser_errors_total", "weir.parser_errors", "{error}", ("dialect", "reason"),
     "Frames that the observer could not read; they were relayed all the same."),
    ("weir_telemetry_dropped_total", "weir.telemetry_dropped", "{item}", ("kind",),
     "Messages, spans, rows and lines of telemetry lost on their way."),
    ("weir_realtime_responses_total", "weir.realtime.responses", "{response}", ("route", "upstream"),
     "Answers that upstreams announced in realtime sessions."),
    ("weir_realtime_audio_seconds_total", "weir.realtime.audio", "s", ("route", "upstream", "direction"),
     "Sound of realtime sessions, in from clients and out to them."),
    ("weir_realtime_underruns_total", "weir.realtime.underruns", "{underrun}", ("route", "upstream"),
     "Moments at which a listener had played all that had come of an answer."),
    ("weir_realtime_underrun_seconds_total", "weir.realtime.underrun.time", "s", ("route", "upstream"),
     "Time listeners heard nothing for that reason."),
    ("weir_realtime_interruptions_total", "weir.realtime.interruptions", "{interruption}", ("route", "upstream"),
     "Answers that a user spoke into or a client cancelled."),
    ("weir_realtime_errors_total", "weir.realtime.errors", "{error}", ("route", "upstream"),
     "Errors that upstreams reported in realtime sessions."),
    ("weir_reload_failed_total", "weir.reload_failed", "{reload}", (),
     "Configs that were refused while an older one kept running."),
)  # fmt: skip

_GAUGES = (
    ("weir_streams_active", "weir.streams_active", "{stream}", ("route", "upstream"), "Streams begun and not yet ended."),
    ("weir_oldest_gap_seconds", "weir.oldest_gap", "s", ("worker",), "The longest silence that some live stream is in right now."),
    ("weir_upstream_score_seconds", "weir.upstream_score", "s", ("upstream", "model"),
     "What the routing policy compares, the mean over workers."),
    ("weir_breaker_state", "weir.breaker_state", "{state}", ("upstream",),
     "0 closed, 1 half open, 2 open: the worst over workers and models."),
    ("weir_loop_lag_seconds", "weir.loop_lag", "s", ("worker",), "How late the worker's event loop was at its last heartbeat."),
    ("weir_store_bytes", "weir.store.size", "By", (), "Size of the embedded store, its write-ahead log included."),
    ("weir_store_oldest_seconds", "weir.store.oldest", "s", (), "How long ago the oldest stream in the store ended."),
    ("weir_slo_ttft_seconds", "weir.slo.ttft", "s", ("route",), "The time to first token that the route promises (`slo.ttft`)."),
    ("weir_slo_objective", "weir.slo.objective", "1", ("route",), "The share of streams that must keep that promise (`slo.objective`)."),
    ("weir_build_info", "weir.build.info", "{info}", ("version",), "Always 1; the version is the label."),
    ("weir_config_info", "weir.config.info", "{info}", ("hash",), "Always 1; the hash of the running config is the label."),
)  # fmt: skip

_ROWS = (
    *(Instrument(n, o, "histogram", "{token}" if b == "tokens" else "s", labels, text, b) for n, o, labels, b, text in _HISTOGRAMS),
    *(Instrument(n, o, "counter", unit, labels, text) for n, o, unit, labels, text in _COUNTERS),
    *(Instrument(n, o, "gauge", unit, labels, text) for n, o, unit, labels, text in _GAUGES),
)
INSTRUMENTS: dict[str, Instrument] = {row.name: row for row in _ROWS}

LABEL_ATTRIBUTES = {
    "gen_ai_operation_name": "gen_ai.operation.name",
    "gen_ai_provider_name": "gen_ai.provider.name",
    "gen_ai_request_model": "gen_ai.request.model",
    "gen_ai_token_type": "gen_ai.token.type",
    "error_type": "error.type",
}
"""Labels that have another name as an OTLP attribute; the others keep theirs."""


def bounds(config: Config) -> dict[Bounds, tuple[float, ...]]:
    """Return the bucket bounds of each family, in seconds or tokens, with the config's thresholds among them."""
    return {
        "latency": with_thresholds(LATENCY_BOUNDS, config.latency_thresholds()),
        "gap": with_thresholds(GAP_BOUNDS, config.gap_thresholds()),
        "tokens": TOKEN_BOUNDS,
    }
