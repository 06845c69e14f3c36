"""Feedback on its way to its stream: it may come before the stream's record, long after it, or for a stream that nobody knows."""

import time
from collections.abc import Callable, Container
from typing import Protocol

from msgspec import Struct

from gateway.config import Config
from gateway.core.messages import Feedback
from gateway.telemetry.account import Account
from gateway.telemetry.live import Live
from gateway.telemetry.opinions import Answers, Judged, Kind, Opinion, kind

MOST_WAITING = 5000
MOST_SAID = 4 << 20
"""Characters of comments that may wait; a character takes up to four bytes."""
PATIENCE = 600.0
"""Seconds that a word on a stream of which nothing is known is kept, in case it is told yet."""
REMEMBERED = 10_000
"""Ended streams that are known where there is no store."""


class Shelf(Protocol):
    """Where streams are stored: an opinion is joined to its stream there, and `Feedbacks.answered` told what became of it."""

    def say(self, opinion: Opinion) -> bool: ...


class Host(Protocol):
    """What feedback needs of the recorder; to `lose` is to count a loss of a kind."""

    @property
    def config(self) -> Config: ...
    @property
    def live(self) -> Live: ...
    @property
    def store(self) -> Shelf | None: ...
    def lose(self, kind: str, count: int) -> None: ...


class Feedbacks:
    """Holds what is said of streams that live, or of which nothing is known yet, and hands the rest to the store. One loop's.

    `told` has the ids of the streams that ended of late; `count` takes scores that are new for their stream.
    """

    def __init__(self, host: Host, told: Container[str], count: Callable[[Judged], None]) -> None:
        self._host, self._told, self._count = host, told, count
        self._recent = Recent()
        self._waiting: dict[str, Opinion] = {}
        self._unknown: dict[str, Opinion] = {}
        self._said = 0
        self._swept_at = time.monotonic()

    def keeps(self, route: str) -> bool:
        """Tell whether comments on a route's streams are kept: they are content."""
        return self._host.config.keeps_content(route)

    def heard(self, message: Feedback, _: int) -> None:
        """Take in what somebody has said."""
        now = time.time()  # noqa: TID251 - it is stored, and shown as a time of day
        opinion = Opinion(message.stream_id, message.score, message.comment, now)
        if opinion.stream_id in self._host.live.streams:
            self._wait(opinion)
        else:
            self._join(opinion)

    def ended(self, told: Account) -> None:
        """A stream has ended, and is on its way into the store: what waited for that follows it."""
        if self._host.store is None:
            self._recent.add(told)
        if opinion := self._take(told.record.stream_id):
            self._join(opinion)

    def waiting(self, stream_id: str) -> Opinion | None:
        """Return what has been said of a stream that lives."""
        return self._waiting.get(stream_id) or self._unknown.get(stream_id)

    def close(self) -> None:
        """Count what waits as lost: whoever comes after this recorder does not know of it."""
        for stream_id in [*self._waiting, *self._unknown]:
            self._drop(stream_id)

    def answered(self, answers: Answers) -> None:
        """Hear what became of opinions: count what is new; wait for streams that are not known, or were told while we asked."""
        for judged in answers.judged:
            self._count(judged)
        for opinion in answers.unknown:
            if opinion.stream_id not in self._told:
                self._wait(opinion)
            elif opinion.again:  # the stream's row was lost
                self._host.lose("feedback", 1)
            else:
                self._join(Opinion(opinion.stream_id, opinion.score, opinion.comment, opinion.at, again=True))

    def _join(self, opinion: Opinion) -> None:
        if self._host.store is None:
            self.answered(self._recent.join(opinion))
        elif not self._host.store.say(opinion):
            self._host.lose("feedback", 1)

    def _wait(self, opinion: Opinion) -> None:
        """Keep the last word on a stream, without a comment that its route does not keep; the oldest go when there are too many, those on
        streams that nobody knows before others: anybody can make up ids."""
        stream, before = self._host.live.streams.get(opinion.stream_id), self.waiting(opinion.stream_id)
        if before is not None and before.at > opinion.at:
            return
        if opinion.comment is not None and stream is not None and not self.keeps(stream.record.route):
            opinion = Opinion(opinion.stream_id, opinion.score, None, opinion.at)
        self._take(opinion.stream_id)
        (self._unknown if stream is None else self._waiting)[opinion.stream_id] = opinion
        self._said += len(opinion.comment or "")
        while len(self._waiting) + len(self._unknown) > MOST_WAITING or self._said > MOST_SAID:
            self._drop(next(iter(self._unknown or self._waiting)))
        self._sweep()

    def _sweep(self) -> None:
        """Let go of what has waited in vain: of a stream that lives it does not."""
        now = time.monotonic()
        if now - self._swept_at < PATIENCE / 10:
            return
        self._swept_at, limit = now, time.time() - PATIENCE  # noqa: TID251 - as `at` is
        every = [*self._waiting.values(), *self._unknown.values()]
        for opinion in [each for each in every if each.at < limit and each.stream_id not in self._host.live.streams]:
            self._drop(opinion.stream_id)

    def _drop(self, stream_id: str) -> None:
        self._take(stream_id)
        self._host.lose("feedback", 1)

    def _take(self, stream_id: str) -> Opinion | None:
        if opinion := self._waiting.pop(stream_id, None) or self._unknown.pop(stream_id, None):
            self._said -= len(opinion.comment or "")
        return opinion


class _Ended(Struct):
    route: str
    kind: Kind
    score: int | None = None


class Recent:
    """The streams that ended last, for feedback where there is no store: it can be counted then, and is not kept."""

    def __init__(self) -> None:
        self._ended: dict[str, _Ended] = {}

    def add(self, told: Account) -> None:
        record = told.record
        self._ended[record.stream_id] = _Ended(record.route, kind(record.outcome, record.stalled, told.slow))
        if len(self._ended) > REMEMBERED:
            del self._ended[next(iter(self._ended))]

    def join(self, opinion: Opinion) -> Answers:
        ended = self._ended.get(opinion.stream_id)
        if ended is None:
            return Answers([], [opinion])
        changed, ended.score = ended.score != opinion.score, opinion.score
        return Answers([Judged(ended.route, opinion.score, ended.kind)] if changed else [], [])
