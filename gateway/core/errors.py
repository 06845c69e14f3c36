"""Everything that can go wrong with a call: each class knows the status to answer with and whether another target may be tried.

Rendered once, in the caller's dialect, by `Dialect.error_body` and `Dialect.error_event`. Messages are ours: they carry neither
secrets nor content of the call.
"""

import re

from gateway.core.record import Outcome

_WORD = re.compile(r"[\w.:/-]{1,64}", re.ASCII)


def word(code: str | None, otherwise: str) -> str:
    """Return a code that can be kept. It may be an upstream's, and goes to records and spans; a whole text as code could hold anything."""
    return code if code and _WORD.fullmatch(code) else otherwise


class GatewayError(Exception):
    """Base of the tree.

    `status` is HTTP, `code` machine-readable (also `error.type` in telemetry), `kind` the caller-facing family, `outcome` what the
    stream's record says when this is what ended it, `retry_after` seconds. `hangs_up`: no other call can follow on the client's connection.
    """

    status = 500
    code = "gateway_error"
    kind = "gateway_error"
    outcome: Outcome = "gateway_error"
    hangs_up = False

    def __init__(self, message: str, *, code: str | None = None, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = word(code, type(self).code)
        self.status = status or type(self).status
        self.retry_after = retry_after


class Rejected(GatewayError):
    """The gateway will not carry this call: its outcome is `rejected` and no upstream was asked."""

    status = 400
    code = "bad_request"
    kind = "invalid_request_error"
    outcome: Outcome = "rejected"


class BodyTooLarge(Rejected):
    status = 413
    code = "request_too_large"
    hangs_up = True


class BodyBroken(Rejected):
    """What follows the head of the request is no body: where the next request would begin, nobody knows."""

    code = "invalid_body"
    hangs_up = True


class Misframed(Rejected):
    """The request's head can be read in more than one way, or asks for what no endpoint does."""

    code = "bad_framing"
    hangs_up = True


class RequestTimeout(Rejected):
    """The client does not finish its request."""

    status = 408
    code = "request_timeout"
    hangs_up = True


class ModelNotFound(Rejected):
    status = 404
    code = "model_not_found"


class NoTarget(Rejected):
    """Every target of the route is out of order and none may be tried."""

    status = 503
    code = "no_target_available"
    kind = "upstream_error"


class ShuttingDown(Rejected):
    status = 503
    code = "server_shutdown"
    kind = "gateway_error"
    hangs_up = True


class Crowded(Rejected):
    """As many clients are connected as this worker has room for."""

    status = 503
    code = "too_many_connections"
    kind = "gateway_error"
    hangs_up = True


class ClientStalled(GatewayError):
    """The client has taken nothing for `client.write_timeout`; nobody is left to read this."""

    code = "write_timeout"
    outcome: Outcome = "client_stalled"


class Stopped(GatewayError):
    """The gateway ends a running stream because it shuts down."""

    status = 503
    code = "server_shutdown"
    outcome: Outcome = "shutdown"
    hangs_up = True


class Aborted(GatewayError):
    """An operator has stopped the stream. The status is one that no SDK asks again after."""

    status = 403
    code = "operator_abort"
    outcome: Outcome = "operator_abort"


class UpstreamError(GatewayError):
    """An upstream failed before it spoke, or in the middle of its answer."""

    status = 502
    code = "upstream_error"
    kind = "upstream_error"
    outcome: Outcome = "upstream_error"


class ConnectFailed(UpstreamError):
    """No connection: refused, unresolvable, TLS not trusted, or not in time. `code` says which."""

    code = "connect_failed"


class StreamTruncated(UpstreamError):
    """The stream ended without its terminal marker, by FIN (`stream_truncated`) or by a broken connection (`connection_reset`)."""

    code = "stream_truncated"
    outcome: Outcome = "upstream_truncated"


MEANT: tuple[tuple[tuple[str, ...], int], ...] = (
    (("ratelimit", "throttl", "resourceexhausted", "toomanyrequests", "quota"), 429),
    (("overloaded", "unavailable", "notready", "capacity"), 503),
    (("timeout", "deadline"), 504),
    (("invalidrequest", "invalidargument", "badrequest", "validation", "failedprecondition", "contextlength", "contentpolicy"), 400),
    (("notfound",), 404),
)
"""What providers' own words for an error in a stream have in common, and the status that the same error has outside of one."""


def status_meant(code: str) -> int:
    """Return the HTTP status that an error reported inside a stream would have had, 502 for one that says nothing of the kind.

    `code` is the provider's: a word (`rate_limit_exceeded`, `ThrottlingException`, `RESOURCE_EXHAUSTED`) or a status as text.
    """
    said = "".join(letter for letter in code.lower() if letter.isalnum())
    if len(said) == 3 and said.isascii() and said.isdigit() and 400 <= int(said) < 600:
        return int(said)
    return next((status for words, status in MEANT if any(known in said for known in words)), 502)


UPSTREAMS_FAULT = frozenset({401, 403, 408, 429})
"""4xx that say something about the upstream or our key to it; any other is about the call, and no target is worse for it."""


def blames_upstream(status: int) -> bool:
    """Tell whether an error of this status, from an upstream, says that the upstream is in trouble."""
    return status >= 500 or status in UPSTREAMS_FAULT


class RedirectRefused(UpstreamError):
    """The upstream sent us elsewhere. Where calls go is the configuration's to say, nobody else's."""

    code = "redirect_refused"


class ErrorEvent(UpstreamError):
    """The upstream answered 200 and then reported an error inside its stream; `status` is what that error would have been outside."""

    code = "error_event"

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message, code=code, status=status_meant(code))


class SlowFirstToken(UpstreamError):
    status = 504
    code = "slow_first_token"
    outcome: Outcome = "first_token_timeout"


class UpstreamStalled(UpstreamError):
    """No byte within `stall.liveness` (`upstream_silent`), or bytes but no token within `stall.progress` (`no_progress`)."""

    status = 504
    code = "upstream_silent"
    outcome: Outcome = "upstream_stalled"
