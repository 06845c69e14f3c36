"""Who looks on, what the workers are told of it, and the share of the streams that is shown."""

import random
from typing import Any

import pytest

from gateway.core.messages import Watching
from gateway.telemetry.onlookers import ENOUGH, MOST_SHOWN, Onlookers, fitting


class Eye:
    """Somebody who looks on, and counts how often other streams were drawn."""

    def __init__(self, closely: bool = True) -> None:
        self.draws, self.closely = 0, closely

    def drawn(self) -> None:
        self.draws += 1

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"nothing of the streams is told here: {name}")


def test_workers_tell_of_tokens_only_while_somebody_looks_on() -> None:
    """The first onlooker turns it on, the last one off; each one that comes makes them tell of the past once more."""
    told: list[Watching] = []
    onlookers, one, other = Onlookers(told.append), Eye(), Eye()
    onlookers.add(one, 3)
    onlookers.add(other, 3)
    onlookers.discard(one)
    assert told == [Watching(True), Watching(True)]
    onlookers.discard(other)
    onlookers.discard(other)
    assert told[2:] == [Watching(False)]
    assert (one.draws, other.draws, len(onlookers)) == (1, 1, 0)


def test_who_does_not_look_closely_costs_the_workers_nothing() -> None:
    """Somebody who wants no tokens turns nothing on, and keeps nothing on that others have."""
    told: list[Watching] = []
    onlookers, far, near = Onlookers(told.append), Eye(closely=False), Eye()
    onlookers.add(far, 3)
    assert told == []
    onlookers.add(near, 3)
    onlookers.discard(near)
    assert told == [Watching(True), Watching(False)]
    onlookers.draw(9000)
    assert len(told) == 2


def test_a_share_changes_for_good_reasons_only() -> None:
    """It is halved when too many streams live, and doubled when half as many would be few: never to and fro at one number."""
    actives = (0, MOST_SHOWN, MOST_SHOWN + 1, 4 * MOST_SHOWN, 4 * MOST_SHOWN + 1)
    assert [fitting(1.0, active) for active in actives] == [1, 1, 0.5, 0.25, 0.125]
    assert fitting(0.5, MOST_SHOWN) == 0.5
    assert fitting(0.5, ENOUGH) == 1.0
    assert fitting(0.125, 0) == 1.0
    for active in range(0, 5000, 7):
        share = fitting(1.0, active)
        assert fitting(share, active) == share
        assert active * share <= MOST_SHOWN


def test_a_new_share_is_told_to_workers_and_onlookers_once() -> None:
    """As long as it fits, nobody hears of it; with nobody looking on nothing is drawn."""
    told: list[Watching] = []
    onlookers, eye = Onlookers(told.append), Eye()
    onlookers.draw(10_000)
    onlookers.add(eye, 600)
    for active in (600, 700, 1100, 1100, 300):
        onlookers.draw(active)
    assert [watching.share for watching in told] == [0.5, 0.25, 1.0]
    assert eye.draws == 3


@pytest.mark.parametrize("share", [0.5, 0.25, 0.125])
def test_a_share_is_fair_and_the_same_for_everybody(share: float) -> None:
    """Ids decide alone: about as many are shown as it says, and whoever is shown of a smaller share is so of a larger one."""
    dice = random.Random(5)
    ids = [f"{dice.getrandbits(96):024x}-{number % 3}" for number in range(20_000)]
    shown = [each for each in ids if Watching(True, share).shows(each)]
    assert len(shown) == pytest.approx(share * len(ids), rel=0.06)
    assert all(Watching(True, share * 2).shows(each) for each in shown)
    assert all(Watching(True, 1.0).shows(each) for each in ids)
