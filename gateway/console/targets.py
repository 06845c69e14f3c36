"""Routes and their targets as the JSON that the API answers with: what is configured, believed, and was met lately; and who is next."""

from typing import Any

from msgspec import Struct

from gateway.config import Route, Target
from gateway.config.matching import glob
from gateway.telemetry.lately import STEP, STEPS, Key, Lately, Trouble
from gateway.telemetry.live import TargetView
from gateway.telemetry.overview import Slice

View = dict[str, Any]
UNSEEN = 0.25
"""Seconds that routing takes a target for which it has never measured."""
WINDOW = STEP * STEPS


class Survey(Struct, frozen=True):
    """Everything known of every target at the moment `now` (monotonic seconds)."""

    believed: list[TargetView]
    met: dict[Key, Slice]
    troubles: dict[Key, Trouble]
    now: float


def survey(believed: list[TargetView], lately: Lately, now: float) -> Survey:
    return Survey(believed, lately.read(now), lately.troubles, now)


def route_view(route: Route, what: Survey) -> View:
    """A route; each of its targets as configured, by model as the workers see it and as streams met it in the last five minutes; and
    in which order the next request would try them."""
    whole = Slice()
    for key, met in what.met.items():
        if key[0] == route.name:
            whole.merge(met)
    targets = [_target(route, target, what, whole.streams) for target in route.targets]
    return {
        "name": route.name,
        "policy": route.policy,
        "models": list(route.match.models),
        "slo": {"ttft": route.slo.ttft, "objective": route.slo.objective},
        "stall_threshold": route.stall.threshold,
        "window": WINDOW,
        "streams": whole.streams,
        "targets": targets,
        "next": order(route, targets),
    }


def order(route: Route, targets: list[View]) -> list[View]:
    """Return in which order the next request would most likely try the targets, what speaks for each, and last those it would not try.

    Policies draw: least-latency takes the better of two at random and explores a little, weighted and round-robin take turns.
    """
    options = [(target, seen) for target in targets for seen in (target["seen"] or [None])]

    def rank(option: tuple[View, View | None]) -> tuple[bool, float, float]:
        target, seen = option
        score = seen["score"] if seen else UNSEEN
        ranks = {"priority": (target["priority"], score), "weighted": (-target["weight"], 0.0), "round-robin": (0.0, 0.0)}
        return (bool(_refusal(seen)), *ranks.get(route.policy, (0.0, score)))

    return [_place(route, target, seen) for target, seen in sorted(options, key=rank)]


def _place(route: Route, target: View, seen: View | None) -> View:
    refusal = _refusal(seen)
    return {
        "upstream": target["upstream"],
        "model": seen["model"] if seen else target["model"],
        "usable": not refusal,
        "because": refusal or _because(route, target, seen),
        "score": seen["score"] if seen else None,
        "terms": seen["terms"] if seen else {},
    }


def _refusal(seen: View | None) -> str:
    """Say why no call would go to a target just now; a worker that tells of no reason may still tell of an open breaker."""
    if seen is None:
        return ""
    return seen["refusal"] or ("breaker open" if seen["breaker"] == "open" else "")


def _because(route: Route, target: View, seen: View | None) -> str:
    score = f"score {seen['score'] * 1000:.0f} ms" if seen else f"never asked, taken for {UNSEEN * 1000:.0f} ms"
    words = {
        "priority": f"priority {target['priority']}, {score}",
        "weighted": f"weight {target['weight']:g}",
        "round-robin": "in turn",
    }
    return words.get(route.policy, score)


def _target(route: Route, target: Target, what: Survey, streams: int) -> View:
    views = [view for view in what.believed if view.upstream == target.upstream and _is_asked(route, target, view.model, what)]
    return {
        "upstream": target.upstream,
        "model": target.model,
        "weight": target.weight,
        "priority": target.priority,
        "seen": [_seen(view, (route.name, view.upstream, view.model), what, streams) for view in views],
    }


def _is_asked(route: Route, target: Target, model: str, what: Survey) -> bool:
    """Say whether a route asks a target for a model. One that passes on what was asked: if its streams did, or if it would and no other
    route's streams did, since workers do not tell by whom a target was asked."""
    if target.model is not None:
        return target.model == model
    routes = {key[0] for key in (*what.met, *what.troubles) if key[1:] == (target.upstream, model)}
    return route.name in routes or (not routes and any(glob(pattern, model) for pattern in route.match.models))


def _seen(view: TargetView, key: Key, what: Survey, streams: int) -> View:
    """`since` is how many seconds the breaker has been as it is; `ttft` is what routing takes the target for."""
    met = what.met.get(key, Slice())
    return {
        "model": view.model,
        "ttft": view.ttft,
        "score": view.score,
        "terms": view.terms,
        "refusal": view.refusal,
        "in_flight": view.in_flight,
        "breaker": view.breaker,
        "since": max(0.0, what.now - view.since),
        "last_error": view.last_error,
        "trouble": _trouble(what.troubles.get(key), what.now),
        "share": met.streams / streams if streams else None,
        "lately": {name: value for name, value in met.figures(WINDOW).items() if name != "rate"} | {"stalls_by": met.stalls},
        "workers": [
            {"worker": slot, "ttft": s.ttft, "score": s.score, "in_flight": s.in_flight, "breaker": s.breaker}
            for slot, s in sorted(view.workers.items())
        ],
    }


def _trouble(trouble: Trouble | None, now: float) -> View | None:
    if trouble is None:
        return None
    return {"error": trouble.error, "ago": max(0.0, now - trouble.at), "stream_id": trouble.stream_id}
