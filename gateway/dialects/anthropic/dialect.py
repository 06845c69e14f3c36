"""The Anthropic dialect's doors and edges: which requests it takes, what it changes in them, what errors and models look like."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import msgspec
from msgspec import Struct

from gateway.core.call import Call
from gateway.core.errors import GatewayError, Rejected
from gateway.core.events import Event, Failed
from gateway.core.prompt import Prompt
from gateway.dialects import lenient
from gateway.dialects.anthropic import compose, failing, prompt, reader, writer
from gateway.dialects.base import Asked, Endpoint, Outgoing, Reader, Stamp, Writer
from gateway.dialects.lenient import encodable, number, truth, whole
from gateway.wire import document, sse
from gateway.wire.framing import Frame, Framing

ENDPOINTS = (
    Endpoint("POST", "/v1/messages", "chat", "/v1/messages"),
    Endpoint("POST", "/v1/messages/count_tokens", "count_tokens", "/v1/messages/count_tokens"),
)

VERSION = (("anthropic-version", "2023-06-01"),)
"""What is said for a client that named no version: the API refuses a call without one. A version that the client named goes on as it is.

Composed calls depend on this one: 2026-10-21, which SDKs name since late 2026, refuses `temperature`, `top_p` and `top_k`, and changes
nothing in answers (platform.claude.com, "Versions").
"""

_QUERY = ("beta",)  # SDKs before 2.0 ask for `?beta=true`; nothing else in a query is the upstream's business

FRAMING = Framing("text/event-stream", b'event: ping\ndata: {"type":"ping"}\n\n', b"\n\n", sse.Parser, sse.Cutter, takes_lines=True)


class Anthropic:
    """The `anthropic` dialect."""

    name = "anthropic"
    family = "anthropic"
    endpoints = ENDPOINTS
    usage_mark = b""  # usage always comes by itself
    models_paths = ("/v1/models",)
    facts: Mapping[str, bytes] = {}

    def parse_call(self, endpoint: Endpoint, body: bytes, asked: Asked) -> Call:
        said = _read_request(body)
        if not isinstance(said.model, str) or not said.model:
            raise Rejected("`model` must be a non-empty string", code="invalid_model")
        query = urlencode([(name, asked.query[name]) for name in _QUERY if name in asked.query])
        return Call(
            dialect=self.name,
            operation=endpoint.operation,
            path=f"{endpoint.upstream_path}?{query}" if query else endpoint.upstream_path,
            model=said.model,
            body=body,
            stream=endpoint.operation == "chat" and truth(said.stream),
            temperature=number(said.temperature),
            top_p=number(said.top_p),
            max_tokens=whole(said.max_tokens),
        )

    def outgoing(self, call: Call, model: str | None, inject_usage: bool) -> Outgoing:  # noqa: ARG002 - never asked for
        body = call.body
        if model is not None and model != call.model:
            body = document.replace_member(body, "model", msgspec.json.encode(model))
        return Outgoing(call.path, body, VERSION)

    def injects_usage(self, call: Call) -> bool:  # noqa: ARG002
        return False

    def credential(self, api_key: str) -> dict[str, str]:
        return {"x-api-key": api_key}  # taken under every version, and by most servers that follow the API; SDKs since 2.0 send a Bearer

    def framing(self, call: Call) -> Framing:  # noqa: ARG002 - every stream is framed alike
        return FRAMING

    def reader(self, call: Call) -> Reader:  # noqa: ARG002 - only chats are streamed
        return reader.StreamReader()

    def read_document(self, call: Call, body: bytes) -> Sequence[Event]:  # noqa: ARG002 - both operations' answers are told apart
        return reader.document_events(body)

    def read_error(self, status: int, body: bytes) -> Failed:  # noqa: ARG002 - the body names its kind
        return reader.failure(body)

    def is_usage_frame(self, frame: Frame) -> bool:  # noqa: ARG002
        return False

    def refuses_usage(self, status: int, body: bytes) -> bool:  # noqa: ARG002
        return False

    @property
    def marks_end(self) -> bool:
        return True

    def complete(self, terminated: bool, finish: Sequence[str]) -> bool:  # noqa: ARG002 - usage and stop reason may come before a cut
        return terminated

    def error_body(self, error: GatewayError) -> bytes:
        return failing.body(error)

    def error_event(self, error: GatewayError, call: Call, begun: bool) -> bytes:  # noqa: ARG002 - it is said alike at any time
        return failing.event(error)

    def models_document(self, names: Sequence[str], created: int) -> bytes:
        since = datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        models = [{"type": "model", "id": name, "display_name": name, "created_at": since, "lifecycle": "active"} for name in names]
        ends = {"first_id": names[0] if names else None, "last_id": names[-1] if names else None}
        return msgspec.json.encode({"data": models, "has_more": False, **ends})

    def read_prompt(self, call: Call) -> Prompt:
        return prompt.read_prompt(call)

    def compose(self, prompt: Prompt) -> Call:
        return compose.compose(prompt)

    def unsaid(self, prompt: Prompt) -> Sequence[str]:
        return compose.unsaid(prompt)

    def prefills(self, prompt: Prompt) -> bool:
        return compose.prefills(prompt)

    def writer(self, call: Call, stamp: Stamp) -> Writer:
        return writer.StreamWriter(call, stamp)

    def write_document(self, call: Call, events: Sequence[Event], stamp: Stamp) -> bytes:
        return writer.write_document(call, events, stamp)


class _Request(Struct):
    """The members Weir acts on. Their types are checked by hand: what we do not need must not be our reason to refuse a call."""

    model: Any = None
    stream: Any = None
    temperature: Any = None
    top_p: Any = None
    max_tokens: Any = None


_REQUEST = msgspec.json.Decoder(_Request)


def _read_request(body: bytes) -> _Request:
    try:
        return _REQUEST.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _read_request_leniently(body)


def _read_request_leniently(body: bytes) -> _Request:
    """Read what msgspec refuses and upstreams may take: lone surrogates, as JavaScript writes them for a string cut in two."""
    try:
        body.decode()
        asked = lenient.untyped(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Rejected("the request body is not valid JSON", code="invalid_json") from error
    if not isinstance(asked, dict):
        raise Rejected("the request body must be a JSON object", code="invalid_json")
    request = _Request(**{member: asked.get(member) for member in _Request.__struct_fields__})
    if isinstance(request.model, str):
        request.model = encodable(request.model)
    return request


ANTHROPIC = Anthropic()
