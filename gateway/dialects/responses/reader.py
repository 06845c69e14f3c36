"""What the events of a response say: a typed reading of the few members that matter, and a lenient one for what does not fit it.

Sources: the OpenAI API reference (streaming events) and openai-python `types/responses`; what other servers do differently is said
where it is handled.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from gateway.core.events import Delta, Event, Kind, Started, Terminated, ToolOpened
from gateway.dialects.lenient import clipped, count, mapping, text, untyped
from gateway.dialects.responses.documents import (
    ENDS,
    NAMED_CALLS,
    WAITING,
    Item,
    Response,
    closing_events,
    failed,
    item_of,
    output_events,
    response_of,
)
from gateway.wire.framing import Frame


class Said(Struct, gc=False):
    """One event. `text`, `refusal`, `arguments` and `input` are the whole of what the deltas before a `done` event said."""

    type: str | None = None
    delta: str | None = None
    output_index: int | None = None
    item_id: str | None = None
    item: Item | None = None
    response: Response | None = None
    text: str | None = None
    refusal: str | None = None
    arguments: str | None = None
    input: str | None = None
    error: Any = None
    code: Any = None
    message: Any = None


_SAID = msgspec.json.Decoder(Said)

DELTAS: Mapping[str, Kind] = {
    "response.output_text.delta": "text",
    "response.reasoning_text.delta": "reasoning",
    "response.reasoning_summary_text.delta": "reasoning",
    "response.refusal.delta": "refusal",
    "response.function_call_arguments.delta": "arguments",
    "response.custom_tool_call_input.delta": "arguments",
    "response.mcp_call_arguments.delta": "arguments",
    "response.code_interpreter_call_code.delta": "arguments",
    "response.audio.delta": "audio",
    "response.audio.transcript.delta": "audio",
}
WHOLES: Mapping[str, Kind] = {
    "response.output_text.done": "text",
    "response.reasoning_text.done": "reasoning",
    "response.reasoning_summary_text.done": "reasoning",
    "response.refusal.done": "refusal",
}
MAX_CALLS = 256
"""Tool calls of one stream that are remembered; of more, the oldest are long done."""
MAX_INDEX = 1 << 32
"""Places in an output beyond this are not said: calls that come without one are numbered on from the highest."""


class EventReader:
    """Reads one stream; what it remembers is which tool calls it has opened, and what kinds of output came as deltas."""

    __slots__ = ("_calls", "_kinds", "_last", "_places", "_spoke", "_started", "_waits")

    def __init__(self) -> None:
        self._started = Started()
        self._calls: dict[int, bool] = {}  # by index: whether any of its arguments came
        self._places: dict[str, int] = {}  # by item id or call id
        self._last = 0
        self._kinds: set[Kind] = set()
        self._spoke = False
        self._waits = False

    def events(self, frame: Frame) -> Sequence[Event]:
        """Return what a frame says; raises as `dialects.base.Reader.events` does."""
        try:
            said = _SAID.decode(frame.data)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            data = frame.data.strip()
            if not data:
                return ()
            if data.startswith(b"[DONE]"):
                return [Terminated()]  # not this API's, but servers that grew from chat completions send it
            found = untyped(data)
            if not isinstance(found, dict):
                raise msgspec.ValidationError(f"no known shape: {type(found).__name__}") from error
            said = _loosely(found)
        said.type = said.type or frame.name
        return self._read(said, said.type, frame.data)

    def _read(self, said: Said, name: str, data: bytes) -> Sequence[Event]:
        if (kind := DELTAS.get(name)) is not None:
            return self._delta(kind, said) if said.delta else ()
        if (step := _STEPS.get(name)) is not None:
            return step(self, said)
        if name in ENDS:
            return self._end(said.response or Response(), name, data)
        if said.error:
            return [failed(said.error)]
        if not name:
            raise msgspec.ValidationError("no known shape: an event without a type")
        return self._begin(said)

    def _delta(self, kind: Kind, said: Said) -> list[Event]:
        assert said.delta is not None
        self._spoke = True
        if kind != "arguments":
            self._kinds.add(kind)
            return [Delta(kind, said.delta)]
        events: list[Event] = []
        index = self._place(said)
        if index not in self._calls:
            self._open(index, ToolOpened(index, clipped(said.item_id), None), events)
        self._calls[index] = True
        return [*events, Delta("arguments", said.delta, index)]

    def whole(self, said: Said) -> Sequence[Event]:
        """Read the whole of a text, which some servers send instead of deltas."""
        kind, whole = WHOLES[said.type or ""], said.text or said.refusal
        if not whole or kind in self._kinds:
            return ()
        self._kinds.add(kind)
        self._spoke = True
        return [Delta(kind, whole)]

    def item_added(self, said: Said) -> Sequence[Event]:
        self._kinds.clear()
        events: list[Event] = []
        if said.item is not None:
            self._call(said, said.item, events)
        return events

    def part_added(self, said: Said) -> Sequence[Event]:  # noqa: ARG002 - the shape of every step
        self._kinds.clear()
        return ()

    def item_done(self, said: Said) -> Sequence[Event]:
        """Read a finished item: vLLM names some tool calls here for the first time, with all their arguments."""
        events: list[Event] = []
        if (item := said.item) is not None and (index := self._call(said, item, events)) is not None:
            self._fill(index, item.arguments or item.input, events)
        return events

    def arguments_done(self, said: Said) -> Sequence[Event]:
        events: list[Event] = []
        if (index := self._place(said)) in self._calls:
            self._fill(index, said.arguments or said.input, events)
        return events

    def _call(self, said: Said, item: Item, events: list[Event]) -> int | None:
        """Open the tool call that an item is, once; return its index, None for what is no tool call."""
        self._waits = self._waits or item.type in WAITING
        if item.type not in NAMED_CALLS:
            return None
        names = [name[:256] for name in (item.id, item.call_id) if name]
        index = next((self._places[name] for name in names if name in self._places), None)
        if index is None:
            index = self._new_place(_said_place(said), bool(names))
            self._places |= dict.fromkeys(names, index)
        if index not in self._calls:
            self._open(index, ToolOpened(index, clipped(item.call_id or item.id), clipped(item.name)), events)
        return index

    def _new_place(self, said: int | None, named: bool) -> int:
        """Return the index of a tool call seen for the first time: llama.cpp gives none, vLLM may give one twice."""
        if said is not None and not (said in self._calls and named):
            return said
        return max(self._calls, default=-1) + 1

    def _place(self, said: Said) -> int:
        """Return the index of the tool call an event is about: by its item, by its place, or the one opened last."""
        if said.item_id and (place := self._places.get(said.item_id[:256])) is not None:
            return place
        return self._last if (place := _said_place(said)) is None else place

    def _open(self, index: int, opened: ToolOpened, events: list[Event]) -> None:
        if len(self._calls) >= MAX_CALLS:
            del self._calls[next(iter(self._calls))]
        while len(self._places) > 2 * MAX_CALLS:
            del self._places[next(iter(self._places))]
        self._calls[index] = False
        self._last = index
        self._spoke = True
        events.append(opened)

    def _fill(self, index: int, arguments: str | None, events: list[Event]) -> None:
        """Say arguments that no delta said."""
        if arguments and not self._calls[index]:
            self._calls[index] = True
            events.append(Delta("arguments", arguments, index))

    def _begin(self, said: Said) -> Sequence[Event]:
        """Tell the id and the model of a response once they are known."""
        known, response = self._started, said.response
        if response is None or (known.id and known.model):
            return ()
        self._started = Started(known.id or clipped(response.id), known.model or clipped(response.model))
        return [self._started] if self._started != known else ()

    def _end(self, response: Response, name: str, data: bytes) -> Sequence[Event]:
        """Read an event that ends the stream: it repeats everything, but only what was not said yet is told."""
        events: list[Event] = [*self._begin(Said(response=response))]
        if not self._spoke:
            output, waits = output_events(mapping(mapping(untyped(data)).get("response")).get("output"))
            events += output
            self._waits = self._waits or waits
        events += closing_events(response, ENDS[name], self._waits)
        return [*events, Terminated()]

    def error(self, said: Said) -> Sequence[Event]:
        """Read an error event: the reference has its members on top, OpenAI's server nests them (openai-dotnet#881)."""
        return [failed(said.error or {"code": said.code, "message": said.message})]


_STEPS: Mapping[str, Callable[[EventReader, Said], Sequence[Event]]] = {
    **dict.fromkeys(WHOLES, EventReader.whole),
    "response.output_item.added": EventReader.item_added,
    "response.content_part.added": EventReader.part_added,
    "response.reasoning_summary_part.added": EventReader.part_added,
    "response.function_call_arguments.done": EventReader.arguments_done,
    "response.custom_tool_call_input.done": EventReader.arguments_done,
    "response.mcp_call_arguments.done": EventReader.arguments_done,
    "response.output_item.done": EventReader.item_done,
    "response.error": EventReader.error,
    "error": EventReader.error,
}


def _said_place(said: Said) -> int | None:
    place = count(said.output_index)
    return place if place is not None and place < MAX_INDEX else None


def _loosely(found: dict[str, Any]) -> Said:
    """Take what can be understood from an event in which something has the wrong type."""
    item, response = found.get("item"), found.get("response")
    return Said(
        **{name: text(found.get(name)) for name in ("type", "delta", "item_id", "text", "refusal", "arguments", "input")},
        output_index=count(found.get("output_index")),
        item=item_of(item) if isinstance(item, dict) else None,
        response=response_of(response) if isinstance(response, dict) else None,
        error=found.get("error"),
        code=found.get("code"),
        message=found.get("message"),
    )
