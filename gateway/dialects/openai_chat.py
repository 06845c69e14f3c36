"""The OpenAI dialect: chat completions, completions and embeddings, as OpenAI and the many servers that follow it speak them.

Sources: the OpenAI API reference and openai-python `_streaming.py`; what other servers do differently is said where it is handled.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from gateway.core.call import Call
from gateway.core.errors import GatewayError, Rejected
from gateway.core.events import Delta, Event, ToolOpened
from gateway.dialects import openai_reader
from gateway.dialects.base import Endpoint, Reader
from gateway.wire import document, sse

ENDPOINTS = (
    Endpoint("POST", "/v1/chat/completions", "chat", "/chat/completions"),
    Endpoint("POST", "/v1/completions", "text_completion", "/completions"),
    Endpoint("POST", "/v1/embeddings", "embeddings", "/embeddings"),
)

_TRUE = frozenset({"true", "1", "yes", "on", "y", "t"})  # what pydantic, and so most Python servers, take for true
_WORD = 2**63  # larger integers fit neither a span nor the record link


class OpenAIChat:
    """The `openai` dialect."""

    name = "openai"
    endpoints = ENDPOINTS
    keepalive = b": keepalive\n\n"
    ending = b"\n\n"
    usage_mark = b'_tokens"'  # asked for usage, servers say "usage":null in every other chunk: only counts have names that end so

    def parse_call(self, endpoint: Endpoint, body: bytes) -> Call:
        asked = _read_request(body)
        if not isinstance(asked.model, str) or not asked.model:
            raise Rejected("`model` must be a non-empty string", code="invalid_model")
        return Call(
            dialect=self.name,
            operation=endpoint.operation,
            path=endpoint.upstream_path,
            model=asked.model,
            body=body,
            stream=endpoint.operation != "embeddings" and _truth(asked.stream),
            include_usage=_asked_for_usage(asked.stream_options),
            temperature=_number(asked.temperature),
            top_p=_number(asked.top_p),
            max_tokens=_whole(asked.max_tokens if asked.max_completion_tokens is None else asked.max_completion_tokens),
            seed=_whole(asked.seed),
        )

    def outgoing(self, call: Call, model: str | None, inject_usage: bool) -> bytes:
        body = call.body
        if model is not None and model != call.model:
            body = document.replace_member(body, "model", msgspec.json.encode(model))
        return _ask_for_usage(body) if inject_usage and self.injects_usage(call) else body

    def injects_usage(self, call: Call) -> bool:
        return call.stream and call.include_usage is None

    def credential(self, api_key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {api_key}"}

    def parser(self) -> sse.Parser:
        return sse.Parser()

    def cutter(self) -> sse.Cutter:
        return sse.Cutter()

    def reader(self, call: Call) -> Reader:  # noqa: ARG002 - every endpoint's chunks are read alike
        return openai_reader.ChunkReader()

    def read_document(self, call: Call, body: bytes) -> Sequence[Event]:
        if not body or body.isspace():
            raise msgspec.DecodeError("an empty answer")
        events = self.reader(call).events(sse.Frame(body, body, ""))
        return [event for event in events if not isinstance(event, Delta | ToolOpened)]

    def is_usage_frame(self, frame: sse.Frame) -> bool:
        if self.usage_mark not in frame.data:
            return False
        try:
            chunk = _USAGE_FRAME.decode(frame.data)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return False
        return chunk.choices == [] and isinstance(chunk.usage, dict) and not chunk.error

    def refuses_usage(self, status: int, body: bytes) -> bool:
        return status in {400, 422} and (b"stream_options" in body or b"include_usage" in body)

    def complete(self, terminated: bool, finish: Sequence[str]) -> bool:
        return terminated or bool(finish)  # several servers omit [DONE]

    def error_body(self, error: GatewayError) -> bytes:
        said = {"message": _encodable(error.message), "type": error.kind, "param": None, "code": _encodable(error.code)}
        return msgspec.json.encode({"error": said})

    def error_event(self, error: GatewayError) -> bytes:
        return b"data: " + self.error_body(error) + b"\n\n"  # JSON escapes CR and LF: nothing in a message can end the event

    def models_document(self, names: Sequence[str], created: int) -> bytes:
        models = [{"id": name, "object": "model", "created": created, "owned_by": "weir"} for name in names]
        return msgspec.json.encode({"object": "list", "data": models})


class _Request(Struct):
    """The members Weir acts on. Their types are checked by hand: what we do not need must not be our reason to refuse a call."""

    model: Any = None
    stream: Any = None
    stream_options: Any = None
    temperature: Any = None
    top_p: Any = None
    max_tokens: Any = None
    max_completion_tokens: Any = None
    seed: Any = None


class _UsageFrame(Struct):
    choices: Any = None
    usage: Any = None
    error: Any = None


_REQUEST = msgspec.json.Decoder(_Request)
_USAGE_FRAME = msgspec.json.Decoder(_UsageFrame)


def _read_request(body: bytes) -> _Request:
    try:
        return _REQUEST.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _read_request_leniently(body)


def _read_request_leniently(body: bytes) -> _Request:
    """Read what msgspec refuses and upstreams may take: lone surrogates, as JavaScript writes them for a string cut in two."""
    try:
        asked = json.loads(body.decode())
    except RecursionError as error:
        raise Rejected("the request body is nested too deeply", code="invalid_json") from error
    except ValueError as error:
        raise Rejected("the request body is not valid JSON", code="invalid_json") from error
    if not isinstance(asked, dict):
        raise Rejected("the request body must be a JSON object", code="invalid_json")
    request = _Request(**{field: asked.get(field) for field in _Request.__struct_fields__})
    if isinstance(request.model, str):
        request.model = _encodable(request.model)
    return request


def _ask_for_usage(body: bytes) -> bytes:
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


def _asked_for_usage(options: Any) -> bool | None:
    """What the client said; options of a wrong type are the upstream's to refuse, so they count as said, not as silence."""
    if options is None:
        return None
    if not isinstance(options, dict):
        return False
    return None if (said := options.get("include_usage")) is None else _truth(said)


def _truth(said: Any) -> bool:
    return said.lower() in _TRUE if isinstance(said, str) else said is True or (type(said) in {int, float} and said == 1)


def _number(said: Any) -> float | None:
    return float(said) if type(said) in {int, float} and abs(said) < _WORD and math.isfinite(said) else None


def _whole(said: Any) -> int | None:
    return said if type(said) is int and abs(said) < _WORD else None


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


OPENAI = OpenAIChat()
