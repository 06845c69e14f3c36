"""Gaps, stalls and bursts of one stream, from the times at which its tokens arrived."""

import sys
from itertools import pairwise
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.buckets import GAP_BOUNDS, with_thresholds
from gateway.core.record import Cadence, Stall
from gateway.stream.cadence import BURST_FRAMES, FINE_BOUNDS, FIRST_STALLS, MAX_STALLS, MOST_TICKS, CadenceMeter


def meter(*times: float, threshold: float = 1.0, **options) -> CadenceMeter:
    made = CadenceMeter(threshold, **options)
    for time in times:
        made.arrive(time)
    return made


def after(gaps: list[float], start: float = 100.0) -> list[float]:
    times = [start]
    for gap in gaps:
        times.append(times[-1] + gap)
    return times


def test_a_stream_without_tokens_has_no_cadence():
    """Nothing arrived, so there is nothing to say, whenever it closes: no zero, no gap."""
    silent = meter()
    silent.close(50.0)
    assert silent.report() == Cadence()
    assert silent.last_at is None
    assert not silent.overdue(1e9)


def test_one_arrival_has_no_gap():
    """One read of tokens, however many, has no silence between tokens."""
    one = CadenceMeter(1.0)
    one.arrive(5.0, 30)
    assert one.report() == Cadence(chunks=30, arrivals=1, ticks=[0], counts=[(0, 30)])


def test_tokens_of_one_read_arrive_together():
    """Gaps lie between reads: three reads make two gaps, however many tokens they brought."""
    three = CadenceMeter(1.0)
    for time, chunks in ((1.0, 5), (1.25, 1), (1.75, 4)):
        three.arrive(time, chunks)
    report = three.report()
    assert (report.chunks, report.arrivals, report.gap_sum, report.gap_max) == (10, 3, 0.75, 0.5)
    assert report.gaps == [(0.25, 1), (0.5, 1)]


def test_stalls_are_counted_measured_and_blamed():
    """Gaps of 0.1, 3, 0.1 and 40 s over a threshold of 2 s: two stalls, 43 s, the longest gap 40 s."""
    stalling = meter(*after([0.1, 3.0, 0.1, 40.0]), threshold=2.0)
    report = stalling.report()
    assert report.stall_count == 2
    assert sum(report.stall_time.values()) == pytest.approx(43.0)
    assert report.gap_max == pytest.approx(40.0)
    assert [(stall.chunk, stall.blame) for stall in report.stalls] == [(2, "upstream"), (4, "upstream")]
    assert report.stalls[0].at == pytest.approx(100.1)


def test_the_blamer_is_asked_for_the_silence_itself():
    """Whoever knows the owners is given start and end of the silence, and its word is kept per owner."""
    asked = []

    def blamer(start: float, end: float):
        asked.append((start, end))
        return "client" if end < 5 else "gateway"

    report = meter(0.0, 4.0, 4.5, 6.5, blamer=blamer).report()
    assert asked == [(0.0, 4.0), (4.5, 6.5)]
    assert report.stall_time == {"client": 4.0, "gateway": 2.0}


def test_a_gap_of_exactly_the_threshold_is_no_stall():
    """Longer than the threshold is a stall; as long is not."""
    exact = meter(0.0, 1.0, 2.0)
    assert not exact.overdue(3.0)
    assert exact.overdue(3.0000001)
    assert exact.report().stall_count == 0


def test_a_silence_is_announced_once():
    """overdue() is true once per episode and again in the next one."""
    silent = meter(0.0)
    assert [silent.overdue(time) for time in (0.5, 1.0, 1.5, 2.0, 30.0)] == [False, False, True, False, False]
    silent.arrive(31.0)
    assert [silent.overdue(time) for time in (31.5, 33.0, 34.0)] == [False, True, False]
    silent.close(35.0)
    assert not silent.overdue(99.0)


def test_a_silence_that_ends_the_stream_is_a_stall_but_no_gap():
    """What was announced as a stall is recorded as one, though no token followed; close counts once."""
    dying = meter(0.0, 0.5)
    assert dying.overdue(20.0)
    dying.close(30.5)
    dying.close(300.0)
    report = dying.report()
    assert report.stalls == [Stall(at=0.5, length=30.0, blame="upstream", chunk=2)]
    assert (report.stall_count, report.gap_max, report.gaps) == (1, 0.5, [(0.5, 1)])
    ended = meter(0.0, 0.5)
    ended.close(0.6)
    assert ended.report().stall_count == 0


def test_the_first_stalls_and_the_longest_are_kept():
    """At most 16 are kept: the first eight, and of the later ones the longest; all are counted."""
    gaps = [2.0 + number % 7 for number in range(40)] + [50.0] + [2.5] * 20
    report = meter(*after(gaps)).report()
    assert report.stall_count == 61
    assert sum(report.stall_time.values()) == pytest.approx(sum(gaps))
    assert len(report.stalls) == MAX_STALLS
    assert [stall.length for stall in report.stalls[:FIRST_STALLS]] == pytest.approx(gaps[:FIRST_STALLS])
    kept = sorted(stall.length for stall in report.stalls[FIRST_STALLS:])
    assert kept == pytest.approx(sorted(gaps[FIRST_STALLS:])[-(MAX_STALLS - FIRST_STALLS) :])
    assert [stall.at for stall in report.stalls] == sorted(stall.at for stall in report.stalls)


@pytest.mark.parametrize(
    ("gap", "chunks", "burst"),
    [(2.1, BURST_FRAMES, True), (2.0, BURST_FRAMES, False), (2.1, BURST_FRAMES - 1, False), (0.1, 500, False), (60.0, 100, True)],
)
@pytest.mark.parametrize("threshold", [1.0, 30.0])
def test_a_flood_after_a_silence_is_a_burst(gap, chunks, burst, threshold):
    """Twenty token frames in one read after more than two seconds of silence: somebody on the way holds tokens back."""
    flood = CadenceMeter(threshold)
    flood.arrive(10.0)
    flood.arrive(10.0 + gap, chunks)
    flood.arrive(10.1 + gap)
    assert flood.report().burst is burst


@settings(max_examples=300, deadline=None)
@given(gaps=st.lists(st.floats(0, 500), min_size=1, max_size=60))
def test_the_bins_account_for_every_gap(gaps):
    """Counts add up, every gap lies within its bin, percentiles are ordered and never above the longest gap."""
    times = after(gaps)
    real = [end - start for start, end in pairwise(times)]
    report = meter(*times).report()
    assert sum(count for _, count in report.gaps) == len(real) == report.arrivals - 1
    assert report.gap_sum == pytest.approx(sum(real))
    assert report.gap_max == max(real)
    assert 0 <= report.gap_p50 <= report.gap_p95 <= report.gap_max
    bounds = (*FINE_BOUNDS, inf)
    for bound, count in report.gaps:
        low = -1.0 if bound == bounds[0] else bounds[bounds.index(bound) - 1]
        assert count == sum(low < gap <= bound for gap in real)


@pytest.mark.parametrize(("quantile", "rank"), [("gap_p50", 0.5), ("gap_p95", 0.95)])
def test_percentiles_are_close_to_the_true_ones(quantile, rank):
    """A hundred different gaps: the estimate is within one fine bin of the truth."""
    gaps = [0.001 * number for number in range(1, 101)]
    assert getattr(meter(*after(gaps)).report(), quantile) == pytest.approx(rank * 0.1, rel=0.1)


def test_a_bound_of_the_config_has_a_bin_of_its_own():
    """Given a threshold among the bounds, "longer than the threshold" can be read off the bins exactly."""
    bounds = with_thresholds(GAP_BOUNDS, [0.7])
    report = meter(*after([0.69, 0.7, 0.71], 0.0), threshold=0.7, bounds=bounds).report()
    assert sum(count for bound, count in report.gaps if bound > 0.7) == report.stall_count == 1


def test_a_gap_beyond_the_last_bound_is_in_the_last_bin():
    """Nothing is lost above: the bound past the last is inf, the longest gap is exact."""
    report = meter(0.0, 1000.0).report()
    assert (report.gaps, report.gap_max, report.gap_p50) == ([(inf, 1)], 1000.0, pytest.approx(1000.0, rel=0.5))


def test_an_end_that_was_none_is_taken_back():
    """A silence counted at an end that another upstream made good is one silence, over when that one speaks."""
    made = meter(0.0, 0.1)
    made.close(2.0)
    assert made.report().stall_count == 1
    for _ in range(2):
        made.reopen()
        assert (made.report().stall_count, made.report().stall_time, made.report().stalls) == (0, {}, [])
    made.arrive(3.0)
    made.close(3.1)
    report = made.report()
    assert (report.stall_count, report.stall_time, report.stalls[0].length) == (1, {"upstream": pytest.approx(2.9)}, pytest.approx(2.9))


def test_memory_does_not_grow_with_the_stream():
    """After the first thousand arrivals nothing is kept of any other."""

    def size(made: CadenceMeter) -> int:
        return sum(sys.getsizeof(value) for name in made.__slots__ if isinstance(value := getattr(made, name), list | dict | tuple))

    growing = CadenceMeter(1.0)
    sizes = []
    for number in range(20_000):
        growing.arrive(number * 1.5)
        sizes.append(size(growing) if number in {1000, 19_999} else 0)
    assert sizes[1000] == sizes[-1]


def test_reads_of_many_tokens_take_little_memory():
    """At most 16 bytes for each arrival that is kept, however many tokens it brought; counts are told by place as they came."""
    made = meter()
    for number in range(MOST_TICKS + 10):
        made.arrive(100.0 + number, 1 + number % 300)
    assert sum(sys.getsizeof(kept) for kept in (made.times, made._places, made._brought)) < 16 * (MOST_TICKS + 10)
    assert made.report().counts == [(place, 1 + place % 300) for place in range(MOST_TICKS) if place % 300]


def test_a_stall_that_nobody_saw_is_told_once_when_it_is_over() -> None:
    """Who asks only after the silence hears of it once; one that `overdue` told of while it lasted is not told again."""
    meter = CadenceMeter(1.0)
    meter.arrive(0.0)
    meter.arrive(4.0)
    missed = meter.missed()
    assert missed is not None
    assert (missed.at, missed.length, missed.blame) == (0.0, 4.0, "upstream")
    assert meter.missed() is None
    assert meter.overdue(6.0)
    meter.arrive(7.0)
    assert meter.missed() is None
