"""G1: the alerts fire when users feel something and are silent otherwise, as promtool plays it."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards.make import main
from gateway.config import load
from gateway.telemetry.instruments import bounds

TOP = Path(__file__).parents[2]
RULES = TOP / "dashboards" / "alerts.yaml"
PLAYS = sorted((TOP / "tests" / "dashboards" / "rules").glob("*.yaml"))
OF_TARGET = {"WeirFirstTokenSlow", "WeirStreamsStall", "WeirStreamsBreak", "WeirStreamsCut", "WeirClientsLeave"}
ROUTES = """
version: 1
upstreams: {east: {base_url: "http://127.0.0.1:1/v1"}}
routes:
  - {name: chat, match: {models: [a]}, targets: [{upstream: east}], slo: {ttft: 1.5s, objective: 95%}}
  - {name: quick, match: {models: [b]}, targets: [{upstream: east}], slo: {ttft: 300ms}}
  - {name: rest, targets: [{upstream: east}]}
"""


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("promtool") is None:
        assert not os.environ.get("CI"), "CI has promtool; see .ci/run"
        pytest.skip("promtool is not on PATH")
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False, timeout=120)


def alerts(rules: str) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(rules)["groups"] for rule in group["rules"] if "alert" in rule]


def test_promtool_accepts_the_rules() -> None:
    """They parse, and no rule is there twice (G1)."""
    done = promtool("check", "rules", str(RULES))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("play", PLAYS, ids=lambda play: play.stem)
def test_a_play(play: Path) -> None:
    """Breaches at one stream a second fire and end with their cause; three bad streams in a night and no traffic do not (G1 a-g)."""
    done = promtool("test", "rules", str(play))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_seen_to_fire() -> None:
    """An alert that no play makes fire could never fire (G1)."""
    played = "\n".join(play.read_text() for play in PLAYS)
    fired = set(re.findall(r'labels: \'ALERTS\{alertname="(\w+)", alertstate="firing"', played))
    assert fired == {alert["alert"] for alert in alerts(RULES.read_text())}


@pytest.mark.parametrize("alert", alerts(RULES.read_text()), ids=lambda alert: alert["alert"])
def test_an_alert_says_what_to_do(alert: dict[str, Any]) -> None:
    """Severity, summary, description, a dashboard that exists, a section of the runbook; a target's alert names it (G1 e)."""
    said = alert["annotations"]
    assert alert["labels"]["severity"] in {"critical", "warning", "info"}
    page, anchor = said["runbook_url"].split("#")
    headings = re.findall(r"^## (\w+)$", (TOP / page).read_text(), re.MULTILINE)
    assert anchor in [heading.lower() for heading in headings]
    uid = re.match(r"/d/weir-(\w+)", said["dashboard"])
    assert uid is not None
    assert (TOP / "dashboards" / f"{uid[1]}.json").exists()
    if alert["alert"] in OF_TARGET:
        assert all(f"$labels.{name}" in said["description"] for name in ("route", "upstream", "model"))
        assert "GET /api/streams" in said["trace"]


def test_the_runbook_has_a_section_for_each_alert_and_no_other() -> None:
    """Three things to look at and what to do, for every alert."""
    text = (TOP / "docs" / "runbook.md").read_text()
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    assert set(sections) == {alert["alert"] for alert in alerts(RULES.read_text())}
    assert [name for name, body in sections.items() if "\n1. " not in body or "\nTo do: " not in body] == []


def test_objectives_come_from_the_configuration(tmp_path: Path) -> None:
    """Rules made for a routes.yaml count each route against the bucket of its own objective, which its histogram has (G1)."""
    (tmp_path / "routes.yaml").write_text(ROUTES)
    where = tmp_path / "alerts.yaml"
    assert (
        main(["--config", str(tmp_path / "routes.yaml"), "--alerts", str(where), "--grafana", "https://g/", "--runbook", "https://r"]) == 0
    )
    assert promtool("check", "rules", str(where)).returncode == 0
    text = where.read_text()
    asked = set(re.findall(r'route=~"(\w+)", le="([^"]+)"', text))
    assert asked == {("chat", "1.5"), ("quick", "0.3"), ("rest", "2.0")}
    assert {bound for _, bound in asked} <= {repr(bound) for bound in bounds(load(tmp_path / "routes.yaml"))["latency"]}
    for route, ttft, ratio in (("chat", "1.5", "0.95"), ("quick", "0.3", "0.99"), ("rest", "2", "0.99")):
        for value in (ttft, ratio):
            assert re.search(rf'\(weir_streams_active\{{route=~"{route}(\|\w+)?"\}}\) \* 0 \+ {value}$', text, re.MULTILINE)
    first = alerts(text)[0]["annotations"]
    assert first["dashboard"].startswith("https://g/d/weir-")
    assert first["runbook_url"].startswith("https://r#")
