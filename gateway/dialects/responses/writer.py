"""Says an answer as the events of a response: each item is opened, filled and closed, and the last event repeats the whole.

Unlike other dialects this one ends with everything again: the `done` events and the final response carry the whole text, so the
writer keeps it, up to `MAX_KEPT`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from gateway.core.answer import Answer
from gateway.core.call import Call
from gateway.core.errors import GatewayError
from gateway.core.events import Delta, Event, Finished, Kind, Started, Terminated, ToolOpened, Usage
from gateway.dialects.base import Stamp
from gateway.dialects.lenient import clipped, count, encodable, encode, mapping, text, untyped
from gateway.dialects.responses.items import ENDINGS, Envelope, FunctionCall, Item, Part, Quoted, Spoken
from gateway.wire.framing import Frame

MAX_KEPT = 8 << 20
"""Characters of an answer that are kept, as many as bytes of an answer in one piece; a longer one ends in an error."""


class _Form(Struct, frozen=True):
    """How a part of one kind is said: the events around it, the events of its text, and the member that has it whole."""

    part: str
    said: str
    member: str
    more: dict[str, Any]


_FORMS: Mapping[Kind, _Form] = {
    "text": _Form("response.content_part", "response.output_text", "text", {"logprobs": []}),
    "refusal": _Form("response.content_part", "response.refusal", "refusal", {}),
    "reasoning": _Form("response.reasoning_summary_part", "response.reasoning_summary_text", "text", {}),
}


class EventWriter:
    """Writes one stream. Text items are closed when something else begins, tool calls at the end: their arguments may interleave."""

    __slots__ = (
        "_begun",
        "_call_ids",
        "_called",
        "_calls",
        "_ended",
        "_envelope",
        "_finished",
        "_frames",
        "_items",
        "_kept",
        "_number",
        "_speaking",
        "_usage",
    )

    def __init__(self, call: Call, stamp: Stamp) -> None:
        self._envelope = Envelope(call, stamp)
        self._frames: list[bytes] = []
        self._number = self._kept = 0
        self._begun = self._ended = False
        self._items: list[Item] = []
        self._speaking: Spoken | None = None
        self._calls: dict[int, FunctionCall] = {}
        self._called: list[FunctionCall] = []
        self._call_ids: set[str] = set()
        self._finished: Finished | None = None
        self._usage: Usage | None = None

    def feed(self, events: Sequence[Event]) -> bytes:
        """Return the frames that say these events; see `dialects.base.Writer.feed`."""
        for event in events:
            if self._ended:
                break
            match event:
                case Delta(kind="arguments"):
                    self._argue(event)
                case Delta() if event.kind in _FORMS:
                    self._speak(event.kind, event.text)
                case ToolOpened():
                    self._open_call(event)
                case Started():
                    self._start(event)
                case Finished():
                    self._finished = event
                case Usage():
                    self._usage = event
                case Terminated():
                    self._finish()
        return self._said()

    def end(self) -> bytes:
        """Return what the response still lacks; see `dialects.base.Writer.end`."""
        if not self._ended:
            self._finish()
        return self._said()

    def fail(self, error: GatewayError) -> bytes:
        """End the response as failed, with what there was of it, and say the error itself last.

        SDKs raise at the error only, other clients look for the failed response. Nothing is closed before: agents run a tool call
        once its item is done, whatever its status.
        """
        if self._ended:
            return self._said()
        if self._begun:
            output = [item.document("completed" if item.done else "incomplete") for item in self._items]
            self._last("failed", output, None, (error.code, error.message))
        self._ended = True
        return self._said() + error_event(error, self._number)

    def follow(self, frame: Frame) -> bool:
        """See `dialects.base.Writer`. Between the end of a text and that of its item there is no place to go on."""
        said = mapping(untyped(frame.data))
        number, name = count(said.get("sequence_number")), text(said.get("type")) or frame.name
        self._number = (self._number if number is None else number) + 1
        match name:
            case "response.created":
                self._envelope.adopt(mapping(said.get("response")))
                self._begun = True
            case "response.output_item.added" | "response.output_item.done":
                self._follow_item(count(said.get("output_index")) or 0, mapping(said.get("item")), name.endswith("done"))
            case "response.content_part.added" if self._speaking is not None:
                self._speaking.parts.append(Part("text", []))
            case "response.output_text.delta" if self._speaking is not None and self._speaking.parts:
                self._speaking.parts[-1].pieces.append(text(said.get("delta")) or "")
            case "response.output_text.done" | "response.content_part.done":
                self._speaking = None
        return self._begun and (self._speaking is not None or not self._items or self._items[-1].done)

    def _follow_item(self, index: int, item: dict[str, Any], done: bool) -> None:
        if index != len(self._items) - done:
            raise ValueError("items out of order")
        self._speaking = None
        if done:
            self._items[-1] = Quoted(index, item, done=True)
        elif item.get("type") == "message":
            self._speaking = Spoken(clipped(text(item.get("id"))) or self._envelope.item_id("msg", index), index, False, [])
            self._items.append(self._speaking)
        else:
            self._items.append(Quoted(index, item))

    def _said(self) -> bytes:
        said = b"".join(self._frames)
        self._frames.clear()
        return said

    def _emit(self, name: str, members: dict[str, Any]) -> None:
        data = encode({"type": name, "sequence_number": self._number, **members})
        self._number += 1
        self._frames.append(b"event: " + name.encode() + b"\ndata: " + data + b"\n\n")

    def _start(self, event: Started) -> None:
        if not self._begun:
            self._envelope.id = event.id or self._envelope.id  # clients refuse a response whose id changes
        self._envelope.model = event.model or self._envelope.model
        self._begin()

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._emit("response.created", {"response": self._envelope.document("in_progress")})
            self._emit("response.in_progress", {"response": self._envelope.document("in_progress")})

    def _add(self, item: Item) -> None:
        self._items.append(item)
        self._emit("response.output_item.added", {"output_index": item.index, "item": item.document("in_progress")})

    def _speak(self, kind: Kind, text: str) -> None:
        """Say text, reasoning or a refusal; what is open of another kind is closed before."""
        item = self._speaking
        if item is None or item.thinks is not (kind == "reasoning"):
            item = self._open_text(thinks=kind == "reasoning")
        if not item.parts or item.parts[-1].kind != kind:
            self._open_part(item, kind)
        self._keep(item.parts[-1].pieces, text)
        form = _FORMS[kind]
        self._emit(f"{form.said}.delta", {**item.place, "delta": text, **form.more})

    def _keep(self, pieces: list[str], text: str) -> None:
        self._kept += len(text)
        if self._kept > MAX_KEPT:
            raise OverflowError("more than can be kept to be said again")
        pieces.append(text)

    def _open_text(self, thinks: bool) -> Spoken:
        self._begin()
        self._close_text("completed")
        index = len(self._items)
        item = Spoken(self._envelope.item_id("rs" if thinks else "msg", index), index, thinks, [])
        self._add(item)
        self._speaking = item
        return item

    def _open_part(self, item: Spoken, kind: Kind) -> None:
        self._close_part(item)
        part = Part(kind, [])
        item.parts.append(part)
        self._emit(f"{_FORMS[kind].part}.added", {**item.place, "part": part.document("")})

    def _close_part(self, item: Spoken) -> None:
        for part in item.parts[-1:]:
            text, form = part.text, _FORMS[part.kind]
            self._emit(f"{form.said}.done", {**item.place, form.member: text, **form.more})
            self._emit(f"{form.part}.done", {**item.place, "part": part.document(text)})

    def _close_text(self, status: str) -> None:
        if (item := self._speaking) is not None:
            self._speaking = None
            self._close_part(item)
            item.done = True
            self._emit("response.output_item.done", {"output_index": item.index, "item": item.document(status)})

    def _open_call(self, event: ToolOpened) -> FunctionCall:
        """Open a tool call once; an index that comes again with another id is another call (Ollama counts all of them 0)."""
        known = self._calls.get(event.index)
        if known is not None and (event.id is None or event.id == known.call_id):
            known.name = known.name or event.name or ""
            return known
        self._begin()
        self._close_text("completed")
        index = len(self._items)
        call_id = _unused(event.id, self._call_ids) or self._envelope.item_id("call", index)
        call = FunctionCall(self._envelope.item_id("fc", index), index, call_id, event.name or "", [])
        self._add(call)
        self._calls[event.index] = call
        self._called.append(call)
        return call

    def _argue(self, event: Delta) -> None:
        call = self._calls.get(event.index) or self._open_call(ToolOpened(event.index, None, None))
        self._argue_in(call, event.text)

    def _argue_in(self, call: FunctionCall, text: str) -> None:
        self._keep(call.pieces, text)
        self._emit("response.function_call_arguments.delta", {**call.place, "delta": text})

    def _close_call(self, call: FunctionCall, status: str) -> None:
        """Close a tool call; one without arguments says so as an empty object, which is what clients parse."""
        if not call.pieces and status == "completed":
            self._argue_in(call, "{}")
        document = call.document(status)
        done = {"name": call.name, "arguments": document["arguments"]}
        self._emit("response.function_call_arguments.done", {**call.place, **done})
        self._emit("response.output_item.done", {"output_index": call.index, "item": document})

    def _close_all(self, status: str) -> list[dict[str, Any]]:
        """Close what is open, and return the whole output; what was cut is the item that came last."""
        self._close_text(status)
        states = ["completed"] * (len(self._items) - 1) + [status]
        for call in self._called:
            self._close_call(call, states[call.index])
        return [item.document(state) for item, state in zip(self._items, states, strict=False)]

    def _finish(self) -> None:
        self._begin()
        status, reason = ENDINGS[self._finished.meaning if self._finished else "stop"]
        self._last(status, self._close_all(status), reason, None)

    def _last(self, status: str, output: list[dict[str, Any]], reason: str | None, error: tuple[str, str] | None) -> None:
        self._ended = True
        self._emit(f"response.{status}", {"response": self._envelope.document(status, output, reason, self._usage, error)})


def error_event(error: GatewayError, number: int) -> bytes:
    """Render an error as the last event of a stream, its members twice.

    The reference has them on top; OpenAI's server nests them under `error`, and only there do its SDKs see that they must raise.
    """
    said = {"code": encodable(error.code), "message": encodable(error.message), "param": None}
    event = {"type": "error", "sequence_number": number, **said, "error": {"type": error.kind, **said}}
    return b"event: error\ndata: " + encode(event) + b"\n\n"


def document_of(call: Call, answer: Answer, stamp: Stamp) -> dict[str, Any]:
    """Return the document of a whole answer."""
    envelope = Envelope(call, stamp)
    envelope.id, envelope.model = answer.id or envelope.id, answer.model or envelope.model
    status, reason = ENDINGS[answer.finished.meaning if answer.finished else "stop"]
    error = None
    if answer.failed is not None:
        status, reason, error = "failed", None, (answer.failed.code, answer.failed.message)
    items = _items_of(answer, envelope, "{}" if status == "completed" else "")  # arguments that were cut off are no empty object
    state = "completed" if status == "completed" else "incomplete"
    output = [item.document(state if item is items[-1] else "completed") for item in items]
    return envelope.document(status, output, reason, answer.usage, error)


def _unused(id: str | None, known: set[str]) -> str | None:  # noqa: A002
    """Return the id that an upstream gave a call, None when it gave another the same: results could not be told apart, and
    openai-python refuses such a response. It is among the `known` from now on."""
    if id is None or id in known:
        return None
    known.add(id)
    return id


def _items_of(answer: Answer, envelope: Envelope, none: str) -> list[Item]:
    """Return the output; `none` is what a tool call without arguments says."""
    items: list[Item] = []
    call_ids: set[str] = set()
    if answer.reasoning:
        items.append(Spoken(envelope.item_id("rs", 0), 0, True, [Part("reasoning", [answer.reasoning])]))
    said: list[tuple[Kind, str]] = [("text", answer.text), ("refusal", answer.refusal)]
    if parts := [Part(kind, [text]) for kind, text in said if text]:
        items.append(Spoken(envelope.item_id("msg", len(items)), len(items), False, parts))
    for tool in answer.tools:
        index = len(items)
        call_id = _unused(clipped(tool.id), call_ids) or envelope.item_id("call", index)
        items.append(FunctionCall(envelope.item_id("fc", index), index, call_id, tool.name, [tool.arguments or none]))
    return items
