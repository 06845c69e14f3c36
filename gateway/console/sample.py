"""A set of ended streams as the figures that two sets are compared by: every value where a test needs all, sums where it does not."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from gateway.core.owners import Blame
from gateway.telemetry.account import ERROR_OUTCOMES, Account
from gateway.telemetry.overview import LEFT, delayed
from gateway.telemetry.store import ended_unix


def sample(told: list[Account], cut: bool) -> dict[str, Any]:
    """Return the figures of streams; `cut` says that there are more of them than were taken, the newest.

    Lists ascend and hold only what is known; times are seconds, `from` and `to` unix seconds of when the streams ended. `gaps` are
    [upper bound, count] of all gaps of all of them, the bound past the last null.
    """
    ends = [ended_unix(each.record) for each in told]
    spoke = [each.record for each in told if each.record.cadence.chunks]
    return {
        "streams": len(told),
        "cut": cut,
        "from": min(ends, default=None),
        "to": max(ends, default=None),
        "spoke": len(spoke),
        "stalled": sum(delayed(record) for record in spoke),
        "left": sum(each.record.outcome in LEFT for each in told),
        "failed": sum(each.record.outcome in ERROR_OUTCOMES for each in told),
        "ttft": _known(told, lambda each: each.ttft),
        "gap_p50": _known(told, lambda each: each.record.cadence.gap_p50),
        "gaps": _gaps(told),
        "stall_time": _stall_time(told),
        "input_tokens": _known(told, lambda each: each.record.usage.input if each.record.usage else None),
        "output_tokens": _known(told, lambda each: each.record.usage.output if each.record.usage else None),
        "per_token": _known(told, lambda each: each.per_token),
        "cost": _known(told, lambda each: each.cost),
    }


def _known(told: Iterable[Account], value: Callable[[Account], float | None]) -> list[float]:
    return sorted(round(known, 6) for each in told if (known := value(each)) is not None)


def _gaps(told: Iterable[Account]) -> list[tuple[float, int]]:
    folded: Counter[float] = Counter()
    for each in told:
        for bound, count in each.record.cadence.gaps:
            folded[bound] += count
    return sorted(folded.items())


def _stall_time(told: Iterable[Account]) -> dict[Blame, float]:
    held: dict[Blame, float] = {}
    for each in told:
        for owner, seconds in each.record.cadence.stall_time.items():
            held[owner] = held.get(owner, 0.0) + seconds
    return held
