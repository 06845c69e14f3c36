"""The order in words."""

import pytest

from gateway.config import Route, Target
from gateway.routing.explain import ORDERS, explain
from gateway.routing.health import Health
from gateway.routing.policy import POLICIES, plan


def a_route(policy="least-latency"):
    targets = (Target(upstream="a", priority=1), Target(upstream="b", weight=5, model="own"), Target(upstream="c"))
    return Route(name="r", policy=policy, targets=targets)


def test_every_policy_is_explained():
    """The two tables have the same policies."""
    assert list(ORDERS) == list(POLICIES)


@pytest.mark.parametrize(("policy", "order"), [("least-latency", "cab"), ("priority", "cba"), ("weighted", "bac"), ("round-robin", "abc")])
def test_order_is_the_likeliest(policy, order):
    """Best score, lowest rank, greatest weight, or the next turn first."""
    routed, health = a_route(policy), Health()
    for key, ttft in ((("a", "m"), 0.3), (("b", "own"), 0.9), (("c", "m"), 0.1)):
        health.begin(key, routed.breaker, 0.0).spoke(ttft, 0.0)
    assert "".join(standing.target.upstream for standing in explain(routed, "m", health, 1.0)) == order


def test_terms_multiply_to_the_score_and_reasons_are_given():
    """Each standing has its key, its terms, and a sentence; what is not usable comes last and says why."""
    routed, health = a_route(), Health()
    health.begin(("a", "m"), routed.breaker, 0.0).spoke(0.3, 0.0)
    health.begin(("a", "m"), routed.breaker, 0.0)
    for _ in range(5):
        health.begin(("b", "own"), routed.breaker, 0.0).failed(0.0, "e")
    standings = explain(routed, "m", health, 1.0)
    assert [standing.key for standing in standings] == [("c", "m"), ("a", "m"), ("b", "own")]
    for standing in standings:
        product = 1.0
        for term in standing.terms.values():
            product *= term
        assert product == pytest.approx(standing.score)
    assert standings[0].why == "never measured, taken for 250 ms"
    assert standings[1].why == "first token in 300 ms, 1 waiting"
    assert not standings[2].usable
    assert standings[2].why.startswith("breaker open for another")


def test_asking_takes_no_turn():
    """Explaining a round-robin route again and again does not change whose turn it is."""
    routed, health = a_route("round-robin"), Health()
    for _ in range(3):
        assert explain(routed, "m", health, 0.0)[0].target.upstream == "a"
    plan(routed, "m", health, 0.0, lambda: 0.5)
    assert explain(routed, "m", health, 0.0)[0].target.upstream == "b"
