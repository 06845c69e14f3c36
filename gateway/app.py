"""Puts a worker together: the HTTP server in front, the plane behind it, the link to the recorder; starts it, pulses, drains, ends."""

import asyncio
import gc
import logging
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Sequence

import uvloop
from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpProcessingError, RawRequestMessage

from gateway.config import Config
from gateway.core.errors import Stopped
from gateway.core.messages import Begun, Pulse
from gateway.dialects import DIALECTS
from gateway.dialects.base import Dialect
from gateway.proxy.doors import JSON, Doors, Params, Serve
from gateway.proxy.handler import Handler
from gateway.proxy.neighbours import Bell, Neighbours
from gateway.proxy.plane import Plane
from gateway.proxy.realtime import PATH, Realtime
from gateway.proxy.rejoin import PATH as STREAMS
from gateway.proxy.rejoin import Rejoin, for_neighbours
from gateway.telemetry.link import Link, SocketLink

log = logging.getLogger("weir.worker")
http_log = logging.getLogger("weir.http")
PULSE_SECONDS = 1.0
FLUSH_SECONDS = 2.0
BACKLOG = 4096
GC_THRESHOLD = 20_000
"""Young objects before a collection: a stream makes a few hundred and frees them itself, so Python's 700 would only cost (7 % of CPU)."""


MARKS = {"anthropic": ("anthropic-version",), "gemini": ("x-goog-api-key", "x-goog-api-client")}
"""Headers by which clients of a dialect are known on a path that several share."""


class SendersFault(logging.Filter):
    """Keeps calls that are no HTTP out of the log: aiohttp would tell them as our errors, with the client's bytes, keys included."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError | web.RequestPayloadError))


SENDERS_FAULT = SendersFault()


class Worker:
    """One event loop's worth of gateway, listening on a socket that is already bound.

    Embedders and tests run it in their own loop with a `DirectLink`; `weir serve` runs one per process.
    """

    def __init__(self, config: Config, link: Link, neighbours: Neighbours | None = None) -> None:
        self.config, self._link, self._neighbours = config, link, neighbours
        self.plane = Plane(config, link.send, number=neighbours.number if neighbours is not None else 0)
        self._runner: web.ServerRunner | None = None
        self._inner: web.ServerRunner | None = None
        self._pulse: asyncio.TimerHandle | None = None
        self._swept = 0.0

    async def start(self, listener: socket.socket) -> None:
        """Serve on `listener` until `close`."""
        http_log.addFilter(SENDERS_FAULT)
        self._runner = web.ServerRunner(self._server(data_plane(self.plane, self._neighbours)), shutdown_timeout=1)
        await self._runner.setup()
        await web.SockSite(self._runner, listener, backlog=BACKLOG).start()
        if self._neighbours is not None:
            server = self._server(for_neighbours(self.plane))
            self._inner = web.ServerRunner(server, shutdown_timeout=1)
            await self._inner.setup()
            self._neighbours.start(server)
        self.plane.start()
        self._beat()

    def _server(self, serve: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> web.Server:
        return web.Server(
            serve,
            request_factory=self._request,
            handler_cancellation=True,
            access_log=None,
            logger=http_log,
            keepalive_timeout=75,
        )

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        limit = self.config.server.max_body
        return web.BaseRequest(message, payload, protocol, writer, task, task.get_loop(), client_max_size=limit)

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
        for live in plane.live.values():
            live.drain(plane.clock())
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
        if self._neighbours is not None:
            self._neighbours.close()
        for runner in (self._runner, self._inner):
            if runner is not None:
                await runner.cleanup()
        self.plane.close()


def data_plane(plane: Plane, neighbours: Neighbours | None = None) -> Doors:
    """Return the doors of the data plane: every endpoint of every dialect, its lists of models, the way back, and worker health."""
    doors = Doors(DIALECTS)
    lists: dict[str, list[Dialect]] = {}
    for dialect in DIALECTS.values():
        for endpoint in dialect.endpoints:
            doors.add(endpoint.method, endpoint.path, Handler(plane, dialect, endpoint))
        for path, answer in dialect.facts.items():
            doors.add("GET", path, fact(answer))
        for path in dialect.models_paths:
            lists.setdefault(path, []).append(dialect)
    started = int(time.time())  # noqa: TID251  the model list wants a date of creation
    for path, speakers in lists.items():
        doors.add("GET", path, models(plane, speakers, started))

    doors.add("GET", PATH, Realtime(plane))
    doors.add("GET", STREAMS, Rejoin(plane, neighbours))

    async def livez(_: web.BaseRequest, __: Params) -> web.Response:
        return web.json_response({"status": "alive"})

    async def readyz(_: web.BaseRequest, __: Params) -> web.Response:
        return web.json_response({"status": "draining" if plane.stopping else "ready"}, status=503 if plane.stopping else 200)

    doors.add("GET", "/livez", livez)
    doors.add("GET", "/readyz", readyz)
    return doors


def fact(answer: bytes) -> Serve:
    """Return what always answers the same."""

    async def serve(_: web.BaseRequest, __: Params) -> web.Response:
        return web.Response(body=answer, headers=JSON)

    return serve


def models(plane: Plane, dialects: Sequence[Dialect], started: int) -> Serve:
    """Return what lists the models at a path; where dialects share it, a client is known by what it always sends."""

    async def serve(request: web.BaseRequest, _: Params) -> web.Response:
        known = (dialect for dialect in dialects if any(mark in request.headers for mark in MARKS.get(dialect.name, ())))
        dialect = next(known, dialects[0])
        return web.Response(body=dialect.models_document(plane.config.model_names(), started), headers=JSON)

    return serve


def run_worker(config: Config, listener: socket.socket, link_socket: socket.socket, bells: Sequence[Bell] = (), number: int = 0) -> None:
    """The main of a worker process: serves until SIGTERM, then drains and leaves. `bells` are those of all workers, it is `number`."""
    uvloop.run(_serve(config, listener, link_socket, Neighbours(bells, number) if bells else None))


async def _serve(config: Config, listener: socket.socket, link_socket: socket.socket, neighbours: Neighbours | None) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    link = SocketLink(link_socket, lambda: worker.live())  # noqa: PLW0108  the worker comes into being after its link
    worker = Worker(config, link, neighbours)
    link.start()
    await worker.start(listener)
    gc.freeze()  # what start-up made lives as long as the process: never look at it again
    gc.set_threshold(GC_THRESHOLD, 20, 50)
    await stop.wait()
    await worker.drain(config.server.drain)
    await worker.close()
    await link.close(FLUSH_SECONDS)
