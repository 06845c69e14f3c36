"""Who serves in a seat, and who is told when somebody leaves it."""

from gateway.child import Child
from gateway.replacement import READY_WITHIN, Replacement


def seat() -> tuple[Child, Child]:
    """Two children that stand in for each other; the first serves."""
    children = tuple(Child("worker", lambda: None) for _ in range(2))
    for child in children:
        child.seat = 0
    children[0].pid, children[1].wanted = 11, False
    return children[0], children[1]


def test_a_worker_that_died_while_its_successor_came_up_is_vacated() -> None:
    """Nobody will reap it any more, so its end is told when it is given up: its streams do not live for ever in the books (G4 G3)."""
    old, new = seat()
    started, vacated = list[Child](), list[Child]()
    ours = Replacement((old, new), started.append, vacated.append)
    ours.ask()
    ours.step(0.0)
    old.pid, new.ready = None, True
    ours.step(1.0)
    assert (started, vacated, old.wanted, new.wanted, ours.busy) == ([new], [old], False, True, False)


def test_a_successor_that_does_not_come_up_is_given_up() -> None:
    """The one that serves goes on serving."""
    old, new = seat()
    vacated = list[Child]()
    ours = Replacement((old, new), lambda _: None, vacated.append)
    ours.ask()
    ours.step(0.0)
    ours.step(READY_WITHIN + 1)
    assert (vacated, old.wanted, new.wanted, ours.busy) == ([new], True, False, False)


def test_a_seat_that_nobody_is_wanted_in_is_passed_over() -> None:
    """It was told to leave by somebody else: there is nothing to replace, and nothing breaks."""
    old, new = seat()
    old.wanted = False
    ours = Replacement((old, new), lambda _: None, lambda _: None)
    ours.ask()
    ours.step(0.0)
    assert not ours.busy
