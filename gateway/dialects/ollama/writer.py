"""Says an answer as Ollama's chat endpoint does: a line for every piece of text, one for the tool calls, and one that is the end.

Durations are left out: the nanoseconds that a model took are not ours to invent.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from gateway.core.answer import ToolCall, fold
from gateway.core.call import Call
from gateway.core.errors import GatewayError
from gateway.core.events import Delta, Event, Finished, Started, Terminated, ToolOpened, Usage
from gateway.dialects import lenient
from gateway.dialects.base import Stamp
from gateway.dialects.ollama import words
from gateway.wire.framing import Frame

MAX_ARGUMENTS = 4 << 20
"""Characters of tool arguments that are held: Ollama says a tool call in one piece, so its pieces must wait for the last."""


class LineWriter:
    """Says one streamed answer. It holds tool calls until they are whole, for here they come in one piece; of text it keeps nothing."""

    __slots__ = ("_calls", "_ended", "_finished", "_followed", "_head", "_held", "_order", "_stamp", "_usage")

    def __init__(self, call: Call, stamp: Stamp) -> None:
        self._stamp = stamp
        self._head = _head(call.model, stamp)
        self._calls: dict[int, tuple[ToolCall, list[str]]] = {}
        self._held = 0
        self._order = 0
        self._finished: Finished | None = None
        self._usage: Usage | None = None
        self._ended = self._followed = False

    def feed(self, events: Sequence[Event]) -> bytes:
        """Return the lines that say these events; see `dialects.base.Writer`."""
        return b"".join(self._say(event) for event in events)

    def _say(self, event: Event) -> bytes:
        if self._ended:
            return b""
        match event:
            case Delta(kind="text" | "refusal"):
                return self._line(b'"content":' + words.encode(event.text))
            case Delta(kind="reasoning"):
                return self._line(b'"content":"","thinking":' + words.encode(event.text))
            case Delta(kind="arguments"):
                self._argue(event)
            case ToolOpened():
                call = self._calls.setdefault(event.index, (ToolCall(None, ""), []))[0]
                call.id, call.name = event.id or call.id, event.name or call.name
            case Started(model=str(model)):
                self._head = _head(model, self._stamp)
            case Finished():
                self._finished = event
                return self._tools()
            case Usage():
                self._usage = event
            case Terminated():
                return self.end()
        return b""

    def end(self) -> bytes:
        """Return the tool calls not yet said and the line that is the end; only once."""
        if self._ended:
            return b""
        tools = self._tools()
        self._ended = True
        ending = _ending(self._finished, self._usage)
        return tools + self._head + b'"message":{"role":"assistant","content":""},"done":true,' + ending + b"\n"

    def fail(self, error: GatewayError) -> bytes:
        """Break off with an error; tool calls that are not said yet may be torn, and stay unsaid."""
        if self._ended:
            return b""
        self._ended = True
        return failure(error) + b"\n"

    def follow(self, frame: Frame) -> bool:
        """See `dialects.base.Writer`: a line repeats everything but what it adds."""
        if not self._followed:
            self._followed = True
            if model := lenient.text(lenient.mapping(lenient.untyped(frame.data)).get("model")):
                self._head = _head(lenient.encodable(model), self._stamp)
        return True

    def _line(self, said: bytes) -> bytes:
        return self._head + b'"message":{"role":"assistant",' + said + b'},"done":false}\n'

    def _argue(self, event: Delta) -> None:
        self._held += len(event.text)
        if self._held > MAX_ARGUMENTS:
            raise OverflowError("more tool arguments than can be held")
        self._calls.setdefault(event.index, (ToolCall(None, ""), []))[1].append(event.text)

    def _tools(self) -> bytes:
        whole = [ToolCall(call.id, call.name, "".join(pieces)) for call, pieces in self._calls.values()]
        self._calls.clear()
        said = _calls(whole, self._stamp, self._order)
        self._order += len(whole)
        return self._line(b'"content":"","tool_calls":[' + said + b"]") if said else b""


def failure(error: GatewayError) -> bytes:
    """Return an error as an answer of its own; JSON escapes CR and LF, so nothing in a message can end the line."""
    return words.encode({"error": lenient.encodable(error.message)})


def write_document(call: Call, events: Iterable[Event], stamp: Stamp) -> bytes:
    """Say a whole answer in one piece."""
    answer = fold(events)
    message = b'{"role":"assistant","content":' + words.encode(answer.text + answer.refusal)
    if answer.reasoning:
        message += b',"thinking":' + words.encode(answer.reasoning)
    if calls := _calls(answer.tools, stamp, 0):
        message += b',"tool_calls":[' + calls + b"]"
    return _head(answer.model or call.model, stamp) + b'"message":' + message + b'},"done":true,' + _ending(answer.finished, answer.usage)


def _head(model: str, stamp: Stamp) -> bytes:
    """Return what every line begins with."""
    made = datetime.fromtimestamp(stamp.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return b'{"model":' + words.encode(model) + b',"created_at":"' + made.encode() + b'",'


def _ending(finished: Finished | None, usage: Usage | None) -> bytes:
    """Return the members that only the last line has, and its closing brace."""
    said: dict[str, str | int] = {"done_reason": words.done_reason(finished)}
    if usage is not None:
        counts = {"prompt_eval_count": usage.input, "prompt_eval_cached_count": usage.cached, "eval_count": usage.output}
        said |= {name: count for name, count in counts.items() if count is not None}
    return words.encode(said)[1:]


def _calls(calls: Sequence[ToolCall], stamp: Stamp, order: int) -> bytes:
    """Return tool calls as members of a list. A call whose arguments are no object was cut off: nobody could make it."""
    said = []
    for place, call in enumerate(calls, order):
        if (arguments := _object(call.arguments)) is None:
            continue
        name = words.encode(call.id or f"call_{stamp.id[:24]}_{place}")
        function = b'{"index":%d,"name":%b,"arguments":%b}' % (place, words.encode(call.name), arguments)
        said.append(b'{"id":' + name + b',"function":' + function + b"}")
    return b",".join(said)


def _object(said: str) -> bytes | None:
    """Return arguments as an object on one line, as they were otherwise: outside of JSON strings a line end is mere space."""
    if lenient.arguments(said) is None:
        return None
    return words.on_one_line(lenient.encodable(said).replace("\r", " ").replace("\n", " ").encode()) if said.strip() else b"{}"
