"""What Messages frames and documents say: a typed reading that costs a microsecond, and a lenient one for what does not fit it."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from gateway.core.events import Delta, Event, Failed, Finished, Meaning, Started, Terminated, ToolOpened, Usage
from gateway.dialects import lenient
from gateway.dialects.lenient import WORD, clipped, count, encodable, mapping, mappings, text
from gateway.wire.framing import Frame

MEANINGS: dict[str, Meaning] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tools",
    "refusal": "filtered",
    "pause_turn": "other",  # a server tool ran long: the client may send the answer back to have it continued
}


class Piece(Struct, gc=False):
    """A `delta`, of a block or of the message; signatures and citations are no output and are skipped."""

    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class Block(Struct, gc=False):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = msgspec.Raw()


class OutputDetails(Struct, gc=False):
    thinking_tokens: int | None = None


class Counts(Struct, gc=False):
    """Counts as they come: `input_tokens` holds neither what was read from the cache nor what was written to it."""

    input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    output_tokens: int | None = None
    output_tokens_details: OutputDetails | None = None


class Message(Struct, gc=False):
    """A whole message, or the empty one that opens a stream; `input_tokens` is what count_tokens answers."""

    id: str | None = None
    model: str | None = None
    content: list[Block] | None = None
    stop_reason: str | None = None
    usage: Counts | None = None
    input_tokens: int | None = None
    error: Any = None


class Chunk(Struct, gc=False):
    type: str = ""
    index: int | None = None
    delta: Piece | None = None
    content_block: Block | None = None
    message: Message | None = None
    usage: Counts | None = None
    error: Any = None


_CHUNK = msgspec.json.Decoder(Chunk)
_MESSAGE = msgspec.json.Decoder(Message)
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)
_SPEAKING = frozenset({"message_start", "content_block_delta", "message_delta"})


class StreamReader:
    """Reads one stream; what it remembers is the counts so far, the last block, and which block came with its whole input."""

    __slots__ = ("_known", "_last", "_whole")

    def __init__(self) -> None:
        self._known = Counts()
        self._last = -1
        self._whole = -1

    def events(self, frame: Frame) -> Sequence[Event]:
        """Return what a frame says; raises as `dialects.base.Reader.events` does."""
        if not frame.data:
            return ()
        try:
            chunk = _CHUNK.decode(frame.data)
        except _UNREADABLE as error:
            return self._odd(frame, error)
        if chunk.error or chunk.type == "error" or frame.name == "error":
            return [failure(frame.data)]
        return self._read(chunk, chunk.type or frame.name)

    def _read(self, chunk: Chunk, kind: str) -> Sequence[Event]:
        if kind == "content_block_delta":
            return self._piece(chunk)
        if kind == "content_block_start":
            return self._open(chunk)
        if kind == "message_start" and chunk.message is not None:
            return [*_started(chunk.message), *self._account(chunk.message.usage)]
        if kind == "message_delta":
            reason = chunk.delta.stop_reason if chunk.delta is not None else None
            return [*_finished(reason), *self._account(chunk.usage)]
        return [Terminated()] if kind == "message_stop" else ()  # new kinds of events may come at any time

    def _piece(self, chunk: Chunk) -> Sequence[Event]:
        piece = chunk.delta
        if piece is None:
            return ()
        index = self._last = self._place(chunk.index, max(self._last, 0))
        if piece.text:
            return [Delta("text", piece.text, index)]
        if piece.thinking:
            return [Delta("reasoning", piece.thinking, index)]
        return [Delta("arguments", piece.partial_json, index)] if piece.partial_json and index != self._whole else ()

    def _open(self, chunk: Chunk) -> Sequence[Event]:
        index = self._last = self._place(chunk.index, self._last + 1)
        events = _block(chunk.content_block, index) if chunk.content_block is not None else []
        if len(events) > 1:
            self._whole = index
        return events

    def _place(self, index: int | None, otherwise: int) -> int:
        return otherwise if index is None or not 0 <= index < WORD else index

    def _account(self, said: Counts | None) -> Sequence[Event]:
        """Take counts in: each is a total so far, so it replaces the one before; what is left out is as it was."""
        if said is None:
            return ()
        known = self._known
        self._known = Counts(
            _later(said.input_tokens, known.input_tokens),
            _later(said.cache_read_input_tokens, known.cache_read_input_tokens),
            _later(said.cache_creation_input_tokens, known.cache_creation_input_tokens),
            _later(said.output_tokens, known.output_tokens),
            said.output_tokens_details or known.output_tokens_details,
        )
        return _usage(self._known)

    def _odd(self, frame: Frame, error: Exception) -> Sequence[Event]:
        """Read what the typed reading refused: members of a wrong type, half an emoji, an error in plain text; or raise."""
        if frame.name == "error":
            return [failure(frame.data)]
        data = frame.data.strip()
        if not data or data == b"[DONE]":
            return ()  # vLLM says it after message_stop
        found = lenient.untyped(data)
        if not isinstance(found, dict):
            raise msgspec.ValidationError(f"no known shape: {type(found).__name__}") from error
        if found.get("error") or found.get("type") == "error":
            return [failure(data)]
        kind = text(found.get("type")) or frame.name
        events = self._read(_loosely(found), kind)
        if not events and kind in _SPEAKING:
            raise msgspec.ValidationError(f"no known shape: {kind}") from error
        return events


def document_events(body: bytes) -> Sequence[Event]:
    """Return what an answer in one piece says: a message, the answer to count_tokens, or an error."""
    if not body or body.isspace():
        raise msgspec.DecodeError("an empty answer")
    try:
        message = _MESSAGE.decode(body)
    except _UNREADABLE as error:
        found = lenient.untyped(body)
        if not isinstance(found, dict):
            raise msgspec.ValidationError(f"no known shape: {type(found).__name__}") from error
        message = _message(found)
    if message.error:
        return [_failed(message.error)]
    events = [*_started(message)]
    for index, block in enumerate(message.content or ()):
        events += _block(block, index)
    return [*events, *_finished(message.stop_reason), *_usage(message.usage or Counts(message.input_tokens))]


def _started(message: Message) -> Sequence[Event]:
    started = Started(clipped(message.id), clipped(message.model))
    return [started] if started.id or started.model else ()


def _finished(reason: str | None) -> Sequence[Event]:
    return [Finished(encodable(reason[:64]), MEANINGS.get(reason, "other"))] if reason else ()


def _block(block: Block, index: int) -> list[Event]:
    """Read a block's beginning, or all of it. Server tools are calls too: the model writes them, though no client answers them."""
    if not block.type.endswith("tool_use"):
        said = (("reasoning", block.thinking), ("text", block.text))
        return [Delta(kind, words, index) for kind, words in said if words]  # type: ignore[arg-type]
    opened = ToolOpened(index, clipped(block.id), clipped(block.name))
    arguments = bytes(block.input)
    if arguments == b"null" or not arguments.strip(b"{} \t\r\n"):
        return [opened]
    return [opened, Delta("arguments", arguments.decode("utf-8", "replace"), index)]


def _later(said: int | None, known: int | None) -> int | None:
    return known if (found := count(said)) is None else found


def _usage(counts: Counts) -> Sequence[Event]:
    """Say counts as every dialect does, input including the cache. Source: "Total input tokens" in the API reference's `usage`."""
    read, written = count(counts.cache_read_input_tokens), count(counts.cache_creation_input_tokens)
    fresh = count(counts.input_tokens)
    details = counts.output_tokens_details
    usage = Usage(
        input=None if fresh is None else count(fresh + (read or 0) + (written or 0)),
        output=count(counts.output_tokens),
        cached=read,
        cache_write=written,
        reasoning=count(details.thinking_tokens) if details is not None else None,
    )
    return [usage] if usage != _NOTHING else ()


_NOTHING = Usage()


def failure(data: bytes) -> Failed:
    """Read an error frame or answer: the error is in `error`, or is the whole object, or is no JSON at all. Never raises."""
    try:
        found = lenient.untyped(data)
    except msgspec.DecodeError:
        return _failed(data.decode("utf-8", "replace").strip())
    return _failed(found.get("error") or found if isinstance(found, dict) else found)


def _failed(error: Any) -> Failed:
    """Read an error object; llama.cpp's has an HTTP status as `code` beside its `type`."""
    if not isinstance(error, dict):
        return Failed("upstream_error", encodable(str(error))[:1000])
    codes = (error.get("type"), error.get("code"))
    code = next((str(code) for code in codes if code and isinstance(code, str | int) and code != "error"), "upstream_error")
    message = error.get("message") or error.get("detail") or ""
    return Failed(encodable(code)[:64], encodable(str(message))[:1000])


def _loosely(found: dict[str, Any]) -> Chunk:
    """Take what can be understood from a frame in which something has the wrong type."""
    delta, block = mapping(found.get("delta")), found.get("content_block")
    return Chunk(
        index=count(found.get("index")),
        delta=Piece(*(text(delta.get(member)) for member in Piece.__struct_fields__)),
        content_block=_loose_block(block) if isinstance(block, dict) else None,
        message=_message(mapping(found.get("message"))),
        usage=_counts(found.get("usage")),
    )


def _loose_block(block: dict[str, Any]) -> Block:
    given = block.get("input")
    return Block(
        type=text(block.get("type")) or "",
        text=text(block.get("text")),
        thinking=text(block.get("thinking")),
        id=text(block.get("id")),
        name=text(block.get("name")),
        input=msgspec.Raw(lenient.encode(given)) if isinstance(given, dict) else msgspec.Raw(),
    )


def _message(found: dict[str, Any]) -> Message:
    return Message(
        id=text(found.get("id")),
        model=text(found.get("model")),
        content=[_loose_block(block) for block in mappings(found.get("content"))],
        stop_reason=text(found.get("stop_reason")),
        usage=_counts(found.get("usage")),
        input_tokens=count(found.get("input_tokens")),
        error=found.get("error"),
    )


def _counts(usage: Any) -> Counts | None:
    if not isinstance(usage, dict):
        return None
    details = usage.get("output_tokens_details")
    return Counts(
        count(usage.get("input_tokens")),
        count(usage.get("cache_read_input_tokens")),
        count(usage.get("cache_creation_input_tokens")),
        count(usage.get("output_tokens")),
        OutputDetails(count(details.get("thinking_tokens"))) if isinstance(details, dict) else None,
    )
