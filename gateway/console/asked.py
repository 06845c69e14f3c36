"""Query strings read into questions for the list of streams; anything not understood is refused with the reason."""

import re
from collections.abc import Mapping

from gateway.telemetry.query import COLUMNS, MOST, Cursor, Query

_AGE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_FLAGS = {"true": True, "1": True, "false": False, "0": False}
KNOWN = frozenset((*COLUMNS, "stalled", "slow", "since", "limit", "cursor"))


class BadQuery(ValueError):
    """A query string that asks for nothing we know; the message is for the caller."""


def read_query(given: Mapping[str, str], now_unix: float) -> Query:
    """Read a query; `now_unix` is what an age in `since` is counted back from. Raises BadQuery."""
    unknown = sorted(set(given) - KNOWN)
    if unknown:
        raise BadQuery(f"unknown parameter {unknown[0]!r}; known are {', '.join(sorted(KNOWN))}")
    return Query(
        columns={column: tuple(given[column].split(",")) for column in COLUMNS if given.get(column)},
        stalled=_flag("stalled", given["stalled"]) if given.get("stalled") else None,
        slow=_slow(given["slow"]) if given.get("slow") else None,
        since=_since(given["since"], now_unix) if given.get("since") else None,
        limit=_limit(given["limit"]) if given.get("limit") else Query().limit,
        cursor=_cursor(given["cursor"]) if given.get("cursor") else None,
    )


def _flag(name: str, text: str) -> bool:
    if text not in _FLAGS:
        raise BadQuery(f"{name} must be true or false")
    return _FLAGS[text]


def _slow(text: str) -> bool | float:
    """`true` means over the route's objective, `800ms` at least that long to the first token."""
    if text in _FLAGS:
        return _FLAGS[text]
    seconds = _seconds(text)
    if seconds is None:
        raise BadQuery("slow must be true, false or a duration such as 800ms")
    return seconds


def _since(text: str, now_unix: float) -> float:
    age = _seconds(text)
    if age is not None:
        return now_unix - age
    try:
        at = float(text)
    except ValueError:
        at = float("nan")
    if not abs(at) < 1e12:  # not a number, or no time at all
        raise BadQuery("since must be unix seconds or an age such as 15m")
    return at


def _seconds(text: str) -> float | None:
    found = _AGE.fullmatch(text)
    return float(found[1]) * _UNITS[found[2]] if found else None


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= MOST:
        raise BadQuery(f"limit must be between 1 and {MOST}")
    return int(text[:9])


def _cursor(text: str) -> Cursor:
    try:
        return Cursor.read(text)
    except ValueError:
        raise BadQuery("cursor must be the `next` of an earlier answer") from None
