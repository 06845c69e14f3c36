"""When the tokens of one stream arrived: gaps in fine bins, stalls with their owner, and whether a silence ended in a flood."""

from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable
from math import inf

from gateway.core.buckets import GAP_BOUNDS, subdivide
from gateway.core.owners import Blame
from gateway.core.record import Cadence, Stall

FINE_BOUNDS = subdivide(GAP_BOUNDS)
BURST_FRAMES, BURST_GAP = 20, 2.0
"""So many token frames in one read after so many seconds of silence: somebody on the way holds tokens back."""
FIRST_STALLS, MAX_STALLS = 8, 16
MOST_TICKS = 4096
"""Arrivals of one stream whose times are kept, so that it can be drawn and replayed token by token."""
LATEST = 512
"""Of a longer stream, how many of its latest arrivals are known besides: for who looks on while it runs."""


def upstream(start: float, end: float) -> Blame:  # noqa: ARG001 - the shape of every blamer
    """Blame the upstream for every silence: the answer of whoever has no ledger to ask."""
    return "upstream"


class CadenceMeter:
    """Counts arrivals of tokens and the gaps between them; memory is one count per bin, at most 16 stalls, and for each of the
    first few thousand arrivals 8 bytes, 14 when it brought other than one token, and 32 for each of a few hundred of the latest, if
    `bound` is called now and then.

    Tokens of one read arrive together, so they have no gap between them. `threshold` and all times are seconds; a longer silence
    is a stall, and `blamer(start, end)` names who held most of it. The silence between the last token and `close` can be a stall
    too, but it is no gap: nothing came after it.
    """

    __slots__ = (
        "_announced",
        "_blamer",
        "_bounds",
        "_brought",
        "_burst",
        "_chunks",
        "_closed",
        "_counts",
        "_excused",
        "_excused_at",
        "_first_at",
        "_keep",
        "_latest",
        "_longest",
        "_missed",
        "_notable",
        "_places",
        "_stall_count",
        "_stall_time",
        "_stalls",
        "_threshold",
        "last_at",
        "times",
    )

    def __init__(
        self, threshold: float, bounds: tuple[float, ...] = FINE_BOUNDS, blamer: Callable[[float, float], Blame] = upstream
    ) -> None:
        self._threshold = threshold
        self._notable = min(threshold, BURST_GAP)
        self._bounds = bounds
        self._blamer = blamer
        self._counts = [0] * (len(bounds) + 1)
        self.times = array("d")
        self._keep: Callable[[float], None] = self.times.append
        self._latest: deque[float] | None = None
        self._places, self._brought = array("H"), array("I")
        self._chunks = 0
        self._longest = 0.0
        self._first_at = 0.0
        self.last_at: float | None = None
        self._announced: float | None = None
        self._missed: Stall | None = None
        self._excused = 0.0
        self._excused_at: tuple[float, float] | None = None
        self._closed: float | None = None
        self._burst = False
        self._stalls: list[Stall] = []
        self._stall_count = 0
        self._stall_time: dict[Blame, float] = {}

    def arrive(self, now: float, chunks: int = 1) -> None:
        """Note one read that brought `chunks` token-bearing events."""
        last = self.last_at
        self.last_at = now
        self._keep(now)
        if chunks != 1 and len(self.times) <= MOST_TICKS:
            self._places.append(len(self.times) - 1)
            self._brought.append(chunks)
        if last is None:
            self._first_at = now
        else:
            gap = now - last
            self._counts[bisect_left(self._bounds, gap)] += 1
            if gap > self._longest:  # noqa: PLR1730  max() would cost more than the rest of this
                self._longest = gap
            if gap > self._notable:
                self._note(last, gap, chunks)
        self._chunks += chunks

    @property
    def chunks(self) -> int:
        """How many token-bearing events have come."""
        return self._chunks

    @property
    def last_token_at(self) -> float | None:
        """When the last token came, whatever was excused since."""
        excused = self._excused_at
        return excused[0] if excused is not None and excused[1] == self.last_at else self.last_at

    def excuse(self, now: float) -> None:
        """Say that nothing was read until now because the client took nothing: no gap of the upstream's, though perhaps a stall.

        The next gap runs from here.
        """
        last = self.last_at
        if last is None or self._closed is not None:
            return
        self._note(last, now - last, 0)
        self._excused += now - last
        self._excused_at, self.last_at = (self.last_token_at or last, now), now

    def bound(self) -> None:
        """Keep only the latest times once there are enough; asked from time to time, because asking at every token would cost more."""
        if self._latest is None and len(self.times) > MOST_TICKS:
            self._latest = deque(maxlen=LATEST)
            self._keep = self._latest.append

    def since(self, after: float, most: int) -> tuple[list[float], list[int]]:
        """Return the times of the latest arrivals after a moment, at most so many, and how many tokens came at each.

        Beyond the first few thousand of a stream each arrival is taken for one token.
        """
        place = max(bisect_right(self.times, after), len(self.times) - most)
        times = self.times[place:].tolist()
        many = [1] * len(times)
        for each in range(bisect_left(self._places, place), len(self._places)):
            many[self._places[each] - place] = self._brought[each]
        if self._latest is not None:
            late = [at for at in self._latest if at > after]
            times, many = times + late, many + [1] * len(late)
        return times[-most:], many[-most:]

    def overdue(self, now: float) -> bool:
        """Tell, once per silence, that the stream has been silent for longer than the threshold."""
        last = self.last_at
        if last is None or self._closed is not None or now - last <= self._threshold or self._announced == last:
            return False
        self._announced = last
        return True

    def missed(self) -> Stall | None:
        """Return, once, the latest stall that was over before `overdue` could tell of it: nobody asked while it lasted."""
        missed, self._missed = self._missed, None
        return missed

    def close(self, now: float) -> None:
        """Say that the stream has ended; a silence that lasted until then is a stall like any other. Only the first call counts."""
        if self._closed is not None:
            return
        if self.last_at is not None:
            self._note(self.last_at, now - self.last_at, 0)
        self._closed = now

    def reopen(self) -> None:
        """Say that the stream goes on after all: a silence that was over with its end is not over yet."""
        ended, self._closed, self._missed = self._closed, None, None
        if ended is None or self.last_at is None or (length := ended - self.last_at) <= self._threshold:
            return
        blame = next((stall.blame for stall in self._stalls if stall.at == self.last_at), None) or self._blamer(self.last_at, ended)
        self._stalls = [stall for stall in self._stalls if stall.at != self.last_at]
        self._stall_count -= 1
        self._stall_time[blame] -= length
        if self._stall_time[blame] <= 0:
            del self._stall_time[blame]

    def report(self) -> Cadence:
        """Return what has been seen so far."""
        arrivals = sum(self._counts) + (self.last_at is not None)  # one more than there are gaps
        cadence = Cadence(
            chunks=self._chunks,
            arrivals=arrivals,
            stalls=list(self._stalls),
            stall_count=self._stall_count,
            stall_time=dict(self._stall_time),
            burst=self._burst,
            ticks=self._ticks(),
            counts=list(zip(self._places, self._brought, strict=True)),
        )
        if self.last_at is not None and arrivals > 1:
            gaps = arrivals - 1
            bins = self._bins()
            cadence.gaps = [(high, count) for _, high, count in bins]
            cadence.gap_sum = self.last_at - self._first_at - self._excused
            cadence.gap_p50, cadence.gap_p95 = self._quantile(bins, 0.50 * gaps), self._quantile(bins, 0.95 * gaps)
            cadence.gap_max = self._longest
        return cadence

    def _ticks(self) -> list[int]:
        """Return the steps between the arrivals that are kept, in tenths of a millisecond, rounded so that their sum stays true."""
        ticks, told = list[int](), 0
        for at in self.times[:MOST_TICKS]:
            passed = round((at - self._first_at) * 10_000)
            ticks.append(passed - told)
            told = passed
        return ticks

    def _bins(self) -> list[tuple[float, float, int]]:
        """Return the bins that hold something: lower bound, upper bound, count."""
        bounds = self._bounds
        filled = [place for place, count in enumerate(self._counts) if count]
        return [
            (bounds[place - 1] if place else 0.0, bounds[place] if place < len(bounds) else inf, self._counts[place]) for place in filled
        ]

    def _note(self, since: float, length: float, chunks: int) -> None:
        if chunks >= BURST_FRAMES and length > BURST_GAP:
            self._burst = True
        if length <= self._threshold:
            return
        stall = Stall(at=since, length=length, blame=self._blamer(since, since + length), chunk=self._chunks)
        self._stall_count += 1
        self._stall_time[stall.blame] = self._stall_time.get(stall.blame, 0.0) + length
        self._stalls.append(stall)
        if since != self._announced:
            self._missed = stall
        if len(self._stalls) > MAX_STALLS:
            self._stalls.remove(min(self._stalls[FIRST_STALLS:], key=lambda kept: kept.length))

    def _quantile(self, bins: list[tuple[float, float, int]], rank: float) -> float:
        """Return the gap that `rank` of all gaps do not exceed, taken to lie evenly within its bin; never more than the longest."""
        below = 0
        for low, high, count in bins:
            if below + count >= rank:
                return min(low + (min(high, self._longest) - low) * (rank - below) / count, self._longest)
            below += count
        return self._longest
