"""An onlooker's word goes from the recorder to every worker and their tokens come back, over the real link between the two."""

import os
from collections.abc import Callable
from typing import Any

from gateway.config import Config
from gateway.core.messages import Abort, Begun, Heard, Hello, Watching
from gateway.core.record import StreamRecord
from gateway.telemetry.account import Account
from gateway.telemetry.link import SocketLink
from gateway.telemetry.live import LiveStream
from gateway.telemetry.recorder import Recorder
from tests.rig.client import wait_until

MakeConfig = Callable[..., Config]
MakeRecord = Callable[..., StreamRecord]


class Eye:
    """Somebody who looks on and writes down what it hears."""

    closely = True

    def __init__(self) -> None:
        self.told: list[Any] = []

    def begun(self, stream: LiveStream) -> None:
        self.told.append(("begun", stream.record.stream_id))

    def moved(self, stream: LiveStream) -> None:
        self.told.append(("moved", stream.state))

    def stalled(self, stream: LiveStream) -> None:
        self.told.append(("stalled", stream.blame))

    def heard(self, stream_id: str, times: list[float], many: list[int], answer: float | None) -> None:
        self.told.append((stream_id, times, many, answer))

    def ended(self, told: Account) -> None:
        self.told.append(("ended", told.record.stream_id))

    def drawn(self) -> None:
        self.told.append("drawn")


async def test_a_worker_hears_of_onlookers_and_they_of_its_tokens(make_config: MakeConfig, make_record: MakeRecord, pair: Any) -> None:
    """Both ways over the link, and the last onlooker that leaves ends it."""
    worker, ear = pair
    orders: list[Abort | Watching] = []
    recorder, eye = Recorder(make_config()), Eye()
    link = SocketLink(worker, list, orders.append)
    feed = recorder.connect(ear, 0)
    link.start()
    recorder.watch(eye)
    await wait_until(lambda: Watching(True) in orders)
    link.send(Begun(make_record(1, ended_at=None)))
    link.send(Heard("stream-1", [1.0, 1.5], [1, 2], 1.5))
    await wait_until(lambda: len(eye.told) >= 3)
    assert eye.told == ["drawn", ("begun", "stream-1"), ("stream-1", [1.0, 1.5], [1, 2], 1.5)]
    recorder.unwatch(eye)
    await wait_until(lambda: orders[-1] == Watching(False))
    await link.close()
    feed.close()


async def test_a_worker_that_starts_later_is_told_at_once(make_config: MakeConfig, pair: Any) -> None:
    """A worker that takes another's place hears that somebody looks on, and which share is shown, as soon as it says who it is."""
    worker, ear = pair
    orders: list[Abort | Watching] = []
    recorder = Recorder(make_config())
    recorder.onlookers.add(Eye(), 700)
    feed = recorder.connect(ear, 0)
    link = SocketLink(worker, list, orders.append)
    link.start()
    await wait_until(lambda: orders)
    assert orders[-1] == Watching(True, 0.5)
    await link.close()
    feed.close()


async def test_only_the_newest_word_waits_for_a_worker_that_does_not_read(make_config: MakeConfig, pair: Any) -> None:
    """However often pages come and go, what a busy worker reads in the end is how it is now."""
    worker, ear = pair
    worker.setblocking(False)
    recorder = Recorder(make_config())
    feed = recorder.connect(ear, 0)
    for _ in range(2000):
        eye = Eye()
        recorder.watch(eye)
        recorder.unwatch(eye)
    recorder.onlookers.add(Eye(), 3000)
    orders: list[Any] = []
    link = SocketLink(worker, list, orders.append)
    link.start()
    await wait_until(lambda: orders and orders[-1] == Watching(True, 0.125))
    assert len(orders) < 100
    await link.close()
    feed.close()


def test_who_looks_on_from_within_needs_no_link(make_config: MakeConfig, make_record: MakeRecord) -> None:
    """A recorder in the worker's own process tells its onlookers the same."""
    recorder, eye = Recorder(make_config()), Eye()
    recorder.watch(eye)
    recorder.receive(Hello(os.getpid()))
    recorder.receive(Begun(make_record(1, ended_at=None)))
    recorder.receive(Heard("stream-1", [1.0], [1]))
    assert eye.told[1:] == [("begun", "stream-1"), ("stream-1", [1.0], [1], None)]


async def test_a_worker_is_told_that_nobody_looks_on_any_more(make_config: MakeConfig, pair: Any) -> None:
    """A recorder that follows one which died while somebody looked on says so to its workers: they would tell tokens for ever."""
    worker, ear = pair
    orders: list[Abort | Watching] = []
    first = Recorder(make_config())
    feed = first.connect(ear, 0)
    link = SocketLink(worker, list, orders.append)
    link.start()
    first.watch(Eye())
    await wait_until(lambda: Watching(True) in orders)
    feed.close()
    feed = Recorder(make_config()).connect(ear, 0)
    await wait_until(lambda: orders[-1] == Watching(False))
    await link.close()
    feed.close()
