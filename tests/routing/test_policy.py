"""The order in which targets are tried."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import Adaptive, FirstToken, Route, Target
from gateway.routing.health import Health
from gateway.routing.policy import POLICIES, deadline, plan

NOW = 100.0


def route(*targets, policy="least-latency", **more):
    return Route(name="r", policy=policy, targets=tuple(Target(upstream=t) if isinstance(t, str) else t for t in targets), **more)


def measured(health, routed, **ttfts):
    for name, ttft in ttfts.items():
        for step in range(10):
            ticket = health.begin((name, "m"), routed.breaker, NOW - 10 + step)
            ticket.spoke(ttft, NOW - 10 + step)
            ticket.succeeded(NOW - 10 + step)
            ticket.end(NOW - 10 + step)
    return health


def broken(health, routed, name, now=NOW, retry_after=None):
    for _ in range(5):
        ticket = health.begin((name, "m"), routed.breaker, now)
        ticket.failed(now, "e", retry_after)
        ticket.end(now)


def names(targets):
    return [target.upstream for target in targets]


def firsts(routed, health, count=2000, seed=1):
    dice = random.Random(seed).random
    return Counter(plan(routed, "m", health, NOW, dice)[0].upstream for _ in range(count))


@pytest.mark.parametrize("policy", POLICIES)
def test_every_usable_target_is_in_the_plan_once(policy):
    """All usable targets, each once, none that is not usable."""
    routed, health, dice = route("a", "b", "c", "d", policy=policy), Health(), random.Random(1).random
    measured(health, routed, a=0.2, b=0.3, c=0.1)
    broken(health, routed, "c")
    for _ in range(300):
        assert sorted(names(plan(routed, "m", health, NOW, dice))) == ["a", "b", "d"]


@pytest.mark.parametrize("policy", POLICIES)
def test_the_plan_is_never_empty(policy):
    """With no usable target the one that is usable soonest is tried all the same."""
    routed, health = route("a", "b", "c", policy=policy), Health()
    broken(health, routed, "a", NOW)
    broken(health, routed, "b", NOW - 5)
    broken(health, routed, "c", NOW - 6, retry_after=40)
    assert names(plan(routed, "m", health, NOW, lambda: 0.5)) == ["b"]


def test_single_target_is_exempt_from_its_breaker():
    """A route with one target always plans it."""
    routed, health = route("a"), Health()
    broken(health, routed, "a")
    assert names(plan(routed, "m", health, NOW, lambda: 0.5)) == ["a"]


def test_the_asked_model_is_used_where_a_target_names_none():
    """Health is looked up under the target's own model, or else the asked one."""
    routed, health = route(Target(upstream="a", model="own"), Target(upstream="b"), policy="priority"), Health()
    for key in (("a", "m"), ("b", "other")):
        for _ in range(5):
            health.begin(key, routed.breaker, NOW).failed(NOW, "e")
    assert sorted(names(plan(routed, "m", health, NOW, lambda: 0.5))) == ["a", "b"]
    for _ in range(5):
        health.begin(("a", "own"), routed.breaker, NOW).failed(NOW, "e")
    assert names(plan(routed, "m", health, NOW, lambda: 0.5)) == ["b"]


def test_least_latency_prefers_the_fast_and_orders_the_rest():
    """Of two the faster is nearly always first; of three the fallbacks come best first."""
    two, health = route("a", "b"), Health()
    measured(health, two, a=0.4, b=0.2)
    assert firsts(two, health)["b"] >= 1900
    three = route("a", "b", "c")
    measured(health, three, c=0.8)
    dice = random.Random(2).random
    for _ in range(300):
        first, *rest = names(plan(three, "m", health, NOW, dice))
        assert rest == [name for name in ("b", "a", "c") if name != first]


def test_best_of_many_gets_at_most_twice_its_fair_share():
    """Two at random out of n: the best one wins 2/n of the calls, the worst none but the explored ones."""
    routed, health = route("a", "b", "c", "d"), Health()
    measured(health, routed, a=0.1, b=0.5, c=0.9, d=1.6)
    shares = firsts(routed, health, 4000)
    assert 0.44 <= shares["a"] / 4000 <= 0.56
    assert shares["d"] / 4000 <= 0.04


def test_equal_scores_go_to_fewer_calls_in_flight_and_then_to_chance():
    """Scores within 20 % are a tie: open calls decide, and without any the two share evenly (C2d)."""
    routed, health = route("a", "b"), Health()
    measured(health, routed, a=0.20, b=0.23)
    assert 850 <= firsts(routed, health)["a"] <= 1150
    ticket = health.begin(("a", "m"), routed.breaker, NOW)
    ticket.spoke(0.2, NOW)
    assert firsts(routed, health)["b"] >= 1900


def test_never_tried_target_is_tried_at_once():
    """The first call after a target was added goes there, and no second one until that has spoken or lost its turn."""
    routed, health = route("a", "b"), Health()
    measured(health, routed, a=0.01)
    assert names(plan(routed, "m", health, NOW, lambda: 0.99)) == ["b", "a"]
    health.begin(("b", "m"), routed.breaker, NOW)
    assert firsts(routed, health)["a"] == 2000


def test_starting_target_gets_few_calls_at_once():
    """A new target waits for samples before it is given many calls: 1 waiting at first, 3 after the first sample."""
    routed, health = route("a", "b"), Health()
    measured(health, routed, a=5.0)
    tickets, allowed = [], []
    for _ in range(3):
        before = len(tickets)
        while plan(routed, "m", health, NOW, lambda: 0.99)[0].upstream == "b" and len(tickets) < 50:
            tickets.append(health.begin(("b", "m"), routed.breaker, NOW))
        allowed.append(len(tickets) - before)
        tickets[before].spoke(0.3, NOW)
    assert allowed[0] == 1
    assert allowed[1] <= 3
    assert sum(allowed) < 12


def test_priority_keeps_to_its_ranks():
    """Rank 0 comes first however slow, and is balanced by latency within the rank."""
    first, second = Target(upstream="a", priority=0), Target(upstream="b", priority=0)
    routed = route(Target(upstream="c", priority=1), first, second, policy="priority")
    health = measured(Health(), routed, a=0.9, b=0.4, c=0.1)
    dice = random.Random(1).random
    plans = [names(plan(routed, "m", health, NOW, dice)) for _ in range(500)]
    assert all(order[2] == "c" for order in plans)
    assert sum(order[0] == "b" for order in plans) >= 470


def test_weighted_draws_by_weight():
    """3 to 1 is 75 % to 25 %; weight 0 never comes first but is still a fallback."""
    routed = route(Target(upstream="a", weight=3), Target(upstream="b"), Target(upstream="z", weight=0), policy="weighted")
    shares = firsts(routed, Health(), 4000)
    assert 0.72 <= shares["a"] / 4000 <= 0.78
    assert shares["z"] == 0
    assert names(plan(routed, "m", Health(), NOW, lambda: 0.5))[-1] == "z"


def test_round_robin_takes_turns():
    """Each target in the order of the file, its followers as fallbacks; one out of order is left out."""
    routed, health = route("a", "b", "c", policy="round-robin"), Health()
    plans = ["".join(names(plan(routed, "m", health, NOW, lambda: 0.5))) for _ in range(4)]
    assert plans == ["abc", "bca", "cab", "abc"]
    broken(health, routed, "b")
    assert Counter(names(plan(routed, "m", health, NOW, lambda: 0.5))[0] for _ in range(10)) == {"a": 5, "c": 5}


def test_half_open_target_gets_its_probe_soon():
    """Though its score is bad, about a tenth of the calls would go to a target whose breaker waits for a probe."""
    routed, health = route("a", "b"), Health()
    measured(health, routed, a=0.2, b=3.0)
    broken(health, routed, "b", NOW - 15)
    assert 120 <= firsts(routed, health)["b"] <= 260


@pytest.mark.parametrize(("ago", "first"), [(0.5, "a"), (1.5, "b")])
def test_exploring_is_at_most_once_a_second(ago, first):
    """However many calls there are, a target tried within the last second is not explored."""
    routed, health = route("a", "b"), Health()
    measured(health, routed, a=0.2, b=3.0)
    for name, at in (("b", NOW - ago), ("a", NOW - ago + 0.1)):
        health.begin((name, "m"), routed.breaker, at).end(at)
    assert plan(routed, "m", health, NOW, lambda: 0.01)[0].upstream == first


@pytest.mark.parametrize(("ago", "first"), [(29.0, "a"), (31.0, "b")])
def test_target_not_tried_for_long_is_in_doubt(ago, first):
    """When its estimate begins to fade, a target gets up to a tenth of the calls until it has been tried."""
    routed, health = route("a", "b"), Health()
    measured(health, routed, a=0.2, b=3.0)
    now = NOW - 1 + ago
    health.begin(("a", "m"), routed.breaker, now).end(now)
    assert plan(routed, "m", health, now, lambda: 0.05)[0].upstream == first


def test_fixed_deadline():
    """A duration is a duration."""
    assert deadline(route("a", first_token=FirstToken(timeout=1.5)), ("a", "m"), Health(), NOW) == 1.5


@pytest.mark.parametrize(("ttft", "expected"), [(0.5, 1.0), (0.01, 0.3), (8.0, 10.0)])
def test_adaptive_deadline(ttft, expected):
    """Factor x p95 of the target's own recent times, kept between min and max."""
    routed = route("a", first_token=FirstToken(timeout=Adaptive(percentile=0.95, factor=2.0, min=0.3, max=10.0)))
    health = measured(Health(), routed, a=ttft)
    assert deadline(routed, ("a", "m"), health, NOW) == expected


def test_adaptive_deadline_of_an_unknown_target_is_the_longest():
    """Fewer than ten samples: max."""
    routed = route("a", first_token=FirstToken(timeout=Adaptive(percentile=0.95, factor=2.0, min=0.3, max=7.0)))
    assert deadline(routed, ("a", "m"), Health(), NOW) == 7.0


def test_adaptive_deadline_widens_when_the_whole_target_slows_down():
    """Calls given up on are samples as long as the wait: the deadline grows until the target fits in again."""
    routed = route("a", first_token=FirstToken(timeout=Adaptive(percentile=0.95, factor=2.0, min=0.3, max=10.0)))
    health = measured(Health(), routed, a=0.2)
    waits = []
    for _ in range(12):
        waits.append(deadline(routed, ("a", "m"), health, NOW))
        health.begin(("a", "m"), routed.breaker, NOW).slow(waits[-1], NOW)
    assert waits[0] == pytest.approx(0.4)
    assert waits[-1] == 10.0


@given(st.integers(1, 6), st.sampled_from(sorted(POLICIES)), st.integers(0, 2**32), st.lists(st.integers(0, 5), max_size=30))
def test_plan_is_a_permutation_of_the_usable(count, policy, seed, failures):
    """For any history, policy and dice: the plan is every usable target once, or a single one when none is usable."""
    routed = route(*"abcdef"[:count], policy=policy)
    health, dice = Health(), random.Random(seed).random
    for number, place in enumerate(failures):
        ticket = health.begin(("abcdef"[place % count], "m"), routed.breaker, NOW + number / 10)
        ticket.failed(NOW + number / 10, "e") if dice() < 0.7 else ticket.spoke(dice(), NOW + number / 10)
        ticket.end(NOW + number / 10)
    order = names(plan(routed, "m", health, NOW + 3, dice))
    usable = [name for name in "abcdef"[:count] if health.usable((name, "m"), NOW + 3)]
    assert sorted(order) == usable if usable else len(order) == 1
