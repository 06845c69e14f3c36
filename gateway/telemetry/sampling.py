"""Which streams have a span: decided when a stream has ended, from what is known of it then and from its trace's id, by no dice.

A caller in a trace has decided already, and its `traceparent` says what: a span of ours below one that nobody kept would be an orphan,
and none below one that was kept a hole. Where a trace begins here, `always` is asked first; the rest is kept or not by the lowest 56
bits of the trace id, as OpenTelemetry's consistent probability sampling has it (tracestate handling, `ot=th`), so that whoever else
samples this trace at the same share or a larger one keeps it too.
"""

from collections.abc import Callable, Mapping

from msgspec.structs import replace

from gateway.config import Sampling
from gateway.config.model import Reason
from gateway.core.record import Outcome
from gateway.telemetry.account import ERROR_OUTCOMES, Account, Kept

SPACE = 1 << 56
"""Trace ids are told apart by so many values of their lowest bits."""
ABORT_OUTCOMES: frozenset[Outcome] = frozenset({"client_disconnect", "client_stalled", "operator_abort"})
"""Outcomes where somebody stopped an answer that went well so far."""
STALL_OUTCOMES: frozenset[Outcome] = frozenset({"upstream_stalled", "client_stalled"})
"""Outcomes where a silence was ended by one of our own clocks."""
PARENT = Kept("parent")


TRUE_OF: Mapping[Reason, Callable[[Account], bool]] = {
    "error": lambda a: a.record.outcome in ERROR_OUTCOMES,
    "stall": lambda a: a.record.stalled or a.record.outcome in STALL_OUTCOMES,
    "fallback": lambda a: a.record.fallback_reason is not None or any(each.why in ("fallback", "resume") for each in a.record.attempts),
    "slow": lambda a: a.slow,
    "abort": lambda a: a.record.outcome in ABORT_OUTCOMES,
}
"""What each word of `always` means, the gravest first: of several that are true the first one is told."""


class Sampler:
    """The decision of one configuration."""

    def __init__(self, sampling: Sampling) -> None:
        self._everything = sampling.baseline is None
        self._threshold = SPACE - round((sampling.baseline or 0.0) * SPACE)
        self._share = Kept("baseline", written(self._threshold))
        self._always = [(true_of, Kept(word, written(0))) for word, true_of in TRUE_OF.items() if word in sampling.always]

    def decide(self, account: Account) -> Account:
        """Return the account with whether and why its stream has a span."""
        return account if self._everything or account.kept is None else replace(account, kept=self._kept(account))

    def _kept(self, account: Account) -> Kept | None:
        if account.record.parent_id is not None:
            return PARENT
        always = next((kept for true_of, kept in self._always if true_of(account)), None)
        return always or (self._share if randomness(account.record.trace_id) >= self._threshold else None)


def randomness(trace_id: str) -> int:
    """Return the lowest 56 bits of a trace id; -1, which no share takes, for one that is not hexadecimal: no span has such an id."""
    try:
        return int(trace_id[-14:], 16)
    except ValueError:
        return -1


def written(threshold: int) -> str:
    """Write a threshold as tracestate has it: 14 hexadecimal digits, zeros at their end left out."""
    return f"{threshold:014x}".rstrip("0") or "0"
