"""The recorder, fed over real socketpairs and telling real collectors, stores and files."""

import asyncio
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway.config import Config
from gateway.core.messages import Begun, Ended, Hello, Moved, Pulse, Stalled
from gateway.core.record import StreamRecord
from gateway.telemetry.link import DirectLink, SocketLink
from gateway.telemetry.query import Query
from gateway.telemetry.recorder import Recorder

MakeConfig = Callable[..., Config]
MakeRecord = Callable[..., StreamRecord]
Receiver = Any
Pair = tuple[socket.socket, socket.socket]


def ended(recorder: Recorder) -> int:
    """Return how many streams were counted."""
    family = next(family for family in recorder.collect() if family.instrument.name == "weir_streams_total")
    return int(sum(value for _, value in family.values))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - there is nothing in the recorder to wait on, and should not be
            await asyncio.sleep(0.01)


async def test_a_thousand_streams_are_a_thousand_spans(
    make_config: MakeConfig, make_record: MakeRecord, collector: Receiver, pair: Pair
) -> None:
    """Every stream is exactly one span at the collector, with our own ids and the configured headers."""
    recorder = Recorder(make_config(otlp=f'{{endpoint: "{collector.url}", headers: {{X-Team: secret}}}}'))
    await recorder.start()
    recorder.connect(pair[1], 0)
    link = SocketLink(pair[0], lambda: ())
    link.start()
    for number in range(1, 1001):
        link.send(Begun(make_record(number, ended_at=None)))
        link.send(Ended(0, make_record(number)))
        if number % 50 == 0:
            await asyncio.sleep(0)
    await until(lambda: ended(recorder) == 1000)
    await link.close()
    await recorder.close()
    assert len(collector.spans) == 1000
    assert {span.span_id.hex() for span in collector.spans} == {f"{number:016x}" for number in range(1, 1001)}
    assert collector.headers[0]["X-Team"] == "secret"
    assert {r.schema_url for r in collector.resources} == {"https://opentelemetry.io/schemas/1.41.1"}
    named = {item.key: item.value.string_value for item in collector.resources[0].resource.attributes}
    assert named["service.name"] == "weir"
    assert not any(recorder.dropped().values())


async def test_what_is_told_again_is_known_for_a_while(
    make_config: MakeConfig, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream told twice is counted once, as long as it is among the last that are remembered: no more are, however many there were."""
    monkeypatch.setattr("gateway.telemetry.recorder.REMEMBERED", 10)
    recorder = Recorder(make_config())
    await recorder.start()
    link = DirectLink(recorder.receive)
    for number in range(1, 31):
        link.send(Ended(number, make_record(number)))
    link.send(Ended(31, make_record(21)))
    assert ended(recorder) == 30
    link.send(Ended(32, make_record(20)))
    assert ended(recorder) == 31
    await recorder.close()


async def test_an_unsampled_parent_has_no_span(make_config: MakeConfig, make_record: MakeRecord) -> None:
    """A caller that decided not to sample gets no span of ours, but is counted."""
    spans = InMemorySpanExporter()
    recorder = Recorder(make_config(), span_exporter=spans)
    await recorder.start()
    link = DirectLink(recorder.receive)
    link.send(Ended(1, make_record(1, sampled=False)))
    link.send(Ended(2, make_record(2)))
    await recorder.close()
    await recorder.close()
    assert [span.name for span in spans.get_finished_spans()] == ["chat gpt-4o-mini"]
    assert ended(recorder) == 2


async def test_a_black_hole_costs_spans_and_nothing_else(make_config: MakeConfig, make_record: MakeRecord) -> None:
    """A collector that accepts and never answers: the loop stays quick, memory bounded, the loss counted, closing quick (E4)."""
    with socket.create_server(("127.0.0.1", 0)) as hole:
        recorder = Recorder(make_config(otlp=f'{{endpoint: "http://127.0.0.1:{hole.getsockname()[1]}"}}'))
        await recorder.start()
        for number in range(1, 4001):
            recorder.receive(Ended(number, make_record(number)))
            if number % 20 == 0:
                await asyncio.sleep(0)
        assert ended(recorder) == 4000
        dropped = recorder.dropped()["span"]
        assert 4000 - 2048 - 512 <= dropped < 4000
        started = time.monotonic()
        await recorder.close()
        assert time.monotonic() - started < 8
        assert recorder.dropped()["span"] == 4000


async def test_a_refusing_collector_is_counted(make_config: MakeConfig, make_record: MakeRecord, collector: Receiver) -> None:
    """Spans of a failed export are lost once and counted once."""
    collector.status = 400
    recorder = Recorder(make_config(otlp=f'{{endpoint: "{collector.url}"}}'))
    await recorder.start()
    for number in range(1, 11):
        recorder.receive(Ended(number, make_record(number)))
    await recorder.close()
    assert recorder.dropped()["span"] == 10


async def test_a_replaced_recorder_loses_nothing(make_config: MakeConfig, make_record: MakeRecord, pair: Pair, tmp_path: Path) -> None:
    """Streams ended before, between and after two recorders are all stored, each once; live ones are known again."""
    config = make_config(store=str(tmp_path / "weir.db"))
    alive = make_record(9000, ended_at=None)
    link = SocketLink(pair[0], lambda: [Begun(alive)])
    link.start()
    first = Recorder(config)
    await first.start()
    feed = first.connect(pair[1], 0)
    for number in range(200):
        link.send(Ended(0, make_record(number)))
    await until(lambda: ended(first) == 200)
    feed.close()  # the process is gone: what it took and did not commit is committed here by close, as a kill would not
    await first.close()
    for number in range(200, 400):
        link.send(Ended(0, make_record(number)))
    await asyncio.sleep(0.05)
    second = Recorder(config)
    await second.start()
    second.connect(pair[1], 0)
    for number in range(400, 500):
        link.send(Ended(0, make_record(number)))
    await until(lambda: ended(second) >= 300 and "stream-9000" in second.live.streams)
    await link.close()
    await second.close()
    assert second.store is not None
    stored = await asyncio.to_thread(second.store.find, Query(limit=1000))
    assert len({kept.record.stream_id for kept in stored}) == len(stored) == 500
    assert ended(first) + ended(second) == 500, "what was stored is not counted again"
    assert not any(link.dropped.values())


async def test_a_killed_recorder_loses_nothing(make_config: MakeConfig, make_record: MakeRecord, pair: Pair, tmp_path: Path) -> None:
    """What a recorder took and never committed, as when it is killed, was not acknowledged and is told to the next one."""
    config = make_config(store=str(tmp_path / "weir.db"))
    link = SocketLink(pair[0], lambda: ())
    link.start()
    killed = Recorder(config)  # never started: its store writes nothing
    feed = killed.connect(pair[1], 0)
    for number in range(200):
        link.send(Ended(0, make_record(number)))
    await until(lambda: ended(killed) == 200)
    feed.close()
    second = Recorder(config)
    await second.start()
    second.connect(pair[1], 0)
    link.send(Ended(0, make_record(200)))
    await until(lambda: ended(second) == 201)
    await link.close()
    await second.close()
    assert second.store is not None
    assert len(await asyncio.to_thread(second.store.find, Query(limit=1000))) == 201


async def test_acknowledged_ends_are_let_go(make_config: MakeConfig, make_record: MakeRecord, pair: Pair, tmp_path: Path) -> None:
    """When the store has committed, the worker keeps nothing: a recorder that starts later is told no end twice."""
    recorder = Recorder(make_config(store=str(tmp_path / "weir.db")))
    await recorder.start()
    feed = recorder.connect(pair[1], 0)
    link = SocketLink(pair[0], lambda: ())
    link.start()
    for number in range(50):
        link.send(Ended(0, make_record(number)))
    await until(lambda: not link._ends.sent and not link._ends.unsent)
    feed.greet()
    link.send(Ended(0, make_record(50)))
    await until(lambda: ended(recorder) == 51)
    assert link._ends.size < 5000
    await link.close()
    await recorder.close()


async def test_a_workers_death_ends_its_streams(make_config: MakeConfig, make_record: MakeRecord) -> None:
    """A new pid in a slot closes the streams of the old one as gateway_error when it was last heard; other slots are untouched."""
    spans = InMemorySpanExporter()
    recorder = Recorder(make_config(), span_exporter=spans)
    await recorder.start()
    recorder.receive(Hello(10), 0)
    recorder.receive(Hello(20), 1)
    for slot, number in ((0, 1), (0, 2), (1, 3)):
        recorder.receive(Begun(make_record(number, ended_at=None, outcome="gateway_error", seconds={"queue": 0.1})), slot)
    recorder.receive(Moved("stream-1", "streaming", "fast", 104.5), 0)
    recorder.receive(Hello(11), 0)
    assert set(recorder.live.streams) == {"stream-3"}
    await recorder.close()
    found = {str(span.attributes["weir.stream.id"]): span for span in spans.get_finished_spans() if span.attributes}
    assert set(found) == {"stream-1", "stream-2"}
    dead = found["stream-1"]
    assert dead.attributes is not None
    assert dead.attributes["error.type"] == "worker_died"
    assert dead.attributes["weir.outcome"] == "gateway_error"
    assert dead.end_time is not None
    assert dead.start_time is not None
    assert dead.end_time >= dead.start_time + 4_400_000_000
    assert "weir.duration.queue" not in dead.attributes


async def test_streams_told_of_before_their_living_worker_says_hello_stay(make_config: MakeConfig, make_record: MakeRecord) -> None:
    """What waited in the kernel for a new recorder comes before the worker's Hello: only a dead worker's streams die with it."""
    recorder = Recorder(make_config())
    for number, pid in ((1, 6), (2, 7), (3, 7)):
        recorder.receive(Begun(make_record(number, worker=pid, ended_at=None)))
    recorder.receive(Hello(7))
    assert set(recorder.live.streams) == {"stream-2", "stream-3"}
    recorder.receive(Begun(make_record(2, worker=7, ended_at=None)))
    recorder.receive(Ended(1, make_record(2, worker=7)))
    recorder.receive(Pulse(7, time.monotonic(), 0, 0.0, 0.0, {}, []))
    assert not recorder.live.streams  # the worker does not know the third any more either
    counted = next(family for family in recorder.collect() if family.instrument.name == "weir_streams_total")
    place = counted.instrument.labels.index("outcome")
    assert sorted(labels[place] for labels, count in counted.values if count) == ["completed", "gateway_error"]


async def test_drops_of_a_worker_become_increments(make_config: MakeConfig) -> None:
    """Cumulative counts per process turn into increases, and a new process starts again from nothing."""
    recorder = Recorder(make_config())
    for pid, count in ((1, 3), (1, 5), (2, 2)):
        recorder.receive(Hello(pid), 0)
        recorder.receive(Pulse(pid, time.monotonic(), 0, 0.0, 0.0, {"begun": count}, []), 0)
    assert recorder.dropped()["begun"] == 7


async def test_a_stall_is_counted_when_noticed_and_once(make_config: MakeConfig, make_record: MakeRecord) -> None:
    """The live message counts at once; the end adds only what was not announced."""
    recorder = Recorder(make_config())
    record = make_record(1, ended_at=None)
    recorder.receive(Begun(record))
    recorder.receive(Stalled("stream-1", "upstream", "streaming", 101.0))
    labels = ("chat", "fast", "upstream", "streaming")
    assert recorder.metrics.value("weir_stalls_total", labels) == 1
    done = make_record(1)
    done.cadence.stall_count, done.cadence.stall_time = 3, {"upstream": 4.0, "client": 9.0}
    recorder.receive(Ended(1, done))
    recorder.receive(Ended(1, done))
    assert recorder.metrics.value("weir_stalls_total", labels) == 1
    assert recorder.metrics.value("weir_stalls_total", ("chat", "fast", "client", "streaming")) == 2
    assert ended(recorder) == 1


async def test_ghosts_go_when_their_end_was_dropped(make_config: MakeConfig, make_record: MakeRecord) -> None:
    """After a worker has introduced itself again, a live stream it no longer names is let go at its next heartbeat."""
    recorder = Recorder(make_config())
    recorder.receive(Hello(1))
    for number in (1, 2):
        recorder.receive(Begun(make_record(number, ended_at=None)))
    recorder.receive(Hello(1))
    recorder.receive(Begun(make_record(2, ended_at=None)))
    recorder.receive(Pulse(1, time.monotonic(), 1, 0.0, 0.0, {}, []))
    assert set(recorder.live.streams) == {"stream-2"}


async def test_odd_messages_are_counted(make_config: MakeConfig, pair: Pair) -> None:
    """A packet nobody can read and a message nobody can handle are losses, not ends."""
    recorder = Recorder(make_config())
    await recorder.start()
    recorder.connect(pair[1], 0)
    pair[0].send(b"\xc1garbage")
    await until(lambda: recorder.dropped()["packet"] == 1)
    recorder.receive(object())  # type: ignore[arg-type]
    assert recorder.dropped()["message"] == 1
    await recorder.close()


async def test_a_worker_that_vanishes_takes_its_gauges_along(make_config: MakeConfig) -> None:
    """Gauges are of the workers heard of late only."""
    recorder = Recorder(make_config())
    recorder.receive(Pulse(os.getpid(), time.monotonic(), 3, 0.004, 1.5, {}, []), 2)
    names = {family.instrument.name: family.values for family in recorder.collect()}
    assert names["weir_oldest_gap_seconds"] == [(("2",), 1.5)]
    recorder.live.workers[2].heard_at -= 60
    names = {family.instrument.name: family.values for family in recorder.collect()}
    assert names["weir_oldest_gap_seconds"] == []
