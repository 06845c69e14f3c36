"""The embedded store: SQLite with one writer thread; a full disk, a lock or a broken file costs counted rows and nothing else."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gateway.core.messages import Said
from gateway.core.record import StreamRecord
from gateway.telemetry import contents
from gateway.telemetry.account import Account
from gateway.telemetry.archive import freeze, thaw
from gateway.telemetry.batches import Batches
from gateway.telemetry.opinions import Answers, Keeps, Opinion, join
from gateway.telemetry.query import SOURCE, Query
from gateway.telemetry.schema import ADD_TAG, prepare
from gateway.telemetry.upkeep import Upkeep

QUEUE, BATCH, WINDOW = 10_000, 500, 0.2
QUEUE_BYTES = 256 << 20
"""Memory of records that wait for the store's thread, which a long stream takes half a MiB of."""
LOCK_WAIT = 2.0
MAX_SIZE = 1 << 30
MOST_STEPS = 1000
"""Streams of one trace that are read one by one."""
CACHE_KIB = 16 * 1024
"""Enough for the inner pages of the indexes over random ids: with SQLite's own 2 MiB most inserts would read from the file."""
_INSERT = (
    "INSERT OR IGNORE INTO streams (stream_id, trace_id, ended, received, route, upstream, model, outcome, stalled, slow, ttft, duration, "
    "cost, record, prompt, prompt_version, session) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
)


class Receipt(Struct, frozen=True):
    """Whose record it was: the worker slot, its process, and the number the worker gave it."""

    slot: int
    pid: int
    seq: int


class Row(Struct, frozen=True):
    """What is put to the store; without an account it only carries the receipt, what somebody thinks, or a stream's words, through in its
    turn."""

    account: Account | None
    receipt: Receipt | None
    opinion: Opinion | None = None
    said: Said | None = None


class _Batch(Struct):
    """What is written in one transaction; `words` are rows of `contents`."""

    accounts: list[Account] = []
    opinions: list[Opinion] = []
    words: list[tuple[str, bytes]] = []

    def __len__(self) -> int:
        return len(self.accounts) + len(self.opinions) + len(self.words)


class Kept(Struct, frozen=True):
    """One stored stream. `ended` is unix seconds, `cost` USD."""

    record: StreamRecord
    ended: float
    cost: float | None
    feedback: Opinion | None = None


class Total(Struct, frozen=True):
    """How many ended streams a trace has, and their sums, None where nothing is known: cost in USD, tokens."""

    streams: int
    cost: float | None
    input_tokens: int | None
    output_tokens: int | None


class StoreUnreadable(Exception):
    """The store cannot be read just now."""


class Store:
    """Writes accounts and opinions, and answers questions. `done(receipts)` is called in the writer's thread when their rows are no longer
    ours, `answered` when it is known what became of opinions; `keeps` says of which routes comments are kept."""

    def __init__(
        self,
        path: str,
        retention: float,
        done: Callable[[list[Receipt]], None],
        *,
        max_size: int = MAX_SIZE,
        keeps: Keeps = lambda _: False,
        answered: Callable[[Answers], None] = lambda _: None,
    ) -> None:
        self.path = Path(path)
        self._upkeep = Upkeep(self.path, retention, max_size)
        self._done, self._keeps, self._answered = done, keeps, answered
        self._connection: sqlite3.Connection | None = None
        self._room, self._queue = contents.Room(), contents.Room(QUEUE_BYTES)
        self.set_aside = 0
        self.batches: Batches[Row] = Batches("rows", self._write, limit=QUEUE, batch=BATCH, window=WINDOW)

    @property
    def size(self) -> int:
        """Bytes of the file and its write-ahead log, as of the last write."""
        return self._upkeep.size

    @property
    def max_size(self) -> int:
        return self._upkeep.max_size

    def reach(self, now_unix: float) -> float | None:
        """Return how many seconds ago the oldest stream ended, as of the last write; None when there is none."""
        return None if self._upkeep.oldest is None else max(0.0, now_unix - self._upkeep.oldest)

    def prepare(self) -> None:
        """Bring the file up to date, or make it, before anybody asks; blocks. What fails here is tried again with the first row."""
        self._commit(_Batch())

    def start(self) -> None:
        self.batches.start()

    def put(self, account: Account | None, receipt: Receipt | None) -> bool:
        size = _weight(account)
        if not self._queue.take(size):
            self.batches.refuse()
            return False
        if not self.batches.put(Row(account, receipt)):
            self._queue.give(size)
            return False
        return True

    def say(self, opinion: Opinion) -> bool:
        """Join an opinion to its stream, after everything that was put before it; False when too much waits: streams come first."""
        return self.batches.waiting <= QUEUE // 2 and self.batches.put(Row(None, None, opinion))

    def keep(self, said: Said) -> bool:
        """Queue the words of a stream, behind its row; False when too many wait."""
        if not self._room.take(len(said.data)):
            return False
        if not self.batches.put(Row(None, None, said=said)):  # which counts it
            self._room.give(len(said.data))
        return True

    def close(self, seconds: float) -> None:
        """Write what is queued, for at most `seconds`."""
        if self.batches.close(seconds):
            self._disconnect()

    # The writer's thread.

    def _write(self, batch: list[Row]) -> int:
        accounts = [row.account for row in batch if row.account is not None]
        opinions = [row.opinion for row in batch if row.opinion is not None]
        said = [row.said for row in batch if row.said is not None]
        try:
            return self._commit(_Batch(accounts, opinions, contents.rows(said)))
        finally:
            self._room.give(sum(len(one.data) for one in said))
            self._queue.give(sum(_weight(account) for account in accounts))
            self._done([row.receipt for row in batch if row.receipt is not None])

    def _commit(self, batch: _Batch) -> int:
        """Returns how many rows were lost. A file that is no database, or no longer one, is set aside and begun anew."""
        for again in (True, False):
            try:
                answers = self._insert(batch)
            except (sqlite3.OperationalError, sqlite3.IntegrityError):  # locked, full, read-only, no such folder: perhaps better next time
                self._disconnect()
                return len(batch)
            except sqlite3.DatabaseError:
                self._disconnect()
                if not again or not self._set_aside():
                    return len(batch)
            else:
                if batch.opinions:
                    self._answered(answers)
                break
        return 0

    def _insert(self, batch: _Batch) -> Answers:
        if not self.path.exists():  # deleted under us: what went to the open file would be lost unseen
            self._disconnect()
        self._connection = self._connection or self._connect()
        if self._upkeep.overflows(self._connection):
            raise sqlite3.OperationalError("the write-ahead log is too long")
        with self._connection as transaction:
            transaction.executemany(_INSERT, [_row(account) for account in batch.accounts])
            transaction.executemany(ADD_TAG, [tag for account in batch.accounts for tag in _tags(account.record)])
            answers = join(transaction, batch.opinions, self._keeps)
            contents.write(transaction, batch.words)
            self._upkeep.sweep(transaction)
        self._upkeep.settle(self._connection)
        return answers

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=LOCK_WAIT, check_same_thread=False)
        try:
            self._upkeep.tune(connection)
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
            prepare(connection)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with closing(self._connection):
                self._connection = None

    def _set_aside(self) -> bool:
        self.set_aside += 1
        try:
            self.path.rename(self.path.with_name(f"{self.path.name}.corrupt-{self.set_aside}"))
            for suffix in ("-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        except OSError:
            return False
        return True

    # Any thread; each question opens its own connection, so that it sees what is committed and blocks nobody.

    def find(self, query: Query) -> list[Kept]:
        """Return ended streams, newest first. Raises StoreUnreadable."""
        sql, values = query.sql()
        return self._read(sql, values)

    def one(self, stream_id: str) -> Kept | None:
        """Return one ended stream. Raises StoreUnreadable."""
        return next(iter(self._read(f"{SOURCE} WHERE streams.stream_id = ?", [stream_id])), None)

    def trace(self, trace_id: str) -> list[Kept]:
        """Return the ended streams of one trace, oldest first, at most MOST_STEPS. Raises StoreUnreadable."""
        return self._read(f"{SOURCE} WHERE trace_id = ? ORDER BY received LIMIT {MOST_STEPS}", [trace_id])

    def total(self, trace_id: str) -> Total:
        """Return what all ended streams of one trace took. Raises StoreUnreadable."""
        return Total(*self._select(_TOTAL, [trace_id])[0])

    def content(self, stream_id: str) -> bytes | None:
        """Return the words of an ended stream as JSON, None where none are kept. Raises StoreUnreadable."""
        return next((contents.unpacked(kept) for (kept,) in self._select(contents.SELECT, [stream_id])), None)

    def newest_ids(self, count: int) -> list[str]:
        """Return the ids of the streams stored last: what a predecessor of this recorder has told already."""
        try:
            return [row[0] for row in self._select("SELECT stream_id FROM streams ORDER BY ended DESC LIMIT ?", [count])]
        except StoreUnreadable:
            return []

    def _read(self, source: str, values: list[str | float]) -> list[Kept]:
        """Return the streams that `FROM ...` finds."""
        try:
            return [_kept(*row) for row in self._select(f"SELECT {_KEPT} {source}", values)]
        except msgspec.MsgspecError as error:
            raise StoreUnreadable(str(error)) from error

    def _select(self, sql: str, values: Sequence[str | float]) -> list[Any]:
        if not self.path.exists():
            return []
        try:
            with closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True, timeout=LOCK_WAIT)) as connection:
                return connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            if "no such table: streams" in str(error):  # the writer has just made the file
                return []
            raise StoreUnreadable(str(error)) from error


_TOTAL = (
    "SELECT count(*), sum(cost), sum(json_extract(record, '$.usage.input')), sum(json_extract(record, '$.usage.output')) "
    "FROM streams WHERE trace_id = ?"
)
_KEPT = "record, streams.ended, cost, streams.stream_id, score, comment, at"


def _kept(text: str, ended: float, cost: float | None, *said: Any) -> Kept:
    return Kept(thaw(text), ended, cost, Opinion(*said) if said[1] is not None else None)


def ended_unix(record: StreamRecord) -> float:
    """Return when a record ended, in unix seconds."""
    return record.unix_ns(record.received_at if record.ended_at is None else record.ended_at) / 1e9


def _weight(account: Account | None) -> int:
    """Return about how many bytes an account takes in memory: 36 for each arrival, 92 more where it brought other than one token."""
    return 0 if account is None else 4096 + 36 * len(account.record.cadence.ticks) + 92 * len(account.record.cadence.counts)


def _row(account: Account) -> tuple[object, ...]:
    record = account.record
    return (
        *(record.stream_id, record.trace_id, ended_unix(record), record.received_unix),
        *(record.route, record.upstream, record.asked_model, record.outcome, int(record.stalled), int(account.slow)),
        *(account.ttft, account.duration, account.cost, freeze(record)),
        *(record.prompt_name, record.prompt_version, record.session_id),
    )


def _tags(record: StreamRecord) -> list[tuple[object, ...]]:
    return [(name, value, ended_unix(record), record.stream_id) for name, value in record.tags.items()]
