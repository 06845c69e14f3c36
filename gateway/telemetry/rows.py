"""Stored streams as flat rows, for evaluation elsewhere: read from the store's file a piece at a time, whoever writes it meanwhile."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import msgspec
import orjson
from msgspec import Struct, field

from gateway.core.record import StreamRecord
from gateway.telemetry.account import Account, account
from gateway.telemetry.archive import thaw
from gateway.telemetry.contents import unpacked
from gateway.telemetry.store import LOCK_WAIT, StoreUnreadable

PAGE = 500
"""Rows read at a time: a reader that stays keeps the writer from shortening its log."""
Kind = Literal["text", "int", "float", "bool", "json"]
Place = tuple[float, str]


class Stored(Struct, frozen=True):
    """One stream of the file, and what hangs on it: its words, {} where none are kept, and what somebody thought of it."""

    told: Account
    ended: float
    words: dict[str, Any] = field(default_factory=dict)
    score: int | None = None
    comment: str | None = None

    @property
    def record(self) -> StreamRecord:
        return self.told.record


class Column(Struct, frozen=True):
    """One figure of a row. `json` is any JSON value, for formats without one its text."""

    name: str
    kind: Kind
    read: Callable[[Stored], Any]
    help: str


def _of(name: str) -> Callable[[Stored], Any]:
    return lambda stored: getattr(stored.record, name)


def _told(name: str) -> Callable[[Stored], Any]:
    return lambda stored: getattr(stored.told, name)


def _used(name: str) -> Callable[[Stored], Any]:
    return lambda stored: getattr(stored.record.usage, name, None)


def _gap(name: str) -> Callable[[Stored], Any]:
    return lambda stored: getattr(stored.record.cadence, name)


def _stall(blame: str) -> Callable[[Stored], Any]:
    return lambda stored: stored.record.cadence.stall_time.get(blame, 0.0)  # type: ignore[call-overload]


def _word(name: str) -> Callable[[Stored], Any]:
    return lambda stored: stored.words.get(name)


COLUMNS = (
    Column("stream_id", "text", _of("stream_id"), "The id in `x-weir-stream-id`."),
    Column("trace_id", "text", _of("trace_id"), "The caller's trace, or one of its own."),
    Column("span_id", "text", _of("span_id"), "Its span in that trace."),
    Column("parent_id", "text", _of("parent_id"), "The caller's span."),
    Column("received", "float", _of("received_unix"), "Unix seconds."),
    Column("ended", "float", lambda stored: stored.ended, "Unix seconds."),
    Column("route", "text", _of("route"), ""),
    Column("upstream", "text", _of("upstream"), "Whose answer the client got."),
    Column("dialect", "text", _of("dialect"), "The client's."),
    Column("operation", "text", _of("operation"), ""),
    Column("asked_model", "text", _of("asked_model"), ""),
    Column("served_model", "text", _of("served_model"), "As the upstream named it."),
    Column("streamed", "bool", _of("streamed"), "Not an answer in one piece."),
    Column("temperature", "float", _of("temperature"), ""),
    Column("top_p", "float", _of("top_p"), ""),
    Column("max_tokens", "int", _of("max_tokens"), ""),
    Column("seed", "int", _of("seed"), ""),
    Column("outcome", "text", _of("outcome"), ""),
    Column("error", "text", _of("error"), ""),
    Column("status", "int", _of("status"), "Of HTTP."),
    Column("finish", "text", lambda stored: ",".join(stored.record.finish), "Why the answer ended, in the provider's words."),
    Column("attempts", "int", lambda stored: len(stored.record.attempts), ""),
    Column("fallback_reason", "text", _of("fallback_reason"), ""),
    Column("resumed", "int", lambda stored: len(stored.record.seams), "How often another upstream went on with the answer."),
    Column("ttft", "float", _told("ttft"), "Seconds from the request received to the first token."),
    Column("first_answer", "float", _told("first_answer"), "Seconds to the first token that is no reasoning."),
    Column("duration", "float", _told("duration"), "Seconds."),
    Column("input_tokens", "int", _used("input"), ""),
    Column("cached_tokens", "int", _used("cached"), ""),
    Column("output_tokens", "int", _used("output"), ""),
    Column("reasoning_tokens", "int", _used("reasoning"), ""),
    Column("cost_usd", "float", _told("cost"), "By public list prices."),
    Column("chunks", "int", _gap("chunks"), "Events that brought tokens."),
    Column("bytes", "int", _of("bytes"), "Of the answer's body."),
    Column("gap_p50", "float", _gap("gap_p50"), "Seconds between two arrivals of tokens."),
    Column("gap_p95", "float", _gap("gap_p95"), ""),
    Column("gap_max", "float", _gap("gap_max"), ""),
    Column("stalls", "int", _gap("stall_count"), ""),
    Column("stall_upstream", "float", _stall("upstream"), "Seconds of stalls that the upstream owned."),
    Column("stall_client", "float", _stall("client"), "Likewise the client."),
    Column("stall_gateway", "float", _stall("gateway"), "Likewise the gateway."),
    Column("prompt_name", "text", _of("prompt_name"), "`x-weir-prompt-name`."),
    Column("prompt_version", "text", _of("prompt_version"), "`x-weir-prompt-version`."),
    Column("session_id", "text", _of("session_id"), "`x-weir-session-id`."),
    Column("tags", "json", _of("tags"), "`x-weir-tag-*`."),
    Column("feedback", "int", lambda stored: stored.score, "-1, 0 or 1, what somebody thought of the answer; none where nobody said."),
    Column("feedback_comment", "text", lambda stored: stored.comment, ""),
    Column("prompt", "json", _word("prompt"), "The request's body; a text where it was cut or is no JSON."),
    Column("text", "text", _word("text"), "The answer."),
    Column("reasoning", "text", _word("reasoning"), ""),
    Column("refusal", "text", _word("refusal"), ""),
    Column("tools", "json", _word("tools"), "Tool calls: `id`, `name`, `arguments`."),
    Column(
        "content_cut", "bool", lambda stored: _cut(stored.words), "Whether some of prompt or answer is missing; none where none is kept."
    ),
)
"""What a row has, in this order. None is "not known"; from `prompt` on it is so where no content is kept."""


def _cut(words: dict[str, Any]) -> bool | None:
    return bool(words["cut"] or words["prompt_cut"]) if words else None


class Wanted(Struct, frozen=True, kw_only=True):
    """Which streams: those that ended from `since` until before `until` (unix seconds), of these routes and outcomes, () for all."""

    since: float | None = None
    until: float | None = None
    routes: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    limit: int | None = None

    def where(self) -> tuple[str, list[str | float]]:
        """Return the SQL condition and its parameters."""
        terms, values = ["1"], list[str | float]()
        for bound, term in ((self.since, "s.ended >= ?"), (self.until, "s.ended < ?")):
            if bound is not None:
                terms.append(term)
                values.append(bound)
        for column, wanted in (("route", self.routes), ("outcome", self.outcomes)):
            if wanted:
                terms.append(f"s.{column} IN ({','.join('?' * len(wanted))})")
                values += wanted
        return " AND ".join(terms), values


def read(path: Path, wanted: Wanted) -> Iterator[Stored]:
    """Yield streams, the newest first. Raises StoreUnreadable. The file is only read; its writer may run or not."""
    left = wanted.limit
    place: Place | None = None
    while left is None or left > 0:
        page = PAGE if left is None else min(PAGE, left)
        found = 0
        for at, stored in _page(path, wanted, place, page):
            found, place = found + 1, at
            yield stored
        if found < page:
            return
        left = None if left is None else left - found


def _page(path: Path, wanted: Wanted, place: Place | None, count: int) -> Iterator[tuple[Place, Stored]]:
    condition, values = wanted.where()
    if place is not None:
        condition += " AND (s.ended, s.stream_id) < (?, ?)"
        values += place
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=LOCK_WAIT)) as connection:
            for stream_id, *row in connection.execute(_sql(connection, condition), [*values, count]):
                stored = _stored(*row)
                yield (stored.ended, stream_id), stored
    except (sqlite3.Error, msgspec.MsgspecError) as error:
        raise StoreUnreadable(str(error)) from error


def _sql(connection: sqlite3.Connection, condition: str) -> str:
    """Return the question, as far as this file has the tables: one of an older version has streams alone."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    words, joins = "NULL", ""
    if "contents" in tables:
        words, joins = "c.content", "LEFT JOIN contents AS c ON c.stream_id = s.stream_id "
    score, comment = "NULL", "NULL"
    if "feedback" in tables:
        score, comment, joins = "f.score", "f.comment", joins + "LEFT JOIN feedback AS f ON f.stream_id = s.stream_id "
    return (
        f"SELECT s.stream_id, s.record, s.ended, s.cost, {words}, {score}, {comment} FROM streams AS s {joins}"  # noqa: S608 - names of our own
        f"WHERE {condition} ORDER BY s.ended DESC, s.stream_id DESC LIMIT ?"
    )


def _stored(record: str, ended: float, cost: float | None, words: bytes | None, score: int | None, comment: str | None) -> Stored:
    said = orjson.loads(unpacked(words)) if words is not None else {}
    return Stored(account(thaw(record), cost), ended, said, score, comment)


def row(stored: Stored) -> dict[str, Any]:
    """Return a stream as one row."""
    return {column.name: column.read(stored) for column in COLUMNS}
