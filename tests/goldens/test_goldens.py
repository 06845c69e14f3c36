"""What translation makes of calls and answers, compared with what was reviewed: `python -m tests.goldens.make` writes it anew."""

from pathlib import Path

import pytest

from tests.goldens.make import golden, names

HERE = Path(__file__).parent


@pytest.mark.parametrize("name", names())
def test_nothing_has_changed(name: str) -> None:
    """A change of what clients or upstreams are sent shows up in a review, as a change of a golden."""
    assert golden(name) == (HERE / f"{name}.txt").read_text(), "if this is meant: python -m tests.goldens.make, and review the difference"


def test_every_golden_is_made() -> None:
    """A golden that nothing makes would be compared with nothing."""
    assert {path.stem for path in HERE.glob("*.*-*.txt")} == set(names())
