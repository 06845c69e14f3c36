"""Tries targets until one speaks: the first to a token wins, the others are closed, and not one byte of theirs has left this room."""

import asyncio
from collections import deque
from collections.abc import Sequence
from math import inf

from gateway.config import Target
from gateway.core.errors import GatewayError, NoTarget, RedirectRefused, Rejected, SlowFirstToken, UpstreamStalled
from gateway.core.owners import Owner
from gateway.core.record import Why
from gateway.proxy.errand import LARGE, Errand, Errands
from gateway.proxy.plane import Live
from gateway.proxy.trial import Trial
from gateway.routing.policy import deadline

FURTHEST: tuple[Owner, ...] = ("queue", "connect", "upstream_wait")
BACKOFF_SECONDS = 0.1
BACKOFF_JITTER = 0.2
LONGEST_WAIT = 5.0
"""A Retry-After beyond this is the client's to wait for, not ours to hold a connection open for."""

FALLBACK_REASONS: tuple[tuple[str, str], ...] = (
    ("connect_error", "connect"),
    ("slow", "slow_first_token"),
    ("error_event", "error_event"),
    ("truncated", "error_event"),
    ("stalled", "slow_first_token"),
)
"""An attempt's outcome, and the entry of `retry.on` that lets another target be tried after it."""


class Race:
    """The attempts of one call. Fallback and hedge are both "the next target of the order"; the race ends when one trial has spoken."""

    def __init__(self, live: Live, order: Sequence[Target], errands: Errands | None = None, why: Why = "first") -> None:
        """`why` says what the first attempt is made for; all attempts of a race that resumes a stream are made for that."""
        self._live, self._plane, self._route = live, live.plane, live.route
        self._order = deque(order)
        self._errands = errands or Errands(live)
        self._why = why
        self._racing: list[Trial] = []
        self._settled: deque[Trial] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._launched = len(live.record.attempts)
        self._refusal: Rejected | None = None

    async def winner(self) -> Trial:
        """Return the trial whose answer the client gets: one that spoke, or an upstream's own error that nobody could better.

        Raises the last failure as a GatewayError when there is no answer to pass on.
        """
        try:
            if len(self._live.call.body) > LARGE:
                await self._errands.prepare(self._order)
            if (errand := self._next()) is None:
                raise self._refusal or NoTarget(f"route {self._route.name} has no target")
            self._launch(self._why, errand)
            while True:
                trial = await self._next_settled()
                if trial is None:
                    self._overdue()
                elif trial.failure is None or await self._lost(trial, trial.failure):
                    return self._won(trial)
        except BaseException:
            self._drop_all("cancelled")
            raise

    def _next(self) -> Errand | None:
        """Return the errand for the next target; those that cannot be told this call leave the order. None when no target is left."""
        while self._order:
            target = self._order[0]
            try:
                return self._errands.make(target)
            except Rejected as refusal:
                self._refusal = self._refusal or refusal
                self._order.popleft()
        return None

    def _launch(self, why: Why, errand: Errand) -> None:
        trial = Trial(self._live, self._order.popleft(), errand, "resume" if self._why == "resume" else why, self._on_news)
        self._racing.append(trial)
        self._launched += 1
        now = self._plane.clock()
        trial.deadline = now + deadline(self._route, trial.key, self._live.health, now)
        self._live.record.attempts.append(trial.attempt)
        trial.start(now)
        self._rehold()

    def _on_news(self, trial: Trial) -> None:
        """A trial has moved on: account for who is waited for now, and wake the race when it has settled."""
        if trial in self._racing:
            self._own(self._plane.clock())
            if trial.settled:
                self._settled.append(trial)
                self._wake()

    def _own(self, now: float) -> None:
        """The time belongs to the furthest of the racing trials: a wait for a token outweighs a dial, a dial a queue."""
        self._live.own(max((trial.phase for trial in self._racing), key=FURTHEST.index), now)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _next_settled(self) -> Trial | None:
        """Wait for the next trial to settle; None when a deadline came first."""
        if not self._settled:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            due = self._due()
            timer = loop.call_later(max(0.0, due - self._plane.clock()), self._wake) if due is not None else None
            try:
                await self._waiter
            finally:
                self._waiter = None
                if timer is not None:
                    timer.cancel()
        return self._settled.popleft() if self._settled else None

    def _due(self) -> float | None:
        """When the race must be looked at again though nobody has settled."""
        times = [trial.lifeline(self._route.stall) for trial in self._racing]
        if self._may_leave_slow():
            times.append(self._racing[-1].deadline)
        if (keepalive := self._live.keepalive_due()) is not None:
            times.append(keepalive)
        due = min(times, default=inf)
        return due if due < inf else None

    def _may_leave_slow(self) -> bool:
        """Is there a target to turn to when the newest trial is slow? The last attempt always gets grace."""
        return (
            self._live.call.stream and self._more_targets() and self._route.first_token.on_slow != "wait" and not self._racing[-1].overdue
        )

    def _more_targets(self) -> bool:
        return bool(self._order) and self._launched < self._route.retry.attempts

    def _overdue(self) -> None:
        now = self._plane.clock()
        for trial in tuple(self._racing):
            if code := trial.dead(self._route.stall, now):
                trial.fail(UpstreamStalled(f"upstream {trial.attempt.upstream} fell silent before its first token", code=code), "stalled")
        if self._may_leave_slow() and now >= self._racing[-1].deadline:
            self._leave_slow(self._racing[-1], now)
        if (keepalive := self._live.keepalive_due()) is not None and now >= keepalive:
            self._live.keep_waiting(now)

    def _leave_slow(self, trial: Trial, now: float) -> None:
        """The newest trial has missed the first-token deadline: drop it and move on, or race it against the next target."""
        trial.overdue = True
        if (errand := self._next()) is None:
            self._rehold()  # it was the last one after all
        elif self._route.first_token.on_slow == "fallback":
            trial.ticket.slow(now - trial.attempt.dialed_at, now)
            trial.fail(SlowFirstToken(f"upstream {trial.attempt.upstream} sent no token in time"), "slow")
        elif self._live.setup.hedges[self._route.name].allow(now):
            self._live.record.fallback_reason = self._live.record.fallback_reason or "slow_first_token"
            self._launch("hedge", errand)

    async def _lost(self, trial: Trial, failure: GatewayError) -> bool:
        """A trial failed: go on without it, or say that its answer is the client's."""
        self._racing.remove(trial)
        try:
            return await self._answer_or_next(trial, failure)
        except BaseException:
            trial.close()
            raise

    async def _answer_or_next(self, trial: Trial, failure: GatewayError) -> bool:
        if self._racing:
            trial.close()
            self._rehold()
            return False
        if trial.without_usage:
            self._order.appendleft(trial.target)
            return not self._turned(trial, "retry")
        retryable = self._retryable(trial, failure)
        if (retryable or self._why == "resume") and self._more_targets() and self._turned(trial, "fallback"):
            self._live.record.fallback_reason = self._live.record.fallback_reason or failure.code
            return False
        if retryable and await self._back_off(failure, trial):
            return not self._turned(trial, "retry")
        if trial.head is None or trial.errand.translated:
            raise failure
        return True

    def _turned(self, failed: Trial, why: Why) -> bool:
        """Leave a trial that failed for the next target; False when there is none that can be told this call."""
        if (errand := self._next()) is None:
            return False
        failed.close()
        self._launch(why, errand)
        return True

    def _retryable(self, trial: Trial, failure: GatewayError) -> bool:
        on = self._route.retry.on
        if isinstance(failure, RedirectRefused):
            return "status_5xx" in on  # it can serve nobody just now, whatever it calls it
        if trial.attempt.outcome == "status":
            return ("status_429" in on and failure.code == "429") or ("status_5xx" in on and failure.code.startswith("5"))
        return dict(FALLBACK_REASONS).get(trial.attempt.outcome) in on

    async def _back_off(self, failure: GatewayError, trial: Trial) -> bool:
        """Wait and ask the same targets again, within the route's attempts and budget; only for what passes by itself."""
        route, plane = self._route, self._plane
        passes = trial.attempt.outcome in {"connect_error", "status"} and not isinstance(failure, RedirectRefused)
        if self._launched >= route.retry.attempts or not passes:
            return False
        wait = failure.retry_after
        if wait is None:
            wait = BACKOFF_SECONDS * 2 ** (self._launched - 1) * (1 + BACKOFF_JITTER * (2 * plane.dice() - 1))
        if wait > LONGEST_WAIT or not self._live.setup.retries[route.name].allow(plane.clock()):
            return False
        self._live.own("queue", plane.clock())
        trial.close()
        await asyncio.sleep(wait)
        self._order.append(trial.target)
        return True

    def _rehold(self) -> None:
        """Bytes are held only while another target could still be chosen."""
        hold = len(self._racing) > 1 or self._more_targets()
        for trial in tuple(self._racing):
            trial.hold_back(hold)

    def _won(self, winner: Trial) -> Trial:
        if winner in self._racing:
            self._racing.remove(winner)
        self._drop_all("hedge_lost")
        self._live.record.winner = self._live.record.attempts.index(winner.attempt)
        return winner

    def _drop_all(self, outcome: str) -> None:
        while self._racing:
            self._racing.pop().drop("hedge_lost" if outcome == "hedge_lost" else "cancelled")
