"""The order of a route's targets in words: what `weir explain` and the console show. Rolls no dice and changes nothing."""

from collections.abc import Callable

from msgspec import Struct

from gateway.config import Route, Target
from gateway.routing.health import Health, Key


class Standing(Struct, frozen=True, kw_only=True):
    """One target's place: `score` in seconds is the product of `terms`; `why` says what speaks for it, or against its use."""

    target: Target
    key: Key
    usable: bool
    why: str
    score: float
    terms: dict[str, float]
    waiting: int
    in_flight: int


def explain(route: Route, model: str, health: Health, now: float) -> list[Standing]:
    """Return every target of the route for the asked `model`, likeliest choice first and unusable ones last."""
    standings = [_standing(target, model, health, now) for target in route.targets]
    usable = ORDERS[route.policy]([standing for standing in standings if standing.usable], health.next_turn(route.name))
    waiting = sorted((standing for standing in standings if not standing.usable), key=lambda s: health.target(s.key).circuit.opens_at(now))
    return [*usable, *waiting]


def _standing(target: Target, model: str, health: Health, now: float) -> Standing:
    key = (target.upstream, target.model or model)
    known = health.target(key)
    refusal = known.circuit.why_not(now)
    return Standing(
        target=target,
        key=key,
        usable=not refusal,
        why=refusal or _reason(health, key, now),
        score=known.score(known.pace, now),
        terms=known.terms(now),
        waiting=known.waiting,
        in_flight=known.in_flight,
    )


def _reason(health: Health, key: Key, now: float) -> str:
    known = health.target(key)
    if known.circuit.state(now) == "half_open":
        return "breaker half open: the next call is its probe"
    if known.pace.estimate.value is None:
        return f"never measured, taken for {known.pace.estimate.read(now) * 1000:.0f} ms"
    said = f"first token in {known.pace.estimate.read(now) * 1000:.0f} ms"
    if known.waiting:
        said += f", {known.waiting} waiting"
    if known.failing(now) > 0:
        said += f", failing {known.failing(now):.0%}"
    return said


def _by_score(standings: list[Standing], _turn: int) -> list[Standing]:
    return sorted(standings, key=lambda standing: standing.score)


def _by_priority(standings: list[Standing], _turn: int) -> list[Standing]:
    return sorted(standings, key=lambda standing: (standing.target.priority, standing.score))


def _by_weight(standings: list[Standing], _turn: int) -> list[Standing]:
    return sorted(standings, key=lambda standing: -standing.target.weight)


def _by_turn(standings: list[Standing], turn: int) -> list[Standing]:
    first = turn % len(standings) if standings else 0
    return standings[first:] + standings[:first]


ORDERS: dict[str, Callable[[list[Standing], int], list[Standing]]] = {
    "least-latency": _by_score,
    "priority": _by_priority,
    "weighted": _by_weight,
    "round-robin": _by_turn,
}
