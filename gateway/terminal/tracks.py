"""What a live feed tells of running streams: their states, their last thirty seconds token by token, and these as a line of blocks."""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

from msgspec import Struct, field

SPAN = 30.0
COLUMN = 0.1
KEPT = math.ceil(SPAN / COLUMN) + 4
BLOCKS = "▁▂▃▄▅▆▇█"
WAITING, STALLED = "·", "▨"


class Silence(Struct):
    """One stall: monotonic seconds of the gateway's machine; `until` is None while it lasts."""

    since: float
    blame: str
    until: float | None = None


class Track(Struct):
    """One running stream. `columns` counts tokens by tenths of a second; times are the gateway's monotonic seconds."""

    id: str
    route: str
    upstream: str
    model: str
    state: str
    blame: str | None
    received: float
    columns: dict[int, int] = field(default_factory=dict)
    silences: list[Silence] = field(default_factory=list)
    first: float | None = None
    last: float | None = None

    def heard(self, times: list[float], many: list[int]) -> None:
        for at, tokens in zip(times, many, strict=True):
            self.first = at if self.first is None else self.first
            self.last = at
            self._over(at)
            column = int(at / COLUMN)
            self.columns[column] = self.columns.get(column, 0) + tokens
        if len(self.columns) > KEPT:
            oldest = int((self.last or 0.0) / COLUMN) - KEPT
            self.columns = {column: tokens for column, tokens in self.columns.items() if column >= oldest}

    def stalled(self, since: float, blame: str) -> None:
        self.state, self.blame = "stalled", blame
        if not self.silences or self.silences[-1].since != since:
            self.silences = [*self.silences[-20:], Silence(since, blame)]

    def _over(self, at: float) -> None:
        if self.state == "stalled":
            self.state, self.blame = "streaming", None
        if self.silences and self.silences[-1].until is None:
            self.silences[-1].until = at

    def silence(self, now: float) -> float:
        """Return for how many seconds it has said nothing, as far as we have heard."""
        lasting = self.silences[-1].since if self.silences and self.silences[-1].until is None else None
        return max(0.0, now - (self.last or lasting or self.received))

    def strip(self, now: float, width: int) -> Iterator[tuple[str, str]]:
        """Yield the last thirty seconds as `width` characters, each with what it shows: none, waiting, flow, or who holds a silence."""
        step = SPAN / width
        for place in range(width):
            since = now - SPAN + place * step
            yield self._cell(since, since + step)

    def _cell(self, since: float, until: float) -> tuple[str, str]:
        if until <= self.received:
            return " ", "none"
        tokens = sum(self.columns.get(column, 0) for column in range(int(since / COLUMN), int(until / COLUMN)))
        if tokens:
            return BLOCKS[min(len(BLOCKS) - 1, round(math.log2(tokens)))], "flow"
        if held := next((s for s in self.silences if s.since < until and (s.until is None or s.until > since)), None):
            return STALLED, held.blame
        if self.first is None or until <= self.first:
            return WAITING, "waiting"
        return " ", "none"


class Tracks:
    """All that a feed tells of. `active` streams run, of which those in `streams` are told of."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.streams: dict[str, Track] = {}
        self.active = 0
        self._clock = clock
        self._ahead = 0.0

    @property
    def now(self) -> float:
        """What the gateway's clock says now."""
        return self._clock() + self._ahead

    def take(self, event: dict[str, Any]) -> None:
        """Take one event of /api/live."""
        self._ahead, self.active = event["now"] - self._clock(), event["active"]
        if event.get("reset"):
            self.streams.clear()
        for row in event.get("begun", ()):
            self._begin(row)
        for row in event.get("moved", ()):
            if track := self.streams.get(row["id"]):
                track.state, track.upstream, track.blame = row["state"], row["upstream"], row["blame"]
        for stream_id, times, many, *_ in event.get("tokens", ()):
            if track := self.streams.get(stream_id):
                track.heard(times, many)
        for row in event.get("stalled", ()):
            if (track := self.streams.get(row["id"])) and (track.last is None or track.last <= row["since"]):
                track.stalled(row["since"], row["blame"])
        for stream_id in event.get("gone", ()):
            self.streams.pop(stream_id, None)

    def _begin(self, row: dict[str, Any]) -> None:
        track = Track(row["id"], row["route"], row["upstream"], row["model"], row["state"], row["blame"], row["received"])
        if row["state"] == "stalled":
            track.stalled(row["since"], row["blame"] or "upstream")
        self.streams[track.id] = track

    def longest_silent(self) -> list[Track]:
        now = self.now
        return sorted(self.streams.values(), key=lambda track: -track.silence(now))
