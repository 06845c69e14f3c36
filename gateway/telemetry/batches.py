"""One thread with one bounded queue: how every audience that may be slow is written to without anybody waiting for it."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from gateway.logs import blunder

Item = TypeVar("Item")
_LOG = logging.getLogger("weir.recorder")
_COMPLAINT_EVERY = 60.0


class Complaints:
    """A log line at most once a minute, however often the reason comes back."""

    def __init__(self) -> None:
        self._said_at: float | None = None

    def say(self, text: str, *details: object) -> None:
        now = time.monotonic()
        if self._said_at is None or now - self._said_at >= _COMPLAINT_EVERY:
            self._said_at = now
            _LOG.warning(text, *details)


class Batches(Generic[Item]):
    """Hands what is put to `write(batch) -> lost` in a thread of its own: a full batch at once, a smaller one after `window` seconds.

    `write` returns how many of the batch were lost; if it raises, all were. `dropped` is that, plus what a full queue refused
    and what `close` had to leave behind.
    """

    def __init__(self, name: str, write: Callable[[list[Item]], int], *, limit: int, batch: int, window: float) -> None:
        self.name = name
        self._write = write
        self._limit, self._batch, self._window = limit, batch, window
        self._queue: deque[Item] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._writing = 0
        self._refused = 0
        self._lost = 0
        self._complaints = Complaints()
        # A daemon: a write that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=f"weir-{name}", daemon=True)

    @property
    def dropped(self) -> int:
        return self._refused + self._lost

    @property
    def waiting(self) -> int:
        """How many items are queued."""
        return len(self._queue)

    def start(self) -> None:
        self._thread.start()

    def put(self, item: Item) -> bool:
        """Queue an item; False, and counted, when the queue is full or closed."""
        with self._wake:
            if self._closing or len(self._queue) >= self._limit:
                self._refused += 1
                return False
            self._queue.append(item)
            if len(self._queue) in (1, self._batch):
                self._wake.notify()
        return True

    def refuse(self) -> None:
        """Count an item that had no room elsewhere."""
        with self._wake:
            self._refused += 1

    def close(self, seconds: float) -> bool:
        """Write what is queued, for at most `seconds`, and count the rest as dropped; blocks, and twice is once.

        Returns whether the thread is through: if not, it hangs in `write`, whose things must be left alone.
        """
        with self._wake:
            first, self._closing = not self._closing, True
            self._wake.notify()
        if first and self._thread.ident is not None:
            self._thread.join(seconds)
        with self._wake:
            self._refused += len(self._queue) + self._writing
            self._queue.clear()
            self._writing = 0
        return not self._thread.is_alive()

    def _run(self) -> None:
        while batch := self._next():
            try:
                lost, why = self._write(batch), None
            except Exception as error:  # noqa: BLE001 - the thread must outlive whatever its audience does; the loss is counted
                lost, why = len(batch), error
            if lost:
                self._complaints.say("telemetry: %d %s lost%s", lost, self.name, f": {blunder(why)}" if why else "")
            with self._wake:
                self._lost += lost if self._writing else 0
                self._writing = 0

    def _next(self) -> list[Item]:
        """Wait for a batch; empty only when closing and nothing is left."""
        with self._wake:
            while not self._queue and not self._closing:
                self._wake.wait()
            deadline = time.monotonic() + self._window
            while len(self._queue) < self._batch and not self._closing and (left := deadline - time.monotonic()) > 0:
                self._wake.wait(left)
            batch = [self._queue.popleft() for _ in range(min(self._batch, len(self._queue)))]
            self._writing = len(batch)
            return batch
