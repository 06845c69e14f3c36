"""/metrics: our figures through prometheus_client's renderers, as text 0.0.4 or, for who asks, OpenMetrics with exemplars."""

from collections.abc import Iterator
from math import inf

from prometheus_client import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar as PrometheusExemplar

from gateway.telemetry.metrics import Exemplar, Family, Histogram


class Snapshot(Collector):
    """A collector over one snapshot of the figures."""

    def __init__(self, families: list[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return (_metric(family) for family in self._families)


def render(families: list[Family], accept: str) -> tuple[bytes, str]:
    """Return the body and its content type for a request's Accept header."""
    encoder, content_type = choose_encoder(accept)
    body: bytes = encoder(Snapshot(families))
    return body, content_type


def _metric(family: Family) -> Metric:
    row = family.instrument
    name = row.name.removesuffix("_total") if row.kind == "counter" else row.name
    metric = Metric(name, row.help, row.kind, "seconds" if name.endswith("_seconds") else "")
    for values, number in family.values:
        metric.add_sample(row.name, dict(zip(row.labels, values, strict=True)), number)
    for values, state in family.histograms:
        _histogram(metric, dict(zip(row.labels, values, strict=True)), state)
    return metric


def _histogram(metric: Metric, labels: dict[str, str], state: Histogram) -> None:
    below = 0
    for bound, count, exemplar in zip((*state.bounds, inf), state.counts, state.exemplars, strict=True):
        below += count
        metric.add_sample(
            f"{metric.name}_bucket", {**labels, "le": "+Inf" if bound == inf else repr(bound)}, below, exemplar=_exemplar(exemplar)
        )
    metric.add_sample(f"{metric.name}_count", labels, below)
    metric.add_sample(f"{metric.name}_sum", labels, state.total)


def _exemplar(one: Exemplar | None) -> PrometheusExemplar | None:
    return None if one is None else PrometheusExemplar({"trace_id": one.trace_id, "span_id": one.span_id}, one.value, one.at)
