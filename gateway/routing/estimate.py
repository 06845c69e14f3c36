"""How long a target takes to its first token: one estimate to compare targets by, and the recent samples for quantiles."""

from collections import deque
from math import ceil, exp, inf

UNSEEN = 0.25
"""Seconds assumed of a target never measured: not 0, which would draw every call to it."""
FLOOR = 0.001
"""No sample counts as less, so no score is ever 0."""
TAU = 30.0
"""Seconds in which an old peak loses 63 % of its weight to the usual lower samples."""
STEP = 2.0
"""One sample at most doubles the estimate: one outlier is no slow target, a few in a row are."""
STALE = 30.0
"""Seconds without a sample after which the estimate begins to sink (or rise) towards UNSEEN."""
FADE = 300.0
"""Seconds in which a stale estimate loses 63 % of its distance from UNSEEN."""
PROVEN = 5
"""Samples after which a new or long unmeasured target may be given more than a few calls at once."""
KEEP = 128
RECENT = 600.0
"""Seconds a sample is kept for quantiles, and how many of them."""


class Estimate:
    """A peak-sensitive moving average of time to first token, in seconds.

    Up: a sample above the estimate replaces it at once, but never raises it to more than twice what it was, so that one outlier of
    a heavy tail does not banish a target. Down: by time, gain = 1 - exp(-dt / 30 s), dt since the previous sample; but a target
    that is avoided is measured seldom and would need minutes, so a sample under half the estimate closes the distance with a
    half-life of one second, and any lower sample that comes more than a second after the previous one closes at least half of it.
    Silent for 30 s: the estimate fades towards the unseen prior, so that a target once slow is tried again and a target once fast
    is not trusted for ever. PeakEWMA after Finagle's; the bounds on both ways are ours, measured in docs/routing.md.
    """

    __slots__ = ("_proof", "_recent", "_sorted", "before", "last", "sampled_at", "value")

    def __init__(self) -> None:
        self.value: float | None = None
        self.last = inf
        self.before = inf
        self.sampled_at = float("-inf")
        self._proof = 0
        self._recent: deque[tuple[float, float]] = deque(maxlen=KEEP)
        self._sorted: list[float] | None = None

    def read(self, now: float) -> float:
        """Return the estimate at `now`; UNSEEN when there is none."""
        value = self.value
        if value is None:
            return UNSEEN
        idle = now - self.sampled_at - STALE
        return value if idle <= 0 else UNSEEN + (value - UNSEEN) * exp(-idle / FADE)

    def add(self, sample: float, now: float) -> None:
        """Take in one time to first token."""
        sample = max(sample, FLOOR)
        current = self.read(now)
        if self.value is None:
            self.value = sample
        elif sample >= current:
            self.value = min(sample, STEP * max(current, self.value))
        else:
            self.value = current + (sample - current) * _gain(now - self.sampled_at, sample < current / 2)
        self._took(sample, sample, now)

    def add_censored(self, waited: float, now: float) -> None:
        """Take in that no token came within `waited` seconds: the estimate may rise to that, but it never falls by it."""
        waited = max(waited, FLOOR)
        if self.value is None or waited > self.read(now):
            self.add(waited, now)
        else:
            self._took(self.value, waited, now)

    def proof(self, now: float) -> int:
        """Return how many samples stand behind the estimate since it was last unseen or stale."""
        return self._proof if now - self.sampled_at <= STALE else 0

    def _took(self, seen: float, sample: float, now: float) -> None:
        self._proof = self.proof(now) + 1  # asks when the previous sample came
        self.before, self.last = self.last, seen
        self.sampled_at = max(now, self.sampled_at)
        self._recent.append((now, sample))
        self._sorted = None

    def quantile(self, q: float, now: float, fewest: int = 10) -> float | None:
        """Return the nearest-rank quantile of the recent samples (at most 128, 10 minutes); None when there are fewer than `fewest`."""
        recent = self._recent
        while recent and now - recent[0][0] > RECENT:
            recent.popleft()
            self._sorted = None
        if len(recent) < fewest:
            return None
        if self._sorted is None:
            self._sorted = sorted(sample for _, sample in recent)
        return self._sorted[max(0, ceil(q * len(recent)) - 1)]


def _gain(elapsed: float, well_under: bool) -> float:
    """Return the share of the distance that a lower sample closes, `elapsed` seconds after the previous one."""
    elapsed = max(0.0, elapsed)
    slow = 1.0 - exp(-elapsed / TAU)
    if elapsed >= 1.0:
        return max(slow, 0.5)
    return max(slow, 1.0 - 0.5**elapsed) if well_under else slow
