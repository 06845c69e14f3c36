"""Stories of leaving: a drain that lets streams end, a deadline that tells them why, and signals that force or change nothing."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import orjson

from gateway.sim.faults import Always
from tests.rig.held import Held
from tests.stories.conftest import PATIENCE

Fixture = Callable[..., Any]


def folder(gateway: Any) -> Path:
    return Path(f"/proc/{gateway.pid}/cwd").readlink()


async def status(gateway: Any, path: str) -> int:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE, trust_env=False) as http:
        return (await http.get(path)).status_code


async def test_a_drain_lets_streams_end_and_takes_no_new_ones(
    weir: Fixture, provide: Fixture, client: Fixture, collector: Any, eventually: Fixture
) -> None:
    """After SIGTERM live streams come whole, new calls are refused by status, the exit code is 0 and the last spans are sent."""
    held = Held()
    gateway = await weir(
        {"a": await provide(faults=Always(held.script))}, server={"drain": "60s"}, telemetry={"otlp": {"endpoint": collector.url}}
    )
    mine = client(gateway)
    assert await status(gateway, "/readyz") == 200
    streams = asyncio.get_running_loop().create_task(mine.many(3, 3))
    await gateway.speaking(3)
    os.kill(gateway.pid, signal.SIGTERM)

    async def draining() -> bool:
        return await status(gateway, "/readyz") == 503

    await eventually(draining, "/readyz says 503")
    assert await status(gateway, "/livez") == 200
    assert (await gateway.ask("/healthz"))["status"] == "ok"
    refused = await client(gateway).ask()
    assert (refused.status, orjson.loads(refused.body)["error"]["code"]) == (503, "server_shutdown")
    assert refused.headers["connection"] == "close"
    assert not streams.done()
    held.release()
    assert {(a.status, a.body in held.bodies, a.broken) for a in await streams} == {(200, True, False)}
    assert await gateway.leave() == 0
    assert gateway.living() == []
    outcomes = sorted(collector.attributes(span)["weir.outcome"] for span in collector.spans)
    assert outcomes == ["completed"] * 3 + ["rejected"]


async def test_a_stream_longer_than_the_drain_is_told_why_it_ends(
    weir: Fixture, provide: Fixture, client: Fixture, collector: Any, eventually: Fixture
) -> None:
    """At the end of the drain what still runs ends in an error event of its dialect, and is recorded as the shutdown's doing."""
    held = Held()
    gateway = await weir(
        {"a": await provide(faults=Always(held.script))}, server={"drain": "1s"}, telemetry={"otlp": {"endpoint": collector.url}}
    )
    streams = asyncio.get_running_loop().create_task(client(gateway).many(3, 3))
    await gateway.speaking(3)
    started = time.monotonic()
    assert await gateway.stop() == 0
    assert time.monotonic() - started > 0.9
    for answer in await streams:
        assert not answer.broken
        *said, last, rest = answer.body.split(b"\n\n")
        assert any(b"".join(run).startswith(b"\n\n".join(said)) for run in held.runs)
        assert orjson.loads(last.removeprefix(b"data: "))["error"]["code"] == "server_shutdown"
        assert rest == b""
    told = [collector.attributes(span) for span in collector.spans]
    assert [(span["weir.outcome"], span["error.type"]) for span in told] == [("shutdown", "server_shutdown")] * 3


async def test_a_second_sigterm_forces(weir: Fixture, provide: Fixture, client: Fixture, eventually: Fixture) -> None:
    """Who asks twice does not wait for the drain: everything ends at once, and the exit code says that it was forced."""
    gateway = await weir({"a": await provide(faults=Always(Held().script))}, server={"drain": "60s"})
    streams = asyncio.get_running_loop().create_task(client(gateway).many(2, 2))
    await gateway.speaking(2)
    os.kill(gateway.pid, signal.SIGTERM)

    async def draining() -> bool:
        return await status(gateway, "/readyz") == 503

    await eventually(draining, "/readyz says 503")
    os.kill(gateway.pid, signal.SIGTERM)
    assert await gateway.leave() == 1  # long before its drain is over
    assert gateway.living() == []
    assert {answer.broken for answer in await streams} == {True}


async def test_sigint_ends_it_as_ctrl_c_does(weir: Fixture, provide: Fixture) -> None:
    """A Ctrl-C reaches the whole foreground group; one clean end comes of it, without a traceback."""
    gateway = await weir({"a": await provide()}, server={"workers": 2})
    os.killpg(gateway.pid, signal.SIGINT)
    assert await gateway.leave() == 0
    assert gateway.living() == []
    assert gateway.err == ""


async def test_sighup_kills_nothing(weir: Fixture, provide: Fixture, client: Fixture, eventually: Fixture) -> None:
    """A terminal that hangs up, or an operator who hopes for a reload, ends no process and no stream."""
    gateway = await weir({"a": await provide()})
    before, mine = sorted(gateway.living()), client(gateway)
    os.kill(gateway.pid, signal.SIGHUP)
    answers = await mine.many(10, 2)
    assert {(answer.status, answer.broken) for answer in answers} == {(200, False)}
    assert sorted(gateway.living()) == before


async def test_children_do_not_outlive_a_killed_supervisor(weir: Fixture, provide: Fixture, eventually: Fixture) -> None:
    """Even SIGKILL, which the supervisor cannot answer, leaves nobody behind to hold the ports."""
    gateway = await weir({"a": await provide()}, server={"workers": 2, "drain": "1s"})
    os.kill(gateway.pid, signal.SIGKILL)
    await gateway.leave()
    await eventually(lambda: not gateway.living(), "all children have gone")


async def test_a_drain_of_several_workers_leaves_no_caller_waiting_for_one_that_has_left(
    weir: Fixture, provide: Fixture, client: Fixture, eventually: Fixture
) -> None:
    """Workers without streams leave at once; new connections reach those that still drain, and are answered."""
    held = Held()
    gateway = await weir({"a": await provide(faults=Always(held.script))}, server={"workers": 4, "drain": "60s"})
    stream = asyncio.get_running_loop().create_task(client(gateway).ask())
    await gateway.speaking()
    os.kill(gateway.pid, signal.SIGTERM)
    await eventually(lambda: len(gateway.living()) == 3, "three of four workers have left")
    assert {await status(gateway, "/readyz") for _ in range(20)} == {503}
    held.release()
    assert (await stream).body in held.bodies
    assert await gateway.leave() == 0


async def test_a_recorder_that_dies_in_a_drain_is_followed_by_another(
    weir: Fixture, provide: Fixture, client: Fixture, eventually: Fixture
) -> None:
    """What ends after that is stored as ever, the drain takes no longer for it, and the exit code is that of a clean end (E4 B9)."""
    held = Held()
    gateway = await weir({"a": await provide(faults=Always(held.script))}, server={"drain": "60s"})
    place = folder(gateway)
    recorder = (await gateway.ask("/healthz"))["pid"]
    streams = asyncio.get_running_loop().create_task(client(gateway).many(5, 5))
    await gateway.speaking(5)
    os.kill(gateway.pid, signal.SIGTERM)

    async def draining() -> bool:
        return await status(gateway, "/readyz") == 503

    await eventually(draining, "/readyz says 503")
    os.kill(recorder, signal.SIGKILL)

    async def another() -> bool:
        health = await gateway.ask("/healthz")
        return bool(health) and health["pid"] != recorder

    await eventually(another, "another recorder answers")
    assert not streams.done()
    held.release()
    assert {(answer.body in held.bodies, answer.broken) for answer in await streams} == {(True, False)}
    assert await gateway.leave() == 0
    with contextlib.closing(sqlite3.connect(place / "weir.db")) as store:
        assert store.execute("SELECT outcome, count(*) FROM streams GROUP BY outcome").fetchall() == [("completed", 5)]
