"""Which streams have a span: what is always kept, the share of the rest, and who is asked first."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway.config import Config, Sampling
from gateway.config.model import REASONS, Reason
from gateway.core.messages import Ended, Hello
from gateway.core.record import Attempt, Cadence, Outcome, StreamRecord
from gateway.telemetry.account import Account, Kept, account
from gateway.telemetry.prometheus import render
from gateway.telemetry.recorder import Recorder
from gateway.telemetry.sampling import SPACE, TRUE_OF, Sampler, randomness, written
from gateway.telemetry.spans import resource, span

MakeConfig = Callable[..., Config]
MakeRecord = Callable[..., StreamRecord]
IDS = 100_000
OBJECTIVE = 0.7
REMARKABLE: dict[str, tuple[str, dict[str, Any]]] = {
    **{outcome: ("error", {"outcome": outcome}) for outcome in ("upstream_error", "upstream_truncated", "upstream_stalled")},
    **{outcome: ("error", {"outcome": outcome}) for outcome in ("first_token_timeout", "gateway_error", "shutdown")},
    "stalled": ("stall", {"cadence": Cadence(chunks=5, stall_count=1, stall_time={"upstream": 2.0})}),
    "client_stalled": ("stall", {"outcome": "client_stalled"}),
    "fell back": ("fallback", {"fallback_reason": "slow_first_token"}),
    "resumed": ("fallback", {"attempts": [Attempt(upstream="slow", model="tiny", why="resume", dialed_at=100.0, outcome="won")]}),
    "slow": ("slow", {"first_token_at": 100.9}),
    "client_disconnect": ("abort", {"outcome": "client_disconnect"}),
    "operator_abort": ("abort", {"outcome": "operator_abort"}),
}
PLAIN: dict[str, dict[str, Any]] = {
    "completed": {},
    "rejected": {"outcome": "rejected"},
    "guard_blocked": {"outcome": "guard_blocked"},
    "hedged": {"attempts": [Attempt(upstream="slow", model="tiny", why="hedge", dialed_at=100.0, outcome="won")]},
    "just in time": {"first_token_at": 100.0 + OBJECTIVE - 0.01},
}


def judged(sampling: Sampling, record: StreamRecord) -> Account:
    return Sampler(sampling).decide(account(record, objective=OBJECTIVE))


def trace_ids(count: int) -> list[str]:
    dice = random.Random(7)
    return [f"{dice.getrandbits(128):032x}" for _ in range(count)]


@pytest.mark.parametrize(("baseline", "expected"), [(0.01, 1000), (0.2, 20_000), (0.5, 50_000), (0.0, 0), (1.0, IDS)])
def test_the_share_is_the_share(make_record: MakeRecord, baseline: float, expected: int) -> None:
    """Of 100,000 unremarkable streams so many are kept as the baseline says, within four standard deviations; none of 0%, all of 100%."""
    record, sampler = make_record(parent_id=None), Sampler(Sampling(baseline=baseline))
    kept = 0
    for record.trace_id in trace_ids(IDS):
        kept += sampler.decide(account(record)).kept is not None
    assert abs(kept - expected) <= 4 * (IDS * baseline * (1 - baseline)) ** 0.5


def test_a_larger_share_holds_every_smaller_one(make_record: MakeRecord) -> None:
    """Whoever samples a trace at a larger share keeps whatever is kept at a smaller one, and who asks again hears the same."""
    shares = [0.001, 0.01, 0.1, 0.5]
    record = make_record(parent_id=None)
    sets: list[set[str]] = []
    for share in (*shares, *shares):
        sampler = Sampler(Sampling(baseline=share))
        sets.append(set())
        for record.trace_id in trace_ids(5000):
            if sampler.decide(account(record)).kept is not None:
                sets[-1].add(record.trace_id)
    assert sets[0] < sets[1] < sets[2] < sets[3]
    assert sets[:4] == sets[4:]


@pytest.mark.parametrize("share", [0.001, 0.01, 0.3, 0.5, 0.999])
def test_the_lowest_56_bits_decide(make_record: MakeRecord, share: float) -> None:
    """A trace is kept when those bits are at or above the threshold, whatever stands in front of them."""
    threshold = SPACE - round(share * SPACE)
    for low in (0, threshold - 1, threshold, threshold + 1, SPACE - 1):
        for front in ("0" * 18, "f" * 18):
            record = make_record(parent_id=None, trace_id=f"{front}{low:014x}")
            assert (judged(Sampling(baseline=share), record).kept is not None) == (low >= threshold)


@pytest.mark.parametrize(("share", "threshold"), [(1.0, "0"), (0.5, "8"), (0.25, "c"), (0.0625, "f"), (0.01, "fd70a3d70a3d71")])
def test_thresholds_are_written_as_tracestate_has_them(share: float, threshold: str) -> None:
    """Hexadecimal, zeros at the end left out: the examples of OpenTelemetry's specification."""
    assert written(SPACE - round(share * SPACE)) == threshold


@pytest.mark.parametrize("case", REMARKABLE)
def test_the_remarkable_is_always_kept(make_record: MakeRecord, case: str) -> None:
    """However small the share, and for each word alone too; a word left out of `always` keeps nothing."""
    reason, changes = REMARKABLE[case]
    record = make_record(parent_id=None, trace_id="f" * 18 + "0" * 14, **changes)
    assert judged(Sampling(baseline=0.0), record).kept == Kept(reason, "0")
    words = {word for word in REASONS if judged(Sampling(baseline=0.0, always=frozenset({word})), record).kept}
    assert reason in words
    assert judged(Sampling(baseline=0.0, always=REASONS - words), record).kept is None


@pytest.mark.parametrize("case", PLAIN)
def test_the_rest_is_not(make_record: MakeRecord, case: str) -> None:
    """What is none of these has its share only: a rejected call, a hedge, a first token just in time."""
    record = make_record(parent_id=None, trace_id="f" * 18 + "0" * 14, **PLAIN[case])
    assert judged(Sampling(baseline=0.99), record).kept is None
    record.trace_id = "0" * 18 + "f" * 14
    assert judged(Sampling(baseline=0.01), record).kept == Kept("baseline", "fd70a3d70a3d71")


def test_every_outcome_was_thought_of() -> None:
    """Each outcome is either remarkable or plain here, and every word of the configuration has its meaning."""
    assert {*REMARKABLE, *PLAIN} >= set(get_args(Outcome))
    assert set(TRUE_OF) == set(get_args(Reason)) == REASONS == {reason for reason, _ in REMARKABLE.values()}


@pytest.mark.parametrize("changes", [{}, {"outcome": "upstream_error"}, {"outcome": "client_disconnect"}])
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(baseline=0.0), Sampling(baseline=1.0)], ids=["all", "0%", "100%"])
def test_a_callers_decision_stands(make_record: MakeRecord, sampling: Sampling, changes: dict[str, Any]) -> None:
    """Flag 1: it has a span, whatever the share; flag 0: none, even when it failed; the caller's tracestate is not added to."""
    for trace_id in ("f" * 32, "f" * 18 + "0" * 14):
        inside = judged(sampling, make_record(trace_id=trace_id, tracestate="a=b,ot=th:8", **changes))
        assert inside.kept is not None
        assert inside.kept.threshold is None
        assert span(inside, resource()).context.trace_state.to_header() == "a=b,ot=th:8"
        assert judged(sampling, make_record(trace_id=trace_id, sampled=False, **changes)).kept is None


def test_a_span_says_why_it_is_there(make_record: MakeRecord) -> None:
    """`weir.sampling.reason` and `ot=th:` where it was decided here; neither while everything is kept."""
    failed = make_record(parent_id=None, outcome="upstream_error")
    told = span(judged(Sampling(baseline=0.01), failed), resource())
    assert (dict(told.attributes or {})["weir.sampling.reason"], told.context.trace_state.to_header()) == ("error", "ot=th:0")
    child = span(judged(Sampling(baseline=0.01), make_record()), resource())
    assert (dict(child.attributes or {})["weir.sampling.reason"], child.context.trace_state.to_header()) == ("parent", "")
    plain = span(judged(Sampling(), failed), resource())
    assert "weir.sampling.reason" not in (plain.attributes or {})
    assert plain.context.trace_state.to_header() == ""


def test_weighed_counts_are_the_counts(make_record: MakeRecord) -> None:
    """Each span stands for 2^56 / (2^56 - th) streams: their sum comes near the number of streams, failures counted once each."""
    sampler, total = Sampler(Sampling(baseline=0.05)), 0.0
    for number, trace_id in enumerate(trace_ids(20_000)):
        record = make_record(parent_id=None, trace_id=trace_id, outcome="upstream_error" if number % 10 == 0 else "completed")
        if (kept := sampler.decide(account(record)).kept) is not None:
            total += SPACE / (SPACE - int((kept.threshold or "0").ljust(14, "0"), 16))
    assert total == pytest.approx(20_000, rel=0.15)


def test_an_id_that_is_none(make_record: MakeRecord) -> None:
    """A trace id that is not hexadecimal raises nothing and is not of the share."""
    assert randomness("not an id") == -1
    assert judged(Sampling(baseline=1.0), make_record(parent_id=None, trace_id="x" * 32)).kept is None


def sampled(config: Config, sampling: Sampling) -> Config:
    return config.model_copy(update={"telemetry": config.telemetry.model_copy(update={"sampling": sampling})})


async def test_metrics_and_store_have_all(make_config: MakeConfig, make_record: MakeRecord, tmp_path: Path) -> None:
    """Only spans are fewer: every stream is counted and stored, and exemplars point at the kept ones alone."""
    spans = InMemorySpanExporter()
    recorder = Recorder(sampled(make_config(store=str(tmp_path / "weir.db")), Sampling(baseline=0.01)), span_exporter=spans)
    await recorder.start()
    recorder.receive(Hello(7))
    ids = trace_ids(1000)
    for number, trace_id in enumerate(ids):
        outcome = "upstream_error" if number % 100 == 0 else "completed"
        recorder.receive(Ended(number + 1, make_record(number, trace_id=trace_id, parent_id=None, outcome=outcome)))
    text = render(recorder.collect(), "application/openmetrics-text")[0].decode()
    await recorder.close()
    finished = spans.get_finished_spans()
    reasons = [dict(each.attributes or {})["weir.sampling.reason"] for each in finished]
    assert reasons.count("error") == 10
    assert 0 < reasons.count("baseline") == len(finished) - 10 < 30
    family = next(family for family in recorder.collect() if family.instrument.name == "weir_streams_total")
    assert sum(value for _, value in family.values) == 1000
    assert recorder.store is not None
    assert len(recorder.store.newest_ids(2000)) == 1000
    kept = {f"{each.context.trace_id:032x}" for each in finished}
    pointed = {trace_id for trace_id in ids if trace_id in text}
    assert pointed
    assert pointed <= kept


async def test_a_reload_takes_it_on(make_config: MakeConfig, make_record: MakeRecord) -> None:
    """Streams that end after a reload are decided by the new configuration, with its mappers."""
    spans = InMemorySpanExporter()
    config = make_config()
    recorder = Recorder(config, span_exporter=spans)
    await recorder.start()

    def end(number: int) -> None:
        recorder.receive(Ended(number, make_record(number, parent_id=None, trace_id=f"{number:032x}")))

    end(1)
    recorder.configure(sampled(config, Sampling(baseline=0.01)))
    end(2)
    everything = config.telemetry.model_copy(update={"mappers": ("openinference",)})
    recorder.configure(config.model_copy(update={"telemetry": everything}))
    end(3)
    await recorder.close()
    finished = {each.context.trace_id: dict(each.attributes or {}) for each in spans.get_finished_spans()}
    assert set(finished) == {1, 3}
    assert finished[3]["openinference.span.kind"] == "LLM"
