"""The two paths of the admin API that answer with what was said."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec
import orjson
import pytest
from aiohttp import ClientSession

from gateway.console.words import Page
from gateway.core.content import Content
from gateway.core.messages import Begun, Ended, Follow, FromRecorder, Hello, Said, Spoke
from gateway.core.record import Seam, StreamRecord
from gateway.telemetry.recorder import Recorder
from tests.console.test_api import get, stored

Serve = Callable[..., Awaitable[tuple[Recorder, ClientSession]]]
MakeRecord = Callable[..., StreamRecord]


def said(number: int, text: str = "hello", **fields: Any) -> Said:
    return Said(f"stream-{number}", msgspec.msgpack.encode(Content(prompt=b'{"model":"m"}', text=text, **fields)))


async def test_words_of_an_ended_stream(serve: Serve, make_record: MakeRecord) -> None:
    """Prompt, answer, pace, and who went on at each seam; the record itself and the list say only that there is something."""
    recorder, session = await serve()
    record = make_record(1, content=True)
    record.seams = [Seam(at=record.received_at + 0.5, chunks=1, characters=2, source="a", target="b", why="reset")]
    recorder.receive(Ended(1, record))
    recorder.receive(said(1, cuts=[2, 5], seams=[2]))
    await stored(recorder, 1)
    kept = await get(session, "/api/streams/stream-1/content")
    assert (kept["stream_id"], kept["prompt"], kept["text"], kept["cuts"], kept["seams"]) == (
        "stream-1",
        {"model": "m"},
        "hello",
        [2, 5],
        [2],
    )
    [part] = kept["parts"]
    assert (part["source"], part["target"], part["why"], part["offset"]) == ("a", "b", "reset", pytest.approx(0.5))
    assert (await get(session, "/api/streams/stream-1"))["content"] is True
    for path in ("/api/streams", "/api/streams/stream-1", "/api/live"):
        assert path == "/api/live" or "hello" not in str(await get(session, path))


async def test_words_that_come_after_their_record(serve: Serve, make_record: MakeRecord) -> None:
    """Who asks between the two is answered when the second is there."""
    recorder, session = await serve()
    recorder.receive(Ended(1, make_record(1, content=True)))
    await stored(recorder, 1)
    asking = asyncio.get_running_loop().create_task(get(session, "/api/streams/stream-1/content"))
    await asyncio.sleep(0)
    recorder.receive(said(1))
    assert (await asking)["text"] == "hello"


async def test_why_there_are_none(serve: Serve, make_record: MakeRecord) -> None:
    """Every 404 has its reason."""
    recorder, session = await serve()
    recorder.receive(Ended(1, make_record(1)))
    recorder.receive(Ended(2, make_record(2, content=True)))
    recorder.receive(Begun(make_record(3, ended_at=None), "streaming"))
    await stored(recorder, 2)

    async def why(path: str) -> str:
        return str((await get(session, f"/api/streams/{path}", 404))["error"])

    assert await why("nobody/content") == "no such stream is stored"
    assert await why("stream-1/content") == "content is off for this route"
    assert await why("stream-2/content") == "what this stream said is not stored yet, or was lost on its way"
    assert await why("stream-3/content") == "this stream still runs: /api/streams/stream-3/text says what it says"
    assert await why("stream-3/text") == "content is off for this route"
    assert await why("stream-1/text") == "no such stream runs; what an ended one said is at /api/streams/stream-1/content"
    route = recorder.config.routes[0].model_copy(update={"content": "sampled"})
    recorder.config = recorder.config.model_copy(update={"routes": (route,)})
    assert await why("stream-1/content") == "this stream is not in the sample of its route"


async def test_words_need_the_token(serve: Serve, make_record: MakeRecord) -> None:
    """Where a token is set nobody reads a word without it."""
    recorder, session = await serve(token="secret")
    recorder.receive(Ended(1, make_record(1, content=True)))
    recorder.receive(said(1))
    recorder.receive(Begun(make_record(2, ended_at=None, content=True), "streaming"))
    await stored(recorder, 1)
    for path in ("/api/streams/stream-1/content", "/api/streams/stream-2/text"):
        await get(session, path, 401)
        await get(session, path, 401, Authorization="Bearer wrong")
    assert (await get(session, "/api/streams/stream-1/content", Authorization="Bearer secret"))["text"] == "hello"


class Worker:
    """The worker's end of a slot, by hand."""

    def __init__(self, recorder: Recorder) -> None:
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._sock.setblocking(False)
        self._theirs = theirs
        recorder.connect(theirs, 0)

    def say(self, *messages: Any) -> None:
        self._sock.send(msgspec.msgpack.encode(list(messages)))

    async def heard(self) -> FromRecorder:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(5):
            while True:
                message = msgspec.msgpack.decode(await loop.sock_recv(self._sock, 4096), type=FromRecorder)
                if isinstance(message, Follow):
                    return message

    def close(self) -> None:
        self._sock.close()
        self._theirs.close()


Slot = Callable[[Recorder], Worker]


@pytest.fixture
def slot() -> Iterator[Slot]:
    """Connect workers to a recorder; ask for it before the recorder, which leaves the sockets first."""
    made: list[Worker] = []

    def connect(recorder: Recorder) -> Worker:
        made.append(Worker(recorder))
        return made[-1]

    yield connect
    for worker in made:
        worker.close()


async def events(session: ClientSession, path: str, many: int = 1_000) -> list[Any]:
    """Read so many events of a feed, or all of them to its end."""
    found: list[Any] = []
    async with asyncio.timeout(10), session.get(path) as response:
        assert (response.status, response.headers["Cache-Control"]) == (200, "no-store")
        async for line in response.content:
            if line.startswith(b"data: "):
                found.append(orjson.loads(line[6:]))
            if len(found) >= many:
                break
    return found


async def test_two_read_along(slot: Slot, serve: Serve, make_record: MakeRecord) -> None:
    """The worker tells what is said as long as somebody reads; who comes later is told all of it, and nobody a piece twice."""
    recorder, session = await serve()
    worker = slot(recorder)
    record = make_record(1, ended_at=None, content=True)
    worker.say(Hello(1), Begun(record, "streaming"))
    async with asyncio.timeout(5):
        while not recorder.live.streams:  # noqa: ASYNC110 - the socket's turn
            await asyncio.sleep(0.01)
    loop, path = asyncio.get_running_loop(), "/api/streams/stream-1/text"
    first = loop.create_task(events(session, path))
    assert await worker.heard() == Follow("stream-1", on=True)
    worker.say(Spoke("stream-1", "reasoning", 0, "why? "), Spoke("stream-1", "text", 0, "one "))
    second = loop.create_task(events(session, path))
    assert await worker.heard() == Follow("stream-1", on=True)
    worker.say(Spoke("stream-1", "reasoning", 0, "why? "), Spoke("stream-1", "text", 0, "one tw"), Spoke("stream-1", "text", 6, "o."))
    worker.say(Ended(1, make_record(1, content=True)))
    for found in (await first, await second):
        assert found[-1] == {"over": True}
        assert "".join(event.get("text", "") for event in found) == "one two."
        assert "".join(event.get("reasoning", "") for event in found) == "why? "
    assert len(recorder.readers) == 0


async def test_a_reader_that_leaves_is_told_no_more(slot: Slot, serve: Serve, make_record: MakeRecord) -> None:
    """With the last reader gone the worker is told to keep what is said to itself."""
    recorder, session = await serve()
    worker = slot(recorder)
    worker.say(Hello(1), Begun(make_record(1, ended_at=None, content=True), "streaming"))
    async with asyncio.timeout(5):
        while not recorder.live.streams:  # noqa: ASYNC110 - the socket's turn
            await asyncio.sleep(0.01)
    reading = asyncio.get_running_loop().create_task(events(session, "/api/streams/stream-1/text", 1))
    assert await worker.heard() == Follow("stream-1", on=True)
    worker.say(Spoke("stream-1", "text", 0, "one "))
    assert await reading == [{"text": "one "}]
    worker.say(Spoke("stream-1", "text", 4, "two "))  # a write to who has left is how that is noticed
    assert await worker.heard() == Follow("stream-1", on=False)


def test_a_page_that_joined_in_the_middle_has_no_holes() -> None:
    """Pieces that overlap are joined where they meet; one from behind a gap waits for the beginning, which is told again."""
    page = Page()
    for at, text in ((0, "ab "), (0, "ab cd "), (9, "lost "), (6, "ef "), (3, "cd "), (9, "gh ")):
        page.spoke(Spoke("s", "text", at, text))
    page.over()
    assert page.take() == [{"text": text} for text in ("ab ", "cd ", "ef ", "gh ")]
    assert page.is_over
