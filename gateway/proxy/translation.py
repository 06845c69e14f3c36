"""An answer in another dialect than its client's: its frames are read to events, and the client's dialect says them anew."""

import logging
import time
from collections.abc import Callable, Sequence

import msgspec

from gateway.core.errors import ErrorEvent, GatewayError, StreamTruncated, UpstreamError
from gateway.core.events import Delta, Event, Failed, Finished, Terminated, ToolOpened
from gateway.dialects.base import Stamp, Writer
from gateway.proxy.errand import Errand
from gateway.proxy.plane import Live
from gateway.stream.delivered import Continuing, Telling, mendable
from gateway.wire.document import ends

log = logging.getLogger("weir.proxy")
MAX_DOCUMENT = 8 << 20
"""Bytes of an answer in one piece that are held to be said anew."""


class Translation:
    """One answer on its way from the dialect of its upstream to that of its client.

    `finished` says that the answer has said why it ended. `broken` is what it died of: a piece of it that cannot be said is a hole that
    its client would never see, so nothing more is said, and the stream must end as an error. `withheld` is an error that the upstream
    has reported and the client not heard of: another target may go on. `voice` says the answer where the route resumes streams.
    """

    def __init__(self, live: Live, errand: Errand, voice: Telling | Continuing | None = None) -> None:
        self._live, self._errand = live, errand
        self._stamp = Stamp(live.record.stream_id, int(time.time()))  # noqa: TID251  answers say on which day they were made
        self._telling = voice.telling if isinstance(voice, Continuing) else voice
        self._writer: Writer = voice or live.dialect.writer(live.call, self._stamp)
        self._reader = errand.dialect.reader(errand.call)
        self._parser = errand.dialect.framing(errand.call).parser()
        self._ended = False
        self.finished = False
        self.broken: GatewayError | None = None
        self.withheld: GatewayError | None = None

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the upstream's stream and return what they say in the client's dialect; never raises."""
        said: list[bytes] = []
        if self.broken is None and self.withheld is None:
            try:
                self._translate(data, said)
            except Exception as error:  # noqa: BLE001  whatever a writer stumbles over, the relay goes on and the client is told
                self._give_up("the gateway failed to translate this answer", type(error).__name__)
        return b"".join(said)

    def _translate(self, data: bytes, said: list[bytes]) -> None:
        frames = self._parser.feed(data)
        if self._parser.skipped:
            self._give_up("an event of this answer is too large to be translated", "oversize")
            return
        for frame in frames:
            try:
                events = self._reader.events(frame)
            except msgspec.ValidationError:
                continue  # nothing that its dialect knows; the observer counts it
            except msgspec.DecodeError:
                if not self._ended:
                    self._end_as(UpstreamError("an event of this answer cannot be read", code="unreadable_event"))
                    return
                continue
            if events:
                self._ended = self._ended or any(isinstance(event, Terminated) for event in events)
                self.finished = self._ended or self.finished or any(isinstance(event, Finished) for event in events)
                said.append(self._say(events))
                if self.withheld is not None:
                    break

    def _say(self, events: Sequence[Event]) -> bytes:
        for place, event in enumerate(events):
            if isinstance(event, Failed):  # what the upstream says after it is its way to end, not ours
                said = self._writer.feed(events[:place])
                return said if self._withhold(event) else said + self._writer.fail(UpstreamError(event.message, code=event.code))
        return self._writer.feed(events)

    def _withhold(self, event: Failed) -> bool:
        """Keep an error back that another target can make good; the stream of this one is over."""
        error = mendable(event) if self._telling is not None and self._telling.resumable else None
        if error is None:
            return False
        self.withheld = error
        if self._live.stop is not None:
            self._live.stop(error)
        return True

    def _give_up(self, why: str, cause: str) -> None:
        log.error("stream %s: %s (%s)", self._live.record.stream_id, why, cause)
        self._end_as(GatewayError(why, code="untranslatable_answer"))

    def _end_as(self, error: GatewayError) -> None:
        self.broken = error
        if self._live.stop is not None:
            self._live.stop(error)

    def end(self) -> bytes:
        """Return what a stream that has come to its proper end still lacks."""
        return self._last(self._writer.end) if self.broken is None and self.withheld is None else b""

    def fail(self, error: GatewayError) -> bytes:
        """Return the last words of a stream that ends in an error."""
        return self._last(lambda: self._writer.fail(error))

    def _last(self, say: Callable[[], bytes]) -> bytes:
        try:
            return say()
        except Exception as error:  # noqa: BLE001  as in `feed`
            self._give_up("the gateway failed to end this answer", type(error).__name__)
            return b""

    def document(self, body: bytes) -> bytes:
        """Say an answer in one piece as the client wants it, in one piece or as a stream; raises UpstreamError for one that is none."""
        try:
            return self._document(body)
        except UpstreamError:
            raise
        except msgspec.DecodeError as error:
            name = self._live.record.upstream
            if body.lstrip().startswith((b"{", b"[")) and not ends(body):
                raise StreamTruncated(f"the answer of upstream {name} ended before its end") from error
            raise UpstreamError(f"upstream {name} gave an answer that cannot be read", code="bad_response") from error
        except Exception as error:
            log.error("stream %s: the gateway failed to translate this answer (%s)", self._live.record.stream_id, type(error).__name__)
            raise UpstreamError("the gateway failed to translate this answer", code="untranslatable_answer") from error

    def _document(self, body: bytes) -> bytes:
        errand, live = self._errand, self._live
        events = errand.dialect.read_document(errand.call, body)
        failure = next((event for event in events if isinstance(event, Failed)), None)
        if failure is not None:
            raise ErrorEvent(failure.message, code=failure.code)
        if not any(isinstance(event, Delta | ToolOpened | Finished) for event in events):
            raise UpstreamError(f"upstream {live.record.upstream} gave an answer that says nothing", code="bad_response")
        if live.call.stream:
            return self._writer.feed(events) + self._writer.end()
        return live.dialect.write_document(live.call, events, self._stamp)
