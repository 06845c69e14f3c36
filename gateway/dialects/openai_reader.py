"""What OpenAI-shaped chunks say: a typed reading that costs a microsecond, and a lenient one for what does not fit it."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from gateway.core.events import Delta, Event, Failed, Finished, Started, Terminated, ToolOpened, Usage
from gateway.wire import sse


class Function(Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class Tool(Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: Function | None = None


class Audio(Struct, gc=False):
    data: str | None = None
    transcript: str | None = None


class Said(Struct, gc=False):
    """A choice's delta. vLLM says `reasoning` or, before, `reasoning_content`; some servers repeat one in the other."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[Tool] | None = None
    refusal: str | None = None
    function_call: Function | None = None
    audio: Audio | None = None


class Choice(Struct, gc=False):
    """`text` is the completions endpoint's; Azure's content filter sends choices without a delta."""

    index: int = 0
    delta: Said | None = None
    finish_reason: str | None = None
    text: str | None = None


class InputDetails(Struct, gc=False):
    cached_tokens: int | None = None


class OutputDetails(Struct, gc=False):
    reasoning_tokens: int | None = None


class Counts(Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: InputDetails | None = None
    completion_tokens_details: OutputDetails | None = None


class Groq(Struct, gc=False):
    usage: Counts | None = None
    error: Any = None


class Chunk(Struct, gc=False):
    """What is read of every chunk once the stream has named itself; the rest is skipped, not built."""

    choices: list[Choice] | None = None
    usage: Counts | None = None
    error: Any = None
    x_groq: Groq | None = None


class NamedChunk(Chunk, gc=False):
    id: str | None = None
    model: str | None = None


_CHUNK = msgspec.json.Decoder(Chunk)
_NAMED = msgspec.json.Decoder(NamedChunk)
_DONE = (Terminated(),)
_WORD = 2**63


class ChunkReader:
    """Reads one stream; what it remembers is whether the stream has named itself and which tool call was opened last."""

    __slots__ = ("_named", "_opened", "_started")

    def __init__(self) -> None:
        self._named = False
        self._started = Started()
        self._opened: ToolOpened | None = None

    def events(self, frame: sse.Frame) -> Sequence[Event]:
        """Return what a frame says; raises as `dialects.base.Reader.events` does."""
        if frame.data == b"[DONE]":
            return _DONE
        try:
            chunk = _CHUNK.decode(frame.data) if self._named else _NAMED.decode(frame.data)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            return self._odd(frame, error)
        return self._read(chunk)

    def _read(self, chunk: Chunk) -> list[Event]:
        events: list[Event] = []
        if not self._named:
            self._name(chunk, events)
        if chunk.choices:
            for choice in chunk.choices:
                if (said := choice.delta) is not None:
                    if said.content:
                        events.append(Delta("text", said.content, choice.index))
                    self._other(said, choice.index, events)
                if choice.text:
                    events.append(Delta("text", choice.text, choice.index))
                if choice.finish_reason:
                    events.append(Finished(choice.finish_reason[:64]))
        if chunk.usage or chunk.error or chunk.x_groq:
            _account(chunk, events)
        return events

    def _name(self, chunk: Chunk, events: list[Event]) -> None:
        """Tell the stream's id and model once they are known: Azure's first chunk has both, and both are empty."""
        assert isinstance(chunk, NamedChunk)
        known = self._started
        self._started = Started(known.id or _clipped(chunk.id), known.model or _clipped(chunk.model))
        self._named = bool(self._started.id and self._started.model)
        if self._started != known:
            events.append(self._started)

    def _other(self, said: Said, index: int, events: list[Event]) -> None:
        """Read every kind of output but plain text."""
        if text := said.reasoning_content or said.reasoning:
            events.append(Delta("reasoning", text, index))
        if said.tool_calls:
            for position, tool in enumerate(said.tool_calls):
                self._call(tool.function, position if tool.index is None else tool.index, tool.id, events)
        if said.refusal:
            events.append(Delta("refusal", said.refusal, index))
        if said.function_call is not None:
            self._call(said.function_call, index, None, events)
        if said.audio is not None and (sound := said.audio.transcript or said.audio.data):
            events.append(Delta("audio", sound, index))

    def _call(self, function: Function | None, index: int, tool: str | None, events: list[Event]) -> None:
        """Read a piece of a tool call; some servers repeat its id and name with every piece."""
        name = function.name if function is not None else None
        if name or tool:
            opened = ToolOpened(index, _clipped(tool), _clipped(name))
            if opened != self._opened:
                self._opened = opened
                events.append(opened)
        if function is not None and function.arguments:
            events.append(Delta("arguments", function.arguments, index))

    def _odd(self, frame: sse.Frame, error: Exception) -> Sequence[Event]:
        """Read what the typed reading refused: the end marker, an old error field, JSON of another shape; or raise."""
        data = frame.data.strip()
        if not data:
            return _error_field(frame.raw)
        if data.startswith(b"[DONE]"):
            return _DONE
        found = _untyped(data)
        if isinstance(found, list) and found:
            found = found[0]  # Gemini's OpenAI surface wraps its error in a list
        events = self._read(_loosely(found)) if isinstance(found, dict) else []
        if not events:
            raise msgspec.ValidationError(f"no known shape: {type(found).__name__}") from error
        return events


def _account(chunk: Chunk, events: list[Event]) -> None:
    """Read what is not generated output: counts and errors."""
    groq = chunk.x_groq
    usage = _usage(chunk.usage or (groq.usage if groq else None))
    if usage is not None:
        events.append(usage)
    if error := chunk.error or (groq.error if groq else None):
        events.append(_failed(error))


_NOTHING = Usage()


def _usage(counts: Counts | None) -> Usage | None:
    if counts is None:
        return None
    details, output_details = counts.prompt_tokens_details, counts.completion_tokens_details
    usage = Usage(
        input=_count(counts.prompt_tokens),
        output=_count(counts.completion_tokens),
        cached=_count(details.cached_tokens) if details else None,
        reasoning=_count(output_details.reasoning_tokens) if output_details else None,
    )
    return None if usage == _NOTHING else usage


def _failed(error: Any) -> Failed:
    """Read an error object; vLLM's code is a number, llama.cpp's an HTTP status, some servers send a bare string."""
    if not isinstance(error, dict):
        return Failed("upstream_error", str(error)[:1000])
    codes = (error.get("code"), error.get("type"))
    code = next((str(code) for code in codes if code and isinstance(code, str | int)), "upstream_error")
    return Failed(code[:64], str(error.get("message") or "")[:1000])


def _error_field(raw: bytes) -> Sequence[Event]:
    """Read llama.cpp's old way to report an error: an SSE field of that name, which the event stream rules ignore."""
    if not raw.startswith(b"error:"):
        return ()
    text = raw[6:].strip()
    try:
        return [_failed(_untyped(text))]
    except msgspec.DecodeError:
        return [_failed(text.decode("utf-8", "replace"))]


def _untyped(data: bytes) -> Any:
    """Read any JSON; the standard library takes the lone surrogates and NaNs that real servers send."""
    try:
        return json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error


def _loosely(found: dict[str, Any]) -> NamedChunk:
    """Take what can be understood from a chunk in which something has the wrong type."""
    groq = _dict(found.get("x_groq"))
    return NamedChunk(
        choices=[_choice(choice) for choice in _dicts(found.get("choices"))],
        usage=_counts(found.get("usage")),
        error=found.get("error"),
        x_groq=Groq(_counts(groq.get("usage")), groq.get("error")),
        id=_text(found.get("id")),
        model=_text(found.get("model")),
    )


def _choice(choice: dict[str, Any]) -> Choice:
    index = _count(choice.get("index")) or 0
    delta = _dict(choice.get("delta"))
    content = delta.get("content")
    said = Said(
        content=_text(content) or _parts(content, "text"),
        reasoning_content=_text(delta.get("reasoning_content")) or _parts(content, "thinking"),
        reasoning=_text(delta.get("reasoning")),
        tool_calls=[_tool(tool) for tool in _dicts(delta.get("tool_calls"))],
        refusal=_text(delta.get("refusal")),
        function_call=_function(delta.get("function_call")),
        audio=Audio(_text(_dict(delta.get("audio")).get("data")), _text(_dict(delta.get("audio")).get("transcript"))),
    )
    return Choice(index, said, _text(choice.get("finish_reason")), _text(choice.get("text")))


def _tool(tool: dict[str, Any]) -> Tool:
    return Tool(_count(tool.get("index")), _text(tool.get("id")), _function(tool.get("function")))


def _function(function: Any) -> Function:
    found = _dict(function)
    arguments = found.get("arguments")
    whole = json.dumps(arguments) if isinstance(arguments, dict) and arguments else None  # some servers send them already parsed
    return Function(_text(found.get("name")), _text(arguments) or whole)


def _counts(usage: Any) -> Counts | None:
    if not isinstance(usage, dict):
        return None
    return Counts(
        _count(usage.get("prompt_tokens")),
        _count(usage.get("completion_tokens")),
        InputDetails(_count(_dict(usage.get("prompt_tokens_details")).get("cached_tokens"))),
        OutputDetails(_count(_dict(usage.get("completion_tokens_details")).get("reasoning_tokens"))),
    )


def _parts(content: Any, kind: str) -> str | None:
    """Join the parts of one kind: Mistral's reasoning models stream content as a list of `text` and `thinking` parts."""
    found = [part.get(kind) for part in _dicts(content)]
    return "".join(_text(part) or _parts(part, "text") or "" for part in found) or None


def _clipped(name: str | None) -> str | None:
    return name[:256] if name else None


def _text(found: Any) -> str | None:
    return found if isinstance(found, str) else None


def _count(found: Any) -> int | None:
    """Return a token count or an index; what is negative, fractional or beyond 64 bits is none."""
    if isinstance(found, str) and found.isdecimal() and len(found) < 19:
        return int(found)
    fits = type(found) in {int, float} and 0 <= found < _WORD and found == int(found)
    return int(found) if fits else None


def _dict(found: Any) -> dict[str, Any]:
    return found if isinstance(found, dict) else {}


def _dicts(found: Any) -> list[dict[str, Any]]:
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
