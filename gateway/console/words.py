"""What was said on a stream, and what is being said: the only two paths of the admin API that answer with any of it."""

import asyncio
from contextlib import suppress

import orjson
from aiohttp import web

from gateway.console.answers import HEADERS, answer
from gateway.core.messages import Spoke
from gateway.core.record import Seam, StreamRecord
from gateway.telemetry.recorder import Recorder
from gateway.telemetry.redaction import Redactor
from gateway.telemetry.store import Kept, Store

EVERY = 0.1
QUIET = 15.0
"""Seconds after which a comment goes out although nothing was said, so that a page that has left is noticed."""
MOST_READERS = 32
LOOKS = 10
"""Words may come so many looks after the row of their stream, a second in all."""


class WordsApi:
    """The handlers."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    async def content(self, request: web.Request) -> web.Response:
        """Answer with the words of an ended stream; 404 says why there are none."""
        stream_id, store = request.match_info["stream_id"], self._recorder.store
        if stream_id in self._recorder.live.streams:
            return answer({"error": f"this stream still runs: /api/streams/{stream_id}/text says what it says"}, 404)
        kept = await asyncio.to_thread(store.one, stream_id) if store is not None else None
        if store is None or kept is None:
            return answer({"error": "no such stream is stored"}, 404)
        content = await _stored(store, kept)
        if content is None:
            return answer({"error": self._why(kept.record)}, 404)
        return web.Response(body=_told(kept.record, content), content_type="application/json", headers=HEADERS)

    async def text(self, request: web.Request) -> web.StreamResponse:
        """Feed what a running stream says, from its beginning until it ends, as server-sent events."""
        stream_id, readers = request.match_info["stream_id"], self._recorder.readers
        stream = self._recorder.live.streams.get(stream_id)
        if stream is None:
            return answer({"error": f"no such stream runs; what an ended one said is at /api/streams/{stream_id}/content"}, 404)
        if not stream.record.content:
            return answer({"error": self._why(stream.record)}, 404)
        if len(readers) >= MOST_READERS:
            return answer({"error": "too many read along already"}, 503)
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        await response.prepare(request)
        page = Page()
        readers.join(stream_id, page)
        try:
            with suppress(ConnectionError):
                await _feed(page, response)
        finally:
            readers.leave(stream_id, page)
        return response

    def _why(self, record: StreamRecord) -> str:
        """Say why nothing is kept of a stream."""
        content = next((route.content for route in self._recorder.config.routes if route.name == record.route), "off")
        if record.content:
            return "what this stream said is not stored yet, or was lost on its way"
        return "this stream is not in the sample of its route" if content == "sampled" else "content is off for this route"


class Page:
    """One reader: what it has not been told yet, without keys. Pieces that are told again are known by where they begin."""

    def __init__(self) -> None:
        self._heard = {"text": 0, "reasoning": 0}
        self._redactors = {"text": Redactor(), "reasoning": Redactor()}
        self._news: list[tuple[str, str]] = []
        self.is_over = False

    def spoke(self, piece: Spoke) -> None:
        known = self._heard[piece.kind] - piece.at
        if 0 <= known < len(piece.text):
            self._heard[piece.kind] += len(piece.text) - known
            self._add(piece.kind, self._redactors[piece.kind].feed(piece.text[known:]))

    def over(self) -> None:
        for kind, redactor in self._redactors.items():
            self._add(kind, redactor.end())
        self.is_over = True

    def _add(self, kind: str, text: str) -> None:
        if text:
            self._news.append((kind, text))

    def take(self) -> list[dict[str, str]]:
        """Return the next events."""
        news, self._news = self._news, []
        return [{kind: text} for kind, text in news]


async def _feed(page: Page, response: web.StreamResponse) -> None:
    quiet = 0.0
    while True:
        over = page.is_over
        events = [b"data: %b\n\n" % orjson.dumps(event) for event in page.take()]
        if over:
            events.append(b'data: {"over":true}\n\n')
        quiet = 0.0 if events else quiet + EVERY
        if quiet > QUIET:
            quiet, events = 0.0, [b": quiet\n\n"]
        if events:
            await response.write(b"".join(events))
        if over:
            return
        await asyncio.sleep(EVERY)


async def _stored(store: Store, kept: Kept) -> bytes | None:
    """Return the words of a stored stream; those of one that has just ended may be on their way, behind its row."""
    for _ in range(LOOKS if kept.record.content else 1):
        if (content := await asyncio.to_thread(store.content, kept.record.stream_id)) is not None:
            return content
        await asyncio.sleep(EVERY)
    return None


def _told(record: StreamRecord, content: bytes) -> bytes:
    """Put together what is stored and where the seams are. A prompt may be nested more deeply than can be written anew, so it is not."""
    head = orjson.dumps({"stream_id": record.stream_id, "parts": [_seam(seam, record) for seam in record.seams]})
    return head[:-1] + b"," + content[1:]


def _seam(seam: Seam, record: StreamRecord) -> dict[str, str | float]:
    return {"source": seam.source, "target": seam.target, "why": seam.why, "offset": seam.at - record.received_at}
