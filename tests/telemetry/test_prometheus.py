"""/metrics and the OTLP push: the same figures, bounded labels, exemplars, and promtool's blessing."""

import shutil
import subprocess
import time
from collections.abc import Callable
from typing import Any, get_args

import pytest
from msgspec import structs
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from gateway.config import Config
from gateway.core.messages import Ended, Pulse, TargetState
from gateway.core.record import Attempt, Cadence, Outcome, StreamRecord
from gateway.telemetry.instruments import INSTRUMENTS
from gateway.telemetry.prometheus import render
from gateway.telemetry.recorder import Recorder

MakeConfig = Callable[..., Config]
MakeRecord = Callable[..., StreamRecord]
OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


@pytest.fixture
def recorder(make_config: MakeConfig) -> Recorder:
    return Recorder(make_config())


def fed(recorder: Recorder, make_record: MakeRecord) -> Recorder:
    """Tell one stream of every outcome, a fallback among them, and a heartbeat."""
    failed = Attempt(upstream="slow", model="tiny", why="first", dialed_at=100.0, outcome="status", status=503)
    for number, outcome in enumerate(get_args(Outcome), 1):
        record = make_record(number, outcome=outcome)
        record.attempts[0].why = "fallback"
        record.attempts.insert(0, failed)
        recorder.receive(Ended(number, record))
    target = TargetState("fast", "gpt-4o-mini", 0.2, 0.25, 3, "half_open", 1.0)
    recorder.receive(Pulse(1, time.monotonic(), 3, 0.001, 0.5, {}, [target]))
    return recorder


def samples(recorder: Recorder) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = render(recorder.collect(), "")[0].decode()
    return {(s.name, frozenset(s.labels.items())): s.value for family in parse_text(text) for s in family.samples}


def total(recorder: Recorder, name: str, **labels: str) -> float:
    wanted = set(labels.items())
    return sum(value for (found, had), value in samples(recorder).items() if found == name and wanted <= had)


def test_every_instrument_is_there_and_both_formats_parse(recorder: Recorder, make_record: MakeRecord) -> None:
    """Text 0.0.4 by default, OpenMetrics when asked for; each row of the table is a family in both."""
    families = fed(recorder, make_record).collect()
    text, plain = render(families, "*/*")
    assert plain == "text/plain; version=0.0.4; charset=utf-8"
    body, kind = render(families, OPENMETRICS)
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n")
    open_names = {family.name for family in parse_openmetrics(body.decode())}
    assert open_names == {name.removesuffix("_total") for name in INSTRUMENTS}
    assert {family.name for family in parse_text(text.decode())} == open_names


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on PATH")
def test_promtool_is_content(recorder: Recorder, make_record: MakeRecord) -> None:
    """promtool's linter finds nothing to say."""
    text = render(fed(recorder, make_record).collect(), "")[0]
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_exemplars_lead_to_traces(recorder: Recorder, make_record: MakeRecord) -> None:
    """OpenMetrics has the last trace of a bucket; an unsampled stream, whose trace nobody will find, is never one."""
    recorder.receive(Ended(1, make_record(1)))
    recorder.receive(Ended(2, make_record(2, sampled=False)))
    body = render(recorder.collect(), OPENMETRICS)[0].decode()
    found = {
        family.name: sample.exemplar.labels
        for family in parse_openmetrics(body)
        for sample in family.samples
        if sample.exemplar is not None
    }
    assert found["weir_ttft_seconds"] == {"trace_id": f"{1:032x}", "span_id": f"{1:016x}"}
    assert {"weir_chunk_gap_seconds", "gen_ai_client_operation_duration_seconds"} <= set(found)
    assert f"{2:032x}" not in body
    assert "trace_id" not in render(recorder.collect(), "")[0].decode()


def test_a_stale_connection_is_counted(recorder: Recorder, make_record: MakeRecord) -> None:
    """What the relay mended without a word is still told: the upstream closes connections sooner than we expect."""
    record = make_record(1)
    record.attempts[0].redialed = True
    recorder.receive(Ended(1, record))
    assert total(recorder, "weir_stale_connections_total", upstream=record.attempts[0].upstream) == 1


def test_an_attempt_after_the_first_byte_is_counted(recorder: Recorder, make_record: MakeRecord) -> None:
    """Once for each, and it is no fallback: those are made before it."""
    record = make_record(1)
    record.attempts.append(structs.replace(record.attempts[0], upstream="slow", why="resume", dialed_at=101.0))
    recorder.receive(Ended(1, record))
    assert total(recorder, "weir_retry_after_first_chunk_total", route="chat") == 1
    assert total(recorder, "weir_attempts_total", why="resume", upstream="slow") == 1
    assert total(recorder, "weir_fallbacks_total") == 0


def test_outcomes_sum_to_requests(recorder: Recorder, make_record: MakeRecord) -> None:
    """Every accepted request is in exactly one series of weir_streams_total (D6)."""
    fed(recorder, make_record)
    outcomes = get_args(Outcome)
    assert total(recorder, "weir_streams_total") == len(outcomes)
    assert all(total(recorder, "weir_streams_total", outcome=outcome) == 1 for outcome in outcomes)
    assert total(recorder, "weir_attempts_total") == 2 * len(outcomes)
    assert total(recorder, "weir_fallbacks_total", **{"from": "slow", "to": "fast", "reason": "status_5xx"}) == len(outcomes)
    assert total(recorder, "weir_retry_after_first_chunk_total", route="chat") == 0
    assert total(recorder, "gen_ai_client_operation_duration_seconds_count", error_type="upstream_error") == 1
    assert total(recorder, "weir_cost_usd_total", route="chat", tenant="none") > 0


def test_a_stream_without_a_token_adds_no_sample(recorder: Recorder, make_record: MakeRecord) -> None:
    """No TTFT, no gap, no time per token of a stream that never spoke; usage nobody gave is not zero (D7)."""
    record = make_record(first_token_at=None, first_answer_at=None, last_token_at=None, usage=None, cadence=Cadence())
    record.attempts[0].first_token_at = None
    recorder.receive(Ended(1, record))
    assert total(recorder, "weir_streams_total") == 1
    for name in ("weir_ttft_seconds", "weir_chunk_gap_seconds", "gen_ai_server_time_to_first_token_seconds", "gen_ai_client_token_usage"):
        assert total(recorder, f"{name}_count") == 0


def test_thresholds_are_bounds(recorder: Recorder, make_record: MakeRecord) -> None:
    """The SLO and the stall threshold of the config can be counted exactly; 95 s is a bucket of its own, not +Inf."""
    recorder.receive(Ended(1, make_record(first_token_at=195.0, last_token_at=195.0)))
    cadence = Cadence(chunks=4, gaps=[(0.02, 2), (1.5, 1), (float("inf"), 1)], gap_sum=101.5, gap_max=100.0)
    recorder.receive(Ended(2, make_record(2, cadence=cadence)))
    assert total(recorder, "weir_ttft_seconds_bucket", le="0.7") == 1
    assert total(recorder, "weir_ttft_seconds_bucket", le="120.0") == 2
    assert total(recorder, "weir_chunk_gap_seconds_bucket", le="1.5") == 4 + 3
    assert total(recorder, "weir_chunk_gap_seconds_bucket", le="81.92") == 4 + 3
    assert total(recorder, "weir_chunk_gap_seconds_bucket", le="+Inf") == 4 + 4
    assert total(recorder, "weir_chunk_gap_seconds_sum") == pytest.approx(101.5 + 0.12)


def test_made_up_names_make_no_series(recorder: Recorder, make_record: MakeRecord) -> None:
    """Any number of made-up models, routes and upstreams grow each metric by at most one series."""
    recorder.receive(Ended(0, make_record(0)))
    recorder.receive(Ended(1, odd(make_record, 1)))
    before = len(samples(recorder))
    for number in range(2, 2000):
        recorder.receive(Ended(number, odd(make_record, number)))
    assert len(samples(recorder)) == before
    assert total(recorder, "weir_streams_total", model="other", route="unmatched", upstream="none") == 1999


def odd(make_record: MakeRecord, number: int) -> StreamRecord:
    record = make_record(number, asked_model=f"made-up-{number}", route=f"route-{number}", tenant=f"tenant-{number}")
    record.attempts[0].upstream = f"upstream-{number}"
    record.attempts[0].model = f"made-up-{number}"
    return record


def test_live_gauges(recorder: Recorder, make_record: MakeRecord) -> None:
    """Scores and breakers come from the workers' heartbeats, merged; the running config is named by its hash."""
    fed(recorder, make_record)
    assert total(recorder, "weir_upstream_score_seconds", upstream="fast", model="gpt-4o-mini") == 0.25
    assert total(recorder, "weir_breaker_state", upstream="fast") == 1
    assert total(recorder, "weir_streams_active", route="chat", upstream="fast") == 0
    assert total(recorder, "weir_config_info", hash=recorder.config.hash) == 1
    assert total(recorder, "weir_loop_lag_seconds", worker="0") == 0.001


async def test_otlp_push_says_the_same(make_config: MakeConfig, make_record: MakeRecord, collector: Any) -> None:
    """The same figures arrive over OTLP: dotted names, cumulative, with bounds, attributes and exemplars."""
    recorder = Recorder(make_config(otlp=f'{{endpoint: "{collector.url}", metrics: true}}'))
    await recorder.start()
    recorder.receive(Ended(1, make_record(1)))
    await recorder.close()
    assert recorder.dropped()["push"] == 0
    pushed = {metric.name: metric for metric in collector.metrics[-1].resource_metrics[0].scope_metrics[0].metrics}
    ttft = pushed["weir.ttft"].histogram
    assert ttft.aggregation_temporality == 2
    point = ttft.data_points[0]
    assert (point.count, point.sum) == (1, pytest.approx(0.3))
    assert 0.7 in point.explicit_bounds
    assert point.exemplars[0].trace_id.hex() == f"{1:032x}"
    usage = pushed["gen_ai.client.token.usage"].histogram.data_points
    assert {item.key for point in usage for item in point.attributes} >= {"gen_ai.token.type", "gen_ai.request.model"}
    assert pushed["weir.streams"].sum.is_monotonic
    assert pushed["weir.streams"].sum.data_points[0].as_double == 1


async def test_a_failed_push_is_counted(make_config: MakeConfig, collector: Any) -> None:
    """A collector that knows no metrics costs a counted push."""
    recorder = Recorder(make_config(otlp=f'{{endpoint: "{collector.url}/nowhere", metrics: true}}'))
    await recorder.start()
    await recorder.close()
    assert recorder.dropped()["push"] == 1
