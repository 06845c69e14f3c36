"""Replacing workers while they serve: a successor begins on the same socket, then its predecessor takes no more and leaves in its time."""

import logging
from collections import deque
from collections.abc import Callable, Sequence

from gateway.child import Child
from gateway.control import Retire

log = logging.getLogger("weir.supervisor")
READY_WITHIN = 30.0
STEP_SECONDS = 0.05


class Replacement:
    """Knows which child of each seat serves, and puts the other in its place: one seat after the other, never two at once.

    `start` forks a child; `vacate` is told of one that is no longer wanted, and says so to the recorder if it does not run any more.
    """

    def __init__(self, children: Sequence[Child], start: Callable[[Child], None], vacate: Callable[[Child], None]) -> None:
        self._children, self._start, self._vacate = children, start, vacate
        self._queue: deque[int] = deque()
        self._waited: set[int] = set()
        self._pair: tuple[Child, Child] | None = None
        self._deadline = 0.0

    @property
    def busy(self) -> bool:
        return self._pair is not None or bool(self._queue)

    def ask(self) -> None:
        """Replace every worker once; who asks again meanwhile gets this round."""
        if self.busy:
            log.warning("workers are being replaced already")
            return
        self._queue.extend(sorted({child.seat for child in self._children if child.seat is not None}))
        log.info("replacing %d worker(s), one after the other", len(self._queue))

    def step(self, now: float) -> None:
        """Do what can be done now: begin with the next seat, or retire the one whose successor serves."""
        if self._pair is None:
            self._begin(now)
            return
        old, new = self._pair
        if not old.wanted:  # somebody else has told it to leave meanwhile: its successor is all there is, however long it takes
            self._pair = None
        elif new.ready:
            old.wanted = False
            old.tell(Retire())
            self._vacate(old)  # it may have died meanwhile, and waited for its turn to come back
            log.info("worker (pid %s) serves in place of pid %s, which leaves when its streams have ended", new.pid, old.pid)
            self._pair = None
        elif now > self._deadline:
            log.error("the successor of worker (pid %s) does not come up; that goes on serving", old.pid)
            new.wanted = False
            new.kill()
            self._vacate(new)
            self._pair = None
            self._queue.clear()

    def leaving(self, child: Child) -> None:
        """A worker was told by somebody else to leave: its place is taken at once, if nobody of the seat is still on the way out."""
        other = self._other(child)
        if child.wanted and other is not None and other.pid is None:
            log.info("worker (pid %s) was told to leave; another takes its place", child.pid)
            child.wanted, other.wanted = False, True
            self._start(other)

    def _begin(self, now: float) -> None:
        for _ in range(len(self._queue)):
            seat = self._queue.popleft()
            old = next((child for child in self._children if child.seat == seat and child.wanted), None)
            new = self._other(old) if old is not None else None
            if old is None or new is None:
                continue
            if new.pid is None:
                self._pair, self._deadline = (old, new), now + READY_WITHIN
                new.wanted = True
                self._start(new)
                return
            self._queue.append(seat)
            if seat not in self._waited:
                self._waited.add(seat)
                log.info("worker (pid %s) is replaced when its predecessor (pid %s) has left", old.pid, new.pid)
        if not self._queue:
            self._waited.clear()

    def _other(self, child: Child) -> Child | None:
        """Return who stands in for a child."""
        if child.seat is None:
            return None
        return next((other for other in self._children if other.seat == child.seat and other is not child), None)
