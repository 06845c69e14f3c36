"""The OpenAI dialect: chat completions, completions and embeddings, as OpenAI and the many servers that follow it speak them.

Sources: the OpenAI API reference and openai-python `_streaming.py`; what other servers do differently is said where it is handled.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from gateway.core.call import Call, Operation
from gateway.core.errors import GatewayError, Rejected
from gateway.core.events import Event, Failed
from gateway.core.prompt import Prompt
from gateway.dialects.base import Asked, Endpoint, Outgoing, Reader, Stamp, Writer
from gateway.dialects.lenient import number, truth, whole
from gateway.dialects.openai.compose import compose, unsaid
from gateway.dialects.openai.prompt import read_prompt
from gateway.dialects.openai.reader import ChunkReader, read_error
from gateway.dialects.openai.request import ask_for_usage, asked_for_usage, read_request
from gateway.dialects.openai.writer import ChunkWriter, error_body, error_event, write_document
from gateway.wire import document, sse
from gateway.wire.framing import Frame, Framing

PATHS: dict[Operation, str] = {"chat": "/chat/completions", "text_completion": "/completions", "embeddings": "/embeddings"}


class OpenAI:
    """The `openai` dialect."""

    name = "openai"
    family = "openai"
    endpoints = tuple(Endpoint("POST", "/v1" + path, operation, path) for operation, path in PATHS.items())
    models_paths: tuple[str, ...] = ("/v1/models",)
    facts: Mapping[str, bytes] = {}
    usage_mark = b'_tokens"'  # asked for usage, servers say "usage":null in every other chunk: only counts have names that end so

    def parse_call(self, endpoint: Endpoint, body: bytes, asked: Asked) -> Call:  # noqa: ARG002 - all is said in the body
        return self._call(endpoint.operation, body, endpoint.upstream_path, None)

    def _call(self, operation: Operation, body: bytes, path: str, model: str | None) -> Call:
        """Read a body; `model` is what the path says, where that decides."""
        said = read_request(body)
        model = model or said.model
        if not isinstance(model, str) or not model:
            raise Rejected("`model` must be a non-empty string", code="invalid_model")
        return Call(
            dialect=self.name,
            operation=operation,
            path=path,
            model=model,
            body=body,
            stream=operation != "embeddings" and truth(said.stream),
            include_usage=asked_for_usage(said.stream_options),
            temperature=number(said.temperature),
            top_p=number(said.top_p),
            max_tokens=whole(said.max_tokens if said.max_completion_tokens is None else said.max_completion_tokens),
            seed=whole(said.seed),
            choices=whole(said.n) or 1,
        )

    def outgoing(self, call: Call, model: str | None, inject_usage: bool) -> Outgoing:
        body, named = call.body, call.dialect == self.name or bool(document.find_members(call.body, "model"))
        if not named:  # Azure's clients may leave the model to the path
            body = document.insert_member(body, "model", msgspec.json.encode(model or call.model))
        elif call.dialect != self.name or (model is not None and model != call.model):
            body = document.replace_member(body, "model", msgspec.json.encode(model or call.model))
        return Outgoing(PATHS[call.operation], self._asking(call, body, inject_usage))

    def _asking(self, call: Call, body: bytes, inject_usage: bool) -> bytes:
        return ask_for_usage(body) if inject_usage and self.injects_usage(call) else body

    def injects_usage(self, call: Call) -> bool:
        return call.stream and call.include_usage is None

    def credential(self, api_key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {api_key}"}

    def framing(self, call: Call) -> Framing:  # noqa: ARG002 - every stream is framed alike
        return sse.FRAMING

    def reader(self, call: Call) -> Reader:  # noqa: ARG002 - every endpoint's chunks are read alike
        return ChunkReader()

    def read_document(self, call: Call, body: bytes) -> Sequence[Event]:  # noqa: ARG002 - every endpoint's answers are read alike
        return ChunkReader().document(body)

    def read_error(self, status: int, body: bytes) -> Failed:
        return read_error(status, body)

    def is_usage_frame(self, frame: Frame) -> bool:
        if self.usage_mark not in frame.data:
            return False
        try:
            chunk = _USAGE_FRAME.decode(frame.data)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return False
        return chunk.choices == [] and isinstance(chunk.usage, dict) and not chunk.error

    def refuses_usage(self, status: int, body: bytes) -> bool:
        return status in {400, 422} and (b"stream_options" in body or b"include_usage" in body)

    @property
    def marks_end(self) -> bool:
        return True

    def complete(self, terminated: bool, finish: Sequence[str]) -> bool:
        return terminated or bool(finish)  # several servers omit [DONE]

    def error_body(self, error: GatewayError) -> bytes:
        return error_body(error)

    def error_event(self, error: GatewayError, call: Call, begun: bool) -> bytes:  # noqa: ARG002 - it is said alike at any time
        return error_event(error)

    def models_document(self, names: Sequence[str], created: int) -> bytes:
        models = [{"id": name, "object": "model", "created": created, "owned_by": "weir"} for name in names]
        return msgspec.json.encode({"object": "list", "data": models})

    def read_prompt(self, call: Call) -> Prompt:
        return read_prompt(call)

    def compose(self, prompt: Prompt) -> Call:
        return compose(prompt, self.name, PATHS["chat"])

    def unsaid(self, prompt: Prompt) -> Sequence[str]:
        return unsaid(prompt)

    def prefills(self, prompt: Prompt) -> bool:  # noqa: ARG002 - some servers can be told to (vLLM's `continue_final_message`), most answer
        return False

    def writer(self, call: Call, stamp: Stamp) -> Writer:
        return ChunkWriter(call, stamp)

    def write_document(self, call: Call, events: Sequence[Event], stamp: Stamp) -> bytes:
        return write_document(call, events, stamp)


class _UsageFrame(Struct):
    choices: Any = None
    usage: Any = None
    error: Any = None


_USAGE_FRAME = msgspec.json.Decoder(_UsageFrame)


OPENAI = OpenAI()
