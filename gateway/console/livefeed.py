"""What goes on right now, as server-sent events: four a second for every onlooker, each with all that has happened since the last."""

import asyncio
import time
from contextlib import suppress
from typing import Any

import orjson
from aiohttp import web

from gateway.console.answers import HEADERS
from gateway.console.views import summary
from gateway.telemetry.account import Account
from gateway.telemetry.live import LiveStream
from gateway.telemetry.recorder import Recorder

EVERY = 0.25
QUIET = 5.0
"""Seconds after which an event goes out although nothing has happened, so that clocks agree and a dead page is noticed."""
MOST_SHOWN = 500
MOST_ENDED = 20
MOST_ONLOOKERS = 32
MOST_WAITING = 20_000
"""Tokens that may wait for a page that reads slowly; with more it begins anew."""


class LiveFeed:
    """The door `/api/live`."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Feed one page until it leaves. Times are seconds on the machine's monotonic clock; `now` ties them to the page's."""
        recorder = self._recorder
        if len(recorder.onlookers) >= MOST_ONLOOKERS:
            return web.json_response({"error": "too many pages watch already"}, status=503, headers=HEADERS)
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        await response.prepare(request)
        page = Page(recorder)
        recorder.watch(page)
        try:
            with suppress(ConnectionError):
                await _feed(page, response)
        finally:
            recorder.unwatch(page)
        return response


async def _feed(page: "Page", response: web.StreamResponse) -> None:
    said = float("-inf")
    while True:
        now = time.monotonic()
        if page.news or now - said >= QUIET:
            await response.write(b"data: %b\n\n" % orjson.dumps(page.take(now)))
            said = now
        await asyncio.sleep(EVERY)


class Page:
    """One onlooker: which streams it is shown, and what it has not been told yet."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._shown: set[str] = set()
        self._reset()

    def _reset(self) -> None:
        """Begin anew: everything known is forgotten, and what lives now is told first."""
        self._shown.clear()
        self._waiting = 0
        self._batch: dict[str, Any] = {"reset": True}
        self._tokens: dict[str, tuple[list[float], list[int]]] = {}
        for stream in self._recorder.live.streams.values():
            if len(self._shown) >= MOST_SHOWN:
                break
            self.begun(stream)

    @property
    def news(self) -> bool:
        return bool(self._batch or self._tokens)

    def take(self, now: float) -> dict[str, Any]:
        """Return the next event, and wait for what comes after it."""
        if self._waiting > MOST_WAITING:
            self._reset()
        event = {"now": now, "active": len(self._recorder.live.streams), "shown": len(self._shown), **self._batch}
        if self._tokens:
            event["tokens"] = [[stream_id, times, many] for stream_id, (times, many) in self._tokens.items()]
        self._batch, self._tokens, self._waiting = {}, {}, 0
        return event

    def begun(self, stream: LiveStream) -> None:
        stream_id = stream.record.stream_id
        if stream_id in self._shown:
            self.moved(stream)
        elif len(self._shown) < MOST_SHOWN:
            self._shown.add(stream_id)
            self._tell("begun", _row(stream))

    def moved(self, stream: LiveStream) -> None:
        if stream.record.stream_id in self._shown:
            self._tell("moved", {"id": stream.record.stream_id, "state": stream.state, "upstream": stream.upstream, "blame": None})

    def heard(self, stream_id: str, times: list[float], many: list[int]) -> None:
        if stream_id in self._shown:
            held = self._tokens.setdefault(stream_id, ([], []))
            held[0].extend(times)
            held[1].extend(many)
            self._waiting += len(times)

    def stalled(self, stream: LiveStream) -> None:
        if stream.record.stream_id in self._shown:
            self._tell("stalled", {"id": stream.record.stream_id, "since": stream.since, "blame": stream.blame})

    def ended(self, told: Account) -> None:
        self._shown.discard(told.record.stream_id)
        self._tell("gone", told.record.stream_id)
        ended = self._batch.setdefault("ended", [])
        ended.append(summary(told, None))
        del ended[:-MOST_ENDED]

    def _tell(self, kind: str, what: Any) -> None:
        self._batch.setdefault(kind, []).append(what)
        self._waiting += 1


def _row(stream: LiveStream) -> dict[str, Any]:
    record = stream.record
    return {
        "id": record.stream_id,
        "route": record.route,
        "upstream": stream.upstream,
        "model": record.asked_model,
        "state": stream.state,
        "blame": stream.blame,
        "received": record.received_at,
    }
