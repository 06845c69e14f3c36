"""One connection of a provider: HTTP/1.1 requests read as they come, answered one after the other."""

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol, cast

import httptools

from gateway.sim.player import Player, Request
from gateway.sim.refusals import openai_error
from gateway.sim.steps import Step


class Host(Protocol):
    """What a connection asks of its provider."""

    open_streams: int

    def accept(self, connection: "Connection") -> int | None: ...
    def forget(self, connection: "Connection") -> None: ...
    def answer(self, request: Request, keep_alive: bool) -> Iterator[Step]: ...


class Connection(asyncio.Protocol):
    """One connection: requests are read as they come, pipelined ones too, and answered one after the other."""

    def __init__(self, provider: Host) -> None:
        self._provider = provider
        self._number = 0
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[tuple[Request, bool]] = deque()
        self._player: Player | None = None
        self._last: Request | None = None
        self._closed_by: str | None = None
        self._fresh()

    @property
    def idle(self) -> bool:
        return self._player is None and not self._queue

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports are of no asyncio class
        number = self._provider.accept(self)
        if number is None:
            self._transport.close()
            return
        self._number = number
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        if self._number == 0:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            body = openai_error("bad_request", "This is not HTTP/1.1.", "invalid_request_error")
            self._transport.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            self.drop("cut", gently=True)

    def eof_received(self) -> None:
        """A client that says no more has left: what is still buffered for it must not keep the connection open."""
        self._leave("peer", "peer_left")
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - how it was lost makes no difference here
        self._leave("peer", "peer_left")
        self._provider.forget(self)

    def pause_writing(self) -> None:
        if self._player is not None:
            self._player.hold()

    def resume_writing(self) -> None:
        if self._player is not None:
            self._player.release()

    def drop(self, outcome: str, gently: bool = False) -> None:
        """Close from our side; an answer being given ends with `outcome`."""
        self._leave("us", outcome)
        if gently:
            self._transport.close()
        else:
            self._transport.abort()

    def _leave(self, by: str, outcome: str) -> None:
        """Note, once, who closed the connection."""
        if self._closed_by is not None:
            return
        self._closed_by = by
        self._queue.clear()
        if self._last is not None:
            self._last.closed_by, self._last.closed_at = by, time.monotonic()
        if self._player is not None:
            self._player.stop(outcome)

    # What httptools calls while it reads a request.

    def _fresh(self) -> None:
        self._url, self._body = b"", bytearray()
        self._headers: dict[str, str] = {}

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._headers.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        request = Request(
            method=self._parser.get_method().decode("latin-1"),
            path=self._url.decode("latin-1"),
            headers=self._headers,
            body=bytes(self._body),
            at=time.monotonic(),
            connection=self._number,
        )
        self._queue.append((request, bool(self._parser.should_keep_alive())))
        self._fresh()
        self._next()

    def _next(self) -> None:
        """Begin the next answer when none is being given."""
        if self._player is not None or not self._queue or self._closed_by is not None:
            return
        request, keep_alive = self._queue.popleft()
        self._last = request
        steps = self._provider.answer(request, keep_alive)
        self._provider.open_streams += 1
        self._player = Player(self._transport, request, steps, self._settle(request, keep_alive))
        self._player.turn()

    def _settle(self, request: Request, keep_alive: bool) -> Callable[[str], None]:
        def ended(outcome: str) -> None:
            request.outcome, request.ended_at = outcome, time.monotonic()
            self._provider.open_streams -= 1
            self._player = None
            if outcome == "cut":
                self._leave("us", outcome)
            elif outcome == "completed" and not keep_alive:
                self.drop(outcome, gently=True)
            elif outcome == "completed":
                self._next()

        return ended
