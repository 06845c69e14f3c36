"""What came of a run, as tables for a terminal and as JSON."""

import msgspec
from msgspec import Struct
from rich.console import Group
from rich.table import Table

from gateway.sim.chaos.audit import Audit, Finding
from gateway.sim.chaos.mayhem import Kill

SHOWN = 40


class ChaosReport(Struct, kw_only=True):
    """One run. `verdicts` are the clients' own; `trouble` is what only a look at the program itself shows: its log, its exit code."""

    version: str
    options: dict[str, float | int]
    seconds: float
    streams: int
    verdicts: dict[str, int]
    matches: dict[str, int]
    recorded: dict[str, dict[str, int]]
    faults: dict[str, int]
    deeds: dict[str, int]
    kills: list[Kill]
    refused_connections: int
    stale_connections: int
    audit: Audit
    trouble: list[str]

    @property
    def lost(self) -> int:
        return sum(finding.kind == "lost" for finding in self.audit.findings)

    @property
    def mismatches(self) -> int:
        return len(self.audit.findings) - self.lost

    @property
    def passed(self) -> bool:
        return not self.audit.findings and not self.trouble


def _table(title: str, rows: dict[str, int]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right")
    for name, count in sorted(rows.items(), key=lambda row: (-row[1], row[0])):
        table.add_row(name, f"{count:,}")
    return table


def render(report: ChaosReport) -> Group:
    """Return the ledger for the terminal."""
    audit = report.audit
    books = Table("outcome", "stored", "counted", title=f"records and weir_streams_total ({audit.count_slack} told around kills)")
    for outcome in sorted(audit.stored.keys() | audit.counted.keys()):
        books.add_row(outcome, f"{audit.stored.get(outcome, 0):,}", f"{audit.counted.get(outcome, 0):,}")
    spans = f"{audit.spans:,} spans received, {audit.spans_twice} of them told twice"
    parts = [
        _table(f"what {report.streams:,} clients saw in {report.seconds:.0f} s", report.verdicts),
        _table("their bytes, compared with what providers sent", report.matches),
        _table("faults of providers", report.faults),
        _table("what was done to the gateway", report.deeds),
        books,
        _table(f"gone with killed processes, each in its moment ({spans})", dict(audit.excused)),
    ]
    verdict = f"{report.lost} lost, {report.mismatches} mismatches"
    return Group(*parts, *(_said(finding) for finding in audit.findings[:SHOWN]), *report.trouble, verdict)


def _said(finding: Finding) -> str:
    return f"{finding.kind}: {finding.tag}: {finding.text}"


def to_json(report: ChaosReport) -> bytes:
    """Return the whole report as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"
