"""Events, said as Gemini's own server says them: chunks as server-sent events or as elements of one array, or one document."""

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from msgspec import Struct, field

from gateway.core.answer import fold
from gateway.core.call import Call
from gateway.core.errors import GatewayError
from gateway.core.events import Delta, Event, Finished, Started, Terminated, ToolOpened, Usage
from gateway.dialects import lenient
from gateway.dialects.base import Stamp
from gateway.dialects.gemini import failing
from gateway.dialects.gemini.chunks import FOREIGN_SIGNATURE
from gateway.dialects.gemini.config import shows_thoughts
from gateway.dialects.gemini.reader import MEANINGS
from gateway.wire.framing import Frame

MAX_ARGUMENTS = 4 << 20
"""Bytes of tool arguments that are held: Gemini says a tool call in one piece, so its pieces must wait for the last."""

SIGNATURE = b64encode(FOREIGN_SIGNATURE.encode()).decode()
"""The same as bytes: Go's client refuses an answer whose signature is not base64 in the standard alphabet."""

MALFORMED = "MALFORMED_FUNCTION_CALL"
_WORDS = {"stop": "STOP", "tools": "STOP", "length": "MAX_TOKENS", "filtered": "SAFETY", "other": "OTHER"}
_OWN_WORDS = {*MEANINGS, MALFORMED, "OTHER", "LANGUAGE", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS"}


class _Call(Struct):
    """A tool call on its way: the pieces of its arguments come one by one."""

    id: str | None
    name: str
    arguments: list[str] = field(default_factory=list)


class ChunkWriter:
    """Writes one stream. Tool calls, the finish and the counts come in the last chunk, with or without an array around them all."""

    __slots__ = ("_array", "_begun", "_calls", "_ended", "_finished", "_held", "_id", "_model", "_stamp", "_thinks", "_usage")

    def __init__(self, call: Call, stamp: Stamp, as_array: bool) -> None:
        self._array, self._stamp = as_array, stamp
        self._id, self._model = stamp.id, call.model
        self._thinks = shows_thoughts(call)
        self._calls: dict[int, _Call] = {}
        self._held = 0
        self._finished: Finished | None = None
        self._usage: Usage | None = None
        self._begun = self._ended = False

    def feed(self, events: Sequence[Event]) -> bytes:
        """Return the chunk that says these events; text and thoughts at once, everything else is kept for the last one."""
        if self._ended:
            return b""
        parts: list[dict[str, Any]] = []
        ends = False
        for event in events:
            match event:
                case Delta(kind="arguments"):
                    self._argue(event)
                case Delta():
                    parts += _spoken(event.kind, event.text, self._thinks)
                case ToolOpened():
                    call = self._calls.setdefault(event.index, _Call(None, ""))
                    call.id, call.name = event.id or call.id, event.name or call.name
                case Started():
                    self._id, self._model = event.id or self._id, event.model or self._model
                case Finished():
                    self._finished = event
                case Usage():
                    self._usage = event
                case Terminated():
                    ends = True
                    break
        said = self._frame({"content": _content(parts), "index": 0}) if parts else b""
        return said + self.end() if ends else said

    def end(self) -> bytes:
        """Return the last chunk: tool calls, finish and counts. Only once."""
        if self._ended:
            return b""
        calls, whole = self._called()
        last = {"content": _content(calls or [{"text": ""}]), "finishReason": reason(self._finished, whole), "index": 0}
        said = self._frame(last, self._usage)
        self._ended = True
        return said + b"\n]" if self._array else said

    def fail(self, error: GatewayError) -> bytes:
        """Return an error as the last event, or as the last element; calls that are held are not said."""
        if self._ended:
            return b""
        self._ended = True
        return failing.element(error, self._begun) if self._array else failing.event(error)

    def follow(self, frame: Frame) -> bool:
        """See `dialects.base.Writer`."""
        if not self._begun:
            found = lenient.mapping(lenient.untyped(frame.data))
            self._id = lenient.clipped(lenient.text(found.get("responseId"))) or self._id
            self._model = lenient.clipped(lenient.text(found.get("modelVersion"))) or self._model
            self._begun = True
        return True

    def _argue(self, event: Delta) -> None:
        call = self._calls.setdefault(event.index, _Call(None, ""))
        self._held += len(event.text)
        if self._held <= MAX_ARGUMENTS:
            call.arguments.append(event.text)

    def _called(self) -> tuple[list[dict[str, Any]], bool]:
        """Return the tool calls that are whole, and whether all are."""
        said = [
            function_call(call.id or f"call_{self._stamp.id[:24]}_{number}", call.name, "".join(call.arguments))
            for number, call in enumerate(self._calls.values())
        ]
        whole = self._held <= MAX_ARGUMENTS
        return _signed([part for part in said if part is not None and whole]), whole and None not in said

    def _frame(self, candidate: dict[str, Any], usage: Usage | None = None) -> bytes:
        chunk = lenient.encode(document(candidate, usage, self._model, self._id))
        begun, self._begun = self._begun, True
        if self._array:
            return (b",\r\n" if begun else b"[") + chunk
        return b"data: " + chunk + b"\r\n\r\n"


def write_document(call: Call, events: Sequence[Event], stamp: Stamp) -> bytes:
    """Say a whole answer in one piece."""
    answer, thinks = fold(events), shows_thoughts(call)
    said = (("reasoning", answer.reasoning), ("text", answer.text), ("refusal", answer.refusal))
    parts = [part for kind, text in said for part in _spoken(kind, text, thinks)]
    calls = [
        function_call(tool.id or f"call_{stamp.id[:24]}_{number}", tool.name, tool.arguments) for number, tool in enumerate(answer.tools)
    ]
    parts += _signed([made for made in calls if made is not None])
    candidate = {"content": _content(parts or [{"text": ""}]), "finishReason": reason(answer.finished, None not in calls), "index": 0}
    return lenient.encode(document(candidate, answer.usage, answer.model or call.model, answer.id or stamp.id))


def document(candidate: dict[str, Any], usage: Usage | None, model: str, name: str) -> dict[str, Any]:
    """Return a response of one candidate, its members in the order of Google's."""
    counted = {"usageMetadata": _counts(usage)} if usage is not None else {}
    return {"candidates": [candidate], **counted, "modelVersion": model, "responseId": name}


def function_call(name: str, function: str, arguments: str) -> dict[str, Any] | None:
    """Return the part that is a tool call; None when its arguments are no JSON object, as those of an answer cut short."""
    args = lenient.arguments(arguments)
    return None if args is None else {"functionCall": {"id": name, "name": function, "args": args}}


def _signed(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sign the first of an answer's calls, as Gemini does: the client gives it back, and Gemini itself may be the next to read it."""
    return [{**calls[0], "thoughtSignature": SIGNATURE}, *calls[1:]] if calls else []


def reason(finished: Finished | None, whole: bool) -> str:
    """Return Gemini's word for why an answer ended, `whole` when no tool call of it is torn."""
    meaning = finished.meaning if finished is not None else "stop"
    if not whole and meaning in {"stop", "tools"}:
        return MALFORMED
    return finished.reason if finished is not None and finished.reason in _OWN_WORDS else _WORDS[meaning]


def _content(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {"parts": parts, "role": "model"}


def _spoken(kind: str, text: str, thinks: bool) -> list[dict[str, Any]]:
    """Return the parts that say some output. Sounds have none, since only Gemini's own clients can ask for them; nor has reasoning,
    unless the client `thinks` to see it."""
    if not text or kind == "audio" or (kind == "reasoning" and not thinks):
        return []
    return [{"text": text, "thought": True} if kind == "reasoning" else {"text": text}]


def _counts(usage: Usage) -> dict[str, int]:
    """Say the counts as Google does: thoughts apart from the candidates, and a total of everything."""
    answered = None if usage.output is None else max(0, usage.output - (usage.reasoning or 0))
    total = None if usage.input is None or usage.output is None else usage.input + usage.output
    counts = {
        "promptTokenCount": usage.input,
        "candidatesTokenCount": answered,
        "totalTokenCount": total,
        "cachedContentTokenCount": usage.cached,
        "thoughtsTokenCount": usage.reasoning,
    }
    return {name: count for name, count in counts.items() if count is not None}
