"""A worker whose place another takes: it leaves when nobody needs it any more, and not before."""

import asyncio
from typing import Any

from gateway.sim.faults import Stall
from gateway.sim.tempers import Temper

DRAIN = {"x-weir-on-disconnect": "drain"}
ALIVE = b"GET /livez HTTP/1.1\r\nHost: w\r\n\r\n"


async def test_what_is_under_way_ends_and_what_is_kept_is_told_to_go(provide: Any, gate: Any) -> None:
    """A stream runs on, a call on a connection that was open before is answered with `Connection: close`, and an idle one is closed."""
    weir = await gate(await provide(Stall(after=1, length=0.5)))
    running, calling, idle = await weir.ask(), await weir.client(), await weir.client()
    for client in (calling, idle):
        await client.ask(ALIVE).finish()
    await running.saw(b"content")
    retiring = asyncio.get_running_loop().create_task(weir.worker.retire())
    await asyncio.sleep(0.05)
    await calling.ask(ALIVE).finish()
    assert (calling.status, calling.headers["connection"], weir.worker.state) == (200, "close", "retiring")
    await running.finish()
    assert running.body.endswith(b"data: [DONE]\n\n")
    await idle.gone()
    await retiring
    assert [record.outcome for record in weir.book.records] == ["completed"]


async def test_a_stream_on_tape_is_waited_for(provide: Any, gate: Any, until: Any) -> None:
    """Its client has gone and may come back: the worker that holds the tape stays until the stream has ended and the tape is dropped."""
    weir = await gate(await provide(temper=Temper(ttft=0, gap="20ms", tokens=60)))
    client = await (await weir.ask(DRAIN)).saw(b"id: 3\n")
    retiring = asyncio.get_running_loop().create_task(weir.worker.retire())
    client.reset()
    await until(lambda: not weir.worker._connections(), "its client has gone")
    await asyncio.sleep(0.5)  # several looks
    assert (retiring.done(), len(weir.plane.shelf)) == (False, 1)
    [tape] = weir.plane.shelf._tapes.values()
    tape.give_up()
    await weir.record()
    weir.plane.shelf.drop(tape)
    await asyncio.wait_for(retiring, 5)
