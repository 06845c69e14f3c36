"""The configuration as a JSON Schema for editors, and as the list of its keys."""

from collections.abc import Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from gateway.config.model import Config
from gateway.config.source import Path
from gateway.config.values import SHOW

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_VARIABLE = {"type": "string", "pattern": r"\$\{"}


class _Generate(GenerateJsonSchema):
    """Pydantic's schema of what is written rather than of what is kept: `2s` for 2.0, and `${VAR}` wherever a value may stand."""

    def int_schema(self, schema: core_schema.IntSchema) -> JsonSchemaValue:
        return {"anyOf": [super().int_schema(schema), _VARIABLE]}

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        return {"anyOf": [super().float_schema(schema), _VARIABLE]}

    def bool_schema(self, schema: core_schema.BoolSchema) -> JsonSchemaValue:
        return {"anyOf": [super().bool_schema(schema), _VARIABLE]}

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        written = super().default_schema(schema)
        kinds = [alternative.get("title", "") for alternative in (written, *written.get("oneOf", []))]
        show = next((SHOW[kind] for kind in kinds if kind in SHOW), None)
        if show and "default" in written:
            written["default"] = show(written["default"])
        elif written.get("uniqueItems") and "default" in written:
            written["default"] = sorted(written["default"])  # a set has another order in every process
        return written


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of routes.yaml, values as a person writes them."""
    return {"$schema": _DIALECT, **Config.model_json_schema(schema_generator=_Generate), "title": "Weir routes.yaml"}


def all_keys() -> list[str]:
    """List every key a file may hold: `server.port`, `upstreams.*.base_url`, `routes[].match.models`."""
    return list(_keys(Config, ""))


def keys_beside(path: Path) -> list[str]:
    """List the keys that may stand where the last step of `path` does."""
    parent = _pattern(path[:-1])
    return [key.removeprefix(parent) for key in _KEYS if key.startswith(parent) and key.removeprefix(parent).isidentifier()]


def _pattern(path: Path) -> str:
    steps = [*path[:1], "*", *path[2:]] if path[:1] == ("upstreams",) and len(path) > 1 else path
    written = "".join("[]" if isinstance(step, int) else f".{step}" for step in steps)
    return f"{written.removeprefix('.')}." if written else ""


def _keys(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if (prefix, name) == ("upstreams.*.", "name"):
            continue
        yield prefix + name
        for joint, inner in _parts(field.annotation, "."):
            yield from _keys(inner, f"{prefix}{name}{joint}")


def _parts(annotation: Any, joint: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """Find the models inside an annotation, each with what stands between its key and its own keys."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield joint, annotation
    origin = get_origin(annotation)
    inside = ".*." if origin is dict else "[]." if origin is tuple else joint
    for argument in get_args(annotation):
        yield from _parts(argument, inside)


_KEYS = tuple(all_keys())
