"""What of an answer has reached its client, kept so that another upstream can go on with it; only where a route resumes broken streams."""

from collections.abc import Callable, Sequence

from gateway.core.errors import ErrorEvent, GatewayError, blames_upstream
from gateway.core.events import Delta, Event, Failed, Finished, Started, Terminated, ToolOpened, Usage
from gateway.dialects.base import Reader, Writer
from gateway.stream.cadence import CadenceMeter
from gateway.wire.framing import Frame, Parser

MAX_TEXT = 1 << 20
"""Characters of text that are kept; a longer answer is not resumed."""


class Delivered:
    """The text of one answer so far. `obstacle` names the first thing that makes it one that nobody else can go on with."""

    __slots__ = ("_limit", "_pieces", "_size", "obstacle")

    def __init__(self, limit: int = MAX_TEXT) -> None:
        self._limit = limit
        self._pieces: list[str] = []
        self._size = 0
        self.obstacle: str | None = None

    def take(self, events: Sequence[Event]) -> None:
        """Note what has been passed on."""
        for event in events:
            if type(event) is Delta and event.kind == "text":
                self._keep(event.text)
            elif (obstacle := _obstacle(event)) is not None:
                self.obstacle = self.obstacle or obstacle

    def _keep(self, text: str) -> None:
        self._size += len(text)
        if self._size <= self._limit:
            self._pieces.append(text)
        else:
            self.obstacle = self.obstacle or "too_long"
            self._pieces.clear()

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    @property
    def characters(self) -> int:
        return self._size

    @property
    def resumable(self) -> bool:
        """True when there is text, nothing but text (and reasoning before it), and more was to come."""
        return self._size > 0 and self.obstacle is None


def _obstacle(event: Event) -> str | None:
    """Name what cannot be gone on with: half a tool call, a refusal, sound, an answer that has said why it ended or that it failed."""
    match event:
        case ToolOpened() | Delta(kind="arguments"):
            return "tool_call"
        case Delta(kind="refusal" | "audio" as kind):
            return kind
        case Finished() | Terminated():
            return "finished"
        case Failed():
            return "failed"
    return None


class Telling:
    """A client's answer over all of its upstreams: what was delivered, who can say the rest, and how steadily it all came.

    It is the writer of a translated answer. Beside one that is passed on as it came it only follows, so that its own frames go on where
    those of the upstream stop. `spent` is what earlier upstreams are known to have used up.
    """

    def __init__(self, writer: Writer, meter: CadenceMeter) -> None:
        self._writer = writer
        self.meter = meter
        self.delivered = Delivered()
        self.spent: Usage | None = None
        self._can_go_on = self._between = True

    def feed(self, events: Sequence[Event]) -> bytes:
        self.delivered.take(events)
        return self._writer.feed(events)

    def end(self) -> bytes:
        return self._writer.end()

    def fail(self, error: GatewayError) -> bytes:
        self.delivered.take((Failed(error.code, error.message),))
        return self._writer.fail(error)

    def follow(self, frame: Frame) -> bool:
        self._can_go_on = self._writer.follow(frame)
        return self._can_go_on

    def torn(self, torn: bool) -> None:
        """Say whether the client has a part of an event whose rest is still to come."""
        self._between = not torn

    @property
    def resumable(self) -> bool:
        """True when another upstream could go on from here."""
        return self.delivered.resumable and self._can_go_on and self._between


class Fresh:
    """What of an answer that goes on with another is new to its client.

    The answer has its name, and it is in the middle of its text: so the new one is not announced, and what its model thinks first is not
    shown. Nor is white space that was delivered, but that the model was not shown (`core.continuation.unseen`).
    """

    __slots__ = ("_unseen",)

    def __init__(self, unseen: str) -> None:
        self._unseen = unseen

    def of(self, event: Event) -> Event | None:
        """Return what is new of an event, None when nothing is."""
        match event:
            case Started() | Delta(kind="reasoning"):
                return None
            case Delta(kind="text") if self._unseen:
                text = self._beyond(event.text)
                return Delta("text", text, event.index) if text else None
        return event

    def _beyond(self, text: str) -> str:
        """Leave out what repeats the white space that the client has; where the text differs from it, all of the rest is new."""
        length = 0
        while length < min(len(text), len(self._unseen)) and text[length] == self._unseen[length]:
            length += 1
        self._unseen = self._unseen[length:] if length == len(text) else ""
        return text[length:]


class Continuing:
    """The writer of an answer that goes on with another: only what the client does not have yet is said (`Fresh`)."""

    def __init__(self, telling: Telling, unseen: str) -> None:
        self.telling, self.unseen = telling, unseen
        self._fresh = Fresh(unseen)

    def feed(self, events: Sequence[Event]) -> bytes:
        return self.telling.feed([self._counted(event) for given in events if (event := self._fresh.of(given)) is not None])

    def end(self) -> bytes:
        return self.telling.end()

    def fail(self, error: GatewayError) -> bytes:
        return self.telling.fail(error)

    def follow(self, frame: Frame) -> bool:
        return self.telling.follow(frame)

    def _counted(self, event: Event) -> Event:
        """Let usage be that of all upstreams together."""
        return (added(self.telling.spent, event) or event) if isinstance(event, Usage) else event


class Holdback:
    """Passes on an upstream's own frames and follows them; an error that another upstream could make good is kept back, in `held`.

    `data` is whole events, as the cutter gives them. `failed` is told of such an error once.
    """

    def __init__(self, parser: Parser, reader: Reader, telling: Telling, failed: Callable[[ErrorEvent], None]) -> None:
        self._parser, self._events, self._telling, self._failed = parser, reader.events, telling, failed
        self.held = b""
        self.failure: ErrorEvent | None = None

    def let_go(self) -> None:
        """Tell nobody any more: the one who was told may hold us."""
        self._failed = _nobody

    def feed(self, data: bytes) -> bytes:
        """Return what of these bytes is the client's now; never raises."""
        if self.held:
            self.held += data
            return b""
        try:
            return self._passed(data)
        except Exception:  # noqa: BLE001  what cannot be followed is passed on, and nobody goes on with it
            self._telling.delivered.obstacle = "unreadable"
            return data

    def _passed(self, data: bytes) -> bytes:
        if self._telling.delivered.obstacle is not None:
            return data  # nobody will go on with this: it is no longer looked at
        end = -len(self._parser.tail)
        for frame in self._parser.feed(data):
            events = self._events(frame)
            if (error := _mendable(events)) is not None and self._telling.resumable and end >= 0:
                self.held, self.failure = data[end:], error
                self._failed(error)
                return data[:end]
            end += len(frame.raw)
            self._telling.delivered.take(events)
            if frame.data:
                self._telling.follow(frame)
        self._telling.torn(bool(self._parser.tail))
        if self._parser.skipped:
            self._telling.delivered.obstacle = "unreadable"
        return data


def _mendable(events: Sequence[Event]) -> ErrorEvent | None:
    """Return the error that these events report, if it is one that another upstream may not have."""
    return next((error for event in events if isinstance(event, Failed) and (error := mendable(event)) is not None), None)


def mendable(event: Failed) -> ErrorEvent | None:
    """Return what an upstream reports as an error, None when it is the call's own fault."""
    error = ErrorEvent(event.message, code=event.code)
    return error if blames_upstream(error.status) else None


def added(one: Usage | None, other: Usage | None) -> Usage | None:
    """Add up what two upstreams counted; what neither has said stays unsaid."""
    if one is None or other is None:
        return one or other
    return Usage(*(_sum(getattr(one, name), getattr(other, name)) for name in Usage.__struct_fields__))


def _sum(one: int | None, other: int | None) -> int | None:
    return (one or 0) + (other or 0) if one is not None or other is not None else None


def _nobody(error: ErrorEvent) -> None:
    """Hear of an error that is nobody's concern any more."""
