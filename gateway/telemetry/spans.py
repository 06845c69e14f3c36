"""One span per stream, built from its account when it has ended: the table of attributes says what is on it."""

from collections.abc import Callable, Sequence

from msgspec import Struct
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from gateway import __version__
from gateway.core.owners import OWNERS, Owner
from gateway.core.record import Attempt, StreamRecord, Voice
from gateway.telemetry.account import ERROR_OUTCOMES, Account
from gateway.telemetry.happenings import events
from gateway.telemetry.histogram_text import histogram_text

Value = str | bool | int | float | tuple[str, ...]
SCHEMA_URL = "https://opentelemetry.io/schemas/1.41.1"
SCOPE = InstrumentationScope("weir", __version__, SCHEMA_URL)


class Attribute(Struct, frozen=True):
    """One span attribute: `read` returns None where it does not apply or is not known, and then it is absent."""

    name: str
    help: str
    read: Callable[[Account], Value | None]


def _served(read: Callable[[Attempt], Value | None]) -> Callable[[Account], Value | None]:
    return lambda account: read(served) if (served := account.record.served) else None


def _usage(name: str) -> Callable[[Account], Value | None]:
    return lambda account: getattr(account.record.usage, name, None)


def _owned(owner: Owner) -> Callable[[Account], Value | None]:
    return lambda account: account.record.seconds.get(owner)


def _spoke(read: Callable[[StreamRecord], Value | None]) -> Callable[[Account], Value | None]:
    return lambda account: read(account.record) if account.record.cadence.chunks else None


def _voice(read: Callable[[Voice], Value | None]) -> Callable[[Account], Value | None]:
    return lambda account: read(account.record.voice) if account.record.voice is not None else None


def _error_type(account: Account) -> str | None:
    record = account.record
    return (record.error or record.outcome) if record.outcome in ERROR_OUTCOMES else None


def _partial(account: Account) -> bool | None:
    record = account.record
    return True if record.usage is not None and (record.outcome != "completed" or record.seams) else None


def _blame(account: Account) -> str | None:
    owners = [blame for blame, seconds in account.record.cadence.stall_time.items() if seconds > 0]
    return owners[0] if len(owners) == 1 else "mixed" if owners else None


_GEN_AI = (
    Attribute("gen_ai.operation.name", "chat, text_completion, embeddings or realtime", lambda a: a.record.operation),
    Attribute("gen_ai.provider.name", "provider of the served upstream", _served(lambda s: s.provider or None)),
    Attribute("gen_ai.request.model", "the model the client asked for", lambda a: a.record.asked_model or None),
    Attribute("gen_ai.request.stream", "whether a stream was asked for", lambda a: a.record.streamed),
    Attribute("gen_ai.request.temperature", "as asked", lambda a: a.record.temperature),
    Attribute("gen_ai.request.top_p", "as asked", lambda a: a.record.top_p),
    Attribute("gen_ai.request.max_tokens", "as asked", lambda a: a.record.max_tokens),
    Attribute("gen_ai.request.seed", "as asked", lambda a: a.record.seed),
    Attribute("gen_ai.response.id", "the provider's id of the answer", lambda a: a.record.response_id),
    Attribute("gen_ai.response.model", "the model the provider says answered", lambda a: a.record.served_model),
    Attribute("gen_ai.response.finish_reasons", "one per choice, the provider's words", lambda a: tuple(a.record.finish) or None),
    Attribute("gen_ai.response.time_to_first_chunk", "s, served attempt's request sent to its first event", lambda a: a.first_chunk),
    Attribute("gen_ai.server.time_to_first_token", "s, served attempt's request sent to its first token", lambda a: a.first_token),
    Attribute("gen_ai.server.time_per_output_token", "s, (last token - first token) / (output tokens - 1)", lambda a: a.per_token),
    Attribute("gen_ai.usage.input_tokens", "as the provider said", _usage("input")),
    Attribute("gen_ai.usage.output_tokens", "as the provider said", _usage("output")),
    Attribute("gen_ai.usage.cache_read.input_tokens", "as the provider said", _usage("cached")),
    Attribute("gen_ai.usage.cache_creation.input_tokens", "as the provider said", _usage("cache_write")),
    Attribute("gen_ai.usage.reasoning.output_tokens", "as the provider said", _usage("reasoning")),
    Attribute("server.address", "host of the served upstream", _served(lambda s: s.address or None)),
    Attribute("server.port", "port of the served upstream", _served(lambda s: s.port or None)),
    Attribute("http.response.status_code", "the status the client got", lambda a: a.record.status),
    Attribute("error.type", "code of the error; only with span status ERROR", _error_type),
    Attribute("session.id", "from x-weir-session-id", lambda a: a.record.session_id),
)
_STREAM = (
    Attribute("weir.stream.id", "as in x-weir-stream-id", lambda a: a.record.stream_id),
    Attribute("weir.route", "name of the route", lambda a: a.record.route or None),
    Attribute("weir.tenant", "who called", lambda a: a.record.tenant or None),
    Attribute("weir.upstream", "the served upstream, or the last one tried", lambda a: a.record.upstream or None),
    Attribute("weir.outcome", "how it ended, of a closed set", lambda a: a.record.outcome),
    Attribute("weir.reason", "code of the end of a stream that is no error of ours (model_not_found)",
              lambda a: a.record.error if a.record.outcome not in ERROR_OUTCOMES else None),
    Attribute("weir.attempts", "how many targets were tried", lambda a: len(a.record.attempts)),
    Attribute("weir.hedged", "whether two targets raced", lambda a: a.record.hedged),
    Attribute("weir.fallback.reason", "why the first target was left", lambda a: a.record.fallback_reason),
    Attribute("weir.resumed", "true when another target went on with the answer", lambda a: True if a.record.seams else None),
    Attribute("weir.missing_done", "true when the end was known by its finish reason only", lambda a: a.record.missing_done or None),
    Attribute("weir.reconnects", "how often its client came back while it ran", lambda a: a.record.reconnects or None),
    Attribute("weir.client.retry", "the client SDK's own retry count", lambda a: a.record.client_retry),
    Attribute("weir.prompt.name", "from x-weir-prompt-name", lambda a: a.record.prompt_name),
    Attribute("weir.prompt.version", "from x-weir-prompt-version", lambda a: a.record.prompt_version),
    Attribute("weir.cost.usd", "by public list prices, when usage and price are known", lambda a: a.cost),
    Attribute("weir.usage.partial", "true when the stream, or one that it was resumed from, ended before its last usage could come",
              _partial),
    Attribute("weir.sampling.reason", "why it was kept: parent, error, stall, fallback, slow, abort or baseline; only while sampling",
              lambda a: a.kept.reason if a.kept else None),
)  # fmt: skip
_TIMES = (
    Attribute("weir.ttft", "s, request received to first token", lambda a: a.ttft),
    Attribute("weir.ttfb", "s, request received to first byte of the answer", lambda a: a.ttfb),
    Attribute("weir.time_to_first_answer", "s, request received to first token that is not reasoning", lambda a: a.first_answer),
    *(Attribute(f"weir.duration.{owner}", "s owned; the six sum to the span", _owned(owner)) for owner in OWNERS),
)
_CADENCE = (
    Attribute("weir.chunks", "events that bore tokens", lambda a: a.record.cadence.chunks),
    Attribute("weir.bytes", "bytes of the answer's body", lambda a: a.record.bytes),
    Attribute("weir.gap.p50", "s between arrivals of tokens", lambda a: a.record.cadence.gap_p50),
    Attribute("weir.gap.p95", "s between arrivals of tokens", lambda a: a.record.cadence.gap_p95),
    Attribute("weir.gap.max", "s between arrivals of tokens", lambda a: a.record.cadence.gap_max),
    Attribute("weir.gap.histogram", "\"10ms:3,20ms:41\": gaps up to each bound, at most 256 characters",
              lambda a: histogram_text(a.record.cadence.gaps) or None),
    Attribute("weir.stalls", "silences longer than the route's threshold", _spoke(lambda r: r.cadence.stall_count)),
    Attribute("weir.stall.time", "s in stalls", _spoke(lambda r: sum(r.cadence.stall_time.values()) if r.stalled else None)),
    Attribute("weir.stall.blame", "upstream, client, gateway or mixed", _blame),
    Attribute("weir.stalled", "whether there was any stall", _spoke(lambda r: r.stalled)),
    Attribute("weir.burst", "whether a hop before us held the stream back and let it go at once", _spoke(lambda r: r.cadence.burst)),
)  # fmt: skip
_VOICE = (
    Attribute("weir.realtime.responses", "answers that the upstream announced in a realtime session", _voice(lambda v: v.responses)),
    Attribute("weir.realtime.first_token", "s, first answer asked for to its first token", _voice(lambda v: v.first_token.first)),
    Attribute("weir.realtime.first_audio", "s, first spoken answer asked for to its first sound", _voice(lambda v: v.first_audio.first)),
    Attribute("weir.realtime.first_audio.p50", "s, of all its spoken answers", _voice(lambda v: v.first_audio.p50)),
    Attribute("weir.realtime.first_audio.max", "s, of all its spoken answers", _voice(lambda v: v.first_audio.max)),
    Attribute("weir.realtime.audio.in", "s of sound that the client sent", _voice(lambda v: v.audio_in)),
    Attribute("weir.realtime.audio.out", "s of sound that the upstream sent", _voice(lambda v: v.audio_out)),
    Attribute("weir.realtime.underruns", "times a listener had played all that had come of an answer", _voice(lambda v: v.underruns)),
    Attribute("weir.realtime.underrun.time", "s a listener heard nothing for that reason", _voice(lambda v: v.underrun_time)),
    Attribute("weir.realtime.interruptions", "answers the user spoke into, or the client cancelled", _voice(lambda v: v.interruptions)),
    Attribute("weir.realtime.errors", "errors that the upstream reported in the session", _voice(lambda v: v.errors)),
    Attribute("weir.realtime.last_error", "code of the last of them", _voice(lambda v: v.last_error)),
    Attribute("weir.realtime.audio_tokens.input", "the audio among the input tokens", _voice(lambda v: v.audio_input)),
    Attribute("weir.realtime.audio_tokens.cached", "the audio among the cached input tokens", _voice(lambda v: v.audio_cached)),
    Attribute("weir.realtime.audio_tokens.output", "the audio among the output tokens", _voice(lambda v: v.audio_output)),
    Attribute("weir.realtime.closed_by", "client, upstream or gateway", _voice(lambda v: v.closed_by)),
    Attribute("weir.realtime.close_code", "the WebSocket close code it said", _voice(lambda v: v.close_code)),
)  # fmt: skip
SPAN_ATTRIBUTES: tuple[Attribute, ...] = (*_GEN_AI, *_STREAM, *_TIMES, *_CADENCE, *_VOICE)
"""What is on every span, as far as it is known; mappers add rows of their own."""


def resource() -> Resource:
    """Return who is speaking: `weir` and its version, which OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME may add to or replace."""
    ours = Resource({"service.name": "weir", "service.version": __version__}, SCHEMA_URL)
    return ours.merge(OTELResourceDetector().detect())


def span(account: Account, who: Resource, rows: Sequence[Attribute] = SPAN_ATTRIBUTES) -> ReadableSpan:
    """Build the span of a stream with these attributes. Raises ValueError when the record's ids are not hexadecimal."""
    record = account.record
    trace_id, flags = int(record.trace_id, 16), TraceFlags(TraceFlags.SAMPLED if record.sampled else TraceFlags.DEFAULT)
    state = TraceState.from_header([record.tracestate]) if record.tracestate else TraceState()
    if account.kept is not None and account.kept.threshold is not None:
        state = state.add("ot", f"th:{account.kept.threshold}")
    own = SpanContext(trace_id, int(record.span_id, 16), is_remote=False, trace_flags=flags, trace_state=state)
    parent = SpanContext(trace_id, int(record.parent_id, 16), True, flags, state) if record.parent_id else None
    end = record.received_at if record.ended_at is None else record.ended_at
    return ReadableSpan(
        name=f"{record.operation} {record.asked_model}".strip(),
        context=own,
        parent=parent,
        resource=who,
        attributes={row.name: value for row in rows if (value := row.read(account)) is not None},
        events=events(record),
        kind=SpanKind.CLIENT,
        status=Status(StatusCode.ERROR) if record.outcome in ERROR_OUTCOMES else Status(StatusCode.UNSET),
        start_time=record.unix_ns(record.received_at),
        end_time=record.unix_ns(end),
        instrumentation_scope=SCOPE,
    )
