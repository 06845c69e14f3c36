"""A word to a client that waits: a comment now and then, before the answer and between its events, never inside one."""

import asyncio
from typing import Any

from gateway.sim.faults import InOrder, PingStorm, Script, SlowFirstToken, Stall, Status
from gateway.sim.plan import head
from gateway.sim.steps import Pause, Send
from gateway.sim.tempers import Temper
from tests.rig.rounds import judged_in_rounds

COMMENT = b": keepalive\n\n"
OFTEN = {"keepalive": 0.3}
DONE = b"data: [DONE]\n\n"
LATE = Temper(headers="800ms", ttft="800ms", gap=0, tokens=2)


@judged_in_rounds
async def test_before_the_upstream_answers(provide: Any, gate: Any, direct: Any) -> None:
    """While nothing has come from upstream its client hears comments, then the answer as it is (A9a)."""
    weir = await gate(await provide(temper=LATE), server=OFTEN, usage="leave")
    client, straight = await asyncio.gather(weir.fetch(), direct(await provide(temper=LATE)))
    record = await weir.record()
    assert client.body == COMMENT * 2 + straight.body
    assert [data for _, data in client.pieces[:2]] == [COMMENT] * 2
    assert 0.2 < client.pieces[0][0] - client.sent_at < 0.75
    assert (record.outcome, record.mutations) == ("completed", {"keepalive": 2})
    assert record.ttft > 0.7  # a comment of ours is no first token (A9c)


@judged_in_rounds
async def test_between_two_events(provide: Any, gate: Any, direct: Any) -> None:
    """In a silence between tokens too; comments of ours put between whole events are all that is added."""
    fault = Stall(after=1, length=1.0)
    weir = await gate(await provide(fault), server=OFTEN, usage="leave")
    client, straight = await asyncio.gather(weir.fetch(), direct(await provide(fault)))
    record = await weir.record()
    count = record.mutations["keepalive"]
    assert 1 <= count <= 3
    assert client.body.count(COMMENT) == count
    assert b"\n\n" + COMMENT in client.body
    assert client.body.replace(COMMENT, b"") == straight.body
    assert record.cadence.gap_max > 0.9  # a comment does not split a gap


async def test_never_inside_an_event(provide: Any, gate: Any, direct: Any) -> None:
    """When the upstream falls silent in the middle of an event, what comes out is still whole events and comments (A9b)."""
    fault = Stall(after=1, length=0.8, cut=20)
    weir = await gate(await provide(fault), server=OFTEN, usage="leave")
    client, straight = await asyncio.gather(weir.fetch(), direct(await provide(fault)))
    assert client.body.replace(COMMENT, b"") == straight.body
    for frame in client.body.split(b"\n\n"):
        assert frame.startswith((b"data: ", b": ")) or not frame
        assert b"keepalive" not in frame.removeprefix(b": keepalive")


async def test_never_inside_an_event_that_is_out(provide: Any, gate: Any, make: Any) -> None:
    """Half of an event too large to hold is out: until it ends, nothing of ours is put into it (A9b)."""
    huge = b'data: {"choices":[{"delta":{"content":"' + b"x" * 200_000
    weir = await gate(await provide(make.chunked(make.event("a"), huge, 0.8, b'"}}]}\n\n', DONE)), server=OFTEN)
    client = await weir.fetch()
    assert client.body == make.event("a") + huge + b'"}}]}\n\n' + DONE


@judged_in_rounds
async def test_an_upstream_that_pings_is_enough(provide: Any, gate: Any, direct: Any) -> None:
    """Comments of the upstream's own are passed on, and ours are not added to them."""
    fault = PingStorm(every=0.1, after=1, lasting=0.8)
    weir = await gate(await provide(fault), server=OFTEN, usage="leave")
    client, straight = await asyncio.gather(weir.fetch(), direct(await provide(fault)))
    assert client.body == straight.body
    assert (await weir.record()).mutations == {}


@judged_in_rounds
async def test_a_fallback_after_a_comment(provide: Any, gate: Any) -> None:
    """Once a comment is out the status is 200, but another target may still be chosen, and no byte of the first is seen (A9e)."""
    weir = await gate(await provide(SlowFirstToken(delay=30, ping_every=0.02)), await provide(), server=OFTEN, first_token={"timeout": 0.5})
    client = await weir.fetch()
    record = await weir.record()
    assert client.body.startswith(COMMENT + b"data: ")
    assert (client.status, client.body.endswith(DONE), b"ping" in client.body) == (200, True, False)
    assert "x-weir-upstream" not in client.headers  # not known yet when the headers left
    assert (record.upstream, record.outcome) == ("b", "completed")


@judged_in_rounds
async def test_an_error_after_a_comment(provide: Any, gate: Any) -> None:
    """A status that comes too late to be one is an error event; the record knows the upstream's (A9e)."""
    late = Script((Pause(0.5), Send(head(429, {"Retry-After": "9"}, 2) + b"{}")))
    weir = await gate(await provide(late), server=OFTEN)
    client = await weir.fetch()
    record = await weir.record()
    assert (client.status, client.body.startswith(COMMENT + b'data: {"error"'), b"[DONE]" in client.body) == (200, True, False)
    assert (record.outcome, record.error, record.attempts[0].status) == ("upstream_error", "429", 429)


@judged_in_rounds
async def test_a_document_after_a_comment(provide: Any, gate: Any) -> None:
    """A stream was promised: a late document can only be told as an error."""
    late = Script((Pause(0.5), Send(head(200, {"Content-Type": "application/json"}, 2) + b"{}")))
    weir = await gate(await provide(late), server=OFTEN)
    client = await weir.fetch()
    assert client.body.startswith(COMMENT + b'data: {"error"')
    assert (await weir.record()).error == "not_a_stream"


@judged_in_rounds
async def test_a_quick_error_keeps_its_status(provide: Any, gate: Any) -> None:
    """Keepalives start late enough for an upstream's own answer to be a status (A9e)."""
    weir = await gate(await provide(Status(429, retry_after=9)), server=OFTEN)
    assert (await weir.fetch()).status == 429


async def test_documents_get_none(provide: Any, gate: Any) -> None:
    """There is no such thing as a comment in JSON."""
    weir = await gate(await provide(temper=LATE), server=OFTEN)
    client = await weir.fetch(stream=False)
    assert client.document["choices"]
    assert (await weir.record()).mutations == {}


async def test_none_when_turned_off(provide: Any, gate: Any, direct: Any) -> None:
    """`keepalive: 0s`."""
    weir = await gate(await provide(temper=LATE), server={"keepalive": 0}, usage="leave")
    client, straight = await asyncio.gather(weir.fetch(), direct(await provide(temper=LATE)))
    assert client.body == straight.body


@judged_in_rounds
async def test_while_it_queues_and_retries(provide: Any, gate: Any) -> None:
    """A client that waits in our own queue, or between two tries, is kept as patient."""
    busy = await provide(InOrder([Stall(after=1, length=0.7), Status(429, retry_after=0.7)]))
    weir = await gate(busy, server=OFTEN, upstreams={"a": {"max_streams": 1}})
    first = await (await weir.ask()).saw(b"content")
    queued = await weir.fetch()
    await first.finish()
    assert queued.body.startswith(COMMENT * 2)
    assert queued.body.endswith(DONE)
