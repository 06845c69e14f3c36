"""What one client saw of one stream: a keep-alive connection that asks and counts, however the answer is cut, and may leave early."""

import asyncio
import re
import socket
import time
from typing import Literal, cast

import httptools
import orjson
from msgspec import Struct, field

TOKEN = re.compile(rb'"(?:content|reasoning_content|reasoning|refusal|text|arguments)"\s*:\s*"[^"]|"tool_calls"\s*:\s*\[\s*\{')
_SLOW_BUFFER = 4096  # receive buffer of a slow reader: with the default the kernel would read on for it for megabytes

Point = Literal["sent", "headers", "token"]


class AbortAt(Struct, frozen=True):
    """Where a client leaves: once the request is sent, at the headers, or after so many chunks with tokens."""

    point: Point
    tokens: int = 0


class StreamResult(Struct, kw_only=True):
    """One stream as its client saw it. Times in seconds from the request written; None is "never happened".

    `events` counts SSE events with data, `deltas` those with generated output, `complete` says that `[DONE]` came (or, when no
    stream was asked for, that the document came whole). `aborted` names the point where the client left on purpose. `error`: "connect",
    "closed", "unfinished" (still open when the run was over) or "bad_response". `headers` holds only those that begin with "x-".
    """

    ordinal: int
    model: str
    started_at: float
    status: int = 0
    ttft: float | None = None
    duration: float | None = None
    bytes: int = 0
    events: int = 0
    deltas: int = 0
    max_gap: float = 0.0
    complete: bool = False
    error_event: bool = False
    aborted: str | None = None
    error: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def fine(self) -> bool:
        """Whether it came whole and well."""
        return self.status == 200 and self.complete and not self.error_event and self.error is None


class EventCounter:
    """Counts the events of an SSE body fed in pieces; where the cuts lie makes no difference."""

    __slots__ = ("_tail", "deltas", "done", "events", "failed")

    def __init__(self) -> None:
        self._tail = b""
        self.events = self.deltas = 0
        self.done = self.failed = False

    def feed(self, data: bytes) -> int:
        """Take body bytes; return how many events with generated output they completed."""
        if self._tail:
            data = self._tail + data
        if b"\r" in data:  # JSON has no raw CR, so these are line ends
            data = data.replace(b"\r\n", b"\n")
        end = data.rfind(b"\n\n")
        if end < 0:
            self._tail = data
            return 0
        before = self.deltas
        self._tail = data[end + 2 :]
        for frame in data[:end].split(b"\n\n"):
            self._count(frame)
        return self.deltas - before

    def _count(self, frame: bytes) -> None:
        if b"data:" not in frame:
            return
        self.events += 1
        if TOKEN.search(frame):
            self.deltas += 1
        elif b"[DONE]" in frame:
            self.done = True
        elif b'"error"' in frame:
            self.failed = self.failed or _is_error(frame)


def _is_error(frame: bytes) -> bool:
    lines = (line for line in frame.split(b"\n") if line.startswith(b"data:"))
    try:
        fields = orjson.loads(b"\n".join(line[5:].strip() for line in lines))
    except orjson.JSONDecodeError:
        return False
    return isinstance(fields, dict) and bool(fields.get("error"))


class Witness(asyncio.Protocol):
    """One connection, one request at a time. `read_rate` in bytes a second makes it a slow reader."""

    def __init__(self, read_rate: float | None = None) -> None:
        self.open = False
        self.used = 0
        self._read_rate = read_rate
        self._resume: asyncio.TimerHandle | None = None
        self._result: StreamResult | None = None

    async def connect(self, host: str, port: int) -> None:
        """Open the connection. Raises OSError."""
        loop = asyncio.get_running_loop()
        if self._read_rate is None:
            await loop.create_connection(lambda: self, host, port)
            return
        sock = socket.socket()
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SLOW_BUFFER)
            await loop.sock_connect(sock, (host, port))
            await loop.create_connection(lambda: self, sock=sock)
        except BaseException:
            sock.close()
            raise

    def ask(self, request: bytes, result: StreamResult, streamed: bool, abort: AbortAt | None) -> asyncio.Future[None]:
        """Send a request; the future is done when the answer is over or the connection is."""
        self._parser = httptools.HttpResponseParser(self)
        self._counter = EventCounter()
        self._result, self._abort, self._streamed = result, abort, streamed
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.used += 1
        result.started_at = self._last_at = time.monotonic()
        self._transport.write(request)
        if abort is not None and abort.point == "sent":
            self._leave("sent")
        return self._over

    def abandon(self, error: str | None) -> None:
        """Close at once; an answer still coming ends with this error. May be called twice."""
        if self._result is not None and error is not None:
            self._result.error = error
        self._end()
        if self.open:
            self.open = False
            self._transport.abort()

    def _leave(self, point: Point) -> None:
        if self._result is not None:
            self._result.aborted = point
        self.abandon(None)

    def _end(self) -> None:
        """Close the account of the answer, once."""
        result, self._result = self._result, None
        if result is None:
            return
        result.duration = time.monotonic() - result.started_at
        result.events, result.deltas = self._counter.events, self._counter.deltas
        result.error_event = self._counter.failed
        if self._streamed:
            result.complete = self._counter.done
        if not self._over.done():
            self._over.set_result(None)

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.open = True

    def data_received(self, data: bytes) -> None:
        if self._result is None:
            self.abandon(None)  # an answer to nothing, or more after the end: not a connection to use again
            return
        self._result.bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.abandon("bad_response")
            return
        if self._read_rate is not None and self.open:
            self._transport.pause_reading()
            self._resume = asyncio.get_running_loop().call_later(len(data) / self._read_rate, self._transport.resume_reading)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - closed is closed
        self.open = False
        if self._resume is not None:
            self._resume.cancel()
        if self._result is not None:
            self._result.error = "closed"
        self._end()

    # What httptools calls while it reads a response.

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.decode("latin-1").lower()
        if key.startswith("x-") and self._result is not None:
            self._result.headers[key] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._result is None:
            return
        self._result.status = self._parser.get_status_code()
        if self._abort is not None and self._abort.point == "headers":
            self._leave("headers")

    def on_body(self, body: bytes) -> None:
        result = self._result
        if result is None or not self._streamed or not self._counter.feed(body):
            return
        now = time.monotonic()
        if result.ttft is None:
            result.ttft = now - result.started_at
        else:
            result.max_gap = max(result.max_gap, now - self._last_at)
        self._last_at = now
        if self._abort is not None and self._abort.point == "token" and self._counter.deltas >= self._abort.tokens:
            self._leave("token")

    def on_message_complete(self) -> None:
        if self._result is None or self._parser.get_status_code() == 100:
            return
        self._result.complete = True
        keep = self._parser.should_keep_alive()
        self._end()
        if not keep:
            self.abandon(None)
