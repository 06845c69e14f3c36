"""The `openai-responses` dialect: OpenAI's Responses API, which vLLM, llama.cpp and others serve too.

Sources: the OpenAI API reference and openai-python `types/responses`. What only OpenAI can do (stored conversations, background
answers, its own tools) passes between client and upstream of this dialect untouched; `read_prompt` refuses it by name.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from gateway.core.answer import fold
from gateway.core.call import Call
from gateway.core.errors import GatewayError, Rejected
from gateway.core.events import Event, Failed
from gateway.core.prompt import Prompt
from gateway.dialects import lenient
from gateway.dialects.base import Asked, Endpoint, Outgoing, Reader, Stamp
from gateway.dialects.responses import compose, documents, prompt
from gateway.dialects.responses.reader import EventReader
from gateway.dialects.responses.writer import EventWriter, document_of, error_event
from gateway.wire import document, sse
from gateway.wire.framing import Frame, Framing

MAX_EVENT = 8 << 20
"""The event that ends a stream repeats all of it, pictures that a tool made included: one that is not read is an end that is missed."""

FRAMING = Framing("text/event-stream", b": keepalive\n\n", b"\n\n", lambda: sse.Parser(MAX_EVENT), sse.Cutter, takes_lines=True)
"""A comment keeps it alive: OpenAI's own `event: keepalive` is undocumented and has broken clients (openai-node#1964)."""


class OpenAIResponses:
    """The `openai-responses` dialect."""

    name = compose.NAME
    family = "openai-responses"
    endpoints = (Endpoint("POST", "/v1/responses", "chat", compose.PATH),)
    models_paths: tuple[str, ...] = ()
    facts: Mapping[str, bytes] = {}
    usage_mark = b""

    def parse_call(self, endpoint: Endpoint, body: bytes, asked: Asked) -> Call:  # noqa: ARG002 - neither path nor query says anything
        said = _read_request(body)
        if not isinstance(said.model, str) or not said.model:
            raise Rejected("`model` must be a non-empty string", code="invalid_model")
        return Call(
            dialect=self.name,
            operation=endpoint.operation,
            path=endpoint.upstream_path,
            model=said.model,
            body=body,
            stream=lenient.truth(said.stream),
            temperature=lenient.number(said.temperature),
            top_p=lenient.number(said.top_p),
            max_tokens=lenient.whole(said.max_output_tokens),
            seed=lenient.whole(said.seed),
            prompt_name=_word(said.prompt, "id"),
            prompt_version=_word(said.prompt, "version"),
        )

    def outgoing(self, call: Call, model: str | None, inject_usage: bool) -> Outgoing:  # noqa: ARG002 - usage always comes unasked
        if model is None or model == call.model:
            return Outgoing(call.path, call.body)
        return Outgoing(call.path, document.replace_member(call.body, "model", msgspec.json.encode(model)))

    def injects_usage(self, call: Call) -> bool:  # noqa: ARG002
        return False

    def credential(self, api_key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {api_key}"}

    def framing(self, call: Call) -> Framing:  # noqa: ARG002 - every stream is framed alike
        return FRAMING

    def reader(self, call: Call) -> Reader:  # noqa: ARG002 - there is one endpoint
        return EventReader()

    def read_document(self, call: Call, body: bytes) -> Sequence[Event]:  # noqa: ARG002
        found = lenient.untyped(body)
        if not isinstance(found, dict):
            raise msgspec.ValidationError(f"no known shape: {type(found).__name__}")
        return documents.document_events(found)

    def read_error(self, status: int, body: bytes) -> Failed:  # noqa: ARG002 - every body is read alike
        try:
            found = lenient.untyped(body)
        except msgspec.DecodeError:
            return documents.failed(body[:4000].decode("utf-8", "replace").strip())
        if isinstance(found, dict):
            return documents.failed(found.get("error") or found.get("detail") or found)
        return documents.failed(found)

    def is_usage_frame(self, frame: Frame) -> bool:  # noqa: ARG002
        return False

    def refuses_usage(self, status: int, body: bytes) -> bool:  # noqa: ARG002
        return False

    @property
    def marks_end(self) -> bool:
        return True

    def complete(self, terminated: bool, finish: Sequence[str]) -> bool:  # noqa: ARG002 - what finishes an answer also ends its stream
        return terminated

    def error_body(self, error: GatewayError) -> bytes:
        said = {"message": lenient.encodable(error.message), "type": error.kind, "param": None, "code": lenient.encodable(error.code)}
        return msgspec.json.encode({"error": said})

    def error_event(self, error: GatewayError, call: Call, begun: bool) -> bytes:  # noqa: ARG002 - it is said alike at any time
        return error_event(error, 0)  # its number in the stream is not known here; clients want one, none checks it

    def models_document(self, names: Sequence[str], created: int) -> bytes:
        models = [{"id": name, "object": "model", "created": created, "owned_by": "weir"} for name in names]
        return msgspec.json.encode({"object": "list", "data": models})

    def read_prompt(self, call: Call) -> Prompt:
        return prompt.read_prompt(call)

    def compose(self, prompt: Prompt) -> Call:
        return compose.compose(prompt)

    def unsaid(self, prompt: Prompt) -> Sequence[str]:
        return compose.unsaid(prompt)

    def prefills(self, prompt: Prompt) -> bool:  # noqa: ARG002 - a message of the assistant is one that is over
        return False

    def writer(self, call: Call, stamp: Stamp) -> EventWriter:
        return EventWriter(call, stamp)

    def write_document(self, call: Call, events: Sequence[Event], stamp: Stamp) -> bytes:
        return lenient.encode(document_of(call, fold(events), stamp))


class _Request(Struct):
    """The members Weir acts on. Their types are checked by hand: what we do not need must not be our reason to refuse a call."""

    model: Any = None
    stream: Any = None
    temperature: Any = None
    top_p: Any = None
    max_output_tokens: Any = None
    seed: Any = None
    prompt: Any = None


_REQUEST = msgspec.json.Decoder(_Request)


def _word(prompt: Any, member: str) -> str | None:
    """Return what a reference to a stored prompt, `{id, version, variables}`, says of it."""
    said = prompt.get(member) if isinstance(prompt, dict) else None
    return said if isinstance(said, str) and said else None


def _read_request(body: bytes) -> _Request:
    try:
        return _REQUEST.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _read_request_leniently(body)


def _read_request_leniently(body: bytes) -> _Request:
    """Read what msgspec refuses and upstreams may take: lone surrogates, as JavaScript writes them for a string cut in two."""
    said = lenient.read_object(body)
    request = _Request(**{field: said.get(field) for field in _Request.__struct_fields__})
    if isinstance(request.model, str):
        request.model = lenient.encodable(request.model)
    return request


RESPONSES = OpenAIResponses()
