"""Where one worker keeps its tapes: for how long without a listener, how many of them, and how much."""

import asyncio
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

DRAINED = 100
"""Streams that may run on at once with nobody there to listen; beyond it the one longest alone is given up: it is the least likely to
be asked for."""
KEPT_BYTES = 64 << 20
"""Bytes of tapes whose streams are over; beyond it the oldest go."""


class OnTape(Protocol):
    """A stream that has a tape."""

    @property
    def stream_id(self) -> str: ...
    @property
    def size(self) -> int: ...
    def give_up(self) -> None: ...


T = TypeVar("T", bound=OnTape)


class Shelf(Generic[T]):
    """The tapes of one worker by stream. A tape is here from the moment its stream goes on tape until nobody can come back for it."""

    def __init__(self) -> None:
        self._tapes: dict[str, T] = {}
        self._alone: dict[str, T] = {}  # longest alone first
        self._kept: dict[str, tuple[T, int]] = {}  # oldest first, with the size it is counted by: a tape may still get shorter
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._kept_bytes = 0

    def __len__(self) -> int:
        return len(self._tapes)

    def find(self, stream_id: str) -> T | None:
        """Return the tape of a stream."""
        return self._tapes.get(stream_id)

    def put(self, tape: T) -> None:
        """A stream goes on tape, with a client that listens."""
        self._tapes[tape.stream_id] = tape

    def leave_alone(self, tape: T, seconds: float) -> None:
        """The client of a running stream has gone; it may come back within `seconds`, else the stream is given up."""
        self._alone[tape.stream_id] = tape
        self._wait(tape, seconds, tape.give_up)
        if len(self._alone) > DRAINED:
            next(iter(self._alone.values())).give_up()

    def found(self, tape: T) -> None:
        """A running stream has a client again, or is given up: nothing is waited for."""
        if self._alone.pop(tape.stream_id, None) is not None:
            self._timers.pop(tape.stream_id).cancel()

    def keep(self, tape: T, seconds: float) -> None:
        """A stream is over: its tape may be read for `seconds` more."""
        self.found(tape)
        self._kept[tape.stream_id] = tape, (size := tape.size)
        self._kept_bytes += size
        self._wait(tape, seconds, lambda: self.drop(tape))
        while self._kept_bytes > KEPT_BYTES:
            self.drop(next(iter(self._kept.values()))[0])

    def drop(self, tape: T) -> None:
        """Nobody can come back for this stream any more."""
        self.found(tape)
        if (kept := self._kept.pop(tape.stream_id, None)) is not None:
            self._kept_bytes -= kept[1]
            self._timers.pop(tape.stream_id).cancel()
        self._tapes.pop(tape.stream_id, None)

    def close(self) -> None:
        """Drop everything."""
        for tape in tuple(self._tapes.values()):
            self.drop(tape)

    def _wait(self, tape: T, seconds: float, then: Callable[[], None]) -> None:
        self._timers[tape.stream_id] = asyncio.get_running_loop().call_later(seconds, then)
