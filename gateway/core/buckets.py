"""The bounds of every histogram, in seconds: chosen so that both a 5 ms gap and a 15 minute answer have a bucket of their own."""

from collections.abc import Iterable
from itertools import pairwise

LATENCY_BOUNDS = (
    *(0.01, 0.02, 0.04, 0.08, 0.16, 0.25, 0.32, 0.5, 0.64, 0.8, 1.0, 1.28, 1.6, 2.0, 2.56, 3.2, 4.0, 5.12, 7.5),
    *(10.24, 15.0, 20.48, 30.0, 40.96, 60.0, 81.92, 120.0, 300.0, 900.0),
)
"""Time to first token, time to first chunk, durations."""

GAP_BOUNDS = (
    *(0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.16, 0.25, 0.32, 0.5, 0.64),
    *(1.0, 1.28, 2.0, 2.56, 3.0, 5.12, 10.24, 20.48, 40.96, 81.92),
)
"""Silence between two arrivals of tokens."""

TOKEN_BOUNDS = tuple(float(4**power) for power in range(14))
"""Token counts, 1 to 67 million, as the GenAI conventions advise."""


def with_thresholds(bounds: tuple[float, ...], thresholds: Iterable[float]) -> tuple[float, ...]:
    """Return the bounds with every configured threshold among them, so that "over the threshold" can be counted exactly."""
    return tuple(sorted({*bounds, *(t for t in thresholds if t > 0)}))


def subdivide(bounds: tuple[float, ...], parts: int = 4) -> tuple[float, ...]:
    """Return finer bounds that contain every given one: each span is cut into `parts` equal ratios."""
    fine: list[float] = []
    for low, high in pairwise(bounds):
        fine += [low * (high / low) ** (part / parts) for part in range(parts)]
    return (*fine, bounds[-1])
