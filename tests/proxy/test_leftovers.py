"""Answers that clients leave with us: who takes nothing of a short one is let go, who takes a little is not, and nobody else is touched."""

import asyncio
import time
from typing import Any

import pytest

from gateway.proxy import leftovers
from gateway.sim.faults import Script
from gateway.sim.steps import Hang
from tests.rig.rounds import judged_in_rounds

ALIVE = b"GET /livez HTTP/1.1\r\nHost: w\r\n\r\n"
MANY = 30_000
"""Calls whose answers are more than both sides' kernels and our buffer hold."""


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> float:
    """Seconds that a client has here."""
    monkeypatch.setattr(leftovers, "PATIENCE", 1.5)
    return 1.5


async def left_behind(weir: Any, until: Any) -> Any:
    """A client that asks for much in short answers and reads none of them."""
    client = await weir.client(buffer=4096)
    client.transport.pause_reading()
    client.ask(ALIVE * MANY)
    await until(lambda: held(weir), "bytes are left with us")
    return client


def held(weir: Any) -> int:
    """Count the connections with bytes that wait in our buffers."""
    return sum(bool(transport.get_write_buffer_size()) for transport in weir.worker._front._connections.values())


async def test_who_never_reads_short_answers_is_let_go(provide: Any, gate: Any, until: Any, patience: float) -> None:
    """Nobody waits for ever in a pipeline of answers that its client does not take."""
    weir = await gate(await provide())
    idle = await (await weir.client()).ask(ALIVE).finish()
    started = time.monotonic()
    client = await left_behind(weir, until)
    await until(lambda: len(weir.worker._front.connections) == 1, "its connection is closed")
    assert time.monotonic() - started > patience
    client.transport.abort()
    await idle.ask(ALIVE).finish()  # one that has taken all it was sent is not touched
    assert idle.status == 200


@judged_in_rounds
async def test_who_reads_slowly_gets_all(provide: Any, gate: Any, until: Any, patience: float) -> None:
    """A little now and then is enough."""
    weir = await gate(await provide())
    client = await left_behind(weir, until)
    started = time.monotonic()
    while time.monotonic() - started < 3 * patience:
        had = len(client.raw)
        client.transport.resume_reading()
        await client.until(lambda had=had: len(client.raw) > had)
        client.transport.pause_reading()
        await asyncio.sleep(0.3)
    assert held(weir)
    client.transport.resume_reading()
    await client.until(lambda: client.raw.endswith(b'"alive"}'), 30.0)
    await until(lambda: not held(weir), "nothing is left")
    assert client.ended is None


async def test_the_head_of_a_connection_that_closes(provide: Any, gate: Any, make: Any, until: Any, patience: float) -> None:
    """What is left when a connection closes is waited for no longer than anything else."""
    weir = await gate(await provide())
    client = await weir.client(buffer=4096)
    client.transport.pause_reading()
    client.ask(ALIVE * MANY + b"GET /livez HTTP/1.1\r\nHost: w\r\nConnection: close\r\n\r\n")
    await until(lambda: held(weir), "bytes are left with us")
    [connection] = weir.worker._front.connections
    connection.force_close()
    assert connection.transport is None
    await until(lambda: not weir.worker._front.connections, "it is gone")


async def test_a_stream_has_its_own_watch(provide: Any, gate: Any, make: Any, until: Any, patience: float) -> None:
    """Its route says how long a client may take nothing; what is said here of other answers does not cut it short."""
    pieces = [make.event("x" * 20_000) for _ in range(150)]
    weir = await gate(await provide(make.chunked(make.event(), *pieces, Hang())), client={"write_timeout": "60s"})
    client = await weir.client(buffer=4096)
    client.transport.pause_reading()
    client.ask(make.request())
    await until(lambda: any(live.ledger.owner == "client_blocked" for live in weir.plane.live.values()), "the client is waited for")
    await asyncio.sleep(2 * patience + 1.0)
    assert (client.ended, len(weir.plane.live)) == (None, 1)
    client.transport.resume_reading()
    await client.until(lambda: len(client.body) >= 150 * 20_000)


@pytest.mark.parametrize("reads", [False, True])
async def test_a_worker_that_retires_is_not_held(
    provide: Any, gate: Any, until: Any, patience: float, monkeypatch: pytest.MonkeyPatch, reads: bool
) -> None:
    """It leaves although a client takes nothing of what is left for it, or next to nothing for ever (B9)."""
    monkeypatch.setattr(leftovers, "LEAVE_TAKING", 2.0)
    weir = await gate(await provide(Script(())))
    client = await left_behind(weir, until)
    retiring = asyncio.get_running_loop().create_task(weir.worker.retire())
    deadline = time.monotonic() + 10.0
    while not retiring.done():
        assert time.monotonic() < deadline
        if reads and client.ended is None:
            client.transport.resume_reading()
            await asyncio.sleep(0)
            client.transport.pause_reading()
        await asyncio.sleep(0.7)
    await retiring
