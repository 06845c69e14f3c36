"""Keys that stand in prompts and answers, struck out before these are stored or shown: the well-known shapes only, and no guarantee."""

import re
from bisect import bisect_right
from collections.abc import Sequence

MARK = "[redacted]"
SHAPES = {
    "OpenAI, Anthropic and their like": (("sk-",), r"sk-[A-Za-z0-9_-]{16,}"),
    "Stripe": (("k_live_",), r"[rs]k_live_[A-Za-z0-9]{16,}"),
    "AWS key ids": (("AKIA", "ASIA"), r"A(?:KIA|SIA)[0-9A-Z]{16}"),
    "Google": (("AIza",), r"AIza[0-9A-Za-z_-]{35}"),
    "GitHub": (("gho_", "ghp_", "ghr_", "ghs_", "ghu_", "github_pat_"), r"(?:gh[oprsu]_|github_pat_)[A-Za-z0-9_]{20,}"),
    "GitLab": (("glpat-",), r"glpat-[A-Za-z0-9_-]{16,}"),
    "Slack": (("xox",), r"xox[abeoprs]-[A-Za-z0-9-]{10,}"),
    "Hugging Face": (("hf_",), r"hf_[A-Za-z0-9]{20,}"),
    "signed tokens (JWT)": (("eyJ",), r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"),
    "bearer tokens": (("earer",), r"(?P<keep>[Bb]earer\s{1,4})[A-Za-z0-9._~+/-]{16,}=*"),
    "private keys (PEM)": (
        ("-----BEGIN",),
        r'-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----[^"-]{0,20000}(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----)?',
    ),
}
"""Whose keys, what one of them has in it, and what it looks like."""
_SIGNS = tuple(sign for signs, _ in SHAPES.values() for sign in signs)
_KEY = re.compile(r"(?:(?<![A-Za-z0-9_])|(?<=\\[bfnrt]))(?:" + "|".join(shape for _, shape in SHAPES.values()) + ")")
"""A key begins a word; in JSON text a word may begin behind an escaped line break."""
_PARTS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.~+/=-"
_BEARER = re.compile(r"[Bb]earer\s{1,4}\Z")
_CLOSED = re.compile(r"-----END [^-]{0,60}-----")
LONGEST, LONGEST_PEM = 4096, 20_000
"""Characters that are waited for; what goes on without an end is no key."""


def redacted(text: str, places: Sequence[int] = ()) -> tuple[str, list[int]]:
    """Return a text without keys, and where these places in it (offsets, in any order) are now; one inside a key is behind its mark."""
    if not any(sign in text for sign in _SIGNS):
        return text, list(places)
    kept: list[str] = []
    ends, moved = [0], [0]  # from an old offset on, everything has moved by so much
    starts: list[int] = []
    last = 0
    for found in _KEY.finditer(text):
        start = found.end("keep") if found["keep"] else found.start()
        kept += (text[last:start], MARK)
        last = found.end()
        starts.append(start)
        ends.append(last)
        moved.append(moved[-1] + len(MARK) - (last - start))
    kept.append(text[last:])
    return "".join(kept), [_moved(place, starts, ends, moved) for place in places]


def _moved(place: int, starts: list[int], ends: list[int], moved: list[int]) -> int:
    inside = bisect_right(starts, place - 1)  # keys that begin before it
    if inside and place < ends[inside]:
        place = ends[inside]
    return place + moved[bisect_right(ends, place) - 1]


class Redactor:
    """The same for a text that comes in pieces: what may yet become a key waits for what follows it."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> str:
        """Return what can be shown now."""
        text = self._held + piece
        place = _settled(text)
        self._held = text[place:]
        return redacted(text[:place])[0]

    def end(self) -> str:
        """Return what is left."""
        text, self._held = self._held, ""
        return redacted(text)[0]


def _settled(text: str) -> int:
    """Return up to where a text is what it is, whatever follows it."""
    place = len(text.rstrip(_PARTS))
    if len(text) - place > LONGEST:
        return len(text)
    if (bearer := _BEARER.search(text, max(0, place - 10), place)) is not None:
        place = bearer.start()
    begun = text.rfind("-----BEGIN ")
    if begun < 0 or len(text) - begun > LONGEST_PEM:
        return place
    closed = _CLOSED.search(text, begun)
    return min(place, begun) if closed is None else max(place, closed.end())
