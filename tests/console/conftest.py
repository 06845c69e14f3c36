"""A recorder with one live and some ended streams behind a real admin listener."""

import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web

from gateway.config import Config, parse
from gateway.console.api import admin_app
from gateway.core.events import Usage
from gateway.core.record import Attempt, Cadence, StreamRecord
from gateway.telemetry.recorder import Recorder

ROUTES = """
version: 1
admin: {{token: "{token}"}}
upstreams: {{fast: {{base_url: "http://127.0.0.1:1/v1"}}}}
routes:
  - {{name: chat, match: {{models: ["*"]}}, targets: [{{upstream: fast, model: tiny}}], slo: {{ttft: 250ms}}}}
telemetry: {{store: {{path: "{store}"}}, access_log: off}}
"""


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., Config]:
    def make(token: str = "") -> Config:
        return parse(ROUTES.format(token=token, store=tmp_path / "weir.db"))

    return make


@pytest.fixture
def make_record() -> Callable[..., StreamRecord]:
    """Return records of streams received now, ended unless `ended_at` is None."""

    def make(number: int = 1, **changes: Any) -> StreamRecord:
        now = time.monotonic()
        attempt = Attempt(
            upstream="fast", model="tiny", why="first", dialed_at=now, sent_at=now + 0.1, first_token_at=now + 0.3, outcome="won"
        )
        fields: dict[str, Any] = {
            "stream_id": f"stream-{number}",
            "trace_id": f"{number % 3:032x}",
            "span_id": f"{number:016x}",
            "route": "chat",
            "asked_model": "tiny",
            "streamed": True,
            "outcome": "completed",
            "status": 200,
            "attempts": [attempt],
            "received_unix": datetime.now(UTC).timestamp() - 100 + number,
            "received_at": now,
            "ended_at": now + 1,
            "first_token_at": now + 0.3,
            "usage": Usage(10, 5),
            "cadence": Cadence(chunks=5, gaps=[(0.02, 3), (float("inf"), 1)]),
        }
        return StreamRecord(**{**fields, **changes})

    return make


Served = tuple[Recorder, ClientSession]


@pytest.fixture
async def serve(make_config: Callable[..., Config]) -> AsyncIterator[Callable[..., Awaitable[Served]]]:
    """Return a function that starts a recorder and its admin listener, and a session that talks to it."""
    closing: list[Callable[[], Awaitable[None]]] = []

    async def start(token: str = "") -> Served:
        recorder = Recorder(make_config(token))
        await recorder.start()
        runner = web.AppRunner(admin_app(recorder), access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        sock = socket.create_server(("127.0.0.1", 0))
        await web.SockSite(runner, sock).start()
        session = ClientSession(f"http://127.0.0.1:{sock.getsockname()[1]}")
        closing.extend((session.close, runner.cleanup, recorder.close))
        return recorder, session

    yield start
    for close in closing:
        await close()
