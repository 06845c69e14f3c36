"""Logs: one line an event, as text or as JSON, whatever is in it."""

import logging
import subprocess
import sys

import orjson
import pytest

from gateway.logs import JsonLines

PROGRAM = """
import logging
from gateway import logs
logs.configure({how!r})
log = logging.getLogger("weir.test")
log.info("it is %s", "an\\nodd \\u2028 thing")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("it failed")
log.debug("nobody hears this")
"""


def logged(how: str) -> str:
    """Return what a program that logs two things says on stderr; stdout stays empty."""
    ran = subprocess.run([sys.executable, "-c", PROGRAM.format(how=how)], capture_output=True, text=True, check=True, timeout=30)
    assert ran.stdout == ""
    return ran.stderr


def test_json_logs_are_one_object_a_line() -> None:
    """A line break in a message or a traceback makes no second line; time, level, logger and process are fields."""
    lines = [orjson.loads(line) for line in logged("json").split("\n") if line]
    assert [(line["level"], line["log"], line["message"]) for line in lines] == [
        ("info", "weir.test", "it is an\nodd \u2028 thing"),
        ("error", "weir.test", "it failed"),
    ]
    assert "ZeroDivisionError" in lines[1]["exception"]
    assert "exception" not in lines[0]
    assert all(line["pid"].isdigit() and line["at"][:2] == "20" and line["at"][-5] in "+-" for line in lines)


def test_text_logs_name_time_level_logger_and_process() -> None:
    """The console form is for reading."""
    first = logged("console").splitlines()[0]
    assert " INFO    weir.test[" in first
    assert first.endswith("it is an")


@pytest.mark.parametrize("text", ["\ud800 alone", "\x00\x1b[31m"])
def test_text_that_json_cannot_hold_is_logged_all_the_same(text: str) -> None:
    """A log line is never lost to what is in it: control characters are escaped, half a surrogate pair is replaced."""
    line = JsonLines().format(logging.LogRecord("weir", logging.INFO, "", 0, "%s", (text,), None))
    assert orjson.loads(line)["message"].strip("?\ufffd ").endswith(("alone", "[31m"))
