"""An OTLP/HTTP collector in this process: which spans came, by stream, read from the wire format without the exporter's own library."""

import asyncio
import gzip
from collections.abc import Iterator

from aiohttp import web
from msgspec import Struct


class Told(Struct, frozen=True):
    """One span: its id, and the outcome it tells."""

    span_id: str
    outcome: str


class Collector:
    """Keeps what arrived: `spans[stream id]`, a span sent twice twice. `posts` counts requests."""

    def __init__(self) -> None:
        self.spans: dict[str, list[Told]] = {}
        self.posts = 0
        self.port = 0
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/traces", self._traces)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _traces(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip":
            body = await asyncio.to_thread(gzip.decompress, body)
        self.take(body)
        self.posts += 1
        return web.Response(content_type="application/x-protobuf")

    def take(self, body: bytes) -> None:
        """Read one ExportTraceServiceRequest: resource spans, scope spans, spans."""
        for resource in _members(body, 1):
            for scope in _members(resource, 2):
                for span in _members(scope, 2):
                    attributes = dict(map(_attribute, _members(span, 9)))
                    told = Told(next(_members(span, 2)).hex(), attributes.get("weir.outcome", ""))
                    self.spans.setdefault(attributes.get("weir.stream.id", ""), []).append(told)


def _attribute(pair: bytes) -> tuple[str, str]:
    """Return a KeyValue's key, and its value where that is a text."""
    key = next(_members(pair, 1), b"").decode()
    value = next(_members(pair, 2), b"")
    return key, next(_members(value, 1), b"").decode("utf-8", "replace")


def _members(message: bytes, number: int) -> Iterator[bytes]:
    """Yield the length-delimited fields of this number (protobuf encoding: tag, length, bytes; other kinds are stepped over)."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 2:
            size, at = _varint(message, at)
            if key >> 3 == number:
                yield message[at : at + size]
            at += size
        elif kind == 0:
            _, at = _varint(message, at)
        else:
            at += 8 if kind == 1 else 4


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
