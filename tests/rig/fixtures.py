"""One worker in this process between simulated providers and raw clients; at the end of every test its books must balance."""

import asyncio
import contextlib
import gc
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop
from blockbuster import blockbuster_ctx

from gateway.config import Config
from gateway.sim.faults import NO_FAULTS, Always, Fault, FaultScript
from gateway.sim.provider import Provider
from gateway.sim.tempers import INSTANT, Temper
from tests.rig.client import Client, wait_until
from tests.rig.gate import Gate
from tests.rig.makers import Makers

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run on uvloop, as `weir serve` does; a module with `LOOPS = "both"` also on asyncio's own loop, as an embedder may."""
    both = getattr(getattr(item, "module", None), "LOOPS", "") == "both"
    return LOOPS if both else {"uvloop": LOOPS["uvloop"]}


@pytest.fixture(autouse=True)
def nothing_blocks() -> Iterator[None]:
    """A blocking call of ours in the loop fails the test."""
    with blockbuster_ctx("gateway"):
        yield


@pytest.fixture(autouse=True)
def nothing_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No test here may leave a word at WARNING or above: what streams do is told in records. One that must says `caplog.clear()`."""
    yield
    assert [r.getMessage() for r in caplog.get_records("call") if r.levelno >= logging.WARNING] == []


def open_sockets() -> int:
    """Count the sockets this process holds."""
    kinds = (os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.exists())  # noqa: PTH115 - what it says is no path
    return sum(kind.startswith("socket:") for kind in kinds)


@pytest.fixture
async def world() -> AsyncIterator[list[Any]]:
    """Everything started in a test: closed in order, gates first, and seen to leave no task and no socket behind."""
    started: list[Any] = []
    sockets = open_sockets()
    yield started
    async with contextlib.AsyncExitStack() as stack:
        for thing in started:
            stack.push_async_callback(thing.close)
    assert all((thing.open_streams, thing.connections) == (0, 0) for thing in started if isinstance(thing, Provider))
    await wait_until(lambda: open_sockets() <= sockets, "no socket is left", 5.0)
    await wait_until(lambda: asyncio.all_tasks() == {asyncio.current_task()}, "no task is left", 5.0)
    gc.collect(1)


@pytest.fixture
def provide(world: list[Any]) -> Callable[..., Any]:
    """Start a provider that says 3 tokens at once, or what `fault` makes of them; a fault may be a script of faults."""

    async def start(fault: Fault | FaultScript = NO_FAULTS, temper: Temper | None = None, **more: Any) -> Provider:
        script = Always(fault) if isinstance(fault, Fault) else fault
        provider = Provider(temper or msgspec.structs.replace(INSTANT, tokens=3), script, **more)
        world.append(provider)
        await provider.start()
        return provider

    return start


@pytest.fixture
def gate(world: list[Any]) -> Callable[..., Any]:
    """Start a worker before these providers: upstreams a, b, c ... in the order of a route that takes every model.

    They speak `dialects`, in that order, OpenAI's when none is said.

    Keywords replace parts of the route; `server` and `upstreams` (by name) parts of the rest.
    """

    async def start(*providers: Any, dialects: Sequence[str] = (), server: Any = None, upstreams: Any = None, **route: Any) -> Gate:
        names = "abcdefgh"[: len(providers)]
        urls = {name: {"base_url": getattr(p, "base_url", p)} for name, p in zip(names, providers, strict=True)}
        for name, provider, dialect in zip(names, providers, dialects, strict=False):
            urls[name] = {"base_url": provider.url(dialect), "dialect": dialect}
        told = {name: fields | (upstreams or {}).get(name, {}) for name, fields in urls.items()}
        targets = [{"upstream": name, "priority": rank} for rank, name in enumerate(names)]
        routes = [{"name": "chat", "policy": "priority", "targets": targets} | route]
        telemetry = {"store": {"path": "off"}, "access_log": "off"}
        config = Config.model_validate({"upstreams": told, "routes": routes, "server": server or {}, "telemetry": telemetry})
        gate = Gate(config)
        world.append(gate)
        return await gate.start()

    return start


@pytest.fixture
async def direct(world: list[Any]) -> Callable[..., Any]:
    """Ask a provider without a gateway between: what it sent is what a client must get."""

    async def fetch(provider: Provider, headers: Mapping[str, str] | None = None, request: bytes = b"", **body: Any) -> Client:
        _, client = await asyncio.get_running_loop().create_connection(Client, provider.host, provider.port)
        await client.ask(request or Makers.request(headers, **body)).finish()
        client.transport.abort()
        return client

    return fetch


@pytest.fixture
def full_backlog() -> Iterator[str]:
    """The base URL of a port where connecting takes for ever: its queue is full and nobody accepts."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(2)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(address)
        yield f"http://127.0.0.1:{address[1]}/v1"
        for sock in waiting:
            sock.close()


@pytest.fixture
def until() -> Callable[..., Any]:
    return wait_until


@pytest.fixture
def make() -> type[Makers]:
    return Makers
