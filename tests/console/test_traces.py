"""Traces of more streams than are shown: what they took is the sum of all."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import ClientSession

from gateway.console import api
from gateway.core.events import Usage
from gateway.core.messages import Begun, Ended
from gateway.core.record import StreamRecord
from gateway.telemetry import store
from gateway.telemetry.recorder import Recorder

Serve = Callable[..., Awaitable[tuple[Recorder, ClientSession]]]
MakeRecord = Callable[..., StreamRecord]


async def test_a_long_trace_is_cut_but_summed_whole(serve: Serve, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first streams are shown and the answer says that there are more; totals are of all, live ones too; at the bound none is cut."""
    monkeypatch.setattr(store, "MOST_STEPS", 3)
    monkeypatch.setattr(api, "MOST_STEPS", 3)
    recorder, session = await serve()
    recorder.receive(Begun(make_record(99, trace_id="a" * 32, ended_at=None, usage=None)))
    for count, cut in ((3, False), (5, True)):
        for number in range(count):
            recorder.receive(Ended(number + 1, make_record(number, trace_id="a" * 32, usage=Usage(10, 5) if number else None)))
        assert recorder.store is not None
        async with asyncio.timeout(5):
            while len(await asyncio.to_thread(recorder.store.newest_ids, 10)) < count:  # noqa: ASYNC110 - it is a file
                await asyncio.sleep(0.02)
        async with session.get("/api/traces/" + "a" * 32) as reply:
            view = await reply.json()
        assert [row["stream_id"] for row in view["streams"]] == ["stream-0", "stream-1", "stream-2", "stream-99"]
        known = count - 1
        assert view["cut"] is cut
        assert view["total"] == {"streams": count + 1, "cost_usd": None, "input_tokens": 10 * known, "output_tokens": 5 * known}
