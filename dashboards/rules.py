"""The rules file: recording rules and alerts as Prometheus reads them, every name in them checked."""

from collections.abc import Iterable, Sequence

import yaml
from msgspec import Struct

from dashboards.alerts import Alert, burning, first_and_foremost, ourselves, routing
from dashboards.objectives import DEFAULT, Objective
from dashboards.promql import check
from dashboards.records import RECORDED, Record, burn_records, records

INTERVAL = "1m"
HEAD = """\
# Recording rules and alerts of Weir. Made by `python -m dashboards.make`; change the tables in dashboards/, not this file.
# What each alert means and what to do about it: docs/runbook.md. Prometheus must scrape at least every 30 s.
# Objectives: {objectives}
# For others: python -m dashboards.make --config routes.yaml --alerts alerts.yaml
"""


class Places(Struct, frozen=True):
    """Where the links of an alert lead: the prefix of the runbook's page and of Grafana's paths."""

    runbook: str = "docs/runbook.md"
    grafana: str = ""


def rules(promised: Sequence[Objective] = DEFAULT, places: Places = Places()) -> str:  # noqa: B008 - frozen
    """Return the text of the rules file. Raises promql.Unknown when a rule names what does not exist."""
    groups = [
        _group("weir", records(promised), [*first_and_foremost(), *routing(), *ourselves()], places),
        _group("weir-objectives", burn_records(promised), burning(), places),
    ]
    said = "; ".join(f"{_routes(p)} {p.ratio:.4g} of first tokens within {p.ttft:g} s" for p in promised)
    return HEAD.format(objectives=said) + yaml.dump({"groups": groups}, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True)


def _routes(objective: Objective) -> str:
    return ", ".join(objective.routes) or "every route"


def _group(name: str, recorded: Iterable[Record], alerts: Iterable[Alert], places: Places) -> dict[str, object]:
    made = [{"record": rule.name, "expr": check(rule.expr, RECORDED)} for rule in recorded]
    return {"name": name, "interval": INTERVAL, "rules": [*made, *(_alert(alert, places) for alert in alerts)]}


def _alert(alert: Alert, places: Places) -> dict[str, object]:
    annotations = {
        "summary": alert.summary,
        "description": alert.description,
        "dashboard": places.grafana + alert.page,
        "runbook_url": f"{places.runbook}#{alert.name.lower()}",
    }
    if alert.trace:
        annotations["trace"] = alert.trace
    return {
        "alert": alert.name,
        "expr": check(alert.expr, RECORDED),
        "for": alert.wait,
        "labels": {"severity": alert.severity},
        "annotations": annotations,
    }


class _Dumper(yaml.SafeDumper):
    """Writes expressions of several lines as blocks, so that they can be read."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)
