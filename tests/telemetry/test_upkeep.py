"""The store's file, which stays as young and as small as it may be, whatever is written and whoever reads."""

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from gateway.core.record import StreamRecord
from gateway.telemetry import upkeep
from gateway.telemetry.account import account
from gateway.telemetry.query import Query
from gateway.telemetry.store import Store

MakeRecord = Callable[..., StreamRecord]
MIB = 1 << 20
WIDE = {f"tag-{number}": "x" * 100 for number in range(4)}
"""Makes a row of 4 KiB or so, in two tables."""


def now_unix() -> float:
    return datetime.now(UTC).timestamp()


@pytest.fixture
def write(make_record: MakeRecord, tmp_path: Path) -> Callable[..., None]:
    """Write so many streams into a store, in transactions of 20, each stream a second younger than the one before."""
    base, count = now_unix() - 50_000, 0

    def put(store: Store, many: int) -> None:
        nonlocal count
        for begin in range(0, many, 20):
            for number in range(begin, min(begin + 20, many)):
                ids = os.urandom(16).hex()
                record = make_record(number, stream_id=ids, trace_id=ids, received_unix=base + count, tags=WIDE)
                store.put(account(record), None)
                count += 1
            due = time.monotonic() + 10
            while store.batches.waiting and time.monotonic() < due:
                time.sleep(0.001)

    return put


def started(path: Path, max_size: int = 2 * MIB, retention: float = 1e6) -> Store:
    store = Store(str(path), retention, lambda _: None, max_size=max_size)
    store.batches._window = 0.0
    store.prepare()
    store.start()
    return store


def on_disk(path: Path) -> int:
    return sum(each.stat().st_size for each in path.parent.glob(path.name + "*") if not each.name.endswith("-shm"))


def count(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM streams").fetchone()[0])


def test_the_oldest_go_when_the_file_is_full(tmp_path: Path, write: Callable[..., None]) -> None:
    """However much is written, file and log stay within the size, give or take a write; what is left is the newest, without a hole."""
    path = tmp_path / "weir.db"
    store, most = started(path), 0
    for _ in range(40):
        write(store, 40)
        most = max(most, on_disk(path))
    store.close(5)
    assert store.batches.dropped == 0
    assert MIB < most < 3 * MIB
    kept = store.find(Query(limit=1000))
    assert 20 < len(kept) < 800
    assert [round(one.ended - two.ended) for one, two in pairwise(kept)] == [1] * (len(kept) - 1)
    assert store.reach(kept[0].ended) == pytest.approx(kept[0].ended - kept[-1].ended)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(DISTINCT stream_id) FROM tags").fetchone() == (len(kept),)


def test_a_file_that_is_too_large_shrinks(tmp_path: Path, write: Callable[..., None]) -> None:
    """After the size has been set lower it becomes small on the disk, piece by piece, while it is written to."""
    path = tmp_path / "weir.db"
    store = started(path, 64 * MIB)
    write(store, 1500)
    store.close(5)
    large = path.stat().st_size
    assert large > 4 * MIB
    store = started(path)
    write(store, 200)
    due = time.monotonic() + 10
    while store.size != on_disk(path):
        assert time.monotonic() < due
    store.close(5)
    assert path.stat().st_size < 2 * MIB
    assert 0 < count(path) < 1000


def test_what_the_retention_frees_goes_back_to_the_disk(
    tmp_path: Path, write: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many rows that grow old at once leave no large file of free pages behind."""
    path = tmp_path / "weir.db"
    store = started(path, 64 * MIB)
    write(store, 1500)
    store.close(5)
    large = path.stat().st_size
    store = started(path, 64 * MIB, retention=48_600)
    monkeypatch.setattr(upkeep, "FREE_PAGES", 16)
    write(store, 200)
    store.close(5)
    assert 290 < count(path) < 310
    assert path.stat().st_size < large / 2


def test_a_file_without_room_to_shrink_is_filled_again(tmp_path: Path, write: Callable[..., None]) -> None:
    """A file made before pages were given back does not become smaller, and not larger either: its rows do not go for that."""
    path = tmp_path / "weir.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("PRAGMA journal_mode=WAL; CREATE TABLE filler (x); DROP TABLE filler")
    store = started(path, 64 * MIB)
    write(store, 1000)
    store.close(5)
    large = path.stat().st_size
    store = started(path)
    for _ in range(5):
        write(store, 100)
    store.close(5)
    assert path.stat().st_size == large
    assert store.batches.dropped == 0
    assert count(path) > 20


def test_a_reader_without_end_costs_rows_and_not_the_disk(tmp_path: Path, write: Callable[..., None]) -> None:
    """Somebody who never ends his transaction keeps the log from being emptied: beyond the size rows are lost, and counted, until he does;
    what is stored does not go for it."""
    path = tmp_path / "weir.db"
    store = started(path)
    write(store, 40)
    with closing(sqlite3.connect(path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM streams").fetchone()
        write(store, 1000)
        assert store.batches.dropped > 100
        assert on_disk(path) < 3 * MIB
        lost = store.batches.dropped
    assert count(path) > 20
    write(store, 100)
    store.close(5)
    assert store.batches.dropped <= lost + 20
    assert on_disk(path) < 2.5 * MIB


def test_a_small_piece_at_a_time(tmp_path: Path, write: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """One write deletes no longer than it may, however much is too much."""
    path = tmp_path / "weir.db"
    store = started(path, 64 * MIB)
    write(store, 1000)
    store.close(5)
    for seconds, left in ((0.0, {1000}), (1e-9, {990, 1000}), (10.0, set(range(50, 500)))):
        monkeypatch.setattr(upkeep, "STEP_SECONDS", seconds)
        monkeypatch.setattr(upkeep, "STEP_ROWS", 10)
        started(path).close(5)
        assert count(path) in left


def test_how_far_it_reaches_is_known_from_the_start(tmp_path: Path, write: Callable[..., None]) -> None:
    """A recorder that has written nothing yet knows size and reach of the file it found; an empty store reaches nowhere."""
    path = tmp_path / "weir.db"
    store = started(path)
    assert (store.reach(0.0), store.size > 0) == (None, True)
    write(store, 40)
    store.close(5)
    again = started(path)
    assert again.reach(now_unix()) == pytest.approx(50_000 - 2, abs=30)
    assert again.size > 0
    again.close(5)


def test_who_writes_fast_does_not_outrun_the_deleting(tmp_path: Path, write: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no time to delete what is over the size, each write deletes as much as it brought: the file does not grow on."""
    monkeypatch.setattr(upkeep, "STEP_SECONDS", 0.0)
    path = tmp_path / "weir.db"
    store, sizes = started(path), []
    for _ in range(30):
        write(store, 60)
        sizes.append(on_disk(path))
    store.close(5)
    assert store.batches.dropped == 0
    assert MIB < sizes[-1] < 3 * MIB
