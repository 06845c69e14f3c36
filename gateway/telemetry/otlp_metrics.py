"""Our figures as the SDK's MetricsData, for its OTLP exporters: cumulative, with the same bounds and exemplars as /metrics."""

from typing import cast

from opentelemetry.sdk.metrics import Exemplar as SdkExemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Histogram as SdkHistogram
from opentelemetry.sdk.resources import Resource

from gateway.telemetry.instruments import LABEL_ATTRIBUTES, Instrument
from gateway.telemetry.metrics import Exemplar, Family, Histogram
from gateway.telemetry.spans import SCHEMA_URL, SCOPE

_UNKNOWN = cast("float", None)
"""The encoder leaves a None out; we keep no minimum and maximum, since binned gaps have none."""


def metrics_data(families: list[Family], who: Resource, started_ns: int, now_ns: int) -> MetricsData:
    """Return one snapshot; times are unix nanoseconds. Families without a series are left out."""
    metrics = [_metric(family, started_ns, now_ns) for family in families if family.values or family.histograms]
    return MetricsData([ResourceMetrics(who, [ScopeMetrics(SCOPE, metrics, SCHEMA_URL)], SCHEMA_URL)])


def _metric(family: Family, started_ns: int, now_ns: int) -> Metric:
    row = family.instrument
    data: SdkHistogram | Sum | Gauge
    if row.kind == "histogram":
        points = [_histogram(row, labels, state, (started_ns, now_ns)) for labels, state in family.histograms]
        data = SdkHistogram(points, AggregationTemporality.CUMULATIVE)
    else:
        numbers = [NumberDataPoint(_attributes(row, labels), started_ns, now_ns, float(value)) for labels, value in family.values]
        data = Gauge(numbers) if row.kind == "gauge" else Sum(numbers, AggregationTemporality.CUMULATIVE, is_monotonic=True)
    return Metric(row.otel, row.help, row.unit, data)


def _histogram(row: Instrument, labels: tuple[str, ...], state: Histogram, times: tuple[int, int]) -> HistogramDataPoint:
    return HistogramDataPoint(
        attributes=_attributes(row, labels),
        start_time_unix_nano=times[0],
        time_unix_nano=times[1],
        count=sum(state.counts),
        sum=state.total,
        bucket_counts=state.counts,
        explicit_bounds=state.bounds,
        min=_UNKNOWN,
        max=_UNKNOWN,
        exemplars=[_exemplar(one) for one in state.exemplars if one is not None],
    )


def _attributes(row: Instrument, labels: tuple[str, ...]) -> dict[str, str]:
    """An empty label is no label, as in Prometheus."""
    return {LABEL_ATTRIBUTES.get(name, name): value for name, value in zip(row.labels, labels, strict=True) if value}


def _exemplar(one: Exemplar) -> SdkExemplar:
    return SdkExemplar({}, float(one.value), int(one.at * 1e9), int(one.span_id, 16), int(one.trace_id, 16))
