"""One worker in this process between simulated providers and raw clients; at the end of every test its books must balance."""

import asyncio
import contextlib
import gc
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httptools
import msgspec
import orjson
import pytest
import uvloop
from blockbuster import blockbuster_ctx

from gateway.app import Worker
from gateway.config import Config
from gateway.core.call import Call
from gateway.core.events import Event
from gateway.core.messages import Begun, Ended, FromWorker, TargetState
from gateway.core.prompt import Prompt
from gateway.core.record import StreamRecord
from gateway.dialects import DIALECTS
from gateway.sim.doors import ROOTS
from gateway.sim.faults import NO_FAULTS, Always, Fault, FaultScript, Script
from gateway.sim.plan import head
from gateway.sim.provider import Provider
from gateway.sim.steps import End, Pause, Send, Step, framed
from gateway.sim.tempers import INSTANT, Temper
from gateway.telemetry.link import DirectLink

PATIENCE = 10.0
SSE_HEAD = head(200, {"Content-Type": "text/event-stream"})
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run on uvloop, as `weir serve` does; a module with `LOOPS = "both"` also on asyncio's own loop, as an embedder may."""
    both = getattr(getattr(item, "module", None), "LOOPS", "") == "both"
    return LOOPS if both else {"uvloop": LOOPS["uvloop"]}


@pytest.fixture(autouse=True)
def _nothing_blocks() -> Iterator[None]:
    """A blocking call of ours in the loop fails the test."""
    with blockbuster_ctx("gateway"):
        yield


@pytest.fixture(autouse=True)
def _nothing_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No test here may leave a word at WARNING or above: what streams do is told in records. One that must says `caplog.clear()`."""
    yield
    assert [r.getMessage() for r in caplog.get_records("call") if r.levelno >= logging.WARNING] == []


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


class Book:
    """Stands where the recorder stands: keeps what the worker tells, and checks that it can be told between processes."""

    def __init__(self) -> None:
        self.messages: list[FromWorker] = []
        self.readers: list[Callable[[FromWorker], None]] = []

    def receive(self, message: FromWorker) -> None:
        msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=FromWorker)
        self.messages.append(message)
        for reader in self.readers:
            reader(message)

    def of(self, kind: type[Any]) -> list[Any]:
        return [message for message in self.messages if type(message) is kind]

    @property
    def records(self) -> list[StreamRecord]:
        return [message.record for message in self.of(Ended)]

    def balance(self) -> None:
        """One end for each beginning; each stream's seconds are non-negative and sum to its life within a millisecond."""
        ended = [record.stream_id for record in self.records]
        begun = {message.record.stream_id for message in self.of(Begun)}
        assert len(ended) == len(set(ended))
        assert begun <= set(ended)
        for record in self.records:
            assert record.stream_id in begun or record.outcome == "client_disconnect" or not record.attempts
            assert all(seconds >= 0 for seconds in record.seconds.values()), record.seconds
            assert record.duration is not None
            assert abs(sum(record.seconds.values()) - record.duration) < 0.001, record.seconds


class Gate:
    """A worker with its book, and clients for it."""

    def __init__(self, config: Config) -> None:
        self.book = Book()
        self.worker = Worker(config, DirectLink(self.book.receive))
        self.plane = self.worker.plane
        self.clients: list[Client] = []
        self.port = 0

    async def start(self) -> "Gate":
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        await self.worker.start(listener)
        return self

    async def client(self, segment: int = 0, buffer: int = 0) -> Client:
        """Connect; a small `segment` and receive `buffer` leave the kernel little room to take bytes for a slow reader."""
        sock = socket.socket()
        sock.setblocking(False)
        if buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        if segment:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", self.port))
        _, client = await loop.create_connection(Client, sock=sock)
        self.clients.append(client)
        return client

    async def ask(self, headers: Mapping[str, str] | None = None, **body: Any) -> Client:
        """Send one call on a connection of its own."""
        return (await self.client()).ask(Makers.request(headers, **body))

    async def fetch(self, headers: Mapping[str, str] | None = None, **body: Any) -> Client:
        """Send one call and wait until its answer is over."""
        return await (await self.ask(headers, **body)).finish()

    async def record(self, number: int = 1) -> StreamRecord:
        """Return the record that ended as the `number`-th, once it has."""
        await wait_until(lambda: len(self.book.records) >= number, "the record ends")
        return self.book.records[number - 1]

    def targets(self) -> list[TargetState]:
        """Return what the worker holds of its targets now."""
        return self.plane.health.snapshot(self.plane.clock())

    def in_flight(self) -> int:
        """Every count of something under way: live streams, watched ones, tickets, slots."""
        plane = self.plane
        slots = sum(pool.config.max_streams - pool.slots._free for pool in plane.pools.values())
        tickets = sum(target.in_flight for target in self.targets())
        return len(plane.live) + len(plane.watch.watched) + tickets + slots

    async def close(self) -> None:
        """Nothing is under way when the clients have left; then the books must balance."""
        for client in self.clients:
            client.transport.abort()
        try:
            await wait_until(lambda: self.in_flight() == 0, "in-flight counts are back to 0", 5.0)
        finally:
            await self.worker.close()
            await self.worker.close()
        self.book.balance()
        assert not any(self.worker._link.dropped.values()), "what was told could be understood"


class Makers:
    """The ways to write requests and answers byte for byte."""

    @staticmethod
    def request(headers: Mapping[str, str] | None = None, path: str = "/v1/chat/completions", **body: Any) -> bytes:
        """Return a whole call; fields of the body that are None are left out."""
        fields = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hello"}]} | body
        return Makers.post(orjson.dumps({name: value for name, value in fields.items() if value is not None}), path, headers)

    @staticmethod
    def post(content: bytes, path: str = "/v1/chat/completions", headers: Mapping[str, str] | None = None, version: str = "1.1") -> bytes:
        lines = [f"POST {path} HTTP/{version}", "Host: weir", *(f"{name}: {value}" for name, value in (headers or {}).items())]
        return "\r\n".join([*lines, f"Content-Length: {len(content)}", "", ""]).encode() + content

    @staticmethod
    def chunked(*pieces: bytes | float | Step, head: bytes = SSE_HEAD) -> Script:
        """An answer of exactly these bytes, each a chunk and a write of its own, with pauses (seconds) and other steps between."""
        steps: list[Step] = [Send(head, "head")]
        for piece in pieces:
            if isinstance(piece, bytes):
                steps += [Send(piece, "body"), Pause(0.001)]
            else:
                steps.append(Pause(float(piece)) if isinstance(piece, int | float) else piece)
        ends = pieces and not isinstance(pieces[-1], bytes | int | float)
        return Script(tuple(framed(steps if ends else [*steps, End()])))

    @staticmethod
    def event(text: str | None = None, finish: str | None = None) -> bytes:
        """One chat chunk: a delta with this text, with none the one that names the role."""
        delta = {} if finish else {"role": "assistant", "content": ""} if text is None else {"content": text}
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return b"data: %b\n\n" % orjson.dumps({"id": "chatcmpl-1", "model": "said", "choices": [choice]})

    @staticmethod
    def call(dialect: str, prompt: Prompt, headers: Mapping[str, str] | None = None) -> tuple[Call, bytes]:
        """Return a prompt as a client of a dialect sends it: what its answer is read with, and the whole request."""
        call = DIALECTS[dialect].compose(prompt)
        said = {"Content-Type": "application/json", **(headers or {})}
        return call, Makers.post(call.body, ROOTS.get(dialect, "") + call.path, said)

    @staticmethod
    def heard(call: Call, body: bytes) -> list[Event]:
        """Return what an answer says to a client of the call's dialect; all of it must be readable."""
        dialect = DIALECTS[call.dialect]
        if not call.stream:
            return list(dialect.read_document(call, body))
        parser, reader = dialect.framing(call).parser(), dialect.reader(call)
        events = [event for frame in parser.feed(body) for event in reader.events(frame)]
        assert not parser.tail.strip()
        return events


def open_sockets() -> int:
    """Count the sockets this process holds."""
    kinds = (os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.exists())  # noqa: PTH115 - what it says is no path
    return sum(kind.startswith("socket:") for kind in kinds)


@pytest.fixture
async def world() -> AsyncIterator[list[Any]]:
    """Everything started in a test: closed in order, gates first, and seen to leave no task and no socket behind."""
    started: list[Any] = []
    sockets = open_sockets()
    yield started
    async with contextlib.AsyncExitStack() as stack:
        for thing in started:
            stack.push_async_callback(thing.close)
    assert all((thing.open_streams, thing.connections) == (0, 0) for thing in started if isinstance(thing, Provider))
    await wait_until(lambda: open_sockets() <= sockets, "no socket is left", 5.0)
    await wait_until(lambda: asyncio.all_tasks() == {asyncio.current_task()}, "no task is left", 5.0)
    gc.collect(1)


@pytest.fixture
def provide(world: list[Any]) -> Callable[..., Any]:
    """Start a provider that says 3 tokens at once, or what `fault` makes of them; a fault may be a script of faults."""

    async def start(fault: Fault | FaultScript = NO_FAULTS, temper: Temper | None = None, **more: Any) -> Provider:
        script = Always(fault) if isinstance(fault, Fault) else fault
        provider = Provider(temper or msgspec.structs.replace(INSTANT, tokens=3), script, **more)
        world.append(provider)
        await provider.start()
        return provider

    return start


@pytest.fixture
def gate(world: list[Any]) -> Callable[..., Any]:
    """Start a worker before these providers: upstreams a, b, c ... in the order of a route that takes every model.

    They speak `dialects`, in that order, OpenAI's when none is said.

    Keywords replace parts of the route; `server` and `upstreams` (by name) parts of the rest.
    """

    async def start(*providers: Any, dialects: Sequence[str] = (), server: Any = None, upstreams: Any = None, **route: Any) -> Gate:
        names = "abcdefgh"[: len(providers)]
        urls = {name: {"base_url": getattr(p, "base_url", p)} for name, p in zip(names, providers, strict=True)}
        for name, provider, dialect in zip(names, providers, dialects, strict=False):
            urls[name] = {"base_url": provider.url(dialect), "dialect": dialect}
        told = {name: fields | (upstreams or {}).get(name, {}) for name, fields in urls.items()}
        targets = [{"upstream": name, "priority": rank} for rank, name in enumerate(names)]
        routes = [{"name": "chat", "policy": "priority", "targets": targets} | route]
        telemetry = {"store": {"path": "off"}, "access_log": "off"}
        config = Config.model_validate({"upstreams": told, "routes": routes, "server": server or {}, "telemetry": telemetry})
        gate = Gate(config)
        world.append(gate)
        return await gate.start()

    return start


@pytest.fixture
async def direct(world: list[Any]) -> Callable[..., Any]:
    """Ask a provider without a gateway between: what it sent is what a client must get."""

    async def fetch(provider: Provider, headers: Mapping[str, str] | None = None, request: bytes = b"", **body: Any) -> Client:
        _, client = await asyncio.get_running_loop().create_connection(Client, provider.host, provider.port)
        await client.ask(request or Makers.request(headers, **body)).finish()
        client.transport.abort()
        return client

    return fetch


@pytest.fixture
def full_backlog() -> Iterator[str]:
    """The base URL of a port where connecting takes for ever: its queue is full and nobody accepts."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(2)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(address)
        yield f"http://127.0.0.1:{address[1]}/v1"
        for sock in waiting:
            sock.close()


@pytest.fixture
def until() -> Callable[..., Any]:
    return wait_until


@pytest.fixture
def make() -> type[Makers]:
    return Makers
