"""How Weir's processes speak to their operator: one line an event on stderr, as text or as JSON."""

import logging
import sys
from typing import Literal

import orjson

LogFormat = Literal["json", "console"]
TEXT = "%(asctime)s %(levelname)-7s %(name)s[%(process)d] %(message)s"


class JsonLines(logging.Formatter):
    """One JSON object a line; an exception is a field of it, not more lines."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"at": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"), "level": record.levelname.lower(), "log": record.name}
        line |= {"pid": str(record.process), "message": record.getMessage()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # Half a surrogate pair, which an odd header or name may hold, is no text for JSON: it becomes "?", and the line is not lost.
        return orjson.dumps({name: value.encode("utf-8", "replace").decode() for name, value in line.items()}).decode()


def configure(how: LogFormat, level: int = logging.INFO) -> None:
    """Send every log of this process, and of the processes forked from it, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if how == "json" else logging.Formatter(TEXT))
    logging.basicConfig(level=level, handlers=[handler], force=True)
