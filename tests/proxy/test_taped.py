"""Streams on tape that somebody ends: in the moment of their birth, and while a client takes what they have left behind."""

import asyncio
from typing import Any

import msgspec
import pytest

from gateway.core.errors import Aborted, GatewayError, Stopped
from gateway.sim.faults import Silent
from gateway.sim.tempers import INSTANT
from tests.proxy.test_rejoin import back, talking

LOOPS = "both"
ENDS = {"operator_abort": Aborted("an operator has stopped this stream"), "shutdown": Stopped("the gateway is shutting down")}


def ends_at_birth(weir: Any, why: GatewayError) -> None:
    """Have every stream ended in the loop turn in which it is born: after its call was admitted, before its task takes a step."""
    plane, clock, born = weir.plane, weir.plane.clock, set[str]()

    def watching() -> float:
        for stream_id in plane.live.keys() - born:
            born.add(stream_id)
            asyncio.get_running_loop().call_soon(plane.live[stream_id].end_early, why)
        return float(clock())

    plane.clock = watching


@pytest.mark.parametrize("outcome", ENDS)
async def test_a_stream_that_is_ended_at_its_birth(provide: Any, gate: Any, outcome: str) -> None:
    """It is settled as any other: one record, nothing live, no tape, no word to an upstream, and its client is answered (B9 E1b)."""
    provider, why = await provide(Silent()), ENDS[outcome]
    weir = await gate(provider, client={"on_disconnect": "drain"})
    ends_at_birth(weir, why)
    client = await weir.fetch()
    record = await weir.record()
    assert (client.status, client.document["error"]["code"]) == (why.status, why.code)
    assert (record.outcome, record.error, record.attempts) == (outcome, why.code, [])
    assert (len(weir.plane.live), weir.in_flight(), provider.total) == (0, 0, 0)
    assert (await (await back(weir, record.stream_id)).finish()).status == why.status


@pytest.mark.parametrize("outcome", ENDS)
async def test_a_client_that_is_cut_off_while_it_takes_what_it_missed(provide: Any, gate: Any, until: Any, outcome: str) -> None:
    """Its upstream has ended, it has not: who ends it is told as the one who did, and nothing of it can be had any more (B9 B13)."""
    provider = await provide(temper=msgspec.structs.replace(INSTANT, tokens=20_000))
    weir = await gate(provider, client={"on_disconnect": "drain", "tape": "32MiB", "drain": 60})
    first = await talking(weir, None)
    stream_id = first.headers["x-weir-stream-id"]
    [live] = weir.plane.live.values()
    first.reset()
    await until(lambda: live.reply.ended, "the upstream has said everything, and nobody hears it")
    slow = await back(weir, stream_id)
    await slow.saw(b"id: 1\n")
    slow.transport.pause_reading()
    await until(lambda: live.reply.lag > 0 and not live.reply.heard_out)
    live.end_early(ENDS[outcome])
    record = await weir.record()
    slow.transport.resume_reading()
    await slow.gone()
    assert (record.outcome, record.error, slow.complete) == (outcome, ENDS[outcome].code, False)
    assert (len(weir.plane.shelf), (await (await back(weir, stream_id)).finish()).status) == (0, 404)


async def test_an_id_of_the_upstream_alone_moves_nobody(provide: Any, gate: Any, make: Any) -> None:
    """An upstream that says an id without an event does not send its client back to another place: what follows comes once (B13)."""
    first, second, last = make.event("one"), make.event("two"), b"data: [DONE]\n\n"
    body = first + b"id: 77\n\n" + b"retry: 5\n\n" + second + b"id: 1\n\n: id\n\n" + last
    weir = await gate(await provide(make.chunked(body)), client={"on_disconnect": "drain"})
    client = await weir.fetch()
    ending = b"id: 1\nid: 2\n\n" + b": id\n\n" + last[:-1] + b"id: 3\n\n"
    said = b"id: 77\nid: 1\n\n" + b"retry: 5\n\n" + second[:-1] + b"id: 2\n\n" + ending
    assert client.body == first[:-1] + b"id: 1\n\n" + said
    rest = await (await back(weir, client.headers["x-weir-stream-id"], 2)).finish()
    assert rest.body == ending
    assert (await weir.record()).mutations["event_id"] == 5
