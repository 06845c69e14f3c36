"""Stalls are counted once, whether they were announced or not."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import Config, parse
from gateway.core.owners import Blame
from gateway.core.record import Attempt, Cadence, Outcome, Stall, StreamRecord
from gateway.telemetry.account import account
from gateway.telemetry.instruments import bounds
from gateway.telemetry.labels import Labels
from gateway.telemetry.metrics import MOST_SERIES, Metrics
from gateway.telemetry.tally import AWAITED, BLAMES, MOST_AWAITED, Tally, reason, unannounced

blames = st.sampled_from(BLAMES)


@given(kept=st.lists(blames, max_size=16), more=st.integers(0, 50), announced=st.dictionaries(blames, st.integers(0, 20)))
def test_announced_and_unannounced_make_the_whole(kept: list[Blame], more: int, announced: dict[Blame, int]) -> None:
    """What was announced plus what the end adds is the record's count, and never less than was announced; no owner goes below zero."""
    stalls = [Stall(0.0, 2.0, blame, 1) for blame in kept]
    count = len(kept) + more
    cadence = Cadence(stalls=stalls, stall_count=count, stall_time={"client": 5.0})
    record = StreamRecord(stream_id="s", trace_id="1", span_id="2", received_unix=0.0, received_at=0.0, cadence=cadence)
    added = unannounced(record, announced)
    assert all(n > 0 for n in added.values())
    assert sum(announced.values()) + sum(added.values()) == max(count, sum(announced.values()))


def test_reasons_are_bounded(make_record: Callable[..., StreamRecord]) -> None:
    """Why a target was left is one word of a small set, whatever the status was."""
    said = {
        reason(Attempt(upstream="u", model="m", why="first", dialed_at=0.0, outcome="status", status=status)) for status in range(0, 700, 7)
    }
    assert said <= {"status", "status_4xx", "status_5xx", "status_429"}
    assert reason(Attempt(upstream="u", model="m", why="first", dialed_at=0.0, outcome="slow")) == "slow_first_token"


def test_a_trace_is_counted_once_a_route(make_config: Callable[..., Config], make_record: Callable[..., StreamRecord]) -> None:
    """Two streams of one trace on one route and one of it on another are a trace each; what was rejected is none."""
    config = make_config()
    metrics = Metrics(bounds(config))
    tally = Tally(metrics, Labels(config))

    def add(number: int, **fields: Any) -> None:
        tally.add(account(make_record(number, **fields), None, None), {})

    add(1, trace_id="a" * 32)
    add(2, trace_id="a" * 32)
    add(3, trace_id="a" * 32, route="a route of before")
    add(4, trace_id="b" * 32)
    add(5, trace_id="c" * 32, outcome="rejected")
    [family] = [family for family in metrics.collect([], {}) if family.instrument.name == "weir_traces_total"]
    assert dict(family.values) == {("chat",): 2, ("unmatched",): 1}


def test_traces_are_remembered_in_bounds(
    make_config: Callable[..., Config], make_record: Callable[..., StreamRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trace that goes on after more others than are remembered is counted again; one of the last is not."""
    monkeypatch.setattr("gateway.telemetry.tally.REMEMBERED", 10)
    metrics = Metrics(bounds(config := make_config()))
    tally = Tally(metrics, Labels(config))
    for number in [*range(1, 31), 21, 20]:
        tally.add(account(make_record(number, trace_id=f"{number:032x}"), None, None), {})
    [family] = [family for family in metrics.collect([], {}) if family.instrument.name == "weir_traces_total"]
    assert dict(family.values) == {("chat",): 31}


def streams(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Return every series of weir_streams_total as it is scraped."""
    return next(dict(family.values) for family in metrics.collect([], {}) if family.instrument.name == "weir_streams_total")


@pytest.mark.parametrize("stalled", [False, True])
@pytest.mark.parametrize("outcome", AWAITED)
def test_the_first_failures_are_an_increase(
    make_config: Callable[..., Config], make_record: Callable[..., StreamRecord], outcome: Outcome, stalled: bool
) -> None:
    """Whatever ends the first streams of a fresh gateway, their series was scraped at 0 before, so `increase` sees them."""
    metrics = Metrics(bounds(config := make_config()))
    tally, before = Tally(metrics, Labels(config)), streams(metrics)
    assert set(before.values()) == {0}
    cadence = Cadence(stalls=[Stall(101.0, 2.0, "upstream", 1)], stall_count=1) if stalled else Cadence()
    for number, asked in enumerate(("gpt-4o-mini", "gpt-4o-2024-08-06")):  # by its name, and by the pattern
        tally.add(account(make_record(number, outcome=outcome, asked_model=asked, cadence=cadence), None, None), {})
    moved = {labels: count for labels, count in streams(metrics).items() if count}
    assert sum(moved.values()) == 2
    assert moved.keys() <= before.keys()


def test_series_that_wait_are_bounded() -> None:
    """A configuration of very many targets does not fill the metric before the first stream."""
    targets = ", ".join(f"{{upstream: u, model: m{number}}}" for number in range(1000))
    config = parse(f"""
version: 1
upstreams: {{u: {{base_url: "http://127.0.0.1:1/v1"}}}}
routes: [{{name: chat, match: {{models: ["*"]}}, targets: [{targets}]}}]
""")
    metrics = Metrics(bounds(config))
    Tally(metrics, Labels(config))
    assert 0 < len(streams(metrics)) <= 14 * MOST_AWAITED < MOST_SERIES / 3
