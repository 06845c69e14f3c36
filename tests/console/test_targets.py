"""Targets as the page of routes shows them: the order, its reasons, and what streams met."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from gateway.config import Config, Route
from gateway.console.targets import MOST_MODELS, UNSEEN, route_view, survey
from gateway.core.messages import TargetState
from gateway.core.record import Attempt, StreamRecord
from gateway.routing.health import Health
from gateway.telemetry.account import account
from gateway.telemetry.lately import Lately
from gateway.telemetry.live import TargetView

NOW = 1000.0
ROUTES = {"first": ["m-*"], "rest": ["m-own", "*"]}


def route(policy: str = "least-latency", *targets: dict[str, Any], models: Sequence[str] = ("*",)) -> Route:
    upstreams = {target["upstream"]: {"base_url": "http://127.0.0.1:1/v1"} for target in targets}
    fields = {"name": "chat", "policy": policy, "targets": list(targets), "match": {"models": list(models)}}
    return Config.model_validate({"upstreams": upstreams, "routes": [fields]}).routes[0]


def seen(upstream: str, score: float, model: str = "m", **changes: Any) -> TargetView:
    fields: dict[str, Any] = {
        "ttft": score, "in_flight": 0, "breaker": "closed", "since": NOW, "last_error": None, "terms": {"estimate": score}, "refusal": "",
    }  # fmt: skip
    return TargetView(upstream=upstream, model=model, score=score, workers={}, **{**fields, **changes})


def order(asked: Route, *views: TargetView) -> list[tuple[str, bool]]:
    shown = route_view(asked, survey(list(views), Lately(), NOW))
    return [(place["upstream"], place["usable"]) for place in shown["next"]]


A, B, C = ({"upstream": name} for name in "abc")


@pytest.mark.parametrize(
    ("policy", "targets", "expected"),
    [
        ("least-latency", (A, B, C), "bca"),
        ("priority", (A | {"priority": 1}, B | {"priority": 2}, C | {"priority": 1}), "cab"),
        ("weighted", (A | {"weight": 5}, B | {"weight": 9}, C | {"weight": 1}), "bac"),
        ("round-robin", (A, B, C), "abc"),
    ],
)
def test_the_order_is_the_policys(policy: str, targets: tuple[dict[str, Any], ...], expected: str) -> None:
    """By score, by priority and then score, by weight, or as they are written."""
    assert order(route(policy, *targets), seen("a", 0.5), seen("b", 0.1), seen("c", 0.3)) == [(name, True) for name in expected]


def test_who_is_never_asked_comes_at_the_prior() -> None:
    """A target that no worker has met stands where routing takes it to be, and says so."""
    shown = route_view(route("least-latency", A, B, C), survey([seen("a", UNSEEN + 0.1), seen("c", UNSEEN - 0.1)], Lately(), NOW))
    assert [place["upstream"] for place in shown["next"]] == ["c", "b", "a"]
    assert shown["next"][1]["because"] == "never asked, taken for 250 ms"
    assert shown["targets"][1]["seen"] == []


@pytest.mark.parametrize("policy", ["least-latency", "priority", "weighted", "round-robin"])
def test_who_refuses_comes_last(policy: str) -> None:
    """An open breaker, a Retry-After or a probe under way leave a target out, whatever speaks for it, with the reason."""
    refused = seen("a", 0.01, refusal="asked to wait 3.0 s (Retry-After)")
    broken = seen("b", 0.02, breaker="open")
    shown = route_view(route(policy, A, B, C), survey([refused, broken, seen("c", 9.0)], Lately(), NOW))
    assert [(place["upstream"], place["usable"]) for place in shown["next"]] == [("c", True), ("a", False), ("b", False)]
    assert [place["because"] for place in shown["next"][1:]] == ["asked to wait 3.0 s (Retry-After)", "breaker open"]


def test_a_targets_models_are_those_of_its_route(make_record: Callable[..., StreamRecord]) -> None:
    """A target that passes on the asked model has a row for each that this route asked it for, and none for another route's."""
    lately = Lately()
    for number, (name, model) in enumerate((("chat", "x"), ("other", "y"), ("other", "other-z"))):
        attempt = Attempt(upstream="a", model=model, why="first", dialed_at=NOW, sent_at=NOW, outcome="won")
        lately.add(account(make_record(number, route=name, attempts=[attempt], winner=0, received_at=NOW)), NOW)
    views = [seen("a", 0.1, model) for model in ("x", "y", "mine", "foreign", "other-z")]
    asked = route("priority", A, models=["mine", "other-*"])
    assert [each["model"] for each in route_view(asked, survey(views, lately, NOW))["targets"][0]["seen"]] == ["x", "mine"]
    named = route("priority", A | {"model": "y"})
    assert [each["model"] for each in route_view(named, survey(views, lately, NOW))["targets"][0]["seen"]] == ["y"]


def test_what_another_route_takes_does_not_come_by() -> None:
    """A model that an earlier route takes is not shown under one for all, unless that names it; one that asks for a header may leave it."""
    first, rest = (route("priority", A, models=models).model_copy(update={"name": name}) for name, models in ROUTES.items())
    picky = first.model_copy(update={"match": first.match.model_copy(update={"headers": {"x-a": "1"}})})
    views = survey([seen("a", 0.1, model) for model in ("m-res", "m-own", "n")], Lately(), NOW)

    def shown(asked: Route, *routes: Route) -> list[str]:
        return [each["model"] for each in route_view(asked, views, routes)["targets"][0]["seen"]]

    assert shown(first, first, rest) == ["m-res"]
    assert shown(rest, first, rest) == ["m-own", "n"]
    assert shown(rest, picky, rest) == ["m-res", "m-own", "n"]


def test_the_next_request_has_one_model(make_record: Callable[..., StreamRecord]) -> None:
    """Each target has one place in the order, for the model asked most; models are told the most used first, and not without end."""
    lately = Lately()
    for number, model in enumerate(("x", "y", "y")):
        attempt = Attempt(upstream="a", model=model, why="first", dialed_at=NOW, sent_at=NOW, outcome="won")
        lately.add(account(make_record(number, attempts=[attempt], winner=0, received_at=NOW)), NOW)
    many = [seen("a", 0.1, f"made-up-{number}") for number in range(3 * MOST_MODELS)]
    views = survey([seen("a", 0.1, "x"), seen("a", 0.2, "y"), *many], lately, NOW)
    shown = route_view(route("least-latency", A, B | {"model": "own"}), views)
    assert shown["next_model"] == "y"
    assert [(place["upstream"], place["model"]) for place in shown["next"]] == [("a", "y"), ("b", "own")]
    target = shown["targets"][0]
    assert [each["model"] for each in target["seen"][:2]] == ["y", "x"]
    assert (len(target["seen"]), target["models"]) == (MOST_MODELS, 2 + 3 * MOST_MODELS)


def test_what_streams_met_is_told_by_target(make_record: Callable[..., StreamRecord]) -> None:
    """Shares are of the route's streams of the last five minutes; the last trouble names its stream and how long ago it was."""
    lately = Lately()
    for number, upstream in enumerate("aaab"):
        attempt = Attempt(upstream=upstream, model="m", why="first", dialed_at=NOW, sent_at=NOW, first_token_at=NOW + 0.1, outcome="won")
        lately.add(account(make_record(number, attempts=[attempt], winner=0, received_at=NOW)), NOW)
    failed = Attempt(upstream="a", model="m", why="first", dialed_at=NOW, ended_at=NOW, status=500, error="status_500", outcome="status")
    lately.add(account(make_record(9, attempts=[failed], received_at=NOW, first_token_at=None)), NOW)
    shown = route_view(route("priority", A, B), survey([seen("a", 0.1), seen("b", 0.1)], lately, NOW + 5))
    (one,), (other,) = (target["seen"] for target in shown["targets"])
    assert shown["streams"] == 5
    assert (one["share"], other["share"]) == (0.8, 0.2)
    assert other["lately"]["ttft_p50"] == pytest.approx(0.1, rel=0.3)
    assert one["trouble"] == {"error": "status_500", "ago": 5.0, "stream_id": "stream-9"}
    assert other["trouble"] is None


def test_the_terms_are_those_of_the_score() -> None:
    """What a worker tells of a target's score multiplies out to it, and its refusal is the breaker's word."""
    breaker, health, now = route("priority", A).breaker, Health(), time.monotonic()
    for _ in range(breaker.failures):
        ticket = health.begin(("a", "m"), breaker, now)
        ticket.failed(now, "status_500")
        ticket.end(now)
    health.begin(("b", "m"), breaker, now).spoke(0.2, now)
    told: dict[str, TargetState] = {state.upstream: state for state in health.snapshot(now)}
    for state in told.values():
        product = 1.0
        for factor in state.terms.values():
            product *= factor
        assert state.score == pytest.approx(product)
    assert told["a"].terms["failing"] > 1
    assert "breaker open" in told["a"].refusal
    assert told["b"].refusal == ""
