"""Files of older versions, as the store finds them: brought up to date in place, without losing a row."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from gateway.core.content import Content
from gateway.core.messages import Said
from gateway.core.record import StreamRecord
from gateway.telemetry import schema
from gateway.telemetry.account import account
from gateway.telemetry.archive import freeze
from gateway.telemetry.opinions import Opinion
from gateway.telemetry.query import Query
from gateway.telemetry.store import Store, StoreUnreadable

MakeRecord = Callable[..., StreamRecord]
VERSION_0 = """
CREATE TABLE IF NOT EXISTS streams (
  stream_id TEXT NOT NULL UNIQUE, trace_id TEXT, ended REAL, received REAL, route TEXT, upstream TEXT, model TEXT, outcome TEXT,
  stalled INTEGER, slow INTEGER, ttft REAL, duration REAL, cost REAL, record TEXT
);
CREATE INDEX IF NOT EXISTS streams_ended ON streams (ended, stream_id);
CREATE INDEX IF NOT EXISTS streams_trace ON streams (trace_id);
"""
"""What was run on every file before there was a version in it."""
INSERT_0 = "INSERT OR IGNORE INTO streams VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)"


def dimensions(number: int) -> dict[str, object]:
    """Odd streams have a prompt, a session and tags."""
    if not number % 2:
        return {}
    return {"prompt_name": "greet", "prompt_version": str(number), "session_id": "s, 1", "tags": {"env": "prod", "n": str(number)}}


def old_row(record: StreamRecord) -> tuple[object, ...]:
    ended = record.received_unix + 2.0
    return (
        *(record.stream_id, record.trace_id, ended, record.received_unix, record.route, record.upstream, record.asked_model),
        *(record.outcome, 0, 0, 0.3, 2.0, None, freeze(record)),
    )


@pytest.fixture
def old(tmp_path: Path, make_record: MakeRecord) -> Path:
    """A file of version 0 with six streams, and a row whose record nobody can read."""
    path = tmp_path / "weir.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(VERSION_0)
        with connection:
            connection.executemany(INSERT_0, [old_row(make_record(number, **dimensions(number))) for number in range(1, 7)])
            connection.execute("INSERT INTO streams (stream_id, ended, record) VALUES ('odd', 1.0, '{not json')")
    return path


def opened(path: Path) -> Store:
    store = Store(str(path), 1e9, lambda _: None)
    store.prepare()
    return store


def names(store: Store, query: Query) -> list[str]:
    return sorted(kept.record.stream_id for kept in store.find(query))


def tables(path: Path) -> dict[str, str]:
    """Return what every table and index of a file has for columns."""
    with closing(sqlite3.connect(path)) as connection:
        named = [row[0] for row in connection.execute("SELECT name FROM sqlite_master ORDER BY name")]
        return {name: str(connection.execute(f"SELECT * FROM pragma_table_info('{name}') ORDER BY name").fetchall()) for name in named}


def test_old_streams_are_found_by_what_was_only_in_their_records(
    old: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompt, version, session and tags of rows written before there were columns for them; new rows stand beside them."""
    monkeypatch.setattr(schema, "PIECE", 2)
    store = opened(old)
    store.start()
    store.put(account(make_record(7, **dimensions(7))), None)
    store.say(Opinion("stream-2", -1, None, 5.0))
    store.close(5)
    assert store.batches.dropped == 0
    assert names(store, Query(columns={"prompt": ("greet",)})) == ["stream-1", "stream-3", "stream-5", "stream-7"]
    assert names(store, Query(columns={"prompt_version": ("3", "7")})) == ["stream-3", "stream-7"]
    assert names(store, Query(columns={"session": ("s, 1",)}, tags=(("n", "5"),))) == ["stream-5"]
    assert names(store, Query(tags=(("env", "prod"), ("n", "1")))) == ["stream-1"]
    assert names(store, Query(feedback=(-1,))) == ["stream-2"]
    assert store.one("stream-4") is not None


def test_an_old_file_becomes_what_a_new_one_is(old: Path, tmp_path: Path) -> None:
    """Table by table and index by index, and once is enough."""
    opened(old)
    opened(tmp_path / "new.db")
    assert tables(old) == tables(tmp_path / "new.db")
    before = tables(old)
    opened(old)
    assert tables(old) == before


def test_a_change_that_was_cut_short_is_made_again(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recorder that dies in the middle leaves a file that the next one brings up to date."""
    monkeypatch.setattr(schema, "PIECE", 2)
    monkeypatch.setattr(schema, "ADD_TAG", "INSERT INTO nowhere VALUES (?,?,?,?)")
    opened(old)
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (0,)
    monkeypatch.undo()
    store = opened(old)
    assert names(store, Query(tags=(("env", "prod"),))) == ["stream-1", "stream-3", "stream-5"]


def test_a_locked_old_file_is_read_and_changed_later(old: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is set aside; a question is refused, not answered wrongly; the first row that can be written changes the file too."""
    monkeypatch.setattr("gateway.telemetry.store.LOCK_WAIT", 0.05)
    with closing(sqlite3.connect(old)) as other:
        other.execute("BEGIN EXCLUSIVE")
        store = opened(old)
        with pytest.raises(StoreUnreadable):
            store.find(Query())
        other.rollback()
    store.start()
    store.put(account(make_record(8, session_id="s, 1")), None)
    store.close(5)
    assert (store.set_aside, store.batches.dropped) == (0, 0)
    assert names(store, Query(columns={"session": ("s, 1",)})) == ["stream-1", "stream-3", "stream-5", "stream-8"]


def test_a_file_of_a_later_version_is_used_as_it_is(tmp_path: Path, make_record: MakeRecord) -> None:
    """After a step back in versions: what is more in it stays, and rows are added."""
    path = tmp_path / "weir.db"
    opened(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("ALTER TABLE streams ADD COLUMN mood TEXT; PRAGMA user_version = 99")
    store = opened(path)
    store.start()
    store.put(account(make_record(1)), None)
    store.close(5)
    assert names(store, Query()) == ["stream-1"]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (99,)


def test_all_that_hangs_on_a_stream_goes_with_it(tmp_path: Path, make_record: MakeRecord) -> None:
    """No table but `streams` keeps a row of a stream that is deleted; a new table has to be named among the dependent ones."""
    path, now = tmp_path / "weir.db", make_record().received_unix
    store = Store(str(path), 3600.0, lambda _: None, keeps=lambda _: True)
    store.start()
    for number, age in ((1, 9000.0), (2, 9000.0), (3, 0.0)):
        store.put(account(make_record(number, received_unix=now - age, tags={"env": "prod"})), None)
        store.say(Opinion(f"stream-{number}", 1, "so so", now))
        store.keep(Said(f"stream-{number}", msgspec.msgpack.encode(Content(prompt=b"{}"))))
    store.close(5)
    with closing(sqlite3.connect(path)) as connection:
        every = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        left = {name: connection.execute(f"SELECT stream_id FROM {name}").fetchall() for name in every}
    assert left == {name: [("stream-3",)] for name in ("streams", *schema.DEPENDENT)}
