"""Two callers at once on one gateway: what one said and heard never reaches the other, in any dialect."""

import asyncio
import random
from typing import Any

import msgspec
import orjson
import pytest

from gateway.core.prompt import Prompt, Text, Turn
from gateway.dialects import DIALECTS
from gateway.sim.provider import Provider
from gateway.sim.tempers import INSTANT

STREAMS, AT_ONCE = 1000, 60
DICE = random.Random(11)


class Parrot(asyncio.Protocol):
    """An upstream whose answer is what it was told, word by word: the caller's own tag, or somebody else's if they are ever mixed."""

    def connection_made(self, transport: Any) -> None:
        self._transport, self._data = transport, b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        if found and len(body) >= length:
            self._data = b""
            self._said = [f"{word} " for word in orjson.loads(body)["messages"][0]["content"].split()]
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            self._say()

    def _say(self) -> None:
        word = self._said.pop(0) if self._said else None
        choice = {"index": 0, "delta": {"content": word} if word else {}, "finish_reason": None if word else "stop"}
        frame = b"data: %b\n\n" % orjson.dumps({"id": "c", "model": "m", "choices": [choice]})
        frame += b"" if word else b"data: [DONE]\n\n"
        self._transport.write(b"%x\r\n%b\r\n" % (len(frame), frame) + (b"" if word else b"0\r\n\r\n"))
        if word:
            asyncio.get_running_loop().call_later(DICE.random() * 0.004, self._say)


@pytest.fixture
async def parrot() -> Any:
    """The base URL of a parrot."""
    server = await asyncio.get_running_loop().create_server(Parrot, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    server.close()


async def test_a_thousand_interleaved_streams_keep_to_themselves(parrot: str, gate: Any, make: Any) -> None:
    """Two keys, every client dialect, connections reused on both sides: each answer holds its own tag alone, whole, in order (F4)."""
    weir = await gate(parrot, usage="leave")
    waiting = asyncio.Semaphore(AT_ONCE)
    idle: list[Any] = []
    dialects = list(DIALECTS)

    async def one(number: int) -> None:
        dialect, tenant = dialects[number % len(dialects)], "ab"[number % 2]
        tags = [f"{tenant}{number}t{word}z" for word in range(6)]
        prompt = Prompt(model="m", stream=True, turns=(Turn("user", (Text(" ".join(tags)),)),), max_tokens=50)
        call, request = make.call(dialect, prompt, {"Authorization": f"Bearer key-{tenant}", "x-weir-session-id": tags[0]})
        async with waiting:
            client = idle.pop() if idle else await weir.client()
            client.reads.clear()
            await client.ask(request).finish(30.0)
            heard = "".join(event.text for event in make.heard(call, client.body) if type(event).__name__ == "Delta")
            assert heard.split() == tags
            assert client.headers["x-weir-stream-id"] not in seen
            seen.add(client.headers["x-weir-stream-id"])
            idle.append(client)

    seen: set[str] = set()
    async with asyncio.TaskGroup() as group:
        for number in range(STREAMS):
            group.create_task(one(number))
    await weir.record(STREAMS)
    assert {record.outcome for record in weir.book.records} == {"completed"}
    assert len({record.stream_id for record in weir.book.records}) == STREAMS
    assert len({record.session_id for record in weir.book.records}) == STREAMS
    assert len(weir.clients) <= AT_ONCE


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_the_same_call_twice_is_two_calls(provide: Any, gate: Any, make: Any, dialect: str) -> None:
    """Nothing is cached: equal words of two callers are two calls of the upstream and two streams (F4)."""
    provider: Provider = await provide(temper=msgspec.structs.replace(INSTANT, tokens=3))
    weir = await gate(provider, dialects=[dialect])
    _, request = make.call(dialect, Prompt(model="m", stream=True, turns=(Turn("user", (Text("hello"),)),), max_tokens=50))
    answers = [await (await weir.client()).ask(request).finish() for _ in range(2)]
    assert provider.total == 2
    assert answers[0].headers["x-weir-stream-id"] != answers[1].headers["x-weir-stream-id"]
    assert answers[0].headers["traceresponse"] != answers[1].headers["traceresponse"]
