"""Writes docs/faults.md: every fault, and the tests that hold it, as their docstrings say. `python -m tests.faults.faults [--check]`.

With `--results report.xml` (JUnit, as `pytest --junit-xml` writes it) the page goes to standard output, with what became of each test.
"""

import argparse
import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.faults.doors import DOORS
from tests.faults.entries import FAULTS, RULES, SECTIONS, Fault
from tests.faults.tongues import TONGUES

TOP = Path(__file__).parents[2]
PAGE = TOP / "docs" / "faults.md"
MARK = re.compile(r"\(([A-G]\d+[a-z]?(?: [A-G]\d+[a-z]?)*)\)")
EVERY = frozenset(TONGUES)
ALL = {"DIALECTS", "TONGUES", "in_every_dialect"}
"""Names that stand for all dialects where tests use them."""

INTRODUCTION = """# What Weir survives

Streams of language models fail in ways that plain HTTP does not show: cut in the middle with status 200, silent for minutes, failed after
the first byte. Below is every such fault we know from other gateways, what Weir does instead, and the tests that say so. All of them run
in CI on every change, against scripted upstreams on real sockets that send exact bytes, pause, and break off where told; a rule without a
test says why. In *dialects*, "all" is all seven of [the dialects](dialects.md); "-" is a rule that no dialect has a part in.

This page is written by `tests/faults/faults.py`, and a test fails when it is not what that writes. To see it with the results of a run:
`pytest --junit-xml report.xml`, then `python -m tests.faults.faults --results report.xml`.
"""


@dataclass(frozen=True, order=True)
class Held:
    """One test that holds entries, and the dialects it is told in."""

    path: str
    name: str
    entries: tuple[str, ...]
    dialects: frozenset[str]

    @property
    def link(self) -> str:
        return f"[`{self.name.removeprefix('test_')}`](../{self.path})"


def names_in(node: ast.AST) -> set[str]:
    return {found.id for found in ast.walk(node) if isinstance(found, ast.Name)}


def strings_in(node: ast.AST) -> set[str]:
    return {found.value for found in ast.walk(node) if isinstance(found, ast.Constant) and isinstance(found.value, str)}


def dialects_of(test: ast.FunctionDef | ast.AsyncFunctionDef, constants: dict[str, ast.expr], path: str) -> frozenset[str]:
    """Say in which dialects a test is told: by its parameters, by what it uses, by its folder; a test of a gate speaks OpenAI's."""
    decorators = [constants.get(each.id, each) if isinstance(each, ast.Name) else each for each in test.decorator_list]
    for decorator in decorators:
        if "DOORS" in names_in(decorator):
            return frozenset(tongue.name for tongue in DOORS.values())
        if "dialect" in {word.split(",")[0] for word in strings_in(decorator)} or names_in(decorator) & ALL:
            return EVERY if names_in(decorator) & ALL else frozenset(strings_in(decorator)) & EVERY
    used = {name for each in test.body for name in names_in(each)}
    loops = [node.iter for node in ast.walk(test) if isinstance(node, ast.For | ast.comprehension)]
    if "in_every_dialect" in used or any(names_in(each) & ALL for each in loops):
        return EVERY
    if named := {word for each in test.body for word in strings_in(each)} & EVERY:
        return frozenset(named)
    folder = {"responses": "openai-responses"}.get(Path(path).parent.name, Path(path).parent.name)
    if folder in EVERY:
        return frozenset({folder})
    return frozenset({"openai"}) if {"gate", "weir"} & {arg.arg for arg in test.args.args} else frozenset()


def expected_to_fail(test: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """A test that is known to fail holds nothing."""
    return any("xfail" in ast.unparse(decorator).split("(")[0] for decorator in test.decorator_list)


def tests_in(file: Path) -> Iterator[Held]:
    """Yield the tests of a file whose docstrings end in entries."""
    source, path = file.read_text(), str(file.relative_to(TOP))
    tree = ast.parse(source if MARK.search(source) else "")
    constants = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_") and not expected_to_fail(node):
            entries = [entry for found in MARK.findall(ast.get_docstring(node) or "") for entry in found.split()]
            if entries:
                yield Held(path, node.name, tuple(map(criterion, entries)), dialects_of(node, constants, path))


def criterion(mark: str) -> str:
    """Return the entry a mark means: a letter that its fault has no rule for means the fault."""
    return mark[:-1] if mark not in RULES and mark[:-1] in RULES else mark


@cache
def holders() -> dict[str, list[Held]]:
    """Return the tests of every mark, in the order of their files."""
    found: dict[str, list[Held]] = {}
    for file in sorted((TOP / "tests").glob("**/test_*.py")):
        for held in tests_in(file):
            for entry in held.entries:
                found.setdefault(entry, []).append(held)
    return {entry: sorted(set(tests)) for entry, tests in found.items()}


def unknown(found: dict[str, list[Held]]) -> list[str]:
    """Return marks that mean nothing; that of a whole fault is told with its first rule and holds none."""
    return sorted(set(found) - set(RULES) - {fault.name for fault in FAULTS})


def unheld(found: dict[str, list[Held]]) -> list[str]:
    """Return the entries that have neither a test nor a reason."""
    return [entry for entry, fault in RULES.items() if entry not in found and not fault.reasons.get(entry.removeprefix(fault.name))]


def spoken(tests: list[Held]) -> str:
    """Say in which dialects an entry is held."""
    names = frozenset[str]().union(*(held.dialects for held in tests))
    return "all" if names == EVERY else ", ".join(name for name in TONGUES if name in names) or "-"


def outcomes(report: Path) -> Counter[tuple[str, str, bool]]:
    """Return how often each test of a JUnit report passed or failed: (path, name, passed); skipped ones do not count."""
    counted: Counter[tuple[str, str, bool]] = Counter()
    for case in ET.parse(report).iter("testcase"):
        if case.find("skipped") is None:
            path, name = case.get("classname", "").replace(".", "/") + ".py", case.get("name", "").partition("[")[0]
            counted[path, name, case.find("failure") is None and case.find("error") is None] += 1
    return counted


def result(tests: list[Held], counted: Counter[tuple[str, str, bool]]) -> str:
    passed, failed = (sum(counted[held.path, held.name, good] for held in tests) for good in (True, False))
    return f"{failed} of {passed + failed} failed" if failed else f"{passed} passed" if passed else "not run"


def rows(fault: Fault, found: dict[str, list[Held]], counted: Counter[tuple[str, str, bool]] | None) -> Iterator[str]:
    """Yield a fault's rows, one a rule."""
    for letter, rule in fault.rules.items():
        tests = found.get(fault.name + letter, [])
        held = ", ".join(test.link for test in tests) or f"none: {fault.reasons.get(letter, 'not yet')}"
        elsewhere = fault.elsewhere if letter in {"", "a"} else ""
        cells = [fault.name + letter, elsewhere, rule, held, spoken(tests) if tests else ""]
        if counted is not None:
            cells.append(result(tests, counted) if tests else "")
        yield f"| {' | '.join(cells)} |"


def page(counted: Counter[tuple[str, str, bool]] | None = None) -> str:
    """Return docs/faults.md, with a column of results when there are some."""
    found, lines = holders(), [INTRODUCTION]
    titles = ["", "what goes wrong elsewhere", "what Weir does", "held by", "dialects", *(["result"] if counted is not None else [])]
    for letter, title in SECTIONS.items():
        lines += [f"## {letter}. {title}", "", f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
        lines += [row for fault in FAULTS if fault.name.startswith(letter) for row in rows(fault, found, counted)]
        lines.append("")
    return "\n".join(lines).replace("|  |", "| |")


def main() -> int:
    """Write the page, or say whether it is as written."""
    parser = argparse.ArgumentParser(description="Write docs/faults.md from the tests.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the page is not what would be written")
    parser.add_argument("--results", type=Path, metavar="XML", help="a JUnit report: print the page with its results instead")
    asked = parser.parse_args()
    if asked.results:
        sys.stdout.write(page(outcomes(asked.results)))
        return 0
    if asked.check:
        stale = not PAGE.exists() or PAGE.read_text() != page()
        sys.stderr.write("docs/faults.md is not what `python -m tests.faults.faults` writes\n" if stale else "")
        return int(stale)
    PAGE.write_text(page())
    sys.stderr.write("".join(f"{entry}: no test and no reason\n" for entry in unheld(holders())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
