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

Fixture = Callable[..., Any]


def folder(gateway: Any) -> Path:
    return Path(f"/proc/{gateway.pid}/cwd").readlink()


async def live(gateway: Any, count: int, eventually: Fixture) -> None:
    """Wait until so many streams are streaming."""

    async def streaming() -> bool:
        return sum(row["state"] == "streaming" for row in await gateway.streams()) == count

    await eventually(streaming, f"{count} streams are live")


async def status(gateway: Any, path: str) -> int:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=5, trust_env=False) as http:
        return (await http.get(path)).status_code


async def test_a_drain_lets_streams_end_and_takes_no_new_ones(
    weir: Fixture, provide: Fixture, client: Fixture, speech: Fixture, collector: Any, eventually: Fixture
) -> None:
    """After SIGTERM live streams come whole, new calls are refused by status, the exit code is 0 and the last spans are sent."""
    body, script = speech(60, 0.04)
    gateway = await weir(
        {"a": await provide(faults=Always(script))}, server={"drain": "20s"}, telemetry={"otlp": {"endpoint": collector.url}}
    )
    mine = client(gateway)
    assert await status(gateway, "/readyz") == 200
    streams = asyncio.get_running_loop().create_task(mine.many(3, 3))
    await live(gateway, 3, eventually)
    os.kill(gateway.pid, signal.SIGTERM)

    async def draining() -> bool:
        return await status(gateway, "/readyz") == 503

    await eventually(draining, "/readyz says 503", 2)
    assert await status(gateway, "/livez") == 200
    assert (await gateway.ask("/healthz"))["status"] == "ok"
    refused = await client(gateway).ask()
    assert (refused.status, orjson.loads(refused.body)["error"]["code"]) == (503, "server_shutdown")
    assert refused.headers["connection"] == "close"
    assert {(a.status, a.body, a.broken) for a in await streams} == {(200, body, False)}
    assert await gateway.leave(10) == 0
    assert gateway.living() == []
    outcomes = sorted(collector.attributes(span)["weir.outcome"] for span in collector.spans)
    assert outcomes == ["completed"] * 3 + ["rejected"]


async def test_a_stream_longer_than_the_drain_is_told_why_it_ends(
    weir: Fixture, provide: Fixture, client: Fixture, speech: Fixture, collector: Any, eventually: Fixture
) -> None:
    """At the end of the drain what still runs ends in an error event of its dialect, and is recorded as the shutdown's doing."""
    body, script = speech(400, 0.05)
    gateway = await weir(
        {"a": await provide(faults=Always(script))}, server={"drain": "1s"}, telemetry={"otlp": {"endpoint": collector.url}}
    )
    streams = asyncio.get_running_loop().create_task(client(gateway).many(3, 3))
    await live(gateway, 3, eventually)
    started = time.monotonic()
    assert await gateway.stop() == 0
    assert 0.9 < time.monotonic() - started < 6
    for answer in await streams:
        assert not answer.broken
        *said, last, rest = answer.body.split(b"\n\n")
        assert body.startswith(b"\n\n".join(said))
        assert orjson.loads(last.removeprefix(b"data: "))["error"]["code"] == "server_shutdown"
        assert rest == b""
    told = [collector.attributes(span) for span in collector.spans]
    assert [(span["weir.outcome"], span["error.type"]) for span in told] == [("shutdown", "server_shutdown")] * 3


async def test_a_second_sigterm_forces(weir: Fixture, provide: Fixture, client: Fixture, speech: Fixture, eventually: Fixture) -> None:
    """Who asks twice does not wait for the drain: everything ends at once, and the exit code says that it was forced."""
    _, script = speech(400, 0.05)
    gateway = await weir({"a": await provide(faults=Always(script))}, server={"drain": "60s"})
    streams = asyncio.get_running_loop().create_task(client(gateway).many(2, 2))
    await live(gateway, 2, eventually)
    os.kill(gateway.pid, signal.SIGTERM)

    async def draining() -> bool:
        return await status(gateway, "/readyz") == 503

    await eventually(draining, "/readyz says 503", 5)
    started = time.monotonic()
    os.kill(gateway.pid, signal.SIGTERM)
    assert await gateway.leave(5) == 1
    assert time.monotonic() - started < 5
    assert gateway.living() == []
    assert {answer.broken for answer in await streams} == {True}


async def test_sigint_ends_it_as_ctrl_c_does(weir: Fixture, provide: Fixture) -> None:
    """A Ctrl-C reaches the whole foreground group; one clean end comes of it, without a traceback."""
    gateway = await weir({"a": await provide()}, server={"workers": 2})
    os.killpg(gateway.pid, signal.SIGINT)
    assert await gateway.leave(10) == 0
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
    await gateway.leave(5)
    await eventually(lambda: not gateway.living(), "all children have gone", 10)


async def test_a_drain_of_several_workers_leaves_no_caller_waiting_for_one_that_has_left(
    weir: Fixture, provide: Fixture, client: Fixture, speech: Fixture, eventually: Fixture
) -> None:
    """Workers without streams leave at once; new connections reach those that still drain, and are answered."""
    body, script = speech(160, 0.05)
    gateway = await weir({"a": await provide(faults=Always(script))}, server={"workers": 4, "drain": "20s"})
    stream = asyncio.get_running_loop().create_task(client(gateway).ask())
    await live(gateway, 1, eventually)
    os.kill(gateway.pid, signal.SIGTERM)
    await eventually(lambda: len(gateway.living()) == 3, "three of four workers have left", 5)
    assert {await status(gateway, "/readyz") for _ in range(20)} == {503}
    assert (await stream).body == body
    assert await gateway.leave(10) == 0


async def test_a_recorder_that_dies_in_a_drain_is_followed_by_another(
    weir: Fixture, provide: Fixture, client: Fixture, speech: Fixture, eventually: Fixture
) -> None:
    """What ends after that is stored as ever, the drain takes no longer for it, and the exit code is that of a clean end (E4 B9)."""
    body, script = speech(100, 0.04)
    gateway = await weir({"a": await provide(faults=Always(script))}, server={"drain": "20s"})
    place = folder(gateway)
    recorder = (await gateway.ask("/healthz"))["pid"]
    streams = asyncio.get_running_loop().create_task(client(gateway).many(5, 5))
    await live(gateway, 5, eventually)
    os.kill(gateway.pid, signal.SIGTERM)

    async def draining() -> bool:
        return await status(gateway, "/readyz") == 503

    await eventually(draining, "/readyz says 503", 5)
    os.kill(recorder, signal.SIGKILL)

    async def another() -> bool:
        health = await gateway.ask("/healthz")
        return bool(health) and health["pid"] != recorder

    await eventually(another, "another recorder answers", 5)
    assert not streams.done()
    assert {(answer.body, answer.broken) for answer in await streams} == {(body, False)}
    assert await gateway.leave(8) == 0
    with contextlib.closing(sqlite3.connect(place / "weir.db")) as store:
        assert store.execute("SELECT outcome, count(*) FROM streams GROUP BY outcome").fetchall() == [("completed", 5)]
