"""What goes on right now: streams begun and not yet ended, and what each worker last said of itself."""

from collections.abc import Iterable, Iterator
from math import inf

from msgspec import Struct, field

from gateway.core.messages import Moved, Pulse, Stalled, TargetState
from gateway.core.owners import Blame
from gateway.core.record import State, StreamRecord

MOST_LIVE = 50_000
SILENT = 5.0
"""A worker not heard for this many seconds says nothing about the present any more: its gauges go."""
MOST_STALLS = 16
"""Stalls of one live stream that are remembered when they are over."""
BREAKERS = ("closed", "half_open", "open")
"""Breaker states as the number each is on /metrics; anything else counts as closed."""


class LiveStream(Struct):
    """One stream that has not ended. `since` and `first_token_at` are monotonic seconds; `announced` counts the stalls already told, by
    owner, and `stalls` is the latest of those that are over: from, to, owner. `rival` is the other upstream while two race."""

    record: StreamRecord
    slot: int
    state: str
    upstream: str
    since: float
    blame: Blame | None = None
    announced: dict[Blame, int] = field(default_factory=dict)
    confirmed: bool = True
    first_token_at: float | None = None
    stalls: list[tuple[float, float, Blame]] = field(default_factory=list)
    rival: str = ""


class Worker(Struct):
    """One worker slot: the process in it, when it was last heard (by our clock), and its last heartbeat.

    `last_said` is the latest time any of its messages speaks of, which is when it was last known to live.
    """

    slot: int
    pid: int
    heard_at: float
    last_said: float
    pulse: Pulse | None = None
    dropped: dict[str, int] = field(default_factory=dict)
    resync: bool = False


class TargetView(Struct):
    """One target as the workers see it together: mean estimates and terms of the score, summed streams, the worst breaker and what it
    refuses calls for; `workers` is each one's own view."""

    upstream: str
    model: str
    ttft: float | None
    score: float
    in_flight: int
    breaker: str
    since: float
    last_error: str | None
    terms: dict[str, float]
    refusal: str
    workers: dict[int, TargetState]


class Live:
    """The registry; every method is told the time (`now`, monotonic seconds) by its caller."""

    def __init__(self) -> None:
        self.streams: dict[str, LiveStream] = {}
        self.workers: dict[int, Worker] = {}

    def hello(self, slot: int, pid: int, now: float) -> list[LiveStream]:
        """Note the process in a slot; returns the streams that died with its predecessor, already taken off the registry.

        Its own streams stay, also those that it had told of before it said who it is: their news may have waited for a new recorder.
        """
        known = self.workers.get(slot)
        if known is not None and known.pid == pid:
            orphans, known.heard_at = list[LiveStream](), now
        else:
            orphans = [stream for stream in self._of(slot) if stream.record.worker != pid]
            known = self.workers[slot] = Worker(slot=slot, pid=pid, heard_at=now, last_said=now)
        for stream in orphans:
            del self.streams[stream.record.stream_id]
        for stream in self._of(slot):
            stream.confirmed, known.resync = False, True
        return orphans

    def vacate(self, slot: int, pid: int) -> list[LiveStream]:
        """Forget a process that has left for good; returns the streams that died with it. Another process in the slot is let be."""
        known = self.workers.get(slot)
        if known is None or known.pid != pid:
            return []
        del self.workers[slot]
        return [self.streams.pop(stream.record.stream_id) for stream in self._of(slot)]

    def last_said(self, slot: int) -> float | None:
        """Return when the process now in this slot was last known to live."""
        return worker.last_said if (worker := self.workers.get(slot)) else None

    def heard(self, slot: int, at: float, now: float) -> None:
        """Note that a slot spoke of the time `at`."""
        if worker := self.workers.get(slot):
            worker.heard_at = now
            worker.last_said = max(worker.last_said, min(at, now))

    def begun(self, slot: int, record: StreamRecord, state: State) -> LiveStream | None:
        """Add a stream, or confirm one; returns the oldest one if it had to go for it."""
        if known := self.streams.get(record.stream_id):
            known.record, known.confirmed = record, True
            return None
        asked = record.served
        since = record.received_at if asked is None else asked.sent_at or asked.dialed_at
        self.streams[record.stream_id] = LiveStream(record, slot, state, record.upstream, since, first_token_at=record.first_token_at)
        return self.streams.pop(next(iter(self.streams))) if len(self.streams) > MOST_LIVE else None

    def moved(self, message: Moved) -> LiveStream | None:
        """Note where a stream is; returns it, or None when nobody knows it."""
        if stream := self.streams.get(message.stream_id):
            if stream.state == "stalled" and stream.blame is not None:
                stream.stalls = [*stream.stalls[1 - MOST_STALLS :], (stream.since, message.at, stream.blame)]
            if message.state == "streaming":
                stream.first_token_at = min(message.at, inf if stream.first_token_at is None else stream.first_token_at)
            if message.state != "hedging":
                stream.rival = ""
            elif stream.upstream != message.upstream:
                stream.rival = stream.upstream
            stream.state, stream.upstream, stream.since, stream.blame = message.state, message.upstream, message.at, None
        return stream

    def stalled(self, message: Stalled) -> LiveStream | None:
        """Mark a stream stalled; returns it, or None when nobody knows it."""
        if stream := self.streams.get(message.stream_id):
            stream.state, stream.since, stream.blame = "stalled", message.at, message.blame
        return stream

    def ended(self, stream_id: str) -> LiveStream | None:
        return self.streams.pop(stream_id, None)

    def pulse(self, slot: int, pulse: Pulse, now: float) -> dict[str, int]:
        """Take a heartbeat; returns what the worker has dropped since its last one, by kind."""
        worker = self.workers.get(slot)
        if worker is None or worker.pid != pulse.pid:
            worker = self.workers[slot] = Worker(slot=slot, pid=pulse.pid, heard_at=now, last_said=min(pulse.at, now))
        lost = {kind: count - worker.dropped.get(kind, 0) for kind, count in pulse.dropped.items()}
        worker.pulse, worker.dropped, worker.heard_at = pulse, dict(pulse.dropped), now
        worker.last_said = max(worker.last_said, min(pulse.at, now))
        if worker.resync:
            self._forget_unconfirmed(slot)
            worker.resync = False
        return {kind: count for kind, count in lost.items() if count > 0}

    def present(self, now: float) -> Iterator[Worker]:
        """Yield the workers heard of late."""
        return (worker for worker in self.workers.values() if now - worker.heard_at <= SILENT)

    def active(self, now: float) -> dict[tuple[str, str], int]:
        """Count live streams by (route, upstream), of the workers heard of late."""
        slots = {worker.slot for worker in self.present(now)}
        counts: dict[tuple[str, str], int] = {}
        for stream in self.streams.values():
            if stream.slot in slots or stream.slot not in self.workers:
                key = (stream.record.route, stream.upstream)
                counts[key] = counts.get(key, 0) + 1
        return counts

    def targets(self, now: float) -> list[TargetView]:
        """Merge what the workers heard of late think of each target."""
        views: dict[tuple[str, str], dict[int, TargetState]] = {}
        for worker in self.present(now):
            for state in worker.pulse.targets if worker.pulse else ():
                views.setdefault((state.upstream, state.model), {})[worker.slot] = state
        return [_merged(states) for states in views.values()]

    def _of(self, slot: int) -> list[LiveStream]:
        return [stream for stream in self.streams.values() if stream.slot == slot]

    def _forget_unconfirmed(self, slot: int) -> None:
        """Let go of streams their worker no longer knows: their end was dropped on the way, which the worker has counted."""
        for stream in self._of(slot):
            if not stream.confirmed:
                del self.streams[stream.record.stream_id]


def breaker_level(state: str) -> int:
    """Return a breaker state as a number: 0 closed, 1 half open, 2 open."""
    return BREAKERS.index(state) if state in BREAKERS else 0


def _merged(states: dict[int, TargetState]) -> TargetView:
    every = list(states.values())
    worst = max(every, key=lambda state: breaker_level(state.breaker))
    return TargetView(
        upstream=worst.upstream,
        model=worst.model,
        ttft=_mean(state.ttft for state in every if state.ttft is not None),
        score=_mean(state.score for state in every) or 0.0,
        in_flight=sum(state.in_flight for state in every),
        breaker=worst.breaker,
        since=worst.since,
        last_error=next((state.last_error for state in every if state.last_error), None),
        terms={name: sum(state.terms.get(name, 1.0) for state in every) / len(every) for name in worst.terms},
        refusal=worst.refusal,
        workers=states,
    )


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return sum(known) / len(known) if known else None
