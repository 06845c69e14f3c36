"""Query strings read into questions for the list of streams; anything not understood is refused with the reason."""

import re
from collections.abc import Mapping

from gateway.telemetry.query import COLUMNS, MOST, MOST_TAGS, NAMED, SCORES, Cursor, Query

_AGE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_FLAGS = {"true": True, "1": True, "false": False, "0": False}
_TAG = "tag."
KNOWN = frozenset((*COLUMNS, *NAMED, "stalled", "slow", "feedback", "since", "until", "limit", "cursor"))


class BadQuery(ValueError):
    """A query string that asks for nothing we know; the message is for the caller."""


def read_query(given: Mapping[str, str], now_unix: float) -> Query:
    """Read a query; `now_unix` is what an age in `since` or `until` is counted back from. Raises BadQuery.

    A name may come several times where `given` is a multidict: tags must all hold, of a NAMED column any value will do.
    """
    unknown = sorted(name for name in given if name not in KNOWN and not name.startswith(_TAG))
    if unknown:
        raise BadQuery(f"unknown parameter {unknown[0]!r}; known are {', '.join(sorted(KNOWN))}, {_TAG}NAME")
    listed = {column: tuple(given[column].split(",")) for column in COLUMNS if given.get(column)}
    return Query(
        columns=listed | {column: values for column in NAMED if (values := _every(given, column))},
        tags=_tags(given),
        stalled=_flag("stalled", given["stalled"]) if given.get("stalled") else None,
        slow=_slow(given["slow"]) if given.get("slow") else None,
        feedback=_scores(given["feedback"]) if given.get("feedback") else (),
        since=_time("since", given["since"], now_unix) if given.get("since") else None,
        until=_time("until", given["until"], now_unix) if given.get("until") else None,
        limit=_limit(given["limit"]) if given.get("limit") else Query().limit,
        cursor=_cursor(given["cursor"]) if given.get("cursor") else None,
    )


def _every(given: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(value for each, value in given.items() if each == name and value)


def _tags(given: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Header names are the same in any case, and so are tags'."""
    tags = tuple((name.removeprefix(_TAG).lower(), value) for name, value in given.items() if name.startswith(_TAG) and value)
    if len(tags) > MOST_TAGS:
        raise BadQuery(f"at most {MOST_TAGS} tags can be asked for")
    return tags


def _scores(text: str) -> tuple[int, ...]:
    known = {str(score): score for score in SCORES}
    if not set(text.split(",")) <= known.keys():
        raise BadQuery("feedback must be -1, 0 or 1, or several of them with commas")
    return tuple(known[score] for score in text.split(","))


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


def _time(name: str, text: str, now_unix: float) -> float:
    age = _seconds(text)
    if age is not None:
        return now_unix - age
    try:
        at = float(text)
    except ValueError:
        at = float("nan")
    if not abs(at) < 1e12:  # not a number, or no time at all
        raise BadQuery(f"{name} must be unix seconds or an age such as 15m")
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
