"""What one ended stream adds to the metrics: one small function per question."""

from collections.abc import Iterator, Mapping
from itertools import product

from gateway.core.owners import Blame
from gateway.core.record import Attempt, Outcome, StreamRecord, Waits
from gateway.telemetry.account import Account
from gateway.telemetry.labels import Labels
from gateway.telemetry.metrics import Exemplar, Metrics
from gateway.telemetry.opinions import Judged

BLAMES: tuple[Blame, ...] = ("upstream", "client", "gateway")
AWAITED: tuple[Outcome, ...] = (
    "completed",
    "client_disconnect",
    "upstream_error",
    "upstream_truncated",
    "upstream_stalled",
    "first_token_timeout",
    "gateway_error",
)
"""Outcomes of streams that alerts ask the rate of."""
MOST_AWAITED = 200
"""Targets of routes whose series exist before their first stream: 14 each, of the 10,000 that a metric may have."""
_REASONS = {
    "slow": "slow_first_token",
    "connect_error": "connect",
    "error_event": "error_event",
    "truncated": "truncated",
    "stalled": "stalled",
}
REMEMBERED = 50_000
"""Traces that are known by now; one that goes on after so many others is counted again."""
PHASES = frozenset({"queue", "connect", "first_token", "streaming", "draining"})


class Tally:
    """Adds accounts to metrics under bounded labels."""

    def __init__(self, metrics: Metrics, labels: Labels) -> None:
        self._metrics = metrics
        self._labels = labels
        self._traces: dict[tuple[str, str], None] = {}
        metrics.count("weir_reload_failed_total", (), 0)
        self.configure()

    def configure(self) -> None:
        """Let the series of every configured route, upstream and target exist, so that their first increase can be seen.

        `rate` and `increase` see nothing of a series that begins at 40: those would be the first forty streams that failed.
        """
        for route in sorted(self._labels.routes):
            self._metrics.count("weir_retry_after_first_chunk_total", (route,), 0)
        awaited = product(self._labels.targets[:MOST_AWAITED], AWAITED, ("false", "true"))
        self._metrics.expect("weir_streams_total", ((*target, outcome, stalled, "true") for target, outcome, stalled in awaited))
        for upstream in sorted(self._labels.upstreams):
            self._metrics.count("weir_stale_connections_total", (upstream,), 0)

    def add(self, account: Account, announced: Mapping[Blame, int]) -> None:
        """Count a stream that has ended; `announced` are its stalls counted already while it lived."""
        self._outcome(account)
        self._trace(account.record)
        self._latencies(account)
        self._usage(account)
        self._cadence(account)
        self._stalls(account.record, announced)
        self._attempts(account.record)
        self._oddities(account.record)
        self._voice(account)

    def stalled(self, record: StreamRecord, upstream: str, blame: Blame, phase: str) -> None:
        """Count a stall that was just noticed."""
        labels = (self._labels.route(record.route), self._labels.upstream(upstream), blame, phase if phase in PHASES else "other")
        self._metrics.count("weir_stalls_total", labels)

    def rejoined(self, route: str) -> None:
        """Count a client that has come back for its stream."""
        self._metrics.count("weir_reconnects_total", (self._labels.route(route),))

    def judged(self, judged: Judged) -> None:
        """Count a score that is new for its stream."""
        self._metrics.count("weir_feedback_total", (self._labels.route(judged.route), str(judged.score), judged.kind))

    def _outcome(self, account: Account) -> None:
        record = account.record
        labels = (*self._labels.of(record), record.outcome, _flag(record.stalled), _flag(record.streamed))
        self._metrics.count("weir_streams_total", labels)
        if account.cost is not None:
            self._metrics.count("weir_cost_usd_total", (self._labels.route(record.route), self._labels.tenant(record.tenant)), account.cost)

    def _trace(self, record: StreamRecord) -> None:
        key = (self._labels.route(record.route), record.trace_id)
        if record.outcome == "rejected" or key in self._traces:
            return
        if len(self._traces) >= REMEMBERED:
            del self._traces[next(iter(self._traces))]
        self._traces[key] = None
        self._metrics.count("weir_traces_total", key[:1])

    def _call(self, record: StreamRecord) -> tuple[str, ...]:
        route, upstream, model = self._labels.of(record)
        return record.operation, record.served.provider if record.served else "", model, route, upstream

    def _latencies(self, account: Account) -> None:
        record = account.record
        call, target = self._call(record), self._labels.of(record)
        error = "" if record.outcome == "completed" else record.outcome
        rows = (
            ("gen_ai_server_time_to_first_token_seconds", call, account.first_token),
            ("gen_ai_server_time_per_output_token_seconds", call, account.per_token),
            ("gen_ai_client_operation_duration_seconds", (*call, error), account.duration),
            ("gen_ai_client_operation_time_to_first_chunk_seconds", call, account.first_chunk),
            ("weir_ttft_seconds", target, account.ttft),
            ("weir_overhead_seconds", target[:1], record.seconds.get("gateway")),
        )
        for name, labels, value in rows:
            if value is not None:
                self._metrics.observe(name, labels, value, exemplar(account, value))

    def _usage(self, account: Account) -> None:
        record = account.record
        if record.usage is None:
            if record.first_token_at is not None:
                self._metrics.count("weir_streams_without_usage_total", (self._labels.route(record.route), record.outcome))
            return
        for kind, tokens in (("input", record.usage.input), ("output", record.usage.output)):
            if tokens is not None:
                self._metrics.observe("gen_ai_client_token_usage", (*self._call(record), kind), tokens, exemplar(account, tokens))

    def _cadence(self, account: Account) -> None:
        record = account.record
        cadence = record.cadence
        gaps = self._metrics.histogram("weir_chunk_gap_seconds", self._labels.of(record)) if cadence.gaps else None
        if gaps is None:
            return
        for bound, count in cadence.gaps:
            gaps.add(bound, count, 0.0)
        gaps.total += cadence.gap_sum
        if cadence.gap_max is not None and (longest := exemplar(account, cadence.gap_max)):
            gaps.add(cadence.gap_max, 0, 0.0, longest)

    def _stalls(self, record: StreamRecord, announced: Mapping[Blame, int]) -> None:
        route, upstream, _ = self._labels.of(record)
        for blame, seconds in record.cadence.stall_time.items():
            self._metrics.count("weir_stall_seconds_total", (route, upstream, blame), seconds)
        for blame, count in unannounced(record, announced).items():
            self._metrics.count("weir_stalls_total", (route, upstream, blame, "streaming"), count)

    def _attempts(self, record: StreamRecord) -> None:
        route = self._labels.route(record.route)
        previous: Attempt | None = None
        for attempt in record.attempts:
            upstream = self._labels.upstream(attempt.upstream)
            self._metrics.count("weir_attempts_total", (route, upstream, attempt.why, attempt.outcome))
            if attempt.why == "fallback" and previous is not None:
                labels = (route, self._labels.upstream(previous.upstream), upstream, reason(previous))
                self._metrics.count("weir_fallbacks_total", labels)
            if record.first_write_at is not None and attempt.dialed_at > record.first_write_at:
                self._metrics.count("weir_retry_after_first_chunk_total", (route,))
            if attempt.redialed:
                self._metrics.count("weir_stale_connections_total", (upstream,))
            previous = attempt

    def _oddities(self, record: StreamRecord) -> None:
        if record.client_retry:
            self._metrics.count("weir_client_retries_total", (self._labels.route(record.route),))
        for kind, count in record.mutations.items():
            self._metrics.count("weir_stream_mutations_total", (kind,), count)
        for cause, count in record.parser_errors.items():
            self._metrics.count("weir_parser_errors_total", (record.dialect, cause), count)

    def _voice(self, account: Account) -> None:
        record, voice = account.record, account.record.voice
        if voice is None:
            return
        route, upstream, _ = self._labels.of(record)
        self._waits("weir_realtime_first_token_seconds", account, voice.first_token)
        self._waits("weir_realtime_first_audio_seconds", account, voice.first_audio)
        self._metrics.count("weir_realtime_audio_seconds_total", (route, upstream, "in"), voice.audio_in)
        self._metrics.count("weir_realtime_audio_seconds_total", (route, upstream, "out"), voice.audio_out)
        rows: tuple[tuple[str, float], ...] = (
            ("weir_realtime_responses_total", voice.responses),
            ("weir_realtime_underruns_total", voice.underruns),
            ("weir_realtime_underrun_seconds_total", voice.underrun_time),
            ("weir_realtime_interruptions_total", voice.interruptions),
            ("weir_realtime_errors_total", voice.errors),
        )
        for name, amount in rows:
            self._metrics.count(name, (route, upstream), amount)

    def _waits(self, name: str, account: Account, waits: Waits) -> None:
        histogram = self._metrics.histogram(name, self._labels.of(account.record)) if waits.bins else None
        if histogram is None:
            return
        for bound, count in waits.bins:
            histogram.add(bound, count, 0.0)
        histogram.total += waits.total
        if waits.max is not None and (longest := exemplar(account, waits.max)):
            histogram.add(waits.max, 0, 0.0, longest)


def exemplar(account: Account, value: float) -> Exemplar | None:
    """Return the measurement with its trace, or None when no span of it will be found."""
    record = account.record
    if account.kept is None:
        return None
    at = record.received_at if record.ended_at is None else record.ended_at
    return Exemplar(record.trace_id, record.span_id, value, round(record.unix_ns(at) / 1e9, 3))


def reason(attempt: Attempt) -> str:
    """Say in one bounded word what an attempt did that made the next one necessary."""
    if attempt.outcome == "status":
        status = attempt.status or 0
        return "status_429" if status == 429 else f"status_{status // 100}xx" if 400 <= status < 600 else "status"
    return _REASONS.get(attempt.outcome, "other")


def unannounced(record: StreamRecord, announced: Mapping[Blame, int]) -> dict[Blame, int]:
    """Return the stalls of a record that were not counted while it lived, by owner.

    The record names the owner of at most 16 stalls; what is left over is laid on whoever held most of the stalled time.
    """
    left = record.cadence.stall_count - sum(announced.values())
    counts: dict[Blame, int] = {}
    for blame, known in _kept(record):
        fresh = min(left, known - announced.get(blame, 0))
        if fresh > 0:
            counts[blame] = fresh
            left -= fresh
    if left > 0:
        owner = max(BLAMES, key=lambda blame: record.cadence.stall_time.get(blame, 0.0))
        counts[owner] = counts.get(owner, 0) + left
    return counts


def _kept(record: StreamRecord) -> Iterator[tuple[Blame, int]]:
    for blame in BLAMES:
        yield blame, sum(stall.blame == blame for stall in record.cadence.stalls)


def _flag(value: bool) -> str:
    return "true" if value else "false"
