"""The only clocks that tick in a worker: the sweep over live streams, and the canary that tells when the loop itself was late."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from gateway.core.owners import Intervals

SWEEP_SECONDS = 0.25
CANARY_SECONDS = 0.01
LATE_SECONDS = 0.02
"""Lateness of the loop beyond this is silence that the gateway itself made."""


class Watched(Protocol):
    """A stream that wants to be looked at now and then."""

    def tick(self, now: float) -> None: ...
    def silence(self, now: float) -> float: ...


class LoopLag:
    """Measures how late the event loop runs its timers: a running total of lateness, and the intervals it fell in."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._expected = clock() + CANARY_SECONDS
        self._timer: asyncio.TimerHandle | None = None
        self.total = 0.0
        self.worst = 0.0
        self.intervals = Intervals()

    def start(self) -> None:
        self._expected = self._clock() + CANARY_SECONDS
        self._timer = asyncio.get_running_loop().call_later(CANARY_SECONDS, self._fire)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _fire(self) -> None:
        now = self._clock()
        lag = now - self._expected
        self.worst = max(self.worst, lag)
        if lag > LATE_SECONDS:
            self.total += lag
            self.intervals.add(self._expected, now)
        self.start()

    def late(self, now: float) -> float:
        """Return the seconds of lateness so far, with what is running up before the canary can fire: reads may come first."""
        running = now - self._expected
        return self.total + running if running > LATE_SECONDS else self.total

    def within(self, start: float, end: float) -> float:
        """Return how much of [start, end] fell into lateness."""
        running = max(0.0, end - max(start, self._expected)) if end - self._expected > LATE_SECONDS else 0.0
        return self.intervals.within(start, end) + running

    def enough(self, limit: float, since: float, now: float) -> float:
        """Return when we shall have listened for `limit` seconds: while our own loop did not run, what was said lay in the kernel."""
        return since + limit + self.within(since, now)

    def over(self, limit: float, since: float, now: float) -> bool:
        """Tell whether we have listened for longer than that."""
        return now - since > limit and now > self.enough(limit, since, now)

    def take_worst(self) -> float:
        """Return the worst lateness since the last call."""
        worst, self.worst = self.worst, 0.0
        return max(0.0, worst)


class Watch:
    """Sweeps everything registered with it, four times a second. What is swept may leave during the sweep."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self.watched: set[Watched] = set()

    def start(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _sweep(self) -> None:
        now = self._clock()
        for watched in tuple(self.watched):
            watched.tick(now)
        self.start()
