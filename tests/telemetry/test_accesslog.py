"""The access log: one JSON line per stream, in a file that may be rotated under it."""

from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from gateway.core.record import StreamRecord
from gateway.telemetry.accesslog import AccessLog, line
from gateway.telemetry.account import account

MakeRecord = Callable[..., StreamRecord]


def test_a_line_says_what_happened(make_record: MakeRecord) -> None:
    """Ids, route, target, outcome and figures; one line, whatever the strings hold."""
    named = {"prompt_name": "greet", "prompt_version": "3", "tags": {"env": "prod"}}
    written = line(account(make_record(error="a\nb", received_unix=1_700_000_000.0, **named), cost=0.5))
    assert written.count(b"\n") == 1
    assert orjson.loads(written) == {
        "time": "2023-11-14T22:13:22.000+00:00",
        "stream_id": "stream-1",
        "trace_id": f"{1:032x}",
        "route": "chat",
        "upstream": "fast",
        "model": "gpt-4o-mini",
        "outcome": "completed",
        "error": "a\nb",
        "status": 200,
        "ttft_ms": 300.0,
        "duration_ms": 2000.0,
        "chunks": 5,
        "bytes": 900,
        "input_tokens": 10,
        "output_tokens": 5,
        "cost_usd": 0.5,
        "stalls": 0,
        "attempts": 1,
        "worker": 0,
        "prompt": "greet",
        "prompt_version": "3",
        "session": None,
        "tags": {"env": "prod"},
    }


def test_a_rotated_file_is_begun_anew(tmp_path: Path, make_record: MakeRecord) -> None:
    """After the file was moved away, lines go to a new one of the same name."""
    path = tmp_path / "access.log"
    for number in (1, 2):
        log = AccessLog(str(path))
        log.batches.start()
        log.batches.put(account(make_record(number)))
        log.close(5)
    assert len(path.read_text().splitlines()) == 2
    log = AccessLog(str(path))
    log._write([account(make_record(3))])
    path.rename(tmp_path / "access.log.1")
    log._write([account(make_record(4))])
    log.close(0)
    assert [orjson.loads(text)["stream_id"] for text in path.read_text().splitlines()] == ["stream-4"]
    assert len((tmp_path / "access.log.1").read_text().splitlines()) == 3


def test_a_path_nobody_can_write_costs_lines(tmp_path: Path, make_record: MakeRecord) -> None:
    """A missing folder is a counted loss."""
    log = AccessLog(str(tmp_path / "nowhere" / "access.log"))
    log.batches.start()
    log.batches.put(account(make_record()))
    log.close(5)
    assert log.batches.dropped == 1


def test_stderr(make_record: MakeRecord, capsys: pytest.CaptureFixture[str]) -> None:
    """`stderr` is the default target."""
    log = AccessLog("stderr")
    log.batches.start()
    log.batches.put(account(make_record()))
    log.close(5)
    assert orjson.loads(capsys.readouterr().err)["outcome"] == "completed"
