"""Panels and dashboards as the few values that differ between them, and the JSON that Grafana wants of each."""

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from dashboards.promql import check
from dashboards.records import RECORDED

Json = dict[str, Any]
SCHEMA = 39
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24
GREEN, YELLOW, RED = "green", "yellow", "red"
SCRAPE = "15s"
"""The scrape interval that is assumed where Grafana's datasource does not say one."""


class Query(Struct, frozen=True):
    """One expression and the legend of its series."""

    expr: str
    legend: str = ""


class Panel(Struct, frozen=True, kw_only=True):
    """One panel. `about` says what it shows and what to do about it; `unit` is Grafana's name of one; `width` is of 24 columns.

    `steps` are (from, colour) thresholds, the first from None; `words` are {value: (word, colour)} in place of numbers.
    """

    title: str
    about: str
    queries: tuple[Query, ...]
    unit: str
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    stacked: bool = False
    steps: tuple[tuple[float | None, str], ...] = ((None, GREEN),)
    words: Mapping[int, tuple[str, str]] = {}
    link: str = ""


class Row(Struct, frozen=True):
    """A heading and the panels below it."""

    title: str
    panels: tuple[Panel, ...]


class Board(Struct, frozen=True, kw_only=True):
    """One dashboard; `variables` are {name: query} in the order of the page."""

    uid: str
    title: str
    about: str
    variables: Mapping[str, str]
    rows: tuple[Row, ...]


def dashboard(board: Board) -> Json:
    """Return a dashboard as Grafana imports and provisions it. Raises promql.Unknown when it names what does not exist."""
    return {
        "uid": board.uid,
        "title": board.title,
        "description": board.about,
        "tags": ["weir"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "",
        "links": [_links()],
        "annotations": {"list": []},
        "templating": {"list": [_datasource(), *(_variable(name, query) for name, query in board.variables.items())]},
        "panels": list(_laid_out(board.rows)),
    }


def _links() -> Json:
    return {
        "title": "Weir",
        "type": "dashboards",
        "tags": ["weir"],
        "asDropdown": False,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
        "icon": "external link",
        "tooltip": "The other dashboards, with the same route, upstream and time",
        "url": "",
    }


def _datasource() -> Json:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "current": {"text": "default", "value": "default"},
        "hide": 0,
        "refresh": 1,
    }


def _variable(name: str, query: str) -> Json:
    return {
        "name": name,
        "label": name,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": f"variable-{name}"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "hide": 0,
    }


def _laid_out(rows: Iterable[Row]) -> Iterable[Json]:
    """Yield rows and panels from left to right, as many beside each other as fit."""
    number, top = 0, 0
    for row in rows:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"x": 0, "y": top, "w": 24, "h": 1},
        }
        top, left, tallest = top + 1, 0, 0
        for panel in row.panels:
            if left + panel.width > COLUMNS:
                top, left, tallest = top + tallest, 0, 0
            number += 1
            yield _panel(panel, number, {"x": left, "y": top, "w": panel.width, "h": panel.height})
            left, tallest = left + panel.width, max(tallest, panel.height)
        top += tallest


def _panel(panel: Panel, number: int, place: Json) -> Json:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": DATASOURCE,
        "interval": SCRAPE,
        "gridPos": place,
        "targets": [_target(panel, query, "ABCDEFGH"[at]) for at, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": [_objective_line()] if panel.kind == "timeseries" else []},
        "options": OPTIONS[panel.kind],
        "transparent": False,
    }


def _target(panel: Panel, query: Query, ref: str) -> Json:
    now = panel.kind == "stat"
    return {
        "refId": ref,
        "datasource": DATASOURCE,
        "expr": check(query.expr, RECORDED),
        "legendFormat": query.legend or "__auto",
        "format": "heatmap" if panel.kind == "heatmap" else "time_series",
        "editorMode": "code",
        "range": not now,
        "instant": now,
        "exemplar": panel.kind == "timeseries" and "_bucket" in query.expr,
    }


def _defaults(panel: Panel) -> Json:
    mappings = [
        {"type": "value", "options": {str(value): {"text": word, "color": colour, "index": value}}}
        for value, (word, colour) in panel.words.items()
    ]
    custom: Json = {}
    if panel.kind == "timeseries":
        custom = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 40 if panel.stacked else 0,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "dashed" if len(panel.steps) > 1 else "off"},
        }
    elif panel.kind == "state-timeline":
        custom = {"fillOpacity": 80, "lineWidth": 0}
    return {
        "unit": panel.unit,
        "noValue": "none",
        "min": 0,
        "color": {"mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"},
        "thresholds": {"mode": "absolute", "steps": [{"value": start, "color": colour} for start, colour in panel.steps]},
        "mappings": mappings,
        "links": [{"title": "Open", "url": panel.link, "targetBlank": False}] if panel.link else [],
        "custom": custom,
    }


def _objective_line() -> Json:
    """Draw series that are an objective as a dashed red line, whatever colour would be their turn."""
    return {
        "matcher": {"id": "byRegexp", "options": "/^objective.*/"},
        "properties": [
            {"id": "color", "value": {"mode": "fixed", "fixedColor": "red"}},
            {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 6]}},
            {"id": "custom.lineWidth", "value": 2},
            {"id": "custom.stacking", "value": {"mode": "none", "group": "objective"}},
        ],
    }


_LAST = {"calcs": ["lastNotNull"], "fields": "", "values": False}
OPTIONS: dict[str, Json] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "reduceOptions": _LAST,
        "orientation": "auto",
        "textMode": "auto",
        "colorMode": "value",
        "graphMode": "none",
        "justifyMode": "auto",
        "wideLayout": True,
        "showPercentChange": False,
        "percentChangeColorMode": "standard",
    },
    "state-timeline": {
        "showValue": "auto",
        "alignValue": "left",
        "mergeValues": True,
        "rowHeight": 0.8,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "single", "sort": "none"},
    },
    "heatmap": {
        "calculate": False,
        "cellGap": 1,
        "color": {
            "mode": "scheme",
            "scheme": "Oranges",
            "fill": "dark-orange",
            "exponent": 0.5,
            "scale": "exponential",
            "steps": 64,
            "reverse": False,
        },
        "yAxis": {"axisPlacement": "left", "unit": "s", "reverse": False},
        "rowsFrame": {"layout": "auto"},
        "cellValues": {"unit": "short"},
        "filterValues": {"le": 1e-9},
        "showValue": "never",
        "legend": {"show": True},
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "tooltip": {"mode": "single", "yHistogram": True, "showColorScale": False},
    },
}
