"""`weir tail`: a line for each stream that ends, through restarts of what tells of them."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime
from typing import Any

import orjson
from msgspec import Struct

from gateway.telemetry.query import MOST
from gateway.terminal.admin import ENDED, Admin, Place, Unanswered
from gateway.terminal.ink import BLAMES, OUTCOMES, Ink, seconds, word

Row = dict[str, Any]
REMEMBERED = 50_000
"""Ids of rows told: what the feed and the store both have is told once."""
MOST_PAGES = 50
SETTLED = 2.0
"""Seconds after which the store surely has what had ended before we listened: it writes five times a second."""
AGAIN, AGAIN_MOST = 0.25, 2.0


class Filter(Struct, frozen=True, kw_only=True):
    """Which rows are wanted: the columns by their values, `slow` as the least TTFT in seconds or whether it was over the objective."""

    columns: dict[str, tuple[str, ...]] = {}
    stalled: bool = False
    slow: bool | float = False

    def admits(self, row: Row) -> bool:
        fits = all(row[column] in values for column, values in self.columns.items())
        return fits and (not self.stalled or bool(row["stalls"])) and self._slow(row)

    def _slow(self, row: Row) -> bool:
        if isinstance(self.slow, bool):
            return not self.slow or bool(row["slow"])
        return row["ttft"] is not None and row["ttft"] >= self.slow

    def params(self) -> dict[str, str]:
        """Return the same as parameters of /api/streams, which cannot be asked for values with commas: `admits` says the last word."""
        asked = {"outcome": ENDED}
        asked |= {column: ",".join(values) for column, values in self.columns.items() if not any("," in value for value in values)}
        if self.stalled:
            asked["stalled"] = "true"
        if self.slow:
            asked["slow"] = "true" if self.slow is True else f"{self.slow:.6f}s"
        return asked


class Tail:
    """Follows one admin API and hands each row to `put` once, in the order in which they are told; `say` gets what is not a row."""

    def __init__(self, admin: Admin, wanted: Filter, put: Callable[[Row], None], say: Callable[[str], None]) -> None:
        self._admin, self._wanted, self._put, self._say = admin, wanted, put, say
        self._told: dict[str, None] = {}
        self._last: float | None = None

    async def follow(self, since: float | None) -> None:
        """Tell what is stored since `since` (unix seconds), then what ends from now on; raises Unanswered when asking again is no use."""
        back = self._last = since
        began = time.time()  # noqa: TID251 - the store knows the calendar
        waits, down, heard = AGAIN, False, False
        while True:
            try:
                async with self._admin.feed(ended="all") as events:
                    if down:
                        self._say("connected again")
                    waits, down, heard = AGAIN, False, True
                    await self._listen(events, back)
            except Unanswered as error:
                if not (heard and error.passing):
                    raise
                if not down:
                    self._say(f"{error}; trying again")
                down = True
            back = (self._last or began) - SETTLED
            await asyncio.sleep(waits)
            waits = min(AGAIN_MOST, waits * 2)

    async def _listen(self, events: AsyncIterator[Any], back: float | None) -> None:
        """Take events; also what had ended since `back` and before the first of them: at once, and again when the store has settled."""
        began, asked = time.monotonic(), 0
        async for event in events:
            if back is not None and (asked == 0 or (asked == 1 and time.monotonic() - began >= SETTLED)):
                asked += 1
                rows = await self._stored(back)
                back = max([back, *(row["ended"] - SETTLED for row in rows[-1:])])
                self._tell(rows)
            self._tell(_ended(row) for row in event.get("ended", ()))
            if left_out := event.get("left_out"):
                self._say(f"{left_out} streams are left out here: more ended than this could be told")

    async def _stored(self, since: float) -> list[Row]:
        """Return what ended since then, the oldest first."""
        asked = {**self._wanted.params(), "since": f"{since:.3f}", "limit": str(MOST)}
        cursor: str | None = ""
        rows: list[Row] = []
        for _ in range(MOST_PAGES):
            page = await self._admin.get("/api/streams", {**asked, "cursor": cursor or ""})
            rows += page["streams"]
            if (cursor := page["next"]) is None:
                break
        else:
            self._say(f"more than {len(rows)} streams have ended since then; the older ones are left out")
        return rows[::-1]

    def _tell(self, rows: Iterable[Row]) -> None:
        for row in rows:
            if row["stream_id"] in self._told:
                continue
            self._told[row["stream_id"]] = None
            if len(self._told) > REMEMBERED:
                del self._told[next(iter(self._told))]
            self._last = max(self._last or 0.0, row["ended"] or 0.0)  # by the clock of who told it
            if self._wanted.admits(row):
                self._put(row)


def _ended(row: Row) -> Row:
    """Return a row of the feed, which does not say when a stream ended, as one of the store."""
    return row if row["ended"] is not None or row["duration"] is None else {**row, "ended": row["received"] + row["duration"]}


def line(row: Row, ink: Ink) -> str:
    """Return one stream on one line, in columns of which none is cut."""
    outcome = word(row["outcome"])
    ended = datetime.fromtimestamp(row["ended"] or row["received"]).astimezone().strftime("%H:%M:%S.%f")[:-3]
    parts = [
        ink(ended, "dim"),
        word(row["stream_id"])[:8],
        f"{word(row['route']) or '-':<10}",
        f"{word(row['upstream']) or '-':<12}",
        f"{word(row['model']) or '-':<16}",
        ink(f"{outcome:<17}", OUTCOMES.get(outcome, "red")),
        f"ttft {seconds(row['ttft']) or '-':>7}{'!' if row['slow'] else ' '}",
        f"{seconds(row['duration']):>8}",
        f"{_tokens(row):>9}",
        _stalls(row, ink),
        ink(word(row["error"]), "red") if row["error"] else "",
        f"tried {row['attempts']}" if row["attempts"] > 1 else "",
        f"${row['cost_usd']:.5f}" if row["cost_usd"] else "",
    ]
    return "  ".join(part for part in parts if part)


def _tokens(row: Row) -> str:
    return f"{row['output_tokens']} tok" if row["output_tokens"] is not None else f"{row['chunks'] or 0} chunks"


def _stalls(row: Row, ink: Ink) -> str:
    """Return the stalls with their owners: letters and colours say the same."""
    told = [ink(f"{BLAMES[blame][0]} {seconds(length)}", BLAMES[blame][1]) for blame, length in row["stall_time"].items()]
    return f"{row['stalls']} stall{'s' if row['stalls'] > 1 else ''} {' '.join(told)}" if row["stalls"] else ""


def run(place: Place, wanted: Filter, as_json: bool, since: float | None) -> int:
    """Print rows until Ctrl-C, or until nobody reads them; returns the exit code. Raises Unanswered."""
    ink, out = Ink(), sys.stdout

    def put(row: Row) -> None:
        out.write((orjson.dumps(row).decode() if as_json else line(row, ink)) + "\n")
        out.flush()

    async def follow() -> None:
        async with Admin(place) as admin:
            await Tail(admin, wanted, put, _say).follow(since)

    asyncio.run(follow())
    return 0


def _say(text: str) -> None:
    sys.stderr.write(f"weir: {text}\n")
    sys.stderr.flush()
