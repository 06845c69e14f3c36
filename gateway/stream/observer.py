"""What one stream has said: the times that matter, usage, finish and failure, read from the bytes after they were relayed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from gateway.core.call import Call
from gateway.core.events import ANSWER_KINDS, Delta, Event, Failed, Finished, Kind, Started, Terminated, ToolOpened, Usage
from gateway.dialects.base import Dialect
from gateway.stream.cadence import CadenceMeter
from gateway.stream.likeness import learn
from gateway.wire.document import ends
from gateway.wire.framing import Frame

MAX_DOCUMENT = 4 << 20
MAX_REASONS = 8
MAX_LEARNED = 8
"""Tokens of a stream that may be learnt from: shapes change with a role, a log probability or a second choice, seldom more."""


class Observation:
    """The account of one answer so far. Times are those of the reads, in monotonic seconds; None is "not yet".

    `lost_last`: what came last was too large to be read, and may have been the end. `half`: it came whole, and is no JSON document that
    comes to its end. `choices` answers were asked for in one. `errors` counts what could not be read: `json`, `shape` (JSON that is
    nothing we know) and `oversize`.
    """

    __slots__ = (
        "_choices",
        "_dialect",
        "_doubtful",
        "_finished",
        "errors",
        "failure",
        "finish",
        "first_answer_at",
        "first_event_at",
        "first_token_at",
        "half",
        "last_kind",
        "lost_last",
        "model",
        "response_id",
        "terminated",
        "usage",
    )

    def __init__(self, dialect: Dialect, choices: int = 1) -> None:
        self._dialect = dialect
        self._choices = choices
        self._finished = 0
        self._doubtful = False
        self.first_event_at: float | None = None
        self.first_token_at: float | None = None
        self.first_answer_at: float | None = None
        self.last_kind: Kind | None = None
        self.response_id: str | None = None
        self.model: str | None = None
        self.usage: Usage | None = None
        self.finish: list[str] = []
        self.failure: Failed | None = None
        self.terminated = False
        self.lost_last = self.half = False
        self.errors: dict[str, int] = {}

    @property
    def last_token_at(self) -> float | None:
        """When the last token came; an answer in one piece has none of its own."""
        return None

    @property
    def spoke(self) -> bool:
        """Whether any token came."""
        return self.first_token_at is not None

    @property
    def complete(self) -> bool:
        """Whether the answer came to the proper end of its dialect; an answer that reports a failure may do so too."""
        return self.ended(False)

    def ended(self, whole: bool) -> bool:
        """Tell the same of one whose body has ended, `whole` or not: who has said too early before why it ends is believed only then."""
        believed = self._finished >= self._choices and (whole or not self._doubtful)
        return self._dialect.complete(self.terminated, self.finish if believed else ())

    def _unread(self, error: msgspec.DecodeError) -> None:
        self._miss("shape" if isinstance(error, msgspec.ValidationError) else "json")

    def _miss(self, reason: str) -> None:
        self.errors[reason] = self.errors.get(reason, 0) + 1


def _note_started(seen: Observation, event: Started) -> None:
    seen.response_id = event.id or seen.response_id
    seen.model = event.model or seen.model


def _note_usage(seen: Observation, event: Usage) -> None:
    seen.usage = event  # vLLM and others count on in every chunk: the last word holds


def _note_finish(seen: Observation, event: Finished) -> None:
    seen._finished += 1  # noqa: SLF001  a method of it in all but place
    if event.reason not in seen.finish and len(seen.finish) < MAX_REASONS:
        seen.finish.append(event.reason)


def _note_failure(seen: Observation, event: Failed) -> None:
    seen.failure = seen.failure or event


def _note_end(seen: Observation, event: Terminated) -> None:  # noqa: ARG001 - the shape of every note
    seen.terminated = True


_NOTES: Mapping[type, Callable[[Observation, Any], None]] = {
    Started: _note_started,
    Usage: _note_usage,
    Finished: _note_finish,
    Failed: _note_failure,
    Terminated: _note_end,
}


class Arrive(Protocol):
    """Takes note of one read that brought tokens."""

    def __call__(self, now: float, chunks: int = 1) -> None: ...


def _nothing_learnt(data: bytes) -> bool:  # noqa: ARG001 - the shape of Likeness.holds
    return False


class Observer(Observation):
    """Watches one stream, read by read."""

    __slots__ = ("_alike", "_arrive", "_events", "_known", "_learned", "_meter", "_parser")

    def __init__(self, dialect: Dialect, call: Call, meter: CadenceMeter) -> None:
        super().__init__(dialect, call.choices)
        self._parser = dialect.framing(call).parser()
        self._events = dialect.reader(call).events
        self._meter = meter
        self._arrive: Arrive = meter.arrive
        self._alike: Callable[[bytes], bool] = _nothing_learnt
        self._known: Callable[[bytes], bool] = _nothing_learnt
        self._learned = 0

    @property
    def last_token_at(self) -> float | None:
        """When the last token came."""
        return self._meter.last_token_at

    def feed(self, data: bytes, now: float) -> None:
        """Take one read, stamped when it was read. What came after the end marker is not the stream's and is ignored."""
        if self._alike(data):
            self._arrive(now)
        else:
            self._read(data, now)

    def _read(self, data: bytes, now: float) -> None:
        """Take a read whose frames must be parsed to know what they say."""
        spoken, heard, frames = 0, False, self._parser.feed(data)
        for frame in frames:
            if self.terminated:
                break
            try:
                events = self._events(frame)
            except msgspec.DecodeError as error:
                self._unread(error)
                events = ()
            self._learn(frame, events, alone=len(frames) == 1)
            if events or frame.data:
                heard = True
                if self.first_event_at is None:
                    self.first_event_at = now
                spoken += self._take(events, now)
        self.lost_last = self._parser.skipped > self.errors.get("oversize", 0) or (self.lost_last and not heard)
        if self._parser.skipped:
            self.errors["oversize"] = self._parser.skipped
        if spoken:
            self._arrive(now, spoken)
        if self.terminated:
            self._meter.close(now)
        fit = self._parser.at_boundary and not self.lost_last and self.last_kind == "text" and not self.terminated
        self._alike = self._known if fit else _nothing_learnt

    def _learn(self, frame: Frame, events: Sequence[Event], alone: bool) -> None:
        """Remember what a text token looks like here, but not before the first has been passed on.

        Frames that keep changing shape are not worth it: after a few tries, no more. Any other frame may have told the reader something
        by which what looks as before means another thing now, so it makes us forget.
        """
        if not (len(events) == 1 and type(events[0]) is Delta and events[0].kind == "text"):
            self._known = _nothing_learnt if frame.data else self._known
            return
        if not alone or self.last_kind != "text" or self._learned >= MAX_LEARNED:
            return
        try:
            likeness = learn(frame, events, self._events)
        except msgspec.DecodeError:  # nested so deeply that only the frame itself could be read
            return
        if likeness is not None:
            self._known = likeness.holds
            self._learned += 1

    def _take(self, events: Sequence[Event], now: float) -> bool:
        """Note the events of one frame and tell whether a token was among them."""
        said: Kind | None = None
        for event in events:
            # Asked by exact type, most frequent first: a table would cost a call for every token.
            if type(event) is Delta:
                said = event.kind
            elif type(event) is ToolOpened:
                said = "arguments"
            else:
                _NOTES[type(event)](self, event)
                continue
            if self._finished:
                self._take_back()
            if self.first_answer_at is None:
                self._spoke(said, now)
        if said is None:
            return False
        self.last_kind = said
        return True

    def _take_back(self) -> None:
        """More is said after the answer has said why it ends: it did not end. Of several answers in one, another may go on."""
        if self._choices == 1:
            self._finished, self._doubtful = 0, True

    def _spoke(self, kind: Kind, now: float) -> None:
        if self.first_token_at is None:
            self.first_token_at = now
        if kind in ANSWER_KINDS:
            self.first_answer_at = now


class DocumentObserver(Observation):
    """Watches an answer in one piece: it is read when it is whole, up to 4 MiB; of a larger one only the times are known.

    It counts no tokens: an answer that comes at once has no first token of its own.
    """

    __slots__ = ("_body", "_call", "_ended", "_limit")

    def __init__(self, dialect: Dialect, call: Call, limit: int = MAX_DOCUMENT) -> None:
        super().__init__(dialect)
        self._call = call
        self._limit = limit
        self._ended = False
        self._body: bytearray | None = bytearray()

    def feed(self, data: bytes, now: float) -> None:
        """Take one read."""
        if self.first_event_at is None:
            self.first_event_at = now
        if self._body is None:
            return
        if len(self._body) + len(data) > self._limit:
            self._body = None
            self._miss("oversize")
        else:
            self._body += data

    def finish_document(self, now: float) -> None:  # noqa: ARG002 - the same shape for every reading of a stream
        """Read the whole; call it when the body has come to its end. Only the first call counts."""
        if self._ended:
            return
        self._ended = True
        body, self._body = self._body, None
        if body is None:
            self.terminated = True  # too large to be read, and nothing says that it was not whole
            return
        try:
            events = self._dialect.read_document(self._call, bytes(body))
        except msgspec.DecodeError as error:
            self._unread(error)
            self.half = not ends(bytes(body))
            return
        self.terminated = True
        self._note(events)

    def _note(self, events: Sequence[Event]) -> None:
        for event in events:
            if (note := _NOTES.get(type(event))) is not None:  # what it says is nobody's business here
                note(self, event)
