"""Stories of choosing: traffic leaves a provider that slows down, comes back when it recovers, and nobody waits for one that is silent."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest

from gateway.sim.faults import Always, PingStorm
from gateway.sim.load import Load, traffic
from gateway.sim.provider import Provider
from gateway.sim.tempers import Temper
from tests.stories.conftest import PATIENCE

log = logging.getLogger("weir.stories")  # figures: pytest --log-cli-level=info
Fixture = Callable[..., Any]
RATE = 20.0


def share(of: Provider, other: Provider, since: float) -> float:
    """Return how much of the traffic since a monotonic time a provider had."""
    mine, others = (sum(request.at >= since for request in provider.requests) for provider in (of, other))
    return mine / max(1, mine + others)


async def test_two_equal_targets_share_the_traffic(weir: Fixture, provide: Fixture) -> None:
    """Two targets that slow down alike when they are crowded each keep between 35 and 65 %: no herding (C2a)."""
    temper = Temper(ttft="100ms", gap="2ms", tokens=20, queueing="5ms")
    one, two = await provide(temper=temper, seed=1), await provide(temper=temper, seed=2)
    gateway = await weir({"one": one, "two": two})
    host, port = gateway.address
    report = await Load(host=host, port=port, streams=50).run(total=800)
    assert set(report.ends()) == {"fine"}
    log.info("the first had %.0f %%", 100 * share(one, two, 0.0))
    assert 0.35 <= share(one, two, 0.0) <= 0.65


@pytest.mark.slow
async def test_traffic_leaves_a_target_that_slows_down_and_returns_when_it_recovers(
    weir: Fixture, provide: Fixture, eventually: Fixture
) -> None:
    """Within seconds a target that turned slow has lost its traffic; within 60 s of its recovery it has at least 30 % again."""
    quick, slow = Temper(ttft="30ms", gap="2ms", tokens=20), Temper(ttft="1200ms", gap="2ms", tokens=20)
    one, two = await provide(temper=quick), await provide(temper=Temper(ttft="150ms", gap="2ms", tokens=20))
    gateway = await weir({"one": one, "two": two})
    host, port = gateway.address
    load = asyncio.get_running_loop().create_task(traffic(Load(host=host, port=port, rate=RATE, streams=200)))
    try:
        await asyncio.sleep(5)
        await eventually(lambda: share(one, two, time.monotonic() - 3) > 0.6, "the quicker one has most of the traffic")
        one.temper, changed = slow, time.monotonic()
        await eventually(lambda: time.monotonic() > changed + 3 and share(one, two, time.monotonic() - 2) < 0.15, "it has lost its traffic")
        log.info("it lost its traffic within %.1f s", time.monotonic() - changed)
        await asyncio.sleep(max(0.0, changed + 30 - time.monotonic()))
        assert share(one, two, changed + 5) < 0.15
        one.temper, changed = quick, time.monotonic()
        await eventually(lambda: share(one, two, time.monotonic() - 3) >= 0.3, "it has regained 30 %", 60)
        log.info("it had 30 %% again within %.1f s", time.monotonic() - changed)
    finally:
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
    await gateway.told(one.total + two.total)


async def test_a_first_target_that_only_pings_is_left_after_two_seconds(
    weir: Fixture, provide: Fixture, client: Fixture, speech: Fixture
) -> None:
    """Pings and a role chunk are no token: at the deadline the second target answers, and the client sees its bytes alone."""
    body, script = speech(20, 0.005)
    silent, ready = await provide(faults=Always(PingStorm(every=0.2))), await provide(faults=Always(script))
    gateway = await weir({"silent": silent, "ready": ready}, route={"policy": "priority"})
    answer = await client(gateway).ask()
    assert (answer.status, answer.body, answer.broken) == (200, body, False)
    assert (answer.headers["x-weir-upstream"], answer.headers["x-weir-attempts"]) == ("ready", "2")
    log.info("the answer had ended after %.2f s", answer.seconds)
    assert 1.9 < answer.seconds < 15.0  # the silent one goes on for as long as it is listened to
    assert 1.9 < ready.requests[0].at - silent.requests[0].at < 15.0
    assert silent.requests[0].closed_by == "peer"
    [row] = await gateway.told(1)
    record = await gateway.ask(f"/api/streams/{row['stream_id']}")
    assert [(a["upstream"], a["why"], a["outcome"]) for a in record["attempts"]] == [
        ("silent", "first", "slow"),
        ("ready", "fallback", "won"),
    ]
    scrape = await gateway.scrape()
    assert scrape.sum("weir_fallbacks_total", **{"from": "silent", "to": "ready", "reason": "slow_first_token"}) == 1
    await _censored(gateway)


async def _censored(gateway: Any) -> None:
    """What routing knows of the silent target is that it takes two seconds at least, and no failure of it."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        [route] = (await gateway.ask("/api/routes"))["routes"]
        seen = {target["upstream"]: target["seen"] for target in route["targets"]}
        if seen["silent"] and (seen["silent"][0]["ttft"] or 0) >= 1.9 and seen["ready"]:
            assert seen["silent"][0]["breaker"] == "closed"
            assert seen["ready"][0]["ttft"] < seen["silent"][0]["ttft"]
            return
        await asyncio.sleep(0.1)
    pytest.fail(f"the silent target's estimate: {seen}")
