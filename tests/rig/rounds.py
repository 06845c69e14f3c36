"""Judging in rounds: what is measured in tenths of a second says nothing of a round in which this process itself stood still."""

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

ROUNDS = 5
"""How often at most. A defect fails the first round in which the loop was in time, and the last one whatever the loop was."""
LATE, EVERY = 0.05, 0.01
"""Seconds by which the loop must have been late for a round not to count, and how often that is looked at."""
T = TypeVar("T")


class Canary:
    """How late the running loop was at worst since this was made."""

    def __init__(self) -> None:
        self._loop, self._worst = asyncio.get_running_loop(), 0.0
        self._again()

    def _again(self) -> None:
        self._due = time.monotonic() + EVERY
        self._timer = self._loop.call_later(EVERY, self._fire)

    def _fire(self) -> None:
        self._worst = self.worst
        self._again()

    @property
    def worst(self) -> float:
        return max(self._worst, time.monotonic() - self._due)

    def stop(self) -> None:
        self._timer.cancel()


async def in_rounds(story: Callable[[], Awaitable[T]]) -> T:
    """Tell a story that starts all it judges, again only where it failed while the loop was late; return what it gives."""
    left = ROUNDS
    while True:
        left -= 1
        canary = Canary()
        try:
            return await story()
        except (Exception, BaseExceptionGroup, pytest.fail.Exception):
            if not left or canary.worst < LATE:
                raise
        finally:
            canary.stop()


def judged_in_rounds(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Make a whole test such a story."""

    @functools.wraps(test)
    async def judged(**fixtures: Any) -> None:
        await in_rounds(lambda: test(**fixtures))

    return judged
