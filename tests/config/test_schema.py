"""The JSON Schema that editors read, and the list of keys."""

import json
import re
from typing import Any

from gateway.config import all_keys, json_schema
from gateway.config.schema import keys_beside


def test_the_schema_is_of_what_people_write() -> None:
    """Durations, sizes and percentages are strings with a pattern, and so are their defaults."""
    parts = json_schema()["$defs"]
    drain = parts["Server"]["properties"]["drain"]
    assert (drain["type"], drain["default"]) == ("string", "30s")
    assert re.search(drain["pattern"], "300ms")
    assert re.search(drain["pattern"], "${DRAIN:-30s}")
    assert not re.search(drain["pattern"], "30")
    assert parts["Server"]["properties"]["max_body"]["default"] == "20MiB"
    assert parts["Retry"]["properties"]["budget"]["default"] == "20%"
    assert parts["Slo"]["properties"]["objective"]["default"] == "99%"
    assert {"pattern": r"\$\{", "type": "string"} in parts["Server"]["properties"]["port"]["anyOf"]


def test_the_schema_is_json_and_closed() -> None:
    """Every mapping refuses unknown keys, every key explains itself, and an upstream's name is not one of them."""
    schema = json.loads(json.dumps(json_schema()))
    assert schema["$schema"].startswith("https://json-schema.org/")
    parts: list[dict[str, Any]] = [schema, *schema["$defs"].values()]
    assert all(part["additionalProperties"] is False for part in parts)
    for part in parts:
        for name, key in part["properties"].items():
            assert key.get("description") or "$ref" in key, (part["title"], name)
    assert "name" not in schema["$defs"]["Upstream"]["properties"]


def test_every_key_is_listed_once() -> None:
    """The list is what documentation and "did you mean" are held to."""
    keys = all_keys()
    assert len(keys) == len(set(keys))
    assert {"server.port", "upstreams.*.base_url", "routes[].match.models", "routes[].first_token.timeout.adaptive"} <= set(keys)
    assert "upstreams.*.name" not in keys


def test_keys_beside_a_key_are_its_siblings() -> None:
    """An upstream's name or a route's place in the list makes no difference."""
    assert keys_beside(("routes", 3, "first_token", "timeout", "x")) == ["adaptive", "factor", "min", "max"]
    assert keys_beside(("routes", 0, "slo", "x")) == ["ttft", "objective"]
    assert "base_url" in keys_beside(("upstreams", "any", "x"))
    assert "version" in keys_beside(("x",))
