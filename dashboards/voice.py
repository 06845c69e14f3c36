"""The row about realtime sessions: how soon they answer, whether listeners hear gaps, how much is said. A session counts when it ends."""

from dashboards.panels import Panel, Query, Row

OF_ROUTE = 'job=~"$job", route=~"$route", upstream=~"$upstream"'
EACH = "[$__rate_interval]"


def _each(series: str) -> str:
    return f"sum by (upstream) (rate(weir_realtime_{series}{{{OF_ROUTE}}}{EACH}))"


def _p95(series: str) -> str:
    matchers = f'{OF_ROUTE}, model=~"$model"'
    return f"histogram_quantile(0.95, sum by (le, upstream) (rate(weir_realtime_{series}_bucket{{{matchers}}}{EACH})))"


_SPOKEN = f'sum by (upstream) (rate(weir_realtime_audio_seconds_total{{{OF_ROUTE}, direction="out"}}{EACH}))'

VOICE = Row(
    "Realtime sessions (counted when they end)",
    (
        Panel(
            title="First sound, p95",
            about="From an answer asked for to its first token and its first sound. A first token in time and a late sound: speech is "
            "what is slow.",
            queries=(Query(_p95("first_audio_seconds"), "sound: {{upstream}}"), Query(_p95("first_token_seconds"), "token: {{upstream}}")),
            unit="s",
        ),
        Panel(
            title="Listeners in silence",
            about="Seconds of silence within spoken answers for each second of sound. Above a few percent users notice; compare upstreams, "
            "and see whether loop lag is ours.",
            queries=(Query(f"{_each('underrun_seconds_total')} / on (upstream) ({_SPOKEN} > 0)", "{{upstream}}"),),
            unit="percentunit",
        ),
        Panel(
            title="Answers and what disturbs them",
            about="A second: answers, moments of silence in them, interruptions by users (usual in talk), errors that upstreams report "
            "(none).",
            queries=(
                Query(_each("responses_total"), "answers: {{upstream}}"),
                Query(_each("underruns_total"), "underruns: {{upstream}}"),
                Query(_each("interruptions_total"), "interruptions: {{upstream}}"),
                Query(_each("errors_total"), "errors: {{upstream}}"),
            ),
            unit="cps",
        ),
        Panel(
            title="Sound",
            about="Seconds of sound a second, in from clients and out to them: how many talk at once, and what is paid for.",
            queries=(Query(f"sum by (direction) (rate(weir_realtime_audio_seconds_total{{{OF_ROUTE}}}{EACH}))", "{{direction}}"),),
            unit="s",
        ),
    ),
)
