"""Which provider a request means: one port serves all dialects, told apart by path, and by headers where paths are the same."""

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote

from msgspec import Struct

from gateway.core.call import Call
from gateway.dialects import DIALECTS, lenient
from gateway.dialects.base import Asked, Dialect, Endpoint
from gateway.sim.answers import models_document
from gateway.sim.drafts import EPOCH, Prompt, count_inputs

ROOTS: Mapping[str, str] = {"openai": "/v1", "openai-responses": "/v1"}
"""What stands behind host and port in the base URL that an SDK takes; nothing for the others."""

_AREAS = (("/v1beta/", "gemini"), ("/model/", "bedrock"), ("/api/", "ollama"), ("/openai/", "azure"), ("/v1/messages", "anthropic"))
_TUNED = "/v1beta/tunedModels/"
_LISTS = {"/v1beta/models": "gemini", "/api/tags": "ollama", "/foundation-models": "bedrock", "/openai/models": "azure"}
_MARKS = (("anthropic-version", "anthropic"), ("x-goog-api-key", "gemini"))


class Door(Struct, frozen=True):
    """One endpoint of one dialect, and the paths that lead to it: still percent-encoded, so that a name may hold %2F."""

    dialect: Dialect
    endpoint: Endpoint
    pattern: re.Pattern[str]


def _door(dialect: Dialect, endpoint: Endpoint) -> Door:
    parts = re.split(r"\{(\w+)\}", endpoint.path)
    pattern = "".join(f"(?P<{part}>[^/]+)" if place % 2 else re.escape(part) for place, part in enumerate(parts))
    return Door(dialect, endpoint, re.compile(pattern))


DOORS = tuple(_door(dialect, endpoint) for dialect in DIALECTS.values() for endpoint in dialect.endpoints)


def find(method: str, path: str) -> tuple[Door, dict[str, str]] | None:
    """Return the door behind a path without its query, and the values of its names; None where there is none."""
    if path.startswith(_TUNED):  # what its dialect takes for a model of another collection
        path = f"/v1beta/models/tunedModels%2F{path.removeprefix(_TUNED)}"
    for door in DOORS:
        if door.endpoint.method == method and (found := door.pattern.fullmatch(path)):
            return door, {name: unquote(value) for name, value in found.groupdict().items()}
    return None


def read_call(door: Door, params: Mapping[str, str], query: str, body: bytes) -> Call:
    """Read a request as its dialect does. Raises `core.errors.Rejected`."""
    return door.dialect.parse_call(door.endpoint, body, Asked(params, dict(parse_qsl(query, keep_blank_values=True))))


def prompt_of(call: Call) -> Prompt:
    """Return what an answer depends on."""
    inputs = count_inputs(lenient.read_object(call.body).get("input")) if call.operation == "embeddings" else 1
    return Prompt(
        path="/v1/chat/completions",
        model=call.model,
        stream=call.stream,
        max_tokens=call.max_tokens if call.max_tokens is not None and call.max_tokens > 0 else None,
        input_tokens=max(1, len(call.body) // 4),
        inputs=inputs,
    )


def listing(path: str, headers: Mapping[str, str], names: tuple[str, ...]) -> bytes | None:
    """Return the list of models that a path asks for, None when it asks for none."""
    if path == "/v1/models":
        dialect = next((dialect for header, dialect in _MARKS if header in headers), "openai")
        return models_document(names) if dialect == "openai" else DIALECTS[dialect].models_document(names, EPOCH)
    return DIALECTS[_LISTS[path]].models_document(names, EPOCH) if path in _LISTS else None


def tongue_of(path: str, headers: Mapping[str, str]) -> str:
    """Return whose error an address that does not exist is told with."""
    by_path = next((dialect for start, dialect in _AREAS if path.startswith(start)), None)
    return by_path or next((dialect for header, dialect in _MARKS if header in headers), "openai")
