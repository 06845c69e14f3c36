"""The words and frames of one answer, in the shapes of OpenAI's chat completions, completions, embeddings and models."""

import base64
import random
import struct
from collections.abc import Iterator
from typing import Any, Literal

import orjson
from msgspec import Struct

from gateway.sim.tempers import Pace

EPOCH = 1_763_700_000  # `created` of the first answer: a constant, because the same seed must give the same bytes
WORDS = (
    *("the water", " rises", " slowly", " over", " the sill", " and", " the gauge", " marks", " its height", ".", " Each", " litre", ","),
    *(" counted", " once", " falls", " past", " the notch", " into", " a quiet", " pool", ";", " upstream", " rain", " has begun"),
    *(" again", " so", " we wait", " for", " the crest", " to reach", " the stone", " crown", " at", " noon", ".\n", " Then", " it flows"),
    *(" steadily", ",", " a long", " clear", " sheet", " without", " a break", " from bank", " to bank", " until", " dusk", "."),
)
MULTIBYTE = (
    "Größe ",
    "水位",
    "は",
    "上がる",
    "。",
    " naïve",
    " façade",
    " річка",
    " 🌊",
    " 👩‍👩‍👧‍👦",
    " Ω≈3",
    "é",
    "\u2028",
    " çà et là",
    " 🇳🇴",
)
DONE_FRAME = b"data: [DONE]\n\n"
PING = b": ping\n\n"


class Prompt(Struct, frozen=True, kw_only=True):
    """The few fields of a request that an answer depends on."""

    path: str
    model: str
    stream: bool = False
    include_usage: bool = False
    max_tokens: int | None = None
    input_tokens: int = 1
    inputs: int = 1
    dimensions: int = 16
    base64: bool = False


def read_prompt(path: str, body: bytes, default_model: str) -> Prompt:
    """Return what a request asks for. Raises ValueError when the body is no JSON object."""
    fields = orjson.loads(body)
    if not isinstance(fields, dict):
        raise ValueError("the body is not a JSON object")
    options = fields.get("stream_options")
    ceiling = fields.get("max_completion_tokens") or fields.get("max_tokens")
    inputs = fields.get("input")
    return Prompt(
        path=path,
        model=str(fields.get("model") or default_model),
        stream=fields.get("stream") is True,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        max_tokens=ceiling if isinstance(ceiling, int) and ceiling > 0 else None,
        input_tokens=max(1, len(body) // 4),
        inputs=len(inputs) if isinstance(inputs, list) and inputs and not isinstance(inputs[0], int) else 1,
        dimensions=fields["dimensions"] if isinstance(fields.get("dimensions"), int) and fields["dimensions"] > 0 else 16,
        base64=fields.get("encoding_format") == "base64",
    )


class Piece(Struct, frozen=True, gc=False):
    """One chunk's worth of generated output: `tokens` of them."""

    kind: Literal["text", "reasoning", "opening", "arguments"]
    text: str
    tokens: int


class Answer:
    """One answer: its pieces are drawn at once, its frames are rendered as they are asked for.

    `speech` is "words", "multibyte" or "tool"; a chat endpoint may also reason first. Completion tokens are the tokens of the pieces.
    """

    def __init__(self, prompt: Prompt, ordinal: int, dice: random.Random) -> None:
        self.prompt = prompt
        self.dice = dice
        self.chat = not prompt.path.endswith("/v1/completions")
        self.id = f"{'chatcmpl' if self.chat else 'cmpl'}-sim{dice.getrandbits(64):016x}"
        self.created = EPOCH + ordinal
        self.pieces: list[Piece] = []
        self.reasoning = 0
        self.finish_reason = "stop"
        stem = {"id": self.id, "object": "chat.completion.chunk" if self.chat else "text_completion", "created": self.created}
        self._stem = orjson.dumps(stem | {"model": prompt.model, "system_fingerprint": "fp_sim"})[:-1]
        self._tail = b',"usage":null}\n\n' if prompt.include_usage else b"}\n\n"

    @property
    def tokens(self) -> int:
        return sum(piece.tokens for piece in self.pieces)

    def compose(self, pace: Pace, speech: str, size: int) -> None:
        """Draw the pieces: `pace.reasoning` tokens of thought, then the answer, `size` tokens a piece, all within `max_tokens`."""
        wanted, ceiling = pace.tokens, self.prompt.max_tokens
        self.reasoning = pace.reasoning if self.chat else 0
        if ceiling is not None and self.reasoning + wanted > ceiling:
            self.finish_reason = "length"
            self.reasoning = min(self.reasoning, ceiling)
            wanted = ceiling - self.reasoning
        self._draw("reasoning", WORDS, self.reasoning, size)
        if speech == "tool" and self.chat:
            self._call_tool(wanted, size)
        else:
            self._draw("text", MULTIBYTE if speech == "multibyte" else WORDS, wanted, size)

    def _draw(self, kind: Literal["text", "reasoning", "arguments"], words: tuple[str, ...], count: int, size: int) -> None:
        drawn = self.dice.choices(words, k=count)
        self.pieces += [Piece(kind, "".join(group), len(group)) for group in (drawn[at : at + size] for at in range(0, count, size))]

    def _call_tool(self, wanted: int, size: int) -> None:
        self.pieces += [Piece("opening", f"call_{self.dice.getrandbits(48):012x}", 1), Piece("arguments", '{"place":"', 1)]
        self._draw("arguments", tuple(word for word in WORDS if "\n" not in word), max(0, wanted - 3), size)
        self.pieces.append(Piece("arguments", '"}', 1))
        if self.finish_reason == "stop":
            self.finish_reason = "tool_calls"

    def role(self) -> bytes:
        """The chunk that names the speaker; completions have none."""
        return self._frame({"role": "assistant", "content": "", "refusal": None}, None) if self.chat else b""

    def frame(self, piece: Piece) -> bytes:
        if not self.chat:
            return self._frame(piece.text, None)
        if piece.kind in {"text", "reasoning"}:
            return self._frame({"content" if piece.kind == "text" else "reasoning_content": piece.text}, None)
        return self._frame({"tool_calls": [_tool_delta(piece)]}, None)

    def finish(self) -> bytes:
        return self._frame({} if self.chat else "", self.finish_reason)

    def _frame(self, said: dict[str, Any] | str, finish: str | None) -> bytes:
        choice = {"index": 0, "delta" if self.chat else "text": said, "logprobs": None, "finish_reason": finish}
        return b'data: %b,"choices":[%b]%b' % (self._stem, orjson.dumps(choice), self._tail)

    def usage_frame(self) -> bytes:
        """The chunk without choices that comes only when `stream_options.include_usage` asked for it."""
        return b'data: %b,"choices":[],"usage":%b}\n\n' % (self._stem, orjson.dumps(self.usage()))

    def usage(self) -> dict[str, Any]:
        prompt, output = self.prompt.input_tokens, self.tokens
        return {
            "prompt_tokens": prompt,
            "completion_tokens": output,
            "total_tokens": prompt + output,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning},
        }

    def document(self) -> bytes:
        """The whole answer at once, for a request without `stream`."""
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": self.finish_reason}
        if self.chat:
            choice["message"] = self._message()
        else:
            choice["text"] = self._text("text")
        shape = {"id": self.id, "object": "chat.completion" if self.chat else "text_completion", "created": self.created}
        return orjson.dumps(
            shape | {"model": self.prompt.model, "choices": [choice], "usage": self.usage(), "system_fingerprint": "fp_sim"}
        )

    def _message(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": self._text("text"), "refusal": None}
        if self.reasoning:
            message["reasoning_content"] = self._text("reasoning")
        opening = next((piece for piece in self.pieces if piece.kind == "opening"), None)
        if opening is not None:
            call = _tool_delta(opening)
            call["function"]["arguments"] = self._text("arguments")
            message |= {"content": None, "tool_calls": [call]}
        return message

    def _text(self, kind: str) -> str:
        return "".join(piece.text for piece in self.pieces if piece.kind == kind)


def _tool_delta(piece: Piece) -> dict[str, Any]:
    if piece.kind == "opening":
        return {"index": 0, "id": piece.text, "type": "function", "function": {"name": "measure_flow", "arguments": ""}}
    return {"index": 0, "function": {"arguments": piece.text}}


def error_document(code: str, message: str, kind: str = "server_error") -> bytes:
    """An error of OpenAI's shape, as a status carries it."""
    return orjson.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}})


def error_frame(code: str, message: str) -> bytes:
    """The same inside a stream."""
    return b"data: %b\n\n" % error_document(code, message, code)


def embeddings_document(prompt: Prompt, dice: random.Random) -> bytes:
    """Deterministic vectors, as floats or as base64 of little-endian 32-bit floats (what OpenAI's own SDK asks for)."""

    def vectors() -> Iterator[list[float] | str]:
        for _ in range(prompt.inputs):
            vector = [dice.uniform(-1.0, 1.0) for _ in range(prompt.dimensions)]
            yield base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode() if prompt.base64 else vector

    rows = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors())]
    usage = {"prompt_tokens": prompt.input_tokens, "total_tokens": prompt.input_tokens}
    return orjson.dumps({"object": "list", "data": rows, "model": prompt.model, "usage": usage})


def models_document(names: tuple[str, ...]) -> bytes:
    rows = [{"id": name, "object": "model", "created": EPOCH, "owned_by": "sim"} for name in names]
    return orjson.dumps({"object": "list", "data": rows})
