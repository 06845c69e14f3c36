"""What the observer of a realtime session makes of its messages: waits, sound, underruns, interruptions, usage; nothing breaks it."""

import base64
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.record import Voice
from gateway.stream.turns import TurnMeter
from gateway.stream.voice import MAX_PARSED, VoiceObserver, sound, type_of

TENTH = "A" * 6400
"""A tenth of a second of 16 bit sound at 24 kHz: 4800 bytes."""


class Session:
    """An observer and the time; `came` and `sent` take a type and members."""

    def __init__(self) -> None:
        self.observer = VoiceObserver(TurnMeter(1.0))
        self.now = 100.0

    def wait(self, seconds: float) -> "Session":
        self.now += seconds
        return self

    def came(self, kind: str, **members: Any) -> "Session":
        self.observer.came(orjson.dumps({"type": kind, "event_id": "event_1", **members}), self.now)
        return self

    def sent(self, kind: str, **members: Any) -> "Session":
        self.observer.sent(orjson.dumps({"type": kind, **members}), self.now)
        return self

    def says(self, tenths: int = 1) -> "Session":
        return self.came("response.output_audio.delta", response_id="r", delta=TENTH * tenths)

    def done(self, **response: Any) -> "Session":
        return self.came("response.done", response={"status": "completed", **response})

    @property
    def voice(self) -> Voice:
        return self.observer.report(self.now)


@pytest.mark.parametrize("audio", ["response.output_audio.delta", "response.audio.delta"])
@pytest.mark.parametrize("text", ["response.output_text.delta", "response.text.delta", "response.audio_transcript.delta",
                                  "response.output_audio_transcript.delta", "response.function_call_arguments.delta"])  # fmt: skip
def test_the_first_token_and_the_first_sound(audio: str, text: str) -> None:
    """Both wait from `response.create`; empty text is no token, and what is announced is none."""
    session = Session().sent("response.create").wait(0.2).came("response.created", response={}).wait(0.1).came(text, delta="")
    session.wait(0.2).came(text, delta="Hi").wait(0.25).came(audio, delta=TENTH).done()
    assert session.voice.first_token.first == pytest.approx(0.5)
    assert session.voice.first_audio.first == pytest.approx(0.75)


ASKED = {
    "response.create": lambda s: s.sent("response.create"),
    "the end of speech": lambda s: s.came("input_audio_buffer.speech_started").wait(3).came("input_audio_buffer.speech_stopped"),
    "the end of speech, then its commit": lambda s: ASKED["the end of speech"](s).wait(0).came("input_audio_buffer.committed"),
    "a commit": lambda s: s.came("input_audio_buffer.committed"),
    "create after a commit": lambda s: s.came("input_audio_buffer.committed").wait(1).sent("response.create"),
    "nobody": lambda s: s,
}


@pytest.mark.parametrize("how", ASKED)
def test_what_an_answer_is_waited_for_from(how: str) -> None:
    """The user's last word, or the client's asking; an answer nobody asked for waits from its announcement."""
    session = ASKED[how](Session()).wait(0.1)
    session.came("response.created").wait(0.3).says().done()
    assert session.voice.first_audio.first == pytest.approx(0.3 if how == "nobody" else 0.4)


def test_many_answers_are_one_summary() -> None:
    """The first, the typical and the longest; bins and total for the histogram; memory does not grow."""
    session = Session()
    for wait in (0.5, *[0.21] * 50, 1.7):
        session.sent("response.create").wait(0.05).came("response.created").wait(wait - 0.05).says().wait(1).done().wait(30)
    waits = session.voice.first_audio
    assert (waits.first, waits.max, session.voice.responses) == (pytest.approx(0.5), pytest.approx(1.7), 52)
    assert waits.p50 == pytest.approx(0.21, rel=0.1)
    assert sum(number for _, number in waits.bins) == 52
    assert waits.total == pytest.approx(0.5 + 50 * 0.21 + 1.7)
    assert len(waits.bins) == 3


def test_an_unannounced_answer() -> None:
    """A server that says neither response.created nor response.done is measured all the same, and is never thought to be running."""
    session = Session().sent("response.create").wait(0.4).says()
    assert not session.observer.running
    session.wait(5).sent("response.create").wait(0.6).says()
    assert (session.voice.first_audio.first, session.voice.first_audio.max) == (pytest.approx(0.4), pytest.approx(0.6))
    assert session.observer.meter.report().gap_max is None


def test_underruns() -> None:
    """All delivered has been played and more was to come: counted with its length, and the clock starts anew behind it."""
    session = Session().came("response.created").says(3).wait(0.2).says()  # 0.4 s in 0.2 s
    session.wait(0.5).says(2)  # dry for 0.3 s
    session.wait(0.1).says()  # in time
    session.wait(0.25).says().done()  # dry for 0.05 s
    assert (session.voice.underruns, session.voice.underrun_time) == (2, pytest.approx(0.35))
    assert session.voice.audio_out == pytest.approx(0.8)


def test_sound_a_hair_late_is_in_time() -> None:
    """Sound at the speed of speech with a few milliseconds of jitter underruns nothing."""
    session = Session().came("response.created")
    for wait in (0.11, 0.095, 0.105, 0.09) * 10:
        session.says().wait(wait)
    assert session.voice.underruns == 0


def test_silence_between_answers_is_no_underrun_and_no_gap() -> None:
    """The user's turn is nobody's silence."""
    session = Session()
    for _ in range(3):
        session.came("response.created").says().wait(0.05).says().done().wait(60)
    cadence = session.observer.meter.report()
    assert (session.voice.underruns, cadence.chunks, cadence.arrivals, cadence.stall_count) == (0, 6, 6, 0)
    assert (sum(count for _, count in cadence.gaps), cadence.gap_max, cadence.gap_sum) == (3, pytest.approx(0.05), pytest.approx(0.15))


def test_a_stall_within_an_answer() -> None:
    """A silence over the threshold in an answer is a stall, also when it lasts until the answer's end."""
    session = Session().came("response.created").says().wait(1.5).says().wait(2.0).done()
    cadence = session.observer.meter.report()
    assert (cadence.stall_count, cadence.stall_time) == (2, {"upstream": pytest.approx(3.5)})


@pytest.mark.parametrize("how", ["speech", "cancel", "both"])
def test_interruptions(how: str) -> None:
    """Speaking into an answer, or cancelling it, is one interruption; what still comes of it is not played."""
    session = Session().came("response.created").says(20).wait(0.5)
    if how != "cancel":
        session.came("input_audio_buffer.speech_started")
    if how != "speech":
        session.sent("response.cancel")
    session.wait(5).says().done(status="cancelled")
    assert (session.voice.interruptions, session.voice.underruns) == (1, 0)
    assert session.observer.finish == ["cancelled"]


def test_an_answer_still_being_played_can_be_interrupted() -> None:
    """Sound comes faster than it is played: the answer is done, its listener is not."""
    session = Session().came("response.created").says(30).done().wait(1).came("input_audio_buffer.speech_started")
    assert session.voice.interruptions == 1
    session = Session().came("response.created").says(30).done().wait(4).came("input_audio_buffer.speech_started").sent("response.cancel")
    assert session.voice.interruptions == 0


SESSIONS = [
    ({}, 48_000.0, 48_000.0),
    ({"input_audio_format": "g711_ulaw", "output_audio_format": "pcm16"}, 8000.0, 48_000.0),
    (
        {"audio": {"input": {"format": {"type": "audio/pcm", "rate": 16000}}, "output": {"format": {"type": "audio/pcma"}}}},
        32_000.0,
        8000.0,
    ),
    ({"audio": {"input": None, "output": {"format": {"type": "audio/opus", "rate": -1}}}}, 48_000.0, 48_000.0),
    ({"audio": {"input": {"format": {"type": "audio/pcm", "rate": 1e300}}}}, 48_000.0, 48_000.0),
]


@pytest.mark.parametrize(("said", "into", "out"), SESSIONS)
@pytest.mark.parametrize("kind", ["session.created", "session.updated"])
def test_seconds_of_sound(kind: str, said: dict[str, Any], into: float, out: float) -> None:
    """By the format that the upstream confirms, in its beta form and since; an unknown one changes nothing."""
    session = Session().came(kind, session={"id": "sess_1", "model": "gpt-realtime", **said})
    session.sent("input_audio_buffer.append", audio=TENTH).says()
    assert (session.voice.audio_in, session.voice.audio_out) == (pytest.approx(4800 / into), pytest.approx(4800 / out))
    assert (session.observer.session_id, session.observer.model) == ("sess_1", "gpt-realtime")


def test_usage_adds_up() -> None:
    """Each response is billed for itself; what was never said stays unknown, an odd count is not said."""
    details = {"input_token_details": {"cached_tokens": 5, "audio_tokens": 7, "cached_tokens_details": {"audio_tokens": 2}}}
    session = Session().done().done(usage={"input_tokens": 10, "output_tokens": 0, **details, "output_token_details": {"audio_tokens": 3}})
    session.done(usage={"input_tokens": 1, "output_tokens": -4, "input_token_details": None}).done(usage={"input_tokens": 2**62})
    session.done(usage={"input_tokens": 2**62})
    usage, voice = session.observer.usage, session.voice
    assert usage is not None
    assert (usage.input, usage.output, usage.cached, usage.reasoning) == (11 + 2**62, 0, 5, None)
    assert (voice.audio_input, voice.audio_cached, voice.audio_output) == (7, 2, 3)
    assert Session().done().observer.usage is None


def test_errors() -> None:
    """Reported ones and failed answers, by code or type; never by message."""
    session = Session().came("error", error={"type": "invalid_request_error", "code": None, "message": "secret"})
    assert (session.voice.errors, session.voice.last_error) == (1, "invalid_request_error")
    session.done(status="failed", status_details={"error": {"type": "server_error", "code": "x" * 100}})
    assert (session.voice.errors, session.voice.last_error) == (2, "x" * 64)
    assert "secret" not in repr(session.voice)


TYPES = [
    (b'{"type":"response.audio.delta","delta":"AAAA"}', b"response.audio.delta"),
    (b' {\n "event_id" : "e\xc3\xbc", "type" : "a.b"}', b"a.b"),
    (b'{"event_id":"e","delta":"\\"type\\":\\"x\\"","type":"y"}', b"y"),
    (b'{"response":{"type":"inner"},"type":"outer"}', b"outer"),
    (b'{"type":"esc\\u0061ped"}', b"escaped"),
    (b'{"type":17}', b""),
    (b"{}", b""),
    (b'{"x":"' + b"y" * MAX_PARSED + b'","type":"far"}', b""),
]


@pytest.mark.parametrize(("message", "kind"), TYPES)
def test_types(message: bytes, kind: bytes) -> None:
    """The event's own type, wherever it stands; in a message too large to read only where it stands first."""
    assert type_of(message) == kind


@given(st.binary(max_size=300), st.booleans(), st.sampled_from([None, "\\/"]))
def test_a_length_of_sound(data: bytes, padded: bool, slash: str | None) -> None:
    """The base64 of n bytes is n bytes long, with padding or without, its slashes escaped or not."""
    said = base64.b64encode(data).decode()
    said = said if padded else said.rstrip("=")
    said = said.replace("/", slash) if slash else said
    assert sound(f'{{"type":"x","delta" : "{said}","item_id":"i"}}'.encode(), b"delta") == len(data)


KINDS = st.sampled_from(
    ["session.created", "response.created", "response.done", "response.output_audio.delta", "response.text.delta", "error",
     "input_audio_buffer.append", "input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped", "response.create",
     "response.cancel", "input_audio_buffer.committed"]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["format", "usage", "id", "audio", "error", "type"]), inner)
    ),
    max_leaves=8,
)
MEMBERS = st.dictionaries(st.sampled_from(["session", "response", "delta", "audio", "error"]), JSON, max_size=3)


@given(st.lists(st.tuples(st.booleans(), KINDS, MEMBERS, st.floats(0, 5)), max_size=20))
def test_no_event_whatever_raises(steps: list[tuple[bool, str, dict[str, Any], float]]) -> None:
    """Known types with any members, in any order; what comes out fits a record, and its figures make sense."""
    observer, now = VoiceObserver(TurnMeter(1.0)), 100.0
    for sent, kind, members, wait in steps:
        (observer.sent if sent else observer.came)(msgspec.json.encode({"type": kind, **members}), now := now + wait)
    voice = observer.report(now)
    msgspec.msgpack.decode(msgspec.msgpack.encode(voice), type=Voice)
    assert min(voice.audio_in, voice.audio_out, voice.underrun_time, voice.first_audio.total) >= 0
    assert voice.interruptions + voice.underruns <= len(steps)
    observer.meter.report()


@given(st.binary(max_size=200))
def test_no_bytes_whatever_raise(data: bytes) -> None:
    """What is no JSON is counted and nothing else."""
    observer = VoiceObserver(TurnMeter(1.0))
    for message in (data, b'{"type":"response.done"' + data, b'{"type":"response.audio.delta","delta":"' + data):
        observer.came(message, 1.0)
        observer.sent(message, 1.0)
    observer.report(2.0)


def test_what_is_too_long_is_counted() -> None:
    """A response.done of megabytes ends its answer, though nobody reads it."""
    session = Session().came("response.created")
    assert session.observer.running
    session.done(output="x" * MAX_PARSED)
    assert (session.observer.running, session.observer.errors) == (False, {"oversize": 1})


def test_sound_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour of sound costs no JSON decoding at all."""
    session = Session().came("response.created")
    monkeypatch.setattr("gateway.stream.voice._TYPED", None)
    monkeypatch.setattr("gateway.stream.voice.msgspec.json.decode", None)
    for _ in range(1000):
        session.says().sent("input_audio_buffer.append", audio=TENTH).wait(0.1)
    assert session.voice.audio_out == pytest.approx(100)
