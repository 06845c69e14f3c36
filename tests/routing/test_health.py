"""Tickets and what they leave behind."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import Breaker
from gateway.routing.health import MOST_KEYS, UNKNOWN, Health

KEY = ("a", "m")
BREAKER = Breaker()


WORDS = {
    "spoke": lambda ticket, now: ticket.spoke(0.1, now),
    "slow": lambda ticket, now: ticket.slow(2.0, now),
    "failed": lambda ticket, now: ticket.failed(now, "e", 1.0),
    "succeeded": lambda ticket, now: ticket.succeeded(now),
    "end": lambda ticket, now: ticket.end(now),
}


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["begin", *WORDS]), st.floats(0, 20))))
def test_in_flight_is_exact_under_any_order(history):
    """Whatever tickets say, however often: in flight is the number of tickets without an end, waiting never exceeds it or falls below 0."""
    health, now, tickets, ended = Health(), 0.0, {}, set()
    for slot, word, gap in history:
        now += gap
        if word == "begin":
            tickets.setdefault(slot, None)
            tickets[slot] = tickets[slot] or health.begin(KEY, BREAKER, now)
        elif slot in tickets:
            WORDS[word](tickets[slot], now)
            ended |= {slot} if word == "end" else set()
        target = health.target(KEY)
        assert target.in_flight == len(tickets) - len(ended)
        assert 0 <= target.waiting <= target.in_flight
    for ticket in tickets.values():
        ticket.end(now)
        ticket.end(now)
    assert health.target(KEY).in_flight == health.target(KEY).waiting == 0
    assert health.usable(KEY, now + 120)


def test_nothing_is_heard_after_the_end():
    """A ticket that has ended changes neither estimate nor breaker."""
    health = Health()
    ticket = health.begin(KEY, BREAKER, 0.0)
    ticket.end(0.0)
    ticket.spoke(9.0, 1.0)
    ticket.slow(9.0, 1.0)
    ticket.failed(1.0, "e", retry_after=30)
    (state,) = health.snapshot(1.0)
    assert (state.ttft, state.last_error, state.in_flight) == (None, None, 0)
    assert health.usable(KEY, 1.0)


def test_client_aborts_are_neutral():
    """Fifty tickets in a row that end without a verdict leave score, estimate and breaker as they were."""
    health = Health()
    for now in range(50):
        health.begin(KEY, BREAKER, now).end(now)
    assert health.score(KEY, 50.0) == health.score(("new", "m"), 50.0)
    assert health.snapshot(50.0)[0].breaker == "closed"


def test_errors_leave_no_sample_but_a_worse_score():
    """A failed call never makes a target look fast: no sample, a higher score, and that fades."""
    health = Health()
    ticket = health.begin(KEY, BREAKER, 0.0)
    ticket.failed(0.005, "status_500")
    ticket.spoke(0.005, 0.005)
    ticket.end(0.005)
    assert health.estimate(KEY, 0.1) == 0.25
    assert health.score(KEY, 0.1) > 0.5
    assert health.score(KEY, 200.0) == pytest.approx(0.25)
    assert health.snapshot(0.1)[0].last_error == "status_500"


def test_failure_in_mid_stream_counts():
    """A stream that spoke and then broke is a failure of the target, and its sample stands."""
    health = Health()
    for _ in range(5):
        ticket = health.begin(KEY, BREAKER, 0.0)
        ticket.spoke(0.1, 0.1)
        ticket.failed(0.2, "stream_truncated")
        ticket.end(0.2)
    assert not health.usable(KEY, 0.2)
    assert health.estimate(KEY, 0.2) == 0.1


def test_only_the_first_verdict_counts():
    """Succeeded after failed, or failed twice, changes nothing more."""
    health = Health()
    ticket = health.begin(KEY, BREAKER, 0.0)
    for _ in range(10):
        ticket.failed(0.0, "e")
        ticket.succeeded(0.0)
    assert health.usable(KEY, 0.0)


def broken(now=0.0):
    health = Health()
    for _ in range(5):
        ticket = health.begin(KEY, BREAKER, now)
        ticket.failed(now, "connect_failed")
        ticket.end(now)
    return health


def test_aborted_probe_admits_another():
    """A probe whose client left keeps the breaker half open and frees its place."""
    health = broken()
    probe = health.begin(KEY, BREAKER, 15.0)
    assert not health.usable(KEY, 15.0)
    probe.end(16.0)
    assert health.usable(KEY, 16.0)
    assert health.snapshot(16.0)[0].breaker == "half_open"


def test_probe_that_spoke_frees_its_place_and_is_judged_at_its_end():
    """A long answer does not keep the breaker half open for its whole length, and a broken one still fails the probe."""
    health = broken()
    probe = health.begin(KEY, BREAKER, 15.0)
    probe.spoke(0.2, 15.2)
    assert health.usable(KEY, 15.2)
    probe.failed(20.0, "stream_truncated")
    assert health.snapshot(20.0)[0].breaker == "open"


def test_probe_too_slow_to_speak_has_failed():
    """A probe dropped for its slowness opens the breaker again; one that speaks after all does not."""
    health = broken()
    probe = health.begin(KEY, BREAKER, 15.0)
    probe.slow(2.0, 17.0)
    assert health.snapshot(17.0)[0].breaker == "half_open"
    probe.end(17.0)
    assert health.snapshot(17.0)[0].breaker == "open"
    health = broken()
    probe = health.begin(KEY, BREAKER, 15.0)
    probe.slow(2.0, 17.0)
    probe.spoke(3.0, 18.0)
    probe.end(19.0)
    assert health.snapshot(19.0)[0].breaker == "half_open"


def test_slow_call_is_not_a_failure():
    """Calls too slow to wait for raise the estimate and leave the breaker closed."""
    health = Health()
    for now in range(20):
        ticket = health.begin(KEY, BREAKER, now)
        ticket.slow(2.0, now + 2)
        ticket.slow(2.0, now + 2)
        ticket.end(now + 2)
    assert health.estimate(KEY, 22.0) == 2.0
    assert health.snapshot(22.0)[0].breaker == "closed"


def test_retry_after_of_one_answer_is_enough():
    """A single 429 with Retry-After keeps new calls away for that long, and `held` says how long still."""
    health = Health()
    ticket = health.begin(KEY, BREAKER, 0.0)
    ticket.failed(0.0, "status_429", retry_after=20.0)
    assert not health.usable(KEY, 19.9)
    assert health.held(KEY, 5.0) == 15.0
    assert health.usable(KEY, 20.0)
    assert health.held(KEY, 21.0) == 0.0


def test_score_counts_calls_that_wait_and_not_those_that_stream():
    """Each call without its first token adds half to the score; once it speaks, its length does not matter."""
    health = Health()
    tickets = [health.begin(KEY, BREAKER, 0.0) for _ in range(4)]
    assert health.score(KEY, 0.0) == pytest.approx(0.25 * 3)
    for ticket in tickets:
        ticket.spoke(0.25, 0.25)
    assert health.score(KEY, 0.25) == pytest.approx(0.25)
    assert health.snapshot(0.25)[0].in_flight == 4


def test_models_of_one_upstream_are_apart():
    """Estimates are kept by (upstream, model)."""
    health = Health()
    health.begin(("a", "big"), BREAKER, 0.0).spoke(3.0, 3.0)
    assert health.estimate(("a", "small"), 3.0) == 0.25


def test_reading_remembers_nothing():
    """Asking about unknown targets neither creates nor changes one."""
    health = Health()
    assert health.usable(KEY, 0.0)
    assert health.p95(KEY, 0.0) is None
    assert health.snapshot(0.0) == []
    assert UNKNOWN.in_flight == 0


def test_invented_names_are_forgotten():
    """Ten thousand model names leave a bounded number behind; a target in use or out of order is never among the forgotten."""
    health = broken()
    used = health.begin(("b", "m"), BREAKER, 0.0)
    for number in range(10_000):
        health.begin(("x", f"invented-{number}"), BREAKER, 1.0 + number / 1000).end(2.0)
    assert len(health.snapshot(11.0)) <= MOST_KEYS
    assert not health.usable(KEY, 11.0)
    assert health.target(("b", "m")).in_flight == 1
    used.end(12.0)
    assert health.target(("b", "m")).in_flight == 0
