"""What may cross the gateway: two allow-lists of header names, and the W3C trace context."""

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from functools import lru_cache

from msgspec import Struct

from gateway.core.record import StreamRecord

FORWARDED = frozenset({"accept", "content-type", "user-agent", "idempotency-key", "x-request-id", "http-referer", "x-title"})
FORWARDED_PREFIXES = ("openai-", "anthropic-", "x-stainless-", "x-goog-api-client", "x-amzn-bedrock-")
"""From client to upstream. An allow-list, so that credentials, cookies and hop-by-hop headers cannot slip through by a new name."""
OF_A_DIALECT = ("accept", "content-type", *FORWARDED_PREFIXES)
"""Those of them that say something only between a client and an upstream of one dialect."""

RETURNED = frozenset({"content-type", "content-encoding", "retry-after", "x-request-id", "request-id"})
RETURNED_PREFIXES = ("openai-", "anthropic-", "x-ratelimit-", "x-amzn-")
RETURNED_TRANSLATED = frozenset({"retry-after", "x-request-id", "request-id"})
"""From upstream to client."""

TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
TAG_PREFIX = "x-weir-tag-"
MAX_TAGS = 16
MAX_TAG = 128
MAX_STATE = 512
MEMBER = re.compile(r"[\w.\[\]-]{1,64}", re.ASCII)
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class TraceContext(Struct, frozen=True):
    """The caller's place in its trace: ids in hex, and whether it samples."""

    trace_id: str
    parent_id: str
    sampled: bool
    state: str | None


def forwarded(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the client's headers that an upstream may see."""
    said = [(name, value) for name, value in headers.items() if _is_forwarded(name) and not CONTROL.search(value)]
    hop = of_this_hop(headers.get("Connection", ""))
    return [header for header in said if header[0].lower() not in hop] if hop else said


@lru_cache(maxsize=64)
def of_this_hop(connection: str) -> frozenset[str]:
    """Return the headers that a Connection header says are meant for the next hop alone (RFC 9110, 7.6.1)."""
    return frozenset(name.strip().lower() for name in connection.split(",")) - {"close", "keep-alive", "upgrade", ""}


def media_type(headers: Mapping[str, str]) -> str:
    """Return what a body is said to be, without parameters, by headers whose names are lower case; "" when nothing is said."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def translatable(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the forwarded headers that still mean something to an upstream of another dialect."""
    return [(name, value) for name, value in headers if not name.lower().startswith(OF_A_DIALECT)]


@lru_cache(maxsize=1024)
def _is_forwarded(name: str) -> bool:
    return name.lower() in FORWARDED or name.lower().startswith(FORWARDED_PREFIXES)


@lru_cache(maxsize=1024)
def _tag(name: str) -> str | None:
    """Return the tag that a header names, or None when it names none."""
    return name.lower().removeprefix(TAG_PREFIX) if name.lower().startswith(TAG_PREFIX) else None


def returned(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the upstream's headers that a client may see; a value with control characters is dropped, not passed on."""
    hop = of_this_hop(headers.get("connection", ""))
    return {name: value for name, value in headers.items() if _is_returned(name) and name not in hop and not CONTROL.search(value)}


def still_true(headers: Mapping[str, str]) -> dict[str, str]:
    """Return those of the upstream's headers that are true of a translated answer too."""
    return {name: value for name, value in returned(headers).items() if name in RETURNED_TRANSLATED}


@lru_cache(maxsize=1024)
def _is_returned(name: str) -> bool:
    return name in RETURNED or name.startswith(RETURNED_PREFIXES)


def trace_context(headers: Mapping[str, str]) -> TraceContext | None:
    """Read `traceparent` (W3C Trace Context, level 1); anything malformed is as if it had not been sent."""
    match = TRACEPARENT.fullmatch(headers.get("traceparent", "").strip())
    if match is None:
        return None
    version, trace_id, parent_id, flags, more = match.groups()
    if version == "ff" or (version == "00" and more) or not trace_id.strip("0") or not parent_id.strip("0"):
        return None
    state = headers.get("tracestate", "")
    state_is_sound = state.isascii() and 0 < len(state) <= MAX_STATE
    return TraceContext(trace_id, parent_id, bool(int(flags, 16) & 1), state if state_is_sound else None)


def told(value: str) -> str:
    """Return what a caller says about its call as text that can be stored, at most 128 characters of it."""
    return value[:MAX_TAG].encode("utf-8", "replace").decode()


def tags(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the `x-weir-tag-*` headers, at most 16 of at most 128 characters: stored with the stream, never metric labels."""
    found = [(told(tag), told(headers[name])) for name in headers if (tag := _tag(name))]
    return dict(found[:MAX_TAGS])


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Read `retry-after`, a number of seconds or a date (RFC 9110, 10.2.3), as seconds from now, at most a day."""
    said = headers.get("retry-after", "")
    try:
        seconds = float(said)
    except ValueError:
        seconds = _seconds_until(said)
    return min(seconds, 86_400.0) if seconds >= 0 else None


def _seconds_until(date: str) -> float:
    """Return the seconds until an HTTP date, -1 for what is none or has passed."""
    try:
        return parsedate_to_datetime(date).timestamp() - time.time()  # noqa: TID251  a date is the calendar's
    except (ValueError, OverflowError):
        return -1.0


def answer_headers(record: StreamRecord) -> dict[str, str]:
    """Return the headers by which a caller can find its stream again, and who served it as far as that is settled."""
    headers = {"x-weir-stream-id": record.stream_id, "traceresponse": f"00-{record.trace_id}-{record.span_id}-{record.sampled:02x}"}
    if record.route:
        headers["x-weir-route"] = record.route
    if record.attempts:
        headers["x-weir-attempts"] = str(len(record.attempts))
    if record.winner is not None:
        headers["x-weir-upstream"] = record.upstream
    return headers


def left_out(members: Sequence[str]) -> dict[str, str]:
    """Return the header that names, at most 8 of them, the members of a call that its target was not told."""
    names = [name for name in dict.fromkeys(members) if MEMBER.fullmatch(name)]
    return {"x-weir-dropped": ", ".join(names[:8])} if names else {}


def server_timing(record: StreamRecord, queued: float) -> str:
    """Return Server-Timing at the commit: milliseconds queued, to the upstream's first byte, and to the first token if it came."""
    timing = [f"queue;dur={queued * 1e3:.1f}"]
    if record.first_byte_at is not None:
        timing.append(f"ttfb;dur={(record.first_byte_at - record.received_at) * 1e3:.1f}")
    if record.ttft is not None:
        timing.append(f"ttft;dur={record.ttft * 1e3:.1f}")
    return ", ".join(timing)
