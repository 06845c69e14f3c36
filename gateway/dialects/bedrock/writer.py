"""An answer as ConverseStream says it, event by event, and as Converse says it, in one piece."""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.core.answer import ToolCall, fold
from gateway.core.errors import GatewayError
from gateway.core.events import Delta, Event, Failed, Finished, Meaning, Terminated, ToolOpened, Usage
from gateway.dialects.base import Stamp
from gateway.dialects.bedrock.reader import MEANINGS
from gateway.dialects.lenient import arguments, count, encode, mapping, untyped
from gateway.wire import eventstream
from gateway.wire.framing import Frame

REASONS: Mapping[Meaning, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tools": "tool_use",
    "filtered": "content_filtered",
    "other": "end_turn",
}
_EXCEPTIONS: Mapping[int, str] = {
    400: "validationException",
    429: "throttlingException",
    500: "internalServerException",
    503: "serviceUnavailableException",
}
_MALFORMED = frozenset({"malformed_model_output", "malformed_tool_use"})


class ConverseWriter:
    """Writes one stream. Blocks follow each other: each is closed before the next one opens, as readers of this stream expect.

    Only a piece of a tool call that comes after another block was opened is said late, under the index of its own block.
    """

    __slots__ = ("_blocks", "_ended", "_finished", "_kind", "_open", "_stamp", "_started", "_tools", "_usage")

    def __init__(self, stamp: Stamp) -> None:
        self._stamp = stamp
        self._started = self._ended = False
        self._blocks = 0
        self._open: int | None = None
        self._kind: str | None = None
        self._tools: dict[int, int] = {}
        self._finished: Finished | None = None
        self._usage: Usage | None = None

    def feed(self, events: Sequence[Event]) -> bytes:
        """Return the frames that say these events; finish and usage wait for the end."""
        out: list[bytes] = []
        for event in events:
            if self._ended or isinstance(event, Failed):
                continue
            self._start(out)
            match event:
                case Delta(kind="arguments"):
                    self._arguments(event, out)
                case Delta(kind="text" | "refusal"):
                    self._text("text", {"text": event.text}, out)
                case Delta(kind="reasoning"):
                    self._text("reasoning", {"reasoningContent": {"text": event.text}}, out)
                case ToolOpened():
                    self._tool(event, out)
                case Finished():
                    self._finished = event
                case Usage():
                    self._usage = event
                case Terminated():
                    out.append(self.end())
        return b"".join(out)

    def end(self) -> bytes:
        """Close what is open, then say why the answer ended and what it cost."""
        if self._ended:
            return b""
        self._ended = True
        out: list[bytes] = []
        self._start(out)
        self._close(out)
        out.append(_event("messageStop", {"stopReason": reason(self._finished, bool(self._tools))}))
        if self._usage is not None:
            out.append(_event("metadata", {"usage": counts(self._usage), "metrics": {"latencyMs": 0}}))
        return b"".join(out)

    def fail(self, error: GatewayError) -> bytes:
        """Break off with an exception: open blocks stay open, as a server's would."""
        if self._ended:
            return b""
        self._ended = True
        return failure(error)

    def follow(self, frame: Frame) -> bool:
        """See `dialects.base.Writer`. A thought that is open cannot be gone on with: only who thought it can sign it."""
        said = mapping(untyped(frame.data))
        match frame.name:
            case "messageStart":
                self._started = True
            case "contentBlockDelta":
                self._open = count(said.get("contentBlockIndex")) or 0
                self._blocks, self._kind = self._open + 1, "text" if "text" in mapping(said.get("delta")) else "other"
            case "contentBlockStop":
                self._open = self._kind = None
        return self._started and self._kind in {None, "text"}

    def _start(self, out: list[bytes]) -> None:
        if not self._started:
            self._started = True
            out.append(_event("messageStart", {"role": "assistant"}))

    def _text(self, kind: str, delta: dict[str, Any], out: list[bytes]) -> None:
        """Say a piece of text or reasoning; such blocks open with their first piece."""
        if self._kind != kind:
            self._next(kind, out)
        out.append(_event("contentBlockDelta", {"contentBlockIndex": self._open, "delta": delta}))

    def _tool(self, event: ToolOpened, out: list[bytes]) -> None:
        if event.index in self._tools:
            return  # said again, with its id or name once more
        self._tools[event.index] = self._next("tool", out)
        tool = {"toolUseId": tool_id(event.id, self._stamp, len(self._tools) - 1), "name": event.name or ""}
        out.append(_event("contentBlockStart", {"contentBlockIndex": self._open, "start": {"toolUse": tool}}))

    def _arguments(self, event: Delta, out: list[bytes]) -> None:
        if event.index not in self._tools:
            self._tool(ToolOpened(event.index, None, None), out)
        piece = {"contentBlockIndex": self._tools[event.index], "delta": {"toolUse": {"input": event.text}}}
        out.append(_event("contentBlockDelta", piece))

    def _next(self, kind: str, out: list[bytes]) -> int:
        """Close the open block and return the index of the next one."""
        self._close(out)
        self._open, self._kind = self._blocks, kind
        self._blocks += 1
        return self._open

    def _close(self, out: list[bytes]) -> None:
        if self._open is not None:
            out.append(_event("contentBlockStop", {"contentBlockIndex": self._open}))
        self._open = self._kind = None


def failure(error: GatewayError) -> bytes:
    """Return the exception that ends a stream."""
    name = _EXCEPTIONS.get(error.status, "modelStreamErrorException")
    said: dict[str, Any] = {"message": error.message}
    if name == "modelStreamErrorException":
        said |= {"originalStatusCode": error.status, "originalMessage": error.code}
    return eventstream.exception(name, encode(said))


def document(events: Sequence[Event], stamp: Stamp) -> bytes:
    """Say a whole answer in one piece."""
    answer = fold(events)
    content: list[dict[str, Any]] = []
    if answer.reasoning:
        content.append({"reasoningContent": {"reasoningText": {"text": answer.reasoning}}})
    if words := answer.text + answer.refusal:
        content.append({"text": words})
    content += [{"toolUse": _whole_tool(tool, stamp, number)} for number, tool in enumerate(answer.tools)]
    said: dict[str, Any] = {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": reason(answer.finished, bool(answer.tools)),
        "metrics": {"latencyMs": 0},
    }
    if answer.usage is not None:
        said["usage"] = counts(answer.usage)
    return encode(said)


def reason(finished: Finished | None, with_tools: bool) -> str:
    """Return why the answer ended in Bedrock's word: the provider's own where it is one, and `tool_use` wherever tools were called and
    the answer is whole, since agents go by it."""
    if finished is None or finished.meaning == "stop":
        own = "stop_sequence" if finished and finished.reason == "stop_sequence" else "end_turn"
        return "tool_use" if with_tools else own
    is_own = MEANINGS.get(finished.reason) == finished.meaning or finished.reason in _MALFORMED
    return finished.reason if is_own else REASONS[finished.meaning]


def counts(usage: Usage) -> dict[str, int]:
    """Return token counts, input without what the cache gave and took. Three of them every SDK requires: unknown, they are 0."""
    cached, written = usage.cached or 0, usage.cache_write or 0
    said = {
        "inputTokens": max(0, (usage.input or 0) - cached - written),
        "outputTokens": usage.output or 0,
        "totalTokens": (usage.input or 0) + (usage.output or 0),
    }
    if usage.cached is not None:
        said["cacheReadInputTokens"] = cached
    if usage.cache_write is not None:
        said["cacheWriteInputTokens"] = written
    return said


def tool_id(said: str | None, stamp: Stamp, number: int) -> str:
    """Return the id of a tool call, a new one where none was given."""
    return said or f"tooluse_{stamp.id[:24]}_{number}"


def _whole_tool(tool: ToolCall, stamp: Stamp, number: int) -> dict[str, Any]:
    """Say a tool call; arguments that are no JSON object, as a model cut short leaves them, are said as what they are."""
    whole = arguments(tool.arguments)
    said = tool.arguments if whole is None else whole
    return {"toolUseId": tool_id(tool.id, stamp, number), "name": tool.name, "input": said}


def _event(name: str, said: dict[str, Any]) -> bytes:
    return eventstream.event(name, encode(said))
