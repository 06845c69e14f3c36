"""How answers in turns are measured: gaps within each of them, waits for each of them, and what a listener hears of each."""

from bisect import bisect_left
from collections.abc import Callable

from gateway.core.owners import Blame
from gateway.core.record import Cadence, Waits
from gateway.stream.cadence import FINE_BOUNDS, CadenceMeter, upstream

GRACE = 0.02
"""Seconds that sound may be late before a listener hears it: no player is without so much of a buffer."""


class TurnMeter(CadenceMeter):
    """A cadence of answers in turns: the silence between two of them is nobody's gap."""

    __slots__ = ("_last", "_spoken", "_turns")

    def __init__(
        self, threshold: float, bounds: tuple[float, ...] = FINE_BOUNDS, blamer: Callable[[float, float], Blame] = upstream
    ) -> None:
        super().__init__(threshold, bounds, blamer)
        self._last = self._spoken = 0.0
        self._turns = 0

    def end_turn(self, now: float) -> None:
        """Say that an answer is over; a silence that lasted until then is a stall like any other."""
        if self.last_at is not None:
            self._note(self.last_at, now - self.last_at, 0)
            self._last, self._turns = self.last_at, self._turns + 1
            self._spoken += self.last_at - self._first_at
            self.last_at = None

    def report(self) -> Cadence:
        """Return what has been seen in the turns that have ended."""
        if not self._turns:
            return super().report()
        self.last_at, self._first_at = self._last, self._last - self._spoken
        cadence = super().report()
        self.last_at = None
        cadence.arrivals += self._turns - 1  # each turn has one arrival more than it has gaps
        return cadence


class Waited:
    """Counts waits in fine bins, so that memory does not grow with the session."""

    __slots__ = ("_bounds", "_counts", "_first", "_longest", "_total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts: dict[int, int] = {}
        self._first: float | None = None
        self._longest = self._total = 0.0

    def add(self, seconds: float) -> None:
        place = min(bisect_left(self._bounds, seconds), len(self._bounds) - 1)
        self._counts[place] = self._counts.get(place, 0) + 1
        self._first = seconds if self._first is None else self._first
        self._longest = max(self._longest, seconds)
        self._total += seconds

    def report(self) -> Waits:
        if self._first is None:
            return Waits()
        bins = [(self._bounds[place], waits) for place, waits in sorted(self._counts.items())]
        return Waits(first=self._first, p50=self._median(), max=self._longest, total=self._total, bins=bins)

    def _median(self) -> float:
        """Return the wait that half of all do not exceed, taken to lie evenly within its bin; never more than the longest."""
        rank, below = sum(self._counts.values()) / 2, 0
        for place, waits in sorted(self._counts.items()):
            if below + waits >= rank:
                low = self._bounds[place - 1] if place else 0.0
                high = min(self._bounds[place], self._longest)
                return low + max(0.0, high - low) * (rank - below) / waits
            below += waits
        return self._longest


class Playback:
    """The clock of a listener who plays an answer while it comes."""

    __slots__ = ("_began_at", "_delivered", "_muted", "_until", "underrun_time", "underruns")

    def __init__(self) -> None:
        self._began_at: float | None = None
        self._delivered = 0.0
        self._until = float("-inf")
        self._muted = False
        self.underruns = 0
        self.underrun_time = 0.0

    def begin(self) -> None:
        """A new answer is about to come."""
        self._began_at, self._delivered, self._muted = None, 0.0, False

    def deliver(self, seconds: float, now: float) -> None:
        """So much more sound has come."""
        if self._muted:
            return
        if self._began_at is None:
            self._began_at = now
        elif (dry := now - self._began_at - self._delivered) > GRACE:
            self.underruns += 1
            self.underrun_time += dry
            self._began_at += dry  # the listener has waited for it: from here on it is played again
        self._delivered += seconds
        self._until = max(self._until, now) + seconds

    def playing(self, now: float) -> bool:
        return now < self._until

    def stop(self, now: float) -> None:
        """The listener no longer listens to this answer; what still comes of it is not played."""
        self._muted, self._until = True, now
