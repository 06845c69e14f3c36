"""Patterns with `*`."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.matching import glob, is_glob


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("*", "", True),
        ("*", "anything/at all", True),
        ("gpt-4o*", "gpt-4o", True),
        ("gpt-4o*", "gpt-4o-mini", True),
        ("gpt-4o*", "xgpt-4o", False),
        ("*-mini", "gpt-4o-mini", True),
        ("a*b*a", "aba", True),
        ("a*a", "a", False),
        ("ab*ba", "aba", False),
        ("gpt-4.", "gpt-4x", False),
        ("[ab]*", "[ab]c", True),
        ("[ab]*", "ac", False),
    ],
)
def test_a_star_stands_for_any_run(pattern: str, text: str, fits: bool) -> None:
    """Only `*` is special, and the whole text must fit."""
    assert glob(pattern, text) is fits


@given(st.text("ab*", max_size=8), st.text("ab", max_size=12))
def test_a_pattern_means_what_the_regular_expression_means(pattern: str, text: str) -> None:
    """Same verdict as the obvious but backtracking implementation."""
    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL) is not None
    assert glob(pattern, text) is expected
    assert is_glob(pattern) is ("*" in pattern)


def test_a_hostile_text_costs_linear_time() -> None:
    """A client's model name may not buy CPU: 20 stars over 100 kB, over which a regular expression would never end."""
    assert not glob("a*" * 20 + "b", "a" * 100_000)
