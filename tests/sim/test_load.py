"""Many clients at once against a real provider: what they report is what was sent."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.sim.faults import Always, ErrorEvent, InOrder, ResetAfter, Silent, Status, Truncate
from gateway.sim.load import Aborts, Load, quantile, traffic
from gateway.sim.provider import Provider
from gateway.sim.tempers import INSTANT, Temper

Fixture = Callable[..., Any]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def load(provider: Provider, **options: Any) -> Load:
    return Load(host=provider.host, port=provider.port, **options)


async def test_closed_loop_counts_what_was_sent(serve: Fixture) -> None:
    """Streams, events, deltas and bytes agree with the provider's own account."""
    provider = await serve(Temper(ttft=0, gap="1ms", tokens="uniform 3 12"))
    report = await load(provider, streams=10).run(total=50)
    assert (report.ends(), report.fine, provider.total) == ({"fine": 50}, 50, 50)
    assert report.deltas == sum(request.tokens_sent for request in provider.requests)
    assert report.events == report.deltas + 4 * 50
    assert sum(result.bytes for result in report.results) == sum(request.bytes_sent for request in provider.requests)
    assert len({request.connection for request in provider.requests}) == 10
    assert 0 < report.ttft(0.5) <= report.duration(1.0)
    assert report.summary()["duration_ms"]["p99"] is not None


async def test_closed_loop_ends_in_time_and_lets_streams_finish(serve: Fixture) -> None:
    """When the seconds are over no stream is begun, and none is cut."""
    provider = await serve(Temper(ttft=0, gap="2ms", tokens=10))
    report = await load(provider, streams=5).run(seconds=0.2)
    assert len(report.results) >= 5
    assert report.ends() == {"fine": len(report.results)}


async def test_open_loop_keeps_its_rate_and_says_what_it_skipped(serve: Fixture) -> None:
    """Arrivals go on at their rate whatever the provider does; those beyond the cap are counted."""
    provider = await serve(INSTANT, Always(Silent()))
    report = await load(provider, streams=3, rate=200.0, patience=0.3).run(total=20)
    assert report.ends() == {"unfinished": len(report.results)}
    assert len(report.results) + report.skipped == 20
    assert len(report.results) >= 3


async def test_what_went_wrong_is_told_apart(serve: Fixture) -> None:
    """Each fault has its own end, and none hangs the run."""
    faults = [Status(429), ErrorEvent(), Truncate(terminator=True), Truncate(), ResetAfter()]
    provider = await serve(INSTANT, InOrder(faults))
    report = await load(provider, streams=1).run(total=6)
    assert report.ends() == {"status_429": 1, "error_event": 1, "incomplete": 1, "closed": 2, "fine": 1}
    assert report.results[1].deltas == 3


async def test_aborts_happen_at_their_points_and_repeat(serve: Fixture, wait_until: Fixture) -> None:
    """The seed decides who leaves where; the provider sees the peer leave; the rest comes whole."""
    aborts = Aborts(share=0.5, tokens=(2, 5))

    async def run() -> list[tuple[int, str | None]]:
        provider = await serve(Temper(ttft="5ms", gap="1ms", tokens=40))
        report = await load(provider, streams=8, aborts=aborts, seed=4).run(total=60)
        await wait_until(lambda: provider.open_streams == 0)
        left = sum(request.outcome == "peer_left" for request in provider.requests)
        assert 0 < left <= report.ends()["aborted"]  # one that leaves at once may be gone before its request is read
        assert report.ends()["aborted"] + report.fine == 60
        return sorted((result.ordinal, result.aborted) for result in report.results)

    first = await run()
    assert {point for _, point in first} == {None, "sent", "headers", "token"}
    assert first == await run()


async def test_a_slow_reader_holds_the_provider_back(serve: Fixture) -> None:
    """With a read rate the answer takes as long as its bytes need."""
    provider = await serve(Temper(ttft=0, gap=0, tokens=300))
    report = await load(provider, streams=1, read_rate=400_000).run(total=1)
    [result] = report.results
    assert result.fine
    assert result.duration > 0.5 * result.bytes / 400_000


async def test_a_stale_connection_is_replaced_unseen(serve: Fixture) -> None:
    """A kept connection that the provider closed costs no stream."""
    provider = await serve()
    client = load(provider, streams=1)

    def close_idle(_: object) -> None:
        asyncio.get_running_loop().call_soon(provider.hang_up)

    report = await client.run(total=10, seen=close_idle)
    assert report.ends() == {"fine": 10}


async def test_nobody_listening_is_an_end_of_its_own(serve: Fixture) -> None:
    """A refused connection is reported, stream by stream."""
    provider = await serve()
    await provider.close()
    assert (await load(provider, streams=2).run(total=4)).ends() == {"connect": 4}


async def test_a_load_needs_an_end(serve: Fixture) -> None:
    """A run without seconds and total would never return."""
    with pytest.raises(ValueError):
        await load(await serve()).run()


async def test_documents_count_as_well(serve: Fixture) -> None:
    """Without streaming, a whole document is a fine result without first token."""
    report = await load(await serve(), stream=False, path="/v1/embeddings").run(total=3)
    assert (report.ends(), report.ttft(0.5)) == ({"fine": 3}, None)


async def test_traffic_mixes_models_until_it_is_cancelled(serve: Fixture) -> None:
    """Endless traffic names its models by weight and leaves nothing open."""
    provider = await serve()
    seen: list[str] = []
    enough = asyncio.Event()

    def count(result: Any) -> None:
        seen.append(result.model)
        if len(seen) >= 60:
            enough.set()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(traffic(load(provider, rate=500.0, poisson=True, model={"a": 3, "b": 1}), count))
        async with asyncio.timeout(10):
            await enough.wait()
        task.cancel()
    assert seen.count("a") > seen.count("b") > 0


async def test_twenty_thousand_events_arrive_and_nothing_leaks(serve: Fixture, wait_until: Fixture) -> None:
    """A sanity check of throughput: no event is lost at full speed, and memory of connections is given back."""
    provider = await serve(Temper(ttft=0, gap=0, tokens=200))
    before = open_files()
    report = await load(provider, streams=20).run(total=100)
    assert (report.deltas, report.fine) == (20_000, 100)
    await wait_until(lambda: open_files() <= before)


def test_quantiles_are_values_that_were_seen() -> None:
    """Nearest rank: no value is made up between two."""
    values = [float(n) for n in range(1, 101)]
    assert [quantile(values, q) for q in (0.0, 0.5, 0.95, 0.99, 1.0)] == [1.0, 50.0, 95.0, 99.0, 100.0]
    assert quantile([], 0.5) is None
