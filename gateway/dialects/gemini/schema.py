"""Gemini's own schema language, a piece of OpenAPI 3.0 with types in capitals, said as JSON Schema."""

from typing import Any

_COUNTED = frozenset({"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"})
"""Keywords that are 64-bit integers, which proto3 JSON writes as strings."""

_DROPPED = frozenset({"nullable", "propertyOrdering", "example"})


def json_schema(schema: Any) -> Any:
    """Return the JSON Schema that says the same; what is no schema is returned as it is."""
    if not isinstance(schema, dict):
        return schema
    said = {_camel(key): value for key, value in schema.items()}
    found = {key: _keyword(key, value) for key, value in said.items() if key not in _DROPPED and value is not None}
    if said.get("nullable") is True:
        if isinstance(kind := found.get("type"), str):
            found["type"] = [kind, "null"]
        if isinstance(values := found.get("enum"), list):
            found["enum"] = [*values, None]
    if found.get("format") == "enum":
        del found["format"]
    return {key: value for key, value in found.items() if value != "unspecified"}


def _keyword(key: str, value: Any) -> Any:
    if key == "type" and isinstance(value, str):
        return "unspecified" if value == "TYPE_UNSPECIFIED" else value.lower()
    if key == "properties" and isinstance(value, dict):
        return {name: json_schema(inner) for name, inner in value.items()}
    if key == "anyOf" and isinstance(value, list):
        return [json_schema(inner) for inner in value]
    if key == "items":
        return json_schema(value)
    if key in _COUNTED and isinstance(value, str) and value.isdecimal():
        return int(value)
    return value


def _camel(key: str) -> str:
    head, *rest = key.split("_")
    return head + "".join(word[:1].upper() + word[1:] for word in rest) if head else key
