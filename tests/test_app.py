"""The worker as its embedder sees it: start, heartbeat, what it serves besides calls, close."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from gateway.app import Worker
from gateway.config import Config
from gateway.core.messages import Begun, Ended, FromWorker, Pulse
from gateway.sim.faults import Always, NeverEnding
from gateway.sim.provider import Provider
from gateway.sim.tempers import INSTANT
from gateway.telemetry.link import DirectLink

PATIENCE = 20.0
CALL = {"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": "hello"}]}


class Embedded:
    """A worker of two routes over one provider, everything it told, and a client for it."""

    def __init__(self, provider: Provider) -> None:
        upstream = {"base_url": provider.base_url}
        targets = [{"upstream": "sim", "model": "sim-small"}]
        routes = [
            {"name": "exact", "match": {"models": ["gpt-4o", "gpt-4o-mini"]}, "targets": targets},
            {"name": "rest", "match": {"models": ["sim-*"]}, "targets": targets},
        ]
        self.told: list[FromWorker] = []
        self.worker = Worker(Config.model_validate({"upstreams": {"sim": upstream}, "routes": routes}), DirectLink(self.told.append))
        self.url = ""

    async def start(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        await self.worker.start(listener)

    def of(self, kind: type[Any]) -> list[Any]:
        return [message for message in self.told if type(message) is kind]


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    provider = Provider(INSTANT)
    await provider.start()
    yield provider
    await provider.close()


@pytest.fixture
async def embedded(provider: Provider) -> AsyncIterator[Embedded]:
    embedded = Embedded(provider)
    await embedded.start()
    yield embedded
    await embedded.worker.close()
    await embedded.worker.close()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_models(embedded: Embedded, http: aiohttp.ClientSession) -> None:
    """The models that may be asked for by name, and those behind a pattern."""
    async with http.get(f"{embedded.url}/v1/models") as answer:
        document = await answer.json()
    assert [model["id"] for model in document["data"]] == ["gpt-4o", "gpt-4o-mini", "sim-small"]
    assert {(model["object"], model["owned_by"]) for model in document["data"]} == {("model", "weir")}


async def test_health(embedded: Embedded, http: aiohttp.ClientSession) -> None:
    """Alive and ready, and neither counts as a call."""
    for path, status in (("/livez", "alive"), ("/readyz", "ready")):
        async with http.get(embedded.url + path) as answer:
            assert (answer.status, await answer.json()) == (200, {"status": status})
    assert not embedded.of(Ended)


async def test_the_heartbeat(embedded: Embedded, http: aiohttp.ClientSession) -> None:
    """Once a second: streams, the loop's lateness, every target called so far."""
    first = embedded.of(Pulse)[0]
    assert (first.streams, first.targets) == (0, [])
    async with http.post(f"{embedded.url}/v1/chat/completions", json=CALL) as answer:
        await answer.read()
    before = embedded.of(Pulse)
    async with asyncio.timeout(PATIENCE):
        while len(embedded.of(Pulse)) == len(before):  # noqa: ASYNC110 - told by another task of this loop
            await asyncio.sleep(0.01)
    pulse = embedded.of(Pulse)[len(before)]
    assert 0.9 < pulse.at - before[-1].at < 5
    [target] = pulse.targets
    assert (target.upstream, target.model, target.in_flight, target.breaker) == ("sim", "sim-small", 0, "closed")
    assert (pulse.oldest_gap, 0 <= pulse.loop_lag < 5, set(pulse.dropped.values())) == (0.0, True, {0})


async def test_a_recorder_born_late_is_told_who_lives(embedded: Embedded, provider: Provider, http: aiohttp.ClientSession) -> None:
    """`live` names each stream under way once, as it began."""
    provider.faults = Always(NeverEnding())
    async with http.post(f"{embedded.url}/v1/chat/completions", json=CALL) as answer:
        await answer.content.readany()
        [live] = embedded.worker.live()
        assert live.record.stream_id == embedded.of(Begun)[0].record.stream_id == answer.headers["x-weir-stream-id"]
        answer.close()
    async with asyncio.timeout(PATIENCE):
        while not embedded.of(Ended):  # noqa: ASYNC110 - told by another task of this loop
            await asyncio.sleep(0.01)
    assert embedded.worker.live() == []


async def test_a_recorder_that_fails_harms_no_stream(provider: Provider, http: aiohttp.ClientSession) -> None:
    """Law 5: whatever the recorder does with what it is told, the stream does not notice; the loss is counted (E4)."""
    embedded = Embedded(provider)

    def fail(message: FromWorker) -> None:
        raise RuntimeError(message)

    embedded.worker = Worker(embedded.worker.config, link := DirectLink(fail))
    await embedded.start()
    async with http.post(f"{embedded.url}/v1/chat/completions", json=CALL) as answer:
        assert (await answer.read()).endswith(b"data: [DONE]\n\n")
    await embedded.worker.close()
    assert {kind: count for kind, count in link.dropped.items() if count and kind != "pulse"} == {"begun": 1, "moved": 1, "ended": 1}


async def test_closing_an_idle_worker_frees_everything(provider: Provider, http: aiohttp.ClientSession) -> None:
    """After `close` nothing listens, beats or holds a connection, and closing again is nothing."""
    embedded = Embedded(provider)
    await embedded.start()
    async with http.post(f"{embedded.url}/v1/chat/completions", json=CALL) as answer:
        await answer.read()
    await embedded.worker.close()
    await embedded.worker.close()
    with pytest.raises(aiohttp.ClientConnectionError):
        await http.get(embedded.url)
    async with asyncio.timeout(PATIENCE):
        while provider.connections:  # noqa: ASYNC110 - the other end of a socket
            await asyncio.sleep(0.01)
    assert embedded.worker.plane.pools["sim"]._idle == {}
