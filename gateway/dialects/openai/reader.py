"""What OpenAI-shaped chunks say: a typed reading that costs a microsecond, and a lenient one for what does not fit it."""

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.core.events import Delta, Event, Failed, Finished, Meaning, Started, Terminated, ToolOpened, Usage
from gateway.dialects.lenient import clipped, count, encodable, untyped
from gateway.dialects.openai.odd import loosely
from gateway.dialects.openai.shapes import Choice, Chunk, Counts, Document, Function, NamedChunk, Said
from gateway.wire.framing import Frame

MEANINGS: dict[str, Meaning] = {
    "stop": "stop",
    "eos": "stop",  # Together
    "eos_token": "stop",  # TGI
    "stop_sequence": "stop",  # TGI
    "length": "length",
    "model_length": "length",  # Mistral
    "tool_calls": "tools",
    "function_call": "tools",
    "content_filter": "filtered",
}
"""What servers of this family say when an answer ends; every other word means something else."""
MAX_TOOLS = 128

_CHUNK = msgspec.json.Decoder(Chunk)
_NAMED = msgspec.json.Decoder(NamedChunk)
_DOCUMENT = msgspec.json.Decoder(Document)
_DONE = (Terminated(),)


class ChunkReader:
    """Reads one stream; what it remembers is whether the stream has named itself and which tool calls were opened, 128 at most."""

    __slots__ = ("_indexes", "_named", "_spare", "_started", "_tools")

    def __init__(self) -> None:
        self._named = False
        self._started = Started()
        self._tools: dict[tuple[int, int], ToolOpened] = {}
        self._indexes: set[int] = set()
        self._spare = 0

    def events(self, frame: Frame) -> Sequence[Event]:
        """Return what a frame says; raises as `dialects.base.Reader.events` does."""
        if frame.data == b"[DONE]":
            return _DONE
        try:
            chunk = _CHUNK.decode(frame.data) if self._named else _NAMED.decode(frame.data)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            return self._odd_frame(frame, error)
        return self._read(chunk)

    def document(self, body: bytes) -> Sequence[Event]:
        """Return what an answer in one piece says; raises as `events` does."""
        try:
            whole = _DOCUMENT.decode(body)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            return self._odd(body, "message", error)
        choices = [Choice(choice.index, choice.message, choice.finish_reason, choice.text) for choice in whole.choices or ()]
        return self._read(NamedChunk(choices, whole.usage, whole.error, whole.x_groq, whole.id, whole.model))

    def _read(self, chunk: Chunk) -> list[Event]:
        events: list[Event] = []
        if not self._named:
            self._name(chunk, events)
        if chunk.choices:
            for choice in chunk.choices:
                if (said := choice.delta) is not None:
                    if text := said.reasoning_content or said.reasoning:
                        events.append(Delta("reasoning", text, choice.index))
                    if said.content:
                        events.append(Delta("text", said.content, choice.index))
                    self._other(said, choice.index, events)
                if choice.text:
                    events.append(Delta("text", choice.text, choice.index))
                if word := choice.finish_reason:
                    events.append(Finished(encodable(word[:64]), MEANINGS.get(word, "other")))
        if chunk.usage or chunk.error or chunk.x_groq:
            _account(chunk, events)
        return events

    def _name(self, chunk: Chunk, events: list[Event]) -> None:
        """Tell the stream's id and model once they are known: Azure's first chunk has both, and both are empty."""
        assert isinstance(chunk, NamedChunk)
        known = self._started
        self._started = Started(known.id or clipped(chunk.id), known.model or clipped(chunk.model))
        self._named = bool(self._started.id and self._started.model)
        if self._started != known:
            events.append(self._started)

    def _other(self, said: Said, choice: int, events: list[Event]) -> None:
        """Read every kind of output but text and reasoning."""
        if said.tool_calls:
            for position, tool in enumerate(said.tool_calls):
                self._call((choice, position if tool.index is None else tool.index), tool.id, tool.function, events)
        if said.refusal:
            events.append(Delta("refusal", said.refusal, choice))
        if said.function_call is not None:
            self._call((choice, choice), None, said.function_call, events)
        if said.audio is not None and (sound := said.audio.transcript or said.audio.data):
            events.append(Delta("audio", sound, choice))

    def _call(self, place: tuple[int, int], id: str | None, function: Function | None, events: list[Event]) -> None:  # noqa: A002
        """Read a piece of a tool call; `place` is its choice and its index there."""
        name = function.name if function is not None else None
        if (name or id) and (opened := self._opened(place, clipped(id), clipped(name))) is not None:
            events.append(opened)
        if function is not None and function.arguments:
            known = self._tools.get(place)
            events.append(Delta("arguments", function.arguments, place[1] if known is None else known.index))

    def _opened(self, place: tuple[int, int], id: str | None, name: str | None) -> ToolOpened | None:  # noqa: A002
        """Tell a new tool call from a piece of a known one, which on some servers repeats its id and name."""
        known, index = self._tools.get(place), place[1]
        if known is not None and not _differs(known, id, name):
            return None
        if known is not None and known.name is None:
            index, id = known.index, known.id or id  # noqa: A001 - its name comes late
        elif index in self._indexes:
            self._spare -= 1
            index = self._spare  # Ollama gives every call the index 0, several choices give theirs alike: a number nobody else has
        opened = ToolOpened(index, id, name)
        if len(self._indexes) < MAX_TOOLS:
            self._tools[place] = opened
            self._indexes.add(index)
        return opened

    def _odd_frame(self, frame: Frame, error: Exception) -> Sequence[Event]:
        """Read what the typed reading refused: the end marker, an old error field, JSON of another shape; or raise."""
        data = frame.data.strip()
        if not data:
            return _error_field(frame.raw)
        return [Terminated()] if data.startswith(b"[DONE]") else self._odd(data, "delta", error)

    def _odd(self, data: bytes, spoken: str, error: Exception) -> Sequence[Event]:
        found = untyped(data)
        if isinstance(found, list) and found:
            found = found[0]  # Gemini's OpenAI surface wraps its error in a list
        events = self._read(loosely(found, spoken)) if isinstance(found, dict) else []
        if not events:
            raise msgspec.ValidationError(f"no known shape: {type(found).__name__}") from error
        return events


def read_error(status: int, body: bytes) -> Failed:
    """Read an error answer: OpenAI's, or a framework's `detail`, a gateway's bare `message`, text, a page, nothing at all."""
    try:
        found = untyped(body)
    except msgspec.DecodeError:
        text = body[:4000].decode("utf-8", "replace").strip()
        return Failed(str(status), "" if text.startswith("<") else text[:1000])
    if isinstance(found, list) and found:
        found = found[0]
    said = (found.get("error") or found) if isinstance(found, dict) else found
    if isinstance(said, dict) and "message" not in said:
        detail = said.get("detail")
        detail = detail[0].get("msg") if isinstance(detail, list) and detail and isinstance(detail[0], dict) else detail
        said = {**said, "message": detail if isinstance(detail, str) else ""}
    return _failed(said, str(status))


def _differs(known: ToolOpened, id: str | None, name: str | None) -> bool:  # noqa: A002
    """Old vLLM gave every piece an id of its own: an id alone opens nothing where a call is already open."""
    if name is None:
        return False
    return id != known.id if id and known.id else name != known.name


def _account(chunk: Chunk, events: list[Event]) -> None:
    """Read what is not generated output: counts and errors."""
    groq = chunk.x_groq
    usage = _usage(chunk.usage or (groq.usage if groq else None))
    if usage is not None:
        events.append(usage)
    if error := chunk.error or (groq.error if groq else None):
        events.append(_failed(error, "upstream_error"))


_NOTHING = Usage()


def _usage(counts: Counts | None) -> Usage | None:
    if counts is None:
        return None
    details, output_details = counts.prompt_tokens_details, counts.completion_tokens_details
    usage = Usage(
        input=count(counts.prompt_tokens),
        output=count(counts.completion_tokens),
        cached=count(details.cached_tokens) if details else None,
        cache_write=count(details.cache_write_tokens) if details else None,
        reasoning=count(output_details.reasoning_tokens) if output_details else None,
    )
    return None if usage == _NOTHING else usage


def _failed(error: Any, unnamed: str) -> Failed:
    """Read an error object; vLLM's code is a number, llama.cpp's an HTTP status, some servers send a bare string."""
    if not isinstance(error, dict):
        return Failed(unnamed, encodable(str(error)[:1000]) if isinstance(error, str | int | float) else "")
    codes = (error.get("code"), error.get("type"))
    code = next((str(code) for code in codes if code and isinstance(code, str | int)), unnamed)
    message = error.get("message")
    return Failed(encodable(code[:64]), encodable(message[:1000]) if isinstance(message, str) else "")


def _error_field(raw: bytes) -> Sequence[Event]:
    """Read llama.cpp's old way to report an error: an SSE field of that name, which the event stream rules ignore."""
    if not raw.startswith(b"error:"):
        return ()
    text = raw[6:].strip()
    try:
        return [_failed(untyped(text), "upstream_error")]
    except msgspec.DecodeError:
        return [_failed(text.decode("utf-8", "replace"), "upstream_error")]
