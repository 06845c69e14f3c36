"""Events to Messages frames and documents, each as Anthropic's own server would send it, so that its SDKs put the message together."""

from collections.abc import Sequence
from typing import Any

from gateway.core.answer import Answer, fold
from gateway.core.call import Call
from gateway.core.errors import GatewayError
from gateway.core.events import Delta, Event, Finished, Meaning, Started, Terminated, ToolOpened, Usage
from gateway.dialects import lenient
from gateway.dialects.anthropic import failing
from gateway.dialects.anthropic.prompt import shows_thinking
from gateway.dialects.anthropic.reader import MEANINGS
from gateway.dialects.base import Stamp
from gateway.wire.framing import Frame

_REASONS: dict[Meaning, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tools": "tool_use",
    "filtered": "refusal",
    "other": "end_turn",
}
_BEGINNINGS: dict[str, dict[str, Any]] = {
    "text": {"type": "text", "text": ""},
    "thinking": {"type": "thinking", "thinking": "", "signature": ""},
}


class StreamWriter:
    """Writes one stream; what it remembers is the block that is open, each tool's block, and what the end must say."""

    __slots__ = ("_blocks", "_call", "_ended", "_finished", "_kind", "_opened", "_stamp", "_started", "_thinks", "_tools", "_usage")

    def __init__(self, call: Call, stamp: Stamp) -> None:
        self._call = call
        self._stamp = stamp
        self._thinks = shows_thinking(call)
        self._started: Started | None = None
        self._opened = False
        self._ended = False
        self._blocks = 0
        self._kind: str | None = None  # of the block that is open: the last one
        self._tools: dict[int, tuple[int, str | None]] = {}  # by the events' index: the block and the id they named
        self._finished: Finished | None = None
        self._usage: Usage | None = None

    def feed(self, events: Sequence[Event]) -> bytes:
        """Return the frames that say these events. The beginning goes out with the first of them that names the answer, or is output."""
        if self._ended:
            return b""
        out: list[bytes] = []
        if self._started is None and not any(isinstance(event, Finished) for event in events):
            events = sorted(events, key=_counts_first)
        for event in events:
            self._say(event, out)
        if self._started is not None:
            self._open(out)
        return b"".join(out)

    def end(self) -> bytes:
        """Return what is still lacking: the open block's end, why the answer ended, what it cost, and the end marker."""
        if self._ended:
            return b""
        self._ended = True
        out: list[bytes] = []
        self._open(out)
        self._close(out)
        delta = {"stop_reason": _reason(self._finished, bool(self._tools)), "stop_sequence": None}
        out.append(_frame("message_delta", delta=delta, usage=_final_counts(self._usage)))
        out.append(_frame("message_stop"))
        return b"".join(out)

    def fail(self, error: GatewayError) -> bytes:
        """Return an error as the last event: no block is closed before it and no message_stop comes after it, as from Anthropic."""
        if self._ended:
            return b""
        self._ended = True
        return failing.event(error)

    def follow(self, frame: Frame) -> bool:
        """See `dialects.base.Writer`. A thought that is open cannot be gone on with: only who thought it can sign it."""
        if b'"content_block_delta"' in frame.data:
            return self._opened and self._kind == "text"
        found = lenient.mapping(lenient.untyped(frame.data))
        match found.get("type") or frame.name:
            case "message_start":
                message = lenient.mapping(found.get("message"))
                self._started = Started(*(lenient.clipped(lenient.text(message.get(name))) for name in ("id", "model")))
                self._opened = True
            case "content_block_start":
                self._kind = lenient.text(lenient.mapping(found.get("content_block")).get("type")) or ""
                self._blocks = (lenient.count(found.get("index")) or 0) + 1
            case "content_block_stop":
                self._kind = None
        return self._opened and self._kind in {None, "text"}

    def _say(self, event: Event, out: list[bytes]) -> None:
        match event:
            case Delta():
                self._delta(event, out)
            case ToolOpened():
                self._tool(event, out)
            case Started():
                known = self._started or Started()
                self._started = Started(event.id or known.id, event.model or known.model)
            case Usage():
                self._usage = event
            case Finished():
                self._finished = event
            case Terminated():
                out.append(self.end())

    def _delta(self, event: Delta, out: list[bytes]) -> None:
        """Say a piece of output; sound has no words here, and no call that was made here asked for it."""
        if self._ended or event.kind == "audio":
            return
        if event.kind == "arguments":
            if event.index not in self._tools:
                self._tool(ToolOpened(event.index, None, None), out)
            block = self._tools[event.index][0]  # arguments that come late still find their block by its number
            delta = {"type": "input_json_delta", "partial_json": event.text}
        elif event.kind == "reasoning":
            if not self._thinks:
                return
            block = self._block("thinking", _BEGINNINGS["thinking"], out)
            delta = {"type": "thinking_delta", "thinking": event.text}
        else:
            block = self._block("text", _BEGINNINGS["text"], out)
            delta = {"type": "text_delta", "text": event.text}
        out.append(_frame("content_block_delta", index=block, delta=delta))

    def _tool(self, event: ToolOpened, out: list[bytes]) -> None:
        """Begin a tool call, unless it is one that is only named again."""
        known = self._tools.get(event.index)
        if self._ended or (known is not None and event.id in {None, known[1]}):
            return
        tool = event.id or f"toolu_{self._stamp.id[:24]}_{len(self._tools)}"
        self._close(out)
        block = self._block("tool_use", {"type": "tool_use", "id": tool, "name": event.name or "", "input": {}}, out)
        self._tools[event.index] = block, event.id

    def _block(self, kind: str, beginning: dict[str, Any], out: list[bytes]) -> int:
        """Return the number of the open block of this kind; one of another kind ends first."""
        if self._kind != kind:
            self._open(out)
            self._close(out)
            self._kind = kind
            out.append(_frame("content_block_start", index=self._blocks, content_block=beginning))
            self._blocks += 1
        return self._blocks - 1

    def _close(self, out: list[bytes]) -> None:
        """End the open block. Clients wait for the signature of a thinking block; there is none to give (llama.cpp#18551)."""
        if self._kind is None:
            return
        block = self._blocks - 1
        if self._kind == "thinking":
            out.append(_frame("content_block_delta", index=block, delta={"type": "signature_delta", "signature": ""}))
        self._kind = None
        out.append(_frame("content_block_stop", index=block))

    def _open(self, out: list[bytes]) -> None:
        if self._opened:
            return
        self._opened = True
        message = _message(self._call, self._stamp, self._started or Started(), [])
        out.append(_frame("message_start", message={**message, "usage": _counts(self._usage)}))


def write_document(call: Call, events: Sequence[Event], stamp: Stamp) -> bytes:
    """Say a whole answer in one piece; arguments that are no JSON object, as those of a call cut short, become an empty one."""
    answer = fold(events)
    message = _message(call, stamp, Started(answer.id, answer.model), _content(answer, stamp, shows_thinking(call)))
    message["stop_reason"] = _reason(answer.finished, bool(answer.tools))
    return lenient.encode({**message, "usage": _counts(answer.usage)})


def _content(answer: Answer, stamp: Stamp, thinks: bool) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    if answer.reasoning and thinks:
        content.append({"type": "thinking", "thinking": answer.reasoning, "signature": ""})
    if words := answer.text + answer.refusal:
        content.append({"type": "text", "text": words})
    for number, call in enumerate(answer.tools):
        tool = call.id or f"toolu_{stamp.id[:24]}_{number}"
        content.append({"type": "tool_use", "id": tool, "name": call.name, "input": lenient.arguments(call.arguments) or {}})
    return content


def _message(call: Call, stamp: Stamp, started: Started, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": started.id or f"msg_{stamp.id[:24]}",
        "type": "message",
        "role": "assistant",
        "model": started.model or call.model,
        "content": content,
        "stop_reason": None,
        "stop_sequence": None,
    }


def _reason(finished: Finished | None, tools: bool) -> str:
    """Return Anthropic's word. Several providers end with a plain stop where a client has tools to run: its loop goes by the word."""
    meaning = finished.meaning if finished is not None else "stop"
    if finished is not None and MEANINGS.get(finished.reason) == meaning and not (tools and meaning == "stop"):
        return finished.reason
    return _REASONS["tools" if tools and meaning == "stop" else meaning]


def _counts(usage: Usage | None) -> dict[str, Any]:
    """Say counts as a message must: both totals are numbers in every SDK's types, so that what is not known yet is 0."""
    said = _final_counts(usage)
    return {"input_tokens": 0, **said}


def _final_counts(usage: Usage | None) -> dict[str, Any]:
    """Say what is known; input is what was neither read from the cache nor written to it."""
    usage = usage or Usage()
    said: dict[str, Any] = {}
    if usage.input is not None:
        said["input_tokens"] = max(0, usage.input - (usage.cached or 0) - (usage.cache_write or 0))
    if usage.cache_write is not None:
        said["cache_creation_input_tokens"] = usage.cache_write
    if usage.cached is not None:
        said["cache_read_input_tokens"] = usage.cached
    said["output_tokens"] = usage.output or 0
    return said if usage.reasoning is None else {**said, "output_tokens_details": {"thinking_tokens": usage.reasoning}}


def _counts_first(event: Event) -> bool:
    """Sort what counts before everything else: message_start tells what the input came to, if that is known in the same frame."""
    return not isinstance(event, Usage)


def _frame(name: str, **members: Any) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + lenient.encode({"type": name, **members}) + b"\n\n"
