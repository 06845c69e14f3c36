"""Spans as backends give them back, each over its own API, in one shape."""

import json
from datetime import datetime
from typing import Any

import httpx
from msgspec import Struct


class Seen(Struct):
    """One span as somebody else understood it; `events` in the order of their times; `kind` is the backend's own word, where it has one."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str | None
    error: bool
    seconds: float
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    kind: str = ""


def phoenix(api: str, trace_id: str) -> list[Seen]:
    """Read a trace from Phoenix's REST API; nothing while its project does not exist."""
    answer = httpx.get(f"{api}/v1/projects/default/spans", params={"limit": 100}, timeout=30.0, trust_env=False)
    found = answer.raise_for_status().json()["data"] if answer.status_code != 404 else []
    return [_from_phoenix(span) for span in found if span["context"]["trace_id"] == trace_id]


def _from_phoenix(span: dict[str, Any]) -> Seen:
    events = sorted(span["events"], key=lambda event: event["timestamp"])
    return Seen(
        name=span["name"],
        trace_id=span["context"]["trace_id"],
        span_id=span["context"]["span_id"],
        parent_id=span["parent_id"],
        error=span["status_code"] == "ERROR",
        seconds=_seconds(span["end_time"]) - _seconds(span["start_time"]),
        attributes=span["attributes"],
        events=[(event["name"], event["attributes"]) for event in events],
        kind=span["span_kind"],
    )


def _seconds(iso: str) -> float:
    return datetime.fromisoformat(iso).timestamp()


def jaeger(api: str, trace_id: str) -> list[Seen]:
    """Read a trace from Jaeger's query API; nothing while it does not know it."""
    answer = httpx.get(f"{api}/api/traces/{trace_id}", timeout=30.0, trust_env=False)
    found = answer.raise_for_status().json()["data"] if answer.status_code != 404 else []
    return [_from_jaeger(span) for trace in found for span in trace["spans"]]


def _from_jaeger(span: dict[str, Any]) -> Seen:
    attributes = _tags(span["tags"])
    logs = [_tags(log["fields"]) for log in sorted(span["logs"], key=lambda log: log["timestamp"])]
    return Seen(
        name=span["operationName"],
        trace_id=span["traceID"],
        span_id=span["spanID"],
        parent_id=next((link["spanID"] for link in span["references"] if link["refType"] == "CHILD_OF"), None),
        error=attributes.get("error") is True,
        seconds=span["duration"] / 1e6,
        attributes=attributes,
        events=[(log.pop("event"), log) for log in logs],
    )


def _tags(tags: list[dict[str, Any]]) -> dict[str, Any]:
    """Return tags as attributes; an array comes as JSON in a text."""
    plain = {tag["key"]: tag["value"] for tag in tags}
    return {key: json.loads(value) if isinstance(value, str) and value.startswith("[") else value for key, value in plain.items()}
