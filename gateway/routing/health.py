"""What one worker knows of each target: its estimate, its breaker, the calls it has open; and the ticket every attempt holds."""

from collections.abc import Container, Sequence

from gateway.config import Breaker
from gateway.core.messages import TargetState
from gateway.routing.breaker import Circuit
from gateway.routing.estimate import PROVEN, STALE, Estimate

Key = tuple[str, str]
"""(upstream, model): the model that is asked of the upstream, so that two models on one upstream do not share an estimate."""

NEVER = float("-inf")
MOST_KEYS = 128
"""Targets remembered. A route that passes the asked model through could otherwise be made to remember any name a client invents."""
SHARING = 2.0
"""Calls waiting for a first token that make a target count as twice as slow."""
RECOVERED = 0.8
SIMILAR = 1.5
"""A sample under 0.8 x the target's own estimate and under 1.5 x the best one says that the estimate may be out of date."""
FAILING_STEP = 0.2
FAILING_HALVES = 10.0
FAILING_COST = 10.0
"""A target that fails one call in ten counts as twice as slow, one that fails every call as eleven times."""


def size_class(bounds: Sequence[int], length: int) -> int:
    """Return the class of a prompt of so many bytes: the highest bound that it reaches, 0 below the first and where there are none."""
    return max((bound for bound in bounds if bound <= length), default=0) if bounds else 0


class Pace:
    """How soon a target speaks to prompts of one size, how many of those wait for it, and when it was last tried with one."""

    __slots__ = ("estimate", "tried_at", "waiting")

    def __init__(self) -> None:
        self.estimate = Estimate()
        self.waiting = 0
        self.tried_at = NEVER

    def starting(self, now: float) -> bool:
        """Return whether it has as many calls waiting as a target may that is new, or was not measured for long."""
        if not self.waiting:
            return False
        proof = self.estimate.proof(now)
        return proof < PROVEN and self.waiting > 2 * proof


UNTRIED = Pace()
"""Stands for prompts of a size that a target has not had; nobody changes it."""


class TargetHealth:
    """One target's numbers. `in_flight` counts open tickets. How soon it speaks is known by size of prompt, `pace` is the last one's."""

    __slots__ = ("_failing", "_failing_at", "_paces", "circuit", "in_flight", "last_error", "pace")

    def __init__(self, breaker: Breaker, now: float = 0.0) -> None:
        self.circuit = Circuit(breaker, now)
        self.in_flight = 0
        self.last_error: str | None = None
        self.pace = UNTRIED
        self._paces: dict[int, Pace] = {}
        self._failing = 0.0
        self._failing_at = 0.0

    @property
    def waiting(self) -> int:
        """Calls that have not spoken yet."""
        return sum(pace.waiting for pace in self._paces.values())

    def pace_of(self, size: int) -> Pace:
        """Return what is known of prompts of a size."""
        return self._paces.get(size, UNTRIED)

    def try_with(self, size: int, now: float) -> Pace:
        """A call with a prompt of this size begins."""
        self.pace = pace = self._paces.get(size) or self._paces.setdefault(size, Pace())
        pace.waiting += 1
        pace.tried_at = now
        return pace

    def failing(self, now: float) -> float:
        """Return the share of recent calls that failed, 0 to 1: a moving average of about five calls that halves every 10 s."""
        if self._failing == 0.0:
            return 0.0
        faded: float = self._failing * 0.5 ** ((now - self._failing_at) / FAILING_HALVES)
        return faded if faded > 0.001 else 0.0

    def judge(self, failed: bool, now: float) -> None:
        share = self.failing(now)
        self._failing = share + FAILING_STEP * (failed - share)
        self._failing_at = now

    def score(self, pace: Pace, now: float) -> float:
        """Return estimate x (1 + calls waiting / 2) x (1 + 10 x failing share), in seconds; the lower the better.

        Only calls still waiting for their first token weigh: those that stream already say how long answers are, not how soon they
        begin, and what they cost the target shows in its next samples. All open calls decide between equal scores.
        """
        return pace.estimate.read(now) * (1 + pace.waiting / SHARING) * (1.0 + FAILING_COST * self.failing(now))

    def terms(self, now: float) -> dict[str, float]:
        """Return the factors of the last pace's score by name, for people."""
        return {
            "estimate": self.pace.estimate.read(now),
            "waiting": 1 + self.pace.waiting / SHARING,
            "failing": 1.0 + FAILING_COST * self.failing(now),
        }

    def doubtful(self, pace: Pace, best: float, now: float) -> bool:
        """Return whether a sample of it is wanted soon.

        So it is when one of the last two samples is as good as the `best` estimate and its own estimate is not (it has recovered, or
        was hit by an outlier); when its breaker waits for a probe; and when it has not been tried for so long that its estimate fades.
        """
        if pace.starting(now):
            return False
        if now - pace.tried_at > STALE or self.circuit.state(now) == "half_open":
            return True
        hope = min(pace.estimate.last, pace.estimate.before)
        return hope < RECOVERED * pace.estimate.read(now) and hope <= SIMILAR * best

    def forgettable(self, now: float) -> bool:
        return not self.in_flight and self.circuit.state(now) == "closed" and now >= self.circuit.held_until


UNKNOWN = TargetHealth(Breaker())
"""Stands for a target never called; nobody changes it."""


class Ticket:
    """One attempt's voice: every call is safe in any order, any number of times, and nothing is heard after `end`.

    What no call says is neutral: a client that left, a lost hedge, the caller's own 4xx change neither estimate nor breaker.
    """

    __slots__ = ("_ended", "_era", "_judged", "_pace", "_probe", "_slow", "_spoken", "_target", "_waiting")

    def __init__(self, target: TargetHealth, size: int, now: float) -> None:
        self._target = target
        self._pace = target.try_with(size, now)
        self._probe = target.circuit.admit(now)
        self._era = target.circuit.era
        self._spoken = False
        self._slow = False
        self._waiting = True
        self._judged = False
        self._ended = False
        target.in_flight += 1

    def spoke(self, ttft: float, now: float) -> None:
        """Say that the first token has come, `ttft` seconds after the request was sent. A probe's place is free again."""
        if self._spoken or self._ended:
            return
        self._spoken = True
        self._pace.estimate.add(ttft, now)
        self._answered()

    def slow(self, waited: float, now: float) -> None:
        """Say that `waited` seconds have passed since the request was sent and no token has come: at least so slow it is.

        That is no failure, except of a probe that ends without having spoken.
        """
        if self._slow or self._spoken or self._ended:
            return
        self._slow = True
        self._pace.estimate.add_censored(waited, now)

    def succeeded(self, now: float) -> None:
        """Say that the whole stream was fine."""
        if self._judged or self._ended:
            return
        self._judged = True
        self._target.judge(False, now)
        self._target.circuit.succeeded(self._era, now)

    def failed(self, now: float, error: str, retry_after: float | None = None) -> None:
        """Say that the upstream failed, before or after it spoke. It is no sample: failing fast is not being fast.

        `retry_after` is what a 429 or 503 asked for, in seconds: no new call for so long, at most 60.
        """
        if self._judged or self._ended:
            return
        self._judged = self._spoken = True
        self._answered()
        self._target.judge(True, now)
        self._target.last_error = error
        self._target.circuit.failed(self._era, self._probe, now)
        if retry_after is not None and retry_after > 0:
            self._target.circuit.hold(retry_after, now)

    def end(self, now: float) -> None:
        """Say that the attempt is over, whatever became of it."""
        if self._ended:
            return
        self._ended = True
        if self._probe and self._slow and not self._spoken:
            self._target.circuit.failed(self._era, True, now)
        self._answered()
        self._target.in_flight -= 1

    def _answered(self) -> None:
        if self._waiting:
            self._waiting = False
            self._pace.waiting -= 1
            if self._probe:
                self._target.circuit.release(self._era)


class Health:
    """The targets of one worker. Nothing here waits or reads a clock: `now` is monotonic seconds, keys are (upstream, model).

    `size` is that of the prompts whose calls are planned and begun by it, as `size_class` says it.
    """

    def __init__(self) -> None:
        self.size = 0
        self._targets: dict[Key, TargetHealth] = {}
        self._turns: dict[str, int] = {}

    def sized(self, size: int) -> "Health":
        """Return the same targets for calls whose prompts are of another size."""
        if size == self.size:
            return self
        view = Health()
        view.size, view._targets, view._turns = size, self._targets, self._turns
        return view

    def carried(self, upstreams: Container[str]) -> "Health":
        """Return a registry that goes on with the targets of these upstreams only; what is learned of them later, both learn."""
        heir = Health()
        heir._targets = {key: target for key, target in self._targets.items() if key[0] in upstreams}
        heir._turns = dict(self._turns)
        return heir

    def begin(self, key: Key, breaker: Breaker, now: float) -> Ticket:
        """Open an attempt at a target; the breaker's settings are those of the route that calls."""
        target = self._targets.get(key)
        if target is None:
            self._make_room(now)
            target = self._targets[key] = TargetHealth(breaker, now)
        elif target.circuit.settings is not breaker:
            target.circuit.configure(breaker)
        return Ticket(target, self.size, now)

    def target(self, key: Key) -> TargetHealth:
        return self._targets.get(key, UNKNOWN)

    def usable(self, key: Key, now: float) -> bool:
        """Return whether the target's breaker lets a call through now."""
        return self.target(key).circuit.usable(now)

    def held(self, key: Key, now: float) -> float:
        """Return for how many more seconds the target's own Retry-After forbids new calls; 0 when it does not."""
        return max(0.0, self.target(key).circuit.held_until - now)

    def estimate(self, key: Key, now: float) -> float:
        return self.target(key).pace_of(self.size).estimate.read(now)

    def score(self, key: Key, now: float) -> float:
        target = self.target(key)
        return target.score(target.pace_of(self.size), now)

    def quantile(self, key: Key, q: float, now: float) -> float | None:
        """Return a quantile of the target's recent times to first token; None with fewer than 10 of them."""
        return self.target(key).pace_of(self.size).estimate.quantile(q, now)

    def p95(self, key: Key, now: float) -> float | None:
        return self.quantile(key, 0.95, now)

    def turn(self, route: str) -> int:
        """Return how many turns round-robin has given on this route, and count one more."""
        turn = self._turns.get(route, 0)
        self._turns[route] = turn + 1
        return turn

    def next_turn(self, route: str) -> int:
        return self._turns.get(route, 0)

    def snapshot(self, now: float) -> list[TargetState]:
        """Return what is known of every target called so far, for /api/routes; `ttft` is None when it never gave a sample."""
        return [
            TargetState(
                upstream=upstream,
                model=model,
                ttft=None if target.pace.estimate.value is None else target.pace.estimate.read(now),
                score=target.score(target.pace, now),
                in_flight=target.in_flight,
                breaker=target.circuit.state(now),
                since=target.circuit.since(now),
                last_error=target.last_error,
                terms=target.terms(now),
                refusal=target.circuit.why_not(now),
            )
            for (upstream, model), target in self._targets.items()
        ]

    def _make_room(self, now: float) -> None:
        if len(self._targets) < MOST_KEYS:
            return
        idle = [key for key, target in self._targets.items() if target.forgettable(now)]
        if idle:
            del self._targets[min(idle, key=lambda key: self._targets[key].pace.tried_at)]
