"""One upstream: whether it is left alone, how soon and how steadily it speaks, how it fails, what the others think of it."""

from dashboards.overview import TO_ROUTE, quantiles
from dashboards.panels import GREEN, RED, YELLOW, Board, Panel, Query, Row
from dashboards.records import BROKEN

OF_UPSTREAM = 'job=~"$job", upstream=~"$upstream", route=~"$route"'
HERE = f'{OF_UPSTREAM}, model=~"$model"'
CALL = f'{OF_UPSTREAM}, gen_ai_request_model=~"$model"'
ONLY = 'job=~"$job", upstream=~"$upstream"'
EACH = "[$__rate_interval]"


def _p95(histogram: str, matchers: str, by: str = "upstream") -> str:
    return f"histogram_quantile(0.95, sum by (le, {by}) (rate({histogram}_bucket{{{matchers}}}{EACH})))"


STANDING = Row(
    "Is it in use?",
    (
        Panel(
            title="Breaker",
            about="Closed: in use. Half open: one probe at a time. Open: left alone after failures. Open for minutes: ask the provider, "
            "and see how its "
            "tries went below.",
            queries=(Query(f"max by (upstream) (weir_breaker_state{{{ONLY}}})", "{{upstream}}"),),
            unit="none",
            kind="state-timeline",
            width=12,
            steps=((None, GREEN), (1, YELLOW), (2, RED)),
            words={0: ("closed", GREEN), 1: ("half open", YELLOW), 2: ("open", RED)},
        ),
        Panel(
            title="Score",
            about="What least latency compares: learned time to first token, times load and failures. The lower one gets the call. A "
            "jump: it slowed "
            "down, filled up or fails. GET /api/routes shows the factors.",
            queries=(
                Query(f'max by (upstream, model) (weir_upstream_score_seconds{{{ONLY}, model=~"$model"}})', "{{upstream}} {{model}}"),
            ),
            unit="s",
            width=12,
        ),
        Panel(
            title="Active streams",
            about="Begun and not yet ended, by route. Flat at max_streams: calls wait in our queue, raise it or add a target.",
            queries=(Query(f"sum by (upstream, route) (weir_streams_active{{{OF_UPSTREAM}}})", "{{upstream}}, {{route}}"),),
            unit="short",
            stacked=True,
            link=TO_ROUTE,
        ),
        Panel(
            title="Tries and how they went",
            about="Tries a second by outcome. connect_error: network or down; status: it refuses (quota, key, overload); slow: left at "
            "its deadline.",
            queries=(Query(f"sum by (outcome) (rate(weir_attempts_total{{{OF_UPSTREAM}}}{EACH}))", "{{outcome}}"),),
            unit="cps",
            stacked=True,
        ),
        Panel(
            title="Left for others, and why",
            about="Fallbacks away from it a second. status_429: its quota; slow_first_token: slow, or first_token.timeout too tight.",
            queries=(
                Query(
                    f'sum by (from, to, reason) (rate(weir_fallbacks_total{{job=~"$job", route=~"$route", from=~"$upstream"}}{EACH}))',
                    "{{from}} to {{to}}: {{reason}}",
                ),
            ),
            unit="cps",
        ),
    ),
)

SPEED = Row(
    "How soon it speaks",
    (
        Panel(
            title="Its own time to first token",
            about="From our request sent to it to its first token: theirs alone. If this is fine and the next panel is not, time is lost "
            "before it is "
            "asked (fallbacks, queue).",
            queries=quantiles("gen_ai_server_time_to_first_token_seconds", CALL, "upstream"),
            unit="s",
        ),
        Panel(
            title="As users feel it",
            about="From request received to first token, of the streams it served: fallbacks from others, retries and queueing included.",
            queries=quantiles("weir_ttft_seconds", HERE, "upstream"),
            unit="s",
        ),
        Panel(
            title="First event, p95",
            about="From our request sent to its first event of any kind. Far below the first token: the model thinks. Close to it: queue "
            "or network.",
            queries=(Query(_p95("gen_ai_client_operation_time_to_first_chunk_seconds", CALL), "{{upstream}}"),),
            unit="s",
        ),
    ),
)

STEADY = Row(
    "How steadily it speaks",
    (
        Panel(
            title="Gaps between tokens",
            about="How many gaps of which length. A second band far above the first: it sends in lumps, or a hop before us buffers.",
            queries=(Query(f"sum by (le) (increase(weir_chunk_gap_seconds_bucket{{{HERE}}}{EACH}))", "{{le}}"),),
            unit="s",
            kind="heatmap",
        ),
        Panel(
            title="Stalls by blame",
            about="Silences over the route's threshold, a second. Only blame upstream is this provider's.",
            queries=(Query(f"sum by (blame) (rate(weir_stalls_total{{{OF_UPSTREAM}}}{EACH}))", "{{blame}}"),),
            unit="cps",
            stacked=True,
        ),
        Panel(
            title="Time per output token, p95",
            about="After the first token, where the provider said how many there were. Rising with load: it is saturated.",
            queries=(Query(_p95("gen_ai_server_time_per_output_token_seconds", CALL), "{{upstream}}"),),
            unit="s",
        ),
    ),
)

FAILURES = Row(
    "How it fails",
    (
        Panel(
            title="Outcomes",
            about="Ended streams a second by how they ended.",
            queries=(Query(f"sum by (outcome) (rate(weir_streams_total{{{HERE}}}{EACH}))", "{{outcome}}"),),
            unit="reqps",
            stacked=True,
        ),
        Panel(
            title="Broken, by model",
            about="Share of its streams that ended as an upstream's failure. One model only: that deployment. All: the provider; see its "
            "status page.",
            queries=(
                Query(
                    f'sum by (upstream, model) (rate(weir_streams_total{{{HERE}, outcome=~"{BROKEN}"}}{EACH})) / '
                    f"sum by (upstream, model) (rate(weir_streams_total{{{HERE}}}{EACH}))",
                    "{{upstream}} {{model}}",
                ),
            ),
            unit="percentunit",
            steps=((None, GREEN), (0.1, RED)),
        ),
        Panel(
            title="Connections closed under a call",
            about="Kept-alive connections that it closed as a call was sent on them, a second. The call is sent again on a new one, and "
            "nobody notices; many: its keep-alive time is shorter than ours.",
            queries=(Query(f"sum by (upstream) (rate(weir_stale_connections_total{{{ONLY}}}{EACH}))", "{{upstream}}"),),
            unit="cps",
        ),
        Panel(
            title="Output tokens",
            about="Output tokens a second as the provider counted them.",
            queries=(
                Query(
                    f'sum by (upstream) (rate(gen_ai_client_token_usage_sum{{{CALL}, gen_ai_token_type="output"}}{EACH}))',
                    "{{upstream}}",
                ),
            ),
            unit="short",
        ),
    ),
)

UPSTREAM = Board(
    uid="weir-upstream",
    title="Weir / Upstream",
    about="One upstream: is it in use, how soon and how steadily it speaks, how it fails.",
    variables={
        "job": "label_values(weir_build_info, job)",
        "upstream": 'label_values(weir_streams_active{job=~"$job"}, upstream)',
        "route": 'label_values(weir_streams_active{job=~"$job", upstream=~"$upstream"}, route)',
        "model": 'label_values(weir_streams_total{job=~"$job", upstream=~"$upstream"}, model)',
    },
    rows=(STANDING, SPEED, STEADY, FAILURES),
)
