"""Upstream connections that push: every read is stamped, parsed as HTTP and handed to a sink in the same call; and their pool."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol, cast
from urllib.parse import urlsplit

import httptools
from msgspec import Struct

from gateway.config import Upstream
from gateway.proxy.dial import Origin, dial
from gateway.proxy.signing import Keys, Signer

MAX_HEAD = 64 * 1024
MOST_DRY = 2 * MAX_HEAD
"""Bytes in a row that are of no body: a header or a trailer without an end, which the parser would keep and copy for ever."""
IDLE_SECONDS = 15.0
"""Shorter than the keep-alive of common servers (uvicorn 5 s and gunicorn 2 s excepted: those end as one retried stale connection)."""

SETTLED_SECONDS = 30.0
"""Credentials just asked for are used at least this long, also those that AWS hands out shortly before they end."""
SMALL = 64 * 1024
"""A body below this is copied behind its head rather than written beside it."""
WHOLE_CHUNKS = {len(line) + size + 2: line for size in range(1, 2048) if (line := b"%x\r\n" % size)}
"""By the length of a read that is one HTTP chunk and nothing else: the line it then begins with."""


class Sink(Protocol):
    """Takes a body, read by read. `framed` is the same bytes as one HTTP chunk, where that is how they came."""

    def __call__(self, chunk: bytes, now: float, framed: bytes | None = None) -> None: ...


class Head(Struct, frozen=True):
    """An upstream's status line and headers; names lower-case, the last of equal names wins."""

    status: int
    headers: dict[str, str]


class Listener(Protocol):
    """Who is told what frames an exchange: its head, and its end.

    `why` is None for a whole body, else a code of what broke; `last` is what of the body came in the same read as the end.
    """

    def on_head(self, head: Head, now: float) -> None: ...
    def on_end(self, why: str | None, now: float, last: bytes = b"") -> None: ...


class _Nobody:
    """Listens to a connection that carries no exchange."""

    def on_head(self, head: Head, now: float) -> None: ...
    def on_end(self, why: str | None, now: float, last: bytes = b"") -> None: ...
    def sink(self, chunk: bytes, now: float, framed: bytes | None = None) -> None: ...


NOBODY = _Nobody()


class Connection(asyncio.Protocol):
    """One connection to one upstream. While an exchange runs, `sink` gets its body and `listener` its head and end.

    `why` codes: connection_reset (RST or a transport error), connection_closed (FIN inside the body), bad_response (not HTTP),
    stale (a kept-alive connection that ended before it returned a byte: safe to try once more on a new one).
    """

    __slots__ = (
        "_between_chunks",
        "_body",
        "_clock",
        "_dry",
        "_ended",
        "_head",
        "_head_size",
        "_kept_alive",
        "_now",
        "_parser",
        "_pool",
        "_until_close",
        "busy",
        "idle_since",
        "listener",
        "on_body",
        "reused",
        "sink",
        "transport",
    )

    def __init__(self, pool: "Pool", clock: Callable[[], float]) -> None:
        self._pool, self._clock = pool, clock
        self.transport: asyncio.Transport | None = None
        self.listener: Listener = NOBODY
        self.sink: Sink = NOBODY.sink
        self.busy = self.reused = False
        self.idle_since = self._now = 0.0
        self._body: list[bytes] = []
        self.on_body = self._body.append  # httptools calls the list itself: no Python frame per chunk
        self._parser = httptools.HttpResponseParser(self)
        self._head: dict[str, str] = {}
        self._head_size = self._dry = 0
        self._ended = self._kept_alive = self._until_close = self._between_chunks = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass of it

    def start(self, request: list[bytes], sink: Sink, listener: Listener) -> None:
        """Send one request; its response goes to `sink` and `listener` from now on."""
        assert self.transport is not None
        self.sink, self.listener = sink, listener
        self.busy, self._now = True, 0.0
        self._ended = self._until_close = self._between_chunks = False
        self._head_size = self._dry = 0
        if len(request[-1]) < SMALL:
            self.transport.write(b"".join(request))  # cheaper than two buffers
        else:
            self.transport.writelines(request)

    def data_received(self, data: bytes) -> None:
        now = self._now = self._clock()
        if not self.busy:
            self.abort()  # a word nobody asked for: this connection cannot be trusted with the next request
            return
        if self._between_chunks and (line := WHOLE_CHUNKS.get(len(data))) and data.startswith(line) and data.endswith(b"\r\n"):
            self.sink(data[len(line) : -2], now, data)  # nearly every token: there is nothing to parse
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):  # the latter: it speaks another protocol from here on
            if not self._ended:
                self._finish("bad_response", now)
                return
            self._kept_alive = False  # its answer was whole: what follows is nobody's, and neither is this connection
        self._between_chunks = self._between_chunks and data.endswith(b"\r\n")  # else a size line has begun
        chunk = b""
        if body := self._body:
            chunk = body[0] if len(body) == 1 else b"".join(body)
            body.clear()
            self._dry = 0
        else:
            self._dry += len(data)
        if self._ended:
            self._finish(None, now, chunk)
        elif chunk:
            self.sink(chunk, now)
        elif self._dry > MOST_DRY:
            self._finish("bad_response", now)

    def on_message_begin(self) -> None:
        if self._ended:
            raise httptools.HttpParserError("a second answer to one request")  # the parser stops here: not a byte of it is seen

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_size += len(name) + len(value)
        if self._head_size > MAX_HEAD:
            raise httptools.HttpParserError("head too large")
        self._head[name.decode("latin-1").lower()] = value.decode("utf-8", "surrogateescape")

    def on_headers_complete(self) -> None:
        headers, self._head = self._head, {}
        status = self._parser.get_status_code()
        if status < 200:  # 100 Continue, 103 Early Hints: the answer is still to come
            return
        coding = headers.get("transfer-encoding", "").strip().lower()
        if coding not in {"", "chunked", "identity"}:
            raise httptools.HttpParserError("an encoding that nobody asked for")  # its chunks would pass for the answer itself
        self._until_close = "content-length" not in headers and coding != "chunked"
        self.listener.on_head(Head(status, headers), self._now)

    def on_chunk_header(self) -> None:
        self._between_chunks = False

    def on_chunk_complete(self) -> None:
        self._between_chunks = True

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() >= 200:
            self._ended, self._kept_alive = True, self._parser.should_keep_alive()  # the parser forgets once the message is over

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.forget(self)
        if not self.busy:
            return
        why = None if self._ended else self._broken(exc)
        self._finish(why, self._clock())

    def _broken(self, exc: Exception | None) -> str | None:
        if self.reused and not self._now:  # not one byte since the request
            return "stale"
        if exc is not None:
            return "connection_reset"
        return None if self._until_close else "connection_closed"

    def _finish(self, why: str | None, now: float, last: bytes = b"") -> None:
        listener, self.listener, self.sink, self.busy = self.listener, NOBODY, NOBODY.sink, False
        if why is None and self._ended and self._kept_alive:
            self.resume()  # its last read may have been one too many for somebody
            self._pool.keep(self, now)
        else:
            self.abort()
        listener.on_end(why, now, last)

    def pause(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def resume(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def drop(self) -> None:
        """End an exchange that nobody wants any more: silently, and the connection with it."""
        self.listener, self.sink, self.busy = NOBODY, NOBODY.sink, False
        self.abort()

    def abort(self) -> None:
        """Close at once; an exchange still running is told `connection_reset` when the transport is gone."""
        if self.transport is not None:
            self.transport.abort()


class Slots:
    """How many streams an upstream may carry at once; who finds it full waits in order."""

    def __init__(self, limit: int) -> None:
        self._limit = self._free = limit
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take(self) -> bool:
        """Take a slot if one is free and nobody waits for it."""
        if self._free <= 0 or self._waiting:
            return False
        self._free -= 1
        return True

    async def wait(self) -> None:
        """Take a slot, when one is free."""
        if self.take():
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.give()  # it was handed to us in the moment we left
            elif waiter in self._waiting:
                self._waiting.remove(waiter)
            raise

    @property
    def unused(self) -> bool:
        """True when nobody has a slot and nobody waits for one."""
        return self._free == self._limit and not self._waiting

    def give(self) -> None:
        """Return a slot: to the longest waiting, else to the free ones."""
        while self._waiting:
            if not (waiter := self._waiting.popleft()).done():
                waiter.set_result(None)
                return
        self._free += 1


class Pool:
    """The connections of one upstream: idle ones are reused last-in first-out, and dropped when idle for 15 s."""

    def __init__(self, name: str, upstream: Upstream, clock: Callable[[], float]) -> None:
        self.name, self.config = name, upstream
        self.origin = Origin.of(upstream.base_url, upstream.tls_ca)
        url = urlsplit(upstream.base_url)
        self.host, self.prefix = url.netloc, url.path.rstrip("/")
        self.slots = Slots(upstream.max_streams)
        self.address = f"{url.scheme}://{self.host}"
        self.refuses_usage = False
        self.signer: Signer | None = None
        self._settled_until = 0.0
        self._preparing = asyncio.Lock()
        self.added = frozenset(name.lower() for name in upstream.headers)
        self._clock = clock
        self._idle: dict[Connection, None] = {}  # oldest first
        self._all: set[Connection] = set()
        self._retired = False

    @property
    def is_ready(self) -> bool:
        """True when a request can be sent at once: there is nothing to sign, or fresh credentials to sign it with."""
        return self.config.aws is None or (self.signer is not None and (self.signer.is_fresh or self._clock() < self._settled_until))

    async def make_ready(self) -> None:
        """Find or refresh what requests are signed with: that reads files and may ask AWS, so a thread does it."""
        async with self._preparing:  # one of them asks, whoever comes meanwhile waits for it
            if not self.is_ready:
                self.signer = await asyncio.to_thread(self._signer)
                self._settled_until = self._clock() + SETTLED_SECONDS

    def _signer(self) -> Signer:
        aws = self.config.aws
        assert aws is not None
        keys = None
        if aws.access_key_id is not None and aws.secret_access_key is not None:
            token = aws.session_token.get_secret_value() if aws.session_token is not None else None
            keys = Keys(aws.access_key_id.get_secret_value(), aws.secret_access_key.get_secret_value(), token)
        return Signer(keys, aws.region)

    def take_idle(self) -> Connection | None:
        """Return a kept-alive connection that is still young and open, or None."""
        oldest = self._clock() - IDLE_SECONDS
        while self._idle:
            connection, _ = self._idle.popitem()
            if connection.idle_since > oldest and connection.transport is not None and not connection.transport.is_closing():
                connection.reused = True
                return connection
            connection.abort()
        return None

    async def connect(self) -> Connection:
        """Open a new connection; raises ConnectFailed."""
        connection = await dial(lambda: Connection(self, self._clock), self.origin, self.config.connect_timeout, self.name)
        self._all.add(connection)
        return connection

    def keep(self, connection: Connection, now: float) -> None:
        if self._retired:
            connection.abort()
            return
        connection.idle_since = now
        self._idle[connection] = None

    def retire(self) -> None:
        """Carry on for the streams that are under way, but keep no connection any longer than one of them uses it."""
        self._retired = True
        for connection in list(self._idle):
            connection.abort()
        self._idle.clear()

    @property
    def empty(self) -> bool:
        """True when it has neither a connection nor a stream that could want one."""
        return not self._all and self.slots.unused

    def forget(self, connection: Connection) -> None:
        self._all.discard(connection)
        self._idle.pop(connection, None)

    def sweep(self, now: float) -> None:
        """Close what has been idle too long; the oldest stand first."""
        while self._idle and now - (oldest := next(iter(self._idle))).idle_since > IDLE_SECONDS:
            del self._idle[oldest]
            oldest.abort()

    def close(self) -> None:
        for connection in list(self._all):
            connection.abort()
