"""The bounds of histograms: ordered, wide enough for the slowest stream, and exact where a threshold is configured."""

from itertools import pairwise

import pytest

from gateway.core.buckets import GAP_BOUNDS, LATENCY_BOUNDS, TOKEN_BOUNDS, subdivide, with_thresholds


@pytest.mark.parametrize("bounds", [LATENCY_BOUNDS, GAP_BOUNDS, TOKEN_BOUNDS, subdivide(GAP_BOUNDS), with_thresholds(GAP_BOUNDS, [0.7])])
def test_bounds_rise(bounds):
    """Every bound is positive and above the one before."""
    assert bounds[0] > 0
    assert all(low < high for low, high in pairwise(bounds))


def test_slow_streams_do_not_fall_off_the_end():
    """Ninety-five seconds to a first token, and an answer of fifteen minutes, have a bucket; gaps are told apart from a millisecond on."""
    assert any(bound >= 95 for bound in LATENCY_BOUNDS)
    assert LATENCY_BOUNDS[-1] >= 900
    assert GAP_BOUNDS[0] <= 0.001


def test_thresholds_join_the_bounds_once():
    """A configured threshold becomes a bound, one that is a bound already changes nothing, and zero is none (D9)."""
    assert with_thresholds((1.0, 3.0), [2.0, 3.0, 0.0, -1.0]) == (1.0, 2.0, 3.0)


@pytest.mark.parametrize("parts", [1, 2, 4, 7])
def test_finer_bounds_contain_every_coarse_one(parts):
    """Fine bins can be summed into coarse ones exactly: every coarse bound is among the fine ones, bit for bit."""
    fine = subdivide(GAP_BOUNDS, parts)
    assert set(GAP_BOUNDS) <= set(fine)
    assert len(fine) == (len(GAP_BOUNDS) - 1) * parts + 1
