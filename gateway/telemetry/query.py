"""A question to the list of streams: which ones, how many, from where on. Pure: text in, SQL out."""

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from gateway.core.record import StreamRecord

COLUMNS = ("route", "outcome", "upstream", "model")
"""Columns that are asked for by a list of values."""
NAMED = ("prompt", "prompt_version", "session")
"""Columns that callers name as they like: a value of theirs may hold a comma."""
MOST = 1000
MOST_TAGS = 16
SCORES = (-1, 0, 1)
SOURCE = "FROM streams LEFT JOIN feedback ON feedback.stream_id = streams.stream_id"
_BY_TAG = (
    "FROM tags AS tag CROSS JOIN streams ON streams.stream_id = tag.stream_id LEFT JOIN feedback ON feedback.stream_id = tag.stream_id"
)
_HAS_TAG = (
    "EXISTS (SELECT 1 FROM tags WHERE tags.stream_id = {0}.stream_id AND tags.name = ? AND tags.value = ? AND tags.ended = {0}.ended)"
)
_INDEXED = frozenset({"prompt", "session"})
Values = list[str | float]


class Cursor(Struct, frozen=True):
    """Where a page ended: a live stream by when it was received, an ended one by when it ended (unix seconds)."""

    live: bool
    at: float
    stream_id: str

    def text(self) -> str:
        return f"{'l' if self.live else 'e'}~{self.at!r}~{self.stream_id}"

    @classmethod
    def read(cls, text: str) -> "Cursor":
        """Raises ValueError for anything that `text` did not write."""
        kind, at, stream_id = text.split("~", 2)
        if kind not in ("l", "e"):
            raise ValueError("cursor must be one that an answer's `next` gave")
        return cls(kind == "l", float(at), stream_id)


class Query(Struct, frozen=True, kw_only=True):
    """Filters, all of which must hold. `columns` maps a column of COLUMNS or NAMED to the values wanted; `tags` are (name, value) pairs;
    `slow` is the least TTFT in seconds, or whether it was above the route's objective; `feedback` the scores wanted; `since` and `until`
    are unix seconds, compared with when a stream ended."""

    columns: Mapping[str, tuple[str, ...]] = {}
    tags: tuple[tuple[str, str], ...] = ()
    stalled: bool | None = None
    slow: bool | float | None = None
    feedback: tuple[int, ...] = ()
    since: float | None = None
    until: float | None = None
    limit: int = 100
    cursor: Cursor | None = None

    def lets_live(self, now_unix: float) -> bool:
        """Say whether any live stream may answer: an outcome or slowness is a thing of ended ones, and none has ended before now."""
        ended_only = "outcome" in self.columns or self.slow is not None
        return not ended_only and (self.until is None or self.until >= now_unix)

    def admits_live(self, record: StreamRecord, upstream: str, stalled: bool, score: int | None) -> bool:
        """Say whether a live stream answers the question, if any may."""
        values = {
            "route": record.route,
            "upstream": upstream,
            "model": record.asked_model,
            "prompt": record.prompt_name,
            "prompt_version": record.prompt_version,
            "session": record.session_id,
        }
        fits = all(values.get(column) in wanted for column, wanted in self.columns.items())
        tagged = all(record.tags.get(name) == value for name, value in self.tags)
        return fits and tagged and self.stalled in (None, stalled) and (not self.feedback or score in self.feedback)

    def sql(self) -> tuple[str, Values]:
        """Return what finds the ended streams, newest first, from `FROM` to `LIMIT`, and its parameters.

        Where nothing rarer is asked for, the first tag leads: its streams lie in the order of the list.
        """
        by_tag = bool(self.tags) and not self.feedback and not _INDEXED & self.columns.keys()
        clock = "tag" if by_tag else "streams"
        terms, values = (["tag.name = ?", "tag.value = ?"], Values(self.tags[0])) if by_tag else (["1"], Values())
        for name, value in self.tags[by_tag:]:
            terms.append(_HAS_TAG.format(clock))
            values += (name, value)
        for term, several in self._terms(clock):
            terms.append(term)
            values += several
        values.append(self.limit)
        order = f"ORDER BY {clock}.ended DESC, {clock}.stream_id DESC LIMIT ?"
        return f"{_BY_TAG if by_tag else SOURCE} WHERE {' AND '.join(terms)} {order}", values

    def _terms(self, clock: str) -> Iterator[tuple[str, Values]]:
        for column, wanted in self.columns.items():
            yield f"{column} IN ({_marks(wanted)})", list(wanted)
        if self.stalled is not None:
            yield "stalled = ?", [float(self.stalled)]
        if self.slow is not None:
            yield "slow = ?" if isinstance(self.slow, bool) else "ttft >= ?", [float(self.slow)]
        if self.feedback:
            yield f"feedback.score IN ({_marks(self.feedback)})", list(self.feedback)
        if self.since is not None:
            yield f"{clock}.ended >= ?", [self.since]
        if self.until is not None:
            yield f"{clock}.ended <= ?", [self.until]
        if self.cursor is not None and not self.cursor.live:
            yield f"({clock}.ended, {clock}.stream_id) < (?, ?)", [self.cursor.at, self.cursor.stream_id]


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))
