"""The worker's end of the bridge to the recorder: messages leave in batches, and sending never waits and never raises."""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from gateway.core.messages import (
    Abort,
    Ack,
    Begun,
    Ended,
    Feedback,
    Follow,
    FromRecorder,
    FromWorker,
    Heard,
    Hello,
    Moved,
    Pulse,
    Rejoined,
    Said,
    Spoke,
    Stalled,
    Watching,
)
from gateway.core.record import StreamRecord
from gateway.telemetry.parcels import Parcels, Part

KINDS: dict[type, str] = {
    Hello: "hello",
    Begun: "begun",
    Moved: "moved",
    Stalled: "stalled",
    Heard: "heard",
    Rejoined: "rejoined",
    Feedback: "feedback",
    Said: "said",
    Spoke: "spoke",
    Ended: "ended",
    Pulse: "pulse",
}
WINDOW = 0.02
"""Seconds that messages are gathered for, so that a packet costs one system call for many streams."""
PACKET = 32 * 1024
"""A batch this big leaves at once."""
LARGEST = 64 * 1024
"""One message above this is dropped, so that a packet stays under 100 KiB whatever the kernel's limit on a datagram."""
PENDING = 8 * 1024 * 1024
KEPT_COUNT, KEPT_BYTES = 20_000, 32 * 1024 * 1024
PACKETS_A_WAKE = 16
_TOO_ODD = (TypeError, ValueError, OverflowError, RecursionError, NotImplementedError)
"""What msgspec raises for a message it cannot encode."""


class Link(Protocol):
    """What the data plane knows of telemetry. `dropped` counts the messages lost so far, by kind."""

    dropped: dict[str, int]

    def send(self, message: FromWorker) -> None:
        """Take a message; never waits, never raises."""
        ...


class DirectLink:
    """A recorder in the same process, for tests and for embedding."""

    def __init__(self, receive: Callable[[FromWorker], None]) -> None:
        self._receive = receive
        self.dropped: dict[str, int] = dict.fromkeys(KINDS.values(), 0)

    def send(self, message: FromWorker) -> None:
        try:
            self._receive(message)
        except Exception:  # noqa: BLE001 - law 5: whatever the recorder's fault is, the stream does not notice
            self.dropped[KINDS[type(message)]] += 1


class _Packet(msgspec.Struct):
    """A batch on its way: its bytes, and what it holds in case it must be told again."""

    data: bytes
    messages: list[tuple[str, bytes]]
    ended: list[tuple[int, bytes]]
    said: list[Part]


class _Ends:
    """Finished records, kept until the recorder has stored them: those not yet in the kernel, and those sent but not acknowledged."""

    def __init__(self) -> None:
        self.unsent: deque[tuple[int, bytes]] = deque()
        self.sent: deque[tuple[int, bytes]] = deque()
        self.size = 0
        self._seq = 0

    def number(self) -> int:
        self._seq += 1
        return self._seq

    def keep(self, seq: int, data: bytes) -> int:
        """Add one; returns how many of the oldest had to go for it."""
        self.unsent.append((seq, data))
        self.size += len(data)
        lost = 0
        while self.size > KEPT_BYTES or len(self.sent) + len(self.unsent) > KEPT_COUNT:
            self.size -= len((self.sent or self.unsent).popleft()[1])
            lost += 1
        return lost

    def acknowledged(self, seq: int) -> None:
        while self.sent and self.sent[0][0] <= seq:
            self.size -= len(self.sent.popleft()[1])

    def again(self) -> None:
        """Everything not acknowledged is to be sent once more, oldest first."""
        self.unsent = deque([*self.sent, *self.unsent])
        self.sent.clear()


class SocketLink:
    """One end of an AF_UNIX SOCK_SEQPACKET pair that outlives both processes.

    `snapshot` yields a `Begun` for each live stream: a recorder that says Hello is new and knows none of them. `obey` is called with
    what the recorder wants of the worker. `Ended` messages are numbered here, whatever `seq` they come with. The socket is
    made non-blocking and stays its opener's to close.
    """

    def __init__(
        self,
        sock: socket.socket,
        snapshot: Callable[[], Iterable[Begun]],
        obey: Callable[[Abort | Watching | Follow], None] = lambda _: None,
    ) -> None:
        self._sock = sock
        self._snapshot = snapshot
        self._obey = obey
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[FromRecorder] = msgspec.msgpack.Decoder(FromRecorder)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.Handle | None = None
        self._hurried = False
        self._blocked = False
        self._down = False
        self._pending: deque[tuple[str, bytes]] = deque()
        self._pending_size = 0
        self._ends = _Ends()
        self._parcels = Parcels(self._encoder.encode)
        self._held: _Packet | None = None
        self._idle = asyncio.Event()
        self.dropped: dict[str, int] = dict.fromkeys(KINDS.values(), 0)

    def start(self) -> None:
        """Say Hello and begin to send; call it from the running loop."""
        self._sock.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._sock.fileno(), self._readable)
        self._greet()

    async def close(self, timeout: float = 2.0) -> None:  # noqa: ASYNC109 - the bound is the promise: a dead recorder delays no exit
        """Hand what is left to the kernel, for at most `timeout` seconds; what stays behind is lost with the process."""
        if self._loop is None:
            return
        try:
            async with asyncio.timeout(timeout):
                while not self._down and self._waiting():
                    self._idle.clear()
                    self._schedule(hurry=True)
                    await self._idle.wait()
        except TimeoutError:
            pass
        finally:
            self._detach()

    def send(self, message: FromWorker) -> None:
        kind = KINDS[type(message)]
        if self._down:
            self.dropped[kind] += 1
            return
        try:
            if type(message) is Said:
                size = self._pack(message)
            else:
                size = self._keep(message.record) if type(message) is Ended else self._queue(kind, message)
        except _TOO_ODD:
            self.dropped[kind] += 1
            return
        if self._timer is None or (size >= PACKET and not self._hurried):
            self._schedule(hurry=size >= PACKET)

    def _queue(self, kind: str, message: FromWorker) -> int:
        self._append(kind, self._encoder.encode(message))
        return self._pending_size

    def _append(self, kind: str, data: bytes) -> None:
        if len(data) > LARGEST or self._pending_size + len(data) > PENDING:
            self.dropped[kind] += 1
        else:
            self._pending.append((kind, data))
            self._pending_size += len(data)

    def _keep(self, record: StreamRecord) -> int:
        seq = self._ends.number()
        data = self._encoder.encode(Ended(seq, record))
        if len(data) > LARGEST:  # hours of reads of many tokens, and tags besides: that it ended matters more than when each token came
            data = self._encoder.encode(Ended(seq, _shorter(record)))
        if len(data) > LARGEST:
            self.dropped["ended"] += 1
        else:
            self.dropped["ended"] += self._ends.keep(seq, data)
        return self._pending_size + len(data)

    def _pack(self, message: Said) -> int:
        if not self._parcels.put(message):
            self.dropped["said"] += 1
        return self._pending_size + len(message.data)

    def _schedule(self, hurry: bool) -> None:
        if self._loop is None or self._blocked or self._down:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._hurried = hurry
        self._timer = self._loop.call_soon(self._flush) if hurry else self._loop.call_later(WINDOW, self._flush)

    def _waiting(self) -> bool:
        return bool(self._held or self._pending or self._ends.unsent or self._parcels)

    def _flush(self) -> None:
        self._timer, self._hurried = None, False
        for _ in range(PACKETS_A_WAKE):
            if not self._waiting():
                self._idle.set()
                return
            self._held = self._held or self._fill()
            if not self._push(self._held):
                return
            self._held = None
        self._schedule(hurry=True)

    def _fill(self) -> _Packet:
        """Take one packet's worth: what began before what ended, since an `Ended` is always younger than its stream's other messages; and
        what was said after that, since it is kept with a record that is there."""
        messages: list[tuple[str, bytes]] = []
        ended: list[tuple[int, bytes]] = []
        said: list[Part] = []
        size = 0
        while self._pending and size < PACKET:
            messages.append(self._pending.popleft())
            size += len(messages[-1][1])
        self._pending_size -= size
        while self._ends.unsent and not self._pending and size < PACKET:
            ended.append(self._ends.unsent.popleft())
            size += len(ended[-1][1])
        while self._parcels and not self._pending and not self._ends.unsent and size < PACKET:
            said.append(self._parcels.take())
            size += len(said[-1].data)
        parts = [data for _, data in messages] + [data for _, data in ended] + [part.data for part in said]
        return _Packet(b"\xdc" + len(parts).to_bytes(2, "big") + b"".join(parts), messages, ended, said)

    def _push(self, packet: _Packet) -> bool:
        try:
            self._sock.send(packet.data)
        except (BlockingIOError, InterruptedError):
            self._block()
            return False
        except OSError:
            self._break()
            return False
        self._ends.sent.extend(packet.ended)
        return True

    def _block(self) -> None:
        if self._loop is not None and not self._blocked:
            self._blocked = True
            self._loop.add_writer(self._sock.fileno(), self._writable)

    def _writable(self) -> None:
        self._unblock()
        self._flush()

    def _unblock(self) -> None:
        if self._loop is not None and self._blocked:
            self._blocked = False
            self._loop.remove_writer(self._sock.fileno())

    def _readable(self) -> None:
        for _ in range(PACKETS_A_WAKE):
            try:
                data = self._sock.recv(4096)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data = b""
            if not data:
                self._break()
                return
            self._heard(data)

    def _heard(self, data: bytes) -> None:
        try:
            message = self._decoder.decode(data)
        except msgspec.MsgspecError:
            return
        if isinstance(message, Hello):
            self._greet()
        elif isinstance(message, Ack):
            if message.pid == os.getpid():
                self._ends.acknowledged(message.seq)
        else:
            self._obey(message)

    def _greet(self) -> None:
        """Introduce this worker to a recorder that knows nothing: Hello, each live stream, then all it may not have stored."""
        if self._held is not None:
            self._pending.extendleft(reversed(self._held.messages))
            self._pending_size += sum(len(data) for _, data in self._held.messages)
            self._ends.unsent.extendleft(reversed(self._held.ended))
            self._parcels.give_back(self._held.said)
            self._held = None
        later, self._pending, self._pending_size = self._pending, deque(), 0
        self._queue("hello", Hello(os.getpid()))
        for begun in self._snapshot():
            self._queue("begun", begun)
        for kind, data in later:
            if kind not in ("hello", "begun"):  # the snapshot has just said it
                self._append(kind, data)
        self._ends.again()
        self._schedule(hurry=True)

    def _break(self) -> None:
        """The pair itself is gone, which the supervisor prevents: nothing can be told any more, only counted."""
        self._detach()
        for kind, _ in [*self._pending, *(self._held.messages if self._held else ())]:
            self.dropped[kind] += 1
        self.dropped["ended"] += len(self._ends.unsent) + (len(self._held.ended) if self._held else 0)
        self._parcels.give_back(self._held.said if self._held else [])
        self.dropped["said"] += self._parcels.clear()
        self._pending.clear()
        self._ends = _Ends()
        self._held = None
        self._idle.set()

    def _detach(self) -> None:
        self._down = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._loop is not None:
            self._unblock()
            self._loop.remove_reader(self._sock.fileno())


def _shorter(record: StreamRecord) -> StreamRecord:
    """Return a record without the time of each token."""
    replace = msgspec.structs.replace
    return replace(record, cadence=replace(record.cadence, ticks=[], counts=[]))
