"""Records and live streams as the JSON that the API answers with: seconds everywhere, None for what is not known."""

from typing import Any

import msgspec

from gateway.console.strip import strip
from gateway.core.record import StreamRecord
from gateway.telemetry.account import Account
from gateway.telemetry.live import LiveStream
from gateway.telemetry.opinions import Opinion

View = dict[str, Any]


def summary(told: Account, ended_unix: float | None, said: Opinion | None = None) -> View:
    """One row of the list; `state` is `ended` for ended streams, `score` what somebody has said of it."""
    record = told.record
    return {
        "stream_id": record.stream_id,
        "trace_id": record.trace_id,
        "span_id": record.span_id,
        "parent_id": record.parent_id,
        "state": "ended",
        "route": record.route,
        "upstream": record.upstream,
        "model": record.asked_model,
        "received": record.received_unix,
        "ended": ended_unix,
        "outcome": record.outcome,
        "error": record.error,
        "ttft": told.ttft,
        "duration": told.duration,
        "slow": told.slow,
        "chunks": record.cadence.chunks,
        "input_tokens": record.usage.input if record.usage else None,
        "output_tokens": record.usage.output if record.usage else None,
        "tokens_per_second": _pace(told),
        "gap_p50": record.cadence.gap_p50,
        "gap_p95": record.cadence.gap_p95,
        "stalls": record.cadence.stall_count,
        "stall_time": record.cadence.stall_time,
        "stall_seconds": sum(record.cadence.stall_time.values()),
        "tags": record.tags,
        "prompt": record.prompt_name,
        "prompt_version": record.prompt_version,
        "session": record.session_id,
        "score": said.score if said is not None else None,
        "attempts": len(record.attempts),
        "cost_usd": told.cost,
    }


def feedback(said: Opinion | None) -> View | None:
    """What somebody has said of a stream; `at` is unix seconds."""
    return None if said is None else {"score": said.score, "comment": said.comment, "at": said.at}


def _pace(told: Account) -> float | None:
    """Return tokens a second between the first token and the last; where the provider did not count them, chunks stand for tokens."""
    record = told.record
    tokens = record.usage.output if record.usage and record.usage.output else record.cadence.chunks
    if record.first_token_at is None or record.last_token_at is None or tokens < 2:
        return None
    spoke = record.last_token_at - record.first_token_at
    return (tokens - 1) / spoke if spoke > 0 else None


def live_summary(stream: LiveStream, told: Account, now: float, said: Opinion | None = None) -> View:
    """One row of a stream that goes on: no outcome yet, but an age, and how long it has been in its state."""
    return {
        **summary(told, None, said),
        "state": stream.state,
        "upstream": stream.upstream,
        "outcome": None,
        "chunks": None,
        "age": max(0.0, now - stream.record.received_at),
        "in_state": max(0.0, now - stream.since),
        "stalls": sum(stream.announced.values()),
        "stall_blame": stream.blame,
        "worker": stream.slot,
    }


def step(told: Account, ended_unix: float | None) -> View:
    """The row of a stream that is a step of a trace: with its tokens as a strip, and when its request was sent (seconds, `sent`)."""
    served = told.record.served
    sent = served.sent_at - told.record.received_at if served is not None and served.sent_at is not None else None
    return {**summary(told, ended_unix), "sent": sent, "strip": strip(told.record)}


def detail(told: Account) -> View:
    """The whole record, its times also as `offsets` in seconds since the request was received, and what follows from it."""
    record = told.record
    view: View = msgspec.to_builtins(record)
    view["offsets"] = _offsets(view, record)
    for attempt in view["attempts"]:
        attempt["offsets"] = _offsets(attempt, record)
    for stall in view["cadence"]["stalls"]:
        stall["offset"] = stall["at"] - record.received_at
    for seam in view["seams"]:
        seam["offset"] = seam["at"] - record.received_at
    return {**view, "derived": _derived(told)}


def live_detail(stream: LiveStream, told: Account, now: float) -> View:
    """The same of a stream that goes on."""
    return {**detail(told), **{key: value for key, value in live_summary(stream, told, now).items() if key not in ("attempts", "stalls")}}


def _offsets(times: View, record: StreamRecord) -> View:
    return {
        name.removesuffix("_at"): round(at - record.received_at, 6)
        for name, at in times.items()
        if name.endswith("_at") and isinstance(at, float | int) and name != "received_at"
    }


def _derived(told: Account) -> View:
    return {name: getattr(told, name) for name in told.__struct_fields__ if name not in ("record", "kept")}
