"""What to call the end of a stream, and what the record keeps of it."""

from gateway.core.errors import ErrorEvent, GatewayError, StreamTruncated, blames_upstream
from gateway.core.record import AttemptOutcome, StreamRecord
from gateway.proxy.plane import Live
from gateway.proxy.relay import Relay
from gateway.proxy.trial import Trial

ATTEMPT_OUTCOMES: dict[str, AttemptOutcome] = {
    "upstream_error": "error_event",
    "upstream_truncated": "truncated",
    "upstream_stalled": "stalled",
}
"""What a stream's outcome says about the attempt that won the race and then failed."""


def verdict(live: Live, trial: Trial, relay: Relay) -> GatewayError | None:
    """Say how a relayed stream ended, in its record and to its target's health; return what the client must still be told.

    Called while the stream is being left for whatever reason, a client that went away included.
    """
    record, observer, broken = live.record, relay.reading.observer, relay.reading.broken
    failure = broken or _cause(relay)
    if failure is None and (relay.unheard or not (relay.ended or observer.complete)):
        return None  # the client has left first, before the end or with much of it not taken: `client_left` says so
    if failure is None and trial.failure is not None:
        record.outcome, record.error = "upstream_error", trial.failure.code
        # the upstream's own error answer has been passed on, word for word; if it broke off, so must what the client has of it
        return None if relay.why is None else StreamTruncated("an error answer ended before its end", code=relay.why)
    if failure is None and not relay.whole:
        failure = StreamTruncated(f"the stream from upstream {record.upstream} ended before its end", code=relay.why or "stream_truncated")
    if failure is None:
        record.outcome = "completed"
        trial.ticket.succeeded(live.plane.clock())
        return None
    record.outcome, record.error = failure.outcome, failure.code
    if outcome := ATTEMPT_OUTCOMES.get(failure.outcome):
        trial.attempt.outcome, trial.attempt.error = outcome, failure.code
        if blames_upstream(failure.status):
            trial.ticket.failed(live.plane.clock(), failure.code)
    return None if observer.failure is not None and broken is None else failure


def _cause(relay: Relay) -> GatewayError | None:
    """Return what ended a stream other than its upstream's last byte. An answer that is complete, or has failed by itself, is not ended
    by the silence after it."""
    observer = relay.reading.observer
    if relay.cut_off:
        return relay.killed
    if observer.failure is not None:
        return ErrorEvent("reported in the stream", code=observer.failure.code)
    return None if observer.complete else relay.killed


def client_left(record: StreamRecord) -> None:
    """The client has gone before its answer was whole: its own choice, and a loss for nobody."""
    if record.outcome == "gateway_error":
        record.outcome = "client_disconnect"


def note(live: Live, trial: Trial, relay: Relay) -> None:
    """Copy what the observer has seen into the record; a silence that lasted until the end was a stall like any other."""
    record, observer = live.record, relay.reading.observer
    relay.tell_first_token()
    trial.attempt.ended_at = ended_at = relay.ended_at or live.plane.clock()
    relay.reading.meter.close(ended_at)
    record.status = trial.attempt.status
    record.first_event_at, record.first_token_at = observer.first_event_at, observer.first_token_at
    record.first_answer_at, record.last_token_at = observer.first_answer_at, observer.last_token_at
    record.response_id, record.served_model, record.usage = observer.response_id, observer.model, observer.usage
    record.finish = list(observer.finish)
    record.missing_done = record.streamed and bool(observer.finish) and not observer.terminated and trial.errand.dialect.marks_end
    record.bytes = relay.bytes
    record.cadence = relay.reading.meter.report()
    for reason, count in observer.errors.items():
        record.parser_errors[reason] = record.parser_errors.get(reason, 0) + count
