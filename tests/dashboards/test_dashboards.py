"""The committed dashboards: made from the tables, naming only what exists, laid out without overlap, each panel with words to act on."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from dashboards.make import HERE, made, main
from dashboards.promql import Unknown, check, metrics, selectors, series
from dashboards.records import RECORDED
from gateway.telemetry.tally import AWAITED

PAGES = sorted(HERE.glob("*.json"))
every_page = pytest.mark.parametrize("board", [json.loads(page.read_text()) for page in PAGES], ids=[page.stem for page in PAGES])
Json = dict[str, Any]
UNITS = {"s", "reqps", "cps", "percentunit", "short", "currencyUSD", "none"}
BUILT_IN = {"__rate_interval", "__range", "datasource"}


def panels(board: Json) -> list[Json]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def test_the_files_are_what_the_tables_make(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody edits them by hand: what is committed is what would be written (G2)."""
    assert main(["--check"]) == 0, capsys.readouterr().err
    assert set(made()) == {*(page.name for page in PAGES), "alerts.yaml"}


def test_check_finds_a_file_that_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """--check names the file, and writes nothing."""
    monkeypatch.setattr("dashboards.make.HERE", tmp_path)
    assert main([]) == 0
    (tmp_path / "route.json").write_text("{}")
    assert main(["--check"]) == 1
    assert capsys.readouterr().err == "dashboards/route.json is not what dashboards.make would write\n"
    assert (tmp_path / "route.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("rate(weir_steams_total[5m])", "no metric weir_steams_total"),
        ("weir_ttft_seconds", "no metric weir_ttft_seconds in"),
        ("sum by (route) (weir_breaker_state)", "has the label route"),
        ('weir_streams_total{rout="chat"}', "has no label rout"),
        ('sum(rate(weir_stalls_total{blame=~"u.*", model="m"}[1m])) by (blame)', "has no label model"),
        ("weir_oldest_gap_seconds > on (worker, upstream) weir_loop_lag_seconds", "has the label upstream"),
        ("weir:ttft_seconds:p50_10m > 1", "no metric weir:ttft_seconds:p50_10m"),
    ],
)
def test_what_does_not_exist_is_refused(expression: str, complaint: str) -> None:
    """A metric, a label to match on or a label to sum by that the table does not have stops the making (G2)."""
    with pytest.raises(Unknown, match=complaint):
        check(expression, RECORDED)


def test_what_exists_passes() -> None:
    """Functions, aggregations, variables, strings and numbers are no metrics; selectors are told with what they match on."""
    text = (
        'histogram_quantile(0.95, sum by (le, route) (rate(weir_ttft_seconds_bucket{route=~"$route", le!="weir_x"}[$__rate_interval])))'
        " > on (route) group_left () weir:objective:ttft_seconds and max without (worker) (weir_loop_lag_seconds offset 5m) < 1e3"
    )
    assert check(text, RECORDED) == text
    assert metrics(text) == ["weir_ttft_seconds_bucket", "weir:objective:ttft_seconds", "weir_loop_lag_seconds"]
    assert next(selectors(text)) == ("weir_ttft_seconds_bucket", ["route", "le"], 'weir_ttft_seconds_bucket{route=~"$route",le!="weir_x"}')
    assert "le" in series()["weir_chunk_gap_seconds_bucket"]


def test_the_first_row_answers_the_first_question() -> None:
    """Who is woken sees on the first screen whether it is us or them."""
    overview = next(json.loads(page.read_text()) for page in PAGES if page.stem == "overview")
    assert overview["panels"][0]["title"] == "Is it us or them?"


@every_page
def test_every_panel_can_be_acted_on(board: Json) -> None:
    """A title of its own, a description of more than a few words, a unit that Grafana knows, a query (G2)."""
    titles = [panel["title"] for panel in panels(board)]
    assert len(titles) == len(set(titles)) >= 4
    for panel in panels(board):
        assert len(panel["description"].split()) >= 5, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) > 0
        assert panel["options"], panel["title"]


@every_page
def test_every_query_names_what_exists(board: Json) -> None:
    """Metrics and labels of every query are in the table, labels in legends too (G2)."""
    known = {label for labels in (*series().values(), *RECORDED.values()) for label in labels}
    for panel in panels(board):
        for target in panel["targets"]:
            assert check(target["expr"], RECORDED)
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= known


@every_page
def test_the_layout_has_no_overlap(board: Json) -> None:
    """Panels lie within 24 columns, each place is taken once, ids are unique."""
    places = [
        (column, line)
        for panel in board["panels"]
        for column in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for line in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(places) == len(set(places))
    assert max(column for column, _ in places) < 24
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


@every_page
def test_variables_and_datasource(board: Json) -> None:
    """The datasource is a variable everywhere, and each variable that a query names is there."""
    defined = {variable["name"] for variable in board["templating"]["list"]}
    assert board["templating"]["list"][0]["type"] == "datasource"
    for thing in itertools.chain(panels(board), *(panel["targets"] for panel in panels(board))):
        assert thing["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    named = set(re.findall(r"\$(\w+)", " ".join(target["expr"] for panel in panels(board) for target in panel["targets"])))
    assert named - BUILT_IN <= defined
    assert defined - named <= {"datasource"}


@every_page
def test_links_between_dashboards_lead_somewhere(board: Json) -> None:
    """Links by tag find all of them; links from series name a dashboard and a variable that are there."""
    boards = {other["uid"]: other for other in (json.loads(page.read_text()) for page in PAGES)}
    assert board["links"][0]["tags"] == board["tags"] == ["weir"]
    assert board["uid"] in boards
    for panel in panels(board):
        for link in panel["fieldConfig"]["defaults"]["links"]:
            uid, variable, label = re.match(r"/d/([\w-]+)\?var-(\w+)=\${__field\.labels\.(\w+)}", link["url"]).groups()  # type: ignore[union-attr]
            assert variable in {variable["name"] for variable in boards[uid]["templating"]["list"]}
            assert all(f"{{{{{label}}}}}" in t["legendFormat"] for t in panel["targets"] if not t["legendFormat"].startswith("objective"))


def test_exemplars_are_asked_for() -> None:
    """Every curve drawn from a histogram shows the traces behind it."""
    curves = [
        target
        for page in PAGES
        for panel in panels(json.loads(page.read_text()))
        for target in panel["targets"]
        if panel["type"] == "timeseries" and "_bucket" in target["expr"]
    ]
    assert curves
    assert all(target["exemplar"] for target in curves)


def test_what_alerts_watch_exists_before_it_happens() -> None:
    """Every outcome that an alert or a rule asks the rate of has its series at 0 from the start."""
    told = (HERE / "alerts.yaml").read_text()
    named = {outcome for found in re.findall(r'outcome=~?"([^"]+)"', told) for outcome in found.split("|")}
    assert named
    assert named <= set(AWAITED)
