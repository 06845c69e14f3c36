"""A histogram as text: short, and no gap lost."""

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.buckets import GAP_BOUNDS, subdivide
from gateway.telemetry.histogram_text import LONGEST, histogram_text


@given(st.lists(st.tuples(st.sampled_from((*subdivide(GAP_BOUNDS), inf)), st.integers(1, 10**9)), max_size=120))
def test_short_and_complete(gaps: list[tuple[float, int]]) -> None:
    """At most 256 characters, however many bins and however big; the counts sum to the gaps."""
    text = histogram_text(gaps)
    assert len(text) <= LONGEST
    assert sum(int(part.rsplit(":")[1]) for part in text.split(",") if part) == sum(count for _, count in gaps)


def test_bounds_are_written_as_people_do() -> None:
    """Milliseconds below a second, seconds above, inf for what is longer than every bound."""
    assert histogram_text([(0.0005, 1), (0.009, 2), (0.01, 1), (1.28, 4), (inf, 5)]) == "0.5ms:1,10ms:3,1.28s:4,inf:5"
