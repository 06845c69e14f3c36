"""How Weir's processes speak to their operator: one line an event on stderr, as text or as JSON."""

import asyncio
import logging
import os
import sys
from typing import Any, Literal

import orjson

LogFormat = Literal["json", "console"]
log = logging.getLogger("weir.loop")
DEEPEST = 5
"""Places that a log line names of an exception's way."""
TEXT = "%(asctime)s %(levelname)-7s %(name)s[%(process)d] %(message)s"


class Lines(logging.Formatter):
    """Text; an exception, whichever library logs it, is one line that says where it came up."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        """Return what may be said of an exception."""
        return blunder(ei[1]) if ei[1] is not None else ""


class JsonLines(Lines):
    """One JSON object a line; an exception is a field of it, not more lines."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"at": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"), "level": record.levelname.lower(), "log": record.name}
        line |= {"pid": str(record.process), "message": record.getMessage()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # Half a surrogate pair, which an odd header or name may hold, is no text for JSON: it becomes "?", and the line is not lost.
        return orjson.dumps({name: value.encode("utf-8", "replace").decode() for name, value in line.items()}).decode()


def blunder(error: BaseException) -> str:
    """Say of an exception that nobody expected what it is and where it came up, the last place first.

    Not its words: they may quote a key, a prompt or an answer ("invalid literal for int(): 'sk-...'").
    """
    places, step = [], error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        places.append(f"{os.path.basename(code.co_filename)}:{step.tb_lineno} in {code.co_name}")  # noqa: PTH119 - no path is touched
        step = step.tb_next
    cause = f"; from {blunder(error.__cause__)}" if error.__cause__ is not None and error.__cause__ is not error else ""
    system = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""  # the system's words, not ours or a caller's
    return f"{type(error).__name__}{system} at {' < '.join(reversed(places[-DEEPEST:])) or 'a place unknown'}{cause}"


def tell_of(loop: asyncio.AbstractEventLoop, said: dict[str, Any]) -> None:  # noqa: ARG001 - asyncio's signature
    """Log what an event loop found nobody to raise to: its exception handler, for processes of ours."""
    error = said.get("exception")
    log.error("%s%s", said.get("message", "unhandled"), f": {blunder(error)}" if isinstance(error, BaseException) else "")


def configure(how: LogFormat, level: int = logging.INFO) -> None:
    """Send every log of this process, and of the processes forked from it, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if how == "json" else Lines(TEXT))
    logging.basicConfig(level=level, handlers=[handler], force=True)
