"""The client's side of a stream: headers once, bytes straight to its transport, and an end that says what happened."""

import asyncio
import fcntl
import struct
import termios
from collections.abc import Mapping

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter

SERVER = "weir"
HIGH_WATER = 64 * 1024
"""Bytes that may wait for a client in our own buffer before its upstream is paused."""
STREAM_HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
"""Tells every hop behind us (nginx, CDNs) to pass each event on at once."""


class _Gone(asyncio.Transport):
    """Stands for the connection of a client that had left before its request was handled."""

    def is_closing(self) -> bool:
        return True

    def abort(self) -> None:
        """There is nothing left to close."""


GONE = _Gone()


class _Together(web.StreamResponse):
    """Leaves its headers to the first write, so that they and the first token are one packet: one wake-up less for everybody."""

    _send_headers_immediately = False


class Reply:
    """One response to one client.

    aiohttp parses the request and writes the head; between `open` and `close` the body goes straight to the transport, framed
    here. A body of stated length is sent bare, any other in chunks, or until close to a client of HTTP/1.0.
    """

    __slots__ = ("_request", "_response", "_writer", "chunked", "status", "transport")

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._response: web.StreamResponse | None = None
        self._writer: AbstractStreamWriter | None = None
        self.chunked = False
        self.status: int | None = None
        self.transport = request.transport or GONE

    @property
    def opened(self) -> bool:
        return self._response is not None

    @property
    def gone(self) -> bool:
        """True when the client can no longer be written to."""
        return self.transport.is_closing()

    @property
    def response(self) -> web.StreamResponse:
        """The response for aiohttp to finish with; one that was never opened means the client left before its answer."""
        return self._response or web.Response(status=499)

    async def open(self, status: int, headers: Mapping[str, str], length: int | None = None, first: bytes = b"") -> None:
        """Send the status line, headers and `first` bytes of the body; from here on the answer can only be continued or broken off."""
        response = _Together(status=status, headers={"Server": SERVER, **headers})
        if length is not None:
            response.content_length = length
        self._response, self.status = response, status
        writer = await response.prepare(self._request)
        assert writer is not None
        self._writer = writer
        self.chunked = length is None and self._request.version >= HttpVersion11
        if not self.gone:
            self.transport.set_write_buffer_limits(high=HIGH_WATER)
        if 0 < len(first) < HIGH_WATER // 4:
            await writer.write(first)
        else:
            writer.send_headers()
            self.write(first)

    async def send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Send a whole small response."""
        self._response, self.status = web.Response(status=status, headers={"Server": SERVER, **headers}, body=body), status
        if headers.get("Connection") == "close":
            self._response.force_close()
        await self._response.prepare(self._request)
        await self._response.write_eof()

    def write(self, data: bytes) -> None:
        """Write bytes of the body now; to a client that has left, nothing happens."""
        if data and not self.gone:
            self.transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def unsent(self) -> int:
        """Return how many bytes the client has not taken yet: in our buffer, and in the kernel's (SIOCOUTQ, see tcp(7))."""
        if self.gone or (sock := self.transport.get_extra_info("socket")) is None or sock.fileno() < 0:
            return 0
        (queued,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))
        return self.transport.get_write_buffer_size() + int(queued)

    async def drained(self) -> None:
        """Wait until the client has taken enough; raises ConnectionError when it has left."""
        if self._writer is not None:
            await self._writer.drain()

    async def close(self, last: bytes = b"") -> None:
        """End the body properly, with its `last` bytes."""
        if self._response is not None:
            await self._response.write_eof(last)

    def break_off(self) -> None:
        """End the body visibly unfinished: the connection goes without its last chunk or missing bytes of its stated length."""
        self.transport.abort()

    def hang_up_after(self) -> None:
        """Keep no connection alive after this response."""
        if self._response is not None:
            self._response.force_close()
