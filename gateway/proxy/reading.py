"""What we make of one response as it passes: where its events end, what they say, and which of them were sent for us alone."""

from collections.abc import Callable

from gateway.core.call import Call
from gateway.dialects.base import Dialect
from gateway.proxy.plane import Live
from gateway.proxy.upstream import Head, Pool
from gateway.stream.cadence import CadenceMeter
from gateway.stream.observer import DocumentObserver, Observer

SSE = "text/event-stream"
Look = Callable[[bytes, float], None]


class Reading:
    """One response under observation; made while it is waited for, so that nothing is left to build when it comes.

    `is_stream` tells an event stream from a whole document; `strips` that usage was asked for on our account, so that the frame
    which brings it is not the client's. A response in an encoding that we cannot read is passed on unseen.
    """

    __slots__ = ("_dialect", "_misses", "_mutations", "cut", "cutter", "ending", "is_stream", "meter", "observer", "seen", "strips")

    def __init__(self, live: Live, pool: Pool) -> None:
        self._dialect: Dialect = live.dialect
        self._mutations, self._misses = live.record.mutations, live.record.parser_errors
        self.is_stream, self.seen, self.strips = live.call.stream, True, live.call.stream and live.injects_usage(pool)
        self.meter = CadenceMeter(live.route.stall.threshold, live.plane.gap_bounds, live.blame)
        self.observer: Observer | DocumentObserver
        self.observer = Observer(live.dialect, live.call, self.meter) if self.is_stream else DocumentObserver(live.dialect, live.call)
        self.cutter = live.dialect.cutter()
        self.cut = self.cutter.push if self.is_stream else _whole
        self.ending = live.dialect.ending if self.is_stream else b""

    def begin(self, call: Call, head: Head) -> None:
        """Decide by a response's head how it can be read: it may be another thing than the one that was asked for."""
        identity = head.headers.get("content-encoding", "identity").lower() in {"", "identity"}
        if not identity:
            self._misses["unparsed_encoding"] = 1
        self.seen = identity and head.status < 400
        if self.is_stream and not (self.seen and head.headers.get("content-type", "").lower().startswith(SSE)):
            self.is_stream = self.strips = False
            self.observer, self.cut, self.ending = DocumentObserver(self._dialect, call), _whole, b""

    @property
    def aligned(self) -> bool:
        """True when the next byte begins an event, so that a read which ends with `ending` is whole."""
        return self.cutter.aligned

    @property
    def inside(self) -> bool:
        """True when the client's last byte is not the end of an event, so that a word of ours would garble one."""
        return self.cutter.inside

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
        """The body has ended, `whole` or not: return what of the incomplete tail is still the client's.

        An end marker without its blank line is an answer's proper end; half an event is nothing that anyone can use.
        """
        tail = self.cutter.tail if whole else b""
        try:
            if self.seen and whole and isinstance(self.observer, DocumentObserver):
                self.observer.finish_document(now)
            elif self.seen and tail:
                self.observer.feed(tail + b"\n\n", now)
        except Exception:  # noqa: BLE001  as in `observe`
            self.go_blind()
        return tail if not self.seen or self.observer.complete else b""

    def strip(self, data: bytes) -> bytes:
        """Take out the usage frame that only our asking has caused; anything doubtful stays in."""
        if not (self.strips and self.seen and self._dialect.usage_mark in data):
            return data
        parser = self._dialect.parser()
        frames = parser.feed(data)
        kept = [frame.raw for frame in frames if not self._dialect.is_usage_frame(frame)]
        if len(kept) < len(frames):
            self._mutations["usage_stripped"] = self._mutations.get("usage_stripped", 0) + len(frames) - len(kept)
        return b"".join(kept) + parser.tail


def _unseen(data: bytes, now: float) -> None:
    """Let bytes pass."""


def _whole(chunk: bytes) -> bytes:
    return chunk
