"""Errors of the gateway, said as Google's own: as a body, and as the last words of a stream in either framing."""

import re

import msgspec

from gateway.core.errors import GatewayError
from gateway.dialects.lenient import encodable

_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def body(error: GatewayError) -> bytes:
    """Say an error as a body: the status is HTTP's and Google's word for it, Weir's own code is the reason."""
    reason = re.sub(r"[^A-Z0-9_]", "_", error.code.upper())[:63]
    detail = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "weir"}
    status = _STATUS.get(error.status, "INVALID_ARGUMENT" if error.status < 500 else "INTERNAL")
    said = {"code": error.status, "message": encodable(error.message), "status": status, "details": [detail]}
    return msgspec.json.encode({"error": said})


def event(error: GatewayError) -> bytes:
    """Say an error as an event. JSON escapes CR and LF: nothing in it can end the event."""
    return b"data: " + body(error) + b"\r\n\r\n"


def element(error: GatewayError, begun: bool) -> bytes:
    """Say an error as the last element of an array, which is its first unless the array has `begun`."""
    return (b",\r\n" if begun else b"[") + body(error) + b"\n]"
