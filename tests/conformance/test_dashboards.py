"""The dashboards against Grafana's own types: every field, panel option and enumeration that Grafana does not know is an error."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conformance.missing import missing
from tests.conformance.test_node import MODULES, PROGRAMS, interpreter

pytestmark = pytest.mark.conformance
PAGES = sorted((Path(__file__).parents[2] / "dashboards").glob("*.json"))
FLAGS = {"noEmit": True, "strict": True, "skipLibCheck": True, "target": "es2022", "module": "esnext", "moduleResolution": "bundler"}
SLIPS = {
    "a field of the dashboard": ('"editable"', '"editabel"'),
    "a word of an enumeration": ('"absolute"', '"absolut"'),
    "a kind of panel": ('"timeseries"', '"timeserie"'),
    "an option of a panel": ('"fillOpacity"', '"fillOpacty"'),
    "a place": ('"gridPos"', '"gridPost"'),
}


def complaints(folder: Path, boards: dict[str, str]) -> list[str]:
    """Return what the compiler of TypeScript says of these dashboards ({name: JSON}), taken for Grafana's type."""
    compiler = MODULES / "typescript/bin/tsc"
    if not compiler.exists():
        missing(f"{compiler} is not there; make conformance installs it")
    shutil.copy(PROGRAMS / "dashboard.ts", folder)
    types = str(MODULES / "@grafana/schema/dist/types/*")
    options = {**FLAGS, "types": [], "paths": {"grafana/*": [types]}}
    (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "include": ["*.ts"]}))
    for name, text in boards.items():
        (folder / f"{name}.ts").write_text(f'import type {{ Dashboard }} from "./dashboard";\nexport const board: Dashboard = {text};\n')
    done = subprocess.run([interpreter(), str(compiler), "-p", str(folder)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in (0, 1, 2), done.stderr
    return [line for line in done.stdout.splitlines() if re.match(r"\S", line)]


def test_grafana_takes_the_dashboards(tmp_path: Path) -> None:
    """Dashboards, and the options of each kind of panel, are of the types that Grafana publishes (G2)."""
    assert complaints(tmp_path, {page.stem: page.read_text() for page in PAGES}) == []


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_found(slip: str, tmp_path: Path) -> None:
    """A misspelt name anywhere in a dashboard is an error of the compiler, in that dashboard."""
    right, wrong = SLIPS[slip]
    [told, *_] = complaints(tmp_path, {"overview": (PAGES[0].parent / "overview.json").read_text().replace(right, wrong, 1)})
    assert "overview.ts(" in told
    assert wrong.strip('"') in told
