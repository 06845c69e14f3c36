"""Workers that share a port, and how one hands a request to another: it makes a pair of sockets and sends one end across.

Every worker has a bell, a pair of datagram sockets that the supervisor made before it forked. Only their own processes hold them: there
is no path and no name that anybody else could find. They outlive a worker; what rings while one is replaced is heard by the next.
"""

import array
import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence

Bell = tuple[socket.socket, socket.socket]
"""The end that is listened to, and the end that is rung."""


def bell() -> Bell:
    """Make the bell of one worker."""
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in pair:
        end.setblocking(False)
    return pair


class Neighbours:
    """One worker's place, `number`, among those that share its port; `bells` are those of all of them, its own included."""

    def __init__(self, bells: Sequence[Bell], number: int) -> None:
        self._bells, self.number = bells, number
        self._coming: set[asyncio.Task[object]] = set()

    def __len__(self) -> int:
        return len(self._bells)

    def start(self, protocol: Callable[[], asyncio.Protocol]) -> None:
        """Serve what the others hand over, each connection with a protocol of its own."""
        self._protocol = protocol
        asyncio.get_running_loop().add_reader(self._bells[self.number][0], self._answer)

    def close(self) -> None:
        """Answer no more; may be called twice."""
        asyncio.get_running_loop().remove_reader(self._bells[self.number][0])
        for task in tuple(self._coming):
            task.cancel()

    def _answer(self) -> None:
        ear = self._bells[self.number][0]
        with contextlib.suppress(BlockingIOError):
            while True:
                _, numbers, _, _ = socket.recv_fds(ear, 1, 1)
                if not numbers:
                    return
                sock = socket.socket(fileno=numbers[0])
                sock.setblocking(False)
                loop = asyncio.get_running_loop()
                task = loop.create_task(loop.connect_accepted_socket(self._protocol, sock))
                self._coming.add(task)
                task.add_done_callback(self._coming.discard)

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
