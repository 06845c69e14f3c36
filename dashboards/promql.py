"""What a PromQL expression names, held against the table of metrics: a metric or a label that does not exist is an error here."""

import re
from collections.abc import Iterator, Mapping

from gateway.telemetry.instruments import INSTRUMENTS

TOKEN = re.compile(
    r"""(?P<text>"(?:[^"\\]|\\.)*")|(?P<skip>\s+)|(?P<variable>\$\w+|\$\{\w+\})|(?P<number>\d+(?:\.\d+)?(?:[a-z]+)?)"""
    r"""|(?P<name>[A-Za-z_:][\w:]*)|(?P<sign>=~|!~|!=|==|>=|<=|.)"""
)
LISTS = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})
WORDS = LISTS | frozenset({"and", "or", "unless", "bool", "offset", "inf", "nan"})
SCRAPED = frozenset({"job", "instance"})
"""Labels that Prometheus itself gives to all it scrapes."""


class Unknown(ValueError):
    """An expression names what does not exist; the message says what and where."""


def series() -> dict[str, frozenset[str]]:
    """Return every series the program can have with the labels it has, those that Prometheus adds included."""
    found: dict[str, frozenset[str]] = {}
    for row in INSTRUMENTS.values():
        labels = frozenset(row.labels) | SCRAPED
        if row.kind == "histogram":
            found |= {f"{row.name}_bucket": labels | {"le"}, f"{row.name}_sum": labels, f"{row.name}_count": labels}
        else:
            found[row.name] = labels
    return found


def tokens(expression: str) -> list[tuple[str, str]]:
    """Return (kind, text) of every token, white space left out."""
    return [(match.lastgroup or "", match[0]) for match in TOKEN.finditer(expression) if match.lastgroup != "skip"]


def metrics(expression: str) -> list[str]:
    """Return the names of the series an expression reads, each once, in order."""
    return list(dict.fromkeys(name for name, _, _ in selectors(expression)))


def selectors(expression: str) -> Iterator[tuple[str, list[str], str]]:
    """Yield each selector of an expression: its metric, the labels it matches on, and its text without range or offset."""
    found = tokens(expression)
    listed = _listed(found)
    for at, (kind, name) in enumerate(found):
        follows = found[at + 1][1] if at + 1 < len(found) else ""
        if kind != "name" or name in WORDS or at in listed or follows == "(" or _within_braces(found, at) or _aggregates(found, at):
            continue
        inside = _braces(found, at + 1) if follows == "{" else []
        labels = [text for place, (what, text) in enumerate(inside) if what == "name" and inside[place + 1][1] in ("=", "=~", "!=", "!~")]
        matchers = "".join(text for _, text in inside)
        yield name, labels, f"{name}{{{matchers}}}" if matchers else name


def check(expression: str, recorded: Mapping[str, frozenset[str]]) -> str:
    """Return the expression when all it names exists; `recorded` are series of recording rules. Raises Unknown."""
    known = {**series(), **recorded}
    labels: set[str] = set(SCRAPED)
    for name, matched, _ in selectors(expression):
        if name not in known:
            raise Unknown(f"no metric {name} in: {expression}")
        if strange := set(matched) - known[name]:
            raise Unknown(f"{name} has no label {', '.join(sorted(strange))} in: {expression}")
        labels |= known[name]
    found = tokens(expression)
    if strange := {found[at][1] for at in _listed(found)} - labels:
        raise Unknown(f"no metric here has the label {', '.join(sorted(strange))}: {expression}")
    return expression


def _listed(found: list[tuple[str, str]]) -> set[int]:
    """Return the places of the names in the brackets after `by`, `on` and their like."""
    places: set[int] = set()
    for at, (kind, text) in enumerate(found):
        if kind == "name" and text in LISTS and at + 1 < len(found) and found[at + 1][1] == "(":
            end = next(place for place in range(at, len(found)) if found[place][1] == ")")
            places |= {place for place in range(at + 2, end) if found[place][0] == "name"}
    return places


def _within_braces(found: list[tuple[str, str]], at: int) -> bool:
    return sum({"{": 1, "}": -1}.get(text, 0) for kind, text in found[:at] if kind == "sign") > 0


def _aggregates(found: list[tuple[str, str]], at: int) -> bool:
    """Say whether a name is an aggregation whose labels come first, as in `sum by (route) (...)`."""
    return at + 1 < len(found) and found[at + 1][1] in ("by", "without")


def _braces(found: list[tuple[str, str]], at: int) -> list[tuple[str, str]]:
    end = next(place for place in range(at, len(found)) if found[place] == ("sign", "}"))
    return found[at + 1 : end]
