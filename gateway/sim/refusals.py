"""How each provider refuses a call: the document that an error status carries, and the headers that come with it."""

from collections.abc import Callable, Mapping
from typing import Any

import orjson

Refusal = tuple[bytes, dict[str, str]]
Words = Mapping[int, str]

_OPENAI: Words = {429: "rate_limit_exceeded", 401: "invalid_api_key", 400: "invalid_request_error", 404: "model_not_found"}
_ANTHROPIC: Words = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
GEMINI: Words = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_BEDROCK: Words = {
    400: "ValidationException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    503: "ServiceUnavailableException",
}


def openai_error(code: str, message: str, kind: str = "server_error") -> bytes:
    """Return an error of OpenAI's shape."""
    return orjson.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}})


def _openai(status: int, message: str, wait: float | None) -> Refusal:  # noqa: ARG001 - one shape for all
    code = _OPENAI.get(status, "server_error")
    return openai_error(code, message, code), {}


def _azure(status: int, message: str, wait: float | None) -> Refusal:
    return orjson.dumps({"error": {"code": str(status), "message": message}}), _milliseconds(wait)


def _anthropic(status: int, message: str, wait: float | None) -> Refusal:  # noqa: ARG001
    kind = _ANTHROPIC.get(status, "invalid_request_error" if status < 500 else "api_error")
    said = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_sim"}
    return orjson.dumps(said), {"request-id": "req_sim"}


def _gemini(status: int, message: str, wait: float | None) -> Refusal:
    error: dict[str, Any] = {"code": status, "message": message, "status": GEMINI.get(status, "INTERNAL")}
    if wait is not None:
        error["details"] = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{wait:g}s"}]
    return orjson.dumps({"error": error}), {}


def _gemini_array(status: int, message: str, wait: float | None) -> Refusal:
    return b"[" + _gemini(status, message, wait)[0] + b"\n]\n", {}


def _bedrock(status: int, message: str, wait: float | None) -> Refusal:  # noqa: ARG001
    name = _BEDROCK.get(status, "InternalServerException")
    return orjson.dumps({"message": message}), {"x-amzn-ErrorType": f"{name}:http://internal.amazon.com/coral/com.amazon.bedrock/"}


def _ollama(status: int, message: str, wait: float | None) -> Refusal:  # noqa: ARG001
    return orjson.dumps({"error": message}), {}


def _milliseconds(wait: float | None) -> dict[str, str]:
    return {} if wait is None else {"retry-after-ms": f"{wait * 1000:g}"}


REFUSALS: Mapping[str, Callable[[int, str, float | None], Refusal]] = {
    "openai": _openai,
    "openai-responses": _openai,
    "azure": _azure,
    "anthropic": _anthropic,
    "gemini": _gemini,
    "gemini-array": _gemini_array,
    "bedrock": _bedrock,
    "ollama": _ollama,
}
"""By tongue: a dialect, or the form of it that is an array. Takes the status, the message, and for how long to stay away."""
