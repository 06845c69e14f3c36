"""Stories of processes killed under load: telemetry's death touches no stream, a worker's death is told as the end of each of its own."""

import asyncio
import logging
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from gateway.sim.faults import Always, ByModel
from tests.rig.held import Held

Fixture = Callable[..., Any]
log = logging.getLogger("weir.stories")  # figures: pytest --log-cli-level=info


async def back(gateway: Any, dead: int, eventually: Fixture) -> float:
    """Wait until another recorder answers /healthz and knows the worker; return the seconds it took."""
    started = time.monotonic()

    async def another() -> bool:
        health = await gateway.ask("/healthz")
        return bool(health) and health["pid"] != dead and bool(health["workers"])

    await eventually(another, "another recorder answers")  # the goal is 2 s on an idle machine
    return time.monotonic() - started


async def test_a_killed_recorder_costs_no_stream_and_no_record(
    weir: Fixture, provide: Fixture, client: Fixture, speech: Fixture, eventually: Fixture
) -> None:
    """Every stream under way, and every one begun while it is away, comes verbatim; all are stored, or counted as lost."""
    held, (body, script) = Held(), speech(60, 0.02)
    gateway = await weir({"a": await provide(faults=ByModel({"held": held.script, "m": script}))})
    mine, loop = client(gateway), asyncio.get_running_loop()
    await mine.many(5, 5)
    await gateway.told(5)
    under_way = loop.create_task(mine.many(50, 50, model="held"))
    await gateway.speaking(50)
    dead = (await gateway.ask("/healthz"))["pid"]
    os.kill(dead, signal.SIGKILL)
    begun = loop.create_task(mine.many(150, 50))
    log.info("the recorder was back after %.0f ms", 1000 * await back(gateway, dead, eventually))
    assert not under_way.done()
    held.release()
    assert {(a.status, a.body in held.bodies, a.broken) for a in await under_way} == {(200, True, False)}
    assert {(a.status, a.body, a.broken) for a in await begun} == {(200, body, False)}
    answers = [*await under_way, *await begun]
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
    weir: Fixture, provide: Fixture, client: Fixture, eventually: Fixture
) -> None:
    """Its clients see a broken connection, each of its streams is recorded as gateway_error/worker_died, and another worker is there."""
    gateway = await weir({"a": await provide(faults=Always(Held().script))})
    mine = client(gateway)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(mine.ask()) for _ in range(12)]
        await gateway.speaking(12)
        [dead] = await gateway.workers()
        os.kill(dead, signal.SIGKILL)
    died = time.monotonic()
    answers = [task.result() for task in tasks]
    assert all(a.broken and b"[DONE]" not in a.body for a in answers)
    pieces: list[float] = []
    late = asyncio.get_running_loop().create_task(client(gateway).ask(began=lambda: pieces.append(time.monotonic())))
    await eventually(lambda: pieces, "another worker serves")  # the goal is 2 s on an idle machine
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
    weir: Fixture, provide: Fixture, client: Fixture, eventually: Fixture
) -> None:
    """A worker's death touches no stream of another."""
    held = Held()
    gateway = await weir({"a": await provide(faults=Always(held.script))}, server={"workers": 2})

    async def two() -> list[int]:
        pids: list[int] = await gateway.workers()
        return pids if len(pids) == 2 else []

    dead, other = await eventually(two, "two workers")
    streams = asyncio.get_running_loop().create_task(client(gateway).many(40, 40, connection="close"))
    await gateway.speaking(40)
    os.kill(dead, signal.SIGKILL)
    held.release()
    answers = await streams
    rows = {row["stream_id"]: row for row in await gateway.told(40)}
    for answer in answers:
        outcome = rows[answer.headers["x-weir-stream-id"]]["outcome"]
        assert (outcome, answer.broken) in {("completed", False), ("gateway_error", True)}
        assert answer.broken or answer.body in held.bodies
    assert {a.broken for a in answers} == {True, False}
    assert other in await gateway.workers()
