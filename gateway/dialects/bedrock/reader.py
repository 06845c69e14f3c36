"""What ConverseStream's events say: a typed reading of what is needed, and a lenient one for what does not fit it.

Source: the Bedrock Runtime API reference, ConverseStreamOutput and ConverseResponse.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from gateway.core.events import Delta, Event, Failed, Finished, Meaning, Terminated, ToolOpened, Usage
from gateway.dialects.lenient import Whole, clipped, count, encodable, encode, mapping, mappings, text, untyped
from gateway.wire.framing import Frame

MEANINGS: Mapping[str, Meaning] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tools",
    "guardrail_intervened": "filtered",
    "content_filtered": "filtered",
}
_NOTHING = Usage()


class ReasoningText(Struct, gc=False):
    text: str | None = None


class Reasoning(Struct, gc=False):
    """A stream says `text`, a document `reasoningText`; signatures and redacted content are nothing that can be seen."""

    text: str | None = None
    reasoningText: ReasoningText | None = None  # noqa: N815


class ToolUse(Struct, gc=False):
    """Its opening, a piece of its input, or, in a document, both."""

    toolUseId: str | None = None  # noqa: N815
    name: str | None = None
    input: Any = None


class Part(Struct, gc=False):
    """The content of one block, or a piece of it."""

    text: str | None = None
    toolUse: ToolUse | None = None  # noqa: N815
    reasoningContent: Reasoning | None = None  # noqa: N815
    citationsContent: Any = None  # noqa: N815


class Message(Struct, gc=False):
    content: list[Part] | None = None


class Output(Struct, gc=False):
    message: Message | None = None


class Counts(Struct, gc=False):
    """Input tokens are those that the cache knew nothing of."""

    inputTokens: int | None = None  # noqa: N815
    outputTokens: int | None = None  # noqa: N815
    cacheReadInputTokens: int | None = None  # noqa: N815
    cacheWriteInputTokens: int | None = None  # noqa: N815
    cacheReadInputTokenCount: int | None = None  # noqa: N815 - as an invoked Nova calls them
    cacheWriteInputTokenCount: int | None = None  # noqa: N815


class Said(Struct, gc=False):
    """What is read of every event: each type has some of these."""

    contentBlockIndex: Whole = 0  # noqa: N815
    delta: Part | None = None
    start: Part | None = None
    stopReason: str | None = None  # noqa: N815
    usage: Counts | None = None
    output: Output | None = None


_SAID = msgspec.json.Decoder(Said)
_READ = frozenset({"contentBlockDelta", "contentBlockStart", "messageStop", "metadata"})


class ConverseReader:
    """Reads one stream; all it remembers is that the message has stopped, after which its metadata is the last that comes."""

    __slots__ = ("_stopped",)

    def __init__(self) -> None:
        self._stopped = False

    def events(self, frame: Frame) -> Sequence[Event]:
        """Return what a frame says; raises as `dialects.base.Reader.events` does."""
        if frame.name not in _READ:
            return failure(frame)
        return self.said(frame.name, decode(frame.data))

    def said(self, name: str, said: Said) -> Sequence[Event]:
        """Return what an event of this name says."""
        if name == "contentBlockDelta":
            return part(said.delta, said.contentBlockIndex)
        if name == "contentBlockStart":
            return part(said.start, said.contentBlockIndex)
        if name == "messageStop":
            self._stopped = True
            return finish(said.stopReason)
        ended = [Terminated()] if self._stopped else []
        return (*usage(said.usage), *ended)


def decode(data: bytes) -> Said:
    """Read the JSON of an event or document; what has the wrong type counts as absent."""
    try:
        return _SAID.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return _loosely(untyped(data), error)


def failure(frame: Frame) -> Sequence[Event]:
    """Return the error that a frame reports, nothing if it reports none."""
    kind, colon, code = frame.name.partition(":")
    if not colon or kind not in {"exception", "error"}:
        return ()
    return [Failed(encodable(code[:64]) or "upstream_error", encodable(message_of(frame.data)[:1000]))]


def message_of(data: bytes) -> str:
    """Return the message of an error, whatever it is wrapped in."""
    try:
        found = untyped(data)
    except msgspec.DecodeError:
        return data[:4000].decode("utf-8", "replace")
    said = mapping(found)
    texts = (text(said.get(key)) for key in ("message", "Message", "originalMessage"))
    return next((found for found in texts if found), "")


def document(said: Said) -> Sequence[Event]:
    """Return everything an answer in one piece says."""
    content = said.output.message.content if said.output and said.output.message else None
    parts = [event for index, block in enumerate(content or ()) for event in part(block, index)]
    return (*parts, *finish(said.stopReason), *usage(said.usage))


def part(said: Part | None, index: int) -> Sequence[Event]:
    """Return what a block or a piece of one says; text is of the one choice there is, arguments are of their block."""
    if said is None:
        return ()
    if said.text:
        return [Delta("text", said.text)]
    if said.toolUse is not None:
        return _tool(said.toolUse, index)
    if (reasoning := said.reasoningContent) is not None:
        thought = reasoning.text or (reasoning.reasoningText.text if reasoning.reasoningText else None)
        return [Delta("reasoning", thought)] if thought else ()
    cited = mappings(mapping(said.citationsContent).get("content"))
    return [Delta("text", piece) for found in cited if (piece := text(found.get("text")))]


def finish(reason: str | None) -> Sequence[Event]:
    """Return why the answer ended, nothing when that is not said."""
    return [Finished(encodable(reason[:64]), MEANINGS.get(reason, "other"))] if reason else ()


def usage(counts: Counts | None) -> Sequence[Event]:
    """Return the usage, its input made inclusive of what the cache gave and took."""
    if counts is None:
        return ()
    cached, written = count(counts.cacheReadInputTokens), count(counts.cacheWriteInputTokens)
    cached = count(counts.cacheReadInputTokenCount) if cached is None else cached
    written = count(counts.cacheWriteInputTokenCount) if written is None else written
    fresh = count(counts.inputTokens)
    found = Usage(input=inclusive(fresh, cached, written), output=count(counts.outputTokens), cached=cached, cache_write=written)
    return () if found == _NOTHING else [found]


def inclusive(fresh: int | None, cached: int | None, written: int | None) -> int | None:
    """Add up all input, None when its greater part is not said."""
    return None if fresh is None else count(fresh + (cached or 0) + (written or 0))


def _tool(said: ToolUse, index: int) -> Sequence[Event]:
    opened = [ToolOpened(index, clipped(said.toolUseId), clipped(said.name))] if said.toolUseId or said.name else []
    whole = written(said.input)
    return (*opened, Delta("arguments", whole, index)) if whole else opened


def written(arguments: Any) -> str:
    """Return arguments as text: a piece of JSON as it is, an object of a document as JSON."""
    if isinstance(arguments, str):
        return arguments
    return encode(arguments).decode() if isinstance(arguments, dict) else ""


def _loosely(found: Any, error: Exception) -> Said:
    """Take what can be understood from an event in which something has the wrong type."""
    if not isinstance(found, dict):
        raise msgspec.ValidationError(f"no known shape: {type(found).__name__}") from error
    content = mappings(mapping(mapping(found.get("output")).get("message")).get("content"))
    return Said(
        contentBlockIndex=count(found.get("contentBlockIndex")) or 0,
        delta=_part(mapping(found.get("delta"))),
        start=_part(mapping(found.get("start"))),
        stopReason=text(found.get("stopReason")),
        usage=Counts(**{name: count(mapping(found.get("usage")).get(name)) for name in Counts.__struct_fields__}),
        output=Output(Message([_part(block) for block in content])),
    )


def _part(found: dict[str, Any]) -> Part:
    tool, reasoning = found.get("toolUse"), mapping(found.get("reasoningContent"))
    said = mapping(tool)
    return Part(
        text=text(found.get("text")),
        toolUse=ToolUse(text(said.get("toolUseId")), text(said.get("name")), said.get("input")) if isinstance(tool, dict) else None,
        reasoningContent=Reasoning(text(reasoning.get("text")) or text(mapping(reasoning.get("reasoningText")).get("text"))),
        citationsContent=found.get("citationsContent"),
    )
