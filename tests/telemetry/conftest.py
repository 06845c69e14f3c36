"""Records, configs, an OTLP receiver and a socketpair for the tests of the recorder's plane."""

import gzip
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from gateway.config import Config, parse
from gateway.core.events import Usage
from gateway.core.record import Attempt, Cadence, StreamRecord

ROUTES = """
version: 1
upstreams:
  fast: {{base_url: "http://127.0.0.1:1/v1"}}
  slow: {{base_url: "http://127.0.0.1:2/v1"}}
routes:
  - name: chat
    match: {{models: [gpt-4o-mini, "gpt-4o*"]}}
    targets: [{{upstream: fast, model: gpt-4o-mini}}, {{upstream: slow, model: tiny}}]
    stall: {{threshold: 1500ms}}
    slo: {{ttft: 700ms}}
telemetry: {{otlp: {otlp}, store: {{path: "{store}"}}, access_log: {log}}}
"""


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., Config]:
    """Return configs with one route of two upstreams; no store and no access log unless asked for."""

    def make(*, otlp: str = "{}", store: str = "off", log: str = "off") -> Config:
        return parse(ROUTES.format(otlp=otlp, store=store, log=log))

    return make


@pytest.fixture
def make_record() -> Callable[..., StreamRecord]:
    """Return records of a completed stream of five tokens; keywords replace fields."""

    def make(number: int = 1, **changes: Any) -> StreamRecord:
        attempt = Attempt(
            upstream="fast", model="gpt-4o-mini", why="first", provider="openai", address="127.0.0.1", port=1, dialed_at=100.01,
            sent_at=100.05, headers_at=100.2, first_event_at=100.25, first_token_at=100.3, ended_at=102.0, status=200, outcome="won",
        )  # fmt: skip
        fields: dict[str, Any] = {
            "stream_id": f"stream-{number}", "trace_id": f"{number:032x}", "span_id": f"{number:016x}", "parent_id": "00000000000000aa",
            "dialect": "openai", "route": "chat", "asked_model": "gpt-4o-mini", "served_model": "gpt-4o-mini", "response_id": "chatcmpl-1",
            "streamed": True, "temperature": 0.5, "received_unix": datetime.now(UTC).timestamp(), "received_at": 100.0,
            "committed_at": 100.3, "first_write_at": 100.3, "first_byte_at": 100.2, "first_event_at": 100.25, "first_token_at": 100.3,
            "first_answer_at": 100.4, "last_token_at": 101.9, "ended_at": 102.0,
            "attempts": [attempt], "outcome": "completed", "status": 200, "finish": ["stop"],
            "usage": Usage(input=10, output=5, cached=4), "bytes": 900,
            "seconds": {"queue": 0.01, "connect": 0.04, "upstream_wait": 1.9, "gateway": 0.03, "client_blocked": 0.02, "guard_held": 0.0},
            "cadence": Cadence(chunks=5, arrivals=5, gaps=[(0.02, 1), (0.04, 3)], gap_sum=0.12, gap_p50=0.03, gap_p95=0.04, gap_max=0.04),
        }  # fmt: skip
        return StreamRecord(**{**fields, **changes})

    return make


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The socketpair of one worker slot: (worker's end, recorder's end)."""
    worker, recorder = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    yield worker, recorder
    worker.close()
    recorder.close()


class Receiver:
    """An OTLP/HTTP collector that keeps what it was sent; while `status` is not 200 it refuses."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resources: list[Any] = []
        self.metrics: list[ExportMetricsServiceRequest] = []
        self.headers: list[Any] = []
        self.status = 200
        self.url = ""

    async def traces(self, request: web.Request) -> web.Response:
        self.headers.append(request.headers)
        if self.status == 200:
            sent = ExportTraceServiceRequest.FromString(_plain(await request.read(), request))
            self.resources += sent.resource_spans
            self.spans += [span for resource in sent.resource_spans for scope in resource.scope_spans for span in scope.spans]
        return web.Response(status=self.status)

    async def pushes(self, request: web.Request) -> web.Response:
        self.metrics.append(ExportMetricsServiceRequest.FromString(_plain(await request.read(), request)))
        return web.Response()


def _plain(body: bytes, request: web.Request) -> bytes:
    return gzip.decompress(body) if request.headers.get("Content-Encoding") == "gzip" else body


@pytest.fixture
async def collector() -> AsyncIterator[Receiver]:
    """A collector on a free port of 127.0.0.1."""
    receiver = Receiver()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/v1/traces", receiver.traces)
    app.router.add_post("/v1/metrics", receiver.pushes)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield receiver
    await runner.cleanup()
