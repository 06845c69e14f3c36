"""The times that a cadence keeps: for replay the first few thousand, for who looks on the latest, and never more memory than that."""

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.stream.cadence import LATEST, MOST_TICKS, CadenceMeter

READS = st.lists(st.tuples(st.floats(0.001, 3.0), st.integers(1, 40)), min_size=1, max_size=60)
EVERYTHING = 10**9


def heard(reads: list[tuple[float, int]]) -> tuple[CadenceMeter, list[tuple[float, int]]]:
    """Return a meter that has heard reads of (gap before it, tokens), and what they were by time."""
    meter = CadenceMeter(1.0)
    times = list(accumulate((gap for gap, _ in reads), initial=100.0))[1:]
    told = [(at, many) for at, (_, many) in zip(times, reads, strict=True)]
    for at, many in told:
        meter.arrive(at, many)
    return meter, told


@given(READS, st.integers(0, 60))
def test_who_asks_again_is_told_each_arrival_once(reads: list[tuple[float, int]], cut: int) -> None:
    """What came after the last time that was told, and what came until then, are together all that came."""
    meter, told = heard(reads[:cut] or reads[:1])
    first = list(zip(*meter.since(0.0, EVERYTHING), strict=True))
    assert first == told
    rest = [(told[-1][0] + step * 0.5 + 0.1, 2) for step in range(len(reads) - cut)]
    for at, many in rest:
        meter.arrive(at, many)
    assert list(zip(*meter.since(told[-1][0], EVERYTHING), strict=True)) == rest


@given(READS, st.integers(1, 20))
def test_of_a_long_past_only_the_latest_is_told(reads: list[tuple[float, int]], most: int) -> None:
    """At most as many arrivals as are asked for, the latest of them, with their tokens."""
    meter, told = heard(reads)
    assert list(zip(*meter.since(0.0, most), strict=True)) == told[-most:]


def test_the_steps_between_arrivals_are_true_to_a_tenth_of_a_millisecond() -> None:
    """Steps are rounded so that their sum stays the time passed, however many there are."""
    meter = CadenceMeter(10.0)
    times = [100.0 + number * 0.012345678 for number in range(4000)]
    for at in times:
        meter.arrive(at)
    ticks = meter.report().ticks
    assert ticks[0] == 0
    for at, told in zip(times, accumulate(ticks), strict=True):
        assert told * 1e-4 == pytest.approx(at - 100.0, abs=0.6e-4)


def test_memory_is_bounded_and_the_latest_are_known_all_the_same() -> None:
    """Of an endless stream the first thousands are kept for replay and a few hundred of the latest for who looks on."""
    meter = CadenceMeter(1.0)
    for number in range(MOST_TICKS * 3):
        meter.arrive(100.0 + number * 0.01, 3)
        if number % 25 == 0:
            meter.bound()
    assert len(meter.times) <= MOST_TICKS + 26
    report = meter.report()
    assert (len(report.ticks), len(report.counts)) == (MOST_TICKS, MOST_TICKS)
    assert report.chunks == MOST_TICKS * 9
    last = 100.0 + (MOST_TICKS * 3 - 1) * 0.01
    times, many = meter.since(last - 1.0, EVERYTHING)
    assert times[-1] == pytest.approx(last)
    assert len(times) == len(many) == pytest.approx(100, abs=1)
    assert len(meter.since(0.0, EVERYTHING)[0]) <= MOST_TICKS + 26 + LATEST
    assert len(meter.since(0.0, 400)[0]) == 400
