"""Carries the steps of one answer out on a transport: bytes, silences and endings, one timer at a time."""

import asyncio
import socket
import struct
import time
from collections.abc import Callable, Iterator

from msgspec import Struct, field

from gateway.sim.steps import Fin, HalfClose, Hang, Pause, Reset, Send, Step

TURN = 256 * 1024  # bytes written before the loop gets a turn, so that an endless answer starves nobody
CATCH_UP = 1.0  # seconds behind its plan after which a stream stops trying to make up for lost time
RESET_PATIENCE = 1000  # milliseconds to wait for what was sent to leave before the connection is broken


class Request(Struct, kw_only=True):
    """One request as a provider saw it, and how its answer ended. Times are monotonic seconds.

    `ordinal` numbers the answers of a provider (None: not one to be generated); `bytes_sent` counts what was handed to the
    transport. `outcome`: "open" (being answered), "completed" (all of it said), "cut" (we broke it off, by a fault), "peer_left"
    (the peer closed before the end), "stopped" (the provider was closed). `closed_by` says who closed the connection, when this was
    the last request on it.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float
    connection: int
    ordinal: int | None = None
    fault: str = "none"
    bytes_sent: int = 0
    tokens_sent: int = 0
    first_token_at: float | None = None
    ended_at: float | None = None
    outcome: str = "open"
    closed_by: str | None = None
    closed_at: float | None = None
    sent: list[tuple[float, int]] = field(default_factory=list)
    """(when, bytes) of the first writes, at most 1,000: to compare with when a client saw them."""


class Player:
    """Plays one answer. `ended(outcome)` is called once, when there is nothing more to say on this connection or for this request."""

    __slots__ = ("_due", "_ended", "_held", "_loop", "_request", "_steps", "_timer", "_transport", "_waiting")

    def __init__(self, transport: asyncio.Transport, request: Request, steps: Iterator[Step], ended: Callable[[str], None]) -> None:
        self._transport = transport
        self._request = request
        self._steps = steps
        self._ended: Callable[[str], None] | None = ended
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.Handle | None = None
        self._held = False
        self._waiting = False
        self._due = request.at

    def hold(self) -> None:
        """The peer does not take what we send: say nothing until `release`."""
        self._held = True

    def release(self) -> None:
        self._held = False
        if self._waiting:
            self._waiting = False
            self._due = time.monotonic()
            self.turn()

    def stop(self, outcome: str) -> None:
        """End with this outcome, unless it ended already; the rest of the plan is dropped."""
        if self._timer is not None:
            self._timer.cancel()
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(outcome)

    def turn(self) -> None:
        """Send what is due, then wait for as long as the plan says."""
        if self._held:
            self._waiting = True
            return
        batch: list[bytes] = []
        size = 0
        then: Step | None = None
        for step in self._steps:
            if type(step) is not Send:
                then = step
                break
            batch.append(step.data)
            size += len(step.data)
            if step.tokens:
                self._spoke(step.tokens)
            if size >= TURN:
                then = Pause()
                break
        if batch and not self._transport.is_closing():
            self._write(batch[0] if len(batch) == 1 else b"".join(batch))
        self._follow(then)

    def _spoke(self, tokens: int) -> None:
        self._request.tokens_sent += tokens
        if self._request.first_token_at is None:
            self._request.first_token_at = time.monotonic()

    def _write(self, data: bytes) -> None:
        self._request.bytes_sent += len(data)
        if len(self._request.sent) < 1000:
            self._request.sent.append((time.monotonic(), len(data)))
        self._transport.write(data)

    def _follow(self, step: Step | None) -> None:
        if type(step) is Pause:
            self._pause(step.seconds)
        elif step is None:
            self.stop("completed")
        elif type(step) is HalfClose:
            self._transport.write_eof()
            self._timer = self._loop.call_soon(self.turn)
        elif type(step) is Fin:
            self._transport.close()
            self.stop("cut")
        elif type(step) is Reset:
            self._reset(RESET_PATIENCE)
        else:
            assert type(step) is Hang, "the end of a body is put into bytes before it is played"

    def _pause(self, seconds: float) -> None:
        if seconds <= 0:
            self._timer = self._loop.call_soon(self.turn)
            return
        now = time.monotonic()
        self._due += seconds
        if self._due < now - CATCH_UP:
            self._due = now
        self._timer = self._loop.call_later(max(0.0, self._due - now), self.turn)

    def _reset(self, patience: int) -> None:
        """Break the connection once the transport is empty: a write still held by us would be lost, one in the kernel is not."""
        if patience and self._transport.get_write_buffer_size():
            self._timer = self._loop.call_later(0.001, self._reset, patience - 1)
            return
        break_off(self._transport)
        self.stop("cut")


def break_off(transport: asyncio.Transport) -> None:
    """Close with RST instead of FIN (SO_LINGER with a time of 0)."""
    sock = transport.get_extra_info("socket")
    if sock is not None and not transport.is_closing():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
