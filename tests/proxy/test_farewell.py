"""The end of an answer: a client has to take it, in its own time but not for ever, and an answer it did not take is none that completed."""

import asyncio
from typing import Any

import pytest

from gateway.core.errors import Stopped
from gateway.core.prompt import Prompt, Text, Turn
from gateway.proxy.reply import HIGH_WATER
from gateway.sim.faults import Script
from gateway.sim.plan import head
from gateway.sim.steps import Pause, Reset, Send

HELLO = Prompt(model="m", stream=True, turns=(Turn("user", (Text("hello"),)),), max_tokens=50)
LONG = 3_000_000


async def deaf_at_the_end(provide: Any, gate: Any, make: Any, until: Any, **client: Any) -> Any:
    """A client of Responses that has read a long answer, and then nothing of the last words, which repeat all of it."""
    pieces = [make.event("x" * 20_000) for _ in range(LONG // 20_000)]
    weir = await gate(await provide(make.chunked(make.event(), *pieces, 1.0, Reset())), client=client)
    _, request = make.call("openai-responses", HELLO)
    reader = (await weir.client(buffer=4096)).ask(request)
    await reader.until(lambda: len(reader.body) > LONG)
    reader.transport.pause_reading()
    live = next(iter(weir.plane.live.values()))
    await until(lambda: live.record.outcome == "upstream_truncated", "the upstream has broken off")
    return weir, live


async def test_last_words_that_nobody_takes(provide: Any, gate: Any, make: Any, until: Any) -> None:
    """After `write_timeout` without a byte taken the connection goes, and with it all that was held for the stream (E1b B7)."""
    weir, _ = await deaf_at_the_end(provide, gate, make, until, write_timeout="500ms")
    record = await weir.record()
    assert record.outcome == "upstream_truncated"  # that it failed is what counts, whoever heard of it
    await until(lambda: weir.in_flight() == 0, "nothing is held")


async def test_a_shutdown_does_not_wait_for_who_does_not_listen(provide: Any, gate: Any, make: Any, until: Any) -> None:
    """A stream whose last words are on their way can be ended like any other (B9)."""
    weir, live = await deaf_at_the_end(provide, gate, make, until)
    live.end_early(Stopped("the gateway is shutting down"))
    assert (await weir.record()).outcome == "upstream_truncated"
    await until(lambda: weir.in_flight() == 0, "nothing is held")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_with_much_of_its_answer_not_taken(provide: Any, gate: Any, make: Any, until: Any, stream: bool) -> None:
    """The upstream has said all of it, and most of it waits here: the client has not had its answer (A17 B1)."""
    body = b"".join(make.event("x" * 1000) for _ in range(6000)) + make.event(finish="stop") + b"data: [DONE]\n\n"
    media_type = "text/event-stream" if stream else "application/json"
    provider = await provide(Script((Send(head(200, {"Content-Type": media_type}, len(body)) + body), Pause(0.3))))
    weir = await gate(provider)
    client = await weir.client(buffer=2048)
    client.transport.pause_reading()
    client.ask(make.request(stream=stream))
    await until(lambda: weir.plane.watch.watched and next(iter(weir.plane.live.values())).ledger.owner == "client_blocked")
    await asyncio.sleep(0.2)
    client.reset()
    assert (await weir.record()).outcome == "client_disconnect"


class Dripping:
    """An upstream that says an event every now and then until it is told to end."""

    def __init__(self, make: Any) -> None:
        self._make, self.enough = make, asyncio.Event()

    async def start(self) -> "Dripping":
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        for _ in range(5000):
            if self.enough.is_set():
                break
            writer.write(self._make.event("x" * 8000))
            await asyncio.sleep(0.002)
        writer.write(self._make.event(finish="stop") + b"data: [DONE]\n\n")
        await writer.drain()
        writer.close()

    async def close(self) -> None:
        self._server.close()
        await self._server.wait_closed()


async def test_what_is_left_with_us_is_not_delivered(gate: Any, make: Any, until: Any) -> None:
    """While the last bytes of an answer wait in our own buffer, few as they are, it is not over: with us they would be lost (A17 B1)."""
    upstream = await Dripping(make).start()
    weir = await gate(upstream)
    client = await weir.client(buffer=2048)
    client.transport.pause_reading()
    client.ask(make.request())
    await until(lambda: weir.plane.live, "it begins")
    [live] = weir.plane.live.values()
    waiting = live.reply.transport.get_write_buffer_size
    await until(waiting, "the kernel takes no more")
    upstream.enough.set()
    await until(lambda: live.record.outcome == "completed", "the upstream has ended")
    assert 0 < waiting() <= HIGH_WATER
    await asyncio.sleep(0.1)
    assert not weir.book.records
    client.transport.resume_reading()
    assert (await weir.record()).outcome == "completed"
    assert waiting() == 0
    await client.finish()
    await upstream.close()
