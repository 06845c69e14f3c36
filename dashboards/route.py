"""One route: what its users feel, which of its targets is the cause, how its streams end, and what they cost."""

from dashboards.overview import OBJECTIVE, TO_UPSTREAM, quantiles
from dashboards.panels import GREEN, RED, Board, Panel, Query, Row
from dashboards.voice import VOICE

OF_ROUTE = 'job=~"$job", route=~"$route", upstream=~"$upstream"'
HERE = f'{OF_ROUTE}, model=~"$model"'
EACH = "[$__rate_interval]"


def _p95(histogram: str, by: str) -> str:
    return f"histogram_quantile(0.95, sum by (le, {by}) (rate({histogram}_bucket{{{HERE}}}{EACH})))"


PROMISE = Row(
    "What is promised, and what users feel",
    (
        Panel(
            title="Time to first token",
            about="From request received to first token. The dashed line is the objective (slo.ttft). Exemplars lead to traces; "
            "slow ones: GET /api/streams?slow=true.",
            queries=(*quantiles("weir_ttft_seconds", HERE), OBJECTIVE),
            unit="s",
            width=12,
        ),
        Panel(
            title="Later than promised, over every window",
            about="Share of first tokens over the objective. Alerts fire at 14.4 times what it allows over an hour, 6 times over six, "
            "once over three "
            "days. Needs the recording rules.",
            queries=(
                *(
                    Query(f'max by (route) (weir:ttft_slow:ratio_{window}{{job=~"$job", route=~"$route"}})', f"{window} {{{{route}}}}")
                    for window in ("5m", "1h", "6h", "3d")
                ),
                Query('max by (route) (1 - weir:objective:ratio{job=~"$job", route=~"$route"})', "objective {{route}}"),
            ),
            unit="percentunit",
            width=12,
        ),
        Panel(
            title="p95 to first token, by target",
            about="Which upstream and model is slow. One of several: routing should leave it (Fallbacks). All: our side, or the network.",
            queries=(Query(_p95("weir_ttft_seconds", "upstream, model"), "{{upstream}} {{model}}"), OBJECTIVE),
            unit="s",
            link=TO_UPSTREAM,
        ),
        Panel(
            title="Whole call, by outcome",
            about="p95 from request received to the end. Failures that take as long as answers cost users the most.",
            queries=(
                Query(
                    "label_replace(histogram_quantile(0.95, sum by (le, error_type) (rate(gen_ai_client_operation_duration_seconds_bucket"
                    f'{{{OF_ROUTE}, gen_ai_request_model=~"$model"}}{EACH}))), "error_type", "completed", "error_type", "")',
                    "{{error_type}}",
                ),
            ),
            unit="s",
        ),
        Panel(
            title="Time of ours",
            about="Time of a stream of this route that the gateway owned. Grows with loop lag and with large requests.",
            queries=quantiles("weir_overhead_seconds", 'job=~"$job", route=~"$route"'),
            unit="s",
        ),
    ),
)

CADENCE = Row(
    "How steadily answers come",
    (
        Panel(
            title="Gaps between tokens",
            about="How many gaps of which length. A band above stall.threshold are the stalls; a second band below it is a provider that "
            "sends in lumps.",
            queries=(Query(f"sum by (le) (increase(weir_chunk_gap_seconds_bucket{{{HERE}}}{EACH}))", "{{le}}"),),
            unit="s",
            kind="heatmap",
        ),
        Panel(
            title="p95 gap, by target",
            about="One gap in twenty is longer. Compare targets: the one that stands out is the one to weigh down.",
            queries=(Query(_p95("weir_chunk_gap_seconds", "upstream, model"), "{{upstream}} {{model}}"),),
            unit="s",
            link=TO_UPSTREAM,
        ),
        Panel(
            title="Stalls by blame and phase",
            about="Silences over the threshold, a second: who held them, and before the first token or while streaming.",
            queries=(Query(f"sum by (blame, phase) (rate(weir_stalls_total{{{OF_ROUTE}}}{EACH}))", "{{blame}}, {{phase}}"),),
            unit="cps",
            stacked=True,
        ),
        Panel(
            title="Streams that stalled, by target",
            about="Share of streamed answers with a stall. The alert is at 5 %.",
            queries=(
                Query(
                    f'sum by (upstream, model) (rate(weir_streams_total{{{HERE}, stalled="true"}}{EACH})) / '
                    f'sum by (upstream, model) (rate(weir_streams_total{{{HERE}, streamed="true"}}{EACH}))',
                    "{{upstream}} {{model}}",
                ),
            ),
            unit="percentunit",
            width=12,
            steps=((None, GREEN), (0.05, RED)),
            link=TO_UPSTREAM,
        ),
        Panel(
            title="Silence by blame",
            about="Seconds of stalls a second, by who held them.",
            queries=(Query(f"sum by (blame) (rate(weir_stall_seconds_total{{{OF_ROUTE}}}{EACH}))", "{{blame}}"),),
            unit="s",
            width=12,
            stacked=True,
        ),
    ),
)

ENDS = Row(
    "How streams end, and what routing does",
    (
        Panel(
            title="Outcomes",
            about="Ended streams a second by how they ended.",
            queries=(Query(f"sum by (outcome) (rate(weir_streams_total{{{HERE}}}{EACH}))", "{{outcome}}"),),
            unit="reqps",
            stacked=True,
        ),
        Panel(
            title="Ended early, by outcome",
            about="Share of accepted streams that did not complete, by outcome. client_disconnect alone: users leave. Others: see the "
            "target.",
            queries=(
                Query(
                    f'sum by (outcome) (rate(weir_streams_total{{{HERE}, outcome!~"completed|rejected"}}{EACH})) / '
                    f'ignoring (outcome) group_left () sum(rate(weir_streams_total{{{HERE}, outcome!="rejected"}}{EACH}))',
                    "{{outcome}}",
                ),
            ),
            unit="percentunit",
            stacked=True,
        ),
        Panel(
            title="Tries by target and how they went",
            about="Tries a second. slow: left at its deadline; status: refused; hedge_lost: the other was quicker; cancelled: the client "
            "left.",
            queries=(Query(f"sum by (upstream, outcome) (rate(weir_attempts_total{{{OF_ROUTE}}}{EACH}))", "{{upstream}}: {{outcome}}"),),
            unit="cps",
            stacked=True,
        ),
        Panel(
            title="Fallbacks",
            about="Targets left before their first byte: from, to, why.",
            queries=(
                Query(
                    f'sum by (from, to, reason) (rate(weir_fallbacks_total{{job=~"$job", route=~"$route"}}{EACH}))',
                    "{{from}} to {{to}}: {{reason}}",
                ),
            ),
            unit="cps",
        ),
        Panel(
            title="Hedges",
            about="Races a second by how the second runner did. Mostly hedge_lost: the deadline is too tight and the money wasted.",
            queries=(Query(f'sum by (outcome) (rate(weir_attempts_total{{{OF_ROUTE}, why="hedge"}}{EACH}))', "{{outcome}}"),),
            unit="cps",
        ),
        Panel(
            title="Retries after the first chunk",
            about="Must be 0 unless the route says mid_stream: resume. Otherwise a client may have parts of two answers: a bug to report.",
            queries=(
                Query('sum by (route) (increase(weir_retry_after_first_chunk_total{job=~"$job", route=~"$route"}[$__range]))', "{{route}}"),
                Query(f'sum by (route) (increase(weir_attempts_total{{{OF_ROUTE}, why="resume"}}[$__range]))', "{{route}}: resumed"),
            ),
            unit="short",
            kind="stat",
            steps=((None, GREEN), (1, RED)),
        ),
    ),
)

MONEY = Row(
    "Volume and money",
    (
        Panel(
            title="Active streams",
            about="Begun and not yet ended, by upstream.",
            queries=(Query(f"sum by (upstream) (weir_streams_active{{{OF_ROUTE}}})", "{{upstream}}"),),
            unit="short",
            stacked=True,
            link=TO_UPSTREAM,
        ),
        Panel(
            title="Tokens by model",
            about="Tokens a second as providers counted them.",
            queries=(
                Query(
                    "sum by (gen_ai_request_model, gen_ai_token_type) (rate(gen_ai_client_token_usage_sum"
                    f'{{{OF_ROUTE}, gen_ai_request_model=~"$model"}}{EACH}))',
                    "{{gen_ai_request_model}} {{gen_ai_token_type}}",
                ),
            ),
            unit="short",
        ),
        Panel(
            title="Cost",
            about="US dollars an hour by public list prices, of streams whose usage and price are known.",
            queries=(Query(f'sum by (route) (rate(weir_cost_usd_total{{job=~"$job", route=~"$route"}}{EACH})) * 3600', "{{route}}"),),
            unit="currencyUSD",
        ),
        Panel(
            title="Cost of a trace",
            about="US dollars a trace: all streams of one trace on this route together, as the steps of an agent are. Rising with the "
            "same price per stream: more steps. GET /api/traces/{trace_id} has one.",
            queries=(
                Query(
                    f'sum by (route) (rate(weir_cost_usd_total{{job=~"$job", route=~"$route"}}{EACH})) / '
                    f'(sum by (route) (rate(weir_traces_total{{job=~"$job", route=~"$route"}}{EACH})) > 0)',
                    "{{route}}",
                ),
            ),
            unit="currencyUSD",
        ),
        Panel(
            title="Streams of a trace",
            about="How many streams a trace has on this route. 1: calls are not traced by the client, or agents take one step.",
            queries=(
                Query(
                    f'sum by (route) (rate(weir_streams_total{{job=~"$job", route=~"$route", outcome!="rejected"}}{EACH})) / '
                    f'(sum by (route) (rate(weir_traces_total{{job=~"$job", route=~"$route"}}{EACH})) > 0)',
                    "{{route}}",
                ),
            ),
            unit="short",
        ),
    ),
)

ROUTE = Board(
    uid="weir-route",
    title="Weir / Route",
    about="One route: what was promised, which target is the cause, how streams end, what they cost.",
    variables={
        "job": "label_values(weir_build_info, job)",
        "route": 'label_values(weir_streams_active{job=~"$job"}, route)',
        "upstream": 'label_values(weir_streams_total{job=~"$job", route=~"$route"}, upstream)',
        "model": 'label_values(weir_streams_total{job=~"$job", route=~"$route"}, model)',
    },
    rows=(PROMISE, CADENCE, ENDS, MONEY, VOICE),
)
