"""A recorder that takes on another configuration: nothing counted is lost, and what is no longer configured has no gauges."""

import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from gateway.config import Config, parse
from gateway.core.messages import Abort, Begun, Ended, Hello, Pulse, TargetState, Watching
from gateway.core.record import StreamRecord
from gateway.telemetry.labels import FORMER_NAMES, Labels
from gateway.telemetry.link import SocketLink
from gateway.telemetry.metrics import Histogram
from gateway.telemetry.recorder import TAKEN_ON_WITHIN, Recorder
from tests.rig.client import wait_until

MakeConfig = Callable[..., Config]
MakeRecord = Callable[..., StreamRecord]


def other(upstream: str = "new", threshold: str = "1750ms", ttft: str = "900ms") -> Config:
    """Return a configuration with one route and one upstream, none of which the fixtures' has."""
    return parse(f"""
version: 1
upstreams: {{{upstream}: {{base_url: "http://127.0.0.1:1/v1"}}}}
routes:
  - {{name: talk, match: {{models: [m]}}, targets: [{{upstream: {upstream}}}], stall: {{threshold: {threshold}}}, slo: {{ttft: {ttft}}}}}
telemetry: {{store: {{path: "off"}}, access_log: off}}
""")


def series(recorder: Recorder, name: str) -> dict[tuple[str, ...], float]:
    return next(dict(family.values) for family in recorder.collect() if family.instrument.name == name)


def counted(recorder: Recorder) -> dict[tuple[str, ...], float]:
    """Return the counts of streams, those left out that wait at 0 for a first one."""
    return {labels: count for labels, count in series(recorder, "weir_streams_total").items() if count}


def pulse(hash_: str, *upstreams: str, pid: int = 7) -> Pulse:
    now = time.monotonic()
    targets = [TargetState(upstream, "m", 0.1, 0.1, 0, "closed", now) for upstream in upstreams]
    return Pulse(pid, now, 0, 0.0, 0.0, {}, targets, hash_)


def test_counters_stay_and_gauges_go(make_config: MakeConfig, make_record: MakeRecord) -> None:
    """A removed upstream has no gauge the moment it is removed, whatever its workers still say; what it has done stays counted."""
    recorder = Recorder(make_config())
    recorder.receive(Hello(7))
    recorder.receive(Ended(1, make_record()))
    recorder.receive(pulse(recorder.config_hash, "fast", "slow"))
    before = counted(recorder)
    assert {key[1] for key in series(recorder, "weir_streams_active")} == {"fast", "slow"}
    recorder.configure(other())
    assert counted(recorder) == before
    assert {key[1] for key in series(recorder, "weir_streams_active")} == {"new"}
    assert series(recorder, "weir_breaker_state") == series(recorder, "weir_upstream_score_seconds") == {}
    assert series(recorder, "weir_config_info") == {(recorder.config_hash,): 1}
    assert series(recorder, "weir_retry_after_first_chunk_total") == {("chat",): 0, ("talk",): 0}


def test_a_stream_that_began_before_is_counted_under_its_own_names(make_config: MakeConfig, make_record: MakeRecord) -> None:
    """While it lives it has its gauge, and its end is counted where its beginning would have been."""
    recorder = Recorder(make_config())
    recorder.receive(Hello(7))
    recorder.receive(Begun(make_record(1, ended_at=None)))
    recorder.configure(other())
    assert series(recorder, "weir_streams_active") == {("talk", "new"): 0, ("chat", "fast"): 1}
    recorder.receive(Ended(1, make_record(1)))
    assert series(recorder, "weir_streams_active") == {("talk", "new"): 0}
    [(key, count)] = counted(recorder).items()
    assert (key[:3], count) == (("chat", "fast", "gpt-4o-mini"), 1)


def test_what_is_awaited_goes_with_its_target(make_config: MakeConfig, make_record: MakeRecord) -> None:
    """Series at 0 are those of the running configuration: however often names change, none that never moved is left behind."""
    recorder = Recorder(make_config())
    recorder.receive(Hello(7))
    recorder.receive(Ended(1, make_record()))
    for number in range(50):
        recorder.configure(other(f"u{number}"))
    told = series(recorder, "weir_streams_total")
    assert {key[1] for key, count in told.items() if not count} == {"u49"}
    assert {key[1] for key, count in told.items() if count} == {"fast"}


def test_the_promises_of_every_route_are_told(make_config: MakeConfig) -> None:
    """Its objective is a gauge, from its configuration, and changes with it."""
    recorder = Recorder(make_config())
    assert series(recorder, "weir_slo_ttft_seconds") == {("chat",): 0.7}
    assert series(recorder, "weir_slo_objective") == {("chat",): 0.99}
    recorder.configure(other(ttft="900ms"))
    assert series(recorder, "weir_slo_ttft_seconds") == {("talk",): 0.9}
    assert series(recorder, "weir_slo_objective") == {("talk",): 0.99}


def test_the_names_of_the_past_are_bounded() -> None:
    """However often names change, only so many of the former ones are labels still: the newest."""
    labels = Labels(other("first"))
    for number in range(FORMER_NAMES + 10):
        labels.configure(other(f"u{number}"))
    assert labels.upstream("first") == "none"
    assert labels.upstream(f"u{FORMER_NAMES + 8}") == f"u{FORMER_NAMES + 8}"
    assert len(labels._former) <= FORMER_NAMES


def test_a_new_threshold_is_a_bound_and_loses_nothing(make_config: MakeConfig, make_record: MakeRecord) -> None:
    """Cumulative buckets that both configurations have are the same before and after, and so are sum and count."""
    recorder = Recorder(make_config())
    recorder.receive(Hello(7))
    for number in range(20):
        recorder.receive(Ended(number + 1, make_record(number, first_token_at=100.0 + number / 10)))

    def buckets() -> tuple[dict[float, int], float]:
        family = next(family for family in recorder.collect() if family.instrument.name == "weir_ttft_seconds")
        [(_, state)] = family.histograms
        bounds = (*state.bounds, float("inf"))
        return {bound: sum(state.counts[: place + 1]) for place, bound in enumerate(bounds)}, state.total

    before, total = buckets()
    assert 0.7 in before
    recorder.configure(other(ttft="900ms"))
    after, same = buckets()
    assert 0.9 in after
    assert 0.7 not in after
    assert same == total
    assert {bound: count for bound, count in after.items() if bound in before} == {b: c for b, c in before.items() if b in after}
    recorder.receive(Ended(99, make_record(99, first_token_at=100.85)))
    assert buckets()[0][0.9] == after[0.9] + 1


@pytest.mark.parametrize(("old", "new"), [((1.0, 2.0), (1.0, 1.5, 2.0)), ((1.0, 1.5, 2.0), (1.0, 2.0)), ((1.0,), (3.0, 4.0)), ((), (1.0,))])
def test_other_bounds_never_move_a_value_below_its_bucket(old: tuple[float, ...], new: tuple[float, ...]) -> None:
    """A bucket's values go to the first new one that surely holds them all."""
    histogram = Histogram.empty(old)
    for value in (0.5, 1.2, 1.7, 9.0):
        histogram.observe(value)
    histogram.rebound(new)
    assert sum(histogram.counts) == 4
    assert histogram.total == pytest.approx(12.4)
    for bound in new:
        below = sum(histogram.counts[: new.index(bound) + 1])
        assert below <= sum(value <= bound for value in (0.5, 1.2, 1.7, 9.0))


def test_a_worker_that_lags_is_told(make_config: MakeConfig) -> None:
    """For some seconds after a reload nobody lags; then whoever still says another hash does."""
    recorder = Recorder(make_config())
    recorder.receive(Hello(7))
    recorder.receive(pulse(recorder.config_hash))
    recorder.configure(other())
    now = time.monotonic()
    assert recorder.lagging(now) is False
    recorder.configured_at = now - TAKEN_ON_WITHIN
    assert recorder.lagging(now) is True
    recorder.receive(pulse(recorder.config_hash))
    assert recorder.lagging(now) is False


def test_a_process_that_has_left_is_forgotten(make_config: MakeConfig, make_record: MakeRecord) -> None:
    """Streams that it left open are told as ended by its death; a successor that speaks in its slot already is let be."""
    recorder = Recorder(make_config())
    recorder.receive(Hello(7), 0)
    recorder.receive(Begun(make_record(1, ended_at=None)), 0)
    recorder.vacate(0, 8)
    assert (len(recorder.live.workers), len(recorder.live.streams)) == (1, 1)
    recorder.vacate(0, 7)
    assert (recorder.live.workers, recorder.live.streams) == ({}, {})
    [key] = counted(recorder)
    assert "gateway_error" in key
    recorder.vacate(0, 7)


async def test_what_a_process_said_last_is_heard_before_it_is_forgotten(
    make_config: MakeConfig, make_record: MakeRecord, pair: Any
) -> None:
    """Its last records may still wait in the link when its parent tells that it has gone: they count as what they are."""
    worker, ear = pair
    recorder = Recorder(make_config())
    link = SocketLink(worker, list)
    link.start()
    feed = recorder.connect(ear, 0)
    for number in range(50):
        link.send(Begun(make_record(number, ended_at=None)))
        link.send(Ended(0, make_record(number)))
    await link.close()
    feed._loop.remove_reader(ear.fileno())  # the recorder has not come round to reading it
    recorder.vacate(0, os.getpid())
    assert {key[3] for key in counted(recorder)} == {"completed"}
    assert sum(series(recorder, "weir_streams_total").values()) == 50
    feed.close()


async def test_an_abort_reaches_the_worker_of_the_stream(make_config: MakeConfig, make_record: MakeRecord, pair: Any) -> None:
    """Over the link of its slot, once however often it is asked before it has left; of a stream nobody knows there is nobody to ask."""
    worker, ear = pair
    told: list[Abort | Watching] = []
    recorder = Recorder(make_config())
    link = SocketLink(worker, list, told.append)
    feed = recorder.connect(ear, 0)
    link.start()
    record = make_record(1, ended_at=None)
    link.send(Begun(record))
    await wait_until(lambda: recorder.live.streams)
    assert recorder.abort(record.stream_id) is recorder.abort(record.stream_id) is True
    assert recorder.abort("nobody") is False
    await wait_until(lambda: any(isinstance(order, Abort) for order in told))
    assert [order for order in told if isinstance(order, Abort)] == [Abort(record.stream_id)]
    await link.close()
    feed.close()
