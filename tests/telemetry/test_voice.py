"""Realtime sessions in metrics and spans: every figure of the account, and nothing for streams that have none."""

from collections.abc import Callable

from gateway.config import Config
from gateway.core.messages import Ended
from gateway.core.record import StreamRecord, Voice, Waits
from gateway.telemetry.account import account
from gateway.telemetry.archive import freeze, thaw
from gateway.telemetry.prometheus import render
from gateway.telemetry.recorder import Recorder
from gateway.telemetry.spans import resource, span

VOICE = Voice(
    responses=3,
    first_token=Waits(first=0.2, p50=0.2, max=0.3, total=0.7, bins=[(0.25, 2), (0.32, 1)]),
    first_audio=Waits(first=0.4, p50=0.4, max=0.6, total=1.0, bins=[(0.5, 1), (0.64, 1)]),
    audio_in=12.5,
    audio_out=7.25,
    underruns=2,
    underrun_time=0.75,
    interruptions=1,
    errors=1,
    last_error="rate_limit_exceeded",
    audio_input=100,
    closed_by="client",
    close_code=1000,
)


def session(make_record: Callable[..., StreamRecord], number: int = 1) -> StreamRecord:
    return make_record(number, operation="realtime", streamed=True, first_token_at=None, last_token_at=None, voice=VOICE)


def test_metrics(make_config: Callable[..., Config], make_record: Callable[..., StreamRecord]) -> None:
    """Waits by bins, sums and counts, sound by direction; a chat stream adds to none of them."""
    recorder = Recorder(make_config())
    recorder.receive(Ended(1, make_record(1)))
    assert not [line for line in lines(recorder) if not line.startswith("#")]
    for number in (2, 3):
        recorder.receive(Ended(number, session(make_record, number)))
    said = {
        line.split("{")[0] + ("_in" if 'direction="in"' in line else ""): float(line.split()[-1])
        for line in lines(recorder)
        if "_bucket" not in line and line[0] != "#"
    }
    assert said == {
        "weir_realtime_first_token_seconds_count": 6.0,
        "weir_realtime_first_token_seconds_sum": 1.4,
        "weir_realtime_first_audio_seconds_count": 4.0,
        "weir_realtime_first_audio_seconds_sum": 2.0,
        "weir_realtime_responses_total": 6.0,
        "weir_realtime_audio_seconds_total": 14.5,
        "weir_realtime_audio_seconds_total_in": 25.0,
        "weir_realtime_underruns_total": 4.0,
        "weir_realtime_underrun_seconds_total": 1.5,
        "weir_realtime_interruptions_total": 2.0,
        "weir_realtime_errors_total": 2.0,
    }
    assert any('first_audio_seconds_bucket{le="0.5"' in line and line.endswith(" 2.0") for line in lines(recorder))


def lines(recorder: Recorder) -> list[str]:
    return [line for line in render(recorder.collect(), "")[0].decode().splitlines() if line.startswith("weir_realtime")]


def test_a_span(make_record: Callable[..., StreamRecord]) -> None:
    """One attribute a figure; unknown ones are absent; a session's first token says nothing about its request."""
    attributes = dict(span(account(session(make_record)), resource()).attributes or {})
    assert attributes["weir.realtime.first_audio.max"] == 0.6
    assert attributes["weir.realtime.last_error"] == "rate_limit_exceeded"
    assert attributes["weir.realtime.audio_tokens.input"] == 100
    assert not {"weir.realtime.audio_tokens.output", "weir.ttft"} & set(attributes)
    chat = dict(span(account(make_record(2)), resource()).attributes or {})
    assert not [name for name in chat if name.startswith("weir.realtime")]


def test_the_store_keeps_it(make_record: Callable[..., StreamRecord]) -> None:
    """What is archived is what is read."""
    assert thaw(freeze(session(make_record))).voice == VOICE
