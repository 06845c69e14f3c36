"""Where clients meet us: who may connect, how long a request's head may take, and what is too odd to be read as a request at all."""

import asyncio
import logging
import resource
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpProcessingError, RawRequestMessage
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler

from gateway.config import Server
from gateway.core.errors import Crowded, GatewayError, Misframed, RequestTimeout
from gateway.dialects.base import Dialect
from gateway.logs import blunder
from gateway.proxy.doors import JSON
from gateway.proxy.leftovers import Leftovers
from gateway.proxy.plane import Plane
from gateway.proxy.reply import PHRASES, SERVER

http_log = logging.getLogger("weir.http")
KEEPALIVE_SECONDS = 75
"""How long a connection may stay open between calls; longer than a load balancer in front keeps it."""
LINGER_SECONDS = 3.0
"""How long what a refused client still sends is read and forgotten: a connection closed on it could take our answer with it."""
SPARE_FILES = 64
"""File descriptors of a worker that are no client's and no upstream's."""
Serve = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def room(configured: int) -> int:
    """Return how many clients may be connected: as many as configured, and no more than there are file descriptors for, two a stream."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return configured if limit == resource.RLIM_INFINITY else max(1, min(configured, (limit - SPARE_FILES) // 2))


class Edge(RequestHandler):
    """One client's connection: aiohttp's, which reads requests strictly, with our words where it has its own.

    What is no request is answered in the shape of an API error, nothing of it repeated, and nothing of it logged: keys are in it.
    """

    __slots__ = ("_front",)

    def __init__(self, front: "Front", **settings: Any) -> None:
        super().__init__(front, **settings)
        self._front = front

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._waiter is None or self._waiter.done():
            self._front.unfinished.pop(self, None)  # its head is whole, or the bytes were of a body
            if self._messages and not isinstance(self._messages[-1][0], RawRequestMessage):
                self._break_body()
        elif data.strip(b"\r\n"):
            self._front.unfinished.setdefault(self, self._loop.time())

    def _break_body(self) -> None:
        """What came is no HTTP: aiohttp queues that as a next request, and would let whoever reads the body before it wait for ever."""
        if self._current_request is not None and not self._current_request.content.is_eof():
            self._current_request.content.set_exception(web.RequestPayloadError("broken"))

    def turn_away(self, error: GatewayError) -> None:
        """Answer a client of which no request has been read, and close."""
        transport = self.transport
        if transport is not None and not transport.is_closing():
            body = self._front.dialect.error_body(error)
            head = f"HTTP/1.1 {error.status} {PHRASES[error.status]}\r\nServer: {SERVER}\r\nContent-Type: application/json\r\n"
            transport.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp's signature; its words quote the client
    ) -> web.StreamResponse:
        """Answer what is no request, or what has broken where it should not; the connection closes."""
        if isinstance(exc, ConnectionError):
            raise exc  # the client has gone, which is no fault of ours, and nobody is there to be told
        if isinstance(exc, HttpProcessingError):
            error: GatewayError = unreadable(exc)
            http_log.debug("a request could not be read: %s", type(exc).__name__)
        else:
            error = GatewayError("the gateway failed to answer", status=status)
            http_log.error("a request broke the gateway: %s", blunder(exc) if exc is not None else status)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        response = web.Response(status=error.status, headers=JSON, body=self._front.dialect.error_body(error))
        response.force_close()
        return response

    def log_exception(self, *_: Any, **kw: Any) -> None:
        """Log what aiohttp tells of as an exception: where it came up, not what it says. A body's faults are its sender's."""
        error = kw.get("exc_info")
        if not isinstance(error, HttpProcessingError | web.RequestPayloadError):
            http_log.error("a connection broke: %s", blunder(error) if isinstance(error, BaseException) else type(error).__name__)


def unreadable(error: HttpProcessingError) -> Misframed:
    """Return what to say of bytes that are no request. aiohttp's words hold the bytes themselves, so none of them are used."""
    if isinstance(error, LineTooLong) or error.message.startswith("Too many headers"):
        return Misframed("the request's head is too large", code="head_too_large", status=431)
    return Misframed("this is no HTTP request, or one that can be read in more than one way", code="bad_request")


class Front(web.Server):
    """The connections of all clients of one worker. `unfinished` holds those in the middle of a head, the longest waiting first."""

    def __init__(self, serve: Serve, plane: Plane, dialect: Dialect) -> None:
        super().__init__(serve, request_factory=self._request, handler_cancellation=True)
        self.dialect = dialect
        self.unfinished: dict[Edge, float] = {}
        self._leftovers = Leftovers()
        self._plane, self._connected = plane, 0

    @property
    def _limits(self) -> Server:
        return self._plane.config.server

    def __call__(self) -> RequestHandler:
        return Edge(
            self, loop=self._loop, access_log=None, logger=http_log, keepalive_timeout=KEEPALIVE_SECONDS, lingering_time=LINGER_SECONDS
        )

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        if self._plane.retiring:
            message = message._replace(should_close=True)
        return web.BaseRequest(message, payload, protocol, writer, task, self._loop, client_max_size=self._limits.max_body)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._connected += 1
        if self._connected > room(self._limits.max_connections):
            assert isinstance(handler, Edge)
            handler.turn_away(Crowded("as many clients are connected as there is room for"))

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self._connected -= 1
        if isinstance(handler, Edge):
            self.unfinished.pop(handler, None)

    def sweep(self) -> None:
        """Turn away those whose head has not come in time, or who leave their answers with us; called about once a second."""
        for transport in self._leftovers.overdue(self._connections, self._loop.time(), retiring=self._plane.retiring):
            transport.abort()
        oldest = self._loop.time() - self._limits.head_timeout
        while self.unfinished and self.unfinished[slowest := next(iter(self.unfinished))] < oldest:
            del self.unfinished[slowest]
            slowest.turn_away(RequestTimeout("the request's head has not come in time"))
