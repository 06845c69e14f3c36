"""The estimate of time to first token."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.estimate import KEEP, RECENT, STALE, UNSEEN, Estimate


def fed(*samples):
    estimate = Estimate()
    for sample, now in samples:
        estimate.add(sample, now)
    return estimate


def test_unseen_is_a_quarter_second():
    """Without a sample the estimate is 250 ms, never 0."""
    assert Estimate().read(1e6) == UNSEEN == 0.25


def test_first_sample_is_taken_whole():
    """One sample is the estimate."""
    assert fed((1.7, 0.0)).read(0.0) == 1.7


def test_peak_is_followed_at_once_but_one_outlier_only_doubles():
    """A higher sample replaces the estimate, up to twice what it was; the next one takes it further."""
    assert fed((0.2, 0.0), (0.3, 0.1)).read(0.1) == 0.3
    assert fed((0.2, 0.0), (9.0, 0.1)).read(0.1) == 0.4
    assert fed((0.2, 0.0), (9.0, 0.1), (9.0, 0.2), (9.0, 0.3), (9.0, 0.4)).read(0.4) == 3.2


def test_dense_jitter_fades_slowly():
    """Among dense samples a moderate peak keeps most of its weight for seconds: 30 s time constant."""
    estimate = fed((0.2, 0.0), (0.3, 0.0))
    for step in range(1, 51):
        estimate.add(0.2, step / 10)
    assert estimate.read(5.0) == pytest.approx(0.2 + 0.1 * 2.718281828 ** (-5 / 30), rel=1e-3)


def test_samples_far_below_the_estimate_halve_it_every_second():
    """Dense samples under half the estimate close the distance with a half-life of one second."""
    estimate = fed((3.0, 0.0))
    for step in range(1, 11):
        estimate.add(0.2, step / 10)
    assert estimate.read(1.0) == pytest.approx(0.2 + 2.8 / 2, rel=1e-6)


def test_sparse_lower_sample_halves_the_distance():
    """A lower sample more than a second after the previous one closes half of the distance, even if it is only a little lower."""
    assert fed((3.0, 0.0), (0.2, 2.0)).read(2.0) == pytest.approx(1.6)
    assert fed((0.4, 0.0), (0.3, 2.0)).read(2.0) == pytest.approx(0.35)


def test_silence_fades_to_the_prior_from_both_sides():
    """After 30 s without a sample a slow target's estimate sinks and a fast one's rises, towards 250 ms."""
    slow, fast = fed((3.0, 0.0)), fed((0.05, 0.0))
    assert slow.read(STALE) == 3.0
    assert 3.0 > slow.read(100) > slow.read(1000) > UNSEEN
    assert fast.read(STALE) < fast.read(100) < fast.read(1000) < UNSEEN
    assert slow.read(1e5) == pytest.approx(UNSEEN)


def test_revisited_slow_target_is_slow_again_at_once():
    """The cap on a rise looks at the estimate as it was before it faded."""
    estimate = fed((3.0, 0.0))
    assert estimate.read(2000) < 0.3
    estimate.add(3.0, 2000)
    assert estimate.read(2000) == 3.0


def test_censored_sample_never_lowers():
    """No token after 0.3 s says nothing against an estimate of 1 s, and something against one of 0.2 s."""
    slow, fast = fed((1.0, 0.0)), fed((0.2, 0.0))
    slow.add_censored(0.3, 5.0)
    fast.add_censored(0.3, 5.0)
    assert slow.read(5.0) == 1.0
    assert slow.last == 1.0
    assert fast.read(5.0) == 0.3


def test_quantile_needs_ten_and_counts_censored_ones():
    """Nearest rank over the recent samples; a call given up on is as long as it was waited for."""
    estimate = Estimate()
    for number in range(9):
        estimate.add(0.1, number)
    assert estimate.quantile(0.95, 9) is None
    estimate.add_censored(2.0, 9)
    assert estimate.quantile(0.95, 9) == 2.0
    assert estimate.quantile(0.5, 9) == 0.1


def test_quantile_forgets():
    """Samples leave after 10 minutes, or when 128 newer ones have come."""
    estimate = Estimate()
    for number in range(20):
        estimate.add(5.0, number)
    assert estimate.quantile(0.5, RECENT + 30) is None
    for number in range(KEEP + 20):
        estimate.add(5.0 if number < 20 else 0.1, 1000)
    assert estimate.quantile(1.0, 1000) == 0.1


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100), st.booleans()), min_size=1, max_size=60))
def test_stays_within_what_was_seen(history):
    """Whatever is fed, the estimate stays above 0 and between the least and the greatest of the samples and the prior."""
    estimate, now, seen = Estimate(), 0.0, [UNSEEN]
    for sample, gap, censored in history:
        now += gap
        (estimate.add_censored if censored else estimate.add)(sample, now)
        seen.append(max(sample, 0.001))
        assert min(seen) * 0.999 <= estimate.read(now) <= max(seen) * 1.001
        assert estimate.read(now) > 0
