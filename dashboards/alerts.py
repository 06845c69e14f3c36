"""The alerts: each with what must be true, for how long, how much it matters, and words that name route, upstream and model."""

from collections.abc import Iterator

from msgspec import Struct

from dashboards.records import BROKEN

ENOUGH = 50
"""Streams in ten minutes below which a share says nothing: at night three slow requests are not an incident."""
UPSTREAM_PAGE = "/d/weir-upstream?var-route={{ $labels.route }}&var-upstream={{ $labels.upstream }}&var-model={{ $labels.model }}"
ROUTE_PAGE = "/d/weir-route?var-route={{ $labels.route }}"
OVERVIEW = "/d/weir-overview"
OF_TARGET = "job, route, upstream, model"


class Alert(Struct, frozen=True, kw_only=True):
    """One alert. `wait` is how long it must hold; `page` the dashboard's path; `trace` says how to come from it to single streams."""

    name: str
    expr: str
    severity: str
    wait: str
    summary: str
    description: str
    page: str
    trace: str = ""


def _enough(volume: str = "weir:streams:increase_10m", on: str = OF_TARGET) -> str:
    counted = volume if on == OF_TARGET else f"sum by ({on}) ({volume})"
    return f"and on ({on}) {counted} >= {ENOUGH}"


def _both(ratio: str, over: str) -> str:
    return f"{ratio}_10m {over}\nand {ratio}_2m {over}"


_TARGET = "{{ $labels.upstream }} for {{ $labels.model }} on route {{ $labels.route }}"
_SHARE = "{{ $value | humanizePercentage }}"


def _streams(query: str) -> str:
    return f"Exemplars in the dashboard lead to traces; single streams: GET /api/streams?route={{{{ $labels.route }}}}&{query}"


def first_and_foremost() -> Iterator[Alert]:
    """What users feel: the first token late, the stream stuck, the stream broken."""
    yield Alert(
        name="WeirFirstTokenSlow",
        expr="weir:ttft_seconds:p95_10m > on (job, route) group_left () weir:objective:ttft_seconds\n"
        "and weir:ttft_seconds:p95_2m > on (job, route) group_left () weir:objective:ttft_seconds\n"
        f"{_enough('weir:ttft:increase_10m')}",
        severity="critical",
        wait="5m",
        summary=f"First tokens of {_TARGET} are slow",
        description=f"One stream in twenty of {_TARGET} waits {{{{ $value | humanizeDuration }}}} or longer for its first token,"
        " which is more than the route's objective.",
        page=UPSTREAM_PAGE,
        trace=_streams("slow=true"),
    )
    yield Alert(
        name="WeirStreamsStall",
        expr=_both("weir:stalled:ratio", "> 0.05") + f"\n{_enough()}\n"
        "and on (job, route, upstream)\n"
        '  sum by (job, route, upstream) (rate(weir_stalls_total{blame!="client"}[10m]))\n'
        "  > 0.5 * sum by (job, route, upstream) (rate(weir_stalls_total[10m]))",
        severity="critical",
        wait="2m",
        summary=f"Streams of {_TARGET} stall",
        description=f"{_SHARE} of the streams of {_TARGET} fell silent for longer than the route's threshold, and not because clients"
        " were slow to read.",
        page=UPSTREAM_PAGE,
        trace=_streams("stalled=true"),
    )
    yield Alert(
        name="WeirStreamsBreak",
        expr=_both("weir:broken:ratio", "> 0.1") + f"\n{_enough()}",
        severity="critical",
        wait="2m",
        summary=f"Streams of {_TARGET} break",
        description=f"{_SHARE} of the streams of {_TARGET} ended as {BROKEN.replace('|', ', ')}.",
        page=UPSTREAM_PAGE,
        trace=_streams(f"outcome={BROKEN.replace('|', ',')}"),
    )
    yield Alert(
        name="WeirStreamsCut",
        expr=_both("weir:truncated:ratio", "> 0.02") + f"\n{_enough()}",
        severity="warning",
        wait="2m",
        summary=f"Answers of {_TARGET} are cut short",
        description=f"{_SHARE} of the answers of {_TARGET} ended without an end: no end marker and no finish reason.",
        page=UPSTREAM_PAGE,
        trace=_streams("outcome=upstream_truncated"),
    )
    yield Alert(
        name="WeirClientsLeave",
        expr=_both("weir:left:ratio", "> 0.3") + f"\n{_enough()}",
        severity="info",
        wait="15m",
        summary=f"Clients of {_TARGET} leave before the end",
        description=f"{_SHARE} of the streams of {_TARGET} were left by their clients: often the first sign that answers are too slow.",
        page=UPSTREAM_PAGE,
        trace=_streams("outcome=client_disconnect"),
    )


def routing() -> Iterator[Alert]:
    """What the gateway does about it."""
    yield Alert(
        name="WeirFallbackSurge",
        expr=_both("weir:fallbacks:ratio", "> 0.2") + f"\n{_enough(on='job, route')}",
        severity="warning",
        wait="2m",
        summary="Route {{ $labels.route }} leaves {{ $labels.from }} for other targets",
        description=f"{_SHARE} of the calls of route {{{{ $labels.route }}}} gave {{{{ $labels.from }}}} up before its first byte."
        " Users still have answers, later and from the next target.",
        page="/d/weir-route?var-route={{ $labels.route }}&var-upstream={{ $labels.from }}",
        trace=_streams("slow=true"),
    )
    yield Alert(
        name="WeirBreakerOpen",
        expr="min by (job, upstream) (min_over_time(weir_breaker_state[5m])) >= 1\n"
        "and on (job, upstream) sum by (job, upstream) (increase(weir_attempts_total[15m])) > 0",
        severity="warning",
        wait="5m",
        summary="{{ $labels.upstream }} has been left alone for ten minutes",
        description="The breaker of {{ $labels.upstream }} has not closed once: its probes fail. Routes that have another target use that.",
        page="/d/weir-upstream?var-upstream={{ $labels.upstream }}",
        trace="Single streams: GET /api/streams?upstream={{ $labels.upstream }}; what the workers think of it: GET /api/routes",
    )
    yield Alert(
        name="WeirRetryAfterFirstChunk",
        expr="sum by (job, route) (increase(weir_retry_after_first_chunk_total[10m])) > 0\n"
        'unless on (job, route) weir_attempts_total{why="resume"}',
        severity="critical",
        wait="0m",
        summary="Route {{ $labels.route }} tried again after the client had its first bytes",
        description="On a route without mid_stream: resume this must never happen: a client may have got parts of two answers. It is a "
        "bug of the gateway.",
        page=ROUTE_PAGE,
        trace=_streams("since=15m"),
    )


def ourselves() -> Iterator[Alert]:
    """What is wrong with the gateway itself."""
    yield Alert(
        name="WeirAbsent",
        expr="absent(weir_build_info)",
        severity="critical",
        wait="3m",
        summary="No gateway is scraped",
        description="Prometheus has no metrics of Weir: it is down, its recorder is, or the scrape is (address, admin.token).",
        page=OVERVIEW,
    )
    yield Alert(
        name="WeirNoWorker",
        expr="weir_build_info unless on (job, instance) weir_loop_lag_seconds",
        severity="critical",
        wait="2m",
        summary="{{ $labels.instance }} has no worker",
        description="The recorder of {{ $labels.instance }} answers, but hears of no worker: nobody serves calls.",
        page=OVERVIEW,
    )
    yield Alert(
        name="WeirGatewayErrors",
        expr='sum by (job, route) (increase(weir_streams_total{outcome="gateway_error"}[10m])) >= 5',
        severity="critical",
        wait="0m",
        summary="Streams of route {{ $labels.route }} ended by a fault of the gateway",
        description="{{ $value | humanize }} streams in ten minutes ended as gateway_error: a bug, or a worker died under them.",
        page=ROUTE_PAGE,
        trace=_streams("outcome=gateway_error"),
    )
    yield Alert(
        name="WeirLoopLag",
        expr="min_over_time(weir_loop_lag_seconds[2m]) > 0.05",
        severity="warning",
        wait="5m",
        summary="Worker {{ $labels.worker }} of {{ $labels.instance }} is overloaded",
        description="Its event loop is {{ $value | humanizeDuration }} late at every heartbeat: tokens of all its streams wait for us.",
        page=OVERVIEW,
    )
    yield Alert(
        name="WeirOldestGap",
        expr="min_over_time(weir_oldest_gap_seconds[5m]) > 60",
        severity="warning",
        wait="5m",
        summary="Worker {{ $labels.worker }} of {{ $labels.instance }} always has a stream that says nothing",
        description="For ten minutes there has been a stream silent for over a minute; now {{ $value | humanizeDuration }}.",
        page=OVERVIEW,
        trace="Live streams come first in GET /api/streams",
    )
    yield Alert(
        name="WeirTelemetryLost",
        expr="sum by (job, instance, kind) (increase(weir_telemetry_dropped_total[10m])) >= 1",
        severity="warning",
        wait="5m",
        summary="{{ $labels.instance }} loses telemetry ({{ $labels.kind }})",
        description="{{ $value | humanize }} items of kind {{ $labels.kind }} were lost in ten minutes. Streams are not touched.",
        page=OVERVIEW,
    )
    yield Alert(
        name="WeirReloadFailed",
        expr="sum by (job, instance) (increase(weir_reload_failed_total[15m])) > 0",
        severity="warning",
        wait="0m",
        summary="{{ $labels.instance }} refused a new configuration",
        description="It keeps running with the one before. GET /healthz says why (last_reload_error).",
        page=OVERVIEW,
    )
    yield Alert(
        name="WeirConfigsDiffer",
        expr="count by (job) (count by (job, hash) (weir_config_info)) > 1",
        severity="info",
        wait="30m",
        summary="Gateways of {{ $labels.job }} run different configurations",
        description="{{ $value }} configurations have been running beside each other for half an hour: a rollout is stuck.",
        page=OVERVIEW,
    )


WORST = (
    '{{ with query (printf "topk(1, weir:ttft_seconds:p95_10m{route=%q})" $labels.route) }}{{ with first . }}'
    " Slowest now: {{ .Labels.upstream }} for {{ .Labels.model }}.{{ end }}{{ end }}"
)
"""A route's objective is one for all its targets; the words name the one to look at."""

BURNS = (
    # name, long, short, factor, streams that the long window needs, severity, budget of 30 days that is gone when it fires
    ("WeirBudgetBurnsFast", "1h", "5m", 14.4, 100, "critical", "2 % in an hour"),
    ("WeirBudgetBurns", "6h", "30m", 6, 200, "critical", "5 % in six hours"),
    ("WeirBudgetBurnsSlowly", "3d", "6h", 1, 500, "warning", "10 % in three days"),
)


def burning() -> Iterator[Alert]:
    """The share of late first tokens against the share the route allows, over a long and a short window each."""
    for name, long, short, factor, enough, severity, gone in BURNS:
        multiple, times = ("", "") if factor == 1 else (f"{factor:g} * ", f"{factor:g} times ")
        allowed = f"on (job, route) {multiple}(1 - weir:objective:ratio)"
        yield Alert(
            name=name,
            expr=f"weir:ttft_slow:ratio_{long} > {allowed}\nand weir:ttft_slow:ratio_{short} > {allowed}\n"
            f"and on (job, route) sum by (job, route) (increase(weir_ttft_seconds_count[{long}])) >= {enough}",
            severity=severity,
            wait="2m",
            summary="Route {{ $labels.route }} uses up its objective for the first token",
            description=f"{_SHARE} of the streams of the last {long} had their first token later than promised: more than"
            f" {times}what the objective of route {{{{ $labels.route }}}} allows, {gone} of what it allows in 30 days." + WORST,
            page=ROUTE_PAGE,
            trace=_streams("slow=true"),
        )
