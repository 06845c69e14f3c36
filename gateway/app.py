"""Puts a worker together: the HTTP server in front, the plane behind it, the link to the recorder; starts it, pulses, and ends it."""

import asyncio
import os
import socket
import time
from collections.abc import Sequence

from aiohttp import web

from gateway.config import Config
from gateway.core.errors import Aborted, Stopped
from gateway.core.messages import Abort, Begun, Follow, Pulse, Watching, WorkerState
from gateway.dialects import DIALECTS
from gateway.dialects.base import Dialect
from gateway.proxy.doors import JSON, Doors, Params, Serve
from gateway.proxy.edge import Front
from gateway.proxy.feedback import PATH as FEEDBACK
from gateway.proxy.feedback import Listener
from gateway.proxy.handler import Handler
from gateway.proxy.neighbours import Neighbours
from gateway.proxy.plane import Plane
from gateway.proxy.realtime import PATH, Realtime
from gateway.proxy.rejoin import PATH as STREAMS
from gateway.proxy.rejoin import Rejoin, for_neighbours
from gateway.proxy.reply import unread
from gateway.proxy.setup import Setup
from gateway.telemetry.link import Link

PULSE_SECONDS = 1.0
FLUSH_SECONDS = 2.0
BACKLOG = 4096
UNSENT = 256 * 1024
"""Bytes the kernel takes for a client beyond those on their way to it; left alone it takes megabytes that nobody may ever read."""
LOOK_EVERY = 0.1
IDLE_SECONDS = 3.0
"""How long a connection may be quiet before a retiring worker closes it: a client that goes on calling is told by then to go elsewhere."""


MARKS = {"anthropic": ("anthropic-version",), "gemini": ("x-goog-api-key", "x-goog-api-client")}
"""Headers by which clients of a dialect are known on a path that several share."""


class Worker:
    """One event loop's worth of gateway, listening on a socket that is already bound.

    Embedders and tests run it in their own loop with a `DirectLink`; `weir serve` runs one per process.
    """

    def __init__(self, config: Config, link: Link, neighbours: Neighbours | None = None) -> None:
        self._link, self._neighbours = link, neighbours
        self.plane = Plane(config, link.send, neighbours=neighbours)
        self._front: Front
        self._runner: web.ServerRunner | None = None
        self._inner: web.ServerRunner | None = None
        self._pulse: asyncio.TimerHandle | None = None

    @property
    def config(self) -> Config:
        """The newest configuration."""
        return self.plane.config

    @property
    def state(self) -> WorkerState:
        return "draining" if self.plane.stopping else "retiring" if self.plane.retiring else "serving"

    async def start(self, listener: socket.socket) -> None:
        """Serve on `listener` until `close`."""
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)  # every connection it accepts has it too
        self._front = Front(data_plane(self.plane), self.plane, DIALECTS["openai"])
        self._runner = web.ServerRunner(self._front, shutdown_timeout=1)
        await self._runner.setup()
        await web.SockSite(self._runner, listener, backlog=BACKLOG).start()
        if self._neighbours is not None:
            server = Front(for_neighbours(self.plane), self.plane, DIALECTS["openai"])
            self._inner = web.ServerRunner(server, shutdown_timeout=1)
            await self._inner.setup()
            self._neighbours.start(server)
        self.plane.start()
        self._beat()

    def _beat(self) -> None:
        """Tell the recorder, once a second, that this worker is alive and what it thinks of its targets."""
        plane, now = self.plane, self.plane.clock()
        plane.sweep(now)
        self._front.sweep()
        targets = plane.health.snapshot(now)
        lag, gap, dropped = plane.lag.take_worst(), plane.oldest_gap(now), dict(self._link.dropped)
        self._link.send(Pulse(os.getpid(), now, len(plane.live), lag, gap, dropped, targets, plane.setup.hash, self.state))
        self._pulse = asyncio.get_running_loop().call_later(PULSE_SECONDS, self._beat)

    def live(self) -> list[Begun]:
        """Every stream that lives now, for a recorder that has just been born."""
        return [Begun(live.record, live.state) for live in self.plane.live.values()]

    async def swap(self, config: Config) -> None:
        """Carry new calls by another configuration; one at a time. Made in a thread, where reading certificates holds no stream up."""
        setup = await asyncio.to_thread(Setup, config, self.plane.clock, self.plane.setup)
        self.plane.enter(setup)

    def obey(self, order: Abort | Watching | Follow) -> None:
        """Do what the recorder asks for: end a stream because an operator wants it, one that has ended meanwhile is left alone; or tell
        of tokens, while somebody looks on; or of what one stream says."""
        if isinstance(order, Watching):
            self.plane.watched(order)
        elif isinstance(order, Follow):
            self.plane.follow(order.stream_id, order.on)
        elif live := self.plane.live.get(order.stream_id):
            live.end_early(Aborted("an operator has stopped this stream"))

    async def retire(self) -> None:
        """Accept no more connections, and return when those there are have gone: each closes after its next answer, or for being idle.

        A stream on tape is waited for as long as its client may come back for it. Nobody is refused: the socket listened on stays open
        in the process that takes over.
        """
        assert self._runner is not None
        self.plane.retiring = True
        for site in self._runner.sites:
            await site.stop()
        quiet: dict[web.RequestHandler, float] = {}
        while (connections := self._connections()) or self.plane.live or len(self.plane.shelf):
            now = self.plane.clock()
            for connection in connections:
                if not idle(connection):
                    quiet.pop(connection, None)
                elif now - quiet.setdefault(connection, now) > IDLE_SECONDS and not unread(connection.transport):
                    connection.force_close()
            await asyncio.sleep(LOOK_EVERY)

    def _connections(self) -> list[web.RequestHandler]:
        """Return the open connections of clients and of neighbours who pass theirs on."""
        servers = [runner.server for runner in (self._runner, self._inner) if runner is not None]
        return [connection for server in servers if server is not None for connection in server.connections]

    async def drain(self, seconds: float) -> None:
        """Take no new calls; let streams run on for `seconds`, then end each in its dialect's own words."""
        plane = self.plane
        plane.stopping = True
        for live in plane.live.values():
            live.drain(plane.clock())
        await plane.emptied(seconds)
        for live in (*plane.live.values(), *plane.arriving):
            live.end_early(Stopped("the gateway is shutting down"))
        await plane.emptied(FLUSH_SECONDS)

    async def close(self) -> None:
        """Stop serving; streams that were not drained are ended as by a drain of no length. May be called twice."""
        if (self.plane.live or self.plane.arriving) and not self.plane.stopping:
            await self.drain(0.0)
        if self._pulse is not None:
            self._pulse.cancel()
        if self._neighbours is not None:
            self._neighbours.close()
        for runner in (self._runner, self._inner):
            if runner is not None:
                await runner.cleanup()
        self.plane.close()


def idle(connection: web.RequestHandler) -> bool:
    """Return whether no request is under way on a client's connection, by what aiohttp's own keep-alive timer goes by."""
    waiter = connection._waiter  # noqa: SLF001  nothing public tells
    return waiter is not None and not waiter.done()


def data_plane(plane: Plane) -> Doors:
    """Return the doors of the data plane: every endpoint of every dialect, lists of models, the way back, feedback, and worker health."""
    doors = Doors(DIALECTS, lambda: plane.config.server.open)
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

    doors.add("GET", PATH, Realtime(plane), upgrades=True)
    doors.add("GET", STREAMS, Rejoin(plane))
    doors.add("POST", FEEDBACK, Listener(plane, DIALECTS["openai"]))

    async def livez(_: web.BaseRequest, __: Params) -> web.Response:
        return web.Response(body=b'{"status":"alive"}', headers=JSON)

    async def readyz(_: web.BaseRequest, __: Params) -> web.Response:
        return web.Response(
            body=b'{"status":"draining"}' if plane.stopping else b'{"status":"ready"}', status=503 if plane.stopping else 200, headers=JSON
        )

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
