"""The events on a stream's span: at most sixteen, the ones that explain it best, in the order they happened."""

from opentelemetry.sdk.trace import Event

from gateway.core.record import Attempt, Seam, Stall, StreamRecord

MOST_EVENTS = 16
MOST_ATTEMPTS = 5
MOST_SEAMS = 3
EVENTS = {
    "stream.start": "the served attempt's request was sent upstream",
    "First Token Stream Event": "the first token came",
    "attempt": "one try at a target, when it was dialed: upstream, why, outcome, error.type",
    "stall": "a silence over the route's threshold, when it began: offset (s since request received), length (s), blame, chunk",
    "resume": "another target went on with the answer, when the one before had failed: from, to, why, after_chunks",
    "stream.end": "the last byte or the abort: outcome",
}
"""Every event name and what it says."""


def events(record: StreamRecord) -> list[Event]:
    """Return the span's events; attempts and stalls beyond the bound give way to the first and the longest of them."""
    found: list[tuple[float, str, dict[str, str | int | float]]] = []
    served = record.served
    if served is not None and served.sent_at is not None:
        found.append((served.sent_at, "stream.start", {}))
    if record.first_token_at is not None:
        found.append((record.first_token_at, "First Token Stream Event", {}))
    if record.ended_at is not None:
        found.append((record.ended_at, "stream.end", {"outcome": record.outcome}))
    found += [(seam.at, "resume", _resume(seam)) for seam in record.seams[:MOST_SEAMS]]
    found += [(attempt.dialed_at, "attempt", _attempt(attempt)) for attempt in _telling(record.attempts)]
    found += [(stall.at, "stall", _stall(stall, record)) for stall in _worst(record.cadence.stalls, MOST_EVENTS - len(found))]
    # The end sorts last among equals: what happened at the last moment happened before it.
    found.sort(key=lambda happening: (happening[0], happening[1] == "stream.end"))
    return [Event(name, attributes, record.unix_ns(at)) for at, name, attributes in found]


def _telling(attempts: list[Attempt]) -> list[Attempt]:
    """The first ones and the last one: why it began to fail, and what came of it."""
    return attempts if len(attempts) <= MOST_ATTEMPTS else [*attempts[: MOST_ATTEMPTS - 1], attempts[-1]]


def _worst(stalls: list[Stall], room: int) -> list[Stall]:
    """The first half of the room goes to the first stalls, the rest to the longest of the others."""
    if len(stalls) <= room:
        return stalls
    first = stalls[: room // 2]
    return first + sorted(stalls[room // 2 :], key=lambda stall: -stall.length)[: room - len(first)]


def _attempt(attempt: Attempt) -> dict[str, str | int | float]:
    said: dict[str, str | int | float] = {"upstream": attempt.upstream, "why": attempt.why, "outcome": attempt.outcome}
    if attempt.error:
        said["error.type"] = attempt.error
    return said


def _resume(seam: Seam) -> dict[str, str | int | float]:
    return {"from": seam.source, "to": seam.target, "why": seam.why, "after_chunks": seam.chunks}


def _stall(stall: Stall, record: StreamRecord) -> dict[str, str | int | float]:
    return {"offset": stall.at - record.received_at, "length": stall.length, "blame": stall.blame, "chunk": stall.chunk}
