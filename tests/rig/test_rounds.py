"""What judging in rounds lets pass, and what not."""

import time

import pytest

from tests.rig.rounds import LATE, ROUNDS, in_rounds


async def told(*late: bool, fails: int) -> int:
    """Tell a story that fails so often, in rounds of which some are late; return how often it was told."""
    times = 0

    async def story() -> None:
        nonlocal times
        times += 1
        if late[min(times, len(late)) - 1]:
            time.sleep(2 * LATE)  # noqa: ASYNC251 - what a busy machine does
        assert times > fails

    try:
        await in_rounds(story)
    except AssertionError:
        return -times
    return times


@pytest.mark.parametrize(
    ("late", "fails", "times"),
    [((True,), 0, 1), ((True, True, False), 2, 3), ((False,), 1, -1), ((True, False), 2, -2), ((True,), 99, -ROUNDS)],
    ids=["late and well", "twice spoilt", "a defect", "a defect after a late round", "a defect on a machine that is always late"],
)
async def test_only_a_late_round_is_told_again(late: tuple[bool, ...], fails: int, times: int) -> None:
    """A failure counts in the first round in which the loop was in time, and in the last whatever it was."""
    assert await told(*late, fails=fails) == times
