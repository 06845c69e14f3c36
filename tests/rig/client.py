"""A raw client: it keeps the time and the bytes of every read."""

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

import httptools
import orjson
import pytest

PATIENCE = 10.0


async def wait_until(condition: Callable[[], Any], what: str = "it", patience: float = PATIENCE) -> Any:
    """Return what `condition` gives as soon as that is true; fail when it is not in time."""
    due = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < due, f"not within {patience:g} s: {what}"
        await asyncio.sleep(0.002)
    return found


class Client(asyncio.Protocol):
    """One raw connection. It keeps (time, bytes) of every read, and what they make when read strictly as HTTP.

    `pieces` is (time, body bytes) as the chunks came; `complete` says that the body came to its proper end; `ended` is how the
    connection did: "fin", "reset" or None. `ask` begins a new answer.
    """

    def __init__(self) -> None:
        self.reads: list[tuple[float, bytes]] = []
        self.ended: str | None = None
        self._news = asyncio.Event()
        self._fresh()

    def _fresh(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.status, self.headers, self.pieces, self.complete = 0, dict[str, str](), list[tuple[float, bytes]](), False
        self.names: list[str] = []

    @property
    def raw(self) -> bytes:
        return b"".join(data for _, data in self.reads)

    @property
    def body(self) -> bytes:
        return b"".join(data for _, data in self.pieces)

    @property
    def document(self) -> Any:
        return orjson.loads(self.body)

    def when(self, needle: bytes) -> float:
        """Return when the body first held these bytes."""
        body = b""
        for at, data in self.pieces:
            body += data
            if needle in body:
                return at
        raise AssertionError(f"{needle!r} never came")

    def ask(self, data: bytes) -> "Client":
        self._fresh()
        self.sent_at = time.monotonic()
        self.transport.write(data)
        return self

    async def until(self, condition: Callable[[], Any], patience: float = PATIENCE) -> "Client":
        """Wait for something that a read of ours makes true."""
        try:
            async with asyncio.timeout(patience):
                while not condition():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pytest.fail(
                f"not within {patience:g} s; so far: {self.status} {self.body[-500:]!r} complete={self.complete} ended={self.ended}"
            )
        return self

    async def saw(self, needle: bytes) -> "Client":
        return await self.until(lambda: needle in self.body)

    async def finish(self, patience: float = PATIENCE) -> "Client":
        return await self.until(lambda: self.complete or self.ended, patience)

    async def gone(self) -> "Client":
        return await self.until(lambda: self.ended)

    def reset(self) -> float:
        """Leave as a killed process does, and return when."""
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.transport.abort()
        return time.monotonic()

    def close(self) -> float:
        """Leave with a FIN, and return when."""
        self.transport.abort()
        return time.monotonic()

    # What the transport and the parser call.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.reads.append((time.monotonic(), data))
        self._parser.feed_data(data)
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = "reset" if exc else "fin"
        self._news.set()

    def on_header(self, name: bytes, value: bytes) -> None:
        self.names.append(name.decode())
        self.headers[name.decode().lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.pieces.append((time.monotonic(), body))

    def on_message_complete(self) -> None:
        self.complete = True
