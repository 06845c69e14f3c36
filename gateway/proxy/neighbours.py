"""Workers that share a port, and how one hands a request to another: it makes a pair of sockets and sends one end across.

Every worker has a bell, a pair of datagram sockets that the supervisor made before it forked. Only their own processes hold them: there
is no path and no name that anybody else could find. They outlive a worker, so who is there to hear one stands on a roll: a file in memory
of which each worker locks its own byte. However it ends, the kernel strikes it off.
"""

import array
import asyncio
import contextlib
import fcntl
import os
import socket
import struct
from collections.abc import Callable, Iterator, Sequence

Bell = tuple[socket.socket, socket.socket]
"""The end that is listened to, and the end that is rung."""
_LOCK = "hhqqi4x"
"""`struct flock` of fcntl(2): type, whence, start, length, process."""


def bell() -> Bell:
    """Make the bell of one worker."""
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in pair:
        end.setblocking(False)
    return pair


def roll() -> int:
    """Make the roll of all workers; returns its file descriptor. It may be closed in none of them: that would unlock what it has locked."""
    return os.memfd_create("weir-roll")


class Neighbours:
    """One worker's place, `number`, among those that share its port; `bells` are those of all of them, its own included."""

    def __init__(self, bells: Sequence[Bell], roll: int, number: int) -> None:
        self._bells, self._roll, self.number = bells, roll, number
        self._coming: set[asyncio.Task[object]] = set()

    def present(self, number: int) -> bool:
        """Return whether another worker has this number now."""
        if not 0 <= number < len(self._bells):
            return False
        asked = fcntl.fcntl(self._roll, fcntl.F_GETLK, struct.pack(_LOCK, fcntl.F_WRLCK, os.SEEK_SET, number, 1, 0))
        return bool(struct.unpack(_LOCK, asked)[0] != fcntl.F_UNLCK)

    def start(self, protocol: Callable[[], asyncio.Protocol]) -> None:
        """Serve what the others hand over, each connection with a protocol of its own."""
        self._protocol = protocol
        self._hang_up()
        fcntl.lockf(self._roll, fcntl.LOCK_EX, 1, self.number)
        asyncio.get_running_loop().add_reader(self._bells[self.number][0], self._answer)

    def close(self) -> None:
        """Answer no more; may be called twice."""
        asyncio.get_running_loop().remove_reader(self._bells[self.number][0])
        fcntl.lockf(self._roll, fcntl.LOCK_UN, 1, self.number)
        self._hang_up()
        for task in tuple(self._coming):
            task.cancel()

    def _answer(self) -> None:
        for sock in self._rung():
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            task = loop.create_task(loop.connect_accepted_socket(self._protocol, sock))
            self._coming.add(task)
            task.add_done_callback(self._coming.discard)

    def _hang_up(self) -> None:
        """Let those who have rung for nobody know it, instead of after seconds: what they ask for was another process's, or is no more."""
        for sock in self._rung():
            sock.close()

    def _rung(self) -> Iterator[socket.socket]:
        """Yield the connection of everybody who has rung."""
        with contextlib.suppress(BlockingIOError):
            while numbers := socket.recv_fds(self._bells[self.number][0], 1, 1)[1]:
                yield socket.socket(fileno=numbers[0])

    async def ring(self, number: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection to another worker; raises OSError when its bell takes no more."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            ours.setblocking(False)
            with theirs:
                self._bells[number][1].sendmsg([b"!"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]))])
            return await asyncio.open_connection(sock=ours)
        except BaseException:
            ours.close()
            raise
