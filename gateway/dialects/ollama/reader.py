"""What Ollama's lines say: a typed reading of the few members needed, and a lenient one for what does not fit it.

Sources: docs.ollama.com, api/streaming and api/errors; ollama `api/types.go`. Tool calls have ids since 0.12.10 and counts of cached
input (`prompt_eval_cached_count`, part of `prompt_eval_count`) since ollama#17943; counts that are 0 are left out by the server.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

from gateway.core.events import Delta, Event, Failed, Finished, Started, Terminated, ToolOpened, Usage
from gateway.dialects import lenient
from gateway.dialects.ollama import words
from gateway.wire.framing import Frame


class Function(Struct, gc=False):
    name: str | None = None
    arguments: Raw = Raw(b"")


class ToolCall(Struct, gc=False):
    id: str | None = None
    function: Function | None = None


class Message(Struct, gc=False):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[ToolCall] | None = None


class Line(Struct, gc=False):
    """What is read of every line once the stream has named its model. `response` and `thinking` beside it are those of generate."""

    message: Message | None = None
    response: str | None = None
    thinking: str | None = None
    done: bool | None = None
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    prompt_eval_cached_count: int | None = None
    eval_count: int | None = None
    error: Any = None


class NamedLine(Line, gc=False):
    model: str | None = None


_LINE = msgspec.json.Decoder(Line)
_NAMED = msgspec.json.Decoder(NamedLine)
_NOTHING = Usage()


class LineReader:
    """Reads one stream; what it remembers is whether the stream has named its model and how many tools were called."""

    __slots__ = ("_called", "_named")

    def __init__(self) -> None:
        self._named = False
        self._called = 0

    def events(self, frame: Frame) -> Sequence[Event]:
        """Return what a line says; raises as `dialects.base.Reader.events` does."""
        if not frame.data:
            return ()
        try:
            line = _LINE.decode(frame.data) if self._named else _NAMED.decode(frame.data)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            return self._odd(frame.data, error)
        return self._read(line)

    def _read(self, line: Line) -> list[Event]:
        events: list[Event] = []
        if not self._named and isinstance(line, NamedLine) and line.model:
            self._named = True
            events.append(Started(None, line.model[:256]))
        if (message := line.message) is not None:
            if message.content:
                events.append(Delta("text", message.content))
            if message.thinking or message.tool_calls:
                self._other(message, events)
        if line.thinking:
            events.append(Delta("reasoning", line.thinking))
        if line.response:
            events.append(Delta("text", line.response))
        self._account(line, events)
        return events

    def _other(self, message: Message, events: list[Event]) -> None:
        """Read thinking, which comes before the text of the same line, and tool calls, which come after it."""
        if message.thinking:
            events.insert(len(events) - bool(message.content), Delta("reasoning", message.thinking))
        for call in message.tool_calls or ():
            if (function := call.function) is None:
                continue
            # Counted here: the index that some servers send starts anew in every line.
            index, self._called = self._called, self._called + 1
            events.append(ToolOpened(index, lenient.clipped(call.id), lenient.clipped(function.name)))
            if arguments := _arguments(function.arguments):
                events.append(Delta("arguments", arguments, index))

    def _account(self, line: Line, events: list[Event]) -> None:
        """Read what is not generated output: the end, counts and errors."""
        if line.done and line.done_reason:
            reason = line.done_reason[:64]
            events.append(Finished(reason, words.meaning(reason, self._called > 0)))
        if line.prompt_eval_count is not None or line.eval_count is not None or line.prompt_eval_cached_count is not None:
            usage = Usage(
                input=lenient.count(line.prompt_eval_count),
                output=lenient.count(line.eval_count),
                cached=lenient.count(line.prompt_eval_cached_count),
            )
            if usage != _NOTHING:
                events.append(usage)
        if line.error:
            events.append(failed(line.error))
        if line.done:
            events.append(Terminated())

    def _odd(self, data: bytes, error: Exception) -> Sequence[Event]:
        """Read what the typed reading refused: JSON in which something has the wrong type; or raise."""
        found = lenient.untyped(data)
        events = self._read(_loosely(found)) if isinstance(found, dict) else []
        if not events:
            raise msgspec.ValidationError(f"no known shape: {type(found).__name__}") from error
        return events


def failed(error: Any) -> Failed:
    """Read an error: a sentence, or with servers that imitate Ollama an object."""
    if not isinstance(error, dict):
        return Failed("upstream_error", lenient.encodable(str(error)[:1000]))
    codes = (error.get("code"), error.get("type"))
    code = next((str(code) for code in codes if code and isinstance(code, str | int)), "upstream_error")
    return Failed(lenient.encodable(code[:64]), lenient.encodable(str(error.get("message") or "")[:1000]))


def _arguments(said: Raw) -> str:
    """Return the arguments as the JSON text they came in; servers that imitate Ollama may send that text as a string."""
    raw = bytes(said)
    if raw.startswith(b'"'):
        return str(lenient.untyped(raw))
    return "" if raw == b"null" else raw.decode("utf-8", "replace")


def _loosely(found: dict[str, Any]) -> NamedLine:
    """Take what can be understood from a line in which something has the wrong type."""
    message = found.get("message")
    return NamedLine(
        message=_message(message) if isinstance(message, dict) else None,
        response=lenient.text(found.get("response")),
        thinking=lenient.text(found.get("thinking")),
        done=found.get("done") is True,
        done_reason=_sayable(found.get("done_reason")),
        prompt_eval_count=lenient.count(found.get("prompt_eval_count")),
        prompt_eval_cached_count=lenient.count(found.get("prompt_eval_cached_count")),
        eval_count=lenient.count(found.get("eval_count")),
        error=found.get("error"),
        model=_sayable(found.get("model")),
    )


def _sayable(said: Any) -> str | None:
    """Return a word that telemetry can repeat: half a character is a question mark there."""
    return lenient.encodable(said) if isinstance(said, str) else None


def _message(message: dict[str, Any]) -> Message:
    calls = [_call(call) for call in lenient.mappings(message.get("tool_calls"))]
    return Message(lenient.text(message.get("content")), lenient.text(message.get("thinking")), calls)


def _call(call: dict[str, Any]) -> ToolCall:
    function = call.get("function")
    if not isinstance(function, dict):
        return ToolCall()
    arguments = function.get("arguments")
    raw = Raw(b"") if arguments is None else Raw(words.encode(arguments))
    return ToolCall(lenient.text(call.get("id")), Function(lenient.text(function.get("name")), raw))
