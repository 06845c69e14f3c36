"""A1, A2, A9, A13, B5: upstreams that say their last word and keep the connection, or say nothing at all, in every dialect."""

import asyncio
from typing import Any

import pytest

from gateway.sim.faults import Script
from gateway.sim.plan import head
from gateway.sim.steps import Hang, Pause, Send
from tests.faults.everywhere import in_every_dialect
from tests.faults.scripts import CODES, ENDINGS, answer, ask, fetch
from tests.faults.tongue import Tongue
from tests.faults.tongues import TONGUES

DIALECTS = pytest.mark.parametrize("dialect", TONGUES)
IMPATIENT = {"liveness": 0.4, "progress": 30}


async def test_an_end_and_then_silence(provide: Any, gate: Any) -> None:
    """An upstream that says its proper end marker and keeps the body open for ever has completed; nothing follows the end (A1d B5)."""

    async def story(tongue: Tongue) -> None:
        if tongue.name == "gemini":
            return  # it has no end marker: its end is a reason, as below
        weir = await gate(await provide(answer(tongue, tongue.speech("one"), Hang())), dialects=[tongue.name], stall=IMPATIENT)
        client = await fetch(weir, tongue)
        record = await weir.record()
        assert (client.body, client.complete) == (tongue.speech("one"), True)
        assert (record.outcome, record.error, weir.targets()[0].last_error) == ("completed", None, None)

    await in_every_dialect(story)


async def test_a_reason_and_then_silence(provide: Any, gate: Any) -> None:
    """A finish reason after which nothing comes is what it is at the end of the body: complete where no end marker is needed (A1f B5)."""

    async def story(tongue: Tongue) -> None:
        said = tongue.spoken("one") + tongue.finish
        weir = await gate(await provide(answer(tongue, said, Hang())), dialects=[tongue.name], stall=IMPATIENT)
        client = await fetch(weir, tongue)
        record = await weir.record()
        if tongue.needs_end:
            before, told = tongue.last_error(client.body)
            assert (before, tongue.same_code(told, "upstream_silent"), record.outcome) == (said, True, "upstream_stalled")
        else:
            assert (client.body, client.complete, record.outcome) == (said, True, "completed")

    await in_every_dialect(story)


async def test_an_error_and_then_silence(provide: Any, gate: Any) -> None:
    """An upstream that reports an error and keeps the body open has failed with that error: the client hears of one, not two (A2a B5)."""

    async def story(tongue: Tongue) -> None:
        error, code = tongue.errors["overloaded"]
        said = tongue.spoken("one") + error
        weir = await gate(await provide(answer(tongue, said, Hang())), dialects=[tongue.name], stall=IMPATIENT)
        client = await fetch(weir, tongue)
        record = await weir.record()
        assert client.body == said
        assert (record.outcome, record.error) == ("upstream_error", code)

    await in_every_dialect(story)


async def test_an_error_and_then_a_shutdown(provide: Any, gate: Any) -> None:
    """A drain that finds a stream which has failed already does not say that it was us (A2a B9)."""

    async def story(tongue: Tongue) -> None:
        error, code = tongue.errors["overloaded"]
        said = tongue.spoken("one") + error
        weir = await gate(await provide(answer(tongue, said, Hang())), dialects=[tongue.name])
        client = await (await ask(weir, tongue)).saw(said)
        await weir.worker.drain(0.1)
        await client.finish()
        record = await weir.record()
        assert (client.body, record.outcome, record.error) == (said, "upstream_error", code)

    await in_every_dialect(story)


@DIALECTS
async def test_an_error_after_the_preamble(provide: Any, gate: Any, dialect: str) -> None:
    """Once a preamble is out an error can only be told inside the stream: the upstream's own, verbatim, and only that (A2a)."""
    tongue = TONGUES[dialect]
    error, code = tongue.errors["overloaded"]
    weir = await gate(await provide(answer(tongue, tongue.spoken(), 0.1, error)), dialects=[dialect])
    client = await fetch(weir, tongue)
    record = await weir.record()
    assert (client.status, client.body) == (200, tongue.spoken() + error)
    assert (record.outcome, record.error, record.ttft) == ("upstream_error", code, None)


@DIALECTS
@pytest.mark.parametrize("how", ENDINGS)
async def test_a_stream_of_nothing(provide: Any, gate: Any, dialect: str, how: str) -> None:
    """A 200 without a single event is no answer: while nothing has been sent that is a status (A1a A1b A15b)."""
    tongue = TONGUES[dialect]
    weir = await gate(await provide(answer(tongue, 0.01, ENDINGS[how])), dialects=[dialect])
    client = await fetch(weir, tongue)
    record = await weir.record()
    assert (client.status, client.headers["content-type"]) == (502, "application/json")
    assert (record.outcome, record.error) == ("upstream_truncated", CODES[how])


async def test_our_keepalives_keep_no_upstream_alive(provide: Any, gate: Any) -> None:
    """What we say to a waiting client counts neither as a byte nor as a token of its upstream (A9c B5)."""

    async def story(tongue: Tongue) -> None:
        weir = await gate(
            await provide(answer(tongue, tongue.spoken("one"), Hang())),
            dialects=[tongue.name],
            stall={"liveness": 1.0, "progress": 30},
            server={"keepalive": 0.2},
        )
        client = await fetch(weir, tongue)
        record = await weir.record()
        count = record.mutations.get("keepalive", 0)
        before, told = tongue.last_error(client.body)
        assert before == tongue.spoken("one") + tongue.keepalive * count
        assert (tongue.same_code(told, "upstream_silent"), count > 0) == (True, tongue.keep_open)
        assert 1.0 <= record.ended_at - record.last_token_at < 2.5

    await in_every_dialect(story)


async def test_half_a_document_and_then_silence(provide: Any, gate: Any) -> None:
    """A document that stops in the middle is given up as a stream is: it ends visibly short, and holds nothing for ever (B5 A1e)."""

    async def story(tongue: Tongue) -> None:
        body = tongue.document
        half = Script((Send(head(200, {"Content-Type": "application/json"}, len(body)) + body[:-20]), Hang()))
        weir = await gate(await provide(half), dialects=[tongue.name], stall=IMPATIENT)
        client = await ask(weir, tongue, stream=False)
        await client.until(lambda: client.ended, 3.0)
        record = await weir.record()
        assert (client.body, client.complete) == (body[:-20], False)
        assert (record.outcome, record.error) == ("upstream_stalled", "upstream_silent")

    await in_every_dialect(story)


async def test_a_document_that_takes_its_time(provide: Any, gate: Any) -> None:
    """An answer in one piece comes when it is ready: until then there is no byte to wait for, and no timer of streams ends it (A13)."""

    async def story(tongue: Tongue) -> None:
        body = tongue.document
        late = Script((Pause(1.2), Send(head(200, {"Content-Type": "application/json"}, len(body)) + body)))
        weir = await gate(await provide(late), dialects=[tongue.name], stall={"liveness": 0.4, "progress": 0.4})
        client = await fetch(weir, tongue, stream=False)
        assert (client.status, client.body) == (200, body)

    await in_every_dialect(story)


async def test_many_short_silences(provide: Any, gate: Any) -> None:
    """However long a stream, no limit is on the whole of it: it outlives every timer there is while tokens come (A13 B5)."""

    async def story(tongue: Tongue) -> None:
        tokens = [piece for number in range(10) for piece in (tongue.token(f"{number}"), 0.15)]
        timers = {"stall": {"liveness": 0.5, "progress": 0.5}, "first_token": {"timeout": 0.5}, "client": {"write_timeout": 0.5}}
        weir = await gate(await provide(answer(tongue, tongue.spoken(), *tokens, tongue.proper)), dialects=[tongue.name], **timers)
        client = await fetch(weir, tongue)
        assert client.body == tongue.spoken() + b"".join(tokens[::2]) + tongue.proper
        assert client.pieces[-1][0] - client.sent_at > 1.4

    await asyncio.wait_for(in_every_dialect(story), 30)
