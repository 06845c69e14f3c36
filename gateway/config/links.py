"""Links from the console to other tools: URLs with places in braces that a page fills in, encoded, with what it shows."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

LINKED = ("trace_id", "span_id", "stream_id", "route", "upstream", "from_ms", "to_ms")
"""What a template may name; `from_ms` and `to_ms` are unix milliseconds."""
_PLACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


def _template(value: str) -> str:
    if re.search(r"[^\x21-\x7e]|\\", value):
        raise PydanticCustomError("url", "must be a URL in plain ASCII without spaces")
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise PydanticCustomError("url", "must be a URL with a valid host and port") from None
    if parts.scheme not in ("http", "https") or not host:
        raise PydanticCustomError("url", "must be an http:// or https:// URL with a host")
    if "@" in parts.netloc or "{" in parts.netloc:  # a place would let what a stream says choose the machine that a link leads to
        raise PydanticCustomError("url", "must hold neither a user name nor a place before its path")
    for name in _PLACE.findall(value):
        if name not in LINKED:
            raise PydanticCustomError(
                "url", "'{name}' is no place in a link; there are {known}", {"name": name, "known": ", ".join(LINKED)}
            )
    return value


LinkTemplate = Annotated[str, AfterValidator(_template)]
