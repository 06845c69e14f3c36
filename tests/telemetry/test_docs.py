"""docs/telemetry.md says what the tables in code say, neither less nor more."""

import re
from pathlib import Path

from gateway.telemetry.happenings import EVENTS
from gateway.telemetry.instruments import INSTRUMENTS
from gateway.telemetry.mappers import MAPPERS
from gateway.telemetry.recorder import KINDS
from gateway.telemetry.sampling import TRUE_OF
from gateway.telemetry.spans import SPAN_ATTRIBUTES

TEXT = (Path(__file__).parents[2] / "docs" / "telemetry.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the first table after a heading, its first two lines left out."""
    after = TEXT.split(f"\n{heading}\n", 1)[1]
    table = re.search(r"(?:^\|.*\n)+", after, re.MULTILINE)
    assert table is not None
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()[2:]]


def test_span_attributes() -> None:
    """Every attribute of the table, with its meaning."""
    assert rows("## Spans") == [[f"`{row.name}`", row.help] for row in SPAN_ATTRIBUTES]


def test_mappers() -> None:
    """Every attribute of every mapper."""
    assert rows("## Mappers") == [[f"`{name}`", f"`{row.name}`", row.help] for name, table in MAPPERS.items() for row in table]


def test_sampling() -> None:
    """Every word of `telemetry.sampling.always`, in the order in which they are told."""
    assert [row[0] for row in rows("## Sampling")] == [f"`{word}`" for word in TRUE_OF]


def test_events() -> None:
    """Every event."""
    assert rows("### Events") == [[f"`{name}`", meaning] for name, meaning in EVENTS.items()]


def test_metrics() -> None:
    """Every metric, with type, unit and labels."""
    assert rows("## Metrics") == [
        [f"`{i.name}`", f"`{i.otel}`", i.kind, i.unit, ", ".join(f"`{label}`" for label in i.labels), i.help] for i in INSTRUMENTS.values()
    ]


def test_losses() -> None:
    """Every kind of loss."""
    assert [row[0] for row in rows("### What can be lost")] == [f"`{kind}`" for kind in KINDS]
