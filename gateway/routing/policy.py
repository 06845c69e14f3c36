"""In which order a route's targets are tried, and how long each may take to speak. Fallback and hedge are both the next in the order."""

from collections.abc import Callable
from math import inf, log

from gateway.config import Route, Target
from gateway.routing.health import NEVER, Health, Key, Pace, TargetHealth

Dice = Callable[[], float]
"""A uniform random number in [0, 1)."""
Option = tuple[Target, TargetHealth, Pace]
Policy = Callable[[list[Option], Route, Health, float, Dice], list[Option]]
"""(usable options, at least two; route; health; now; dice) -> the same options in the order to try."""

EXPLORE = 0.02
"""Share of calls that go to the target not tried for longest: the price of learning that a slow target has become fast."""
CONFIRM = 0.10
"""Share of calls, exploration included, while a target is in doubt: recovered, hit by one outlier, half open, or not tried for long."""
TIE = 0.8
"""Two scores whose ratio is above this are equal: fewer calls in flight go first, and then chance decides."""
QUIET = 1.0
"""Seconds: a target tried more recently than this needs no exploring, however many calls there are."""


def plan(route: Route, model: str, health: Health, now: float, dice: Dice) -> list[Target]:
    """Return the usable targets of a route for the asked `model`, in the order to try: the choice first, then the best of the rest.

    When none is usable: the one that is so soonest, so that a route with targets never gives an empty plan.
    """
    if len(route.targets) == 1:
        return list(route.targets)
    known = [health.target((target.upstream, target.model or model)) for target in route.targets]
    options = [(target, its, its.pace_of(health.size)) for target, its in zip(route.targets, known, strict=True)]
    usable = [option for option in options if option[1].circuit.usable(now)]
    if len(usable) > 1:
        usable = POLICIES[route.policy](usable, route, health, now, dice)
    elif not usable and options:
        usable = [min(options, key=lambda option: option[1].circuit.opens_at(now))]
    return [option[0] for option in usable]


def deadline(route: Route, key: Key, health: Health, now: float) -> float:
    """Return how many seconds a target may take to its first token: fixed, or clamp(factor x its recent percentile, min, max).

    An adaptive deadline is `max` until the target has given 10 samples. Calls that were too slow are among them, each as long as
    it was waited for, so a target that has slowed down as a whole widens its own deadline instead of failing for ever.
    """
    timeout = route.first_token.timeout
    if isinstance(timeout, float | int):
        return timeout
    typical = health.quantile(key, timeout.percentile, now)
    return timeout.max if typical is None else min(max(timeout.factor * typical, timeout.min), timeout.max)


def least_latency(options: list[Option], _route: Route, _health: Health, now: float, dice: Dice) -> list[Option]:
    """The better of two drawn at random, then the others best first; a new target at once, a few calls to explore.

    Two random ones and not the best of all: with estimates that lag, every call would go to the same target until it is slow, and
    a new target, always the better one, can win at most 2/n of the calls.
    """
    ranked = sorted([(pace.starting(now), known.score(pace, now), place) for place, (_, known, pace) in enumerate(options)])
    first = _explored(options, options[ranked[0][2]][2], now, dice)
    if first is None:
        one, two = _pair(len(ranked), dice)
        first = _better(ranked[one], ranked[two], options)
    return [options[first], *(options[place] for _, _, place in ranked if place != first)]


def priority(options: list[Option], route: Route, health: Health, now: float, dice: Dice) -> list[Option]:
    """The lowest `priority` first; targets of the same priority by least latency among themselves."""
    order: list[Option] = []
    for rank in sorted({target.priority for target, _, _ in options}):
        peers = [option for option in options if option[0].priority == rank]
        order += least_latency(peers, route, health, now, dice) if len(peers) > 1 else peers
    return order


def weighted(options: list[Option], _route: Route, _health: Health, _now: float, dice: Dice) -> list[Option]:
    """A draw without replacement in which each target's chance is its `weight`; weight 0 is only ever a fallback."""
    drawn = [(-log(1.0 - dice()) / target.weight if target.weight > 0 else inf) for target, _, _ in options]
    return [options[place] for place in sorted(range(len(options)), key=drawn.__getitem__)]


def round_robin(options: list[Option], route: Route, health: Health, _now: float, _dice: Dice) -> list[Option]:
    """Each usable target in its turn, in the order of the file; the fallbacks are the next ones."""
    turn = health.turn(route.name) % len(options)
    return options[turn:] + options[:turn]


POLICIES: dict[str, Policy] = {
    "least-latency": least_latency,
    "priority": priority,
    "weighted": weighted,
    "round-robin": round_robin,
}


def _explored(options: list[Option], best: Pace, now: float, dice: Dice) -> int | None:
    """Return the place of the target to try out of turn, or None as nearly always."""
    tried = [pace.tried_at for _, _, pace in options]
    oldest = min(tried)
    if oldest == NEVER:
        return tried.index(oldest)
    roll = dice()
    if roll >= CONFIRM:
        return None
    if roll < EXPLORE:
        place = tried.index(oldest)
        return place if now - oldest >= QUIET and not options[place][2].starting(now) else None
    fast = best.estimate.read(now)
    return next((place for place, (_, known, pace) in enumerate(options) if known.doubtful(pace, fast, now)), None)


def _pair(count: int, dice: Dice) -> tuple[int, int]:
    one = int(dice() * count)
    two = int(dice() * (count - 1)) if count > 2 else 0
    return one, two + (two >= one)


def _better(one: tuple[bool, float, int], two: tuple[bool, float, int], options: list[Option]) -> int:
    """Return the place of the better one: not starting up, then the lower score; on a tie fewer calls in flight, then the first drawn."""
    if one[0] != two[0]:
        return min(one, two)[2]
    if min(one[1], two[1]) < TIE * max(one[1], two[1]):
        return one[2] if one[1] < two[1] else two[2]
    return two[2] if options[two[2]][1].in_flight < options[one[2]][1].in_flight else one[2]
