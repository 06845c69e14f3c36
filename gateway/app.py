"""Puts a worker together: the HTTP server in front, the plane behind it, the link to the recorder; starts it, pulses, drains, ends."""

import asyncio
import gc
import logging
import os
import signal
import socket
import time

import uvloop
from aiohttp import web
from aiohttp.http import HttpProcessingError

from gateway.config import Config
from gateway.core.errors import GatewayError, Rejected, Stopped
from gateway.core.messages import Begun, Pulse
from gateway.dialects import DIALECTS
from gateway.dialects.base import Dialect
from gateway.proxy.handler import JSON, Handler
from gateway.proxy.plane import Plane
from gateway.telemetry.link import Link, SocketLink

log = logging.getLogger("weir.worker")
http_log = logging.getLogger("weir.http")
PULSE_SECONDS = 1.0
FLUSH_SECONDS = 2.0
BACKLOG = 4096
GC_THRESHOLD = 20_000
"""Young objects before a collection: a stream makes a few hundred and frees them itself, so Python's 700 would only cost (7 % of CPU)."""


class SendersFault(logging.Filter):
    """Keeps calls that are no HTTP out of the log: aiohttp would tell them as our errors, with the client's bytes, keys included."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError | web.RequestPayloadError))


SENDERS_FAULT = SendersFault()


class Worker:
    """One event loop's worth of gateway, listening on a socket that is already bound.

    Embedders and tests run it in their own loop with a `DirectLink`; `weir serve` runs one per process.
    """

    def __init__(self, config: Config, link: Link) -> None:
        self.config, self._link = config, link
        self.plane = Plane(config, link.send)
        self._runner: web.AppRunner | None = None
        self._pulse: asyncio.TimerHandle | None = None
        self._swept = 0.0

    async def start(self, listener: socket.socket) -> None:
        """Serve on `listener` until `close`."""
        app = application(self.plane)
        http_log.addFilter(SENDERS_FAULT)
        self._runner = web.AppRunner(
            app, access_log=None, logger=http_log, handler_cancellation=True, keepalive_timeout=75, shutdown_timeout=1
        )
        await self._runner.setup()
        await web.SockSite(self._runner, listener, backlog=BACKLOG).start()
        self.plane.start()
        self._beat()

    def _beat(self) -> None:
        """Tell the recorder, once a second, that this worker is alive and what it thinks of its targets."""
        plane, now = self.plane, self.plane.clock()
        for pool in plane.pools.values():
            pool.sweep(now)
        targets = plane.health.snapshot(now)
        self._link.send(
            Pulse(os.getpid(), now, len(plane.live), plane.lag.take_worst(), plane.oldest_gap(now), dict(self._link.dropped), targets)
        )
        self._pulse = asyncio.get_running_loop().call_later(PULSE_SECONDS, self._beat)

    def live(self) -> list[Begun]:
        """Every stream that lives now, for a recorder that has just been born."""
        return [Begun(live.record, live.state) for live in self.plane.live.values()]

    async def drain(self, seconds: float) -> None:
        """Take no new calls; let streams run on for `seconds`, then end each in its dialect's own words."""
        plane = self.plane
        plane.stopping = True
        await plane.emptied(seconds)
        for live in tuple(plane.live.values()):
            live.end_early(Stopped("the gateway is shutting down"))
        await plane.emptied(FLUSH_SECONDS)

    async def close(self) -> None:
        """Stop serving; streams that were not drained are ended as by a drain of no length. May be called twice."""
        if self.plane.live and not self.plane.stopping:
            await self.drain(0.0)
        if self._pulse is not None:
            self._pulse.cancel()
        if self._runner is not None:
            await self._runner.cleanup()
        self.plane.close()


def application(plane: Plane) -> web.Application:
    """Return the data plane's HTTP application: every endpoint of every dialect, the list of models, and worker health."""
    app = web.Application(client_max_size=plane.config.server.max_body)
    for dialect in DIALECTS.values():
        for endpoint in dialect.endpoints:
            handler = Handler(plane, dialect, endpoint)
            app.router.add_route(endpoint.method, endpoint.path, handler.__call__)  # aiohttp wants a coroutine function
    started = int(time.time())  # noqa: TID251  the model list wants a date of creation
    openai = DIALECTS["openai"]

    async def models(_: web.Request) -> web.Response:
        return web.Response(body=openai.models_document(plane.config.model_names(), started), headers=JSON)

    async def livez(_: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def readyz(_: web.Request) -> web.Response:
        return web.json_response({"status": "draining" if plane.stopping else "ready"}, status=503 if plane.stopping else 200)

    app.router.add_get("/v1/models", models)
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_route("*", "/{path:.*}", unknown_path(openai))
    return app


def unknown_path(dialect: Dialect) -> "web.Handler":  # type: ignore[name-defined]
    """Return a handler that says, in words an SDK can show, that there is nothing here."""
    known = {endpoint.path: endpoint.method for endpoint in dialect.endpoints}

    async def handle(request: web.Request) -> web.Response:
        error: GatewayError = Rejected(f"there is no {request.path[:200]} here", code="not_found", status=404)
        headers = JSON
        if method := known.get(request.path):
            error = Rejected(f"{request.path} takes {method}", code="method_not_allowed", status=405)
            headers = {**JSON, "Allow": method}
        return web.Response(status=error.status, body=dialect.error_body(error), headers=headers)

    return handle


def run_worker(config: Config, listener: socket.socket, link_socket: socket.socket) -> None:
    """The main of a worker process: serves until SIGTERM, then drains and leaves."""
    uvloop.run(_serve(config, listener, link_socket))


async def _serve(config: Config, listener: socket.socket, link_socket: socket.socket) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    link = SocketLink(link_socket, lambda: worker.live())  # noqa: PLW0108  the worker comes into being after its link
    worker = Worker(config, link)
    link.start()
    await worker.start(listener)
    gc.freeze()  # what start-up made lives as long as the process: never look at it again
    gc.set_threshold(GC_THRESHOLD, 20, 50)
    await stop.wait()
    await worker.drain(config.server.drain)
    await worker.close()
    await link.close(FLUSH_SECONDS)
