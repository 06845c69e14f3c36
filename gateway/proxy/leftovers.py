"""What clients leave of answers that nobody watches: a short one, one to what is no request, the last bytes before a connection closes.

A stream has its own watch, and so has the end of every relayed answer. Of all others the handler is done once they are written: they wait
in a buffer of ours, and their connection with them, until the client takes them. It has a while for it, not for ever.
"""

import asyncio
from collections.abc import Mapping

from aiohttp.web_protocol import RequestHandler

from gateway.proxy.farewell import PATIENCE
from gateway.proxy.reply import untaken

LEAVE_TAKING = 300.0
"""Seconds that a worker which retires gives a client to take what is left for it, however steadily it does."""


class Leftovers:
    """Knows of each connection with bytes left behind how many, when some were last taken, and since when they wait."""

    def __init__(self) -> None:
        self._seen: dict[RequestHandler, tuple[int, float, float]] = {}

    def overdue(
        self, connections: Mapping[RequestHandler, asyncio.Transport], now: float, *, retiring: bool = False
    ) -> list[asyncio.Transport]:
        """Look at all connections, and return those of clients that have taken nothing for too long."""
        left = [item for item in connections.items() if item[1].get_write_buffer_size() and not in_hand(item[0])]
        seen, self._seen = self._seen, {}
        late = []
        for connection, transport in left:
            unsent = untaken(transport)
            before, taken_at, since = seen.get(connection, (-1, now, now))
            if unsent != before:
                taken_at = now
            self._seen[connection] = unsent, taken_at, since
            if now - taken_at > PATIENCE or (retiring and now - since > LEAVE_TAKING):
                late.append(transport)
        return late


def in_hand(connection: RequestHandler) -> bool:
    """Return whether a handler of ours has a request of this connection in hand: it watches over its answer itself."""
    return connection._current_request is not None  # noqa: SLF001  nothing public tells
