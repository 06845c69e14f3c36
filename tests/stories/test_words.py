"""Stories of what was said: kept where a route says so, read while it is said, found nowhere else; over the real program."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import orjson

from gateway.sim.faults import Always, ByModel
from tests.rig.held import Held
from tests.stories.conftest import eventually, speech

Fixture = Callable[..., Any]


async def words(gateway: Any, stream_id: str) -> tuple[int, Any]:
    """Return the answer of the content path."""
    async with httpx.AsyncClient(base_url=gateway.admin_url, trust_env=False) as admin:
        answer = await admin.get(f"/api/streams/{stream_id}/content")
        assert answer.headers["cache-control"] == "no-store"
        return answer.status_code, answer.json()


async def read_along(gateway: Any, stream_id: str, began: Callable[[str], None] = lambda _: None) -> list[dict[str, Any]]:
    """Return every event of the text path, which must end by itself; `began` is told the text so far."""
    events: list[dict[str, Any]] = []
    async with (
        httpx.AsyncClient(base_url=gateway.admin_url, trust_env=False, timeout=30.0) as admin,
        admin.stream("GET", f"/api/streams/{stream_id}/text") as answer,
    ):
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                events.append(orjson.loads(line[6:]))
                began("".join(event.get("text", "") for event in events))
    return events


async def test_what_was_said_can_be_read_again(weir: Fixture, provide: Fixture, client: Fixture) -> None:
    """Text, prompt and pace of an ended stream are answered where they are asked for, and stand in no other answer."""
    body, script = speech(3000, 0.0)
    gateway = await weir({"a": await provide(faults=ByModel({"m": script}))}, route={"content": "full"})
    answer = await client(gateway).ask()
    assert answer.body == body
    [row] = await gateway.told(1)
    text = "".join(f"w{number} " for number in range(3000))
    status, kept = await words(gateway, row["stream_id"])
    assert (status, kept["text"], kept["cut"]) == (200, text, False)
    assert kept["prompt"]["messages"] == [{"role": "user", "content": "hello"}]
    record = await gateway.ask(f"/api/streams/{row['stream_id']}")
    assert record["content"] is True
    assert len(kept["cuts"]) == len(record["cadence"]["ticks"])
    assert kept["cuts"][-1] == len(text) or len(kept["cuts"]) == 4096
    assert text[:20] not in str(record)
    assert (await words(gateway, "nobody"))[0] == 404


async def test_a_route_that_keeps_nothing_says_so(weir: Fixture, provide: Fixture, client: Fixture) -> None:
    """Where content is off there is nothing to read, of an ended stream and of a running one, and the answer says why."""
    held = Held()
    gateway = await weir({"a": await provide(faults=ByModel({"held": held.script}))})
    await client(gateway).ask()
    [row] = await gateway.told(1)
    assert await words(gateway, row["stream_id"]) == (404, {"error": "content is off for this route"})
    running = asyncio.get_running_loop().create_task(client(gateway).ask("held"))
    [live] = await gateway.speaking()
    assert await gateway.ask(f"/api/streams/{live['stream_id']}/text") == {"error": "content is off for this route"}
    held.release()
    await running


async def held_stream(gateway: Any) -> str:
    """Return the id of the stream that runs."""
    [row] = await gateway.speaking()
    return str(row["stream_id"])


def told_of(held: Held) -> str:
    """Return the words of the one answer that was given; before them it names the role, after them it says twice that it is over."""
    [run] = held.runs
    return "".join(orjson.loads(frame[6:])["choices"][0]["delta"]["content"] for frame in run[1:-2])


async def test_a_running_stream_is_read_as_it_speaks(weir: Fixture, provide: Fixture, client: Fixture) -> None:
    """Who comes late gets all of it from the beginning and then each piece as it is said; two readers get the same; then it is over."""
    held, loop = Held(), asyncio.get_running_loop()
    gateway = await weir({"a": await provide(faults=Always(held.script))}, route={"content": "full"})
    running = loop.create_task(client(gateway).ask())
    stream_id = await held_stream(gateway)
    assert (await words(gateway, stream_id))[0] == 404
    so_far: tuple[list[str], list[str]] = ([], [])
    first = loop.create_task(read_along(gateway, stream_id, so_far[0].append))
    await eventually(lambda: so_far[0] and "w20 " in so_far[0][-1], "a part of it is read")
    second = loop.create_task(read_along(gateway, stream_id, so_far[1].append))
    await eventually(lambda: len(so_far[1]) > 2, "another reads all that was said, and then each piece")
    assert "w20 " in so_far[1][0]
    assert not running.done()
    held.release()
    await running
    text = told_of(held)
    for events in (await first, await second):
        assert events[-1] == {"over": True}
        assert "".join(event.get("text", "") for event in events) == text
    await gateway.told(1)
    assert (await words(gateway, stream_id))[1]["text"] == text
    assert (await gateway.ask(f"/api/streams/{stream_id}/text"))["error"].startswith("no such stream runs")


async def test_a_key_that_a_model_repeats_is_not_shown(weir: Fixture, provide: Fixture, client: Fixture) -> None:
    """Neither to who reads along nor in the store, however the key was cut into tokens; the client has what its provider said."""
    key = "sk-" + "AbCdEfGh12345678" * 2
    pieces = ["your ", "key is ", key[:2], key[2:10], key[10:25], key[25:], " indeed"]
    held, loop = Held(gap=0.2, ending=pieces), asyncio.get_running_loop()
    gateway = await weir({"a": await provide(faults=Always(held.script))}, route={"content": "full"})
    running = loop.create_task(client(gateway).ask())
    so_far: list[str] = []
    reading = loop.create_task(read_along(gateway, await held_stream(gateway), so_far.append))
    await eventually(lambda: so_far, "somebody reads along")
    held.release()
    assert key[10:25].encode() in (await running).body
    text = told_of(held).replace(key, "[redacted]")
    assert text.endswith("your key is [redacted] indeed")
    assert "".join(event.get("text", "") for event in await reading) == text
    [row] = await gateway.told(1)
    _, kept = await words(gateway, row["stream_id"])
    assert kept["text"] == text
    assert kept["cuts"][-1] == len(text)
