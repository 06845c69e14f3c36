"""What one open Live page is shown, and what has happened of it since it was last told: at most one word of each kind on each stream."""

import time
from collections import Counter, deque
from math import inf
from typing import Any

from gateway.console.views import View, summary
from gateway.telemetry.account import Account
from gateway.telemetry.live import LiveStream
from gateway.telemetry.onlookers import MOST_SHOWN
from gateway.telemetry.recorder import Recorder

COLUMN = 0.05
"""Seconds of one column of a strip: tokens that fall in one are told together."""
MOST_COLUMNS = 620
"""Columns of one stream that are told at once: a strip has 600, which is 30 s."""
MOST_STALLED = 100
"""Streams that are shown on top of the share because they stall: nobody looks for the others."""
PAST = 30.0
"""Seconds for which a stall that is over is told to a page that is opened: as long as a strip."""
MOST_ENDED = 20
MOST_WAITING = 50_000
"""Words that may wait for a page that reads slowly; with more it begins anew."""
SWEEP = 5.0


class Page:
    """One onlooker, of one route or of all. `take` gives what is new; the first event, and each after too much waited, says `reset`."""

    closely = True

    def __init__(self, recorder: Recorder, route: str | None = None) -> None:
        self._recorder, self._route = recorder, route
        self._shown: dict[str, float] = {}
        self._guests: set[str] = set()
        self._swept = self._counted_at = -inf
        self._active = self._unshown = 0
        self._stalled_by: dict[str, int] = {}
        self._forget()

    def _forget(self) -> None:
        self._reset = self._overflowed = False
        self._waiting = 0
        self._begun: dict[str, View] = {}
        self._moved: dict[str, View] = {}
        self._stalls: dict[str, View] = {}
        self._gone: dict[str, str | None] = {}
        self._tokens: dict[str, dict[int, tuple[float, int]]] = {}
        self._answers: dict[str, float | None] = {}
        self._ended: deque[Account] = deque(maxlen=MOST_ENDED)

    @property
    def news(self) -> bool:
        return bool(self._reset or self._overflowed or self._begun or self._moved or self._gone or self._tokens or self._ended)

    def take(self, now: float) -> dict[str, Any]:
        """Return the next event, and wait for what comes after it."""
        if self._overflowed:
            self.drawn()
        self._sweep(now)
        self._count(now)
        event: dict[str, Any] = {"now": now, "active": self._active, "shown": len(self._shown), "share": self._share}
        event |= {"stalled_by": self._stalled_by, "unshown": self._unshown} if self._stalled_by else {}
        event |= {"reset": True} if self._reset else {}
        event |= {"begun": list(self._begun.values())} if self._begun else {}
        event |= {"moved": list(self._moved.values())} if self._moved else {}
        event |= {"stalled": list(self._stalls.values())} if self._stalls else {}
        event |= {"tokens": [self._heard(stream_id) for stream_id in self._tokens]} if self._tokens else {}
        event |= {"gone": list(self._gone), "outcomes": self._gone} if self._gone else {}
        event |= {"ended": [summary(told, None) for told in self._ended]} if self._ended else {}
        self._forget()
        return event

    # What an onlooker hears.

    def drawn(self) -> None:
        """Begin anew: everything known is forgotten, and what lives now is told first."""
        self._forget()
        self._reset = True
        self._shown.clear()
        self._guests.clear()
        for stream in self._recorder.live.streams.values():
            self.begun(stream)

    def begun(self, stream: LiveStream) -> None:
        stream_id = stream.record.stream_id
        if stream_id in self._shown:
            self.moved(stream)
        elif self._mine(stream) and self._room(stream):
            self._shown[stream_id] = -inf
            self._note(self._begun, stream_id, self._row(stream))

    def moved(self, stream: LiveStream) -> None:
        stream_id = stream.record.stream_id
        if stream_id in self._guests:
            self._leave(stream_id, None)
        elif stream_id in self._shown:
            self._note(self._moved, stream_id, {"id": stream_id, **_state(stream)})

    def stalled(self, stream: LiveStream) -> None:
        stream_id = stream.record.stream_id
        if stream_id not in self._shown:
            self.begun(stream)
        elif stream_id not in self._guests:
            self._note(self._moved, stream_id, {"id": stream_id, **_state(stream)})
            self._note(self._stalls, stream_id, {"id": stream_id, "since": stream.since, "blame": stream.blame})

    def heard(self, stream_id: str, times: list[float], many: list[int], answer: float | None) -> None:
        told = self._shown.get(stream_id)
        if told is None or self._overflowed:
            return
        if not times or times[-1] <= told:  # whoever has come after us made the workers tell of the past once more
            return
        columns = self._tokens.setdefault(stream_id, {})
        for at, count in zip(times, many, strict=True):
            if at > told:
                column = int(at / COLUMN)
                columns[column] = at, count + columns[column][1] if column in columns else count
        self._shown[stream_id] = times[-1]
        self._answers[stream_id] = answer
        self._count_waiting(len(times))

    def ended(self, told: Account) -> None:
        if self._route in (None, told.record.route):
            self._ended.append(told)
            self._leave(told.record.stream_id, told.record.outcome)

    # Which streams are shown.

    @property
    def _share(self) -> float:
        return self._recorder.onlookers.watching.share

    def _mine(self, stream: LiveStream) -> bool:
        return self._route in (None, stream.record.route)

    def _room(self, stream: LiveStream) -> bool:
        stream_id = stream.record.stream_id
        if self._recorder.onlookers.watching.shows(stream_id) and len(self._shown) - len(self._guests) < MOST_SHOWN:
            return True
        if stream.state != "stalled" or len(self._guests) >= MOST_STALLED:
            return False
        self._guests.add(stream_id)
        return True

    def _leave(self, stream_id: str, outcome: str | None) -> None:
        """A stream is no longer shown: it has ended, or was shown only while it stalled."""
        self._guests.discard(stream_id)
        if self._shown.pop(stream_id, None) is None or self._overflowed:
            return
        self._moved.pop(stream_id, None)
        self._stalls.pop(stream_id, None)
        if self._begun.pop(stream_id, None) is None:
            self._note(self._gone, stream_id, outcome)
        else:  # it has come and gone in between: nobody has seen it
            self._tokens.pop(stream_id, None)

    def _sweep(self, now: float) -> None:
        """Let go of streams whose end was lost on the way here."""
        if now - self._swept > SWEEP:
            self._swept = now
            for stream_id in [each for each in self._shown if each not in self._recorder.live.streams]:
                self._leave(stream_id, None)

    def _count(self, now: float) -> None:
        """Count how many streams live; once a second those of one route, and the stalls, by owner, of all of them. A stall that found no
        room is shown as soon as there is some."""
        streams = self._recorder.live.streams
        if self._route is None:
            self._active = len(streams)
        if now - self._counted_at <= 1.0:
            return
        self._counted_at = now
        mine = [stream for stream in streams.values() if self._mine(stream)]
        stalled = [stream for stream in mine if stream.state == "stalled"]
        self._active, self._stalled_by = len(mine), dict(Counter(stream.blame for stream in stalled if stream.blame is not None))
        hidden = [stream for stream in stalled if stream.record.stream_id not in self._shown]
        for stream in hidden[: MOST_STALLED - len(self._guests)]:
            self.begun(stream)
        self._unshown = sum(stream.record.stream_id not in self._shown for stream in hidden)

    # What waits to be told.

    def _note(self, waiting: dict[str, Any], stream_id: str, what: Any) -> None:
        if not self._overflowed:
            if waiting is self._moved and stream_id in self._begun:
                self._begun[stream_id] |= what
            else:
                waiting[stream_id] = what
            self._count_waiting(1)

    def _count_waiting(self, words: int) -> None:
        self._waiting += words
        if self._waiting > MOST_WAITING:
            self._forget()
            self._overflowed = True

    def _heard(self, stream_id: str) -> list[Any]:
        """Return what came of a stream: id, the time of the last token in each column, how many came in it, and the time of the first
        token that is no reasoning."""
        columns = list(self._tokens[stream_id].values())[-MOST_COLUMNS:]
        return [stream_id, [round(at, 3) for at, _ in columns], [count for _, count in columns], self._answers[stream_id]]

    def _row(self, stream: LiveStream) -> View:
        record, now = stream.record, time.monotonic()
        return {
            "id": record.stream_id,
            "route": record.route,
            "model": record.asked_model,
            "received": record.received_at,
            "first_token_at": stream.first_token_at,
            "stalls": [stall for stall in stream.stalls if stall[1] > now - PAST],
            **_state(stream),
        }


def _state(stream: LiveStream) -> View:
    told = {"state": stream.state, "upstream": stream.upstream, "since": stream.since, "blame": stream.blame}
    return {**told, "rival": stream.rival}
