"""What the benchmark found: frozen figures per lane, and their three renderings: a terminal table, JSON, Markdown."""

import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import msgspec
from msgspec import Struct
from rich.table import Table

BUSY = 0.3
"""A load average from which on somebody else's work shows in the figures."""


class Paced(Struct, frozen=True, kw_only=True):
    """Many steady streams. CPU in microseconds per event: of the relay alone, and of everything that belongs to it.

    `broken` streams came without their end, `lost` events were missing from streams that looked whole; gaps in milliseconds.
    """

    streams: int
    events: int
    broken: int
    lost: int
    events_per_second: float
    cpu_relay: float | None = None
    cpu_all: float | None = None
    gap_p50: float | None = None
    gap_p99: float | None = None
    error: str = ""


class Ttft(Struct, frozen=True, kw_only=True):
    """Milliseconds from request to first token, one stream at a time; `added_*` is the difference to the direct lane of the same run."""

    asked: int
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    added_p50: float | None = None
    added_p95: float | None = None
    added_p99: float | None = None
    broken: int = 0
    error: str = ""


class Short(Struct, frozen=True, kw_only=True):
    """Streams of a few events, the next asked for as soon as one ends; CPU in microseconds per stream."""

    streams: int
    broken: int
    streams_per_second: float
    cpu_relay: float | None = None
    cpu_all: float | None = None
    error: str = ""


class Memory(Struct, frozen=True, kw_only=True):
    """Kibibytes of resident memory that one more open, silent stream costs the relay, and everything that belongs to it."""

    streams: int
    broken: int = 0
    kib_per_stream: float | None = None
    kib_all: float | None = None
    error: str = ""


class LaneReport(Struct, frozen=True, kw_only=True):
    """One way from the client to the provider, and its medians over the rounds; None is "not measured"."""

    name: str
    paced: Paced | None = None
    ttft: Ttft | None = None
    short: Short | None = None
    memory: Memory | None = None

    def figures(self) -> list[Paced | Ttft | Short | Memory]:
        return [figure for figure in (self.memory, self.ttft, self.paced, self.short) if figure is not None]


class Machine(Struct, frozen=True):
    """Where it ran: figures of different machines do not compare, ratios roughly do."""

    cpu: str
    cores: int
    system: str
    python: str


class BenchReport(Struct, frozen=True, kw_only=True):
    """Everything one run found. `skipped` says by lane why it was left out, `ended` how a process ended that should not have;
    `load` is the machine's load average just before, with nothing of ours running yet."""

    version: str
    machine: Machine
    options: dict[str, object]
    lanes: list[LaneReport]
    skipped: dict[str, str] = {}
    ended: dict[str, str] = {}
    load: float = 0.0
    seconds: float = 0.0

    @property
    def failures(self) -> int:
        """Streams broken, events lost, processes ended, in all lanes and measures: anything but 0 makes the other figures worth little."""
        figures = [figure for lane in self.lanes for figure in lane.figures()]
        return len(self.ended) + sum(figure.broken for figure in figures) + sum(lane.paced.lost for lane in self.lanes if lane.paced)


def machine() -> Machine:
    """Describe this machine."""
    names = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0))
    return Machine(
        names[0] if names else platform.machine(), cores, platform.system() + " " + platform.release(), platform.python_version()
    )


def middle(values: Sequence[float | None]) -> float | None:
    """Return the median of what was measured, or None."""
    known = [value for value in values if value is not None]
    return median(known) if known else None


Cell = Callable[[LaneReport, BenchReport], str]


def number(value: float | None, digits: int = 1) -> str:
    """Return a figure for a person: "12.3", or "-" when it was not measured."""
    return "-" if value is None else f"{value:,.{digits}f}"


def _figure(lane: LaneReport, measure: str, name: str) -> float | None:
    found: float | None = getattr(getattr(lane, measure), name, None)
    return found


def _plain(measure: str, name: str, digits: int = 1) -> Cell:
    return lambda lane, _: number(_figure(lane, measure, name), digits)


def _to_nginx(name: str) -> Cell:
    def ratio(lane: LaneReport, report: BenchReport) -> str:
        base = next((_figure(other, "paced", "cpu_relay") for other in report.lanes if other.name == "nginx"), None)
        ours = _figure(lane, "paced", name)
        return "-" if not base or ours is None else f"{ours / base:.2f}x"

    return ratio


def _added(name: str) -> Cell:
    def signed(lane: LaneReport, _: BenchReport) -> str:
        value = _figure(lane, "ttft", f"added_{name}")
        return "-" if value is None else f"{value:+.2f}"

    return signed


def _failed(lane: LaneReport, _: BenchReport) -> str:
    return str(sum(figure.broken for figure in lane.figures()) + (lane.paced.lost if lane.paced else 0))


ROWS: tuple[tuple[str, Cell], ...] = (
    ("events/s", _plain("paced", "events_per_second", 0)),
    ("CPU/event, relay, µs", _plain("paced", "cpu_relay")),
    ("  to nginx's", _to_nginx("cpu_relay")),
    ("CPU/event, all of it, µs", _plain("paced", "cpu_all")),
    ("  to nginx's", _to_nginx("cpu_all")),
    ("gap p50, ms", _plain("paced", "gap_p50", 2)),
    ("gap p99, ms", _plain("paced", "gap_p99", 2)),
    ("TTFT p50, ms", _plain("ttft", "p50", 2)),
    ("  added p50", _added("p50")),
    ("  added p95", _added("p95")),
    ("  added p99", _added("p99")),
    ("short streams/s", _plain("short", "streams_per_second", 0)),
    ("CPU/short stream, relay, µs", _plain("short", "cpu_relay", 0)),
    ("CPU/short stream, all, µs", _plain("short", "cpu_all", 0)),
    ("KiB/open stream, relay", _plain("memory", "kib_per_stream")),
    ("KiB/open stream, all", _plain("memory", "kib_all")),
    ("broken streams, lost events", _failed),
)
"""What is shown, a row each; an indented one says more of the row above it."""


def rows(report: BenchReport) -> list[tuple[str, list[str]]]:
    """Return (measure, one figure per lane), without measures that no lane has."""
    table = [(title, [cell(lane, report) for lane in report.lanes]) for title, cell in ROWS]
    return [(title, cells) for title, cells in table if any(cell != "-" for cell in cells)]


def notes(report: BenchReport) -> list[str]:
    """Return what a reader must know beside the figures: where it ran, what was left out, what failed."""
    spot = report.machine
    lines = [f"{spot.cpu}, {spot.cores} cores, {spot.system}, Python {spot.python}, weir {report.version}; {report.seconds:.0f} s in all"]
    if report.load >= BUSY:
        lines.append(f"the machine was not idle before the run: load average {report.load:.1f}")
    lines += [f"{name} left out: {why}" for name, why in report.skipped.items()]
    lines += [f"{name} {how}" for name, how in report.ended.items()]
    lines += [f"{lane.name}: {figure.error}" for lane in report.lanes for figure in lane.figures() if figure.error]
    return lines


def render(report: BenchReport) -> Table:
    """Return a table for the terminal, a column per lane."""
    table = Table(title="weir bench", caption="\n".join(notes(report)), caption_justify="left")
    table.add_column("", no_wrap=True)
    for lane in report.lanes:
        table.add_column(lane.name, justify="right", no_wrap=True)
    for title, cells in rows(report):
        table.add_row(title, *cells)
    return table


def to_json(report: BenchReport) -> bytes:
    """Return the whole report as indented JSON, every round's medians included."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def markdown(report: BenchReport) -> str:
    """Return the result section of docs/benchmarks.md: options, table, notes."""
    head = ["", *(lane.name for lane in report.lanes)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" + "---:|" * len(report.lanes)]
    lines += ["| " + " | ".join([title.replace("  ", "… "), *cells]) + " |" for title, cells in rows(report)]
    options = ", ".join(f"{name} {value:g}" for name, value in report.options.items() if isinstance(value, (int, float)))
    return "\n".join([f"Options: {options}.", "", *lines, "", *(f"* {note}" for note in notes(report)), ""])
