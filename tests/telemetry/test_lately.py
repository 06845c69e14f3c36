"""What streams met at each target in the last five minutes."""

from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.record import Attempt, StreamRecord
from gateway.telemetry.account import Account, account
from gateway.telemetry.lately import MOST_TARGETS, STEP, STEPS, Lately

MakeRecord = Callable[..., StreamRecord]


def attempt(upstream: str = "fast", **changes: Any) -> Attempt:
    fields: dict[str, Any] = {"model": "m", "why": "first", "dialed_at": 1000.0, "sent_at": 1000.0, "outcome": "won"}
    return Attempt(upstream=upstream, **{**fields, **changes})


def told(make_record: MakeRecord, *attempts: Attempt, **changes: Any) -> Account:
    return account(make_record(attempts=list(attempts), received_at=999.0, route="chat", streamed=True, **changes))


def test_times_are_the_targets_own(make_record: MakeRecord) -> None:
    """What an earlier attempt lost is not laid on the target that then served: its time runs from its own request."""
    lately = Lately()
    slow = attempt("slow", outcome="slow", ended_at=1000.0)
    fast = attempt("fast", why="fallback", sent_at=1000.0, first_token_at=1000.1)
    lately.add(told(make_record, slow, fast, winner=1, first_token_at=1000.1, ended_at=1001.0), 1001.0)
    met = lately.read(1001.0)
    assert set(met) == {("chat", "fast", "m")}
    assert met["chat", "fast", "m"].streams == 1
    assert met["chat", "fast", "m"].quantile(0.5) == pytest.approx(0.1, rel=0.3)


def test_five_minutes_are_remembered(make_record: MakeRecord) -> None:
    """A stream counts for five minutes after its end, and no longer."""
    lately = Lately()
    lately.add(told(make_record, attempt(), winner=0, ended_at=1000.0), 1000.0)
    assert lately.read(1000.0 + STEP * (STEPS - 1))["chat", "fast", "m"].streams == 1
    assert lately.read(1000.0 + STEP * STEPS) == {}


@pytest.mark.parametrize(
    ("outcome", "status", "error", "noted"),
    [
        ("status", 503, "status_503", "status_503"),
        ("status", 429, "status_429", "status_429"),
        ("status", 404, "status_404", None),
        ("connect_error", None, None, "connect_error"),
        ("truncated", 200, "connection_closed", "connection_closed"),
        ("slow", None, None, "slow"),
        ("hedge_lost", None, None, None),
        ("cancelled", None, None, None),
        ("won", 200, None, None),
    ],
)
def test_the_last_trouble_is_the_targets(
    outcome: Any, status: int | None, error: str | None, noted: str | None, make_record: MakeRecord
) -> None:
    """What a caller's own mistake, a lost race or a cancelled call made is no trouble of the target."""
    lately = Lately()
    lately.add(told(make_record, attempt(outcome=outcome, status=status, error=error, ended_at=1000.5), ended_at=1001.0), 1001.0)
    trouble = lately.troubles.get(("chat", "fast", "m"))
    assert (trouble and (trouble.error, trouble.at, trouble.stream_id)) == (noted and (noted, 1000.5, "stream-1"))


def test_it_stays_small(make_record: MakeRecord) -> None:
    """However many names of models callers invent, only so many targets are kept, and the newest trouble is among them."""
    lately = Lately()
    for number in range(MOST_TARGETS + 10):
        lately.add(told(make_record, attempt(model=f"m{number}", outcome="connect_error"), ended_at=1001.0), 1001.0)
    assert len(lately.read(1001.0)) == len(lately.troubles) == MOST_TARGETS
    assert ("chat", "fast", f"m{MOST_TARGETS + 9}") in lately.troubles
