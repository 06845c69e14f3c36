"""The last wait for a client: it has to take what is left of its answer, and it does not have for ever."""

from collections.abc import Awaitable

from gateway.core.errors import ClientStalled, GatewayError
from gateway.proxy.plane import Plane
from gateway.proxy.reply import Reply

PATIENCE = 60.0
"""Seconds without a byte taken, where no route says otherwise."""


class Farewell:
    """Waits while a client takes what has been written for it, under the same watch as a running stream.

    One that takes nothing for `patience` seconds, or whose stream is stopped by `kill`, is broken off: whoever waits gets the
    ConnectionError of that, and `cause` says why.
    """

    def __init__(self, plane: Plane, reply: Reply, patience: float = PATIENCE) -> None:
        self._plane, self._reply, self._patience = plane, reply, patience
        self._unsent, self._progress_at = -1, 0.0  # the first tick begins to count; a client that is quick sees none
        self.cause: GatewayError | None = None

    async def over(self, work: Awaitable[None]) -> None:
        """Wait for the work that ends the answer."""
        self._plane.watch.watched.add(self)
        try:
            await work
        finally:
            self._plane.watch.watched.discard(self)

    def tick(self, now: float) -> None:
        """See whether the client has taken anything."""
        if (unsent := self._reply.unsent()) != self._unsent:
            self._unsent, self._progress_at = unsent, now
        elif now - self._progress_at > self._patience:
            self.kill(ClientStalled("the client takes no bytes"))

    def silence(self, now: float) -> float:  # noqa: ARG002 - what is watched is asked; the upstream has had its say
        return 0.0

    def kill(self, error: GatewayError) -> None:
        """Wait no longer."""
        self.cause = self.cause or error
        self._reply.break_off()
