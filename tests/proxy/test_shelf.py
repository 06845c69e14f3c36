"""The shelf alone: what it counts is what it gave room to, whatever becomes of a tape meanwhile."""

from dataclasses import dataclass

import pytest

from gateway.proxy import shelf as shelves
from gateway.proxy.shelf import Shelf
from tests.rig.client import wait_until


@dataclass
class Something:
    """Anything that is on a tape: of a size that can change."""

    stream_id: str
    size: int
    given_up: bool = False

    def give_up(self) -> None:
        self.given_up = True


async def test_a_tape_that_gets_shorter_takes_no_room_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tape whose client catches up after the end is shortened: when it goes, all that it was counted by is free again (B13)."""
    monkeypatch.setattr(shelves, "KEPT_BYTES", 150)
    shelf: Shelf[Something] = Shelf()
    for number in range(20):
        tape = Something(f"{number}", 100)
        shelf.put(tape)
        shelf.keep(tape, 60)
        assert shelf.find(tape.stream_id) is tape, number
        tape.size = 10
        shelf.drop(tape)
    assert len(shelf) == 0


async def test_a_tape_larger_than_all_room_goes_alone() -> None:
    """What is too much by itself is not kept, and nothing fails for it."""
    shelf: Shelf[Something] = Shelf()
    huge, small = Something("huge", shelves.KEPT_BYTES + 1), Something("small", 1)
    for tape in (huge, small):
        shelf.put(tape)
        shelf.keep(tape, 60)
    assert (shelf.find("huge"), shelf.find("small")) == (None, small)
    shelf.close()


async def test_a_tape_is_dropped_when_its_time_is_over() -> None:
    """A running stream is given up, one that is over is forgotten."""
    shelf: Shelf[Something] = Shelf()
    running, over = Something("running", 1), Something("over", 1)
    shelf.put(running)
    shelf.put(over)
    shelf.leave_alone(running, 0.0)
    shelf.keep(over, 0.0)
    await wait_until(lambda: running.given_up and shelf.find("over") is None)
    assert shelf.find("running") is running
    shelf.close()
