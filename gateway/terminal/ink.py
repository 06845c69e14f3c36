"""Colours where they are wanted, units that are read at a glance, and words of others made harmless to a terminal."""

import os
import re
import sys
from collections.abc import Mapping
from typing import TextIO

_CODES = {"red": "31", "green": "32", "amber": "33", "blue": "34", "violet": "35", "teal": "36", "dim": "2"}
_HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What moves a terminal's cursor, colours it, turns text around or asks it for an answer; tab and newline are let be."""

BLAMES: Mapping[str, tuple[str, str]] = {"upstream": ("U", "amber"), "client": ("C", "violet"), "gateway": ("G", "red")}
"""Who holds a silence: letter and colour."""
OUTCOMES: Mapping[str, str] = {"completed": "green", "client_disconnect": "violet", "client_stalled": "violet", "rejected": "amber"}
"""Colours of outcomes; all others are red."""


def plain(text: object) -> str:
    """Return text that others have chosen (models, tags, answers) with nothing in it that a terminal would obey."""
    return _HARMFUL.sub("\ufffd", str(text))


def word(text: object) -> str:
    """Return the same for what must stay on one line."""
    return plain(text).replace("\n", " ").replace("\t", " ")


def coloured(stream: TextIO) -> bool:
    """Say whether colours are wanted: on a terminal that knows them, unless NO_COLOR (no-color.org) forbids them."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class Ink:
    """Colours text, or does not."""

    def __init__(self, on: bool | None = None) -> None:
        self.on = coloured(sys.stdout) if on is None else on

    def __call__(self, text: str, colour: str | None) -> str:
        return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if self.on and colour is not None and text else text


def seconds(value: float | None) -> str:
    """Return a duration as "212 ms", "4.81 s", "61 min"; nothing for one that is not known."""
    if value is None:
        return ""
    if value < 0.9995:
        return f"{value * 1000:.0f} ms"
    return f"{value:.2f} s" if value < 100 else f"{value:.0f} s" if value < 3600 else f"{value / 60:.0f} min"


def share(value: float | None) -> str:
    return "" if value is None else f"{value * 100:.1f} %"
