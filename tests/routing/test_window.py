"""Two counts over the last seconds."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.window import PARTS, Window

steps = st.lists(st.tuples(st.floats(0, 7), st.integers(0, 3), st.integers(0, 3)), max_size=40)


@given(steps, st.floats(0.5, 40))
def test_counts_what_is_recent_and_nothing_old(happenings, length):
    """Everything younger than the window is counted, nothing older than 1.1 windows is."""
    window, now, history = Window(length), 0.0, []
    for gap, first, second in happenings:
        now += gap
        window.add(now, first, second)
        history.append((now, first, second))
        sure = [entry for entry in history if now - entry[0] < length * 0.999]
        possible = [entry for entry in history if now - entry[0] <= length * (1 + 1 / PARTS) * 1.001]
        assert sum(entry[1] for entry in sure) <= window.first <= sum(entry[1] for entry in possible)
        assert sum(entry[2] for entry in sure) <= window.second <= sum(entry[2] for entry in possible)


def test_empties_after_a_pause():
    """After a pause longer than the window, however long, nothing is left."""
    window = Window(10.0)
    for now in range(100):
        window.add(now, 1, 1)
    window.advance(1e9)
    assert (window.first, window.second) == (0, 0)


def test_step_backwards_counts_as_the_same_moment():
    """A time before the last one neither raises nor forgets."""
    window = Window(10.0)
    window.add(100.0, 1, 0)
    window.add(50.0, 1, 0)
    assert window.first == 2
