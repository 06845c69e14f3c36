"""Records and live streams as the JSON that the API answers with: seconds everywhere, None for what is not known."""

from typing import Any

import msgspec

from gateway.config import Route
from gateway.core.record import StreamRecord
from gateway.telemetry.account import Account
from gateway.telemetry.live import LiveStream, TargetView
from gateway.telemetry.opinions import Opinion

View = dict[str, Any]
UNSEEN = 0.25
"""Seconds that routing takes a target for which it has never measured."""


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


def route_view(route: Route, targets: list[TargetView], shares: dict[str, float], now: float) -> View:
    """A route, each of its targets as configured, what the workers think of it, its share of late, and which would be asked next."""
    view = _route(route, targets, shares, now)
    return {**view, "next": order(route, view["targets"])}


def order(route: Route, targets: list[View]) -> list[View]:
    """Return in which order the next request would most likely try the targets, and what speaks for each.

    Policies draw: least-latency takes the better of two at random and explores a little, weighted and round-robin take turns.
    """
    known = [(target, seen) for target in targets for seen in (target["seen"] or [None])]
    usable = [(target, seen) for target, seen in known if seen is None or seen["breaker"] != "open"] or known

    def rank(option: tuple[View, View | None]) -> tuple[float, float]:
        target, seen = option
        score = seen["score"] if seen else UNSEEN
        ranks = {"priority": (target["priority"], score), "weighted": (-target["weight"], 0.0), "round-robin": (0.0, 0.0)}
        return ranks.get(route.policy, (0.0, score))

    return [{"upstream": target["upstream"], "because": _because(route, target, seen)} for target, seen in sorted(usable, key=rank)]


def _because(route: Route, target: View, seen: View | None) -> str:
    score = f"score {seen['score'] * 1000:.0f} ms" if seen else f"never asked, taken for {UNSEEN * 1000:.0f} ms"
    words = {
        "priority": f"priority {target['priority']}, {score}",
        "weighted": f"weight {target['weight']:g}",
        "round-robin": "in turn",
    }
    return words.get(route.policy, score)


def _route(route: Route, targets: list[TargetView], shares: dict[str, float], now: float) -> View:
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
                    {**_target(view, now), "share": shares.get(view.upstream)}
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
