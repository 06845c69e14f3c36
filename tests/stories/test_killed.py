"""Stories of processes killed under load: telemetry's death touches no stream, a worker's death is told as the end of each of its own."""

import asyncio
import logging
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from gateway.sim.faults import Always

Fixture = Callable[..., Any]
log = logging.getLogger("weir.stories")  # figures: pytest --log-cli-level=info
BACK_WITHIN = 5.0  # the goal is 2 s on an idle machine


async def back(gateway: Any, dead: int, eventually: Fixture) -> float:
    """Wait until another recorder answers /healthz and knows the worker; return the seconds it took."""
    started = time.monotonic()

    async def another() -> bool:
        health = await gateway.ask("/healthz")
        return bool(health) and health["pid"] != dead and bool(health["workers"])

    await eventually(another, "another recorder answers", BACK_WITHIN)
    return time.monotonic() - started


async def test_a_killed_recorder_costs_no_stream_and_no_record(
    weir: Fixture, provide: Fixture, client: Fixture, speech: Fixture, eventually: Fixture
) -> None:
    """Every stream under way, and every one begun while it is away, comes verbatim; all are stored, or counted as lost."""
    body, script = speech(60, 0.02)
    gateway = await weir({"a": await provide(faults=Always(script))})
    mine = client(gateway)
    await mine.many(5, 5)
    await gateway.told(5)
    streams = asyncio.get_running_loop().create_task(mine.many(200, 50))
    await asyncio.sleep(0.7)
    dead = (await gateway.ask("/healthz"))["pid"]
    os.kill(dead, signal.SIGKILL)
    log.info("the recorder was back after %.0f ms", 1000 * await back(gateway, dead, eventually))
    assert not streams.done()
    answers = await streams
    assert {(a.status, a.body, a.broken) for a in answers} == {(200, body, False)}
    assert {(a.status, a.body, a.broken) for a in await mine.many(20, 20)} == {(200, body, False)}

    async def accounted() -> list[dict[str, Any]]:
        lost = (await gateway.ask("/healthz"))["dropped"]
        rows = [row for row in await gateway.streams() if row["state"] == "ended"]
        return rows if len(rows) + lost["ended"] + lost["row"] >= 225 else []

    rows = await eventually(accounted, "225 streams are stored, or counted as lost")
    log.info("%d of 225 streams are stored", len(rows))
    assert len(rows) == len({row["stream_id"] for row in rows}) <= 225
    assert {row["outcome"] for row in rows} == {"completed"}
    assert {a.headers["x-weir-stream-id"] for a in answers} <= {row["stream_id"] for row in rows} or len(rows) < 225
    scrape = await gateway.scrape()
    assert 20 <= scrape.sum("weir_streams_total") <= 225
    assert set(scrape.all("weir_streams_active")) <= {0.0}


async def test_the_streams_of_a_killed_worker_are_recorded_as_its_death(
    weir: Fixture, provide: Fixture, client: Fixture, speech: Fixture, eventually: Fixture
) -> None:
    """Its clients see a broken connection, each of its streams is recorded as gateway_error/worker_died, and another worker is there."""
    body, script = speech(200, 0.05)
    gateway = await weir({"a": await provide(faults=Always(script))})
    mine = client(gateway)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(mine.ask()) for _ in range(12)]

        async def all_live() -> bool:
            return sum(row["state"] == "streaming" for row in await gateway.streams()) == 12

        await eventually(all_live, "12 streams are live")
        [dead] = await gateway.workers()
        os.kill(dead, signal.SIGKILL)
    died = time.monotonic()
    answers = [task.result() for task in tasks]
    assert all(a.broken and len(a.body) < len(body) and b"[DONE]" not in a.body for a in answers)
    pieces: list[float] = []
    late = asyncio.get_running_loop().create_task(client(gateway).ask(began=lambda: pieces.append(time.monotonic())))
    await eventually(lambda: pieces, "another worker serves", BACK_WITHIN)
    log.info("another worker's first bytes came after %.0f ms", 1000 * (pieces[0] - died))
    late.cancel()
    await asyncio.gather(late, return_exceptions=True)
    rows = await gateway.told(13)
    assert Counter((row["outcome"], row["error"]) for row in rows) == {("gateway_error", "worker_died"): 12, ("client_disconnect", None): 1}
    assert {row["stream_id"] for row in rows if row["error"]} == {a.headers["x-weir-stream-id"] for a in answers}
    assert (await gateway.scrape()).sum("weir_streams_total", outcome="gateway_error") == 12
    [alive] = await gateway.workers()
    assert alive != dead


async def test_with_several_workers_only_the_killed_ones_streams_end(
    weir: Fixture, provide: Fixture, client: Fixture, speech: Fixture, eventually: Fixture
) -> None:
    """A worker's death touches no stream of another."""
    body, script = speech(40, 0.04)
    gateway = await weir({"a": await provide(faults=Always(script))}, server={"workers": 2})

    async def two() -> list[int]:
        pids: list[int] = await gateway.workers()
        return pids if len(pids) == 2 else []

    dead, other = await eventually(two, "two workers")
    streams = asyncio.get_running_loop().create_task(client(gateway).many(40, 40, connection="close"))

    async def all_live() -> bool:
        return sum(row["state"] == "streaming" for row in await gateway.streams()) == 40

    await eventually(all_live, "40 streams are live")
    os.kill(dead, signal.SIGKILL)
    answers = await streams
    rows = {row["stream_id"]: row for row in await gateway.told(40)}
    for answer in answers:
        outcome = rows[answer.headers["x-weir-stream-id"]]["outcome"]
        assert (outcome, answer.broken) in {("completed", False), ("gateway_error", True)}
        assert answer.broken or answer.body == body
    assert {a.broken for a in answers} == {True, False}
    assert other in await gateway.workers()
