"""The overview: is it us or them, then what users feel, what routing does about it, what it costs, and the gateway itself."""

from dashboards.panels import GREEN, RED, YELLOW, Board, Panel, Query, Row
from dashboards.records import BROKEN

HERE = 'job=~"$job", route=~"$route"'
CLIENTS = "client_disconnect|client_stalled"
EACH = "[$__rate_interval]"
TO_ROUTE = "/d/weir-route?var-route=${__field.labels.route}&${__url_time_range}"
TO_UPSTREAM = "/d/weir-upstream?var-upstream=${__field.labels.upstream}&${__url_time_range}"
ACCEPTED = f'sum(rate(weir_streams_total{{{HERE}, outcome!="rejected"}}{EACH}))'


def _share(outcomes: str) -> str:
    return f'sum(rate(weir_streams_total{{{HERE}, outcome=~"{outcomes}"}}{EACH})) / {ACCEPTED}'


def _ends(title: str, about: str, outcomes: str, steps: tuple[tuple[float | None, str], ...]) -> Panel:
    return Panel(
        title=title, about=about, queries=(Query(_share(outcomes)),), unit="percentunit", kind="stat", width=4, height=4, steps=steps
    )


def quantiles(histogram: str, matchers: str, label: str = "") -> tuple[Query, ...]:
    """Return p50, p95 and p99 of a histogram, for each value of a label if one is named."""
    by = f"le, {label}" if label else "le"
    legend = f" {{{{{label}}}}}" if label else ""
    return tuple(
        Query(f"histogram_quantile({q / 100:g}, sum by ({by}) (rate({histogram}_bucket{{{matchers}}}{EACH})))", f"p{q}{legend}")
        for q in (50, 95, 99)
    )


OBJECTIVE = Query(
    'max by (route) (weir:objective:ttft_seconds{job=~"$job", route=~"$route"})',
    "objective {{route}}",
)

US_OR_THEM = Row(
    "Is it us or them?",
    (
        Panel(
            title="Streams accepted",
            about="Calls a second that were carried, whatever their end. None: look at the load balancer and at Workers below.",
            queries=(Query(ACCEPTED),),
            unit="reqps",
            kind="stat",
            width=4,
            height=4,
        ),
        _ends(
            "Ended by us",
            "Share that ended as gateway_error. Anything but 0 is our fault: a bug, or a worker that died. GET "
            "/api/streams?outcome=gateway_error.",
            "gateway_error",
            ((None, GREEN), (0.001, RED)),
        ),
        _ends(
            "Broken by upstreams",
            "Share that ended as upstream_error, upstream_truncated, upstream_stalled or first_token_timeout: theirs. "
            "See Outcomes and the upstream dashboard for which.",
            BROKEN,
            ((None, GREEN), (0.02, YELLOW), (0.1, RED)),
        ),
        _ends(
            "Left by clients",
            "Share whose client left or stopped reading. Compare with its usual height: it rises when answers get slow.",
            CLIENTS,
            ((None, GREEN), (0.2, YELLOW), (0.4, RED)),
        ),
        Panel(
            title="Worst loop lag",
            about="How late an event loop was at its last heartbeat. Above 20 ms stalls are laid on us: too few workers, or a noisy "
            "neighbour.",
            queries=(Query('max(weir_loop_lag_seconds{job=~"$job"})'),),
            unit="s",
            kind="stat",
            width=4,
            height=4,
            steps=((None, GREEN), (0.02, YELLOW), (0.05, RED)),
        ),
        Panel(
            title="Breakers not closed",
            about="Upstreams that are being left alone, or are only probed. Which: the state of breakers on the upstream dashboard.",
            queries=(Query('sum(max by (upstream) (weir_breaker_state{job=~"$job"}) >= bool 1)'),),
            unit="short",
            kind="stat",
            width=4,
            height=4,
            steps=((None, GREEN), (1, RED)),
        ),
        Panel(
            title="Silence by blame",
            about="Seconds of stalls that streams went through, a second, by who held them: upstream (nothing came), client (it took "
            "nothing), "
            "gateway (our loop was late). If gateway leads it is us.",
            queries=(Query(f"sum by (blame) (rate(weir_stall_seconds_total{{{HERE}}}{EACH}))", "{{blame}}"),),
            unit="s",
            width=8,
            stacked=True,
        ),
        Panel(
            title="Outcomes",
            about="How streams end, a second; the sum is what was accepted. Each word is explained in the README. A new colour that grows "
            "is "
            "the incident.",
            queries=(Query(f"sum by (outcome) (rate(weir_streams_total{{{HERE}}}{EACH}))", "{{outcome}}"),),
            unit="reqps",
            width=8,
            stacked=True,
        ),
        Panel(
            title="Time of ours in a stream",
            about="Time of a stream that the gateway itself owned. It grows with the loop's lag and with large bodies; p99 above 50 ms: "
            "add workers.",
            queries=quantiles("weir_overhead_seconds", HERE),
            unit="s",
            width=8,
        ),
    ),
)

FEEL = Row(
    "What users feel",
    (
        Panel(
            title="Time to first token",
            about="From request received to first token, with fallbacks and queueing in it; the dashed line is the route's objective. "
            "Click an exemplar for a trace of a slow one. Which upstream: the route dashboard.",
            queries=(*quantiles("weir_ttft_seconds", HERE), OBJECTIVE),
            unit="s",
            width=12,
        ),
        Panel(
            title="First tokens later than promised, by route",
            about="Share of streams over the route's objective in the last five minutes. Over what the objective allows, its budget burns: "
            "open the route. Needs the recording rules.",
            queries=(
                Query('max by (route) (weir:ttft_slow:ratio_5m{job=~"$job", route=~"$route"})', "{{route}}"),
                Query('max by (route) (1 - weir:objective:ratio{job=~"$job", route=~"$route"})', "objective {{route}}"),
            ),
            unit="percentunit",
            width=12,
            link=TO_ROUTE,
        ),
        Panel(
            title="Gaps between tokens",
            about="How many gaps of which length there were. A second band far above the first one is a provider that batches or stalls, "
            "or a hop "
            "that buffers (weir.burst on spans).",
            queries=(Query(f"sum by (le) (increase(weir_chunk_gap_seconds_bucket{{{HERE}}}{EACH}))", "{{le}}"),),
            unit="s",
            kind="heatmap",
            width=8,
        ),
        Panel(
            title="Stalls by blame",
            about="Silences longer than the route's threshold, a second, by who held them. Upstream: see its dashboard. Client: slow "
            "readers. "
            "Gateway: loop lag.",
            queries=(Query(f"sum by (blame) (rate(weir_stalls_total{{{HERE}}}{EACH}))", "{{blame}}"),),
            unit="cps",
            width=8,
            stacked=True,
        ),
        Panel(
            title="Streams that stalled, by route",
            about="Share of streamed answers with at least one stall. The alert is at 5 %. Open the route to see whose they are.",
            queries=(
                Query(
                    f'sum by (route) (rate(weir_streams_total{{{HERE}, stalled="true"}}{EACH})) / '
                    f'sum by (route) (rate(weir_streams_total{{{HERE}, streamed="true"}}{EACH}))',
                    "{{route}}",
                ),
            ),
            unit="percentunit",
            width=8,
            steps=((None, GREEN), (0.05, RED)),
            link=TO_ROUTE,
        ),
    ),
)

ROUTING = Row(
    "What routing does about it",
    (
        Panel(
            title="Fallbacks",
            about="Targets left before their first byte, a second: from, to and why. Users have answers all the same, later. "
            "slow_first_token: "
            "the target is slow or the deadline too tight; status_429: its quota.",
            queries=(Query(f"sum by (from, to, reason) (rate(weir_fallbacks_total{{{HERE}}}{EACH}))", "{{from}} to {{to}}: {{reason}}"),),
            unit="cps",
        ),
        Panel(
            title="Tries by reason",
            about="Tries at targets a second: first, fallback, hedge, retry, resume. Extra ones are paid for: hedges stay within "
            "hedge_limit, "
            "retries within "
            "the budget.",
            queries=(Query(f"sum by (why) (rate(weir_attempts_total{{{HERE}}}{EACH}))", "{{why}}"),),
            unit="cps",
            stacked=True,
        ),
        Panel(
            title="Retries after the first chunk",
            about="Tries begun after the client had its first bytes, and those of them that routes with mid_stream: resume want. Without "
            "such routes it must be 0: else a client may have parts of two answers, which is a bug to report.",
            queries=(
                Query('sum(increase(weir_retry_after_first_chunk_total{job=~"$job", route=~"$route"}[$__range]))', "all"),
                Query(f'sum(increase(weir_attempts_total{{{HERE}, why="resume"}}[$__range]))', "resumed"),
            ),
            unit="short",
            kind="stat",
            width=4,
            steps=((None, GREEN), (1, RED)),
        ),
        Panel(
            title="Clients that try again",
            about="Calls that an SDK says it makes again, and clients that came back for a stream whose connection broke, a second. "
            "Repeats "
            "rise with broken streams and add to the load; returns rise with bad networks.",
            queries=(
                Query(f"sum by (route) (rate(weir_client_retries_total{{{HERE}}}{EACH}))", "again: {{route}}"),
                Query(f"sum by (route) (rate(weir_reconnects_total{{{HERE}}}{EACH}))", "back: {{route}}"),
            ),
            unit="cps",
            width=4,
        ),
    ),
)

VOLUME = Row(
    "Volume and money",
    (
        Panel(
            title="Active streams",
            about="Streams begun and not yet ended, by upstream. Growing while Streams accepted does not: answers take longer. Flat at "
            "max_streams: calls queue.",
            queries=(Query(f"sum by (upstream) (weir_streams_active{{{HERE}}})", "{{upstream}}"),),
            unit="short",
            stacked=True,
            width=6,
            link=TO_UPSTREAM,
        ),
        Panel(
            title="Streams by route",
            about="Ended streams a second. A route at 0 that is usually used: look at its clients and at `unmatched` (a model nobody "
            "serves).",
            queries=(Query(f"sum by (route) (rate(weir_streams_total{{{HERE}}}{EACH}))", "{{route}}"),),
            unit="reqps",
            stacked=True,
            width=6,
            link=TO_ROUTE,
        ),
        Panel(
            title="Tokens",
            about="Tokens a second as providers counted them, input and output. Streams without usage are not in it (next to last row).",
            queries=(Query(f"sum by (gen_ai_token_type) (rate(gen_ai_client_token_usage_sum{{{HERE}}}{EACH}))", "{{gen_ai_token_type}}"),),
            unit="short",
            width=6,
        ),
        Panel(
            title="Cost by route",
            about="US dollars an hour by public list prices, of streams whose usage and price are known. A jump without one in streams: "
            "longer "
            "prompts or another model.",
            queries=(Query(f"sum by (route) (rate(weir_cost_usd_total{{{HERE}}}{EACH})) * 3600", "{{route}}"),),
            unit="currencyUSD",
            stacked=True,
            width=6,
            link=TO_ROUTE,
        ),
    ),
)

ITSELF = Row(
    "Weir itself",
    (
        Panel(
            title="Loop lag by worker",
            about="How late each worker's event loop was at its last heartbeat. One worker only: something blocks it. All: too few "
            "workers.",
            queries=(Query('max by (instance, worker) (weir_loop_lag_seconds{job=~"$job"})', "{{instance}} {{worker}}"),),
            unit="s",
            width=6,
            steps=((None, GREEN), (0.05, RED)),
        ),
        Panel(
            title="Oldest gap",
            about="The longest silence that a live stream is in now. Above stall.progress (120 s) nothing should ever be: that would be a "
            "bug. "
            "Which stream: GET /api/streams, live ones first.",
            queries=(Query('max by (instance, worker) (weir_oldest_gap_seconds{job=~"$job"})', "{{instance}} {{worker}}"),),
            unit="s",
            width=6,
        ),
        Panel(
            title="Telemetry lost",
            about="Messages, spans, rows and lines lost a second, by kind (docs/telemetry.md). Streams do not notice. span: the collector "
            "is slow; "
            "row: the disk; ended: the recorder.",
            queries=(Query(f'sum by (kind) (rate(weir_telemetry_dropped_total{{job=~"$job"}}{EACH}))', "{{kind}}"),),
            unit="cps",
            width=6,
        ),
        Panel(
            title="Streams without usage, frames not understood",
            about="Streams whose provider never said how many tokens they held (their cost is not counted), and frames the observer could "
            "not read. "
            "Both are relayed all the same.",
            queries=(
                Query(f"sum by (route) (rate(weir_streams_without_usage_total{{{HERE}}}{EACH}))", "no usage: {{route}}"),
                Query(f'sum by (dialect, reason) (rate(weir_parser_errors_total{{job=~"$job"}}{EACH}))', "unread: {{dialect}} {{reason}}"),
            ),
            unit="cps",
            width=6,
        ),
        Panel(
            title="Configuration",
            about="Hash of the running configuration and how many gateways run it. Two hashes for long: a rollout is stuck.",
            queries=(Query('count by (hash) (weir_config_info{job=~"$job"})', "{{hash}}"),),
            unit="short",
            width=6,
            height=6,
        ),
        Panel(
            title="Version",
            about="Gateways by version. Two for long: a rollout is stuck.",
            queries=(Query('count by (version) (weir_build_info{job=~"$job"})', "{{version}}"),),
            unit="short",
            width=6,
            height=6,
        ),
        Panel(
            title="Workers",
            about="Workers heard of, by gateway. Fewer than server.workers: one is being restarted; none: nobody serves calls.",
            queries=(Query('count by (instance) (weir_loop_lag_seconds{job=~"$job"})', "{{instance}}"),),
            unit="short",
            width=6,
            height=6,
        ),
        Panel(
            title="Changes to streams, refused configurations",
            about="Deliberate changes to a stream's bytes a second, by kind, and configurations refused. GET /healthz says why one was.",
            queries=(
                Query(f'sum by (kind) (rate(weir_stream_mutations_total{{job=~"$job"}}{EACH}))', "{{kind}}"),
                Query(f'sum(rate(weir_reload_failed_total{{job=~"$job"}}{EACH}))', "configuration refused"),
            ),
            unit="cps",
            width=6,
            height=6,
        ),
    ),
)

OVERVIEW = Board(
    uid="weir-overview",
    title="Weir / Overview",
    about="Is it us or them, what users feel, what routing does about it. Begin here.",
    variables={"job": "label_values(weir_build_info, job)", "route": 'label_values(weir_streams_active{job=~"$job"}, route)'},
    rows=(US_OR_THEM, FEEL, ROUTING, VOLUME, ITSELF),
)
