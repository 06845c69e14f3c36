"""What we make of one response as it passes: where its events end, what they say, and what of it is not the client's as it stands."""

import time
from collections.abc import Callable

from gateway.core.errors import GatewayError
from gateway.core.events import Failed, Terminated
from gateway.dialects.base import Stamp
from gateway.proxy.errand import Errand
from gateway.proxy.headers import media_type
from gateway.proxy.plane import Live
from gateway.proxy.translation import Translation
from gateway.proxy.upstream import Head
from gateway.stream.cadence import CadenceMeter
from gateway.stream.delivered import Holdback, Telling
from gateway.stream.observer import DocumentObserver, Observer
from gateway.stream.transcript import DocumentScribe, Scribe
from gateway.wire.framing import Frame, Parser

DOCUMENTS = frozenset({"application/json", "application/problem+json", "text/json"})
"""What an answer is stated to be that is no stream although one was asked for. A hop that states nothing, or nonsense, is not believed."""
Look = Callable[[bytes, float], None]
Edit = Callable[[bytes], bytes]


class Reading:
    """One response under observation; made while it is waited for, so that nothing is left to build when it comes.

    `is_stream` tells a stream of events from a whole document; while it is `doubted`, `find_out` decides. Where `edits` is set, a read
    that holds `mark` goes through `edit` on its way to the client: usage that was asked for on our account is taken out, or all of it is
    said in the client's own dialect. A response in an encoding that we cannot read is passed on unseen.
    """

    __slots__ = (
        "_doubt",
        "_errand",
        "_framing",
        "_is_json",
        "_live",
        "cut",
        "cutter",
        "edit",
        "edits",
        "ending",
        "holdback",
        "is_stream",
        "mark",
        "meter",
        "observer",
        "readable",
        "seen",
        "telling",
        "transcript",
        "translation",
    )

    def __init__(self, live: Live, errand: Errand) -> None:
        dialect, call = errand.dialect, errand.call
        self._live, self._errand, self._framing = live, errand, dialect.framing(call)
        self.is_stream, self.readable, self.seen = call.stream, True, True
        threshold, bounds = live.route.stall.threshold, live.setup.gap_bounds
        self.meter = errand.voice.telling.meter if errand.voice else CadenceMeter(threshold, bounds, live.blame)
        self.telling = errand.voice.telling if errand.voice else self._telling() if live.resumes else None
        self.translation = Translation(live, errand, errand.voice or self.telling) if errand.translated else None
        self.edit: Edit = self._strip if self.translation is None else self.translation.feed
        self.mark = dialect.usage_mark if self.translation is None else b""
        self.edits = call.stream and (errand.translated or errand.asks_usage)
        self.holdback: Holdback | None = None
        if self.telling is not None and self.translation is None:
            self.holdback = Holdback(self._framing.parser(), dialect.reader(call), self.telling, self._fail)
            self.mark, self.edit, self.edits = b"", self._followed, True
        unseen = errand.voice.unseen if errand.voice else None
        self.transcript = live.words.listen(call.choices, unseen) if live.words is not None else None
        self.observer = self._observer()
        self.cutter = self._framing.cutter()
        self.cut: Edit = self.cutter.push if self.is_stream else _whole
        self.ending = self._framing.ending if self.is_stream else b""
        self._doubt: Parser | None = None
        self._is_json = False

    def _telling(self) -> Telling | None:
        """Keep what is delivered, so that another target may go on with it; None for a call that no writer of ours can answer."""
        stamp = Stamp(self._live.record.stream_id, int(time.time()))  # noqa: TID251  answers say on which day they were made
        try:
            return Telling(self._live.dialect.writer(self._live.call, stamp), self.meter)
        except Exception:  # noqa: BLE001  a call is carried as it came, whatever we make of it: its stream is one that cannot be resumed
            return None

    def begin(self, head: Head) -> None:
        """Decide by a response's head how it can be read: it may be another thing than the one that was asked for."""
        identity = head.headers.get("content-encoding", "identity").lower() in {"", "identity"}
        if not identity:
            self._live.record.parser_errors["unparsed_encoding"] = 1
        self.readable, self.seen = identity, identity and head.status < 400
        said = media_type(head.headers)
        self._is_json = said in DOCUMENTS
        if self.is_stream and not self.seen:
            self._take_for_document()
        elif self.is_stream and self._is_json and said != self._framing.media_type:
            self._doubt = self._framing.parser()

    def _take_for_document(self) -> None:
        self.is_stream = self.edits = False
        self.observer, self.cut, self.ending = self._observer(), _whole, b""

    @property
    def doubted(self) -> bool:
        """True while an answer that is called a document, where a stream was asked for, has not shown yet whether it is one."""
        return self._doubt is not None

    def find_out(self, first: bytes, last: bool) -> bool:
        """Take the first bytes of a doubted answer, the `last` to decide by or not, and tell whether it is decided what it is.

        It is a stream when it begins with a whole frame of its call's framing that says something and is not all of the answer.
        """
        assert self._doubt is not None
        frame = next((frame for frame in self._doubt.feed(first) if frame.raw.strip()), None)
        shown = self._doubt.tail.lstrip().startswith((b"{", b"[")) and self._framing.ending != b"\n"  # where lines are JSON, one must end
        if frame is None and not (shown or last):
            return False
        self._doubt = None
        if frame is None or not self._goes_on(frame):
            self._take_for_document()
        return True

    def _goes_on(self, frame: Frame) -> bool:
        try:
            events = self._errand.dialect.reader(self._errand.call).events(frame)
        except Exception:  # noqa: BLE001  whatever a reader stumbles over, the answer is what it is called
            return False
        return bool(events) and not any(isinstance(event, Failed | Terminated) for event in events)

    def _observer(self) -> Observer | DocumentObserver:
        """Return what watches the response; where its words are kept, one that writes them down."""
        dialect, call = self._errand.dialect, self._errand.call
        if self.transcript is None:
            return Observer(dialect, call, self.meter) if self.is_stream else DocumentObserver(dialect, call)
        if self.is_stream:
            return Scribe(dialect, call, self.meter, self.transcript)
        return DocumentScribe(dialect, call, self.transcript)

    @property
    def aligned(self) -> bool:
        """True when the next byte begins an event, so that a read which ends with `ending` is whole."""
        return self.cutter.aligned

    @property
    def inside(self) -> bool:
        """True when the client's last byte is not the end of an event, so that a word of ours would garble one."""
        return self.translation is None and self.cutter.inside

    @property
    def torn(self) -> bool:
        """True when the client holds half an event that no word of ours can end: its body can only be broken off."""
        return self.inside and not self.ending

    def whole(self, why: str | None) -> bool:
        """Tell whether nothing of the answer is missing, as far as its framing, and its dialect when we could read it, can tell.

        `why` its HTTP message broke off, None when that was whole.
        """
        if self.is_stream and self.seen and not self.observer.lost_last:
            return self.observer.ended(why is None)
        return why is None and not (self._is_json and self.observer.half)  # what was too large to be read may have been its end

    @property
    def broken(self) -> GatewayError | None:
        """What a translation has died of; the answer has a hole."""
        return self.translation.broken if self.translation is not None else None

    @property
    def withheld(self) -> GatewayError | None:
        """An error that the upstream has reported and the client not heard, since another target may go on; see `released`."""
        if self.translation is not None:
            return self.translation.withheld
        return self.holdback.failure if self.holdback is not None else None

    def released(self) -> bytes:
        """Return the error that was kept back, for nobody goes on."""
        if self.translation is not None and (error := self.translation.withheld) is not None:
            return self.translation.fail(error)
        return self.holdback.held if self.holdback is not None else b""

    def _fail(self, error: GatewayError) -> None:
        if self._live.stop is not None:
            self._live.stop(error)

    def observe(self, data: bytes, now: float) -> None:
        """Show bytes to the observer; if it fails, we go blind and the stream goes on."""
        try:
            self.eye(data, now)
        except Exception:  # noqa: BLE001  a broken observer may cost us the telemetry of a stream, never the stream
            self.go_blind()

    @property
    def eye(self) -> Look:
        """What takes the bytes of this response: the observer, or nobody when it cannot read them."""
        return self.observer.feed if self.seen else _unseen

    def go_blind(self) -> Look:
        """Stop observing; return what takes the bytes from now on."""
        self.seen = False
        errors = self.observer.errors
        errors["observer"] = errors.get("observer", 0) + 1
        return _unseen

    def conclude(self, whole: bool, now: float) -> bytes:
        """The body has ended, `whole` or not: return what is still the client's to have.

        An end marker without its blank line is an answer's proper end; half an event is nothing that anyone can use.
        """
        tail = self.cutter.tail if whole else b""
        try:
            if self.seen and whole and isinstance(self.observer, DocumentObserver):
                self.observer.finish_document(now)
            elif self.seen and tail and self.ending:
                self.observer.feed(tail + self.ending, now)
        except Exception:  # noqa: BLE001  as in `observe`
            self.go_blind()
        blind = whole and (self.translation is None or self.translation.finished)
        proper = self.observer.ended(whole) if self.seen else blind
        if self.translation is None:
            return tail if not self.seen or proper else b""
        if not self.is_stream:
            return b""  # it was said as a whole
        said = self.translation.feed(tail + self.ending) if tail and proper else b""
        return said + self.translation.end() if proper else said

    def let_go(self) -> None:
        """The response is over: hold nothing that holds us, so that all of a stream's memory goes with its last reference."""
        self.edit = _whole
        if self.holdback is not None:
            self.holdback.let_go()

    def last_words(self, error: GatewayError, begun: bool) -> bytes:
        """Return an error as the end of a stream of which something has been sent when `begun`, between events even when one was torn."""
        if self.translation is not None:
            return self.translation.fail(error)
        if self.torn:
            return b""
        torn = self.ending if self.inside else b""
        return torn + self._live.dialect.error_event(error, self._live.call, begun)

    def _followed(self, data: bytes) -> bytes:
        """Note what the client gets, but for an error that can be made good; and take out the usage as elsewhere."""
        assert self.holdback is not None
        data = self.holdback.feed(data)
        return self._strip(data) if self._errand.asks_usage and self._errand.dialect.usage_mark in data else data

    def _strip(self, data: bytes) -> bytes:
        """Take out the usage frame that only our asking has caused; anything doubtful stays in."""
        if not self.seen:
            return data
        blank = data.rfind(b"\n\n", 0, data.find(self.mark))
        start = blank + 2 if blank >= 0 else 0  # what stands before the event with the mark is not it
        parser = self._framing.parser()
        frames = parser.feed(data[start:])
        kept = [frame.raw for frame in frames if not self._errand.dialect.is_usage_frame(frame)]
        for _ in range(len(frames) - len(kept)):
            self._live.count("usage_stripped")
        return data[:start] + b"".join(kept) + parser.tail

    def edited(self, data: bytes) -> bytes:
        """Return bytes as the client gets them."""
        return self.edit(data) if self.edits and self.mark in data else data


def _unseen(data: bytes, now: float) -> None:
    """Let bytes pass."""


def _whole(chunk: bytes) -> bytes:
    return chunk
