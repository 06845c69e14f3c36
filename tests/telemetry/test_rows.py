"""Export: stored streams as flat rows in JSON lines and Parquet, read while they are written, without holding them all."""

import importlib.util
import json
import os
import sqlite3
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.core.answer import ToolCall
from gateway.core.content import Content
from gateway.core.messages import Said
from gateway.core.record import Cadence, StreamRecord
from gateway.telemetry import rows as module
from gateway.telemetry import sheets
from gateway.telemetry.account import account
from gateway.telemetry.moments import moment
from gateway.telemetry.rows import COLUMNS, Wanted, read, row
from gateway.telemetry.sheets import NoParquet, parquet, written
from gateway.telemetry.store import Store, StoreUnreadable, _row
from tests.telemetry.test_contents import said

MakeRecord = Callable[..., StreamRecord]
PAGE = (Path(__file__).parents[2] / "docs" / "content.md").read_text()
ROUTES = """
upstreams: {fast: {base_url: "http://127.0.0.1:1/v1"}}
routes: [{name: chat, targets: [{upstream: fast}]}]
telemetry: {store: {path: weir.db}}
"""


@pytest.fixture
def folder(tmp_path: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a configuration and a store of seven streams, an hour apart; the third one's words are kept."""
    (tmp_path / "routes.yaml").write_text(ROUTES)
    store = Store(str(tmp_path / "weir.db"), 1e9, lambda _: None)
    for number in range(1, 8):
        cadence = Cadence(chunks=5, gap_p50=0.03, stall_count=1, stall_time={"client": 1.5})
        record = make_record(
            number,
            received_unix=1_700_000_000.0 + 3600 * number,
            outcome="completed" if number % 2 else "upstream_error",
            route="chat" if number < 6 else "other",
            prompt_name="greeting",
            tags={"team": "a,b"},
            cadence=cadence,
        )
        store.put(account(record, cost=0.25), None)
        if number == 3:
            store.keep(said(3, text="héllo 😀", tools=[ToolCall("1", "look", "{}")], cut=True))
    store.start()
    store.close(5.0)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ids(path: Path, **wanted: Any) -> list[int]:
    return [int(stored.record.stream_id[-1]) for stored in read(path / "weir.db", Wanted(**wanted))]


def test_which_streams(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest first; each filter narrows, all must hold; pages of any size give the same."""
    start = 1_700_000_002.0
    for page in (1, 2, 3, 7, 100):
        monkeypatch.setattr(module, "PAGE", page)
        assert ids(folder) == [7, 6, 5, 4, 3, 2, 1]
        assert ids(folder, limit=3) == [7, 6, 5]
        assert ids(folder, since=start + 3600 * 3, until=start + 3600 * 6) == [5, 4, 3]
        assert ids(folder, routes=("chat",), outcomes=("completed", "shutdown")) == [5, 3, 1]
        assert ids(folder, routes=("nobody",)) == []


def test_a_row_is_what_is_known(folder: Path) -> None:
    """Ids, times, figures and words, each under its name; none where nothing is known."""
    found = {stored.record.stream_id: row(stored) for stored in read(folder / "weir.db", Wanted())}
    kept, bare = found["stream-3"], found["stream-2"]
    assert list(kept) == [column.name for column in COLUMNS]
    assert (kept["route"], kept["upstream"], kept["asked_model"], kept["outcome"], kept["finish"]) == (
        *("chat", "fast", "gpt-4o-mini", "completed", "stop"),
    )
    assert (kept["received"], kept["ended"]) == (1_700_010_800.0, 1_700_010_802.0)
    assert (kept["ttft"], kept["duration"]) == (pytest.approx(0.3), pytest.approx(2.0))
    assert (kept["input_tokens"], kept["cached_tokens"], kept["output_tokens"], kept["cost_usd"]) == (10, 4, 5, 0.25)
    assert (kept["stalls"], kept["stall_upstream"], kept["stall_client"]) == (1, 0.0, 1.5)
    assert (kept["prompt_name"], kept["prompt_version"], kept["tags"]) == ("greeting", None, {"team": "a,b"})
    assert (kept["prompt"]["messages"][0]["content"], kept["text"], kept["content_cut"]) == ("hi", "héllo 😀", True)
    assert kept["tools"] == [{"id": "1", "name": "look", "arguments": "{}"}]
    assert {bare[name] for name in ("prompt", "text", "reasoning", "refusal", "tools", "content_cut", "feedback")} == {None}


def test_the_page_lists_every_column() -> None:
    """docs/content.md says what a row has, neither less nor more, in its order."""
    table = PAGE.partition("## Export")[2]
    listed = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| `")]
    named = [(name.strip(), kind.strip()) for names, kind in listed for name in names.split(",")]
    assert named == [(f"`{column.name}`", column.kind) for column in COLUMNS]


def test_feedback_comes_along(folder: Path) -> None:
    """What somebody thought of an answer is in its row, where the file has it; a file without tables for it is read as well."""
    with sqlite3.connect(folder / "weir.db") as connection:
        connection.execute("INSERT INTO feedback VALUES ('stream-3', -1, 'no', 1.0)")
    found = {stored.record.stream_id: row(stored) for stored in read(folder / "weir.db", Wanted())}
    assert (found["stream-3"]["feedback"], found["stream-3"]["feedback_comment"], found["stream-2"]["feedback"]) == (-1, "no", None)
    with sqlite3.connect(folder / "weir.db") as connection:
        connection.executescript("DROP TABLE feedback; DROP TABLE contents")
    assert ids(folder) == [7, 6, 5, 4, 3, 2, 1]


def run(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["export", *arguments])


def test_json_lines(folder: Path) -> None:
    """Each line is a row; stdout takes them too; the file is there whole or not at all."""
    assert run("-o", "all.jsonl").exit_code == 0
    rows = [orjson.loads(line) for line in (folder / "all.jsonl").read_bytes().splitlines()]
    assert [each["stream_id"] for each in rows] == [f"stream-{number}" for number in (7, 6, 5, 4, 3, 2, 1)]
    assert rows[4]["text"] == "héllo 😀"
    streamed = run("-o", "-", "--limit", "2", "--route", "chat", "--outcome", "completed")
    assert [orjson.loads(line)["stream_id"] for line in streamed.output.splitlines()] == ["stream-5", "stream-3"]
    assert [path.name for path in folder.glob("*.part")] == []


def test_times_on_the_command_line(folder: Path) -> None:
    """An age, a date, a time or Unix seconds."""
    for since, count in (("2023-11-15", 6), ("2023-11-15T02:13:25", 3), ("1700018000", 3), ("1d", 0), ("100000d", 7)):
        assert len(run("-o", "-", "--since", since).output.splitlines()) == count, since
    assert len(run("-o", "-", "--until", "2023-11-15").output.splitlines()) == 1
    assert moment("2026-03-01", 0.0) == datetime(2026, 3, 1, tzinfo=UTC).timestamp()
    assert moment("2026-03-01T10:05+02:00", 0.0) == datetime(2026, 3, 1, 8, 5, tzinfo=UTC).timestamp()
    assert moment("90m", 10_000.0) == 4600.0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("-o", "x", "--since", "yesterday"), 2, "must be an age such as 1d"),
        (("-o", "x", "--since", "nan"), 2, "must be an age"),
        (("-o", "-", "--format", "parquet"), 2, "Parquet needs a file"),
        (("-o", "no/such/folder/x"), 1, "No such file"),
        ((), 2, "'-o' / '--output'"),
    ],
)
def test_mistakes_are_one_line(folder: Path, arguments: tuple[str, ...], code: int, words: str) -> None:
    """What is wrong is said in one line, and nothing is left behind."""
    ran = run(*arguments)
    assert (ran.exit_code, len(ran.output.splitlines())) == (code, 1)
    assert words in ran.output
    assert sorted(path.name for path in folder.iterdir()) == ["routes.yaml", "weir.db"]


def test_a_store_that_is_not_there(folder: Path) -> None:
    """No store, and a file that is none, are told apart."""
    (folder / "weir.db").write_bytes(b"no database" * 1000)
    ran = run("-o", "x")
    assert (ran.exit_code, len(ran.output.splitlines())) == (1, 1)
    with pytest.raises(StoreUnreadable):
        list(read(folder / "weir.db", Wanted()))
    (folder / "weir.db").unlink()
    assert "there is no store at weir.db yet" in run("-o", "x").output
    (folder / "routes.yaml").write_text(ROUTES.replace("weir.db", "off"))
    assert "telemetry.store.path is off" in run("-o", "x").output


def test_without_pyarrow_parquet_says_what_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that names what to install, and no file."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    ran = run("-o", "all.parquet")
    assert (ran.exit_code, ran.output) == (1, "weir: Parquet needs pyarrow: pip install 'tokenweir[export]'\n")
    assert list(folder.glob("all.parquet*")) == []
    with pytest.raises(NoParquet):
        parquet([], folder / "x.parquet")


def test_a_file_that_cannot_be_finished_leaves_the_old_one(folder: Path) -> None:
    """What was there stays until the new one is whole."""
    place = folder / "all.jsonl"
    place.write_text("old")

    def broken() -> Any:
        yield {"a": 1}
        raise StoreUnreadable("gone")

    with pytest.raises(StoreUnreadable):
        written(broken(), "jsonl", place, lambda _: None)
    assert (place.read_text(), list(folder.glob("*.part"))) == ("old", [])


def test_parquet_is_read_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rows with typed columns, JSON as text, in several groups; other tools read it."""
    pq = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(sheets, "PIECE_ROWS", 3)
    assert run("-o", "all.parquet").exit_code == 0
    table = pq.read_table(folder / "all.parquet")
    assert (pq.ParquetFile(folder / "all.parquet").num_row_groups, table.num_rows) == (3, 7)
    types = {"text": "string", "json": "string", "int": "int64", "float": "double", "bool": "bool"}
    assert [(field.name, str(field.type)) for field in table.schema] == [(column.name, types[column.kind]) for column in COLUMNS]
    rows = [row(stored) for stored in read(folder / "weir.db", Wanted())]
    for one, other in zip(table.to_pylist(), rows, strict=True):
        for column in COLUMNS:
            there, here = one[column.name], other[column.name]
            assert (json.loads(there) if column.kind == "json" and there is not None else there) == here
    if importlib.util.find_spec("duckdb"):
        question = "SELECT text FROM 'all.parquet' WHERE json_extract_string(tags, 'team') = 'a,b' AND text IS NOT NULL"
        ask = f'import duckdb; print(duckdb.sql("{question}").fetchall())'
        ran = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True, env=dict(os.environ), timeout=60)
        assert "héllo 😀" in ran.stdout


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_large_store_is_never_in_memory(tmp_path: Path, make_record: MakeRecord, kind: str) -> None:
    """Memory is that of a piece: it does not grow with the file, here 20,000 rows after 6,000."""
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / "weir.db"
    store = Store(str(path), 1e10, lambda _: None)
    store.put(account(make_record(0)), None)
    store.start()
    store.close(5.0)
    values = list(_row(account(make_record(1))))
    with sqlite3.connect(path) as connection:
        many = ((f"s{number:07d}", values[1], 1e9 + number, *values[3:]) for number in range(20_000))
        connection.executemany(f"INSERT INTO streams VALUES ({','.join('?' * len(values))})", many)
    assert sum(1 for _ in read(path, Wanted())) == 20_001
    peaks = []
    for limit in (6000, 20_000):
        tracemalloc.start()
        assert written(map(row, read(path, Wanted(limit=limit))), kind, tmp_path / "x", lambda _: None) == limit
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + 1_000_000
    assert peaks[1] < 64 * 1024 * 1024


def test_the_writer_goes_on_meanwhile(folder: Path, make_record: MakeRecord) -> None:
    """A store that is written while it is exported loses nothing on either side."""
    store = Store(str(folder / "weir.db"), 1e9, lambda _: None)
    store.start()
    found = []
    for stored in read(folder / "weir.db", Wanted()):
        found.append(stored.record.stream_id)
        store.put(account(make_record(100 + len(found))), None)
    store.close(5.0)
    assert store.batches.dropped == 0
    assert found == [f"stream-{number}" for number in (7, 6, 5, 4, 3, 2, 1)]
    assert len(list(read(folder / "weir.db", Wanted()))) == 14


def test_a_prompt_of_any_depth_is_written(folder: Path) -> None:
    """Nested more deeply than one library writes it, another does."""
    deep: Any = "x"
    for _ in range(400):
        deep = [deep]
    content = Content(prompt=json.dumps({"messages": deep}).encode(), text="t")
    store = Store(str(folder / "weir.db"), 1e9, lambda _: None)
    store.keep(Said("stream-7", msgspec.msgpack.encode(content)))
    store.start()
    store.close(5.0)
    assert run("-o", "all.jsonl", "--limit", "1").exit_code == 0
    assert json.loads((folder / "all.jsonl").read_text())["prompt"] == {"messages": deep}
