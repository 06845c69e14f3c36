"""The story of a realtime session that an operator ends: over the admin API, through the recorder, in the worker that carries it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import httpx
import pytest
from aiohttp import WSMsgType, web

Fixture = Callable[..., Any]


class Voice:
    """A realtime server that says hello, goes on listening, and keeps how its sessions end."""

    def __init__(self) -> None:
        self.closes: list[tuple[int | None, str]] = []

    async def start(self) -> "Voice":
        app = web.Application()
        app.router.add_get("/v1/realtime", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.base_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        ws = web.WebSocketResponse(autoclose=False)
        await ws.prepare(request)
        await ws.send_str('{"type":"session.created"}')
        while (message := await ws.receive()).type is WSMsgType.TEXT:
            await ws.send_str(message.data)
        self.closes.append((message.data, message.extra or ""))
        await ws.close()
        return ws

    async def close(self) -> None:
        await self._runner.cleanup()


@pytest.fixture
async def voice() -> AsyncIterator[Voice]:
    server = await Voice().start()
    yield server
    await server.close()


async def test_an_operator_ends_a_realtime_session(weir: Fixture, voice: Voice, eventually: Fixture) -> None:
    """Both sides hear 1001 and why; it is one row and one count of `operator_abort`, no fault of its target, and gone afterwards."""
    gateway = await weir({"a": voice})
    async with aiohttp.ClientSession() as session, httpx.AsyncClient(base_url=gateway.admin_url) as admin:
        ws = await session.ws_connect(f"{gateway.url}/v1/realtime?model=m", autoclose=False)
        assert (await ws.receive()).data == '{"type":"session.created"}'
        [row] = await eventually(gateway.streams, "the session is live")
        await ws.send_str("still there?")
        assert (await ws.receive()).data == "still there?"
        door = f"/api/streams/{row['stream_id']}/abort"
        assert (await admin.post(door, headers={"Content-Type": "application/json"})).status_code == 202
        async with asyncio.timeout(20):
            last = await ws.receive()
        assert (last.type, last.data, last.extra) == (WSMsgType.CLOSE, 1001, "an operator has stopped this stream")
        await ws.close()
        await eventually(lambda: voice.closes, "the upstream is told")
        assert voice.closes == [(1001, "an operator has stopped this stream")]
        [ended] = await gateway.told(1)
        assert ended["outcome"] == "operator_abort"
        detail = await gateway.ask(f"/api/streams/{row['stream_id']}")
        assert (detail["operation"], detail["status"], detail["error"]) == ("realtime", 101, "operator_abort")
        assert (detail["voice"]["closed_by"], detail["attempts"][0]["outcome"]) == ("gateway", "won")
        assert (await admin.post(door, headers={"Content-Type": "application/json"})).status_code == 404
        scrape = await gateway.scrape()
        assert scrape.sum("weir_streams_total", outcome="operator_abort") == 1
        assert set(scrape.all("weir_streams_active")) == {0.0}
