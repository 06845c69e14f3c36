"""Sends spans and metric snapshots over OTLP, each from a thread of its own: a collector that hangs costs counted spans, nothing else."""

import logging
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from gateway.config import Otlp
from gateway.config.model import Mapper
from gateway.telemetry.account import Account
from gateway.telemetry.batches import Batches
from gateway.telemetry.mappers import mapped
from gateway.telemetry.metrics import Family
from gateway.telemetry.otlp_metrics import metrics_data
from gateway.telemetry.spans import SPAN_ATTRIBUTES, resource, span

SPAN_QUEUE, SPAN_BATCH, SPAN_WINDOW = 2048, 512, 1.0
EXPORT_TIMEOUT = 5.0


class SpanPump:
    """Accounts in, spans out. Built in the pump's thread, the exporter included, so that neither costs the recorder's loop anything."""

    def __init__(self, exporter: Callable[[], SpanExporter]) -> None:
        self._make = exporter
        self._exporter: SpanExporter | None = None
        self._resource = resource()
        self._rows = SPAN_ATTRIBUTES
        self.batches: Batches[Account] = Batches("spans", self._write, limit=SPAN_QUEUE, batch=SPAN_BATCH, window=SPAN_WINDOW)

    def map(self, mappers: Iterable[Mapper]) -> None:
        """Put these vendors' attributes on spans too, from the next batch on."""
        self._rows = (*SPAN_ATTRIBUTES, *mapped(mappers))

    def close(self, seconds: float) -> None:
        self.batches.close(seconds)
        if self._exporter is not None:
            self._exporter.shutdown()

    def _write(self, batch: list[Account]) -> int:
        self._exporter = self._exporter or self._make()
        spans = []
        for account in batch:
            try:
                spans.append(span(account, self._resource, self._rows))
            except ValueError:  # ids that are not hexadecimal: one bad record must not take its batch along
                continue
        sent = not spans or self._exporter.export(spans) is SpanExportResult.SUCCESS
        return len(batch) - (len(spans) if sent else 0)


class MetricPump:
    """Snapshots in, OTLP metrics out. One may wait; figures are cumulative, so the next one says all that a lost one said."""

    def __init__(self, exporter: Callable[[], MetricExporter], started_ns: int) -> None:
        self._make = exporter
        self._exporter: MetricExporter | None = None
        self._resource = resource()
        self._started_ns = started_ns
        self.batches: Batches[tuple[list[Family], int]] = Batches("metric pushes", self._write, limit=1, batch=1, window=0.0)

    def put(self, families: list[Family], now_ns: int) -> None:
        self.batches.put((families, now_ns))

    def close(self, seconds: float) -> None:
        self.batches.close(seconds)
        if self._exporter is not None:
            self._exporter.shutdown()

    def _write(self, batch: list[tuple[list[Family], int]]) -> int:
        self._exporter = self._exporter or self._make()
        data = [metrics_data(families, self._resource, self._started_ns, now_ns) for families, now_ns in batch]
        return sum(self._exporter.export(one) is not MetricExportResult.SUCCESS for one in data)


def span_exporter(otlp: Otlp) -> SpanExporter:
    """Make the SDK's exporter for the configured endpoint; grpc is imported only when it is asked for, since that takes long."""
    _hush()
    headers = {name: secret.get_secret_value() for name, secret in otlp.headers.items()}
    if otlp.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter  # noqa: PLC0415

        return GrpcExporter(endpoint=otlp.endpoint, headers=_lowered(headers), timeout=EXPORT_TIMEOUT)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter  # noqa: PLC0415

    return HttpExporter(endpoint=signal_url(otlp.endpoint or "", "v1/traces"), headers=headers, timeout=EXPORT_TIMEOUT)


def metric_exporter(otlp: Otlp) -> MetricExporter:
    """Make the SDK's metric exporter for the configured endpoint."""
    _hush()
    headers = {name: secret.get_secret_value() for name, secret in otlp.headers.items()}
    if otlp.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcExporter  # noqa: PLC0415

        return GrpcExporter(endpoint=otlp.endpoint, headers=_lowered(headers), timeout=EXPORT_TIMEOUT)
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpExporter  # noqa: PLC0415

    return HttpExporter(endpoint=signal_url(otlp.endpoint or "", "v1/metrics"), headers=headers, timeout=EXPORT_TIMEOUT)


def signal_url(endpoint: str, path: str) -> str:
    """Return the URL of one signal: the path is added unless the endpoint already ends with it (OTLP exporter spec)."""
    return endpoint if urlsplit(endpoint).path.rstrip("/").endswith(path) else f"{endpoint.rstrip('/')}/{path}"


def _lowered(headers: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}  # gRPC refuses metadata keys with capitals


def _hush() -> None:
    """The SDK logs every failed export; `Batches` says it once a minute instead."""
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
