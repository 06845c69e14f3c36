"""Routes and their targets as the JSON that the API answers with: what is configured, believed, and was met lately; and who is next."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from gateway.config import Match, Route, Target
from gateway.config.matching import glob
from gateway.telemetry.lately import STEP, STEPS, Key, Lately, Trouble
from gateway.telemetry.live import TargetView
from gateway.telemetry.overview import Slice

View = dict[str, Any]
UNSEEN = 0.25
"""Seconds that routing takes a target for which it has never measured."""
WINDOW = STEP * STEPS
MOST_MODELS = 50
"""Models that are told of one target, the most used first: clients name as many as they like."""


class Survey(Struct, frozen=True):
    """Everything known of every target at the moment `now` (monotonic seconds)."""

    believed: list[TargetView]
    met: dict[Key, Slice]
    troubles: dict[Key, Trouble]
    now: float


def survey(believed: list[TargetView], lately: Lately, now: float) -> Survey:
    return Survey(believed, lately.read(now), lately.troubles, now)


def route_view(route: Route, what: Survey, routes: Sequence[Route] = ()) -> View:
    """A route; each of its targets as configured, by model as the workers see it and as streams met it in the last five minutes; and
    in which order the next request would try them. `routes` are all of them, in order: what another one takes does not come."""
    whole = Slice()
    for key, met in what.met.items():
        if key[0] == route.name:
            whole.merge(met)
    rivals = [each for each in routes if each.name == route.name or _takes_by_model_alone(each)] or [route]
    targets = [_target(route, target, _Asked(what, rivals, whole.streams)) for target in route.targets]
    asked = _asked_most(targets)
    return {
        "name": route.name,
        "policy": route.policy,
        "models": list(route.match.models),
        "slo": {"ttft": route.slo.ttft, "objective": route.slo.objective},
        "stall_threshold": route.stall.threshold,
        "window": WINDOW,
        "streams": whole.streams,
        "targets": targets,
        "next_model": asked,
        "next": order(route, targets, asked),
    }


def _asked_most(targets: list[View]) -> str | None:
    """Return the model that streams lately asked most of targets that pass on what is asked; None where nothing is passed on."""
    uses: dict[str, int] = {}
    for target in targets:
        if target["model"] is None:
            for seen in target["seen"]:
                uses[seen["model"]] = uses.get(seen["model"], 0) + seen["streams"]
    return max(uses, key=lambda model: uses[model], default=None)


def order(route: Route, targets: list[View], asked: str | None) -> list[View]:
    """Return in which order the next request would most likely try the targets, what speaks for each, and last those it would not try.

    It is a request for `asked`, wherever a target passes on the model.

    Policies draw: least-latency takes the better of two at random and explores a little, weighted and round-robin take turns.
    """
    options = [(target, next((seen for seen in target["seen"] if target["model"] or seen["model"] == asked), None)) for target in targets]

    def rank(option: tuple[View, View | None]) -> tuple[bool, float, float]:
        target, seen = option
        score = seen["score"] if seen else UNSEEN
        ranks = {"priority": (target["priority"], score), "weighted": (-target["weight"], 0.0), "round-robin": (0.0, 0.0)}
        return (bool(_refusal(seen)), *ranks.get(route.policy, (0.0, score)))

    return [_place(route, target, seen, asked) for target, seen in sorted(options, key=rank)]


def _place(route: Route, target: View, seen: View | None, asked: str | None) -> View:
    refusal = _refusal(seen)
    return {
        "upstream": target["upstream"],
        "model": seen["model"] if seen else target["model"] or asked,
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


class _Asked(Struct, frozen=True):
    """What is known, the routes among which a model alone decides, this one with them, and how many streams it had."""

    what: Survey
    rivals: list[Route]
    streams: int


def _takes_by_model_alone(route: Route) -> bool:
    """Say whether a route takes every request for the models it names."""
    return route.match == Match(models=route.match.models)


def _target(route: Route, target: Target, asked: _Asked) -> View:
    """`models` is how many were asked of it; `seen` has the most used of them."""
    views = [view for view in asked.what.believed if view.upstream == target.upstream and _is_asked(route, target, view.model, asked)]
    told = [_seen(view, (route.name, view.upstream, view.model), asked.what, asked.streams) for view in views]
    told.sort(key=lambda seen: (seen["streams"], seen["in_flight"]), reverse=True)
    return {
        "upstream": target.upstream,
        "model": target.model,
        "weight": target.weight,
        "priority": target.priority,
        "models": len(told),
        "seen": told[:MOST_MODELS],
    }


def _is_asked(route: Route, target: Target, model: str, asked: _Asked) -> bool:
    """Say whether a route asks a target for a model. One that passes on what was asked: if its streams did, or if it would and no other
    route's streams did, since workers do not tell by whom a target was asked."""
    if target.model is not None:
        return target.model == model
    routes = {key[0] for key in (*asked.what.met, *asked.what.troubles) if key[1:] == (target.upstream, model)}
    if routes:
        return route.name in routes
    exact = [each for each in asked.rivals if model in each.match.models]
    fitting = exact or [each for each in asked.rivals if any(glob(pattern, model) for pattern in each.match.models)]
    return bool(fitting) and fitting[0].name == route.name


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
        "streams": met.streams,
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
