"""How the store's file stays young and small: old rows and too many rows go in bounded pieces, and their pages go back to the disk."""

import sqlite3
import time
from contextlib import suppress
from math import inf
from pathlib import Path

from gateway.telemetry.schema import forget_oldest

SWEEP_EVERY, SWEEP_ROWS = 60.0, 2000
STEP_ROWS, STEP_SECONDS = 50, 0.1
"""What is over the size goes in steps of so many rows, for no longer than this in one write unless the write itself brought it."""
WAL_ROOM = 16 << 20
"""Bytes of the write-ahead log that are part of its working: a quarter of the size, this at most."""
SPARE = 16
"""One part in so many of the size is left free, so that rows come and go without the file growing and shrinking all the time."""
VACUUM_PAGES = 256
"""Free pages given back to the disk after one write, 1 MiB."""
FREE_PAGES = 1024
"""So many free pages, and a quarter of the file, are more than what comes next will fill."""
TRUNCATE_WAIT = 50
"""Milliseconds that a reader is waited for when the log has grown too long."""


class Upkeep:
    """Keeps one file for `retention` seconds of streams and within `max_size` bytes; in the writer's thread, but for its two figures.

    `size` is the bytes of the file and its write-ahead log, `oldest` when the oldest stream ended (unix seconds), both as of the last
    write. The size is that of rows and log together: a file made before `auto_vacuum` was on keeps its free pages and fills them again.
    """

    def __init__(self, path: Path, retention: float, max_size: int) -> None:
        self._path, self._log = path, path.with_name(path.name + "-wal")
        self._retention, self.max_size = retention, max_size
        self._log_room = min(WAL_ROOM, max_size // 4)
        self._file_room = max_size - self._log_room
        self._row_room = self._file_room - max_size // SPARE
        self._swept_at = -inf
        self._left = inf
        self.size = 0
        self.oldest: float | None = None

    def tune(self, connection: sqlite3.Connection) -> None:
        """Set what a connection must know before it writes; the first line works for a file that has no table yet."""
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA journal_size_limit={self._log_room}")

    def overflows(self, connection: sqlite3.Connection) -> bool:
        """Tell whether nothing more may be written: somebody reads the file for so long that its log has grown past the size."""
        if _bytes(self._log) <= self._log_room or self._measure() <= self.max_size:
            return False
        wait = connection.execute("PRAGMA busy_timeout").fetchone()[0]
        connection.execute(f"PRAGMA busy_timeout={TRUNCATE_WAIT}")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.execute(f"PRAGMA busy_timeout={wait}")
        return _bytes(self._log) > self._log_room and self._measure() > self.max_size

    def sweep(self, transaction: sqlite3.Connection) -> None:
        """Delete what is older than the retention, and the oldest while the rows are larger than they may be: a piece of it at a time.

        However long that takes, at least as much goes as has come since the last time: else who writes fast would outrun it.
        """
        now = time.monotonic()
        if now - self._swept_at >= SWEEP_EVERY:
            limit = time.time() - self._retention  # noqa: TID251 - retention is kept by the calendar, as `ended` is
            if forget_oldest(transaction, limit, SWEEP_ROWS) < SWEEP_ROWS:
                self._swept_at = now
        while (used := _used(transaction)) > self._row_room and (used > self._left or time.monotonic() - now < STEP_SECONDS):
            if not forget_oldest(transaction, inf, STEP_ROWS):
                break
        self._left = used

    def settle(self, connection: sqlite3.Connection) -> None:
        """After a write: give free pages back to the disk, some at a time, and see how large the file is. What fails is tried again."""
        with suppress(sqlite3.Error):
            page, count, free = _pages(connection)
            if page * count > self._file_room or (free > FREE_PAGES and free > count // 4):
                connection.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")  # `execute` would step, and free, once
            self.oldest = connection.execute("SELECT min(ended) FROM streams").fetchone()[0]
        self.size = self._measure()

    def _measure(self) -> int:
        return _bytes(self._path) + _bytes(self._log)


def _pages(connection: sqlite3.Connection) -> tuple[int, int, int]:
    """Return the size of a page, how many there are, and how many of them are free."""
    page, count, free = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "page_count", "freelist_count"))
    return page, count, free


def _used(connection: sqlite3.Connection) -> int:
    page, count, free = _pages(connection)
    return page * (count - free)


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
