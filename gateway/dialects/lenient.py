"""JSON that strict parsers refuse and real clients and servers send: what every dialect reads and writes it with."""

import json
import math
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
from msgspec import Meta

from gateway.core.errors import Rejected

WORD = 2**63
"""Larger integers fit neither a span nor the record link."""

Whole = Annotated[int, Meta(ge=1 - WORD, le=WORD - 1)]
"""An integer of 64 bits, for what is read typed: larger ones are a wrong type there. It costs a token a few nanoseconds."""

_TRUE = frozenset({"true", "1", "yes", "on", "y", "t"})  # what pydantic, and so most Python servers, take for true


def untyped(data: bytes) -> Any:
    """Read any JSON, lone surrogates and NaNs too; raises `msgspec.DecodeError` for what is none."""
    try:
        return json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error


def read_object(body: bytes) -> dict[str, Any]:
    """Read a request body that must be a JSON object, lone surrogates included; raises `core.errors.Rejected`."""
    try:
        found = json.loads(body.decode())
    except RecursionError as error:
        raise Rejected("the request body is nested too deeply", code="invalid_json") from error
    except ValueError as error:
        raise Rejected("the request body is not valid JSON", code="invalid_json") from error
    if not isinstance(found, dict):
        raise Rejected("the request body must be a JSON object", code="invalid_json")
    return found


def encode(value: Any) -> bytes:
    """Write JSON on one line; half an emoji stays the escape that it came as."""
    try:
        return msgspec.json.encode(value)
    except (UnicodeEncodeError, OverflowError):
        return json.dumps(_finite(value), separators=(",", ":")).encode()


def _finite(value: Any) -> Any:
    """Return a value with null for numbers that JSON has not: as msgspec writes them. In C both ways, so that depth is no matter."""
    return json.loads(json.dumps(value), parse_constant=lambda _: None)


def arguments(text: str) -> dict[str, Any] | None:
    """Read a tool call's arguments: "" is an empty object, what is no JSON object is None."""
    try:
        found = json.loads(text, parse_constant=_refuse) if text.strip() else {}
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def truth(said: Any) -> bool:
    """Tell whether common servers take this for true."""
    return said.lower() in _TRUE if isinstance(said, str) else said is True or (type(said) in {int, float} and said == 1)


def number(said: Any) -> float | None:
    """Return a finite number, None for anything else."""
    return float(said) if type(said) in {int, float} and abs(said) < WORD and math.isfinite(said) else None


def whole(said: Any) -> int | None:
    """Return an integer of 64 bits, None for anything else."""
    return said if type(said) is int and abs(said) < WORD else None


def count(found: Any) -> int | None:
    """Return a token count or an index; what is negative, fractional or beyond 64 bits is none."""
    if isinstance(found, str) and found.isascii() and found.isdecimal() and len(found) < 19:
        return int(found)
    fits = type(found) in {int, float} and 0 <= found < WORD and found == int(found)
    return int(found) if fits else None


def text(found: Any) -> str | None:
    return found if isinstance(found, str) else None


def clipped(name: str | None) -> str | None:
    """Return a name that fits a record, None for an empty one; half a character is a question mark there."""
    return encodable(name[:256]) if name else None


def encodable(said: str) -> str:
    """Return text without lone surrogates."""
    return said.encode("utf-8", "replace").decode()


def path_segment(name: str) -> str:
    """Return a model's name as one segment of a path; raises `core.errors.Rejected` for one that could lead anywhere else."""
    if any(part in {"", ".", ".."} for part in name.split("/")):
        raise Rejected("the model's name cannot stand in a path", code="invalid_model")
    return quote(encodable(name), safe="")


def mapping(found: Any) -> dict[str, Any]:
    return found if isinstance(found, dict) else {}


def mappings(found: Any) -> list[dict[str, Any]]:
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
