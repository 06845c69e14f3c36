"""A configuration swapped in place: new calls go by the new one, streams under way end by the old, and what has not changed is kept."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from gateway.config import Config
from gateway.core.errors import Aborted
from gateway.core.messages import Abort
from gateway.dialects import DIALECTS
from gateway.proxy.setup import Setup
from gateway.sim.faults import NeverEnding, SlowFirstToken, Stall
from gateway.sim.tempers import Temper
from tests.rig.rounds import judged_in_rounds

DONE = b"data: [DONE]\n\n"


def written(upstreams: Mapping[str, Any], targets: list[str], **parts: Any) -> Config:
    """Return a configuration of one route to these targets, with these upstreams (name to keys)."""
    route = {"name": "chat", "policy": "priority", "targets": [{"upstream": name, "priority": n} for n, name in enumerate(targets)]}
    telemetry = {"store": {"path": "off"}, "access_log": "off"}
    return Config.model_validate({"upstreams": dict(upstreams), "routes": [route | parts.pop("route", {})], "telemetry": telemetry} | parts)


async def test_a_live_stream_ends_on_the_old_and_the_next_call_takes_the_new(provide: Any, gate: Any, make: Any) -> None:
    """The upstream that a reload has taken out serves its stream to the end, and gets no call any more (G4)."""
    old, new = await provide(Stall(after=1, length=0.4)), await provide()
    weir = await gate(old)
    running = await (await weir.ask()).saw(b"content")
    await weir.worker.swap(written({"b": {"base_url": new.base_url}}, ["b"]))
    for _ in range(5):
        client = await weir.fetch()
        assert (client.headers["x-weir-upstream"], client.body.endswith(DONE)) == ("b", True)
    await running.finish()
    assert running.body.endswith(DONE)
    assert (old.total, new.total) == (1, 5)
    assert {record.outcome for record in weir.book.records} == {"completed"}


async def test_a_call_is_routed_by_the_configuration_it_is_routed_under(provide: Any, gate: Any, make: Any) -> None:
    """A call that was still being uploaded during the swap is not sent to an upstream that is no more."""
    old, new = await provide(), await provide()
    weir = await gate(old)
    client = await weir.client()
    request = make.request()
    client.ask(request[:-5])
    await asyncio.sleep(0.05)
    await weir.worker.swap(written({"b": {"base_url": new.base_url}}, ["b"]))
    client.transport.write(request[-5:])
    await client.finish()
    assert (client.headers["x-weir-upstream"], old.total) == ("b", 0)


async def test_what_has_not_changed_is_kept(provide: Any, gate: Any) -> None:
    """The pool of an unchanged upstream goes on with its connection, what it has learned and its slots; so does its health."""
    provider = await provide()
    weir = await gate(provider)
    await weir.fetch()
    pool, [before] = weir.plane.pools["a"], weir.targets()
    pool.refuses_usage = True
    await weir.worker.swap(written({"a": {"base_url": provider.base_url}}, ["a"], route={"slo": {"ttft": "9s"}}))
    assert weir.plane.pools["a"] is pool
    assert weir.targets()[0].ttft == pytest.approx(before.ttft, rel=0.2)
    await weir.fetch()
    assert (provider.total, provider.connections) == (2, 1)
    assert weir.plane.retired == []


CHANGES = {
    "key": {"api_key": "another"},
    "header": {"headers": {"X-Team": "b"}},
    "limit": {"max_streams": 7},
    "provider": {"provider": "other"},
}


@pytest.mark.parametrize("change", CHANGES)
async def test_an_upstream_that_changed_is_another(provide: Any, gate: Any, until: Any, change: str) -> None:
    """Whatever changed of it, its credential too, the next call goes by the new; old connections close, and its health is unknown."""
    provider = await provide()
    weir = await gate(provider)
    await weir.fetch()
    old = weir.plane.pools["a"]
    await weir.worker.swap(written({"a": {"base_url": provider.base_url} | CHANGES[change]}, ["a"]))
    assert weir.plane.pools["a"] is not old
    assert weir.targets() == []
    await until(lambda: provider.connections == 0, "the idle connection closes")
    await weir.fetch()
    assert provider.total == 2
    weir.plane.sweep(weir.plane.clock())
    assert weir.plane.retired == []


async def test_a_retired_pool_goes_when_its_last_stream_ends(provide: Any, gate: Any, until: Any) -> None:
    """It keeps no connection that its stream has done with, and nothing remembers it afterwards."""
    old, new = await provide(Stall(after=1, length=0.3)), await provide()
    weir = await gate(old)
    running = await (await weir.ask()).saw(b"content")
    weir.plane.swap(written({"b": {"base_url": new.base_url}}, ["b"]))
    weir.plane.sweep(weir.plane.clock())
    assert len(weir.plane.retired) == 1
    await running.finish()
    await until(lambda: old.connections == 0, "its connection is closed, not kept")
    await until(lambda: weir.in_flight() == 0)
    weir.plane.sweep(weir.plane.clock())
    assert weir.plane.retired == []


@judged_in_rounds
async def test_a_race_under_way_may_still_fall_back_to_a_target_that_is_no_more(provide: Any, gate: Any, until: Any) -> None:
    """A call ends by the route it began with, its fallback included; what routing learns of that target then is forgotten."""
    slow, spare, new = await provide(SlowFirstToken(delay=30)), await provide(), await provide()
    weir = await gate(slow, spare, first_token={"timeout": 0.3})
    client = await weir.ask()
    await until(lambda: slow.total)
    weir.plane.swap(written({"n": {"base_url": new.base_url}}, ["n"]))
    await client.finish()
    assert (client.headers["x-weir-upstream"], client.body.endswith(DONE)) == ("b", True)
    assert weir.targets() == []
    assert (await weir.fetch()).headers["x-weir-upstream"] == "n"


async def test_twenty_streams_and_fifty_swaps(provide: Any, gate: Any) -> None:
    """However often it is swapped, every stream comes whole, and each call went where the configuration of its moment said."""
    temper = Temper(ttft=0, gap="5ms", tokens=60)
    one, two = await provide(temper=temper), await provide(temper=temper)
    weir = await gate(one)
    configs = [written({"a": {"base_url": one.base_url}}, ["a"]), written({"b": {"base_url": two.base_url}}, ["b"])]
    clients = []
    for number in range(50):
        await weir.worker.swap(configs[number % 2])
        if number % 5 < 2:
            clients.append((await weir.ask(), "ab"[number % 2]))
        await asyncio.sleep(0.01)
    for client, upstream in clients:
        await client.until(lambda client=client: client.complete)
        assert (client.headers["x-weir-upstream"], client.body.endswith(DONE)) == (upstream, True)
    assert (one.total, two.total) == (10, 10)


async def test_budgets_outlive_a_swap(provide: Any, gate: Any) -> None:
    """A reload allows no fresh burst of retries or hedges, unless it is the allowance that has changed."""
    provider = await provide()
    weir = await gate(provider)
    upstreams = {"a": {"base_url": provider.base_url}}
    before = weir.plane.setup
    weir.plane.swap(written(upstreams, ["a"]))
    assert (weir.plane.setup.retries["chat"], weir.plane.setup.hedges["chat"]) == (before.retries["chat"], before.hedges["chat"])
    weir.plane.swap(written(upstreams, ["a"], route={"retry": {"budget": "50%"}}))
    assert weir.plane.setup.retries["chat"] is not before.retries["chat"]
    assert weir.plane.setup.hedges["chat"] is before.hedges["chat"]


async def test_routes_models_and_limits_are_the_new_ones(provide: Any, gate: Any, make: Any) -> None:
    """Remembered routes, the list of models and the largest body are those of the configuration in force."""
    provider = await provide()
    weir = await gate(provider)
    assert (await weir.fetch()).status == 200
    match = {"match": {"models": ["only-this"]}}
    await weir.worker.swap(written({"a": {"base_url": provider.base_url}}, ["a"], route=match, server={"max_body": "1KiB"}))
    assert (await weir.fetch()).status == 404
    assert (await weir.fetch(model="only-this")).status == 200
    assert (await weir.fetch(model="only-this", user="x" * 2000)).status == 413
    listed = await (await weir.client()).ask(b"GET /v1/models HTTP/1.1\r\nHost: w\r\n\r\n").finish()
    assert [model["id"] for model in listed.document["data"]] == ["only-this"]
    assert weir.worker.config.hash == weir.plane.setup.hash


def test_a_setup_is_built_without_a_loop() -> None:
    """So that a thread can do it: certificates are read there, and no stream waits for them."""
    config = written({"a": {"base_url": "https://127.0.0.1:1/v1"}}, ["a"])
    first = Setup(config, lambda: 0.0)
    assert Setup(config, lambda: 0.0, first).pools["a"] is first.pools["a"]


# An operator's abort.


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
async def test_an_operator_ends_a_stream(provide: Any, gate: Any, until: Any, dialect: str) -> None:
    """A running stream ends in an error event, its upstream is closed and not to blame, and the record says whose will it was."""
    provider = await provide(NeverEnding(), Temper(ttft=0, gap="5ms", tokens=5))
    weir = await gate(provider, dialects=[dialect])
    client = await (await weir.ask()).until(lambda: b"content" in weir.clients[0].body)
    [stream_id] = weir.plane.live
    weir.worker.obey(Abort("f" * 32))
    weir.worker.obey(Abort(stream_id))
    await client.finish()
    assert b'"code":"operator_abort"' in client.body
    assert DONE not in client.body
    record = await weir.record()
    assert (record.outcome, record.error) == ("operator_abort", "operator_abort")
    await until(lambda: provider.requests[0].closed_by == "peer")
    assert weir.targets()[0].last_error is None


async def test_before_its_first_byte_an_abort_is_a_status_nobody_retries(provide: Any, gate: Any, until: Any) -> None:
    """SDKs ask again after 408, 409, 429 and 5xx: what an operator has stopped must stay stopped."""
    provider = await provide(SlowFirstToken(delay=30))
    weir = await gate(provider, await provide(), first_token={"timeout": 60})
    client = await weir.ask()
    await until(lambda: provider.total)
    weir.worker.obey(Abort(next(iter(weir.plane.live))))
    await client.finish()
    assert (client.status, client.document["error"]["code"]) == (Aborted.status, "operator_abort")
    assert (await weir.record()).outcome == "operator_abort"
