"""What holds for every door and every worker: no endpoint outside the matrix, one set of figures however many processes there are."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.app import data_plane
from gateway.dialects import DIALECTS
from gateway.proxy.realtime import PATH as REALTIME
from gateway.sim.steps import Hang
from tests.faults.everywhere import opened
from tests.faults.scripts import fetch
from tests.faults.tongues import TONGUES
from tests.rig.client import Client
from tests.stories.conftest import Weir, eventually, routes

FEEDBACK = "/v1/feedback"
"""What people think of a stream: no call to a model."""
NO_CALLS = {"/livez", "/readyz", "/v1/streams/{id}"}
"""Doors that take no call of any dialect: health, and coming back to a stream that one of them began."""


async def test_no_door_outside_the_matrix(provide: Any, gate: Any) -> None:
    """Every path that takes a call belongs to a dialect, and every dialect is spoken by the matrix: a new one fails here first (G6)."""
    doors = data_plane((await gate(await provide())).plane)
    templates = {pattern.pattern: methods for pattern, methods in doors._templates}
    opened_doors = {path: set(methods) for path, methods in doors._plain.items()}
    known = {endpoint.path for dialect in DIALECTS.values() for endpoint in dialect.endpoints}
    asked = NO_CALLS | {REALTIME} | {path for dialect in DIALECTS.values() for path in (*dialect.models_paths, *dialect.facts)}
    assert {path for path, methods in opened_doors.items() if "POST" in methods} == known | {FEEDBACK}
    assert {path for path, methods in opened_doors.items() if "GET" in methods} == asked
    assert all(any(methods is plain for plain in doors._plain.values()) for methods in templates.values())
    assert set(TONGUES) == set(DIALECTS)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_each_dialect_is_served_alike(provide: Any, gate: Any, dialect: str) -> None:
    """The headers that say who served a stream, and where to look for it, are on the answers of every dialect (G6 B12)."""
    tongue = TONGUES[dialect]
    weir = await gate(await provide(opened(tongue, tongue.token("one"), tongue.proper)), dialects=[dialect])
    client = await fetch(weir, tongue)
    record = await weir.record()
    told = {name: client.headers[f"x-weir-{name}"] for name in ("stream-id", "route", "upstream", "attempts")}
    assert told == {"stream-id": record.stream_id, "route": "chat", "upstream": "a", "attempts": "1"}
    assert {"traceresponse", "server-timing", "x-accel-buffering", "cache-control"} <= set(client.headers)


@pytest.fixture
async def program(tmp_path: Path, world: list[Any]) -> AsyncIterator[Callable[..., Any]]:
    """Start `weir serve` with so many workers before these providers; at the end, end all of it."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(workers: int, **providers: Any) -> Weir:
            config = routes({name: provider.base_url for name, provider in providers.items()}, server={"workers": workers})
            (tmp_path / "routes.yaml").write_bytes(orjson.dumps(config))
            weir = Weir(tmp_path, ["serve", "-c", "routes.yaml"], {})
            stack.push_async_callback(weir.finish)
            await weir.listening()
            await eventually(lambda: heard(weir, workers), f"{workers} workers are heard of")
            return weir

        yield start


async def heard(weir: Weir, workers: int) -> list[int]:
    """Return the workers' pids once there are so many, and nothing until then."""
    pids = await weir.workers()
    return pids if len(set(pids)) == workers else []


async def ask(weir: Weir, request: bytes) -> Client:
    _, client = await asyncio.get_running_loop().create_connection(Client, *weir.address)
    return client.ask(request)


@pytest.mark.parametrize("workers", [2, 4])
async def test_the_figures_of_all_workers_are_one(provide: Any, program: Any, workers: int) -> None:
    """Every scrape has all streams of all workers; a killed one's gauges go, its streams are counted as lost, none twice (G3)."""
    tongue = TONGUES["openai"]
    weir = await program(workers, a=await provide(opened(tongue, tongue.token("one"), Hang())))
    clients = [await ask(weir, tongue.request()) for _ in range(16)]
    for client in clients:
        await client.saw(tongue.token("one"))

    async def active(count: int) -> bool:
        return bool((await weir.scrape()).sum("weir_streams_active") == count)

    await eventually(lambda: active(16), "16 streams are active")
    assert {(await weir.scrape()).sum("weir_streams_active") for _ in range(10)} == {16}
    [dead, *_] = await weir.workers()
    os.kill(dead, signal.SIGKILL)
    await eventually(lambda: anew(weir, workers, dead), "another worker stands in for the dead one")
    lost = sum(client.ended is not None for client in clients)
    await eventually(lambda: active(16 - lost), "the dead worker's streams are gone from the gauges")
    for client in clients:
        client.reset() if client.ended is None else None
    rows = await weir.told(16)
    ends = [row["outcome"] for row in rows]
    assert (ends.count("gateway_error"), ends.count("client_disconnect")) == (lost, 16 - lost)
    assert {(await weir.scrape()).sum("weir_streams_total") for _ in range(5)} == {16}
    assert len({sample.labels["worker"] for sample in (await weir.scrape()).samples if sample.name == "weir_loop_lag_seconds"}) == workers


async def anew(weir: Weir, workers: int, dead: int) -> bool:
    """Tell whether there are as many workers as before, the dead one not among them."""
    pids = await heard(weir, workers)
    return bool(pids) and dead not in pids
