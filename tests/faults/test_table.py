"""The table of faults is whole: every entry is held by a test or says why not, and the page says what the tests do."""

import re
from pathlib import Path

from gateway.dialects import DIALECTS
from tests.faults.doors import DOORS
from tests.faults.entries import FAULTS, RULES, SECTIONS
from tests.faults.faults import EVERY, PAGE, holders, outcomes, page, result, unheld, unknown
from tests.faults.tongues import TONGUES

OVER_EVERY = ("A", "B")
"""Sections whose rules must each hold in every dialect; elsewhere some are about no dialect, or about one figure of all."""


def test_every_entry_is_held() -> None:
    """An entry has a test that is marked with it, or a reason why it has none."""
    assert unheld(holders()) == []


def test_every_mark_is_an_entry() -> None:
    """What a docstring says it holds is in the list."""
    found = holders()
    assert {mark: [held.name for held in found[mark]] for mark in unknown(found)} == {}


def test_the_page_is_what_the_tests_say() -> None:
    """docs/faults.md is written, not edited: `python -m tests.faults.faults`."""
    assert PAGE.read_text() == page()


def test_the_matrix_is_over_every_dialect() -> None:
    """Whatever a dialect has a part in holds in each of them, by one test at least (G6)."""
    of_openai_alone = {"A2c", "A2d", "A10b", "A10c", "A10d", "A10e", "A10f", "A13"}
    short = [
        entry
        for entry, tests in holders().items()
        if entry in RULES
        and entry.startswith(OVER_EVERY)
        and entry not in of_openai_alone
        and EVERY not in {held.dialects for held in tests}
    ]
    assert short == []


def test_no_dialect_is_left_out() -> None:
    """Every dialect that has a door has its words in the matrix, and every door of the matrix is one of the gateway's (G6)."""
    assert list(TONGUES) == list(DIALECTS)
    doors = [endpoint.path for dialect in DIALECTS.values() for endpoint in dialect.endpoints]
    paths = {re.sub(r"\{\w+\}", "m", path) for path in doors}
    spoken = {path.partition("?")[0] for tongue in (*TONGUES.values(), *DOORS.values()) for path in (tongue.path, tongue.whole_path)}
    assert spoken <= paths


def test_every_section_has_faults() -> None:
    """Faults are listed in the order of their sections, each name once."""
    assert [fault.name for fault in FAULTS] == list(dict.fromkeys(fault.name for fault in FAULTS))
    assert list(dict.fromkeys(fault.name[0] for fault in FAULTS)) == list(SECTIONS)


def test_results_are_counted(tmp_path: Path) -> None:
    """A report's passes and failures are counted over all parameters of a test; what was skipped or never ran is not."""
    held = holders()["A1a"][0]
    case = f'<testcase classname="{held.path[:-3].replace("/", ".")}" name="{held.name}'
    report = tmp_path / "report.xml"
    report.write_text(f'<testsuite>{case}[a]"/>{case}[b]"><failure/></testcase>{case}[c]"><skipped/></testcase></testsuite>')
    assert result([held], outcomes(report)) == "1 of 2 failed"
    report.write_text(f'<testsuite>{case}[a]"/></testsuite>')
    assert result([held], outcomes(report)) == "1 passed"
    report.write_text("<testsuite/>")
    assert result([held], outcomes(report)) == "not run"
