"""Which target is thought the better one: the one that speaks sooner, whatever it says then, whoever reads it, however fast it fails."""

import asyncio
import random
import statistics
from typing import Any

import pytest

from gateway.core.messages import Pulse
from gateway.core.record import StreamRecord
from gateway.sim.faults import Always, ByModel, InOrder
from tests.faults.audience import heard
from tests.faults.everywhere import in_every_dialect, opened
from tests.faults.scripts import answer, ask, fetch, whole
from tests.faults.tongue import Tongue
from tests.faults.tongues import TONGUES
from tests.rig.client import wait_until
from tests.rig.rounds import judged_in_rounds

FAST, SLOW = 0.05, 0.50
WARM, CALLS = 6, 30
BIG, MANY, PACE = "x" * 100_000, 120, 0.01
"""More than all socket buffers hold, at a steady pace."""


def after(tongue: Tongue, seconds: float, tokens: int) -> Any:
    """Return an answer of so many tokens whose first comes after so many seconds."""
    return answer(tongue, seconds, b"".join(tongue.preamble) + tongue.token("said") * tokens + tongue.proper)


async def test_the_sooner_one_gets_the_calls(provide: Any, gate: Any) -> None:
    """Beside a target ten times as slow, one whose answers are a hundred times as long has most calls after warming up (C1 D11).

    How many exactly is shown in virtual time, in tests/routing/test_simulation.py: here a machine that is late is late for both.
    """

    async def story(tongue: Tongue) -> None:
        a, b = await provide(after(tongue, FAST, 500)), await provide(after(tongue, SLOW, 5))
        weir = await gate(a, b, dialects=[tongue.name] * 2, policy="least-latency")
        async with heard(weir) as audience:
            weir.plane.dice = random.Random(tongue.name).random
            for _ in range(WARM):
                await fetch(weir, tongue)
            warm = a.total
            seen: dict[str, list[float]] = {"a": [], "b": []}
            for _ in range(CALLS):
                await fetch(weir, tongue)
                for state in weir.targets():
                    seen[state.upstream].append(state.ttft)
            share = (a.total - warm) / CALLS
            await beat(weir)
            shown = await shown_scores(audience)
            gauges = {name: (await audience.scrape()).sum("weir_upstream_score_seconds", upstream=name) for name in "ab"}
        assert share >= 0.65
        assert FAST <= statistics.median(seen["a"]) < 0.8 * statistics.median(seen["b"])
        assert gauges == pytest.approx(shown, abs=0.02)

    await in_every_dialect(story)


async def beat(weir: Any) -> None:
    """Wait for the worker's next heartbeat: what is shown of targets is as old as that."""
    seen = len(weir.book.of(Pulse))
    await wait_until(lambda: len(weir.book.of(Pulse)) > seen, "the worker's next heartbeat")


async def shown_scores(audience: Any) -> dict[str, float]:
    [route] = (await audience.ask("/api/routes"))["routes"]
    return {target["upstream"]: target["seen"][0]["score"] for target in route["targets"]}


@pytest.mark.parametrize("how", ["status", "error event", "cut"])
async def test_failing_at_once_is_not_being_fast(provide: Any, gate: Any, how: str) -> None:
    """A target that fails within milliseconds gets hardly a call beside one that is slow and well; its failures are no samples (C3)."""

    async def story(tongue: Tongue) -> None:
        fails = {
            "status": whole(500, tongue.refused(500, "no")),
            "error event": opened(tongue, tongue.errors["overloaded"][0]),
            "cut": opened(tongue),
        }
        a, b = await provide(fails[how]), await provide(after(tongue, 0.3, 3))
        weir = await gate(a, b, dialects=[tongue.name] * 2, policy="least-latency", breaker={"failures": 1000})
        weir.plane.dice = random.Random(tongue.name).random
        for _ in range(7):
            assert tongue.ended((await fetch(weir, tongue)).body)
        [failing] = [state for state in weir.targets() if state.upstream == "a"]
        assert (a.total <= 3, b.total) == (True, 7)
        assert (failing.ttft, failing.last_error is None) == (None, False)
        assert failing.score > max(state.score for state in weir.targets() if state.upstream == "b")

    await in_every_dialect(story)


async def test_a_slow_target_is_a_censored_sample(provide: Any, gate: Any) -> None:
    """A target left at its deadline is known to take that long at least, is no failure, and comes after the others then (C3 B2)."""

    async def story(tongue: Tongue) -> None:
        a, b = await provide(after(tongue, 5.0, 3)), await provide(after(tongue, 0.02, 3))
        weir = await gate(a, b, dialects=[tongue.name] * 2, policy="least-latency", first_token={"timeout": 0.3})
        weir.plane.dice = random.Random(tongue.name).random
        for _ in range(8):
            assert tongue.ended((await fetch(weir, tongue)).body)
        states = {state.upstream: state for state in weir.targets()}
        assert a.total <= 3
        assert states["a"].ttft >= 0.3
        assert (states["a"].breaker, states["a"].last_error) == ("closed", None)
        assert states["b"].ttft < 0.2

    await in_every_dialect(story)


@judged_in_rounds
async def test_models_of_one_upstream_are_apart(provide: Any, gate: Any) -> None:
    """What is known of a target is known of an upstream and a model: a slow model says nothing about another one beside it (C4)."""
    tongue = TONGUES["openai"]
    weir = await gate(await provide(ByModel({"large": after(tongue, 0.3, 3), "small": after(tongue, 0.02, 3)})))
    for model in ("large", "small", "large", "small"):
        await fetch(weir, tongue, model=model)
    seen = {state.model: state.ttft for state in weir.targets()}
    assert set(seen) == {"large", "small"}
    assert seen["small"] + 0.15 < seen["large"]


async def test_prompts_of_two_sizes_are_apart(provide: Any, gate: Any) -> None:
    """Where the route keeps sizes apart, a long prompt that waits says nothing of short ones on the same target, in any dialect (C4)."""

    async def story(tongue: Tongue) -> None:
        provider = await provide(InOrder((after(tongue, 0.3, 3), after(tongue, 0.02, 3))))
        weir = await gate(provider, dialects=[tongue.name], prompt_sizes=["16KiB"])
        padding = {"weir_padding": "x" * 20_000}
        assert tongue.ended((await fetch(weir, tongue, **padding)).body)
        assert tongue.ended((await fetch(weir, tongue)).body)
        now, [target] = weir.plane.clock(), weir.targets()
        key = target.upstream, target.model
        assert weir.plane.health.estimate(key, now) + 0.15 < weir.plane.health.sized(16 * 1024).estimate(key, now)

    await in_every_dialect(story)


async def read_at_two_paces(provide: Any, gate: Any, until: Any, tongue: Tongue) -> tuple[StreamRecord, StreamRecord]:
    """Return the records of two equal answers, one read as fast as it comes and one by a client that stops twice for a while."""
    pieces = [piece for _ in range(MANY) for piece in (tongue.token(BIG), PACE)]
    said = answer(tongue, 0.1, b"".join(tongue.preamble), *pieces, tongue.proper)
    weir = await gate(await provide(Always(said)), dialects=[tongue.name])
    first = await ask(weir, tongue)
    client = await weir.client(segment=1000, buffer=4096)
    client.transport.pause_reading()
    client.ask(tongue.request())
    for _ in range(2):
        await until(lambda: any(live.ledger.owner == "client_blocked" and live.stop for live in weir.plane.live.values()))
        await asyncio.sleep(0.4)
        got = len(client.raw)
        client.transport.resume_reading()
        await client.until(lambda got=got: len(client.raw) > got + 2 * len(BIG), 30.0)
        client.transport.pause_reading()
    client.transport.resume_reading()
    await asyncio.gather(first.finish(60.0), client.finish(60.0))
    quick, slow = sorted(weir.book.records, key=lambda record: record.received_at)
    assert quick.seconds.get("client_blocked", 0.0) + 0.4 < slow.seconds["client_blocked"]
    return quick, slow


@pytest.mark.parametrize("dialect", ["openai", "ollama"])
@judged_in_rounds
async def test_a_slow_reader_does_not_make_its_target_slow(provide: Any, gate: Any, until: Any, dialect: str) -> None:
    """First tokens are stamped when they are read from the upstream: they are as soon for a client that takes nothing (C5)."""
    quick, slow = await read_at_two_paces(provide, gate, until, TONGUES[dialect])
    ttfts = [record.attempts[0].first_token_at - record.attempts[0].sent_at for record in (quick, slow)]
    assert ttfts == pytest.approx([0.1, 0.1], abs=0.05)
    typical = [record.cadence.gap_p50 for record in (quick, slow)]
    assert typical[1] < typical[0] + 0.05


@pytest.mark.parametrize("dialect", ["openai", "bedrock"])
@judged_in_rounds
async def test_a_slow_readers_pauses_are_no_gaps(provide: Any, gate: Any, until: Any, dialect: str) -> None:
    """While we did not read, for a client that took nothing, the upstream had no gap: its samples are those of a quick reader (C5)."""
    quick, slow = await read_at_two_paces(provide, gate, until, TONGUES[dialect])
    assert slow.cadence.gap_max < 0.35
    assert slow.cadence.gap_sum < 2 * quick.cadence.gap_sum
