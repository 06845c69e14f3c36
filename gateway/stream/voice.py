"""What a realtime session says and hears, read from its messages after they were relayed: waits, sound, silences, interruptions, usage.

The events are those of OpenAI's Realtime API, by their names in its beta and since. Messages that carry sound, which is nearly all of
the bytes, are not parsed: their type stands at their beginning, and a length of base64 says how long it sounds.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from gateway.core.buckets import LATENCY_BOUNDS, subdivide
from gateway.core.errors import word
from gateway.core.events import Usage
from gateway.core.record import Voice
from gateway.dialects.lenient import clipped, count, mapping, number, text
from gateway.stream.turns import Playback, TurnMeter, Waited

MAX_PARSED = 1 << 20
"""Bytes of a message that is read as JSON; what is longer is relayed unread."""
MAX_FINISHES = 8
WAIT_BOUNDS = subdivide(LATENCY_BOUNDS)

PCM16 = 48_000.0
"""Bytes a second of 16 bit samples at 24 kHz, what a session speaks when it says nothing else."""
FORMATS: Mapping[str, float] = {
    "pcm16": PCM16,
    "audio/pcm": PCM16,
    "g711_ulaw": 8000.0,
    "g711_alaw": 8000.0,
    "audio/pcmu": 8000.0,
    "audio/pcma": 8000.0,
}

_TYPE_FIRST = re.compile(rb'\s*\{\s*(?:"event_id"\s*:\s*"[^"\\]{0,256}"\s*,\s*)?"type"\s*:\s*"([^"\\]{1,128})"')
_SOUND = {name: re.compile(rb'"%b"\s*:\s*"' % name) for name in (b"delta", b"audio")}
_NO_TEXT = re.compile(rb'"delta"\s*:\s*""')


class _Typed(Struct):
    type: Any = None


_TYPED = msgspec.json.Decoder(_Typed)


def type_of(message: bytes) -> bytes:
    """Return an event's type; raises `msgspec.DecodeError` for what is no JSON object, and b"" when it names none."""
    if (found := _TYPE_FIRST.match(message)) is not None:
        return found[1]
    said = text(_TYPED.decode(message).type) if len(message) <= MAX_PARSED else None
    return said.encode() if said else b""


def sound(message: bytes, member: bytes) -> int:
    """Return how many bytes of sound a member holds as base64, without decoding it."""
    found = _SOUND[member].search(message)
    end = message.find(b'"', found.end()) if found is not None else -1
    if found is None or end < 0:
        return 0
    start = found.end()
    length = end - start - message.count(b"\\", start, end) - message.count(b"=", start, end)  # "\/" is how some write a slash
    return length * 3 // 4


class VoiceObserver:
    """The account of one session so far. `came` takes what the upstream said, `sent` what the client did; times are monotonic seconds.

    `errors` counts what could not be read, as `Observer.errors` does. Nothing is kept of what was said.
    """

    __slots__ = (
        "_asked_at",
        "_audio",
        "_first_audio",
        "_first_token",
        "_in_rate",
        "_interrupted",
        "_open",
        "_out_rate",
        "_play",
        "_said",
        "_since",
        "_turn",
        "_usage",
        "errors",
        "finish",
        "meter",
        "model",
        "session_id",
        "usage",
        "voice",
    )

    def __init__(self, meter: TurnMeter, bounds: tuple[float, ...] = WAIT_BOUNDS) -> None:
        self.meter = meter
        self.voice = Voice()
        self.usage: Usage | None = None
        self.session_id: str | None = None
        self.model: str | None = None
        self.finish: list[str] = []
        self.errors: dict[str, int] = {}
        self._first_token, self._first_audio = Waited(bounds), Waited(bounds)
        self._in_rate = self._out_rate = PCM16
        self._play = Playback()
        self._asked_at: float | None = None
        self._since = 0.0
        self._open = 0
        self._turn = self._said = self._audio = self._interrupted = False

    @property
    def running(self) -> bool:
        """True while the upstream has announced an answer that it has not ended."""
        return self._open > 0

    @property
    def answering(self) -> bool:
        """True while it is the upstream's turn: an answer runs, or is owed."""
        return self._open > 0 or self._asked_at is not None

    def came(self, message: bytes, now: float) -> None:
        """Take one text message of the upstream."""
        self._look(_CAME, message, now)

    def sent(self, message: bytes, now: float) -> None:
        """Take one text message of the client."""
        self._look(_SENT, message, now)

    def report(self, now: float) -> Voice:
        """Return the account; call it when the session has ended."""
        self._end_turn(now)
        voice, play = self.voice, self._play
        voice.first_token, voice.first_audio = self._first_token.report(), self._first_audio.report()
        voice.underruns, voice.underrun_time = play.underruns, play.underrun_time
        return voice

    def _look(self, notes: "Mapping[bytes, Note]", message: bytes, now: float) -> None:
        try:
            if (note := notes.get(type_of(message))) is not None:
                note(self, message, now)
        except msgspec.DecodeError:
            self._miss("json")

    def _read(self, message: bytes) -> dict[str, Any]:
        """Return a rare message as JSON; what is too long for that says nothing."""
        if len(message) > MAX_PARSED:
            self._miss("oversize")
            return {}
        return mapping(msgspec.json.decode(message))

    def _miss(self, reason: str) -> None:
        self.errors[reason] = self.errors.get(reason, 0) + 1

    # What the client says.

    def _append(self, message: bytes, now: float) -> None:  # noqa: ARG002 - the shape of every note
        self.voice.audio_in += sound(message, b"audio") / self._in_rate

    def _ask(self, message: bytes, now: float) -> None:  # noqa: ARG002
        """An answer is owed from now on."""
        if not self._open:
            self._end_turn(now)
        self._asked_at = now

    def _cancel(self, message: bytes, now: float) -> None:  # noqa: ARG002
        if self._open or self._play.playing(now):
            self._interrupt(now)

    # What the upstream says.

    def _session(self, message: bytes, now: float) -> None:  # noqa: ARG002
        session = mapping(self._read(message).get("session"))
        self.session_id = clipped(text(session.get("id"))) or self.session_id
        self.model = clipped(text(session.get("model"))) or self.model
        audio = mapping(session.get("audio"))
        self._in_rate = _rate(mapping(audio.get("input")).get("format"), session.get("input_audio_format"), self._in_rate)
        self._out_rate = _rate(mapping(audio.get("output")).get("format"), session.get("output_audio_format"), self._out_rate)

    def _speech_started(self, message: bytes, now: float) -> None:  # noqa: ARG002
        """The user speaks: what was owed is no longer, and an answer that was being played is interrupted."""
        if self._play.playing(now):
            self._interrupt(now)
        self._asked_at = None

    def _committed(self, message: bytes, now: float) -> None:
        """What the user has said is complete; where the upstream heard the end of it, that was the moment."""
        if self._asked_at is None:
            self._ask(message, now)

    def _created(self, message: bytes, now: float) -> None:
        self.voice.responses += 1
        self._open += 1
        if self._open == 1:
            self._begin_turn(now)
        if b"format" in message:
            response = mapping(self._read(message).get("response"))
            output = mapping(mapping(response.get("audio")).get("output"))
            self._out_rate = _rate(output.get("format"), response.get("output_audio_format"), self._out_rate)

    def _token(self, message: bytes, now: float) -> None:
        if _NO_TEXT.search(message) is None:
            self._spoke(now)
            if not self._audio:
                self.meter.arrive(now)

    def _sounded(self, message: bytes, now: float) -> None:
        seconds = sound(message, b"delta") / self._out_rate
        if seconds > 0:
            self._spoke(now)
            if not self._audio:
                self._audio = True
                self._first_audio.add(max(0.0, now - self._since))
            self.meter.arrive(now)
            self.voice.audio_out += seconds
            self._play.deliver(seconds, now)

    def _done(self, message: bytes, now: float) -> None:
        self._open = max(0, self._open - 1)
        if not self._open:
            self._end_turn(now)
        response = mapping(self._read(message).get("response"))
        status = (text(response.get("status")) or "")[:64]
        if status and status not in self.finish and len(self.finish) < MAX_FINISHES:
            self.finish.append(status)
        if status == "failed":
            self._fault(mapping(response.get("status_details")).get("error"))
        if isinstance(said := response.get("usage"), dict):
            self._count(said)

    def _failed(self, message: bytes, now: float) -> None:  # noqa: ARG002
        self._fault(self._read(message).get("error"))

    # What follows from it.

    def _begin_turn(self, now: float) -> None:
        self._end_turn(now)
        self._since = now if self._asked_at is None else self._asked_at
        self._asked_at = None
        self._turn, self._said, self._audio, self._interrupted = True, False, False, False
        self._play.begin()

    def _end_turn(self, now: float) -> None:
        self._turn = False
        self.meter.end_turn(now)

    def _spoke(self, now: float) -> None:
        if not self._turn:  # some servers do not announce their answers
            self._begin_turn(now)
        if not self._said:
            self._said = True
            self._first_token.add(max(0.0, now - self._since))

    def _interrupt(self, now: float) -> None:
        self._play.stop(now)
        if not self._interrupted:
            self._interrupted = True
            self.voice.interruptions += 1

    def _fault(self, error: Any) -> None:
        self.voice.errors += 1
        said = mapping(error)
        self.voice.last_error = word((text(said.get("code")) or text(said.get("type")) or "")[:64], "error")

    def _count(self, said: dict[str, Any]) -> None:
        """Add one response's usage to the session's: each is billed for itself."""
        into, out = mapping(said.get("input_token_details")), mapping(said.get("output_token_details"))
        cached = mapping(into.get("cached_tokens_details"))
        had, voice = self.usage or Usage(), self.voice
        self.usage = Usage(
            input=_sum(had.input, said.get("input_tokens")),
            output=_sum(had.output, said.get("output_tokens")),
            cached=_sum(had.cached, into.get("cached_tokens")),
        )
        voice.audio_input = _sum(voice.audio_input, into.get("audio_tokens"))
        voice.audio_cached = _sum(voice.audio_cached, cached.get("audio_tokens"))
        voice.audio_output = _sum(voice.audio_output, out.get("audio_tokens"))


def _sum(had: int | None, said: Any) -> int | None:
    """Add a count to what there is; one that was not said changes nothing."""
    more = count(said)
    total = had if more is None else (had or 0) + more
    return total if total is None or count(total) is not None else had


def _rate(since: Any, beta: Any, known: float) -> float:
    """Return the bytes a second of a format, said as an object (`{"type": "audio/pcm", "rate": 24000}`) or by its name in the beta."""
    said = mapping(since)
    name = text(said.get("type")) or text(since) or text(beta) or ""
    hertz = number(said.get("rate")) or 0.0
    if name == "audio/pcm" and 0 < hertz <= 384_000:
        return hertz * 2
    return FORMATS.get(name, known)


Note = Callable[[VoiceObserver, bytes, float], None]

_SENT: Mapping[bytes, Note] = {
    b"input_audio_buffer.append": VoiceObserver._append,  # noqa: SLF001 - the table is part of the class
    b"response.create": VoiceObserver._ask,  # noqa: SLF001
    b"response.cancel": VoiceObserver._cancel,  # noqa: SLF001
}
_CAME: Mapping[bytes, Note] = {
    b"session.created": VoiceObserver._session,  # noqa: SLF001
    b"session.updated": VoiceObserver._session,  # noqa: SLF001
    b"input_audio_buffer.speech_started": VoiceObserver._speech_started,  # noqa: SLF001
    b"input_audio_buffer.speech_stopped": VoiceObserver._ask,  # noqa: SLF001
    b"input_audio_buffer.committed": VoiceObserver._committed,  # noqa: SLF001
    b"response.created": VoiceObserver._created,  # noqa: SLF001
    b"response.output_text.delta": VoiceObserver._token,  # noqa: SLF001
    b"response.text.delta": VoiceObserver._token,  # noqa: SLF001
    b"response.output_audio_transcript.delta": VoiceObserver._token,  # noqa: SLF001
    b"response.audio_transcript.delta": VoiceObserver._token,  # noqa: SLF001
    b"response.function_call_arguments.delta": VoiceObserver._token,  # noqa: SLF001
    b"response.output_audio.delta": VoiceObserver._sounded,  # noqa: SLF001
    b"response.audio.delta": VoiceObserver._sounded,  # noqa: SLF001
    b"response.done": VoiceObserver._done,  # noqa: SLF001
    b"error": VoiceObserver._failed,  # noqa: SLF001
}
