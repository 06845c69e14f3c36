"""Errors of the gateway, said as Anthropic's own: as a body, and as the last event of a stream."""

import msgspec

from gateway.core.errors import GatewayError
from gateway.dialects.lenient import encodable

_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def body(error: GatewayError) -> bytes:
    """Say an error as a body; its kind goes by the status, Weir's own code stands beside it."""
    kind = _KINDS.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    said = {"type": kind, "message": encodable(error.message), "code": encodable(error.code)}
    return msgspec.json.encode({"type": "error", "error": said})


def event(error: GatewayError) -> bytes:
    """Say an error as an event. JSON escapes CR and LF: nothing in it can end the event."""
    return b"event: error\ndata: " + body(error) + b"\n\n"
