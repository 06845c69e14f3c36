"""Clients that leave at any moment, in any dialect, and clients that ask for what is not there: no traceback, no hang, one account each."""

import asyncio
import gc
import logging
import random
from typing import Any

import msgspec
import pytest

from gateway.core.prompt import Prompt, Text, Turn
from gateway.dialects import DIALECTS
from gateway.sim.tempers import INSTANT

LEAVING, AT_ONCE = 1000, 50
DICE = random.Random(7)
TEMPER = msgspec.structs.replace(INSTANT, ttft=0.004, gap=0.002, tokens=1000)
HANDSHAKE = (
    "Host: w\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)


async def test_a_thousand_clients_leave_at_random(provide: Any, gate: Any, make: Any, until: Any, caplog: pytest.LogCaptureFixture) -> None:
    """In the head, in the body, before the first byte, in the middle, by FIN or RST: nothing is logged, each stream has one end (G5 B1)."""
    caplog.set_level(logging.DEBUG)
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, said: complaints.append(said))
    provider = await provide(temper=TEMPER)
    weir = await gate(provider, dialects=["openai"])
    waiting = asyncio.Semaphore(AT_ONCE)
    dialects = list(DIALECTS)

    async def one(number: int) -> None:
        moment = ("in the request", "at once", "at the first token", "any time")[number % 4]
        prompt = Prompt(model="m", stream=moment == "at the first token" or number % 5 > 0, turns=(Turn("user", (Text("hello"),)),))
        _, request = make.call(dialects[number % len(dialects)], prompt)
        async with waiting:
            client = await weir.client()
            client.ask(request[: DICE.randrange(1, len(request))] if moment == "in the request" else request)
            if moment == "at the first token":
                await client.until(lambda: client.pieces)
            elif moment == "any time":
                await asyncio.sleep(DICE.random() * 0.03)
            (client.reset if number % 3 else client.close)()

    async with asyncio.TaskGroup() as group:
        for number in range(LEAVING):
            group.create_task(one(number))
    await until(lambda: weir.in_flight() == 0, "every stream has ended")
    await until(lambda: provider.open_streams == 0, "every upstream is closed")
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []
    told = [record.getMessage() for record in caplog.records if record.name.startswith(("weir", "aiohttp", "asyncio"))]
    assert [line for line in told if "Traceback" in line or "never retrieved" in line] == []
    assert [record for record in caplog.records if record.exc_info or record.levelno > logging.DEBUG] == []
    assert len(told) <= LEAVING
    records = weir.book.records
    assert {record.outcome for record in records} == {"client_disconnect"}
    assert len(records) >= LEAVING / 4
    assert len({record.stream_id for record in records}) == len(records)
    assert [target.last_error for target in weir.targets()] == [None]


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_an_upgrade_where_there_is_none(provide: Any, gate: Any, dialect: str) -> None:
    """Every path of every dialect but one answers a WebSocket handshake with 501, in words, and closes; nothing hangs (G7)."""
    weir = await gate(await provide(), dialects=[dialect])
    paths = {endpoint.path for endpoint in DIALECTS[dialect].endpoints} | set(DIALECTS[dialect].models_paths)
    for path in sorted(paths | {"/livez", "/v1/nowhere"}):
        for method in ("GET", "POST"):
            target = path.replace("{", "").replace("}", "")
            client = await (await weir.client()).ask(f"{method} {target} HTTP/1.1\r\n{HANDSHAKE}\r\n".encode()).gone()
            assert (path, client.status, client.complete) == (path, 501, True)
            assert "WebSocket" in client.body.decode()
    assert weir.book.records == []


@pytest.mark.parametrize(
    "head", ["Upgrade: h2c\r\nConnection: Upgrade\r\n", "Connection: Upgrade\r\n", "Upgrade: TLS/1.3\r\n", "Upgrade: \r\n"]
)
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_an_upgrade_to_anything_else_is_not_taken_up(provide: Any, gate: Any, make: Any, dialect: str, head: str) -> None:
    """A server may ignore what it does not know: the call is served as the HTTP/1.1 that it is (G7)."""
    weir = await gate(await provide(), dialects=[dialect])
    _, request = make.call(dialect, Prompt(model="m", stream=True, turns=(Turn("user", (Text("hello"),)),), max_tokens=50))
    client = await (await weir.client()).ask(request.replace(b"Host: weir\r\n", b"Host: weir\r\n" + head.encode())).finish()
    assert (client.status, client.complete) == (200, True)


async def test_realtime_without_a_handshake(provide: Any, gate: Any) -> None:
    """The one path that takes WebSockets says so: 426 with what to upgrade to (G7)."""
    weir = await gate(await provide())
    client = await (await weir.client()).ask(b"GET /v1/realtime?model=m HTTP/1.1\r\nHost: w\r\n\r\n").gone()
    assert (client.status, client.headers["upgrade"], client.headers["sec-websocket-version"]) == (426, "websocket", "13")
    assert (await weir.record()).outcome == "rejected"
