"""The simulator's page says everything there is, and nothing else."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.dialects import DIALECTS
from gateway.sim.faults import FAULTS
from gateway.sim.scenario import SCRIPTS, load_scenario
from gateway.sim.tempers import PRESETS, Temper

PAGE = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text()


def rows(section: str) -> dict[str, list[str]]:
    """The rows of a section's table: the first cell's name, and the names in the second."""
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    cells = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| `")]
    return {re.findall(r"`(\w+)`", row[0])[0]: re.findall(r"`(\w+)`", row[1]) for row in cells}


def test_every_fault_is_listed_with_its_fields_in_order() -> None:
    """A fault's positional form is read from this table, so the order matters."""
    assert rows("Faults") == {kind: list(fault.__struct_fields__) for kind, fault in FAULTS.items()}


def test_every_field_of_a_temper_is_listed() -> None:
    """No temper can do what the page does not say."""
    assert list(rows("Tempers")) == [name for name in Temper.__struct_fields__ if name in rows("Tempers")]
    assert set(rows("Tempers")) == set(Temper.__struct_fields__)


@pytest.mark.parametrize("name", [*PRESETS, *SCRIPTS])
def test_every_preset_and_rule_is_named(name: str) -> None:
    """Presets and rules can be found on the page."""
    assert f"`{name}`" in PAGE or f"`{name}:" in PAGE


def test_the_example_is_a_scenario() -> None:
    """What is shown can be loaded."""
    [example] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert [part.name for part in load_scenario(example).parts] == ["fast", "wild"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_is_named(dialect: str) -> None:
    """On the page, with its base URL, and in the command's own help."""
    assert f"| `{dialect}` | `http://127.0.0.1:9001" in PAGE
    assert dialect in CliRunner().invoke(main, ["sim", "--help"]).output
