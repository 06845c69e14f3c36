"""The recorder's end of the bridge to one worker slot: packets in, Hello and acknowledgements out, bounded work per wake."""

import asyncio
import os
import socket
import time
from collections.abc import Callable

import msgspec

from gateway.core.messages import Abort, Ack, Follow, FromRecorder, FromWorker, Hello, Watching

PACKETS_A_WAKE = 8
SECONDS_A_WAKE = 0.02
"""A wake ends after this long, so that a flood from one worker starves neither the others nor the admin listener."""
_BUFFER = 256 * 1024


class Feed:
    """Reads one slot's socket; `receive(message, slot)` takes each message, `lost(kind, n)` counts what could not be read."""

    def __init__(
        self, sock: socket.socket, slot: int, receive: Callable[[FromWorker, int], None], lost: Callable[[str, int], None]
    ) -> None:
        self.slot = slot
        self._sock = sock
        self._receive = receive
        self._lost = lost
        self._decoder: msgspec.msgpack.Decoder[list[FromWorker]] = msgspec.msgpack.Decoder(list[FromWorker])
        self._loop: asyncio.AbstractEventLoop | None = None
        self._greeting: Hello | None = None
        self._ack: Ack | None = None
        self._orders: dict[tuple[type, str], Abort | Follow] = {}
        self._watching: Watching | None = None
        self._due: asyncio.Handle | None = None
        self._blocked = False

    def start(self) -> None:
        """Greet the worker, who then tells all that a predecessor of ours may not have stored; call it from the running loop."""
        self._sock.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._sock.fileno(), self._readable)
        self.greet()

    def close(self) -> None:
        """Stop reading; twice is once. The socket stays its opener's."""
        if self._loop is None:
            return
        self._unblock()
        if self._due is not None:
            self._due.cancel()
        self._answer()
        self._unblock()
        self._loop.remove_reader(self._sock.fileno())
        self._loop = None

    def greet(self) -> None:
        """Ask the worker for all it holds: its live streams and every record not acknowledged."""
        self._greeting = Hello(os.getpid())
        self._soon()

    def ack(self, pid: int, seq: int) -> None:
        """Tell the worker that its records up to `seq` are stored; many calls in one turn of the loop make one message."""
        if self._ack is None or self._ack.pid != pid or self._ack.seq < seq:
            self._ack = Ack(pid, seq)
        self._soon()

    def abort(self, stream_id: str) -> None:
        """Tell the worker that an operator wants a stream to end; one told before it is said is told once."""
        self._orders[Abort, stream_id] = Abort(stream_id)
        self._soon()

    def follow(self, stream_id: str, on: bool) -> None:
        """Tell the worker whether somebody reads along with a stream; the last word counts."""
        self._orders[Follow, stream_id] = Follow(stream_id, on)
        self._soon()

    def watching(self, watching: Watching) -> None:
        """Tell the worker whether somebody looks on, and what is shown."""
        self._watching = watching
        self._soon()

    def drain(self, seconds: float) -> None:
        """Read what already waits in the kernel, for at most `seconds`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._read():
            pass

    def _readable(self) -> None:
        deadline = time.monotonic() + SECONDS_A_WAKE
        for _ in range(PACKETS_A_WAKE):
            if not self._read() or time.monotonic() > deadline:
                return

    def _read(self) -> bool:
        try:
            packet = self._sock.recv(_BUFFER)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            packet = b""
        if not packet:
            self.close()
            return False
        try:
            messages = self._decoder.decode(packet)
        except msgspec.MsgspecError:
            self._lost("packet", 1)
            return True
        for message in messages:
            self._receive(message, self.slot)
        return True

    def _soon(self) -> None:
        if self._loop is not None and self._due is None and not self._blocked:
            self._due = self._loop.call_soon(self._answer)

    def _answer(self) -> None:
        self._due = None
        if self._greeting is not None and self._say(self._greeting):
            self._greeting = None
        if self._ack is not None and self._say(self._ack):
            self._ack = None
        if self._watching is not None and self._say(self._watching):
            self._watching = None
        while self._orders and self._say(self._orders[order := next(iter(self._orders))]):
            del self._orders[order]

    def _say(self, message: FromRecorder) -> bool:
        try:
            self._sock.send(msgspec.msgpack.encode(message))
        except (BlockingIOError, InterruptedError):
            self._block()
            return False
        except OSError:
            return True  # nobody can hear it any more
        return True

    def _block(self) -> None:
        if self._loop is not None and not self._blocked:
            self._blocked = True
            self._loop.add_writer(self._sock.fileno(), self._writable)

    def _writable(self) -> None:
        self._unblock()
        self._answer()

    def _unblock(self) -> None:
        if self._loop is not None and self._blocked:
            self._blocked = False
            self._loop.remove_writer(self._sock.fileno())
