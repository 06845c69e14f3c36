"""What the chunks of InvokeModelWithResponseStream say: the JSON of whatever model was asked, known by its members.

Sources: the inference parameters of each model family in the Bedrock user guide; Anthropic's streaming events. What no family here says
is passed on unread: any imported model may have a shape of its own.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct, field

from gateway.core.events import Delta, Event, Failed, Finished, Meaning, Started, Terminated, ToolOpened, Usage
from gateway.dialects.bedrock import reader
from gateway.dialects.bedrock.reader import inclusive, written
from gateway.dialects.lenient import clipped, count, encodable, encode, mapping, mappings, text, untyped
from gateway.wire.framing import Frame

METRICS = "amazon-bedrock-invocationMetrics"
_NESTED = ("outputs", "choices", "generations", "results")  # Mistral, the OpenAI-shaped, Cohere, Titan
_TEXTS = ("outputText", "generation", "text", "completion", "content")
_REASONS = ("completionReason", "stop_reason", "finish_reason")
_CONVERSE = ("contentBlockDelta", "contentBlockStart", "messageStop", "metadata")  # Nova says ConverseStream's events, one a chunk

_MEANINGS: Mapping[str, Meaning] = {
    **reader.MEANINGS,
    "stop": "stop",
    "finish": "stop",
    "complete": "stop",
    "finished": "stop",
    "length": "length",
    "max_token": "length",
    "tool_calls": "tools",
    "tool_call": "tools",
    "content_filter": "filtered",
    "error_toxic": "filtered",
    "refusal": "filtered",
}
_COUNTS: Mapping[str, tuple[str, ...]] = {
    "input": ("inputTokenCount", "input_tokens", "prompt_tokens", "prompt_token_count", "inputTextTokenCount"),
    "output": (
        "outputTokenCount",
        "output_tokens",
        "completion_tokens",
        "generation_token_count",
        "totalOutputTextTokenCount",
        "tokenCount",
    ),
    "cached": ("cacheReadInputTokenCount", "cache_read_input_tokens"),
    "reasoning": ("reasoning_tokens",),
    "cache_write": ("cacheWriteInputTokenCount", "cache_creation_input_tokens"),
}


class Chunk(Struct, gc=False):
    """The payload of a `chunk` event: base64 of a model's JSON."""

    inner: bytes = field(default=b"", name="bytes")


_CHUNK = msgspec.json.Decoder(Chunk)


class InvokeReader:
    """Reads one stream; it remembers the counts said so far, for each family says them in several places."""

    __slots__ = ("_converse", "_counts", "_usage")

    def __init__(self) -> None:
        self._converse = reader.ConverseReader()
        self._counts: dict[str, int] = {}
        self._usage: Usage | None = None

    def events(self, frame: Frame) -> Sequence[Event]:
        """Return what a frame says; raises as `dialects.base.Reader.events` does."""
        if frame.name != "chunk":
            return reader.failure(frame)
        try:
            inner = _CHUNK.decode(frame.data).inner
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise msgspec.ValidationError("no known shape: a chunk without bytes") from error
        return self.said(untyped(inner))

    def said(self, found: Any) -> Sequence[Event]:
        """Return what a model's JSON says: a chunk of a stream, or a whole answer."""
        if not isinstance(found, dict):
            raise msgspec.ValidationError(f"no known shape: {type(found).__name__}")
        events = list(self._answer(found))
        metrics = found.get(METRICS)
        if isinstance(metrics, dict):
            events += (*self._count(metrics), Terminated())
        return events

    def _answer(self, found: dict[str, Any]) -> Iterator[Event]:
        if read := _ANTHROPIC.get(text(found.get("type")) or ""):
            yield from read(found)
            yield from self._count(mapping(mapping(found.get("message")).get("usage")), mapping(found.get("usage")))
        elif named := [name for name in _CONVERSE if isinstance(found.get(name), dict)]:
            yield from self._nova(named[0], found)
        elif "output" in found:
            yield from reader.document(reader.decode(encode(found)))
        else:
            yield from _plainly(found)
            usage = mapping(found.get("usage"))
            inner = [item for name in _NESTED for item in mappings(found.get(name))]
            yield from self._count(found, usage, mapping(usage.get("completion_tokens_details")), *inner)

    def _nova(self, name: str, found: dict[str, Any]) -> Iterator[Event]:
        """Read one of ConverseStream's events; here the last chunk is the one that has the metrics."""
        events = self._converse.said(name, reader.decode(encode(found[name])))
        yield from (event for event in events if not isinstance(event, Terminated))

    def _count(self, *places: Mapping[str, Any]) -> Iterator[Event]:
        """Note what these places count, and tell the whole when it has changed; what they do not count stays as it was."""
        for place in places:
            for key, names in _COUNTS.items():
                for name in names:
                    if (number := count(place.get(name))) is not None:
                        self._counts[key] = number
        if not self._counts:
            return
        known = self._counts.get
        total = inclusive(known("input"), known("cached"), known("cache_write"))
        usage = Usage(total, known("output"), known("cached"), known("cache_write"), known("reasoning"))
        if usage != self._usage:
            self._usage = usage
            yield usage


def _plainly(found: dict[str, Any]) -> Iterator[Event]:
    """Read text and its end where the families that have no event types put them: on top, or in a list of one."""
    for place in (found, *(item for name in _NESTED for item in mappings(found.get(name))[:1])):
        yield from _piece(place)
        for said in (mapping(place.get("delta")), mapping(place.get("message"))):
            yield from _piece(said)
        if reason := next((word for name in _REASONS if (word := text(place.get(name)))), None):
            yield _finished(reason)


def _piece(said: dict[str, Any]) -> Iterator[Event]:
    for name in ("reasoning_content", "reasoning"):
        if thought := text(said.get(name)):
            yield Delta("reasoning", thought)
            break
    if words := next((found for name in _TEXTS if (found := text(said.get(name)))), None):
        yield Delta("text", words)
    for position, tool in enumerate(mappings(said.get("tool_calls"))):
        yield from _tool(tool, position)


def _tool(tool: dict[str, Any], position: int) -> Iterator[Event]:
    """Read an OpenAI-shaped piece of a tool call, or Cohere's whole one."""
    function = mapping(tool.get("function")) or tool
    index = count(tool.get("index"))
    place = position if index is None else index
    if name := text(function.get("name")):
        yield ToolOpened(place, clipped(text(tool.get("id"))), clipped(name))
    if arguments := written(function.get("arguments") or function.get("parameters")):
        yield Delta("arguments", arguments, place)


def _finished(reason: str) -> Finished:
    return Finished(encodable(reason[:64]), _MEANINGS.get(reason.lower(), "other"))


def _message_start(found: dict[str, Any]) -> Iterator[Event]:
    message = mapping(found.get("message"))
    started = Started(*(clipped(text(message.get(name))) for name in ("id", "model")))
    if started != Started():
        yield started


def _block_start(found: dict[str, Any]) -> Iterator[Event]:
    block = mapping(found.get("content_block"))
    if (text(block.get("type")) or "").endswith("tool_use"):
        yield ToolOpened(count(found.get("index")) or 0, clipped(text(block.get("id"))), clipped(text(block.get("name"))))


def _block_delta(found: dict[str, Any]) -> Iterator[Event]:
    delta = mapping(found.get("delta"))
    if words := text(delta.get("text")):
        yield Delta("text", words)
    elif thought := text(delta.get("thinking")):
        yield Delta("reasoning", thought)
    elif piece := text(delta.get("partial_json")):
        yield Delta("arguments", piece, count(found.get("index")) or 0)


def _message_delta(found: dict[str, Any]) -> Iterator[Event]:
    if reason := text(mapping(found.get("delta")).get("stop_reason")):
        yield _finished(reason)


def _completion(found: dict[str, Any]) -> Iterator[Event]:
    """Read what Claude said before there were messages."""
    yield from _plainly(found)


def _message(found: dict[str, Any]) -> Iterator[Event]:
    """Read a whole message."""
    yield from _message_start({"message": found})
    for index, block in enumerate(mappings(found.get("content"))):
        yield from _block_start({"index": index, "content_block": block})
        yield from _block_delta({"index": index, "delta": {**block, "partial_json": written(block.get("input"))}})
    if reason := text(found.get("stop_reason")):
        yield _finished(reason)


def _error(found: dict[str, Any]) -> Iterator[Event]:
    error = mapping(found.get("error"))
    code, message = text(error.get("type")) or "upstream_error", text(error.get("message")) or ""
    yield Failed(encodable(code[:64]), encodable(message[:1000]))


def _nothing(found: dict[str, Any]) -> Iterator[Event]:  # noqa: ARG001 - the shape of every row
    return iter(())


_ANTHROPIC: Mapping[str, Callable[[dict[str, Any]], Iterator[Event]]] = {
    "message_start": _message_start,
    "content_block_start": _block_start,
    "content_block_delta": _block_delta,
    "content_block_stop": _nothing,
    "message_delta": _message_delta,
    "message_stop": _nothing,
    "ping": _nothing,
    "error": _error,
    "message": _message,
    "completion": _completion,
}
