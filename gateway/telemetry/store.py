"""The embedded store: SQLite with one writer thread; a full disk, a lock or a broken file costs counted rows and nothing else."""

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
from msgspec import Struct

from gateway.core.record import StreamRecord
from gateway.telemetry.account import Account
from gateway.telemetry.archive import freeze, thaw
from gateway.telemetry.batches import Batches
from gateway.telemetry.query import Query

QUEUE, BATCH, WINDOW = 10_000, 500, 0.2
LOCK_WAIT = 2.0
SWEEP_EVERY, SWEEP_ROWS = 60.0, 2000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS streams (
  stream_id TEXT NOT NULL UNIQUE, trace_id TEXT, ended REAL, received REAL, route TEXT, upstream TEXT, model TEXT, outcome TEXT,
  stalled INTEGER, slow INTEGER, ttft REAL, duration REAL, cost REAL, record TEXT
);
CREATE INDEX IF NOT EXISTS streams_ended ON streams (ended, stream_id);
CREATE INDEX IF NOT EXISTS streams_trace ON streams (trace_id);
"""
CACHE_KIB = 16 * 1024
"""Enough for the inner pages of the indexes over random ids: with SQLite's own 2 MiB most inserts would read from the file."""
_INSERT = "INSERT OR IGNORE INTO streams VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)"


class Receipt(Struct, frozen=True):
    """Whose record it was: the worker slot, its process, and the number the worker gave it."""

    slot: int
    pid: int
    seq: int


class Row(Struct, frozen=True):
    """What is put to the store; without an account it only carries the receipt through, in its turn."""

    account: Account | None
    receipt: Receipt | None


class Kept(Struct, frozen=True):
    """One stored stream. `ended` is unix seconds, `cost` USD."""

    record: StreamRecord
    ended: float
    cost: float | None


class StoreUnreadable(Exception):
    """The store cannot be read just now."""


class Store:
    """Writes accounts and answers questions. `done(receipts)` is called in the writer's thread when their rows are no longer ours."""

    def __init__(self, path: str, retention: float, done: Callable[[list[Receipt]], None]) -> None:
        self.path = Path(path)
        self._retention = retention
        self._done = done
        self._connection: sqlite3.Connection | None = None
        self._swept_at = 0.0
        self.set_aside = 0
        self.batches: Batches[Row] = Batches("rows", self._write, limit=QUEUE, batch=BATCH, window=WINDOW)

    def start(self) -> None:
        self.batches.start()

    def put(self, account: Account | None, receipt: Receipt | None) -> bool:
        return self.batches.put(Row(account, receipt))

    def close(self, seconds: float) -> None:
        """Write what is queued, for at most `seconds`."""
        if self.batches.close(seconds):
            self._disconnect()

    # The writer's thread.

    def _write(self, batch: list[Row]) -> int:
        rows = [_row(row.account) for row in batch if row.account is not None]
        try:
            return self._commit(rows)
        finally:
            self._done([row.receipt for row in batch if row.receipt is not None])

    def _commit(self, rows: list[tuple[object, ...]]) -> int:
        """Returns how many rows were lost. A file that is no database, or no longer one, is set aside and begun anew."""
        for again in (True, False):
            try:
                self._insert(rows)
            except sqlite3.OperationalError:  # locked, full, read-only, no such folder: perhaps better next time
                self._disconnect()
                return len(rows)
            except sqlite3.DatabaseError:
                self._disconnect()
                if not again or not self._set_aside():
                    return len(rows)
            else:
                break
        return 0

    def _insert(self, rows: list[tuple[object, ...]]) -> None:
        if not self.path.exists():  # deleted under us: what went to the open file would be lost unseen
            self._disconnect()
        self._connection = self._connection or self._connect()
        with self._connection as transaction:
            transaction.executemany(_INSERT, rows)
            self._sweep(transaction)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=LOCK_WAIT, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
            connection.executescript(_SCHEMA)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with closing(self._connection):
                self._connection = None

    def _sweep(self, transaction: sqlite3.Connection) -> None:
        """Delete what is older than the retention, a bounded piece at a time: no write waits long for it."""
        now = time.monotonic()
        if self._swept_at and now - self._swept_at < SWEEP_EVERY:
            return
        limit = time.time() - self._retention  # noqa: TID251 - retention is kept by the calendar, as `ended` is
        oldest = "DELETE FROM streams WHERE stream_id IN (SELECT stream_id FROM streams WHERE ended < ? ORDER BY ended LIMIT ?)"
        if transaction.execute(oldest, (limit, SWEEP_ROWS)).rowcount < SWEEP_ROWS:
            self._swept_at = now

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
        where, values = query.where()
        return self._read(f"{_SELECT} WHERE {where} ORDER BY ended DESC, stream_id DESC LIMIT ?", [*values, query.limit])

    def one(self, stream_id: str) -> Kept | None:
        """Return one ended stream. Raises StoreUnreadable."""
        return next(iter(self._read(f"{_SELECT} WHERE stream_id = ?", [stream_id])), None)

    def trace(self, trace_id: str) -> list[Kept]:
        """Return the ended streams of one trace, oldest first, at most 1000. Raises StoreUnreadable."""
        return self._read(f"{_SELECT} WHERE trace_id = ? ORDER BY received LIMIT 1000", [trace_id])

    def newest_ids(self, count: int) -> list[str]:
        """Return the ids of the streams stored last: what a predecessor of this recorder has told already."""
        try:
            return [row[0] for row in self._select("SELECT stream_id FROM streams ORDER BY ended DESC LIMIT ?", [count])]
        except StoreUnreadable:
            return []

    def _read(self, sql: str, values: list[str | float]) -> list[Kept]:
        try:
            return [Kept(thaw(text), ended, cost) for text, ended, cost in self._select(sql, values)]
        except msgspec.MsgspecError as error:
            raise StoreUnreadable(str(error)) from error

    def _select(self, sql: str, values: list[str | float]) -> list[tuple[str, float, float | None]]:
        if not self.path.exists():
            return []
        try:
            with closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True, timeout=LOCK_WAIT)) as connection:
                return connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            if "no such table" in str(error):  # the writer has just made the file
                return []
            raise StoreUnreadable(str(error)) from error


_SELECT = "SELECT record, ended, cost FROM streams"


def ended_unix(record: StreamRecord) -> float:
    """Return when a record ended, in unix seconds."""
    return record.unix_ns(record.received_at if record.ended_at is None else record.ended_at) / 1e9


def _row(account: Account) -> tuple[object, ...]:
    record = account.record
    return (
        *(record.stream_id, record.trace_id, ended_unix(record), record.received_unix),
        *(record.route, record.upstream, record.asked_model, record.outcome, int(record.stalled), int(account.slow)),
        *(account.ttft, account.duration, account.cost, freeze(record)),
    )
