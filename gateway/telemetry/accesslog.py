"""The access log: one JSON line per stream, written in a thread of its own, to standard error or to a file that may be rotated."""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import orjson

from gateway.telemetry.account import Account
from gateway.telemetry.batches import Batches

QUEUE, BATCH, WINDOW = 10_000, 500, 0.2


class AccessLog:
    """Writes to `target`: "stderr" or a path."""

    def __init__(self, target: str) -> None:
        self._path = None if target == "stderr" else Path(target)
        self._file: TextIO | None = None
        self.batches: Batches[Account] = Batches("access log lines", self._write, limit=QUEUE, batch=BATCH, window=WINDOW)

    def close(self, seconds: float) -> None:
        """Write what is queued, for at most `seconds`."""
        if self.batches.close(seconds) and self._file is not None:
            self._file.close()

    def _write(self, batch: list[Account]) -> int:
        lines = b"".join(line(account) for account in batch).decode()
        out = sys.stderr if self._path is None else self._opened(self._path)
        out.write(lines)
        out.flush()
        return 0

    def _opened(self, path: Path) -> TextIO:
        """Return the file that the path names now: after a rotation that is another one."""
        if self._file is not None and not _is(self._file, path):
            self._file.close()
            self._file = None
        if self._file is None:
            self._file = path.open("a", encoding="utf-8")
        return self._file


def line(account: Account) -> bytes:
    """Return the line of one stream: times in ms, null where unknown."""
    record = account.record
    ended = record.received_at if record.ended_at is None else record.ended_at
    return orjson.dumps(
        {
            "time": datetime.fromtimestamp(record.unix_ns(ended) / 1e9, UTC).isoformat(timespec="milliseconds"),
            "stream_id": record.stream_id,
            "trace_id": record.trace_id,
            "route": record.route or None,
            "upstream": record.upstream or None,
            "model": record.asked_model or None,
            "outcome": record.outcome,
            "error": record.error,
            "status": record.status,
            "ttft_ms": _ms(account.ttft),
            "duration_ms": _ms(account.duration),
            "chunks": record.cadence.chunks,
            "bytes": record.bytes,
            "input_tokens": record.usage.input if record.usage else None,
            "output_tokens": record.usage.output if record.usage else None,
            "cost_usd": account.cost,
            "stalls": record.cadence.stall_count,
            "attempts": len(record.attempts),
            "worker": record.worker,
            "prompt": record.prompt_name,
            "prompt_version": record.prompt_version,
            "session": record.session_id,
            "tags": record.tags,
        },
        option=orjson.OPT_APPEND_NEWLINE,
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def _is(file: TextIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False
