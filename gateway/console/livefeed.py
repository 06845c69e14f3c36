"""What goes on right now, as server-sent events: at most ten a second for every page, each with all that has happened since the last."""

import asyncio
import time
from contextlib import suppress

import orjson
from aiohttp import web

from gateway.console.answers import HEADERS, answer
from gateway.console.asked import BadQuery
from gateway.console.endings import Endings
from gateway.console.page import Page
from gateway.telemetry.recorder import Recorder

EVERY = 0.1
QUIET = 5.0
"""Seconds after which an event goes out although nothing has happened, so that clocks agree and a dead page is noticed."""
PATIENCE = 30.0
"""A page that takes nothing for so many seconds has its connection closed: a sleeping laptop, most likely, which comes back by itself."""
MOST_PAGES = 8
"""Each folds and encodes what it is told by itself, at up to 2 % of a core with 500 streams shown."""


class LiveFeed:
    """The door `/api/live`; `route=` narrows what it tells to one route, `ended=all` to streams that end, but to all of them."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Feed one page until it leaves. Times are seconds on the machine's monotonic clock; `now` ties them to the page's."""
        recorder, ended = self._recorder, request.query.get("ended")
        if ended not in (None, "all"):
            raise BadQuery("ended must be all, or left out")
        if len(recorder.onlookers) >= MOST_PAGES:
            return answer({"error": f"{MOST_PAGES} pages watch already"}, 503)
        page = Page(recorder, request.query.get("route") or None) if ended is None else Endings(recorder)
        recorder.watch(page)
        try:
            response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
            await response.prepare(request)
            with suppress(ConnectionError, TimeoutError):
                await _feed(page, response)
        finally:
            recorder.unwatch(page)
        return response


async def _feed(page: Page | Endings, response: web.StreamResponse) -> None:
    said = float("-inf")
    while True:
        now = time.monotonic()
        if page.news or now - said >= QUIET:
            async with asyncio.timeout(PATIENCE):
                await response.write(b"data: %b\n\n" % orjson.dumps(page.take(now)))
            said = now
        await asyncio.sleep(EVERY)
