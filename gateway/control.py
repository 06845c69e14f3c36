"""What the supervisor and a running child tell each other: a socketpair per start, one small message a packet, nobody ever waits.

A configuration is too large for a packet and holds secrets: it travels as an anonymous file in memory, handed over with the message.
"""

import asyncio
import errno
import logging
import os
import pickle
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterator

import msgspec
from msgspec import Struct

from gateway.config import Config

LARGEST = 64 * 1024
MOST_PROBLEMS, LONGEST_PROBLEM = 50, 1000
LATER = frozenset({errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.ENOBUFS})
"""What cannot be sent for one of these is sent when there is room: in the line, in memory, or for a file descriptor."""
log = logging.getLogger("weir.control")


class Swap(Struct, frozen=True, tag=True):
    """To a child: go on with the configuration that comes along."""


class Retire(Struct, frozen=True, tag=True):
    """To a worker: a successor is serving; take no new connections, and leave when your last stream has ended."""


class Stop(Struct, frozen=True, tag=True):
    """To a child: the whole gateway ends. The SIGTERM that follows is not about this process alone."""


class Outcome(Struct, frozen=True, tag=True):
    """To the recorder: what became of a reload. `asked` is the newest request of its own that this answers; `hash` is what runs now.

    `problems` say why nothing was reloaded, `error` the same in one line; `possible` is False when there is no file to read.
    """

    asked: int
    hash: str
    changed: bool = False
    problems: tuple[str, ...] = ()
    possible: bool = True

    @property
    def error(self) -> str | None:
        more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
        return self.problems[0] + more if self.problems else None


class Vacant(Struct, frozen=True, tag=True):
    """To the recorder: the process `pid` that spoke in this slot has left for good, and no other has taken its place there."""

    slot: int
    pid: int


class Ready(Struct, frozen=True, tag=True):
    """From a worker: it serves."""


class Leaving(Struct, frozen=True, tag=True):
    """From a worker: it was told to leave by somebody else than its parent; another should take its place now."""


class Reload(Struct, frozen=True, tag=True):
    """From the recorder: somebody asks for a reload; the `number` comes back in its outcome."""

    number: int


Word = Swap | Retire | Stop | Outcome | Vacant | Ready | Leaving | Reload
_DECODER: msgspec.msgpack.Decoder[Word] = msgspec.msgpack.Decoder(Word)


class Line:
    """One end of the pair, for both sides. What cannot be sent now waits here; of configurations only the newest."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._waiting: deque[tuple[Word, Config | None]] = deque()

    def say(self, word: Word, config: Config | None = None) -> None:
        """Send a word, or keep it for the next `flush`."""
        if config is not None:
            self._waiting = deque(item for item in self._waiting if item[1] is None)
        self._waiting.append((word, config))
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as there is room. A side that has gone hears nothing."""
        while self._waiting:
            word, config = self._waiting[0]
            try:
                _send(self.sock, word, config)
            except OSError as error:
                if error.errno in LATER:
                    return
            self._waiting.popleft()

    def heard(self) -> Iterator[tuple[Word, Config | None]]:
        """Yield what has been said; raises EOFError when the other side has gone."""
        while True:
            try:
                packet, files, _, _ = socket.recv_fds(self.sock, LARGEST, 1)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                packet, files = b"", []
            if not packet:
                raise EOFError
            yield _DECODER.decode(packet), _unpacked(files[0]) if files else None

    def close(self) -> None:
        self.sock.close()


class Ear:
    """A child's end, read by its loop. `hear` is called with each word, and with the configuration that came with it."""

    def __init__(self, sock: socket.socket, hear: Callable[[Word, Config | None], None]) -> None:
        self._line, self._hear = Line(sock), hear
        self._parent = os.getppid()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._line.sock.fileno(), self.read)

    def close(self) -> None:
        """Listen no longer; twice is once."""
        if self._loop is not None:
            self._loop.remove_reader(self._line.sock.fileno())
            self._loop = None

    def read(self) -> None:
        """Hear what has been said up to now."""
        try:
            for word, config in self._line.heard():
                if isinstance(word, Swap) and config is None:
                    log.error("a new configuration came and could not be taken: no file descriptor is free; SIGHUP sends it again")
                self._hear(word, config)
        except EOFError:
            self.close()

    @property
    def orphaned(self) -> bool:
        return os.getppid() != self._parent

    def say(self, word: Word) -> None:
        """Tell the supervisor something, and wake it: SIGCHLD makes it look around, and means nothing else to it."""
        self._line.say(word)
        if not self.orphaned:
            os.kill(self._parent, signal.SIGCHLD)


def pair() -> tuple[Line, socket.socket]:
    """Return the parent's end and the child's."""
    mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Line(mine), its


def _send(sock: socket.socket, word: Word, config: Config | None) -> None:
    packet = msgspec.msgpack.encode(word)
    if config is None:
        sock.send(packet)
        return
    file = os.memfd_create("weir-config")
    try:
        with open(file, "wb", closefd=False) as writer:
            pickle.dump(config, writer)
        socket.send_fds(sock, [packet], [file])
    finally:
        os.close(file)


def _unpacked(file: int) -> Config:
    try:
        pickled = os.pread(file, os.fstat(file).st_size, 0)
    finally:
        os.close(file)
    config: Config = pickle.loads(pickled)  # noqa: S301  written by our own parent, into memory nobody else can reach
    return config
