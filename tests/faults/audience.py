"""A recorder that hears what a gate tells, as the one of `weir serve` does: its spans, its metrics as they are scraped, its admin API."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import orjson
from aiohttp import ClientSession, web
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from gateway.console.api import admin_app
from gateway.core.owners import OWNERS
from gateway.telemetry.recorder import Recorder


class Audience:
    """A recorder in this process and its admin listener; what it told can be read while it runs, spans once it is closed."""

    def __init__(self, weir: Any, exporter: SpanExporter | None) -> None:
        self._kept = InMemorySpanExporter()
        self.recorder = Recorder(weir.worker.config, span_exporter=exporter or self._kept)
        self._session: ClientSession | None = None
        weir.book.readers.append(self.recorder.receive)

    async def start(self) -> "Audience":
        await self.recorder.start()
        app = await asyncio.to_thread(admin_app, self.recorder)  # it reads the console's files, and a worker's loop runs here too
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        sock = socket.create_server(("127.0.0.1", 0))
        await web.SockSite(self._runner, sock).start()
        self._session = ClientSession(f"http://127.0.0.1:{sock.getsockname()[1]}")
        return self

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
        await self._runner.cleanup()
        await self.recorder.close()

    async def spans(self) -> list[ReadableSpan]:
        """Close the recorder, so that everything is told, and return every span."""
        await self.recorder.close()
        return list(self._kept.get_finished_spans())

    async def _get(self, path: str) -> bytes:
        assert self._session is not None
        async with self._session.get(path) as answer:
            return await answer.read()

    async def ask(self, path: str) -> Any:
        """Return what the admin API answers."""
        return orjson.loads(await self._get(path))

    async def scrape(self) -> "Scrape":
        """Return what Prometheus would read now."""
        return Scrape((await self._get("/metrics")).decode())


class Scrape:
    """One answer of /metrics."""

    def __init__(self, text: str) -> None:
        self.samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def sum(self, name: str, **labels: str) -> float:
        """Sum the samples of a name that carry these labels."""
        return sum(s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items())

    def by(self, name: str, label: str) -> dict[str, float]:
        """Sum the samples of a name by one of their labels; what is zero is left out."""
        found: dict[str, float] = {}
        for sample in self.samples:
            if sample.name == name:
                found[sample.labels[label]] = found.get(sample.labels[label], 0.0) + sample.value
        return {value: amount for value, amount in found.items() if amount}

    def bins(self, name: str, **labels: str) -> dict[str, float]:
        """Return a histogram's cumulative counts by bound, as text."""
        return {s.labels["le"]: s.value for s in self.samples if s.name == f"{name}_bucket" and labels.items() <= s.labels.items()}


@contextlib.asynccontextmanager
async def heard(weir: Any, exporter: SpanExporter | None = None) -> AsyncIterator[Audience]:
    """Let a recorder hear what a gate tells from now on; `exporter` takes its spans instead of keeping them."""
    audience = await Audience(weir, exporter).start()
    try:
        yield audience
    finally:
        await audience.close()


def owned(span: ReadableSpan) -> dict[str, float]:
    """Return who owned the seconds of a span."""
    attributes = span.attributes or {}
    return {owner: float(attributes.get(f"weir.duration.{owner}", 0.0)) for owner in OWNERS}  # type: ignore[arg-type]


def length(span: ReadableSpan) -> float:
    """Return the seconds a span covers."""
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e9


def adds_up(span: ReadableSpan) -> bool:
    """Tell whether the owners' seconds sum to the span within a millisecond."""
    return abs(sum(owned(span).values()) - length(span)) < 0.001
