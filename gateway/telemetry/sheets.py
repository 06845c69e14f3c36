"""Rows of streams written to a file: JSON lines, or Parquet where pyarrow is installed. Memory is bounded by the piece being written."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from gateway.telemetry.rows import COLUMNS, Kind

PIECE_ROWS, PIECE_BYTES = 2000, 16 * 1024 * 1024
"""A row group of Parquet is at most so large, but for one row."""
TOLD_EVERY = 5000
Row = dict[str, Any]
Say = Callable[[str], None]


class NoParquet(Exception):
    """pyarrow is not installed."""


def lines(rows: Iterable[Row], out: BinaryIO) -> int:
    """Write one JSON object a line; returns how many."""
    count = 0
    for count, row in enumerate(rows, 1):  # noqa: B007 - the last one is the answer
        out.write(_line(row) + b"\n")
    return count


def _line(row: Row) -> bytes:
    try:
        return orjson.dumps(row)
    except TypeError:  # a prompt nested more deeply than orjson writes
        return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def parquet(rows: Iterable[Row], path: Path) -> int:
    """Write a Parquet file; returns how many rows. Raises NoParquet."""
    try:
        import pyarrow as pa  # noqa: PLC0415 - large, and an extra
        from pyarrow.parquet import ParquetWriter  # noqa: PLC0415
    except ImportError as error:
        raise NoParquet("Parquet needs pyarrow: pip install 'tokenweir[export]'") from error
    types: dict[Kind, Any] = {"text": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "json": pa.string()}
    schema = pa.schema([(column.name, types[column.kind]) for column in COLUMNS])
    count = 0
    with ParquetWriter(path, schema, compression="zstd") as writer:
        for piece in _pieces(rows):
            writer.write_table(pa.Table.from_pylist(piece, schema=schema))
            count += len(piece)
    return count


def _pieces(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Gather rows as Parquet has them, in pieces that fit memory."""
    piece, size = list[Row](), 0
    for row in rows:
        flat = {column.name: _flat(row[column.name], column.kind) for column in COLUMNS}
        piece.append(flat)
        size += sum(len(value) for value in flat.values() if isinstance(value, str))
        if len(piece) >= PIECE_ROWS or size >= PIECE_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def _flat(value: Any, kind: Kind) -> Any:
    if value is None:
        return None
    if kind == "json":
        return _line(value).decode()
    return float(value) if kind == "float" else value


def written(rows: Iterable[Row], format: str, place: Path, say: Say) -> int:  # noqa: A002 - the option's word
    """Write a file in a format, whole or not at all: it gets its name when it is complete. Returns how many rows."""
    part = place.with_name(f"{place.name}.part")
    try:
        if format == "parquet":
            count = parquet(told(rows, say), part)
        else:
            with part.open("wb") as out:
                count = lines(told(rows, say), out)
        part.replace(place)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
    return count


def told(rows: Iterable[Row], say: Say) -> Iterator[Row]:
    """Pass rows on, and say now and then how many there were."""
    for count, row in enumerate(rows, 1):
        yield row
        if count % TOLD_EVERY == 0:
            say(f"{count} streams")
