"""The embedded store on real files: what it keeps, what it survives, what it counts."""

import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from math import inf
from pathlib import Path
from typing import Any

import pytest

from gateway.core.record import Cadence, StreamRecord
from gateway.telemetry import store as module
from gateway.telemetry.account import account
from gateway.telemetry.archive import freeze, thaw
from gateway.telemetry.opinions import Answers, Opinion
from gateway.telemetry.query import Cursor, Query
from gateway.telemetry.store import Receipt, Store, StoreUnreadable

MakeRecord = Callable[..., StreamRecord]


@pytest.fixture
def receipts() -> list[Receipt]:
    return []


@pytest.fixture
def store(tmp_path: Path, receipts: list[Receipt]) -> Iterator[Store]:
    made = Store(str(tmp_path / "weir.db"), 3600.0, receipts.extend)
    made.start()
    yield made
    made.close(5)


def test_what_is_put_can_be_asked_for(store: Store, make_record: MakeRecord, receipts: list[Receipt]) -> None:
    """Every filter, the order (newest first), the pages and the whole record; each receipt comes back once it is committed."""
    for number in range(1, 6):
        record = make_record(number, ended_at=102.0 + number, outcome="completed" if number % 2 else "upstream_error")
        record.cadence.stall_count = number // 5
        store.put(account(record, cost=0.5, objective=0.1), Receipt(0, 1, number))
    store.close(5)
    assert [receipt.seq for receipt in receipts] == [1, 2, 3, 4, 5]
    names = [kept.record.stream_id for kept in store.find(Query())]
    assert names == [f"stream-{number}" for number in (5, 4, 3, 2, 1)]
    page = store.find(Query(limit=2))
    rest = store.find(Query(cursor=Cursor(False, page[-1].ended, page[-1].record.stream_id)))
    assert [kept.record.stream_id for kept in [*page, *rest]] == names
    assert len(store.find(Query(columns={"outcome": ("upstream_error",)}))) == 2
    assert len(store.find(Query(columns={"outcome": ("upstream_error", "completed"), "route": ("chat",)}))) == 5
    assert len(store.find(Query(columns={"upstream": ("slow",)}))) == 0
    assert [kept.record.stream_id for kept in store.find(Query(stalled=True))] == ["stream-5"]
    assert len(store.find(Query(slow=True))) == 5
    assert len(store.find(Query(slow=0.31))) == 0
    assert len(store.find(Query(since=page[-1].ended))) == 2
    kept = store.one("stream-3")
    assert kept is not None
    assert kept.cost == 0.5
    assert kept.record == make_record(3, ended_at=105.0, received_unix=kept.record.received_unix)
    assert [kept.record.stream_id for kept in store.trace(f"{3:032x}")] == ["stream-3"]
    assert store.one("nobody") is None
    assert store.newest_ids(2) == ["stream-5", "stream-4"]


def test_dimensions_are_filters(store: Store, make_record: MakeRecord) -> None:
    """Prompt, version, session, tags and time: all must hold, and pages go through in order whatever leads."""
    for number in range(1, 13):
        named = {"prompt_name": f"p{number % 2}", "prompt_version": str(number % 3), "session_id": "it's; --" if number < 5 else None}
        tags = {"env": "prod", "shard": str(number % 4)} if number != 12 else {}
        store.put(account(make_record(number, ended_at=102.0 + number, tags=tags, **named)), None)
        store.say(Opinion(f"stream-{number}", number % 3 - 1, None, 1.0))
    store.close(5)
    ended = {kept.record.stream_id: kept.ended for kept in store.find(Query())}

    def found(**asked: Any) -> list[int]:
        """Page through, three at a time."""
        numbers: list[int] = []
        query = Query(limit=3, **asked)
        while page := store.find(query):
            numbers += [int(kept.record.stream_id.removeprefix("stream-")) for kept in page]
            query = Query(limit=3, cursor=Cursor(False, page[-1].ended, page[-1].record.stream_id), **asked)
        return numbers

    assert found(columns={"prompt": ("p1",)}) == [11, 9, 7, 5, 3, 1]
    assert found(columns={"prompt": ("p1", "p0"), "prompt_version": ("2",)}) == [11, 8, 5, 2]
    assert found(columns={"session": ("it's; --",)}) == [4, 3, 2, 1]
    assert found(tags=(("env", "prod"),)) == list(range(11, 0, -1))
    assert found(tags=(("env", "prod"), ("shard", "3"))) == [11, 7, 3]
    assert found(tags=(("shard", "3"), ("env", "prod")), columns={"route": ("chat",), "session": ("it's; --",)}) == [3]
    assert found(tags=(("shard", "3"), ("shard", "2"))) == []
    assert found(tags=(("shard", "1' OR '1'='1"),)) == []
    assert found(tags=(("shard", "1"),), since=ended["stream-5"], until=ended["stream-8"]) == [5]
    assert found(since=ended["stream-5"], until=ended["stream-7"]) == [7, 6, 5]
    assert found(feedback=(-1,)) == [12, 9, 6, 3]
    assert found(feedback=(-1, 1), tags=(("shard", "1"),), columns={"prompt": ("p1",)}) == [9, 5]


@pytest.mark.parametrize(
    ("asked", "through"),
    [
        (Query(), "streams_ended"),
        (Query(columns={"prompt": ("a",), "prompt_version": ("1",)}), "streams_prompt"),
        (Query(columns={"session": ("a",)}, since=1.0, tags=(("a", "b"),)), "streams_session"),
        (Query(tags=(("a", "b"), ("c", "d")), columns={"route": ("chat",)}), "tag USING PRIMARY KEY"),
        (Query(feedback=(-1,), tags=(("a", "b"),)), "feedback_score"),
    ],
)
def test_what_is_asked_for_is_found_by_an_index(store: Store, asked: Query, through: str) -> None:
    """No question reads every row, and what leads is in the order of the list but for feedback, which is rare."""
    store.prepare()
    source, values = asked.sql()
    with closing(sqlite3.connect(store.path)) as connection:
        steps = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN SELECT record {source}", values)]
    assert through in steps[0]
    assert any("TEMP B-TREE" in step for step in steps) == bool(asked.feedback)


def test_a_record_told_twice_is_kept_once(store: Store, make_record: MakeRecord) -> None:
    """A worker that tells again what was stored changes nothing."""
    for _ in range(3):
        store.put(account(make_record(1)), None)
    store.close(5)
    assert len(store.find(Query())) == 1
    assert store.batches.dropped == 0


def test_what_is_old_goes(store: Store, make_record: MakeRecord) -> None:
    """Rows older than the retention are deleted."""
    new = make_record(1)
    store.put(account(make_record(2, received_unix=new.received_unix - 4000)), None)
    store.put(account(new), None)
    store.close(5)
    assert [kept.record.stream_id for kept in store.find(Query())] == ["stream-1"]


def test_a_file_that_is_no_database_is_set_aside(tmp_path: Path, make_record: MakeRecord) -> None:
    """The broken file is kept under another name, and a new one begun without losing a row."""
    path = tmp_path / "weir.db"
    path.write_bytes(b"this is not a database at all" * 100)
    store = Store(str(path), 3600.0, lambda _: None)
    store.start()
    with pytest.raises(StoreUnreadable):
        store.find(Query())
    store.put(account(make_record(1, tags={"env": "prod"})), None)
    store.say(Opinion("stream-1", -1, None, 1.0))
    store.close(5)
    assert len(store.find(Query(tags=(("env", "prod"),), feedback=(-1,)))) == 1
    assert store.batches.dropped == 0
    assert (tmp_path / "weir.db.corrupt-1").read_bytes().startswith(b"this is not")


def test_a_locked_file_costs_rows(store: Store, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that a lock keeps out are counted, their receipts given back, and the next ones written."""
    monkeypatch.setattr(module, "LOCK_WAIT", 0.05)
    with sqlite3.connect(store.path) as other:
        other.execute("CREATE TABLE t (x)")
        other.commit()
        other.execute("BEGIN EXCLUSIVE")
        store.put(account(make_record(1)), Receipt(0, 1, 1))
        wait_for(lambda: store.batches.dropped == 1)
        other.rollback()
    other.close()
    store.put(account(make_record(2)), Receipt(0, 1, 2))
    store.close(5)
    assert [kept.record.stream_id for kept in store.find(Query())] == ["stream-2"]


def test_a_full_disk_costs_rows(tmp_path: Path, make_record: MakeRecord) -> None:
    """/dev/full stands for a disk without room, a missing folder for one that is gone: counted, carried on; what was said is not counted
    as heard."""
    for path in ("/dev/full", str(tmp_path / "nowhere" / "weir.db")):
        given: list[Receipt] = []
        answered: list[Answers] = []
        store = Store(path, 3600.0, given.extend, answered=answered.append)
        store.prepare()
        store.start()
        store.put(account(make_record(1)), Receipt(0, 1, 1))
        store.say(Opinion("stream-1", 1, None, 1.0))
        store.close(5)
        assert store.batches.dropped == 2
        assert (len(given), answered) == (1, [])
        assert store.reach(1e9) is None


def test_a_file_deleted_under_us_does_not_stop_it(store: Store, make_record: MakeRecord) -> None:
    """Reading a store that is gone finds nothing; the writer goes on."""
    store.put(account(make_record(1)), None)
    wait_for(lambda: store.path.exists() and bool(store.find(Query())))
    shutil.rmtree(store.path.parent)
    assert store.find(Query()) == []
    assert store.put(account(make_record(2)), None)
    wait_for(lambda: store.batches.dropped == 1)
    store.path.parent.mkdir()
    store.put(account(make_record(3, tags={"env": "prod"})), None)
    store.say(Opinion("stream-3", 1, None, 1.0))
    store.close(5)
    assert [kept.record.stream_id for kept in store.find(Query(tags=(("env", "prod"),), feedback=(1,)))] == ["stream-3"]


def test_a_rule_in_the_file_costs_rows(store: Store, make_record: MakeRecord) -> None:
    """A row that the file itself refuses is lost and counted; the file is not broken, and not set aside for it."""
    store.prepare()
    with closing(sqlite3.connect(store.path)) as connection:
        connection.execute("CREATE TRIGGER no BEFORE INSERT ON streams WHEN NEW.route = 'no' BEGIN SELECT RAISE(ABORT, 'no'); END")
    store.put(account(make_record(1, route="no")), None)
    wait_for(lambda: store.batches.dropped == 1)
    store.put(account(make_record(2)), None)
    store.close(5)
    assert (store.set_aside, [kept.record.stream_id for kept in store.find(Query())]) == (0, ["stream-2"])


def test_a_full_queue_refuses(tmp_path: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound rows are refused and counted, never waited for."""
    monkeypatch.setattr(module, "QUEUE", 3)
    store = Store(str(tmp_path / "weir.db"), 3600.0, lambda _: None)
    assert [store.put(account(make_record(number)), None) for number in range(5)] == [True] * 3 + [False] * 2
    store.start()
    store.close(5)
    assert store.batches.dropped == 2
    assert len(store.find(Query())) == 3


def test_infinity_survives(make_record: MakeRecord) -> None:
    """A gap above every bound comes back as it went, though JSON has no infinity."""
    record = make_record(cadence=Cadence(chunks=2, gaps=[(0.5, 1), (inf, 2)], gap_max=100.0))
    assert thaw(freeze(record)) == record
    assert "null" in freeze(record)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_records_that_wait_are_bounded_by_their_memory(tmp_path: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long streams fill the queue sooner than many short ones, and what is refused is counted; once written there is room again."""
    long = account(make_record(1, cadence=Cadence(chunks=12_288, ticks=[1] * 4096, counts=[(place, 3) for place in range(4096)])))
    monkeypatch.setattr(module, "QUEUE_BYTES", 2 << 20)
    store = Store(str(tmp_path / "weir.db"), 3600, lambda _: None)
    assert [store.put(long, None) for _ in range(5)] == [True, True, True, False, False]
    assert store.put(account(make_record(2)), None)
    assert store.batches.dropped == 2
    store.start()
    due = time.monotonic() + 10
    while not store.put(long, None) and time.monotonic() < due:
        time.sleep(0.01)
    store.close(5)
    assert len(store.find(Query())) == 2
    assert time.monotonic() < due
