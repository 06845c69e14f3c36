"""The client's side of a stream: headers once, bytes straight to its transport, and an end that says what happened."""

import asyncio
import fcntl
import struct
import termios
from collections.abc import Mapping
from http import HTTPStatus

from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time

SERVER = "weir"
HIGH_WATER = 64 * 1024
"""Bytes that may wait for a client in our own buffer before its upstream is paused."""
STREAM_HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
"""Tells every hop behind us (nginx, CDNs) to pass each event on at once."""
BODILESS = frozenset({204, 205, 304})
PHRASES = {status.value: status.phrase for status in HTTPStatus}


def unread(transport: asyncio.BaseTransport | None) -> bool:
    """Return whether the peer has sent something that nobody has read yet (FIONREAD, see tcp(7))."""
    if transport is None or transport.is_closing() or (sock := transport.get_extra_info("socket")) is None or sock.fileno() < 0:
        return False
    (waiting,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.FIONREAD, b"\0\0\0\0"))
    return bool(waiting)


def untaken(transport: asyncio.WriteTransport) -> int:
    """Return how many bytes the peer has not taken yet: in our buffer, and in the kernel's (SIOCOUTQ, see tcp(7))."""
    if (sock := transport.get_extra_info("socket")) is None or sock.fileno() < 0:
        return 0
    (queued,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))
    return transport.get_write_buffer_size() + int(queued)


class _Gone(asyncio.Transport):
    """Stands for the connection of a client that had left before its request was handled."""

    def is_closing(self) -> bool:
        return True

    def abort(self) -> None:
        """There is nothing left to close."""


GONE = _Gone()


class _Sent(web.StreamResponse):
    """What aiohttp gets to finish with when the answer went out without it: it only says whether the connection is kept."""

    def __init__(self, kept: bool) -> None:  # the head that aiohttp's would build has been sent
        self._kept = kept

    @property
    def keep_alive(self) -> bool:
        return self._kept

    def force_close(self) -> None:
        self._kept = False

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:  # noqa: ARG002 - aiohttp's signature
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Everything has been written."""


class Reply:
    """One response to one client.

    aiohttp parses the request and keeps the connection; a relayed answer goes straight to the transport, head and body, framed
    here. A body of stated length is sent bare, any other in chunks, or until close to a client of HTTP/1.0.
    """

    __slots__ = ("_request", "_response", "chunked", "status", "transport")

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request
        self._response: web.StreamResponse | None = None
        self.chunked = False
        self.status: int | None = None
        self.transport = request.transport or GONE

    @property
    def request(self) -> web.BaseRequest:
        return self._request

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

    def open(self, status: int, headers: Mapping[str, str], length: int | None = None, first: bytes = b"") -> None:
        """Send the status line, headers and `first` bytes of the body, in one packet if they are few.

        From here on the answer can only be continued or broken off. Header values must be free of control characters.
        """
        version, kept = self._request.version, self._request.keep_alive
        lines = [f"HTTP/1.{version.minor} {status} {PHRASES.get(status, '')}", f"Server: {SERVER}", f"Date: {rfc822_formatted_time()}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if status in BODILESS:
            pass
        elif length is not None:
            lines.append(f"Content-Length: {length}")
        elif version >= HttpVersion11:
            self.chunked = True
            lines.append("Transfer-Encoding: chunked")
        else:
            kept = False
        if not kept:
            lines.append("Connection: close")
        elif version == HttpVersion10:
            lines.append("Connection: keep-alive")
        self._response, self.status = _Sent(kept), status
        if self.gone:
            return
        self.transport.set_write_buffer_limits(high=HIGH_WATER)
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")
        self.transport.write(head + self._framed(first) if first else head)

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
            self.transport.write(self._framed(data))

    def keep_alive(self, data: bytes) -> bool:
        """Write what means nothing and only shows that the stream lives; False when nobody is there to see it."""
        self.write(data)
        return not self.gone

    def take_over(self) -> None:
        """What is written from here on is a whole answer, head and framing included, after which the connection closes."""
        self._response = _Sent(kept=False)
        if not self.gone:
            self.transport.set_write_buffer_limits(high=HIGH_WATER)

    def _framed(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data

    def unsent(self) -> int:
        """Return how many bytes the client has not taken yet."""
        return 0 if self.gone else untaken(self.transport)

    async def drained(self) -> None:
        """Wait until the client has taken enough; raises ConnectionError when it has left."""
        await self._request.writer.drain()

    async def emptied(self) -> None:
        """Wait until the kernel has all that was written: what it has reaches the client even if we die. Raises as `drained`."""
        while not self.gone and self.transport.get_write_buffer_size():
            self.transport.set_write_buffer_limits(high=0)
            await self.drained()
            if not self.gone:
                self.transport.set_write_buffer_limits(high=HIGH_WATER)

    async def close(self, last: bytes = b"") -> None:
        """End the body properly, with its `last` bytes, and wait until nothing of it is left with us."""
        if self.opened and not self.gone:
            end = self._framed(last) if last else b""
            if end := end + b"0\r\n\r\n" if self.chunked else end:
                self.transport.write(end)
            await self.emptied()

    async def cut(self) -> None:
        """End the body visibly unfinished, but only once the client has what was written: the connection goes without its last chunk."""
        if not self.gone:
            await self.emptied()
            self.transport.close()

    def break_off(self) -> None:
        """End the body visibly unfinished: the connection goes without its last chunk or missing bytes of its stated length."""
        self.transport.abort()

    def hang_up_after(self) -> None:
        """Keep no connection alive after this response."""
        if self._response is not None:
            self._response.force_close()
