"""One who watches streams end and nothing else: every row, none of the tokens."""

from typing import Any

from gateway.console.views import summary
from gateway.telemetry.account import Account
from gateway.telemetry.live import LiveStream
from gateway.telemetry.recorder import Recorder

MOST_ROWS = 5_000
"""Rows that may wait for one reader, some MB: what comes beyond is counted, and said."""


class Endings:
    """An onlooker for whom workers need not tell of tokens. `left_out` in its events counts what it was too slow to be told."""

    closely = False

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._rows: list[dict[str, Any]] = []
        self._left_out = 0

    @property
    def news(self) -> bool:
        return bool(self._rows)

    def take(self, now: float) -> dict[str, Any]:
        """Return the next event, and wait for what comes after it."""
        event = {"now": now, "active": len(self._recorder.live.streams), "ended": self._rows, "left_out": self._left_out}
        self._rows, self._left_out = [], 0
        return event

    def ended(self, told: Account) -> None:
        if len(self._rows) < MOST_ROWS:
            self._rows.append(summary(told, None))
        else:
            self._left_out += 1

    def begun(self, stream: LiveStream) -> None:
        """Nothing: it has not ended."""

    def moved(self, stream: LiveStream) -> None:
        """Nothing."""

    def heard(self, stream_id: str, times: list[float], many: list[int], answer: float | None) -> None:
        """Nothing."""

    def stalled(self, stream: LiveStream) -> None:
        """Nothing."""

    def drawn(self) -> None:
        """Nothing: what ends is told whatever is shown."""
