"""Two timers once a stream runs: liveness (any byte) and progress (any token); and a threshold that only counts."""

import asyncio
import time
from typing import Any

import pytest

from gateway.core.messages import Stalled
from gateway.sim.faults import InOrder, NeverEnding, PingStorm, Stall
from gateway.sim.tempers import Temper
from tests.rig.rounds import judged_in_rounds

STALL = {"threshold": 0.3, "liveness": 0.6, "progress": 1.4}


def said(delta: bytes) -> bytes:
    return b'data: {"choices":[{"delta":{%b}}]}\n\n' % delta


@judged_in_rounds
async def test_silence_ends_by_liveness(provide: Any, gate: Any, until: Any) -> None:
    """No byte for `liveness`: an error event, the upstream closed, and its failure (B5)."""
    provider = await provide(Stall(after=2, length=30))
    weir = await gate(provider, stall=STALL)
    client = await weir.fetch()
    record = await weir.record()
    await until(lambda: provider.requests[0].closed_by == "peer")
    assert client.body.endswith(b'"code":"upstream_silent"}}\n\n')
    assert (client.complete, b"[DONE]" in client.body) == (True, False)
    assert (record.outcome, record.error, record.attempts[0].outcome) == ("upstream_stalled", "upstream_silent", "stalled")
    assert 0.6 <= record.ended_at - record.last_token_at < 1.3
    assert weir.targets()[0].last_error == "upstream_silent"


@judged_in_rounds
async def test_pings_end_by_progress(provide: Any, gate: Any, until: Any) -> None:
    """Comments show a live connection, not a live model: they hold off liveness and not progress (B5)."""
    provider = await provide(PingStorm(every=0.1, after=2))
    weir = await gate(provider, stall=STALL)
    client = await weir.fetch()
    record = await weir.record()
    assert client.body.endswith(b'"code":"no_progress"}}\n\n')
    assert (record.outcome, record.error) == ("upstream_stalled", "no_progress")
    assert 1.4 <= record.ended_at - record.last_token_at < 2.1


@judged_in_rounds
async def test_every_kind_of_token_is_progress(provide: Any, gate: Any, make: Any) -> None:
    """Reasoning, refusals and tool arguments are tokens: a stream of nothing else is healthy and has a first token (A11 B5)."""
    deltas = [
        b'"reasoning_content":"hm"',
        b'"tool_calls":[{"index":0,"function":{"arguments":"{"}}]',
        b'"tool_calls":[{"function":{"arguments":"{"}}]',
        b'"content":"x"',
        b'"refusal":"no"',
    ]
    scripts = [make.chunked(*[said(delta), 0.2] * 6, make.event(finish="tool_calls")) for delta in deltas]
    weir = await gate(await provide(InOrder(scripts)), stall={"liveness": 0.5, "progress": 0.5})
    await asyncio.gather(*(weir.fetch() for _ in deltas))
    for record in weir.book.records:
        assert (record.outcome, record.cadence.chunks, record.parser_errors) == ("completed", 6, {})
        assert record.ttft < 0.15


@judged_in_rounds
async def test_a_stall_is_counted_when_it_is_noticed(provide: Any, gate: Any) -> None:
    """One message and one stall per silence over the threshold, told while it lasts, with the upstream to blame (D8)."""
    weir = await gate(await provide(Stall(after=2, length=0.9)), stall={"threshold": 0.3})
    await weir.fetch()
    record = await weir.record()
    [told] = weir.book.of(Stalled)
    [stall] = record.cadence.stalls
    assert (told.stream_id, told.blame, told.phase, told.at) == (record.stream_id, "upstream", "streaming", stall.at)
    assert weir.book.messages.index(told) < len(weir.book.messages) - 1
    assert (stall.blame, stall.chunk) == ("upstream", 2)
    assert 0.8 < stall.length < 1.2
    assert record.outcome == "completed"


@judged_in_rounds
async def test_pings_do_not_split_a_stall(provide: Any, gate: Any) -> None:
    """A silence between two tokens is one stall, whatever comments fall into it (D8)."""
    weir = await gate(await provide(PingStorm(every=0.1, after=1, lasting=0.9)), stall={"threshold": 0.3})
    await weir.fetch()
    record = await weir.record()
    assert (record.cadence.stall_count, len(weir.book.of(Stalled))) == (1, 1)


@judged_in_rounds
async def test_before_the_first_token_the_last_target_has_both_timers(provide: Any, gate: Any) -> None:
    """A last target that pings for ever is given up at `progress`, one that says nothing at `liveness`."""
    weir = await gate(await provide(PingStorm(every=0.05)), stall={"liveness": 0.3, "progress": 0.7})
    client = await weir.fetch()
    record = await weir.record()
    assert client.body.endswith(b'"code":"no_progress"}}\n\n')
    assert record.ended_at - record.received_at >= 0.7
    assert record.outcome == "upstream_stalled"


@judged_in_rounds
async def test_a_long_stream_has_no_total_timeout(provide: Any, gate: Any, until: Any) -> None:
    """However long a stream, it runs while tokens come: every timer is shorter than it (A13)."""
    provider = await provide(NeverEnding(), Temper(ttft=0, gap="20ms", tokens=5))
    weir = await gate(provider, first_token={"timeout": 0.3}, stall={"liveness": 0.3, "progress": 0.3}, server={"keepalive": 0.3})
    client = await weir.ask()
    await until(lambda: client.body.count(b'"content"') > 80)
    assert weir.book.records == []
    client.reset()
    assert (await weir.record()).outcome == "client_disconnect"
    assert b"keepalive" not in client.body


@judged_in_rounds
async def test_times_are_those_of_the_read(provide: Any, gate: Any, make: Any) -> None:
    """Comment, filter results and role come before the first token and are none; a tool call is one; an answer follows thought (D1)."""
    steps = [
        *(b": ping\n\n", 0.1),
        *(b'data: {"id":"","choices":[],"prompt_filter_results":[]}\n\n', 0.1),
        *(make.event(), 0.1),
        *(said(b'"reasoning_content":"hm"'), 0.2),
        *(said(b'"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":""}}]'), 0.1),
        *(said(b'"content":"x"'), make.event(finish="stop")),
    ]
    weir = await gate(await provide(make.chunked(*steps)))
    await weir.fetch()
    record = await weir.record()
    event, token, answer = (at - record.first_byte_at for at in (record.first_event_at, record.first_token_at, record.first_answer_at))
    assert 0.09 < event < token - 0.15 < answer - 0.3
    assert record.committed_at < record.first_token_at


async def test_a_stream_without_tokens_has_no_first_one(provide: Any, gate: Any, make: Any) -> None:
    """No token, no time to first token, whatever else came (D1 D7)."""
    weir = await gate(await provide(make.chunked(make.event(), 0.05, make.event(finish="content_filter"), b"data: [DONE]\n\n")))
    await weir.fetch()
    record = await weir.record()
    assert (record.outcome, record.ttft, record.first_answer_at, record.cadence.chunks) == ("completed", None, None, 0)
    assert (record.finish, record.first_event_at is None) == (["content_filter"], False)


@judged_in_rounds
async def test_a_late_loop_is_the_gateways_silence(provide: Any, gate: Any) -> None:
    """While our own loop does not run, bytes may lie in the kernel: that part of a gap is ours, not the upstream's."""
    weir = await gate(await provide(temper=Temper(ttft=0, gap="50ms", tokens=8)), stall={"threshold": 0.3})
    client = await (await weir.ask()).saw(b"content")
    time.sleep(0.6)  # noqa: ASYNC251 - the fault that is tested
    await client.finish()
    record = await weir.record()
    assert set(record.cadence.stall_time) == {"gateway"}
    assert record.seconds["gateway"] > 0.4
    assert record.seconds["upstream_wait"] < record.duration - 0.4


@pytest.mark.parametrize("ttft", [0.0, 1.6], ids=["in the middle", "before the first token"])
async def test_a_late_loop_gives_nobody_up(provide: Any, gate: Any, ttft: float) -> None:
    """While our own loop does not run nobody is heard: neither liveness nor progress takes that for the upstream's silence (B5)."""
    weir = await gate(await provide(temper=Temper(headers=ttft, ttft=ttft, gap="50ms", tokens=8)), stall={"liveness": 0.9, "progress": 0.9})
    client = await weir.ask()
    if not ttft:
        await client.saw(b"content")
    asyncio.get_running_loop().call_later(0.08, time.sleep, 1.3)
    await client.finish()
    assert client.body.endswith(b"[DONE]\n\n")
    assert (await weir.record()).outcome == "completed"
