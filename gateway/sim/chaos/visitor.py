"""One client's connection: it asks, keeps every byte of the answer, and may read slowly or leave on purpose."""

import asyncio
import socket
import time
from typing import Literal, cast

import httptools
from msgspec import Struct

from gateway.sim.chaos.judge import Heard

Point = Literal["", "sent", "headers", "body"]
_SLOW_BUFFER = 4096
"""Receive buffer of a slow reader: with the default the kernel would read on for it for megabytes."""


class Manner(Struct, frozen=True):
    """How a client behaves: where it leaves on purpose (after so many bytes of the body), and how many bytes a second it reads."""

    leave: Point = ""
    after: int = 0
    read_rate: float | None = None


class Visitor(asyncio.Protocol):
    """One connection, one call at a time. `left` says that the client went on purpose; `failed` how a connection ended too early."""

    def __init__(self, manner: Manner) -> None:
        self.open = False
        self.used = 0
        self.dialed_at = time.monotonic()
        self._slow = manner.read_rate is not None
        self._resume: asyncio.TimerHandle | None = None
        self._reset(manner)

    def _reset(self, manner: Manner) -> None:
        self.manner = manner
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.proper = self.left = self.busy = False
        self.failed = ""
        self.heard_at = self.ended_at = time.monotonic()

    async def connect(self, host: str, port: int) -> None:
        """Open the connection. Raises OSError."""
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        try:
            sock.setblocking(False)
            if self._slow:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SLOW_BUFFER)
            await loop.sock_connect(sock, (host, port))
            await loop.create_connection(lambda: self, sock=sock)
        except BaseException:
            sock.close()
            raise

    def ask(self, request: bytes, manner: Manner) -> asyncio.Future[None]:
        """Send a call; the future is done when its answer is over, or the connection is."""
        self._reset(manner)
        self._parser = httptools.HttpResponseParser(self)
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.busy, self.used = True, self.used + 1
        self._transport.write(request)
        if manner.leave == "sent":
            self.leave()
        return self._over

    def heard(self) -> Heard:
        """Return the answer as far as it came."""
        media_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        return Heard(self.status, media_type, self.headers.get("content-encoding", ""), bytes(self.body), self.proper)

    def leave(self) -> None:
        """Go, in the middle of an answer or not; may be called twice."""
        self.left = self.left or self.busy
        self._end()
        self.close()

    def close(self) -> None:
        if self.open:
            self.open = False
            self._transport.abort()

    def _end(self) -> None:
        self.busy, self.ended_at = False, time.monotonic()
        if not self._over.done():
            self._over.set_result(None)

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.open = True

    def data_received(self, data: bytes) -> None:
        if not self.busy:
            self.close()  # more after the end, or an answer to nothing: not a connection to use again
            return
        self.heard_at = time.monotonic()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.failed = f"no HTTP: {error}"
            self._end()
            self.close()
            return
        if self.manner.leave == "body" and self.busy and len(self.body) >= self.manner.after:
            self.leave()
        elif self.manner.read_rate is not None and self.open:
            self._transport.pause_reading()
            self._resume = asyncio.get_running_loop().call_later(len(data) / self.manner.read_rate, self._transport.resume_reading)

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        if self._resume is not None:
            self._resume.cancel()
        if self.busy:
            self.failed = "reset" if exc is not None else "closed"
            self._end()

    # What httptools calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.manner.leave == "headers":
            self.leave()

    def on_body(self, body: bytes) -> None:
        if self.busy:
            self.body += body

    def on_message_complete(self) -> None:
        if not self.busy:
            return
        self.proper = True
        keep = self._parser.should_keep_alive()
        self._end()
        if not keep:
            self.close()
