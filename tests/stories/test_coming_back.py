"""Stories of coming back: two workers share a port, and a client that reaches the wrong one gets its stream all the same."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.sim.faults import Always, Script
from gateway.sim.steps import Pause, Send, framed
from tests.rig.client import Client
from tests.rig.held import Held
from tests.rig.makers import Makers

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
Fixture = Callable[..., Any]
PAGE = Path(__file__).parents[2] / "docs" / "resumable.md"
TRIES = 40
"""Connections after which both of two workers have been reached, but for one chance in 2^39."""


@pytest.fixture
async def ask() -> AsyncIterator[Fixture]:
    """Send a request on a raw connection of its own; all are closed in the end."""
    clients: list[Client] = []

    async def send(gateway: Any, request: bytes) -> Client:
        _, client = await asyncio.get_running_loop().create_connection(Client, *gateway.address)
        clients.append(client)
        return client.ask(request)

    yield send
    for client in clients:
        client.transport.abort()
        await client.gone()


def get(stream_id: str, last: int) -> bytes:
    return f"GET /v1/streams/{stream_id} HTTP/1.1\r\nHost: weir\r\nLast-Event-ID: {last}\r\nx-api-key: one\r\n\r\n".encode()


def handed_on(client: Client) -> bool:
    """Tell whether another worker than the stream's has answered: it closes the connection after what it passes on."""
    return client.headers.get("connection") == "close"


async def elsewhere(ask: Fixture, gateway: Any, stream_id: str, last: int) -> Client:
    """Come back by way of the other worker."""
    for _ in range(TRIES):
        client = await ask(gateway, get(stream_id, last))
        await client.until(lambda client=client: client.headers)
        if handed_on(client):
            return client
        client.reset()
        await client.gone()
    raise AssertionError("the other worker was never reached")


async def test_by_way_of_either_worker(weir: Fixture, provide: Fixture, ask: Fixture, eventually: Fixture) -> None:
    """Broken off again and again, come back through whichever worker takes the connection: not a byte is lost, one record is told."""
    held = Held(gap=0.02)
    provider = await provide(faults=Always(held.script))
    gateway = await weir({"a": provider}, server={"workers": 2}, route={"client": {"on_disconnect": "drain"}, "usage": "leave"})
    client = await ask(gateway, Makers.request({"x-api-key": "one"}))
    await client.saw(b"id: 2\n")
    stream_id, heard, ways, returns = client.headers["x-weir-stream-id"], b"", set[bool](), 0
    while returns < 4 or (len(ways) < 2 and returns < TRIES):
        await client.until(lambda client=client: client.body.count(b"\nid: ") > 2)
        client.reset()
        heard += client.body[: client.body.rfind(b"\n\n") + 2]
        client = await ask(gateway, get(stream_id, heard.count(b"\nid: ")))
        await client.until(lambda client=client: client.pieces)
        ways.add(handed_on(client))
        returns += 1
    held.release()
    await client.finish(30.0)
    heard += client.body
    assert (ways, client.complete) == ({True, False}, True)
    [body] = held.bodies
    numbered = body.replace(b"\n\n", b"\nid: %d\n\n") % tuple(range(1, body.count(b"\n\n") + 1))
    assert heard == numbered
    [told] = await gateway.told(1)
    assert (told["outcome"], provider.total) == ("completed", 1)
    again = await elsewhere(ask, gateway, stream_id, 0)
    await again.finish()
    assert again.body == numbered

    async def counted() -> bool:
        return bool((await gateway.scrape()).sum("weir_reconnects_total", route="chat") > returns)

    await eventually(counted, "those who came back are counted")
    assert (await gateway.scrape()).sum("weir_stream_mutations_total", kind="event_id") == numbered.count(b"\nid: ")


async def test_a_slow_reader_is_waited_for_across_workers(weir: Fixture, provide: Fixture, ask: Fixture, eventually: Fixture) -> None:
    """A client that takes nothing of a stream of the other worker makes the upstream wait; when it reads on, nothing is missing."""
    event = Send(b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % (b"x" * 30_000), "body")
    provider = await provide(faults=Always(Script((Send(HEAD), *framed([event, Pause(0.002)] * 3000)))))
    gateway = await weir({"a": provider}, server={"workers": 2}, route={"client": {"on_disconnect": "drain", "tape": "64MiB"}})
    first = await ask(gateway, Makers.request({"x-api-key": "one"}))
    await first.saw(b"id: 2\n")
    first.transport.pause_reading()
    slow = await elsewhere(ask, gateway, first.headers["x-weir-stream-id"], 2)
    slow.transport.pause_reading()
    sent = -1

    async def still() -> bool:
        nonlocal sent
        before, sent = sent, provider.requests[0].bytes_sent
        await asyncio.sleep(0.3)
        return before == sent

    await eventually(still, "the upstream waits")
    had = len(slow.body)
    slow.transport.resume_reading()
    await slow.until(lambda: len(slow.raw) > had + (8 << 20))
    numbers = [int(part.partition(b"\n")[0]) for part in slow.body.split(b"\nid: ")[1:]]
    assert numbers == list(range(3, 3 + len(numbers)))
    assert not provider.requests[0].closed_by
    slow.reset()
    await eventually(lambda: provider.open_streams == 0, "what nobody hears is as long as the tape, and no longer")


@pytest.fixture
async def tunnel() -> AsyncIterator[Fixture]:
    """Lead to a gateway by a way on which every connection breaks after so many bytes of answer."""
    servers: list[asyncio.Server] = []
    carriers: list[Any] = []

    async def build(gateway: Any, size: int) -> str:
        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            theirs, ours = await asyncio.open_connection(*gateway.address)
            loop = asyncio.get_running_loop()
            ways = {loop.create_task(pump(reader, ours, 1 << 30)), loop.create_task(pump(theirs, writer, size))}
            carriers.append(asyncio.current_task())
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                ours.transport.abort()
                writer.transport.abort()

        servers.append(await asyncio.start_server(carry, "127.0.0.1", 0))
        return f"http://127.0.0.1:{servers[-1].sockets[0].getsockname()[1]}"

    yield build
    for server in servers:
        server.close()
        await server.wait_closed()
    await asyncio.wait_for(asyncio.gather(*carriers, return_exceptions=True), 5.0)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int) -> None:
    with contextlib.suppress(OSError):
        while left > 0 and (data := await reader.read(min(left, 1000))):
            writer.write(data)
            left -= len(data)


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
async def test_the_client_of_the_page(
    weir: Fixture, provide: Fixture, speech: Fixture, tunnel: Fixture, eventually: Fixture, tmp_path: Path
) -> None:
    """The client that docs/resumable.md shows tells the whole story over connections that keep breaking."""
    [example] = re.findall(r"```js\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "answer.mjs").write_text(example)
    _, script = speech(100, 0.01)
    gateway = await weir({"a": await provide(faults=Always(script))}, server={"workers": 2})
    way = await tunnel(gateway, 6000)
    node = await asyncio.create_subprocess_exec("node", tmp_path / "answer.mjs", env={**os.environ, "WEIR": way}, stdout=subprocess.PIPE)
    said, _ = await asyncio.wait_for(node.communicate(), 30.0)
    assert said.decode().split() == [f"w{number}" for number in range(100)]
    [told] = await gateway.told(1)
    assert told["outcome"] == "completed"

    async def counted() -> bool:
        return bool((await gateway.scrape()).sum("weir_reconnects_total", route="chat") >= 2)

    await eventually(counted, "it came back more than once")


async def test_a_worker_that_died_takes_its_tapes_along(weir: Fixture, provide: Fixture, ask: Fixture, eventually: Fixture) -> None:
    """Whoever asks for a stream of a worker that is no more hears that there is no such stream, and does not wait for it."""
    faults, route = Always(Held().script), {"client": {"on_disconnect": "drain"}}
    gateway = await weir({"a": await provide(faults=faults)}, server={"workers": 2}, route=route)
    client = await ask(gateway, Makers.request({"x-api-key": "one"}))
    await client.saw(b"id: 2\n")
    stream_id = client.headers["x-weir-stream-id"]

    async def known() -> Any:
        told = await gateway.ask(f"/api/streams/{stream_id}")
        return told if "worker" in told else None

    slot = (await eventually(known, "the stream is told"))["worker"]
    [owner] = [worker["pid"] for worker in (await gateway.ask("/healthz"))["workers"] if worker["worker"] == slot]
    assert owner in gateway.living()
    os.kill(owner, signal.SIGKILL)
    await client.gone()
    for _ in range(6):
        refused = await ask(gateway, get(stream_id, 2))
        await refused.finish()
        assert (refused.status, refused.document["error"]["code"]) == (404, "unknown_stream")


async def test_a_guessed_number_of_a_worker_that_is_not_there(weir: Fixture, provide: Fixture, ask: Fixture, eventually: Fixture) -> None:
    """Half of all numbers have no process until workers are replaced, the other half none after that: 404 at once, and no line of log."""
    gateway = await weir({"a": await provide()}, server={"workers": 2})

    async def waited() -> int:
        """Guess sixty times, and return how many had to wait; one that waits for nobody takes 5 s."""
        long = 0
        for number in range(60):
            started = time.monotonic()
            refused = await ask(gateway, get(f"{'0' * 28}{number % 6:04x}", 0))
            await refused.finish()
            assert (refused.status, refused.document["error"]["code"]) == (404, "unknown_stream")
            refused.reset()
            long += time.monotonic() - started > 4.0
        return long

    assert await waited() <= 1
    before = set(await gateway.workers())
    os.kill(gateway.pid, signal.SIGUSR2)

    async def replaced() -> bool:
        now = set(await gateway.workers())
        return len(now) == 2 and not now & before

    await eventually(replaced, "two others serve")
    assert await waited() <= 1
    assert "broke" not in gateway.err
