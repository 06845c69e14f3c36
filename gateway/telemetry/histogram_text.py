"""A gap histogram as one short text: `10ms:3,20ms:41`, each bound with the gaps that were at most so long."""

from bisect import bisect_left
from collections.abc import Iterable
from math import inf

from gateway.core.buckets import GAP_BOUNDS

LONGEST = 256


def histogram_text(gaps: Iterable[tuple[float, int]]) -> str:
    """Fold fine bins into GAP_BOUNDS and write them; where that is too long, neighbouring bins are joined, so that no gap is lost."""
    folded: dict[float, int] = {}
    for bound, count in gaps:
        place = bisect_left(GAP_BOUNDS, bound)
        coarse = GAP_BOUNDS[place] if place < len(GAP_BOUNDS) else inf
        folded[coarse] = folded.get(coarse, 0) + count
    bins = sorted(folded.items())
    while len(text := ",".join(f"{_bound(bound)}:{count}" for bound, count in bins)) > LONGEST:
        bins = _halved(bins)
    return text


def _halved(bins: list[tuple[float, int]]) -> list[tuple[float, int]]:
    pairs = [bins[place : place + 2] for place in range(0, len(bins), 2)]
    return [(pair[-1][0], sum(count for _, count in pair)) for pair in pairs]


def _bound(seconds: float) -> str:
    if seconds == inf:
        return "inf"
    return f"{seconds * 1000:g}ms" if seconds < 1 else f"{seconds:g}s"
