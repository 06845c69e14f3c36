"""Who owned each moment of a stream: a ledger with one owner at a time, so that the parts always sum to the whole."""

from collections import deque
from typing import Literal

Owner = Literal["queue", "connect", "upstream_wait", "gateway", "client_blocked", "guard_held"]
OWNERS: tuple[Owner, ...] = ("queue", "connect", "upstream_wait", "gateway", "client_blocked", "guard_held")
Blame = Literal["upstream", "client", "gateway"]

AWAITED: frozenset[Owner] = frozenset({"connect", "upstream_wait"})


class Ledger:
    """Cuts a stream's life into spans with one owner each.

    A turn of owner costs one addition. `late` is the worker's running total of loop lateness in seconds: what it grew by
    while we waited for an upstream is the gateway's, because the bytes may have lain in the kernel while we were busy.
    """

    __slots__ = ("_late", "owner", "seconds", "since")

    def __init__(self, now: float, late: float = 0.0, owner: Owner = "gateway") -> None:
        self.owner: Owner = owner
        self.since = now
        self._late = late
        self.seconds: dict[Owner, float] = dict.fromkeys(OWNERS, 0.0)

    def turn(self, owner: Owner, now: float, late: float = 0.0) -> None:
        """Close the current owner's span at `now` and open one for `owner`."""
        elapsed = max(0.0, now - self.since)
        ours = min(elapsed, max(0.0, late - self._late)) if self.owner in AWAITED else 0.0
        self.seconds[self.owner] += elapsed - ours
        self.seconds["gateway"] += ours
        self.owner, self.since, self._late = owner, max(now, self.since), late


class Intervals:
    """The last intervals of one kind (reading paused, loop late), to ask how much of a given silence they cover."""

    __slots__ = ("_spans", "_started")

    def __init__(self, keep: int = 64) -> None:
        self._spans: deque[tuple[float, float]] = deque(maxlen=keep)
        self._started: float | None = None

    def begin(self, now: float) -> None:
        self._started = now

    def end(self, now: float) -> None:
        if self._started is not None:
            self._spans.append((self._started, now))
            self._started = None

    def add(self, start: float, end: float) -> None:
        self._spans.append((start, end))

    def within(self, start: float, end: float) -> float:
        """Return the seconds of [start, end] that these intervals cover, one still open included."""
        covered = max(0.0, end - max(start, self._started)) if self._started is not None else 0.0
        for since, to in reversed(self._spans):
            if to <= start:  # so are all before it: asked of a stream that has just begun, none is looked at
                break
            covered += max(0.0, min(end, to) - max(start, since))
        return covered


def blame(length: float, client: float, gateway: float) -> Blame:
    """Name who held most of a silence of `length` seconds, `client` and `gateway` of which are known to be theirs."""
    upstream = length - client - gateway
    if upstream >= client and upstream >= gateway:
        return "upstream"
    return "client" if client >= gateway else "gateway"
