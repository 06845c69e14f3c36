"""The last five minutes, target by target: what streams met there, beside what routing believes of it."""

from collections import deque

import msgspec
from msgspec import Struct

from gateway.core.record import Attempt
from gateway.telemetry.account import Account
from gateway.telemetry.overview import Slice

STEP = 10.0
STEPS = 30
MOST_TARGETS = 512
FAILED = frozenset({"connect_error", "status", "error_event", "truncated", "stalled", "slow"})
"""Ends of an attempt that speak against its target; a status speaks only when it is 5xx or 429, since others are the caller's."""

Key = tuple[str, str, str]
"""(route, upstream, model that was asked of it)."""


class Trouble(Struct, frozen=True):
    """The last attempt at a target that failed: why, when (monotonic seconds), and in which stream."""

    error: str
    at: float
    stream_id: str


class Lately:
    """Keeps 30 steps of 10 s for each target, and the last trouble of each; `now` is monotonic seconds.

    Times to first token are the target's own, from its request sent: what an attempt before it lost is not its doing.
    """

    def __init__(self) -> None:
        self._steps: deque[tuple[int, dict[Key, Slice]]] = deque(maxlen=STEPS)
        self.troubles: dict[Key, Trouble] = {}

    def add(self, told: Account, now: float) -> None:
        """Take in one ended stream."""
        record, served = told.record, told.record.served
        for attempt in record.attempts:
            if _failed(attempt):
                self._note((record.route, attempt.upstream, attempt.model), attempt, record.stream_id, now)
        if served is None:
            return
        step = int(now // STEP)
        if not self._steps or self._steps[-1][0] < step:
            self._steps.append((step, {}))
        targets, key = self._steps[-1][1], (record.route, served.upstream, served.model)
        if key in targets or len(targets) < MOST_TARGETS:
            targets.setdefault(key, Slice()).add(msgspec.structs.replace(told, ttft=told.first_token))

    def read(self, now: float) -> dict[Key, Slice]:
        """Return the sum over the last five minutes of each target that served a stream in them."""
        last, found = int(now // STEP), dict[Key, Slice]()
        for step, targets in self._steps:
            if 0 <= last - step < STEPS:
                for key, each in targets.items():
                    found.setdefault(key, Slice()).merge(each)
        return found

    def _note(self, key: Key, attempt: Attempt, stream_id: str, now: float) -> None:
        self.troubles.pop(key, None)  # the newest is the last, so that the first is the one to forget
        if len(self.troubles) >= MOST_TARGETS:
            del self.troubles[next(iter(self.troubles))]
        self.troubles[key] = Trouble(attempt.error or attempt.outcome, min(attempt.ended_at or now, now), stream_id)


def _failed(attempt: Attempt) -> bool:
    callers_own = attempt.outcome == "status" and attempt.status is not None and attempt.status < 500 and attempt.status != 429
    return attempt.outcome in FAILED and not callers_own
