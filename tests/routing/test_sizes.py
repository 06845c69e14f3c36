"""Prompts of different sizes: a target is measured for each class apart, and fails as a whole."""

import pytest

from gateway.config import Breaker, FirstToken, Route, Target
from gateway.config.route import Adaptive
from gateway.routing.health import Health, size_class
from gateway.routing.policy import deadline, plan

BREAKER = Breaker()
KEY = ("a", "m")
LONG = 32 * 1024
SEEDS = range(1, 6)


@pytest.mark.parametrize(
    ("length", "expected"),
    [(0, 0), (LONG - 1, 0), (LONG, LONG), (LONG + 1, LONG), (8 * LONG - 1, LONG), (8 * LONG, 8 * LONG), (1 << 30, 8 * LONG)],
)
def test_a_prompt_is_of_the_class_whose_bound_it_reaches(length, expected):
    """Bounds belong to the class above them; without bounds there is one class."""
    assert size_class((LONG, 8 * LONG), length) == expected
    assert size_class((), length) == 0


@pytest.mark.parametrize(("apart", "least", "most"), [(True, 0.55, 0.95), (False, 0.0, 0.45)])
def test_long_prompts_do_not_push_short_ones_away(world, reply, apart, least, most):
    """While a takes 5 s for each of many long prompts, short ones stay with it, served in 0.2 s; unless both are one class (C4)."""
    for seed in SEEDS:
        short = Health()
        long = short.sized(LONG if apart else 0)
        sent = {"long": False}
        servers = {"a": lambda *_, sent=sent: reply(5.0 if sent["long"] else 0.2), "b": lambda *_: reply(0.3)}
        run = world(servers, seed, deadline=60.0)
        run.health = short

        def long_call(run=run, sent=sent, short=short, long=long):
            run.health, sent["long"] = long, True
            run._attempt(["a"], lambda: None)
            run.health, sent["long"] = short, False

        for tick in range(60):
            run.at(20.0 + tick / 3, long_call)
        run.arrivals(5, 60).run()
        assert run.share("a", 5, 20) > 0.55
        assert least <= run.share("a", 22, 45) <= most


def test_a_class_that_was_never_had_is_tried():
    """However well a target is known for short prompts, it is new for long ones: the first of those goes to it."""
    health = Health()
    route = Route(name="r", targets=(Target(upstream="a"), Target(upstream="b")))
    for name in "ab":
        health.begin((name, "m"), BREAKER, 1.0).spoke(0.2, 1.2)
    health.sized(LONG).begin(("a", "m"), BREAKER, 2.0).spoke(3.0, 5.0)
    assert [target.upstream for target in plan(route, "m", health.sized(LONG), 6.0, lambda: 0.99)] == ["b", "a"]


def test_what_is_not_of_a_size_is_the_targets():
    """Failures, calls under way and the breaker count whatever the prompts were."""
    health = Health()
    for number in range(5):
        health.sized(LONG * (number % 2)).begin(KEY, BREAKER, 1.0).failed(1.0, "status_500")
    assert not health.usable(KEY, 1.0)
    assert not health.sized(LONG).usable(KEY, 1.0)
    assert health.target(KEY).failing(1.0) == health.sized(LONG).target(KEY).failing(1.0) > 0.5
    assert health.snapshot(1.0)[0].in_flight == 5


def test_waiting_weighs_on_its_own_class():
    """Long prompts that wait make the next long one dearer there, not the next short one; all of them are told as waiting."""
    health = Health()
    tickets = [health.sized(LONG).begin(KEY, BREAKER, 1.0) for _ in range(4)]
    assert health.score(KEY, 1.0) == 0.25
    assert health.sized(LONG).score(KEY, 1.0) == pytest.approx(0.25 * 3)
    assert health.target(KEY).waiting == 4
    for ticket in tickets:
        ticket.end(2.0)
    assert (health.target(KEY).waiting, health.target(KEY).in_flight) == (0, 0)


def test_a_deadline_is_learned_for_each_class():
    """Short prompts that are quick do not make the deadline of long ones short."""
    adaptive = Adaptive(percentile=0.95, factor=2.0, min=0.1, max=20.0)
    route = Route(name="r", targets=(Target(upstream="a"),), first_token=FirstToken(timeout=adaptive))
    health = Health()
    for _ in range(12):
        health.begin(KEY, BREAKER, 1.0).spoke(0.2, 1.0)
    assert deadline(route, KEY, health, 1.0) == pytest.approx(0.4)
    assert deadline(route, KEY, health.sized(LONG), 1.0) == 20.0


def test_what_is_learned_goes_on_after_a_reload():
    """A registry that carries on carries every class."""
    health = Health()
    health.sized(LONG).begin(KEY, BREAKER, 1.0).spoke(3.0, 4.0)
    heir = health.carried({"a"})
    assert heir.sized(LONG).estimate(KEY, 4.0) == 3.0
    assert heir.estimate(KEY, 4.0) == 0.25
