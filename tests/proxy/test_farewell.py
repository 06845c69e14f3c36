"""The end of an answer: a client has to take it, in its own time but not for ever, and an answer it did not take is none that completed."""

import asyncio
from typing import Any

import pytest

from gateway.core.errors import Stopped
from gateway.core.prompt import Prompt, Text, Turn
from gateway.sim.faults import Script
from gateway.sim.plan import head
from gateway.sim.steps import Pause, Reset, Send

HELLO = Prompt(model="m", stream=True, turns=(Turn("user", (Text("hello"),)),), max_tokens=50)
LONG = 3_000_000


async def deaf_at_the_end(provide: Any, gate: Any, make: Any, until: Any, **client: Any) -> Any:
    """A client of Responses that has read a long answer, and then nothing of the last words, which repeat all of it."""
    pieces = [make.event("x" * 20_000) for _ in range(LONG // 20_000)]
    weir = await gate(await provide(make.chunked(make.event(), *pieces, 1.0, Reset())), client=client)
    _, request = make.call("openai-responses", HELLO)
    reader = (await weir.client(buffer=4096)).ask(request)
    await reader.until(lambda: len(reader.body) > LONG)
    reader.transport.pause_reading()
    live = next(iter(weir.plane.live.values()))
    await until(lambda: live.record.outcome == "upstream_truncated", "the upstream has broken off")
    return weir, live


async def test_last_words_that_nobody_takes(provide: Any, gate: Any, make: Any, until: Any) -> None:
    """After `write_timeout` without a byte taken the connection goes, and with it all that was held for the stream (E1b B7)."""
    weir, _ = await deaf_at_the_end(provide, gate, make, until, write_timeout="500ms")
    record = await weir.record()
    assert record.outcome == "upstream_truncated"  # that it failed is what counts, whoever heard of it
    await until(lambda: weir.in_flight() == 0, "nothing is held")


async def test_a_shutdown_does_not_wait_for_who_does_not_listen(provide: Any, gate: Any, make: Any, until: Any) -> None:
    """A stream whose last words are on their way can be ended like any other (B9)."""
    weir, live = await deaf_at_the_end(provide, gate, make, until)
    live.end_early(Stopped("the gateway is shutting down"))
    assert (await weir.record()).outcome == "upstream_truncated"
    await until(lambda: weir.in_flight() == 0, "nothing is held")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_with_much_of_its_answer_not_taken(provide: Any, gate: Any, make: Any, until: Any, stream: bool) -> None:
    """The upstream has said all of it, and most of it waits here: the client has not had its answer (A17 B1)."""
    body = b"".join(make.event("x" * 1000) for _ in range(6000)) + make.event(finish="stop") + b"data: [DONE]\n\n"
    media_type = "text/event-stream" if stream else "application/json"
    provider = await provide(Script((Send(head(200, {"Content-Type": media_type}, len(body)) + body), Pause(0.3))))
    weir = await gate(provider)
    client = await weir.client(buffer=2048)
    client.transport.pause_reading()
    client.ask(make.request(stream=stream))
    await until(lambda: weir.plane.watch.watched and next(iter(weir.plane.live.values())).ledger.owner == "client_blocked")
    await asyncio.sleep(0.2)
    client.reset()
    assert (await weir.record()).outcome == "client_disconnect"
