"""Recording rules: the few ratios that alerts and dashboards speak of, each over a long and a short window."""

from collections.abc import Iterator, Sequence

from msgspec import Struct

from dashboards.objectives import DEFAULT, Objective

LONG, SHORT = "10m", "2m"
"""What is wrong for long enough to matter, and what is still wrong now: an alert needs both, so it ends soon after its cause."""
BURN_WINDOWS = ("5m", "30m", "1h", "6h", "3d")
BROKEN = "upstream_error|upstream_truncated|upstream_stalled|first_token_timeout"
"""Outcomes that are an upstream's doing."""
TARGET = "job, route, upstream, model"


class Record(Struct, frozen=True):
    """One recording rule: the series it makes, the labels they have, and from what."""

    name: str
    labels: frozenset[str]
    expr: str


def records(promised: Sequence[Objective] = DEFAULT) -> list[Record]:
    """Return every rule that the alerts of one group need, in an order in which none reads what comes later."""
    return [*_objectives(promised), *_volumes(), *_ratios()]


def burn_records(promised: Sequence[Objective] = DEFAULT) -> list[Record]:
    """Return the share of streams whose first token was later than promised, over every window that a burn rate needs."""
    return [Record(f"weir:ttft_slow:ratio_{window}", _labels("job, route"), _slow(promised, window)) for window in BURN_WINDOWS]


def _labels(listed: str) -> frozenset[str]:
    return frozenset(listed.split(", "))


def _either(parts: Sequence[str]) -> str:
    return "\nor\n".join(parts)


def _objectives(promised: Sequence[Objective]) -> Iterator[Record]:
    """Every configured route has a series of streams active, 0 included; from it comes one series a route that holds its promise."""
    for name, values in (("ttft_seconds", [p.ttft for p in promised]), ("ratio", [p.ratio for p in promised])):
        routes = [f"count by (job, route) (weir_streams_active{{{p.matcher}}})" for p in promised]
        parts = [f"{route} * 0 + {value:g}" for route, value in zip(routes, values, strict=True)]
        yield Record(f"weir:objective:{name}", _labels("job, route"), _either(parts))


def _volumes() -> Iterator[Record]:
    yield Record("weir:ttft:increase_10m", _labels(TARGET), f"sum by ({TARGET}) (increase(weir_ttft_seconds_count[{LONG}]))")
    yield Record(
        "weir:streams:increase_10m", _labels(TARGET), f'sum by ({TARGET}) (increase(weir_streams_total{{outcome!="rejected"}}[{LONG}]))'
    )


def _ratios() -> Iterator[Record]:
    accepted = 'outcome!="rejected"'
    for window in (LONG, SHORT):
        yield Record(
            f"weir:ttft_seconds:p95_{window}",
            _labels(TARGET),
            f"histogram_quantile(0.95, sum by ({TARGET}, le) (rate(weir_ttft_seconds_bucket[{window}]))) > 0",
        )
        yield Record(f"weir:stalled:ratio_{window}", _labels(TARGET), _share(TARGET, 'stalled="true"', 'streamed="true"', window))
        yield Record(f"weir:broken:ratio_{window}", _labels(TARGET), _share(TARGET, f'outcome=~"{BROKEN}"', accepted, window))
        yield Record(f"weir:left:ratio_{window}", _labels(TARGET), _share(TARGET, 'outcome="client_disconnect"', accepted, window))
        yield Record(f"weir:truncated:ratio_{window}", _labels(TARGET), _share(TARGET, 'outcome="upstream_truncated"', accepted, window))
        left = f"sum by (job, route, from) (rate(weir_fallbacks_total[{window}]))"
        asked = f"sum by (job, route) (rate(weir_streams_total{{{accepted}}}[{window}]))"
        yield Record(f"weir:fallbacks:ratio_{window}", _labels("job, route, from"), f"{left}\n/ on (job, route) group_left ()\n{asked}")


def _share(labels: str, part: str, whole: str, window: str) -> str:
    """Say which share of the streams is of a kind; without streams there is no share."""
    counted = f"sum by ({labels}) (rate(weir_streams_total{{%s}}[{window}]))"
    return f"{counted % part}\n/\n({counted % whole} > 0)"


def _slow(promised: Sequence[Objective], window: str) -> str:
    parts = []
    for objective in promised:
        quick = f'sum by (job, route) (rate(weir_ttft_seconds_bucket{{{objective.matcher}, le="{objective.bucket}"}}[{window}]))'
        told = f"sum by (job, route) (rate(weir_ttft_seconds_count{{{objective.matcher}}}[{window}]))"
        parts.append(f"1 - {quick}\n/\n({told} > 0)")
    return _either(parts)


RECORDED: dict[str, frozenset[str]] = {rule.name: rule.labels for rule in (*records(), *burn_records())}
"""Every recorded series and its labels."""
