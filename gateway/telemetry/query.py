"""A question to the list of streams: which ones, how many, from where on. Pure: text in, SQL out."""

from collections.abc import Mapping

from msgspec import Struct

from gateway.core.record import StreamRecord

COLUMNS = ("route", "outcome", "upstream", "model")
MOST = 1000


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
    """Filters, all of which must hold. `columns` maps a column to the values wanted; `slow` is the least TTFT in seconds, or whether
    it was above the route's objective; `since` is unix seconds, compared with when a stream ended."""

    columns: Mapping[str, tuple[str, ...]] = {}
    stalled: bool | None = None
    slow: bool | float | None = None
    since: float | None = None
    limit: int = 100
    cursor: Cursor | None = None

    @property
    def ended_only(self) -> bool:
        """An outcome or slowness is a thing of ended streams."""
        return "outcome" in self.columns or self.slow is not None

    def admits_live(self, record: StreamRecord, upstream: str, stalled: bool) -> bool:
        """Say whether a live stream answers the question."""
        values = {"route": record.route, "upstream": upstream, "model": record.asked_model}
        fits = all(values.get(column) in wanted for column, wanted in self.columns.items())
        return fits and not self.ended_only and self.stalled in (None, stalled)

    def where(self) -> tuple[str, list[str | float]]:
        """Return the SQL condition for ended streams and its parameters."""
        terms, values = ["1"], list[str | float]()
        for column, wanted in self.columns.items():
            terms.append(f"{column} IN ({','.join('?' * len(wanted))})")
            values += wanted
        if self.stalled is not None:
            terms.append("stalled = ?")
            values.append(float(self.stalled))
        if self.slow is not None:
            terms.append("slow = ?" if isinstance(self.slow, bool) else "ttft >= ?")
            values.append(float(self.slow))
        if self.since is not None:
            terms.append("ended >= ?")
            values.append(self.since)
        if self.cursor is not None and not self.cursor.live:
            terms.append("(ended, stream_id) < (?, ?)")
            values += [self.cursor.at, self.cursor.stream_id]
        return " AND ".join(terms), values
