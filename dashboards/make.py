"""Writes the dashboards and the rules beside this file, or with --check says which of them are not what they should be."""

import argparse
import json
import sys
from pathlib import Path

from dashboards.boards import BOARDS
from dashboards.objectives import DEFAULT, objectives
from dashboards.panels import dashboard
from dashboards.rules import Places, rules
from gateway.config import load

HERE = Path(__file__).parent


def made() -> dict[str, str]:
    """Return every committed file by name. Raises promql.Unknown when an expression names what does not exist."""
    pages = {f"{board.uid.removeprefix('weir-')}.json": json.dumps(dashboard(board), indent=1) + "\n" for board in BOARDS}
    return {**pages, "alerts.yaml": rules()}


def main(arguments: list[str] | None = None) -> int:
    """Make the files; returns 1 when --check finds one that differs."""
    parser = argparse.ArgumentParser(prog="python -m dashboards.make", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 when a file is not what would be written")
    parser.add_argument("--config", type=Path, help="take the objectives of the alerts from this routes.yaml; needs --alerts")
    parser.add_argument("--alerts", type=Path, help="write only the rules, and here")
    parser.add_argument("--grafana", default="", help="URL of Grafana, put before the dashboard links of the alerts")
    parser.add_argument("--runbook", default=Places().runbook, help="URL of the runbook's page")
    asked = parser.parse_args(arguments)
    if asked.alerts is not None:
        promised = objectives(load(asked.config)) if asked.config else DEFAULT
        asked.alerts.write_text(rules(promised, Places(asked.runbook, asked.grafana.rstrip("/"))))
        return 0
    if asked.config is not None:
        parser.error("--config needs --alerts: the committed rules are for the default objective")
    files = made()
    if asked.check:
        different = [name for name, text in files.items() if not (HERE / name).exists() or (HERE / name).read_text() != text]
        sys.stderr.writelines(f"dashboards/{name} is not what dashboards.make would write\n" for name in different)
        return 1 if different else 0
    for name, text in files.items():
        (HERE / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
