"""B5, B8, B9: silence, stale connections and shutdown while streams run, in every dialect."""

import asyncio
from typing import Any

import pytest

from gateway.sim.faults import InOrder, Refuse, Script
from gateway.sim.steps import Fin, Hang, Send
from tests.faults.everywhere import in_every_dialect
from tests.faults.scripts import answer, ask, fetch
from tests.faults.tongue import Tongue
from tests.faults.tongues import TONGUES
from tests.rig.rounds import judged_in_rounds

DIALECTS = pytest.mark.parametrize("dialect", TONGUES)


async def test_silence_ends_by_liveness(provide: Any, gate: Any, until: Any) -> None:
    """No byte for `liveness` after tokens: an error event, the upstream is closed, and it has failed (B5)."""

    async def story(tongue: Tongue) -> None:
        spoken = tongue.spoken("one", "two", "three")
        provider = await provide(answer(tongue, spoken, Hang()))
        weir = await gate(provider, dialects=[tongue.name], stall={"threshold": 0.2, "liveness": 0.4, "progress": 30})
        client = await fetch(weir, tongue)
        before, told = tongue.last_error(client.body)
        record = await weir.record()
        assert (before, tongue.same_code(told, "upstream_silent"), tongue.ended(client.body)) == (spoken, True, False)
        assert (record.outcome, record.error, record.attempts[0].outcome) == ("upstream_stalled", "upstream_silent", "stalled")
        await until(lambda: provider.requests[0].closed_by == "peer")
        assert weir.targets()[0].last_error == "upstream_silent"

    await in_every_dialect(story)


async def test_signs_of_life_end_by_progress(provide: Any, gate: Any, until: Any) -> None:
    """Pings hold off liveness and not progress; the silence they fill is one stall, counted once (B5 D8)."""

    async def story(tongue: Tongue) -> None:
        provider = await provide(answer(tongue, tongue.spoken("one"), *[0.1, tongue.idle] * 40, Hang()))
        weir = await gate(provider, dialects=[tongue.name], stall={"threshold": 0.2, "liveness": 0.5, "progress": 0.9})
        client = await fetch(weir, tongue)
        before, told = tongue.last_error(client.body)
        record = await weir.record()
        assert before == tongue.spoken("one") + tongue.idle * before.count(tongue.idle, len(tongue.spoken("one")))
        assert tongue.same_code(told, "no_progress")
        assert (record.outcome, record.error) == ("upstream_stalled", "no_progress")
        assert record.ended_at - record.last_token_at >= 0.9
        assert (record.cadence.chunks, record.cadence.stall_count) == (1, 1)
        await until(lambda: provider.requests[0].closed_by == "peer")

    await in_every_dialect(story)


async def test_thinking_is_progress(provide: Any, gate: Any) -> None:
    """A stream of reasoning alone is healthy, has its first token at once and its first answer later (B5 A11)."""

    async def story(tongue: Tongue) -> None:
        thoughts = [piece for number in range(6) for piece in (tongue.reasoning(f"hm {number}"), 0.2)]
        script = answer(tongue, tongue.spoken(), *thoughts, tongue.token("one"), tongue.proper)
        weir = await gate(await provide(script), dialects=[tongue.name], stall={"liveness": 0.6, "progress": 0.6})
        await fetch(weir, tongue)
        record = await weir.record()
        assert (record.outcome, record.cadence.chunks) == ("completed", 7)
        assert record.first_answer_at - record.first_token_at > 0.9

    await in_every_dialect(story)


@DIALECTS
@judged_in_rounds
async def test_a_client_that_does_not_read_is_no_stall(provide: Any, gate: Any, until: Any, dialect: str) -> None:
    """While it is us who do not read, no timer of the upstream runs, and the silence is the client's (B5)."""
    tongue = TONGUES[dialect]
    pieces = [tongue.token("x" * 4000) * 100] * 16
    provider = await provide(answer(tongue, tongue.spoken(), *pieces, tongue.proper))
    weir = await gate(provider, dialects=[dialect], stall={"threshold": 0.2, "liveness": 0.3, "progress": 0.3})
    client = await weir.client(buffer=4096)
    client.transport.pause_reading()
    client.ask(tongue.request())
    await until(lambda: any(live.ledger.owner == "client_blocked" for live in weir.plane.live.values()))
    await asyncio.sleep(0.8)
    assert weir.book.records == []
    client.transport.resume_reading()
    await client.finish(30.0)
    record = await weir.record()
    assert client.body == tongue.spoken() + b"".join(pieces) + tongue.proper
    assert (record.outcome, set(record.cadence.stall_time)) == ("completed", {"client"})
    assert record.seconds["client_blocked"] > 0.7


@DIALECTS
async def test_a_stale_connection_is_replaced(provide: Any, gate: Any, dialect: str) -> None:
    """A pooled connection that closes as the call is written costs one new connection and nothing else: no error, no blame (B8)."""
    tongue = TONGUES[dialect]
    good = answer(tongue, tongue.speech("one"))
    provider = await provide(InOrder([good, Refuse(), good]))
    weir = await gate(provider, dialects=[dialect], retry={"attempts": 1})
    for _ in range(2):
        assert (await fetch(weir, tongue)).body == tongue.speech("one")
    record = await weir.record(2)
    assert [request.connection for request in provider.requests] == [1, 1, 2]
    assert provider.requests[1].body == provider.requests[2].body
    assert (record.outcome, len(record.attempts), record.attempts[0].redialed) == ("completed", 1, True)
    assert weir.targets()[0].last_error is None


@DIALECTS
async def test_it_is_replaced_once(provide: Any, gate: Any, dialect: str) -> None:
    """If the new connection closes without a byte as well, that is a failure, and the call is not sent a third time (B8)."""
    tongue = TONGUES[dialect]
    provider = await provide(InOrder([answer(tongue, tongue.speech("one")), Refuse(), Refuse()]))
    weir = await gate(provider, dialects=[dialect], retry={"attempts": 1})
    await fetch(weir, tongue)
    client = await fetch(weir, tongue)
    assert (client.status, client.headers["content-type"]) == (502, "application/json")
    assert provider.total + provider.refused == 3
    assert weir.targets()[0].last_error is not None


@DIALECTS
async def test_after_one_byte_nothing_is_sent_again(provide: Any, gate: Any, dialect: str) -> None:
    """A pooled connection that breaks when the answer has begun is a broken answer (B8)."""
    tongue = TONGUES[dialect]
    provider = await provide(InOrder([answer(tongue, tongue.speech("one")), Script((Send(b"HTTP/1.1 200 OK\r\nContent-Le"), Fin()))]))
    weir = await gate(provider, dialects=[dialect], retry={"attempts": 1})
    await fetch(weir, tongue)
    client = await fetch(weir, tongue)
    assert (client.status, provider.total) == (502, 2)


@DIALECTS
@judged_in_rounds
async def test_a_running_stream_at_shutdown(provide: Any, gate: Any, until: Any, dialect: str) -> None:
    """At the drain's deadline a running stream is told why it ends, in its dialect; new calls are refused, the upstream not blamed (B9)."""
    tongue = TONGUES[dialect]
    provider = await provide(answer(tongue, tongue.spoken("one"), Hang()))
    weir = await gate(provider, dialects=[dialect])
    running = await (await ask(weir, tongue)).saw(tongue.spoken("one"))
    late = await weir.client()
    draining = asyncio.get_running_loop().create_task(weir.worker.drain(0.4))
    await asyncio.sleep(0)
    await late.ask(tongue.request()).finish()
    assert (late.status, late.headers["connection"]) == (503, "close")
    await draining
    await running.finish()
    before, told = tongue.last_error(running.body)
    assert (before, running.complete) == (tongue.spoken("one"), True)
    assert tongue.same_code(told, "server_shutdown")
    refused, shut = sorted(weir.book.records, key=lambda record: record.outcome)
    assert (refused.outcome, shut.outcome, shut.error, shut.status) == ("rejected", "shutdown", "server_shutdown", 200)
    await until(lambda: provider.requests[0].closed_by == "peer")
    assert weir.targets()[0].last_error is None


@DIALECTS
async def test_a_stream_that_ends_in_time(provide: Any, gate: Any, dialect: str) -> None:
    """A stream that ends before the deadline ends as if nothing had been (B9)."""
    tongue = TONGUES[dialect]
    weir = await gate(await provide(answer(tongue, tongue.spoken("one"), 0.3, tongue.proper)), dialects=[dialect])
    client = await (await ask(weir, tongue)).saw(tongue.spoken("one"))
    await weir.worker.drain(10.0)
    await client.finish()
    assert (client.body, (await weir.record()).outcome) == (tongue.speech("one"), "completed")
