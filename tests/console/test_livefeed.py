"""The live feed over real connections: what a page hears while it is there, how often, and how many pages there may be."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import orjson
import pytest
from aiohttp import ClientResponse, ClientSession

from gateway.console import livefeed
from gateway.console.livefeed import EVERY, MOST_PAGES
from gateway.core.messages import Begun, Heard, Hello, Moved
from gateway.core.record import StreamRecord
from gateway.telemetry.recorder import Recorder
from tests.rig.client import wait_until

Serve = Callable[..., Awaitable[tuple[Recorder, ClientSession]]]
MakeRecord = Callable[..., StreamRecord]


async def events(reply: ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """Yield what a page is told, one event after another."""
    async for line in reply.content:
        if line.startswith(b"data: "):
            yield orjson.loads(line[6:])


async def test_a_page_hears_what_lives_and_then_what_happens(serve: Serve, make_record: MakeRecord) -> None:
    """Server-sent events: first all that lives, then what begins, moves and is heard, by the recorder's clock."""
    recorder, session = await serve()
    recorder.receive(Hello(7))
    recorder.receive(Begun(make_record(1, ended_at=None), "first_token"))
    async with session.get("/api/live") as reply:
        assert (reply.status, reply.content_type) == (200, "text/event-stream")
        told = events(reply)
        first = await anext(told)
        assert first["reset"] is True
        assert [row["id"] for row in first["begun"]] == ["stream-1"]
        recorder.receive(Heard("stream-1", [first["now"]], [3], first["now"]))
        recorder.receive(Moved("stream-1", "streaming", "fast", first["now"]))
        second = await anext(told)
        assert second["now"] > first["now"]
        assert second["moved"][0]["state"] == "streaming"
        assert second["tokens"][0][2] == [3]
    await wait_until(lambda: not len(recorder.onlookers), "the page is forgotten")


async def test_a_page_of_one_route_is_asked_for_by_its_name(serve: Serve, make_record: MakeRecord) -> None:
    """`route=` narrows what is told."""
    recorder, session = await serve()
    for number, route in enumerate(("chat", "agents")):
        recorder.receive(Begun(make_record(number, ended_at=None, route=route)))
    async with session.get("/api/live", params={"route": "agents"}) as reply:
        assert [row["route"] for row in (await anext(events(reply)))["begun"]] == ["agents"]


async def test_at_most_ten_events_a_second(serve: Serve, make_record: MakeRecord) -> None:
    """However much happens, a page hears of it in so many words."""
    recorder, session = await serve()
    recorder.receive(Begun(make_record(1, ended_at=None)))
    async with session.get("/api/live") as reply:
        told = events(reply)
        began = (await anext(told))["now"]
        for number in range(10):
            recorder.receive(Heard("stream-1", [began + number], [1]))
            for _ in range(50):
                recorder.receive(Moved("stream-1", "streaming", "fast", began))
            event = await anext(told)
            assert len(event.get("moved", [])) <= 1
        assert event["now"] - began >= 9 * EVERY


async def test_a_quiet_feed_speaks_now_and_then(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing to tell the clock is told all the same, so that a page knows that its feed lives."""
    monkeypatch.setattr(livefeed, "QUIET", 0.3)
    _, session = await serve()
    async with session.get("/api/live") as reply:
        told = events(reply)
        one, other = await anext(told), await anext(told)
    assert other["now"] - one["now"] >= 0.3
    assert set(other) == {"now", "active", "shown", "share"}


async def test_only_so_many_pages_watch_at_once(serve: Serve) -> None:
    """One more is refused with a reason; when one has left there is room again."""
    recorder, session = await serve()
    pages = [await session.get("/api/live") for _ in range(MOST_PAGES)]
    async with session.get("/api/live") as reply:
        assert reply.status == 503
        assert str(MOST_PAGES) in (await reply.json())["error"]
    pages[0].close()
    await wait_until(lambda: len(recorder.onlookers) < MOST_PAGES, "one has left")
    async with session.get("/api/live") as reply:
        assert reply.status == 200
    for page in pages:
        page.close()
    await wait_until(lambda: not len(recorder.onlookers), "all have left")


async def test_a_page_that_takes_nothing_is_let_go(serve: Serve, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever does not read for so long has its connection closed, and holds no seat."""
    monkeypatch.setattr(livefeed, "PATIENCE", 0.3)
    recorder, session = await serve()
    for number in range(400):
        recorder.receive(Begun(make_record(number, ended_at=None, route="r" * 2000)))
    reader, writer = await asyncio.open_connection(session._base_url.host, session._base_url.port, limit=1024)
    writer.transport.pause_reading()
    writer.write(b"GET /api/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    await wait_until(lambda: len(recorder.onlookers), "the page watches")

    def flood() -> bool:
        for onlooker in recorder.onlookers:
            onlooker.drawn()
        return not len(recorder.onlookers)

    await wait_until(flood, "the page is let go", 30.0)
    writer.close()
    assert reader is not None


@pytest.mark.parametrize("path", ["/api/live", "/api/streams/stream-1/text"])
async def test_a_feed_is_for_who_reads_it(serve: Serve, path: str) -> None:
    """HEAD would never end, and a page of another site could not read what it makes us tell: neither is let in."""
    recorder, session = await serve()
    async with session.head(path) as reply:
        assert reply.status == 405
    for site in ("cross-site", "same-site"):
        async with session.get(path, headers={"Sec-Fetch-Site": site}) as reply:
            assert reply.status == 403
    async with session.get(path, headers={"Sec-Fetch-Site": "same-origin"}) as reply:
        assert reply.status in (200, 404)
    await wait_until(lambda: not len(recorder.onlookers), "nobody is left")
