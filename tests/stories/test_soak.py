"""Stories of endurance: thousands of streams, one after the other and at once, and readers far slower than their upstreams."""

import asyncio
import logging
import socket
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.config import Config
from gateway.sim import children, processes
from gateway.sim.faults import Always, NeverEnding
from gateway.sim.load import Load
from gateway.sim.provider import Provider
from gateway.sim.tempers import INSTANT, Temper
from tests.rig.gate import Gate

pytestmark = pytest.mark.slow
Fixture = Callable[..., Any]
log = logging.getLogger("weir.stories")  # figures: pytest --log-cli-level=info
KIB, MIB = 1024, 1024**2
SHORT = msgspec.structs.replace(INSTANT, tokens=5)
WARM, MANY, STEP = 10_000, 10_000, 1_000
WORKER_SLOPE = 0.1 * KIB  # bytes a stream; a leak of one record would be some 3 KiB
RECORDER_SLOPE = 0.7 * KIB  # after SQLite has filled its cache; it remembers the ids of 50,000 streams and traces, 350 bytes a pair
SLOW, RATE = 50, 1_000.0


class Process:
    """One process of a running Weir, looked at from outside."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    @property
    def rss(self) -> int:
        return processes.rss_bytes(self.pid)

    @property
    def fds(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())


def process(gateway: Any, role: str) -> Process:
    [pid] = [pid for pid in processes.family(gateway.pid) if children.role(pid) == f"weir-{role}"]
    return Process(pid)


def slope(samples: Sequence[int]) -> float:
    """Return bytes a stream, by the line that fits samples taken every STEP streams best."""
    return statistics.linear_regression([number * STEP for number in range(len(samples))], list(samples)).slope


async def test_ten_thousand_streams_in_a_row_leave_nothing_behind(weir: Fixture, provide: Fixture, eventually: Fixture) -> None:
    """After a warm-up the memory of worker and recorder does not grow with the streams served, and every descriptor comes back."""
    gateway = await weir({"a": await provide(temper=SHORT)}, server={"keepalive": "0s"})
    worker, recorder = process(gateway, "worker"), process(gateway, "recorder")
    host, port = gateway.address
    load = Load(host=host, port=port, streams=4)
    assert (await load.run(total=1)).ends() == {"fine": 1}
    await eventually(gateway.streams, "the first one is stored: the store has opened its files")
    fds = worker.fds, recorder.fds
    assert (await load.run(total=WARM)).ends() == {"fine": WARM}
    samples = [(worker.rss, recorder.rss)]
    for _ in range(MANY // STEP):
        assert (await load.run(total=STEP)).ends() == {"fine": STEP}
        samples.append((worker.rss, recorder.rss))
    slopes = slope([sample[0] for sample in samples]), slope([sample[1] for sample in samples])
    log.info("RSS at the end %s KiB; bytes a stream: worker %.0f, recorder %.0f", [rss // KIB for rss in samples[-1]], *slopes)
    assert slopes[0] < WORKER_SLOPE, samples
    assert slopes[1] < RECORDER_SLOPE, samples
    await eventually(lambda: worker.fds <= fds[0] and recorder.fds <= fds[1], "descriptors are back to where they began", 30)
    assert (await gateway.scrape()).sum("weir_streams_total", outcome="completed") == 1 + WARM + MANY


async def test_a_thousand_streams_at_once_leave_nothing_behind(weir: Fixture, provide: Fixture, eventually: Fixture) -> None:
    """The thousands that follow need no more memory than the first did, and every descriptor comes back."""
    provider = await provide(temper=Temper(ttft="50ms", gap="150ms", tokens=30))
    upstreams = {"a": {"base_url": provider.base_url, "max_streams": 2_000}}
    gateway = await weir({"a": provider}, server={"keepalive": "0s"}, upstreams=upstreams)
    worker = process(gateway, "worker")
    fds, before = worker.fds, worker.rss
    host, port = gateway.address
    load = Load(host=host, port=port, streams=1_000)
    after = []
    for _ in range(4):
        assert (await load.run(total=1_000)).ends() == {"fine": 1_000}
        after.append(worker.rss)
    log.info("RSS before %d KiB, after each thousand %s KiB", before // KIB, [rss // KIB for rss in after])
    assert after[-1] - after[0] < 4 * MIB, after  # what streams leave to the garbage collector is some 7 MiB a thousand
    await eventually(lambda: worker.fds <= fds, "descriptors are back to where they began", 30)
    await gateway.told(4_000)
    assert set((await gateway.scrape()).all("weir_streams_active")) == {0.0}


async def test_a_thousand_streams_leave_no_task_and_no_count(provide: Fixture, eventually: Fixture) -> None:
    """In one process: when the last of a thousand streams has ended, tasks and everything counted as under way are as before."""
    provider = await provide(temper=Temper(ttft="20ms", gap="5ms", tokens=20))
    upstreams = {"a": {"base_url": provider.base_url, "max_streams": 2_000}}
    gate = await Gate(Config.model_validate({"upstreams": upstreams, "routes": [{"name": "chat", "targets": [{"upstream": "a"}]}]})).start()
    tasks = len(asyncio.all_tasks())
    try:
        ends = (await Load(host="127.0.0.1", port=gate.port, streams=250).run(total=1_000)).ends()
        assert ends == {"fine": 1_000}
        await eventually(lambda: len(asyncio.all_tasks()) == tasks and gate.in_flight() == 0, "no task is left of a thousand streams")
    finally:
        await gate.close()
    assert len(gate.book.records) == 1_000


async def test_slow_readers_cost_what_they_may(weir: Fixture, eventually: Fixture) -> None:
    """Fifty clients at 1 KB/s before upstreams that push as fast as they can: 256 KiB of memory and 2 MiB under way for each, no more."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=100)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * KIB)  # what waits in the provider's own kernel is not the gateway's
    provider = Provider(SHORT, Always(NeverEnding()))
    await provider.start(sock=listener)
    gateway = await weir({"a": provider}, server={"keepalive": "0s"})
    worker = process(gateway, "worker")
    host, port = gateway.address
    fine = Load(host=host, port=port, streams=1, patience=1.0)
    assert (await fine.run(total=1)).ends() == {"unfinished": 1}  # whatever the first stream needs is there
    before = worker.rss
    load = Load(host=host, port=port, streams=SLOW, read_rate=RATE, patience=25.0)
    slow = asyncio.get_running_loop().create_task(load.run(total=SLOW))
    await eventually(lambda: provider.open_streams == SLOW, "all are streaming")
    early: list[int] = []
    for _ in range(20):
        await asyncio.sleep(1.0)
        early.append(worker.rss - before)
    pushed = [request.bytes_sent for request in provider.requests[-SLOW:]]
    report = await slow
    taken = [result.bytes for result in report.results]
    log.info("RSS grew by %s KiB over 20 s; upstreams pushed %d..%d KiB a stream, clients took %d..%d KiB", *(
        [grown // KIB for grown in early[::4]], min(pushed) // KIB, max(pushed) // KIB, min(taken) // KIB, max(taken) // KIB,
    ))  # fmt: skip
    assert max(early) < SLOW * 256 * KIB
    assert max(pushed) - min(taken) < 2 * MIB
    assert report.ends() == {"unfinished": SLOW}
    await eventually(lambda: provider.open_streams == 0, "upstreams are let go when their clients have left")
    await provider.close()
