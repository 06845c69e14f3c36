"""A finished record and every figure that follows from it, worked out once and told alike to span, metrics, log, store and API."""

from msgspec import Struct

from gateway.core.record import Attempt, Outcome, StreamRecord

ERROR_OUTCOMES: frozenset[Outcome] = frozenset(
    {"upstream_error", "upstream_truncated", "upstream_stalled", "first_token_timeout", "gateway_error", "shutdown"}
)
"""Outcomes that are somebody's fault on our side of the client (contract, section 6)."""


class Kept(Struct, frozen=True):
    """That a stream has a span, and how many like it stand behind it: both None while everything is kept.

    `threshold` is what its tracestate says after `ot=th:`, None too where it was the caller who decided.
    """

    reason: str | None = None
    threshold: str | None = None


ALL = Kept()


class Account(Struct, frozen=True, kw_only=True):
    """All durations are seconds and None when unknown: nothing here is guessed.

    `ttft`, `ttfb` and `first_answer` run from the request received, as the user feels them; `first_chunk` and `first_token` from
    the served attempt's request sent, as the GenAI conventions define them. Token times are those of streamed answers only: when a
    document comes whole, nobody knows when its first token was made. `slow` says the TTFT was above the route's objective. `kept` is None
    when the stream has no span: as far as its caller is concerned here, by the configuration in `gateway.telemetry.sampling`.
    """

    record: StreamRecord
    cost: float | None = None
    slow: bool = False
    kept: Kept | None = None
    duration: float | None = None
    ttft: float | None = None
    ttfb: float | None = None
    first_answer: float | None = None
    first_chunk: float | None = None
    first_token: float | None = None
    per_token: float | None = None


def account(record: StreamRecord, cost: float | None = None, objective: float | None = None) -> Account:
    """Work out the account of a record; `objective` is its route's TTFT objective in seconds."""
    served, streamed = record.served, record.streamed
    ttft = _between(record.received_at, record.first_token_at) if streamed else None
    return Account(
        record=record,
        cost=cost,
        slow=objective is not None and ttft is not None and ttft > objective,
        kept=ALL if record.sampled else None,
        duration=_between(record.received_at, record.ended_at),
        ttft=ttft,
        ttfb=_between(record.received_at, record.first_byte_at),
        first_answer=_between(record.received_at, record.first_answer_at) if streamed else None,
        first_chunk=_since_sent(served, served.first_event_at) if served and streamed else None,
        first_token=_since_sent(served, served.first_token_at) if served and streamed else None,
        per_token=_per_token(record) if streamed else None,
    )


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else max(0.0, end - start)


def _since_sent(attempt: Attempt, at: float | None) -> float | None:
    return _between(attempt.sent_at, at)


def _per_token(record: StreamRecord) -> float | None:
    tokens = record.usage.output if record.usage and not record.seams else None  # of a resumed stream not all are known
    span = _between(record.first_token_at, record.last_token_at)
    return span / (tokens - 1) if tokens is not None and tokens > 1 and span else None
