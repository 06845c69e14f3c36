"""The members of a request that Weir acts on, read as leniently as upstreams read them, and the one it may add."""

from typing import Any

import msgspec
from msgspec import Struct

from gateway.dialects.lenient import encodable, read_object, truth
from gateway.wire import document


class Request(Struct):
    """Their types are checked by hand: what we do not need must not be our reason to refuse a call."""

    model: Any = None
    stream: Any = None
    stream_options: Any = None
    temperature: Any = None
    top_p: Any = None
    max_tokens: Any = None
    max_completion_tokens: Any = None
    seed: Any = None
    n: Any = None


_REQUEST = msgspec.json.Decoder(Request)


def read_request(body: bytes) -> Request:
    """Raises `core.errors.Rejected` when the body is no JSON object."""
    try:
        return _REQUEST.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _read_request_leniently(body)


def _read_request_leniently(body: bytes) -> Request:
    """Read what msgspec refuses and upstreams may take: lone surrogates, as JavaScript writes them for a string cut in two."""
    asked = read_object(body)
    request = Request(**{field: asked.get(field) for field in Request.__struct_fields__})
    if isinstance(request.model, str):
        request.model = encodable(request.model)
    return request


def ask_for_usage(body: bytes) -> bytes:
    """Return the body with `stream_options.include_usage` set."""
    if document.find_members(body, "stream_options"):
        return document.edit_member(body, "stream_options", _with_usage)
    return document.insert_member(body, "stream_options", _ASKING)


_ASKING = b'{"include_usage":true}'


def _with_usage(options: bytes) -> bytes:
    if not options.startswith(b"{"):
        return _ASKING  # null: anything else was taken for an answer of the client's own
    if document.find_members(options, "include_usage"):
        return document.replace_member(options, "include_usage", b"true")
    return document.insert_member(options, "include_usage", b"true")


def asked_for_usage(options: Any) -> bool | None:
    """What the client said; options of a wrong type are the upstream's to refuse, so they count as said, not as silence."""
    if options is None:
        return None
    if not isinstance(options, dict):
        return False
    return None if (said := options.get("include_usage")) is None else truth(said)
