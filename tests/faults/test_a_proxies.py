"""A8d: the shipped nginx configuration, run in front of a worker, hands each frame on as it comes and lets a client's leaving through."""

import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gateway.core.prompt import Prompt, Text, Turn
from gateway.sim import nginx
from gateway.sim.faults import NeverEnding, Silent, Truncate
from gateway.sim.tempers import Temper
from tests.rig.client import Client
from tests.rig.makers import Makers

SHIPPED = Path(__file__).parents[2] / "deploy" / "proxies" / "nginx.conf"
HELLO = Prompt(model="m", stream=True, turns=(Turn("user", (Text("hello"),)),), max_tokens=100)
FRAMES, GAP = 40, 0.02
TRIES = 4
"""How often a machine that is busy with something else may gather frames that a proxy did not."""
MAIN = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; {user}
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  include {folder}/weir.conf;
}}
"""
Front = Callable[..., Awaitable[Client]]


@pytest.fixture
def program() -> str:
    """nginx, which CI must have."""
    found = nginx.find()
    if found is None:
        assert not os.environ.get("CI"), "CI has nginx; see .ci/run"
        pytest.skip("nginx is not installed")
    return found


@pytest.fixture
async def front(program: str, tmp_path: Path, until: Any) -> AsyncIterator[Front]:
    """Run the shipped file in front of a gate, with `changes` to its text, and connect a client to it."""
    running: list[subprocess.Popen[bytes]] = []

    async def start(gate: Any, changes: dict[str, str] | None = None) -> Client:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        text = SHIPPED.read_text()
        for old, new in ({"127.0.0.1:8000": f"127.0.0.1:{port}", "127.0.0.1:8080": f"127.0.0.1:{gate.port}"} | (changes or {})).items():
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "weir.conf").write_text(text)
        (tmp_path / "nginx.conf").write_text(MAIN.format(folder=tmp_path, user="user root;" if os.geteuid() == 0 else ""))
        flags = ["-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), "-e", str(tmp_path / "error.log")]
        running.append(subprocess.Popen([program, *flags], stdin=subprocess.DEVNULL))  # noqa: ASYNC220 - it takes no time
        await until(lambda: listens(port), "nginx listens")
        _, client = await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", port)
        gate.clients.append(client)
        return client

    yield start
    for process in running:
        process.terminate()
        await asyncio.to_thread(process.wait, 10)
        assert process.returncode == 0, (tmp_path / "error.log").read_text()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def apart(client: Client, end: bytes) -> float:
    """Return the share of frames that came in a read of their own, at least a quarter of the pause after the one before."""
    times: list[float] = []
    for at, data in client.pieces:
        times += [at] * data.count(end)
    assert len(times) >= FRAMES
    return sum(later - earlier > GAP / 4 for earlier, later in pairwise(times)) / FRAMES


async def most_apart(client: Client, request: bytes, end: bytes) -> float:
    """Return the best share of a few answers: a proxy that buffers gathers the frames of every one."""
    shares: list[float] = []
    while len(shares) < TRIES and max(shares, default=0.0) <= 0.7:
        await client.ask(request).finish()
        assert (client.status, client.complete) == (200, True)
        shares.append(apart(client, end))
    return max(shares)


DIALECTS = {"openai": b"\n\n", "anthropic": b"\n\n", "ollama": b"\n"}
"""SSE with and without names of events, and NDJSON, with what ends a frame of each."""

BUFFERS = {"proxy_buffering off;": "proxy_buffering on;", "proxy_http_version 1.1;": "proxy_http_version 1.0;"}
"""What nginx does when it is not told otherwise."""


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_frames_come_one_by_one(provide: Any, gate: Any, front: Front, dialect: str) -> None:
    """Frames sent 20 ms apart reach the client 20 ms apart, not together, over SSE and NDJSON (A8d)."""
    provider = await provide(temper=Temper(ttft="10ms", gap=f"{GAP * 1000:g}ms", tokens=FRAMES))
    client = await front(await gate(provider, dialects=[dialect]))
    _, request = Makers.call(dialect, HELLO)
    assert await most_apart(client, request, DIALECTS[dialect]) > 0.7


async def test_the_measure_sees_a_proxy_that_buffers(provide: Any, gate: Any, front: Front) -> None:
    """With nginx's defaults in the same file the same frames come together: the test above would notice (A8d)."""
    provider = await provide(temper=Temper(ttft="10ms", gap=f"{GAP * 1000:g}ms", tokens=FRAMES))
    client = await front(await gate(provider), BUFFERS | {"proxy_cache off;": "proxy_ignore_headers X-Accel-Buffering;"})
    await client.ask(Makers.request()).finish()
    assert apart(client, b"\n\n") < 0.3


async def test_the_answers_own_header_is_enough(provide: Any, gate: Any, front: Front) -> None:
    """An nginx of somebody else's that buffers lets our streams through all the same: their head asks for it (A8a)."""
    provider = await provide(temper=Temper(ttft="10ms", gap=f"{GAP * 1000:g}ms", tokens=FRAMES))
    client = await front(await gate(provider), BUFFERS)
    assert await most_apart(client, Makers.request(), b"\n\n") > 0.7


@pytest.mark.parametrize("phase", [NeverEnding(), Silent()], ids=["streaming", "before headers"])
async def test_a_client_that_leaves_is_seen_to_leave(provide: Any, gate: Any, front: Front, until: Any, phase: Any) -> None:
    """Through the proxy too the upstream is closed and the record says client_disconnect (A8d B1)."""
    provider = await provide(phase)
    weir = await gate(provider)
    client = (await front(weir)).ask(Makers.request())
    await until(lambda: provider.total)
    if isinstance(phase, NeverEnding):
        await client.saw(b"content")
    client.reset()
    await until(lambda: provider.requests[-1].closed_by, "the upstream's connection is closed")
    assert provider.requests[-1].closed_by == "peer"
    assert (await weir.record()).outcome == "client_disconnect"


async def test_an_error_event_passes(provide: Any, gate: Any, front: Front) -> None:
    """The event that tells of a cut stream reaches the client, and the answer is whole as HTTP (A1a A8d)."""
    client = await front(await gate(await provide(Truncate())))
    await client.ask(Makers.request()).finish()
    assert b'"code":"connection_closed"' in client.body
    assert client.complete


class Echo:
    """A realtime server that says again what is said to it."""

    async def start(self) -> "Echo":
        self._runner = web.ServerRunner(web.Server(self._serve, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.base_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        session = web.WebSocketResponse(timeout=2)
        await session.prepare(request)
        async for message in session:
            await session.send_str(message.data)
        return session

    async def close(self) -> None:
        await self._runner.cleanup()


async def test_a_realtime_session_passes(world: list[Any], gate: Any, front: Front) -> None:
    """A WebSocket is upgraded through the proxy, and what either side says reaches the other (A8d G7)."""
    upstream = await Echo().start()
    world.append(upstream)
    weir = await gate(upstream)
    host, port = (await front(weir)).transport.get_extra_info("peername")
    async with aiohttp.ClientSession() as session, session.ws_connect(f"http://{host}:{port}/v1/realtime?model=m") as talk:
        for number in range(3):
            await talk.send_str(f'{{"type": "{number}"}}')
            assert (await talk.receive(timeout=10)).data == f'{{"type": "{number}"}}'
        assert await talk.close()
    assert (await weir.record()).operation == "realtime"
