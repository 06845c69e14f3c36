"""The parts of `weir demo`: its configuration, its ports, its providers and callers, its table. The whole is told in tests/stories."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

from gateway.sim import demo
from gateway.sim.load import Load

Fixture = Callable[..., Any]


@pytest.fixture
def reserved() -> Iterator[dict[str, socket.socket]]:
    """One reserved port for each of the demo's providers."""
    sockets = {name: demo._reserve() for name in demo.TEMPERS}
    yield sockets
    for sock in sockets.values():
        sock.close()


def close(gateway: Any) -> None:
    for sock in (*gateway.listeners, gateway.admin):
        sock.close()


def test_its_configuration_is_a_good_one(reserved: dict[str, socket.socket], tmp_path: Path) -> None:
    """Three targets, the fastest first token wins, a 2 s deadline: what the README promises to show."""
    config = demo._config(reserved, tmp_path, 0, 0)
    [route] = config.routes
    assert (route.policy, route.first_token.timeout, route.stall.threshold) == ("least-latency", 2.0, 1.0)
    assert [target.upstream for target in route.targets] == list(demo.TEMPERS)
    assert config.match(demo.MODEL, "openai", {}) is config.match("anything", "openai", {}) is route
    assert Path(config.telemetry.store.path).parent == tmp_path


def test_a_taken_port_is_replaced_by_a_free_one(reserved: dict[str, socket.socket], tmp_path: Path) -> None:
    """Whatever runs on 8080 already, the demo starts."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for data, admin in ((port, 0), (0, port)):
            gateway = demo._gateway(reserved, tmp_path, data, admin)
            assert f":{port}" not in gateway.url + gateway.admin_url
            close(gateway)


def test_a_wanted_port_is_taken_when_it_is_free(reserved: dict[str, socket.socket], tmp_path: Path) -> None:
    """The ports asked for are used when nobody has them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    gateway = demo._gateway(reserved, tmp_path, port, 0)
    assert gateway.url.endswith(f":{port}")
    close(gateway)


async def test_a_reserved_port_refuses_until_its_provider_lives(reserved: dict[str, socket.socket]) -> None:
    """A killed provider's port says no at once, so that calls go elsewhere without waiting; the next one takes the same port."""
    name, sock = "quick", reserved["quick"]
    host, port = sock.getsockname()
    for _ in range(2):
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(host, port)
        life = asyncio.get_running_loop().create_task(demo._provide(name, sock))
        try:
            async with asyncio.timeout(5), httpx.AsyncClient(trust_env=False) as http:
                while True:
                    try:
                        models = await http.get(f"http://{host}:{port}/v1/models")
                        break
                    except httpx.ConnectError:
                        await asyncio.sleep(0.01)
            assert demo.MODEL in models.text
            report = await Load(host=host, port=port, streams=2, model=demo.MODEL).run(total=4)
            assert report.deltas > 40
        finally:
            life.cancel()
            await asyncio.gather(life, return_exceptions=True)


def test_the_table_shows_live_and_ended_streams() -> None:
    """A stream without a first token yet, and one with brackets in its name, are rows like any other."""
    row = {
        "stream_id": "0123456789abcdef",
        "upstream": "quick",
        "state": "streaming",
        "outcome": None,
        "ttft": None,
        "chunks": 0,
        "stalls": 0,
        "attempts": 1,
    }
    console = Console(width=120, markup=False)
    with console.capture() as shown:
        console.print(
            demo._table([row, {**row, "upstream": "[bold]", "state": "ended", "outcome": "completed", "ttft": 0.0712, "stalls": 2}])
        )
    live, ended = [line for line in shown.get().splitlines() if "01234567" in line]
    assert "streaming" in live
    assert "[bold]" in ended
    assert "completed" in ended
    assert "71 ms" in ended
