"""The store's tables: what they are, how a file of an older version becomes one of this, and what goes when a stream goes."""

import sqlite3

import msgspec
from msgspec import Struct, field

VERSION = 2
"""In the file as `user_version`. A file of a later version is used as it is: tables and columns are added, never taken away."""
DEPENDENT = ("tags", "feedback", "contents")
"""Tables that say more about a stream, by `stream_id`: their rows go with it."""
PIECE = 2000
"""Rows brought up to date in one transaction."""
_COLUMNS = {"prompt": "TEXT", "prompt_version": "TEXT", "session": "TEXT"}
"""Columns of `streams` that version 0 had not."""
_TABLES = (
    """CREATE TABLE IF NOT EXISTS streams (
  stream_id TEXT NOT NULL UNIQUE, trace_id TEXT, ended REAL, received REAL, route TEXT, upstream TEXT, model TEXT, outcome TEXT,
  stalled INTEGER, slow INTEGER, ttft REAL, duration REAL, cost REAL, record TEXT
)""",
    # In the order of the list, so that a rare tag among many streams is found page by page without sorting.
    """CREATE TABLE IF NOT EXISTS tags (
  name TEXT NOT NULL, value TEXT NOT NULL, ended REAL NOT NULL, stream_id TEXT NOT NULL, PRIMARY KEY (name, value, ended, stream_id)
) WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS feedback (stream_id TEXT PRIMARY KEY, score INTEGER NOT NULL, comment TEXT, at REAL NOT NULL)",
    "CREATE TABLE IF NOT EXISTS contents (stream_id TEXT PRIMARY KEY, content BLOB NOT NULL)",
)
_INDEXES = (
    "CREATE INDEX IF NOT EXISTS streams_ended ON streams (ended, stream_id)",
    "CREATE INDEX IF NOT EXISTS streams_trace ON streams (trace_id)",
    # Of the streams that have one: who uses no prompts or sessions pays nothing for them.
    "CREATE INDEX IF NOT EXISTS streams_prompt ON streams (prompt, ended, stream_id, prompt_version) WHERE prompt IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS streams_session ON streams (session, ended, stream_id) WHERE session IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS tags_stream ON tags (stream_id)",
    "CREATE INDEX IF NOT EXISTS feedback_score ON feedback (score, stream_id)",
)
_OLDEST = "SELECT stream_id FROM streams WHERE ended < ? ORDER BY ended, stream_id LIMIT ?"
ADD_TAG = "INSERT OR IGNORE INTO tags (name, value, ended, stream_id) VALUES (?,?,?,?)"


def prepare(connection: sqlite3.Connection) -> None:
    """Make the tables, or bring those of an older version up to date. Raises sqlite3.Error; begun again, it goes on from the start.

    Columns and indexes are added in one transaction, old rows are read again in pieces, and the version is written last.
    """
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version >= VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        for table in _TABLES:
            connection.execute(table)
        known = {row[1] for row in connection.execute("PRAGMA table_info(streams)")}
        for name, kind in _COLUMNS.items():
            if name not in known:
                connection.execute(f"ALTER TABLE streams ADD COLUMN {name} {kind}")
        for index in _INDEXES:
            connection.execute(index)
    if version < 1:
        _fill(connection)
    connection.execute(f"PRAGMA user_version = {VERSION}")


def forget_oldest(transaction: sqlite3.Connection, before: float, count: int) -> int:
    """Delete the oldest streams, at most `count` of those that ended before `before` (unix seconds), and all that hangs on them."""
    for table in DEPENDENT:
        transaction.execute(f"DELETE FROM {table} WHERE stream_id IN ({_OLDEST})", (before, count))  # noqa: S608 - names of our own
    return transaction.execute(f"DELETE FROM streams WHERE stream_id IN ({_OLDEST})", (before, count)).rowcount  # noqa: S608


class _Said(Struct):
    """What the record of an old row says of what has columns now."""

    prompt_name: str | None = None
    prompt_version: str | None = None
    session_id: str | None = None
    tags: dict[str, str] = field(default_factory=dict)


_SAID = msgspec.json.Decoder(_Said)


def _fill(connection: sqlite3.Connection) -> None:
    """Write into the new columns and tables what the records of old rows hold."""
    last = -1
    while rows := connection.execute(
        "SELECT rowid, stream_id, ended, record FROM streams WHERE rowid > ? ORDER BY rowid LIMIT ?", (last, PIECE)
    ).fetchall():
        last = rows[-1][0]
        columns, tags = [], []
        for rowid, stream_id, ended, record in rows:
            said = _read(record)
            if said.prompt_name or said.prompt_version or said.session_id:
                columns.append((said.prompt_name, said.prompt_version, said.session_id, rowid))
            tags += [(name, value, ended, stream_id) for name, value in said.tags.items()]
        with connection:
            connection.executemany("UPDATE streams SET prompt = ?, prompt_version = ?, session = ? WHERE rowid = ?", columns)
            connection.executemany(ADD_TAG, tags)


def _read(record: object) -> _Said:
    try:
        return _SAID.decode(record) if isinstance(record, str | bytes) else _Said()
    except (msgspec.MsgspecError, UnicodeError):
        return _Said()  # a row that nobody can read has nothing to be found by
