"""Extra attempts stay within their share of the calls."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.budget import HedgeLimit, RetryBudget


@pytest.mark.parametrize("rate", [10, 100, 1000])
def test_an_outage_is_not_amplified(rate):
    """Every call failing for 60 s and asking for two more attempts each makes at most 1.2 times the calls."""
    budget, extra = RetryBudget(0.2), 0
    for number in range(60 * rate):
        now = number / rate
        budget.called(now)
        extra += budget.allow(now) + budget.allow(now)
    assert extra <= 0.2 * 60 * rate
    assert extra >= 0.19 * 60 * rate


def test_small_burst_is_allowed_at_low_volume():
    """Ten extra attempts pass on the very first call, the eleventh does not."""
    budget = RetryBudget(0.2)
    budget.called(0.0)
    assert [budget.allow(0.0) for _ in range(12)] == [True] * 10 + [False] * 2


def test_budget_comes_back():
    """What was spent is forgotten when the window has passed."""
    budget = RetryBudget(0.2, burst=1)
    assert budget.allow(0.0)
    assert not budget.allow(5.0)
    assert budget.allow(11.1)


def test_quiet_hours_are_not_saved_up():
    """Calls of the past allow nothing now."""
    budget = RetryBudget(0.2, burst=1)
    for number in range(10_000):
        budget.called(number / 100)
    assert [budget.allow(200.0), budget.allow(200.0)] == [True, False]


def test_ratio_zero_allows_none():
    """A budget of 0 % means no extra attempt, not even the burst."""
    assert not RetryBudget(0.0).allow(0.0)
    assert not HedgeLimit(0.0).allow(0.0)


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(0, 4)), min_size=1, max_size=200))
def test_never_more_than_ratio_or_burst_in_a_window(happenings):
    """Whatever the traffic, the extra attempts of any ten seconds are at most the burst or their share of 11 s of calls."""
    budget, now, calls, extras = RetryBudget(0.2, burst=3), 0.0, [], []
    for gap, wanted in happenings:
        now += gap
        budget.called(now)
        calls.append(now)
        extras += [now for _ in range(wanted) if budget.allow(now)]
        if not extras or extras[-1] != now:
            continue  # calls that leave the window later cannot take back what was allowed for them
        recent = [at for at in extras if now - at < 9.99]
        assert len(recent) <= max(3, 0.2 * len([at for at in calls if now - at <= 11.01]))


def test_hedges_keep_to_their_limit():
    """5 % of a call a second is three hedges a minute, and never two at once on the first call."""
    limit, hedges = HedgeLimit(0.05), 0
    for now in range(600):
        limit.called(now)
        hedges += limit.allow(now)
    assert 20 <= hedges <= 31
