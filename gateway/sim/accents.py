"""What is special about each dialect's answers, and how they fail: what a provider's server says and no writer of ours would, such as
pings, counts in every chunk, and durations."""

import base64
import random
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from gateway.core.call import Call
from gateway.core.errors import ErrorEvent as StreamError
from gateway.core.events import Delta, Event
from gateway.dialects import DIALECTS
from gateway.dialects.base import Dialect
from gateway.sim import refusals
from gateway.sim.answers import vectors
from gateway.sim.drafts import Piece, Prompt
from gateway.sim.faults import ErrorEvent
from gateway.sim.steps import Send
from gateway.sim.voices import Voice
from gateway.wire import eventstream, sse

_USUAL = ErrorEvent().code
_HOLLOW = "\ufffc"  # stands where a text shall be empty
_HUGE = 64 << 20  # bytes of one event: a simulated one may be as large as somebody asks for
TOKEN = 20_000_000  # nanoseconds, as Ollama counts


class AnthropicVoice(Voice):
    """Messages, with a ping once they have begun."""

    prefix = "msg_"
    tool_prefix = "toolu_"
    cache_write = 0

    def role(self) -> bytes:
        return super().role() + self.ping

    def fail(self, fault: ErrorEvent, step: Send | None) -> bytes:  # noqa: ARG002
        kind = "overloaded_error" if fault.code == _USUAL else fault.code
        said = {"type": "error", "error": {"type": kind, "message": fault.message}}
        return b"event: error\ndata: %b\n\n" % orjson.dumps(said)


class ResponsesVoice(Voice):
    """Responses. Since all that was said is said again at the end, what is taken back must be forgotten: see `fail`."""

    prefix = "resp_"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._fed: list[Sequence[Event]] = []

    def _feed(self, events: Sequence[Event]) -> bytes:
        self._fed.append(events)
        return super()._feed(events)

    def fail(self, fault: ErrorEvent, step: Send | None) -> bytes:
        """Return `error` when nothing was said, else the response as failed: without the step that does not come."""
        if step is None:
            said = {"type": "error", "sequence_number": 0, "code": fault.code, "message": fault.message, "param": None}
            return b"event: error\ndata: %b\n\n" % orjson.dumps(said)
        writer = self._dialect.writer(self.call, self.stamp)
        for events in self._fed[:-1]:
            writer.feed(events)
        return writer.fail(StreamError(fault.message, code=fault.code))


class GeminiVoice(Voice):
    """Chunks that all count what was said so far."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._array = self.head["Content-Type"] == "application/json"
        if self._array:
            self.tongue = "gemini-array"
        self.garbage = b',\r\n{"candidates": [spilt]}' if self._array else b'data: {"candidates": [{"content": "spilt\r\n\r\n'

    def frame(self, piece: Piece) -> bytes:
        if piece.text or piece.kind == "arguments":
            return super().frame(piece)
        hollow = self._feed([Delta("reasoning" if piece.kind == "reasoning" else "text", _HOLLOW)])  # the writer says no empty text
        return self._dress(hollow.replace(_HOLLOW.encode(), b""))

    def finish(self) -> bytes:
        self._done = self._feed([self._finished(), self._usage(self.tokens)]) + self._writer.end()
        return b""

    def count(self) -> bytes:
        return orjson.dumps({"totalTokens": self.prompt.input_tokens})

    def fail(self, fault: ErrorEvent, step: Send | None) -> bytes:
        status = "UNAVAILABLE" if fault.code == _USUAL else fault.code
        code = next((number for number, word in refusals.GEMINI.items() if word == status), 500)
        said = orjson.dumps({"error": {"code": code, "message": fault.message, "status": status}})
        if not self._array:
            return b"data: %b\r\n\r\n" % said
        begun = step is not None and not step.data.startswith(b"[")
        return (b",\r\n" if begun else b"[") + said + b"\n]\n"

    def again(self, step: Send) -> bytes:
        said = super().again(step)
        return b",\r\n" + said[1:] if said.startswith(b"[") else said

    def _dress(self, said: bytes) -> bytes:
        before, mark, after = said.partition(b',"modelVersion":')
        if not mark:
            return said
        thought = min(self.spoken, self.reasoning)
        counts = {"promptTokenCount": self.prompt.input_tokens, "totalTokenCount": self.prompt.input_tokens + self.spoken}
        if self.spoken > thought:
            counts["candidatesTokenCount"] = self.spoken - thought
        if self.cached:
            counts["cachedContentTokenCount"] = self.cached
        if thought:
            counts["thoughtsTokenCount"] = thought
        return b'%b,"usageMetadata":%b%b%b' % (before, orjson.dumps(counts), mark, after)


class BedrockVoice(Voice):
    """ConverseStream."""

    tool_prefix = "tooluse_"
    cache_write = 0
    garbage = eventstream.event("contentBlockDelta", b'{"delta":{"text":"spilt')
    marker = 2

    def fail(self, fault: ErrorEvent, step: Send | None) -> bytes:  # noqa: ARG002
        name = "serviceUnavailableException" if fault.code == _USUAL else fault.code
        return eventstream.exception(name, orjson.dumps({"message": fault.message}))


def _chunk(data: bytes) -> bytes:
    """Return a model's own JSON as Bedrock passes it on."""
    return eventstream.event("chunk", orjson.dumps({"bytes": base64.b64encode(data).decode(), "p": "abcdefgh"}))


class InvokeVoice(BedrockVoice):
    """InvokeModelWithResponseStream: Anthropic's events, each as base64 in a chunk, with the counts of Bedrock in the last one."""

    prefix = "msg_bdrk_"
    tool_prefix = "toolu_bdrk_"
    garbage = _chunk(b'{"type":"spilt')
    marker = 1

    def author(self, dialect: Dialect) -> Dialect:  # noqa: ARG002
        return DIALECTS["anthropic"]

    def _dress(self, said: bytes) -> bytes:
        return b"".join(self._inner(frame.data) for frame in sse.Parser(_HUGE).feed(said))

    def _inner(self, data: bytes) -> bytes:
        if data == b'{"type":"message_stop"}':
            data = orjson.dumps({"type": "message_stop", "amazon-bedrock-invocationMetrics": self._metrics()})
        return _chunk(data)

    def _metrics(self) -> dict[str, int]:
        usage = self._usage(self.tokens)
        counts = {"inputTokenCount": self.prompt.input_tokens - self.cached, "outputTokenCount": usage.output or 0}
        cache = {"cacheReadInputTokenCount": self.cached, "cacheWriteInputTokenCount": 0}
        return counts | cache | {"invocationLatency": 0, "firstByteLatency": 0}


class OllamaVoice(Voice):
    """Lines, with what the machine took for it at the end; of `generate` they have another shape, and no tools."""

    garbage = b'{"message":{"content":"spilt\n'

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.chat = self.call.operation == "chat"

    def document(self) -> bytes:
        return self._dress(super().document())

    def fail(self, fault: ErrorEvent, step: Send | None) -> bytes:  # noqa: ARG002
        return orjson.dumps({"error": fault.message}) + b"\n"

    def _dress(self, said: bytes) -> bytes:
        return b"".join(self._line(line) for line in said.splitlines(keepends=True))

    def _line(self, line: bytes) -> bytes:
        ends = b'"done":true' in line
        if self.chat and not ends:
            return line
        found = orjson.loads(line)
        if not self.chat and "message" in found:
            message = found.pop("message")
            found["response"] = message["content"]
        if ends:
            found |= {"total_duration": self.tokens * TOKEN, "load_duration": TOKEN, "prompt_eval_duration": TOKEN}
            found |= {"eval_duration": self.tokens * TOKEN} | ({} if self.chat else {"context": [1, 2, 3]})
        return orjson.dumps(found).replace(b"\xe2\x80\xa8", b"\\u2028") + (b"\n" if line.endswith(b"\n") else b"")


def embedded(prompt: Prompt, dice: random.Random) -> bytes:
    """Return Ollama's vectors."""
    said = {"model": prompt.model, "embeddings": list(vectors(prompt, dice)), "prompt_eval_count": prompt.input_tokens}
    return orjson.dumps(said | {"total_duration": TOKEN, "load_duration": TOKEN})


def voice(door: Dialect, call: Call, prompt: Prompt, ordinal: int, dice: random.Random) -> Voice:
    """Return a new answer to a call."""
    kind = InvokeVoice if door.name == "bedrock" and call.operation != "chat" else _VOICES[door.name]
    return kind(door, call, prompt, ordinal, dice)


_VOICES: Mapping[str, type[Voice]] = {
    "openai-responses": ResponsesVoice,
    "anthropic": AnthropicVoice,
    "gemini": GeminiVoice,
    "bedrock": BedrockVoice,
    "ollama": OllamaVoice,
}
