"""What clients and upstreams make up grows nothing: ten thousand names leave metrics, caches and registries as they are."""

import asyncio
import random
import re
import string
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import orjson
import pytest

from gateway.core.messages import Ended
from gateway.core.prompt import Prompt, Text, Turn
from gateway.dialects import DIALECTS
from gateway.proxy.headers import _is_forwarded, _is_returned, _tag, of_this_hop
from gateway.proxy.plane import MAX_MODEL
from gateway.proxy.setup import REMEMBERED_MODELS
from gateway.routing.health import MOST_KEYS
from gateway.telemetry.link import LARGEST
from gateway.telemetry.recorder import Recorder

DICE = random.Random(4)
HELLO = Prompt(model="m", stream=False, turns=(Turn("user", (Text("hello"),)),), max_tokens=50)
BATCH = 250


def word() -> str:
    """Return a name nobody has said before."""
    return "".join(DICE.choices(string.ascii_lowercase + string.digits + "._-", k=24)).strip(".") + "x"


def series(recorder: Recorder) -> dict[str, int]:
    """Return how many series each metric has."""
    return {family.instrument.name: len(family.values) + len(family.histograms) for family in recorder.collect()}


async def flood(weir: Any, requests: list[bytes]) -> None:
    """Send requests over a few connections, many in a packet, and read all answers."""
    for start in range(0, len(requests), BATCH):
        some = requests[start : start + BATCH]
        reader, writer = await asyncio.open_connection("127.0.0.1", weir.port)
        writer.write(b"".join(some))
        for _ in some:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30.0)
            length = re.search(rb"(?i)content-length: (\d+)", head)
            assert length is not None
            await reader.readexactly(int(length[1]))
        writer.close()


@pytest.fixture
async def recorder(gate: Any) -> AsyncIterator[Callable[[Any], Awaitable[Recorder]]]:
    """Return recorders that hear what a worker tells."""
    made: list[Recorder] = []

    async def hear(weir: Any) -> Recorder:
        made.append(Recorder(weir.worker.config))
        await made[-1].start()
        weir.book.readers.append(made[-1].receive)
        return made[-1]

    yield hear
    for one in made:
        await one.close()


async def test_ten_thousand_names_are_one_more_series(provide: Any, gate: Any, make: Any, recorder: Any) -> None:
    """Random models, served and not, paths and headers: no metric grows by more than one series, no cache beyond its bound (F3)."""
    weir = await gate(await provide(), match={"models": ["known", "wild-*"]})
    told = await recorder(weir)
    fixed = {"stream": False, "messages": [{"role": "user", "content": "hello"}]}
    await flood(weir, [make.request(model=name, **fixed) for name in ("known", "wild-one", "nobody")] + [make.request(path="/v1/nowhere")])
    await weir.record(3)
    before = series(told)
    odd = [make.request({f"anthropic-{word()}": word()}, model="wild-" + word(), **fixed) for _ in range(500)]
    odd += [make.request({f"x-weir-tag-{word()}": word(), "x-weir-session-id": word()}, model=word(), **fixed) for _ in range(3500)]
    odd += [make.post(b"{}", f"/v1/{word()}?{word()}={word()}") for _ in range(5000)]
    odd += [make.post(b"{}", f"/v1beta/models/{word()}:{word()}", {"Connection": word()}) for _ in range(1000)]
    DICE.shuffle(odd)
    await flood(weir, odd)
    await weir.record(4003)
    grown = {name: count - before.get(name, 0) for name, count in series(told).items()}
    assert {name: more for name, more in grown.items() if more > 1} == {}
    [streams] = [family for family in told.collect() if family.instrument.name == "weir_streams_total"]
    assert sum(count for _, count in streams.values) == 4003
    assert len(weir.plane.setup._routes) <= REMEMBERED_MODELS
    assert len(weir.targets()) <= MOST_KEYS
    assert weir.plane.live == {}
    assert weir.plane.watch.watched == set()
    assert all(cache.cache_info().currsize <= 1024 for cache in (_is_forwarded, _is_returned, _tag, of_this_hop))


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_what_an_upstream_calls_itself_is_no_label(provide: Any, gate: Any, make: Any, recorder: Any, dialect: str) -> None:
    """The model an answer names, its id, its reason to end and its errors are in the record, bounded, and in no metric (F3)."""
    weir = await gate(await provide(), dialects=[dialect])
    told = await recorder(weir)
    _, request = make.call(dialect, HELLO)
    await (await weir.client()).ask(request).finish()
    record = await weir.record()
    before: dict[str, int] = {}
    for number in range(500):
        made_up = msgspec.structs.replace(
            record,
            stream_id=f"s{number}",
            served_model=word(),
            response_id=word(),
            finish=[word()],
            error=word(),
            tenant=word(),
            route=word(),
        )
        told.receive(Ended(number + 2, made_up))
        before = before or series(told)  # the first one is `other`, `unmatched` and `none`, as all that follow
    assert series(told) == before


@pytest.mark.parametrize("said", ["x" * 1_000_000, "a\x00b" * 1000, "\ud800" * 5000])
async def test_what_an_upstream_says_of_itself_is_bounded(provide: Any, gate: Any, make: Any, said: str) -> None:
    """Id, model, reason to end, error code: whatever their length, the record keeps a few hundred characters of each (F3 F5)."""
    chunk = {"id": said, "model": said, "choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": said}]}
    body = b"data: %b\n\ndata: %b\n\n" % (_json(chunk), _json({"error": {"message": said, "code": said, "type": said}}))
    weir = await gate(await provide(make.chunked(body)))
    await weir.fetch()
    record = await weir.record()
    assert len(msgspec.msgpack.encode(record)) < 6000
    assert record.error is None or len(record.error) <= 64


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:
        import json  # noqa: PLC0415 - the only one that writes half characters

        return json.dumps(value).encode()


async def test_a_name_as_long_as_a_book(provide: Any, gate: Any, until: Any) -> None:
    """It is refused before anything is kept of it: what a worker says of itself once a second stays small enough to be said (F3)."""
    provider = await provide()
    weir = await gate(provider)
    refused = await weir.fetch(model="m" * 70_000)
    longest = await weir.fetch(model="é" * (MAX_MODEL // 2))
    assert (refused.status, refused.document["error"]["code"], longest.status, provider.total) == (400, "invalid_model", 200, 1)
    assert [record.outcome for record in weir.book.records] == ["rejected", "completed"]
    for number in range(MOST_KEYS + 10):
        await weir.fetch(model=f"{number:0{MAX_MODEL}}")
    assert len(msgspec.msgpack.encode(weir.targets())) < LARGEST
