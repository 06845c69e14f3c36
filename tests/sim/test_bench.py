"""The benchmark: it counts what came, tells what did not, and leaves nothing running however it ends."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from gateway.sim import bench, children, nginx, processes
from gateway.sim.caller import Address, Tally, ask, connect, drive, hold
from gateway.sim.faults import Always, Every, Status, Truncate
from gateway.sim.lanes import LANES, Lane, Stage
from gateway.sim.origin import Origin
from gateway.sim.provider import Provider
from gateway.sim.report import LaneReport, Paced, Ttft
from gateway.sim.tempers import Temper

SMALL = bench.BenchOptions(streams=8, rate=400, tokens=5, seconds=0.4, rounds=1, probes=25, idle=5, lanes=("direct", "naive"))
QUICK = Temper(ttft=0, gap=0.002, tokens=5)


def address(provider: Provider) -> Address:
    return bench._address(Lane("direct", "127.0.0.1", provider.port), SMALL)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_gone(pids: list[int], patience: float = 10.0) -> list[int]:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and any(alive(pid) for pid in pids):
        time.sleep(0.02)
    return [pid for pid in pids if alive(pid)]


@pytest.fixture(scope="module")
def report() -> bench.BenchReport:
    lanes = ("direct", "nginx", "naive") if nginx.find() else ("direct", "naive")
    before = processes.family(os.getpid())
    found = bench.run(msgspec.structs.replace(SMALL, lanes=lanes))
    assert set(processes.family(os.getpid())) <= set(before), "the benchmark left a process behind"
    return found


def test_every_lane_carries_every_event(report: bench.BenchReport) -> None:
    """On a sound machine no stream is broken and no event lost, whatever the lane."""
    assert report.failures == 0, [lane.figures() for lane in report.lanes]
    for lane in report.lanes:
        assert lane.paced is not None
        assert lane.paced.streams >= SMALL.streams
        assert lane.short is not None
        assert lane.short.streams > 0
        assert lane.ttft is not None
        assert lane.ttft.asked == SMALL.probes


def test_cpu_and_memory_are_those_of_relays(report: bench.BenchReport) -> None:
    """The direct lane has no process of its own, so it has neither CPU nor memory nor anything added to it."""
    by_name = {lane.name: lane for lane in report.lanes}
    direct, naive = by_name["direct"], by_name["naive"]
    assert direct.paced is not None
    assert direct.paced.cpu_relay is None
    assert direct.memory is None
    assert direct.ttft is not None
    assert direct.ttft.added_p50 is None
    assert naive.paced is not None
    assert naive.paced.cpu_relay is not None
    assert naive.paced.cpu_relay == naive.paced.cpu_all
    assert naive.memory is not None
    assert naive.ttft is not None
    assert naive.ttft.added_p50 is not None


def test_renderings_tell_the_same_lanes(report: bench.BenchReport) -> None:
    """Terminal, Markdown and JSON name every lane; JSON reads back as the very report."""
    console = Console(width=200, file=io.StringIO())
    console.print(bench.render(report))
    text, page = console.file.getvalue(), bench.markdown(report)
    for lane in report.lanes:
        assert lane.name in text
        assert lane.name in page
    raw = bench.to_json(report)
    assert msgspec.json.decode(raw, type=bench.BenchReport) == report
    assert "key" not in json.loads(raw)["options"]


def test_a_gateway_already_running(tmp_path: Path) -> None:
    """With `against` only that gateway is measured; with `direct` also what it adds; its processes only when told which."""
    with Origin(tmp_path) as origin:
        origin.become(ttft=0, gap=0.001, tokens=4)
        url = f"http://127.0.0.1:{origin.port}/v1"
        found = bench.run(msgspec.structs.replace(SMALL, against=url, direct=url))
    assert [lane.name for lane in found.lanes] == ["direct", "gateway"]
    gateway = found.lanes[1]
    assert found.failures == 0
    assert gateway.memory is None
    assert gateway.paced is not None
    assert gateway.paced.cpu_relay is None
    assert gateway.ttft is not None
    assert gateway.ttft.added_p50 is not None


def test_weir_with_everything_on() -> None:
    """Weir's lane is the real gateway: nothing is lost, and its workers' share is told apart from that of all its processes (E5)."""
    found = bench.run(
        msgspec.structs.replace(SMALL, lanes=("direct", "weir"), seconds=1.0, rate=2000, tokens=20, measures=("memory", "paced"))
    )
    assert found.failures == 0, [lane.figures() for lane in found.lanes]
    weir = found.lanes[1]
    assert weir.paced is not None
    assert weir.paced.cpu_relay is not None
    assert weir.paced.cpu_all is not None
    assert 0 < weir.paced.cpu_relay <= weir.paced.cpu_all
    assert weir.memory is not None
    assert weir.memory.streams == SMALL.idle


@pytest.mark.parametrize("wrong", [{"lanes": ("direct", "apache")}, {"measures": ("speed",)}, {"against": "https://localhost/v1"}])
def test_options_that_make_no_sense(wrong: dict[str, object]) -> None:
    """An unknown lane or measure, or an address that is not http, is refused before anything starts."""
    with pytest.raises(ValueError, match=r"no such|not an http"):
        bench.run(msgspec.structs.replace(SMALL, **wrong))


def test_zero_is_no_amount() -> None:
    """Every amount is above zero."""
    with pytest.raises(ValueError, match="above 0"):
        bench.BenchOptions(streams=0)


def test_a_missing_nginx_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without nginx its lane is left out, and the report says why."""
    monkeypatch.setattr(nginx, "find", lambda: None)
    found = bench.run(msgspec.structs.replace(SMALL, lanes=("nginx", "direct"), measures=("ttft",)))
    assert [lane.name for lane in found.lanes] == ["direct"]
    assert "not installed" in found.skipped["nginx"]
    assert "nginx left out" in bench.markdown(found)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_survives_the_benchmark(how: signal.Signals) -> None:
    """However the benchmark is ended, every process it started ends with it."""
    program = (
        "from gateway.sim import bench\n"
        "o = bench.BenchOptions(seconds=60, lanes=('direct', 'naive'), measures=('paced',))\n"
        "bench.run(o, lambda word: print(word, flush=True))\n"
    )
    running = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert running.stdout is not None
    try:
        assert any("steady streams" in line for line in iter(running.stdout.readline, ""))
        started = processes.family(running.pid)[1:]
        assert len(started) == 2
        running.send_signal(how)
        assert running.wait(10) != 0
        assert wait_gone(started) == []
    finally:
        running.kill()
        running.wait()
        running.stdout.close()


async def test_truncated_streams_are_broken() -> None:
    """A stream without its end marker counts as broken and says so; the others count as whole."""
    provider = Provider(QUICK, Every(3, Truncate(after=2)))
    await provider.start()
    tally = Tally()
    try:
        for _ in range(6):
            caller = await connect(address(provider), tally)
            await ask(caller)
            caller.transport.abort()
    finally:
        await provider.close()
    assert (tally.streams, tally.broken) == (4, 2)
    assert tally.first_error
    assert len(tally.counts) == 1, "whole streams of one temper have one number of events"


async def test_an_error_status_is_broken_and_bounded() -> None:
    """A provider that only answers errors makes broken streams, and the measurement still ends in its time."""
    provider = Provider(QUICK, Always(Status(code=500)))
    await provider.start()
    tally = Tally()
    try:
        await drive(address(provider), tally, streams=4, seconds=0.2)
    finally:
        await provider.close()
    assert tally.streams == 0
    assert tally.broken > 0
    assert "500" in tally.first_error


async def test_a_dead_gateway_is_broken_not_fatal() -> None:
    """A port where nobody listens gives broken streams, no exception."""
    (port,) = children.free_ports(1)
    tally = Tally()
    await drive(Address("127.0.0.1", port, b""), tally, streams=2, seconds=0.1)
    assert tally.streams == 0
    assert tally.broken >= 2


async def test_held_streams_are_open_and_then_gone() -> None:
    """`hold` has every stream open, each having spoken once, and drops them all without counting them as errors."""
    provider = Provider(Temper(ttft=0, gap=600, tokens=2))
    await provider.start()
    try:
        async with hold(address(provider), 7, batch=3) as tally:
            assert provider.open_streams == 7
            assert len(tally.ttft) == 7
        assert tally.broken == 0
    finally:
        await provider.close()


def test_a_lost_event_shows() -> None:
    """Events missing from streams that look whole are counted against what most streams had."""
    lane = LaneReport(
        name="weir",
        paced=Paced(streams=3, events=14, broken=0, lost=1, events_per_second=1),
        ttft=Ttft(asked=3, broken=2),
    )
    found = bench.BenchReport(version="0", machine=bench.machine(), options={}, lanes=[lane])
    assert found.failures == 3


def test_a_relay_that_dies_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A relay that ends in the middle of the run counts as a failure, and the report says which and how."""

    def killing(stage: Stage, upstream: int) -> Lane:
        lane = naive(stage, upstream)
        assert lane.pid is not None
        os.kill(lane.pid, signal.SIGKILL)
        return lane

    naive = LANES["naive"]
    monkeypatch.setitem(LANES, "naive", killing)
    found = bench.run(msgspec.structs.replace(SMALL, lanes=("direct", "naive"), measures=("paced",)))
    assert found.failures > 0
    assert "ended with -9" in found.ended["naive"]
    assert "naive ended with -9" in bench.markdown(found)


def test_a_program_that_ends_at_once_is_told(tmp_path: Path) -> None:
    """A process that does not come up raises with the last thing it said."""
    log = tmp_path / "log"
    with log.open("wb") as file:
        child = children.start([sys.executable, "-c", "raise SystemExit('out of milk')"], file)
    try:
        with pytest.raises(children.StartError, match="out of milk"):
            children.wait_listening(child, *children.free_ports(1), log)
    finally:
        children.stop(child)
        children.stop(child)
