"""A worker in this process, and the book that stands where the recorder does: at the end its entries must balance."""

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from gateway.app import Worker
from gateway.config import Config
from gateway.core.messages import Begun, Ended, FromWorker, TargetState
from gateway.core.record import StreamRecord
from gateway.telemetry.link import DirectLink
from tests.rig.client import Client, wait_until
from tests.rig.makers import Makers


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
        slots = sum(pool.config.max_streams - pool.slots._free for pool in (*plane.pools.values(), *plane.retired))
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
