"""The provider and the load under uvloop, whose transports buffer, flush and break off differently from asyncio's own."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

from gateway.sim.faults import Always, Fault, HugeEvent, NeverEnding, OneByteWrites, ResetAfter, Script, Truncate
from gateway.sim.load import Aborts, Load
from gateway.sim.provider import Provider
from gateway.sim.steps import HalfClose, Hang, Pause, Reset, Send
from gateway.sim.tempers import INSTANT, Temper

Fixture = Callable[..., Any]


Work = Callable[[Provider], Awaitable[Any]]


def on_uvloop(work: Work, temper: Temper = INSTANT, fault: Fault | None = None, run_loop: Callable[..., Any] = uvloop.run) -> Any:
    async def run() -> Any:
        provider = Provider(temper, *([Always(fault)] if fault else []))
        await provider.start()
        try:
            return await work(provider)
        finally:
            await provider.close()
            assert (provider.open_streams, provider.connections) == (0, 0)

    return run_loop(run())


@pytest.mark.parametrize("fault", [ResetAfter(after=3), Truncate(after=3, cut=5), OneByteWrites(), HugeEvent(size=300_000, write=4096)])
def test_both_loops_send_the_same_bytes(ask: Fixture, fault: Fault) -> None:
    """A fault is the same on either loop, and ends the connection in the same way."""
    here, there = (on_uvloop(ask, fault=fault, run_loop=run) for run in (asyncio.run, uvloop.run))
    assert (there.raw, there.ended) == (here.raw, here.ended)


def test_scripts_pause_half_close_and_reset(ask: Fixture) -> None:
    """What was sent before a reset or a half-close arrives."""
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab"
    got = on_uvloop(ask, fault=Script((Send(data), Reset())))
    assert (got.raw, got.ended) == (data, "reset")
    got = on_uvloop(ask, fault=Script((Send(data), Pause(0.01), Send(b"c"), HalfClose(), Hang())))
    assert (got.raw, got.ended) == (data + b"c", "fin")


def test_an_endless_answer_starves_nobody() -> None:
    """While one client takes an endless answer at full speed, others are served, and all of it ends with the clients."""

    async def work(provider: Provider) -> None:
        provider.faults = Always(NeverEnding())
        greedy = Load(host=provider.host, port=provider.port, streams=2, patience=0.4)
        async with asyncio.TaskGroup() as group:
            endless = group.create_task(greedy.run(total=2))
            while provider.open_streams < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            provider.faults = Always()
            report = await Load(host=provider.host, port=provider.port, streams=3).run(total=9)
        assert report.ends() == {"fine": 9}
        assert endless.result().ends() == {"unfinished": 2}
        assert all(result.deltas > 1000 for result in endless.result().results)

    on_uvloop(work)


def test_many_paced_streams_with_aborts() -> None:
    """Hundreds of streams, some left early: the counts agree and nothing stays open."""

    async def work(provider: Provider) -> None:
        load = Load(host=provider.host, port=provider.port, streams=60, aborts=Aborts(share=0.2), seed=3)
        report = await load.run(total=300)
        assert report.fine + report.ends()["aborted"] == 300
        whole = [result for result in report.results if result.fine]
        assert {result.events - result.deltas for result in whole} == {4}
        async with asyncio.timeout(10):
            while provider.open_streams:  # noqa: ASYNC110
                await asyncio.sleep(0.002)

    on_uvloop(work, Temper(ttft="uniform 1ms 10ms", gap="uniform 1ms 4ms", tokens="uniform 5 30"))


def test_a_slow_reader_on_uvloop() -> None:
    """The read rate holds there as well."""

    async def work(provider: Provider) -> Any:
        return await Load(host=provider.host, port=provider.port, streams=1, read_rate=400_000).run(total=1)

    [result] = on_uvloop(work, Temper(ttft=0, gap=0, tokens=300)).results
    assert result.fine
    assert result.duration > 0.5 * result.bytes / 400_000
