"""The Ollama dialect's calls, addresses, credential and errors.

Sources: docs.ollama.com (api, api/errors, api/authentication) and the client library ollama-python.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

from gateway.core.call import Call
from gateway.core.errors import GatewayError, Rejected
from gateway.core.events import Event, Failed
from gateway.core.prompt import Prompt
from gateway.dialects import lenient
from gateway.dialects.base import Asked, Endpoint, Outgoing, Stamp
from gateway.dialects.ollama import compose, prompt, reader, words, writer
from gateway.wire import document, ndjson
from gateway.wire.framing import Frame, Framing

ENDPOINTS = (
    Endpoint("POST", "/api/chat", "chat", "/api/chat"),
    Endpoint("POST", "/api/generate", "text_completion", "/api/generate"),
    Endpoint("POST", "/api/embed", "embeddings", "/api/embed"),
)


class Ollama:
    """The `ollama` dialect."""

    name = "ollama"
    family = "ollama"
    endpoints = ENDPOINTS
    models_paths = ("/api/tags",)
    facts: Mapping[str, bytes] = {"/api/version": b'{"version":"0.12.11"}', "/api/ps": b'{"models":[]}'}  # Open WebUI asks, and counts dots
    usage_mark = b""  # usage is always told

    def parse_call(self, endpoint: Endpoint, body: bytes, asked: Asked) -> Call:  # noqa: ARG002 - all is said in the body
        said = _read_request(body)
        if not isinstance(said.model, str) or not said.model:
            raise Rejected("`model` must be a non-empty string", code="invalid_model")
        options = said.options if isinstance(said.options, dict) else {}
        return Call(
            dialect=self.name,
            operation=endpoint.operation,
            path=endpoint.upstream_path,
            model=said.model,
            body=body,
            stream=endpoint.operation != "embeddings" and said.stream is not False,
            temperature=lenient.number(options.get("temperature")),
            top_p=lenient.number(options.get("top_p")),
            max_tokens=lenient.count(options.get("num_predict")),  # -1 and -2 are no limits
            seed=words.whole(options.get("seed")),
        )

    def outgoing(self, call: Call, model: str | None, inject_usage: bool) -> Outgoing:  # noqa: ARG002 - usage is always told
        if model is None or model == call.model:
            return Outgoing(call.path, call.body)
        return Outgoing(call.path, document.replace_member(call.body, "model", words.encode(model)))

    def injects_usage(self, call: Call) -> bool:  # noqa: ARG002 - usage is always told
        return False

    def credential(self, api_key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def framing(self, call: Call) -> Framing:  # noqa: ARG002 - every stream is framed alike
        return ndjson.FRAMING

    def reader(self, call: Call) -> reader.LineReader:  # noqa: ARG002 - every endpoint's lines are read alike
        return reader.LineReader()

    def read_document(self, call: Call, body: bytes) -> Sequence[Event]:
        data = body.strip()
        if not data:
            raise msgspec.DecodeError("an empty answer")
        return self.reader(call).events(Frame(body, data, ""))

    def read_error(self, status: int, body: bytes) -> Failed:
        try:
            found = lenient.untyped(body)
        except msgspec.DecodeError:
            found = None
        if isinstance(found, dict) and found.get("error"):
            return reader.failed(found["error"])
        return Failed("upstream_error", body[:4000].decode("utf-8", "replace").strip()[:1000] or f"status {status}")

    def is_usage_frame(self, frame: Frame) -> bool:  # noqa: ARG002 - we never ask for one
        return False

    def refuses_usage(self, status: int, body: bytes) -> bool:  # noqa: ARG002 - we never ask for it
        return False

    @property
    def marks_end(self) -> bool:
        return True

    def complete(self, terminated: bool, finish: Sequence[str]) -> bool:  # noqa: ARG002 - a reason comes with `done` only
        return terminated

    def error_body(self, error: GatewayError) -> bytes:
        return writer.failure(error)

    def error_event(self, error: GatewayError, call: Call, begun: bool) -> bytes:  # noqa: ARG002 - it is said alike at any time
        return writer.failure(error) + b"\n"

    def models_document(self, names: Sequence[str], created: int) -> bytes:
        modified = datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return words.encode({"models": [_model(name, modified) for name in names]})

    def read_prompt(self, call: Call) -> Prompt:
        return prompt.read_prompt(call)

    def compose(self, prompt: Prompt) -> Call:
        return compose.compose(prompt)

    def unsaid(self, prompt: Prompt) -> Sequence[str]:
        return compose.unsaid(prompt)

    def prefills(self, prompt: Prompt) -> bool:  # noqa: ARG002 - its templates leave a last turn of the assistant open (ollama#6778)
        return True

    def writer(self, call: Call, stamp: Stamp) -> writer.LineWriter:
        return writer.LineWriter(call, stamp)

    def write_document(self, call: Call, events: Sequence[Event], stamp: Stamp) -> bytes:
        return writer.write_document(call, events, stamp)


class _Request(Struct):
    """The members Weir acts on. Their types are checked by hand: what we do not need must not be our reason to refuse a call."""

    model: Any = None
    stream: Any = None
    options: Any = None


_REQUEST = msgspec.json.Decoder(_Request)


def _read_request(body: bytes) -> _Request:
    try:
        return _REQUEST.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        found = lenient.read_object(body)
        model = found.get("model")
        return _Request(lenient.encodable(model) if isinstance(model, str) else model, found.get("stream"), found.get("options"))


def _model(name: str, modified: str) -> dict[str, Any]:
    """Describe a model as `ollama list` expects it; what only the machine that runs it could know is empty."""
    details = {"parent_model": "", "format": "", "family": "", "families": [], "parameter_size": "", "quantization_level": ""}
    return {"name": name, "model": name, "modified_at": modified, "size": 0, "digest": "", "details": details}


OLLAMA = Ollama()
