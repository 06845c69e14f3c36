"""The last quarter of an hour, route by route, in steps of ten seconds: what the console draws its figures and small curves from."""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from math import sqrt
from typing import TypeVar

from msgspec import Struct, field

from gateway.core.buckets import LATENCY_BOUNDS, subdivide
from gateway.core.owners import Blame
from gateway.core.record import StreamRecord
from gateway.telemetry.account import Account

STEP = 10.0
STEPS = 90
BOUNDS = subdivide(LATENCY_BOUNDS)
LATELY = 12
"""Steps at the end that are held against those before: two minutes."""
FEW = 20
"""Streams below which a figure of either says nothing."""
SLOWER = 1.25
SIGMAS = 3.0
"""How far apart two shares are at least, in standard errors, before they differ by more than chance."""
LEFT = frozenset({"client_disconnect", "client_stalled"})
MOST_ROUTES = 256
MOST_UPSTREAMS = 64
K = TypeVar("K")


class Slice(Struct):
    """What ended in one step: streams, by upstream too, those that spoke, stalled (not by
    their client's doing alone) or were left, and their times to first token by bin."""

    streams: int = 0
    spoke: int = 0
    stalled: int = 0
    aborted: int = 0
    stalls: dict[Blame, int] = field(default_factory=dict)
    upstreams: dict[str, int] = field(default_factory=dict)
    ttft: dict[int, int] = field(default_factory=dict)

    def add(self, told: Account) -> None:
        record = told.record
        self.streams += 1
        self.aborted += record.outcome in LEFT
        if record.upstream in self.upstreams or len(self.upstreams) < MOST_UPSTREAMS:
            self.upstreams[record.upstream] = self.upstreams.get(record.upstream, 0) + 1
        if record.cadence.chunks:
            self.spoke += 1
            self.stalled += delayed(record)
        for stall in record.cadence.stalls:
            self.stalls[stall.blame] = self.stalls.get(stall.blame, 0) + 1
        if told.ttft is not None:
            place = bisect_left(BOUNDS, told.ttft)
            self.ttft[place] = self.ttft.get(place, 0) + 1

    def merge(self, other: "Slice") -> None:
        self.streams += other.streams
        self.spoke += other.spoke
        self.stalled += other.stalled
        self.aborted += other.aborted
        _merge(self.stalls, other.stalls)
        _merge(self.upstreams, other.upstreams)
        _merge(self.ttft, other.ttft)

    def quantile(self, q: float) -> float | None:
        """Return a quantile of time to first token in seconds, taken to lie evenly within its bin; None without any."""
        every = sum(self.ttft.values())
        below, rank = 0, q * every
        for place in sorted(self.ttft):
            count = self.ttft[place]
            if below + count >= rank:
                low = BOUNDS[place - 1] if place else 0.0
                high = BOUNDS[place] if place < len(BOUNDS) else low
                return low + (high - low) * (rank - below) / count
            below += count
        return None

    def figures(self, seconds: float) -> dict[str, float | None]:
        """Return the figures of `seconds` of time; rates of nothing are None."""
        return {
            "streams": self.streams,
            "rate": self.streams / seconds,
            "ttft_p50": self.quantile(0.50),
            "ttft_p95": self.quantile(0.95),
            "stall_rate": self.stalled / self.spoke if self.spoke else None,
            "abort_rate": self.aborted / self.streams if self.streams else None,
        }


def delayed(record: StreamRecord) -> bool:
    """Tell whether a stream stalled for another reason than its own client, who says nothing about whom it was served by."""
    return record.stalled and set(record.cadence.stall_time) != {"client"}


def worse(steps: Sequence[Slice]) -> dict[str, tuple[float, float]]:
    """Return which figures have become worse in the last two minutes, by name: what they are now, and what they were before."""
    before, now = Slice(), Slice()
    for place, step in enumerate(steps):
        (now if place >= len(steps) - LATELY else before).merge(step)
    found: dict[str, tuple[float, float]] = {}
    if min(sum(before.ttft.values()), sum(now.ttft.values())) >= FEW:
        for name, q in (("ttft_p50", 0.50), ("ttft_p95", 0.95)):
            was, is_now = before.quantile(q), now.quantile(q)
            if was is not None and is_now is not None and is_now > was * SLOWER:
                found[name] = (is_now, was)
    for name, hits, of in (
        ("stall_rate", (before.stalled, now.stalled), (before.spoke, now.spoke)),
        ("abort_rate", (before.aborted, now.aborted), (before.streams, now.streams)),
    ):
        if min(of) >= FEW and _rose(hits, of):
            found[name] = (hits[1] / of[1], hits[0] / of[0])
    return found


def _rose(hits: tuple[int, int], of: tuple[int, int]) -> bool:
    """Return whether the second share is above the first by more than chance would have it (two proportions, pooled)."""
    pooled = sum(hits) / sum(of)
    error = sqrt(pooled * (1 - pooled) * (1 / of[0] + 1 / of[1]))
    return hits[1] / of[1] - hits[0] / of[0] > SIGMAS * error if error else False


class Overview:
    """Keeps 90 steps of 10 s for each route; `now` is monotonic seconds."""

    def __init__(self, now: float) -> None:
        self._began = now
        self._steps: deque[tuple[int, dict[str, Slice]]] = deque(maxlen=STEPS)

    def add(self, told: Account, now: float) -> None:
        """Take in one ended stream."""
        step = int(now // STEP)
        if not self._steps or self._steps[-1][0] < step:
            self._steps.append((step, {}))
        routes = self._steps[-1][1]
        route = told.record.route
        if route not in routes and len(routes) >= MOST_ROUTES:
            return
        routes.setdefault(route, Slice()).add(told)

    def covered(self, now: float) -> float:
        """Return of how many seconds the figures are: 15 minutes, less while it is young."""
        return min(max(now - self._began, 1.0), STEP * STEPS)

    def read(self, now: float, route: str | None = None) -> tuple[Slice, list[Slice]]:
        """Return the sum over the last 15 minutes, of one route or all, and each step of them, the oldest first."""
        last, total = int(now // STEP), Slice()
        steps = [Slice() for _ in range(STEPS)]
        for step, routes in self._steps:
            if 0 <= last - step < STEPS:
                for each in _wanted(routes, route):
                    steps[STEPS - 1 - (last - step)].merge(each)
                    total.merge(each)
        return total, steps


def _merge(mine: dict[K, int], theirs: dict[K, int]) -> None:
    for key, count in theirs.items():
        mine[key] = mine.get(key, 0) + count


def _wanted(routes: dict[str, Slice], route: str | None) -> Iterable[Slice]:
    return routes.values() if route is None else [routes[route]] if route in routes else []
