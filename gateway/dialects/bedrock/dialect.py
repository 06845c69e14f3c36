"""The Bedrock dialect: the doors of Amazon Bedrock Runtime, its addresses, its credential and its errors.

An upstream's `base_url` is https://bedrock-runtime.REGION.amazonaws.com. The model is in the path and only there; whether an answer is
streamed is said by the door. Sources: the Bedrock Runtime API reference; the Bedrock user guide, "Use an Amazon Bedrock API key".
"""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import msgspec
from msgspec import Struct

from gateway.core.call import Call
from gateway.core.errors import GatewayError, Rejected
from gateway.core.events import Event, Failed
from gateway.core.prompt import Prompt
from gateway.dialects import lenient
from gateway.dialects.base import Asked, Endpoint, Outgoing, Reader, Stamp, Writer
from gateway.dialects.bedrock import compose, families, prompt, reader, writer
from gateway.dialects.bedrock.invoke import InvokeReader
from gateway.wire import eventstream
from gateway.wire.framing import Frame, Framing

ENDPOINTS = (
    Endpoint("POST", "/model/{id}/converse-stream", "chat"),
    Endpoint("POST", "/model/{id}/converse", "chat"),
    Endpoint("POST", "/model/{id}/invoke-with-response-stream", "text_completion"),
    Endpoint("POST", "/model/{id}/invoke", "text_completion"),
)

# What Bedrock calls its errors, by status.
_NAMES: Mapping[int, str] = {
    400: "ValidationException",
    401: "AccessDeniedException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    413: "ValidationException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
    504: "ModelTimeoutException",
}


class Bedrock:
    """The `bedrock` dialect."""

    name = "bedrock"
    family = "bedrock"
    endpoints = ENDPOINTS
    models_paths = ()  # Bedrock lists its models elsewhere, on its control plane
    facts: Mapping[str, bytes] = {}
    usage_mark = b""

    def parse_call(self, endpoint: Endpoint, body: bytes, asked: Asked) -> Call:
        model = unquote(asked.params.get("id", ""))
        if not model.strip("."):  # a step up in the path is no model
            raise Rejected("the path names no model", code="invalid_model")
        said = _read_request(body)
        verb = endpoint.path.rpartition("/")[2]
        return Call(
            dialect=self.name,
            operation=endpoint.operation,
            path=compose.path_of(model, verb),
            model=model,
            body=body,
            stream=verb.endswith("-stream"),
            temperature=lenient.number(_first(said, "temperature")),
            top_p=lenient.number(_first(said, "topP", "top_p", "p")),
            max_tokens=lenient.whole(_first(said, "maxTokens", "maxTokenCount", "max_tokens", "max_tokens_to_sample", "max_gen_len")),
            seed=lenient.whole(said.get("seed")),
        )

    def outgoing(self, call: Call, model: str | None, inject_usage: bool) -> Outgoing:  # noqa: ARG002 - usage always comes
        path = call.path
        if model is not None and model != call.model:
            path = compose.path_of(model, path.rpartition("/")[2])
        if call.operation != "chat":
            return Outgoing(path, call.body)  # what an invoked model accepts is between the client and it
        return Outgoing(path, call.body, (("Accept", eventstream.FRAMING.media_type if call.stream else "application/json"),))

    def injects_usage(self, call: Call) -> bool:  # noqa: ARG002 - usage always comes
        return False

    def credential(self, api_key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {api_key}"}

    def framing(self, call: Call) -> Framing:  # noqa: ARG002 - every stream is framed alike
        return eventstream.FRAMING

    def reader(self, call: Call) -> Reader:
        return reader.ConverseReader() if call.operation == "chat" else InvokeReader()

    def read_document(self, call: Call, body: bytes) -> Sequence[Event]:
        if call.operation != "chat":
            return InvokeReader().said(lenient.untyped(body))
        events = reader.document(reader.decode(body))
        if not events:
            raise msgspec.ValidationError("no known shape: an answer that says nothing")
        return events

    def read_error(self, status: int, body: bytes) -> Failed:
        try:
            said = lenient.mapping(lenient.untyped(body))
        except msgspec.DecodeError:
            said = {}
        names = (lenient.text(said.get(key)) for key in ("__type", "code"))
        name = next((name for name in names if name), _NAMES.get(status, "upstream_error"))
        code = lenient.encodable(name.rpartition("#")[2].partition(":")[0][:64])
        return Failed(code or "upstream_error", lenient.encodable(reader.message_of(body)[:1000]))

    def is_usage_frame(self, frame: Frame) -> bool:  # noqa: ARG002 - none is ever asked for
        return False

    def refuses_usage(self, status: int, body: bytes) -> bool:  # noqa: ARG002 - it is never asked for
        return False

    @property
    def marks_end(self) -> bool:
        return True

    def complete(self, terminated: bool, finish: Sequence[str]) -> bool:
        return terminated or bool(finish)  # metadata after messageStop belongs to the account, not to the answer

    def error_body(self, error: GatewayError) -> bytes:
        return lenient.encode(
            {
                "__type": _NAMES.get(error.status, "ValidationException" if error.status < 500 else "InternalServerException"),
                "message": error.message,
            }
        )

    def error_event(self, error: GatewayError, call: Call, begun: bool) -> bytes:  # noqa: ARG002 - it is said alike at any time
        return writer.failure(error)

    def models_document(self, names: Sequence[str], created: int) -> bytes:  # noqa: ARG002 - a summary has no date
        models = [
            {
                "modelArn": f"arn:aws:bedrock:::foundation-model/{name}",
                "modelId": name,
                "modelName": name,
                "providerName": "weir",
                "responseStreamingSupported": True,
            }
            for name in names
        ]
        return lenient.encode({"modelSummaries": models})

    def read_prompt(self, call: Call) -> Prompt:
        return prompt.read(call)

    def compose(self, prompt: Prompt) -> Call:
        return compose.compose(prompt)

    def unsaid(self, prompt: Prompt) -> Sequence[str]:
        return compose.unsaid(prompt)

    def prefills(self, prompt: Prompt) -> bool:
        return families.prefills(prompt)

    def writer(self, call: Call, stamp: Stamp) -> Writer:  # noqa: ARG002 - one form for every call
        return writer.ConverseWriter(stamp)

    def write_document(self, call: Call, events: Sequence[Event], stamp: Stamp) -> bytes:  # noqa: ARG002 - one form for every call
        return writer.document(events, stamp)


class _Request(Struct):
    """The members Weir acts on, of Converse and of every invoked model; their types are not our reason to refuse a call."""

    inferenceConfig: Any = None  # noqa: N815
    textGenerationConfig: Any = None  # noqa: N815
    temperature: Any = None
    top_p: Any = None
    p: Any = None
    max_tokens: Any = None
    max_tokens_to_sample: Any = None
    max_gen_len: Any = None
    seed: Any = None


_REQUEST = msgspec.json.Decoder(_Request)


def _read_request(body: bytes) -> dict[str, Any]:
    """Return the members of a request that Weir acts on, those of nested configurations among them."""
    try:
        said: dict[str, Any] = msgspec.structs.asdict(_REQUEST.decode(body))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        said = lenient.read_object(body)
    return {**said, **lenient.mapping(said.get("textGenerationConfig")), **lenient.mapping(said.get("inferenceConfig"))}


def _first(said: dict[str, Any], *names: str) -> Any:
    return next((said[name] for name in names if said.get(name) is not None), None)


BEDROCK = Bedrock()
