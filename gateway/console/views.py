"""Records and live streams as the JSON that the API answers with: seconds everywhere, None for what is not known."""

from typing import Any

import msgspec

from gateway.config import Route
from gateway.core.record import StreamRecord
from gateway.telemetry.account import Account
from gateway.telemetry.live import LiveStream, TargetView

View = dict[str, Any]


def summary(told: Account, ended_unix: float | None) -> View:
    """One row of the list; `state` is `ended` for ended streams."""
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
        "stalls": record.cadence.stall_count,
        "attempts": len(record.attempts),
        "cost_usd": told.cost,
    }


def live_summary(stream: LiveStream, told: Account, now: float) -> View:
    """One row of a stream that goes on: no outcome yet, but an age, and how long it has been in its state."""
    return {
        **summary(told, None),
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


def route_view(route: Route, targets: list[TargetView], now: float) -> View:
    """A route, each of its targets as configured, and what the workers think of it."""
    return {
        "name": route.name,
        "policy": route.policy,
        "models": list(route.match.models),
        "slo": {"ttft": route.slo.ttft, "objective": route.slo.objective},
        "stall_threshold": route.stall.threshold,
        "targets": [
            {
                "upstream": target.upstream,
                "model": target.model,
                "weight": target.weight,
                "priority": target.priority,
                "seen": [
                    _target(view, now)
                    for view in targets
                    if view.upstream == target.upstream and (target.model is None or view.model == target.model)
                ],
            }
            for target in route.targets
        ],
    }


def _target(view: TargetView, now: float) -> View:
    """`since` is how many seconds the breaker has been as it is."""
    return {
        "model": view.model,
        "ttft": view.ttft,
        "score": view.score,
        "in_flight": view.in_flight,
        "breaker": view.breaker,
        "since": max(0.0, now - view.since),
        "last_error": view.last_error,
        "workers": [
            {"worker": slot, "ttft": s.ttft, "score": s.score, "in_flight": s.in_flight, "breaker": s.breaker}
            for slot, s in sorted(view.workers.items())
        ],
    }


def _offsets(times: View, record: StreamRecord) -> View:
    return {
        name.removesuffix("_at"): round(at - record.received_at, 6)
        for name, at in times.items()
        if name.endswith("_at") and isinstance(at, float | int) and name != "received_at"
    }


def _derived(told: Account) -> View:
    return {name: getattr(told, name) for name in told.__struct_fields__ if name != "record"}
