"""Doors, addresses, keys and errors of the Gemini API, and the two framings of its streams."""

import re
from collections.abc import Mapping, Sequence
from urllib.parse import unquote, urlencode

import msgspec
from msgspec import structs

from gateway.core.call import Call
from gateway.core.errors import GatewayError, Rejected
from gateway.core.events import Event, Failed
from gateway.core.prompt import Prompt
from gateway.dialects.base import Asked, Endpoint, Outgoing, Stamp
from gateway.dialects.gemini import compose, failing, prompt, reader, writer
from gateway.dialects.gemini.config import read_config
from gateway.dialects.lenient import encodable, number, path_segment, whole
from gateway.wire import document, jsonarray, sse
from gateway.wire.framing import Frame, Framing

VERSIONS = ("v1beta", "v1")
ENDPOINTS = tuple(
    Endpoint("POST", f"/{version}/models/{{model}}:{verb}", "count_tokens" if verb == "countTokens" else "chat")
    for version in VERSIONS
    for verb in ("streamGenerateContent", "generateContent", "countTokens")
)

PASSED_ON = ("alt", "$alt", "fields", "$fields", "prettyPrint", "$prettyPrint", "quotaUser")
"""Query parameters that go upstream; `key`, `access_token` and whatever else may be a secret do not."""

_COLLECTIONS = ("models", "tunedModels")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")

MAX_EVENT = 16 << 20
"""A picture comes in one event."""

FRAMING = Framing("text/event-stream", b"\r\n\r\n", b"\r\n\r\n", lambda: sse.Parser(MAX_EVENT), sse.Cutter)
"""Two line ends keep it alive: to google-genai for Go a single one belongs to the next event and spoils it, and a comment is, to it as to
google-genai for Python, JSON that cannot be read."""


ARRAY = structs.replace(jsonarray.FRAMING, parser=lambda: jsonarray.Parser(MAX_EVENT))


class Gemini:
    """The `gemini` dialect."""

    name = "gemini"
    family = "gemini"
    endpoints = ENDPOINTS
    usage_mark = b""
    models_paths = ("/v1beta/models", "/v1/models")
    facts: Mapping[str, bytes] = {}

    def parse_call(self, endpoint: Endpoint, body: bytes, asked: Asked) -> Call:
        config = read_config(body)
        version, verb = endpoint.path.split("/")[1], endpoint.path.rpartition(":")[2]
        model = _model(asked.params.get("model", ""))
        most = config.get("maxOutputTokens", config.get("max_output_tokens"))
        return Call(
            dialect=self.name,
            operation=endpoint.operation,
            path=_address(version, model, verb) + _query(asked.query),
            model=model,
            body=body,
            stream=verb == "streamGenerateContent",
            temperature=number(config.get("temperature")),
            top_p=number(config.get("topP", config.get("top_p"))),
            max_tokens=whole(most),
            seed=whole(config.get("seed")),
        )

    def outgoing(self, call: Call, model: str | None, inject_usage: bool) -> Outgoing:  # noqa: ARG002 - usage is never asked for
        if model is None or model == call.model:
            return Outgoing(call.path, call.body)
        place, mark, query = call.path.partition("?")
        path = _address(place.split("/")[1], model, place.rpartition(":")[2])
        return Outgoing(path + mark + query, _renamed(call, msgspec.json.encode(_resource(model))))

    def injects_usage(self, call: Call) -> bool:  # noqa: ARG002 - Gemini always tells
        return False

    def credential(self, api_key: str) -> dict[str, str]:
        return {"x-goog-api-key": api_key}

    def framing(self, call: Call) -> Framing:
        return ARRAY if _is_array(call) else FRAMING

    def reader(self, call: Call) -> reader.ChunkReader:
        return reader.ChunkReader(awaits_end=_is_array(call))

    def read_document(self, call: Call, body: bytes) -> Sequence[Event]:
        return reader.read_document(body, counts_only=call.operation == "count_tokens")

    def read_error(self, status: int, body: bytes) -> Failed:
        return reader.read_error(status, body)

    def is_usage_frame(self, frame: Frame) -> bool:  # noqa: ARG002 - none is ever added
        return False

    def refuses_usage(self, status: int, body: bytes) -> bool:  # noqa: ARG002 - it is never asked for
        return False

    @property
    def marks_end(self) -> bool:
        return False

    def complete(self, terminated: bool, finish: Sequence[str]) -> bool:  # noqa: ARG002 - an array that closes early has not finished
        return bool(finish)

    def error_body(self, error: GatewayError) -> bytes:
        return failing.body(error)

    def error_event(self, error: GatewayError, call: Call, begun: bool) -> bytes:
        return failing.element(error, begun) if _is_array(call) else failing.event(error)

    def models_document(self, names: Sequence[str], created: int) -> bytes:  # noqa: ARG002 - Gemini's models have no birthday
        methods = ["generateContent", "streamGenerateContent", "countTokens"]
        models = [{"name": _resource(name), "displayName": name, "supportedGenerationMethods": methods} for name in names]
        return msgspec.json.encode({"models": models})

    def read_prompt(self, call: Call) -> Prompt:
        return prompt.read_prompt(call)

    def compose(self, prompt: Prompt) -> Call:
        verb = "streamGenerateContent" if prompt.stream else "generateContent"
        return Call(
            dialect=self.name,
            operation="chat",
            path=_address("v1beta", prompt.model, verb) + ("?alt=sse" if prompt.stream else ""),
            model=prompt.model,
            body=compose.compose(prompt),
            stream=prompt.stream,
            temperature=prompt.temperature,
            top_p=prompt.top_p,
            max_tokens=prompt.max_tokens,
            seed=prompt.seed,
        )

    def unsaid(self, prompt: Prompt) -> Sequence[str]:
        return compose.unsaid(prompt)

    def prefills(self, prompt: Prompt) -> bool:
        return compose.prefills(prompt)

    def writer(self, call: Call, stamp: Stamp) -> writer.ChunkWriter:
        return writer.ChunkWriter(call, stamp, as_array=_is_array(call))

    def write_document(self, call: Call, events: Sequence[Event], stamp: Stamp) -> bytes:
        return writer.write_document(call, events, stamp)


def _is_array(call: Call) -> bool:
    """Tell whether the answer streams as one JSON array: it does unless the query asks for events."""
    return call.stream and "alt=sse" not in call.path.partition("?")[2].split("&")


def _query(said: Mapping[str, str]) -> str:
    """Return the query that goes upstream, its framing first and spelled as `_is_array` knows it."""
    passed = {name: said[name] for name in PASSED_ON if name in said}
    if passed.get("alt", passed.get("$alt", "")).lower() == "sse":
        passed.pop("$alt", None)
        passed = {**passed, "alt": "sse"}
    return "?" + urlencode(passed, safe="$") if passed else ""


def _model(said: str) -> str:
    """Return the model's name without its collection; what could lead to another address is refused."""
    name = unquote(said).removeprefix("/").removeprefix("models/")
    if not name or len(name) > 256 or _UNPRINTABLE.search(name) or any(step in {"", ".", ".."} for step in name.split("/")):
        raise Rejected("the model's name in the path is no model's name", code="invalid_model")
    return encodable(name)


def _resource(model: str) -> str:
    return model if model.partition("/")[0] in _COLLECTIONS and "/" in model else f"models/{model}"


def _address(version: str, model: str, verb: str) -> str:
    """Return the path of a model's method; whatever the name holds stays within one segment of it."""
    collection, _, name = _resource(model).partition("/")
    return f"/{version}/{collection}/{path_segment(name)}:{verb}"


def _renamed(call: Call, name: bytes) -> bytes:
    """Return the body with another model wherever it repeats the path's: at the top, or in the request whose tokens are counted."""
    body = document.replace_member(call.body, "model", name) if document.find_members(call.body, "model") else call.body
    if call.operation != "count_tokens":
        return body
    for key in ("generateContentRequest", "generate_content_request"):
        body = document.edit_member(body, key, lambda inner: _with_model(inner, name))
    return body


def _with_model(inner: bytes, name: bytes) -> bytes:
    named = inner.startswith(b"{") and document.find_members(inner, "model")
    return document.replace_member(inner, "model", name) if named else inner


GEMINI = Gemini()
