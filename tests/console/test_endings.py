"""The feed of ended streams alone."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import ClientSession

from gateway.console.endings import MOST_ROWS, Endings
from gateway.console.page import Page
from gateway.core.messages import Ended, Watching
from gateway.core.record import StreamRecord
from gateway.telemetry.recorder import Recorder

Serve = Callable[..., Awaitable[tuple[Recorder, ClientSession]]]


async def test_every_ended_stream_is_told(serve: Serve, make_record: Callable[..., StreamRecord]) -> None:
    """Pages are shown the last twenty of many that end at once; who asks for all gets all, in their order, and no tokens."""
    recorder, session = await serve()
    async with session.get("/api/live?ended=all") as feed, asyncio.timeout(10):
        first = orjson.loads((await feed.content.readuntil(b"\n\n"))[6:])
        assert first["ended"] == []
        for number in range(100):
            recorder.receive(Ended(number, make_record(number)))
        event = orjson.loads((await feed.content.readuntil(b"\n\n"))[6:])
    assert [row["stream_id"] for row in event["ended"]] == [f"stream-{number}" for number in range(100)]
    assert event["left_out"] == 0
    assert event.keys() == {"now", "active", "ended", "left_out"}


async def test_a_slow_reader_costs_bounded_memory(serve: Serve, make_record: Callable[..., StreamRecord]) -> None:
    """What cannot be held is counted, and the count is told once."""
    recorder, _ = await serve()
    onlooker = Endings(recorder)
    recorder.watch(onlooker)
    for number in range(MOST_ROWS + 7):
        recorder.receive(Ended(number, make_record(number)))
    event = onlooker.take(0.0)
    assert (len(event["ended"]), event["left_out"]) == (MOST_ROWS, 7)
    assert (onlooker.take(0.0)["left_out"], onlooker.news) == (0, False)


async def test_workers_tell_of_tokens_only_to_who_wants_them(serve: Serve) -> None:
    """Who waits for ends does not make every worker tell of every token; a page does, and as long as there is one."""
    recorder, _ = await serve()
    said: list[bool] = []
    recorder._feeds[0] = Told(said)  # type: ignore[assignment]
    ends, page = Endings(recorder), Page(recorder)
    for change in (recorder.watch, recorder.unwatch):
        change(ends)
        change(page)
    recorder._feeds.clear()
    assert said == [True, False]


class Told:
    """A worker's end that keeps what it is told."""

    def __init__(self, said: list[bool]) -> None:
        self._said = said

    def watching(self, watching: Watching) -> None:
        self._said.append(watching.on)

    def close(self) -> Any:
        """Nothing is open."""


async def test_another_word_is_refused(serve: Serve) -> None:
    """400 with what there is."""
    _, session = await serve()
    async with session.get("/api/live?ended=some") as answer:
        assert (answer.status, await answer.json()) == (400, {"error": "ended must be all, or left out"})
