"""The frames of one answer, in the shapes of OpenAI's chat completions, completions, embeddings and models."""

import base64
import random
import struct
from collections.abc import Iterator
from typing import Any

import orjson

from gateway.sim.drafts import EPOCH, Draft, Piece, Prompt, count_inputs
from gateway.sim.faults import ErrorEvent
from gateway.sim.refusals import openai_error
from gateway.sim.steps import Send

HEAD = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
DONE_FRAME = b"data: [DONE]\n\n"
PING = b": ping\n\n"
GARBAGE = b'data: {"choices":[{"delta":{"content":"spilt\n\n'
_SAFE = {name: {"filtered": False, "severity": "safe"} for name in ("hate", "self_harm", "sexual", "violence")}


def read_prompt(path: str, body: bytes, default_model: str) -> Prompt:
    """Return what a request asks for. Raises ValueError when the body is no JSON object."""
    fields = orjson.loads(body)
    if not isinstance(fields, dict):
        raise ValueError("the body is not a JSON object")
    options = fields.get("stream_options")
    ceiling = fields.get("max_completion_tokens") or fields.get("max_tokens")
    return Prompt(
        path=path,
        model=str(fields.get("model") or default_model),
        stream=fields.get("stream") is True,
        options=options is not None,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        max_tokens=ceiling if isinstance(ceiling, int) and ceiling > 0 else None,
        input_tokens=max(1, len(body) // 4),
        inputs=count_inputs(fields.get("input")),
        dimensions=fields["dimensions"] if isinstance(fields.get("dimensions"), int) and fields["dimensions"] > 0 else 16,
        base64=fields.get("encoding_format") == "base64",
    )


class Answer(Draft):
    """One answer as OpenAI says it; its frames are rendered as they are asked for. `tongue` names whose errors it is refused with."""

    ping = PING
    garbage = GARBAGE
    afterword = DONE_FRAME  # what some servers say even after an error

    def __init__(self, prompt: Prompt, ordinal: int, dice: random.Random, tongue: str = "openai") -> None:
        chat = not prompt.path.endswith("/v1/completions")
        super().__init__(prompt, ordinal, dice, "chatcmpl-" if chat else "cmpl-", chat)
        self.tongue, self.head = tongue, HEAD
        stem = {"id": self.id, "object": "chat.completion.chunk" if chat else "text_completion", "created": self.created}
        self._stem = orjson.dumps(stem | {"model": prompt.model, "system_fingerprint": "fp_sim"})[:-1]
        self._tail = b',"usage":null}\n\n' if prompt.include_usage else b"}\n\n"
        self._before = b'data: %b,"choices":[{"index":0,"delta":{"content":' % self._stem  # all of a text chunk but its text
        self._after = b'},"logprobs":null,"finish_reason":null}]%b' % self._tail

    def role(self) -> bytes:
        """The chunk that names the speaker; completions have none."""
        return self._frame({"role": "assistant", "content": "", "refusal": None}, None) if self.chat else b""

    def frame(self, piece: Piece) -> bytes:
        if not self.chat:
            return self._frame(piece.text, None)
        if piece.kind == "text":
            return self._before + orjson.dumps(piece.text) + self._after
        if piece.kind == "reasoning":
            return self._frame({"reasoning_content": piece.text}, None)
        return self._frame({"tool_calls": [_tool_delta(piece)]}, None)

    def finish(self) -> bytes:
        return self._frame({} if self.chat else "", self.finish_reason)

    def _frame(self, said: dict[str, Any] | str, finish: str | None) -> bytes:
        choice = {"index": 0, "delta" if self.chat else "text": said, "logprobs": None, "finish_reason": finish}
        return b'data: %b,"choices":[%b]%b' % (self._stem, orjson.dumps(choice), self._tail)

    def done(self) -> bytes:
        return DONE_FRAME

    def again(self, step: Send) -> bytes:
        """Say as much as this step did once more."""
        return step.data

    def swell(self, after: int, size: int) -> bool:  # noqa: ARG002
        """Say that a huge event is for others to make: it may be one that no chunk of ours would be."""
        return False

    def fail(self, fault: ErrorEvent, step: Send | None) -> bytes:  # noqa: ARG002 - where it happens makes no difference here
        """Return the error that stands in the place of this step, None before anything was said."""
        return error_frame(fault.code, fault.message)

    def filtered(self, said: int | None) -> bytes:
        """Return Azure's chunk on the prompt, before everything else, or its belated one on the text up to `said` characters."""
        if said is None:
            results = [{"prompt_index": 0, "content_filter_results": _SAFE}]
            shape = {"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": results}
            return b"data: %b\n\n" % orjson.dumps(shape)
        offsets = {"check_offset": 0, "start_offset": 0, "end_offset": said}
        choice = {"index": 0, "finish_reason": None, "content_filter_offsets": offsets, "content_filter_results": _SAFE}
        return b"data: %b\n\n" % orjson.dumps({"id": "", "object": "", "created": 0, "model": "", "choices": [choice]})

    def usage_frame(self) -> bytes:
        """The chunk without choices that comes only when `stream_options.include_usage` asked for it."""
        if not self.prompt.include_usage:
            return b""
        return b'data: %b,"choices":[],"usage":%b}\n\n' % (self._stem, orjson.dumps(self.usage()))

    def usage(self) -> dict[str, Any]:
        prompt, output = self.prompt.input_tokens, self.tokens
        return {
            "prompt_tokens": prompt,
            "completion_tokens": output,
            "total_tokens": prompt + output,
            "prompt_tokens_details": {"cached_tokens": self.cached},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning},
        }

    def document(self) -> bytes:
        """The whole answer at once, for a request without `stream`."""
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": self.finish_reason}
        if self.chat:
            choice["message"] = self._message()
        else:
            choice["text"] = self.written("text")
        shape = {"id": self.id, "object": "chat.completion" if self.chat else "text_completion", "created": self.created}
        return orjson.dumps(
            shape | {"model": self.prompt.model, "choices": [choice], "usage": self.usage(), "system_fingerprint": "fp_sim"}
        )

    def _message(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": self.written("text"), "refusal": None}
        if self.reasoning:
            message["reasoning_content"] = self.written("reasoning")
        if openings := [piece for piece in self.pieces if piece.kind == "opening"]:
            calls = [_tool_delta(opening) for opening in openings]
            for call in calls:
                call["function"]["arguments"] = self.written("arguments", call["index"])
            message |= {"content": None, "tool_calls": calls}
        return message


def _tool_delta(piece: Piece) -> dict[str, Any]:
    if piece.kind == "opening":
        return {"index": piece.index, "id": piece.text, "type": "function", "function": {"name": piece.name, "arguments": ""}}
    return {"index": piece.index, "function": {"arguments": piece.text}}


def error_frame(code: str, message: str) -> bytes:
    """An error inside a stream."""
    return b"data: %b\n\n" % openai_error(code, message, code)


def embeddings_document(prompt: Prompt, dice: random.Random) -> bytes:
    """Deterministic vectors, as floats or as base64 of little-endian 32-bit floats (what OpenAI's own SDK asks for)."""

    def written(vector: list[float]) -> list[float] | str:
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode() if prompt.base64 else vector

    rows = [{"object": "embedding", "index": index, "embedding": written(vector)} for index, vector in enumerate(vectors(prompt, dice))]
    usage = {"prompt_tokens": prompt.input_tokens, "total_tokens": prompt.input_tokens}
    return orjson.dumps({"object": "list", "data": rows, "model": prompt.model, "usage": usage})


def vectors(prompt: Prompt, dice: random.Random) -> Iterator[list[float]]:
    """Yield a vector for each input."""
    for _ in range(prompt.inputs):
        yield [dice.uniform(-1.0, 1.0) for _ in range(prompt.dimensions)]


def models_document(names: tuple[str, ...]) -> bytes:
    rows = [{"id": name, "object": "model", "created": EPOCH, "owned_by": "sim"} for name in names]
    return orjson.dumps({"object": "list", "data": rows})
