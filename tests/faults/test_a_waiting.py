"""A9: what a client hears while it waits, where its dialect has a word for it, and that the word is never in the way."""

from functools import partial
from typing import Any

import pytest

from gateway.sim.faults import Script
from gateway.sim.steps import Pause
from tests.faults.everywhere import in_every_dialect
from tests.faults.scripts import answer, ask, fetch, whole
from tests.faults.tongue import Tongue
from tests.faults.tongues import TONGUES
from tests.rig.rounds import judged_in_rounds

DIALECTS = pytest.mark.parametrize("dialect", TONGUES)
OFTEN = {"keepalive": 0.2}


def late(script: Script, seconds: float) -> Script:
    """The same answer, begun later."""
    return Script((Pause(seconds), *script.steps))


async def test_a_client_that_waits(provide: Any, gate: Any) -> None:
    """While nothing comes its client hears, in each dialect's own way, that it is still served; then the answer as it is (A9a A9c A9d)."""

    async def story(tongue: Tongue) -> None:
        weir = await gate(await provide(late(answer(tongue, tongue.speech("one")), 1.0)), dialects=[tongue.name], server=OFTEN)
        client = await fetch(weir, tongue)
        record = await weir.record()
        count = record.mutations.get("keepalive", 0)
        assert client.body == tongue.keepalive * count + tongue.speech("one")
        assert (count >= 2) == tongue.keep_open
        assert (record.outcome, record.ttft > 0.9) == ("completed", True)
        assert record.attempts[0].first_token_at - record.attempts[0].sent_at > 0.9

    await in_every_dialect(story)


async def test_a_stream_that_pauses(provide: Any, gate: Any) -> None:
    """Between two events too; what is put there splits no gap and is no token (A9a A9c A9d)."""

    async def story(tongue: Tongue) -> None:
        first, rest = tongue.spoken("one"), tongue.token("two") + tongue.proper
        weir = await gate(await provide(answer(tongue, first, 1.0, rest)), dialects=[tongue.name], server=OFTEN)
        client = await fetch(weir, tongue)
        record = await weir.record()
        count = record.mutations.get("keepalive", 0)
        assert client.body == first + tongue.keepalive * count + rest
        assert (count >= 1) == tongue.keep_open
        assert (record.cadence.chunks, record.cadence.gap_max > 0.9) == (2, True)

    await in_every_dialect(story)


async def test_a_stream_that_pauses_inside_an_event(provide: Any, gate: Any) -> None:
    """However much of an event has come, nothing is put into it: between whole events or, when half of one is out, nowhere (A9b)."""

    async def pause(tongue: Tongue, size: int) -> None:
        first, torn, rest = tongue.spoken("one"), tongue.token("x" * size), tongue.proper
        weir = await gate(await provide(answer(tongue, first, torn[:-20], 0.8, torn[-20:], rest)), dialects=[tongue.name], server=OFTEN)
        client = await fetch(weir, tongue)
        count = (await weir.record()).mutations.get("keepalive", 0)
        assert client.body == first + tongue.keepalive * count + torn + rest
        assert count == 0 or (tongue.keep_open and size < 65_536)

    for size in (200, 200_000):
        await in_every_dialect(partial(pause, size=size))


async def test_an_error_that_comes_too_late_to_be_a_status(provide: Any, gate: Any) -> None:
    """Once a client has been kept waiting an upstream's 429 is told as an error event, and the record knows its status (A9e)."""

    async def story(tongue: Tongue) -> None:
        refusal = whole(429, tongue.refused(429, "No"), {"Retry-After": "9"})
        weir = await gate(await provide(late(refusal, 0.7)), dialects=[tongue.name], server=OFTEN)
        client = await fetch(weir, tongue)
        record = await weir.record()
        assert (record.outcome, record.error, record.attempts[0].status) == ("upstream_error", "429", 429)
        if tongue.keep_open:
            before, told = tongue.last_error(client.body)
            assert (client.status, before.replace(tongue.keepalive, b"")) == (200, b"")
            assert tongue.same_code(told, "429")
        else:
            assert (client.status, client.body) == (429, tongue.refused(429, "No"))

    await in_every_dialect(story)


@DIALECTS
@judged_in_rounds
async def test_a_quick_refusal_keeps_its_status(provide: Any, gate: Any, dialect: str) -> None:
    """Keepalives begin late enough for an upstream's own answer to be a status (A9e A15a)."""
    tongue = TONGUES[dialect]
    weir = await gate(await provide(whole(503, tongue.refused(503, "No"), {"Retry-After": "9"})), dialects=[dialect], server=OFTEN)
    client = await (await ask(weir, tongue)).finish()
    assert (client.status, client.body) == (503, tongue.refused(503, "No"))


async def test_pings_of_the_upstream_are_enough(provide: Any, gate: Any) -> None:
    """Where the upstream shows that it lives its client hears that, verbatim, and nothing of ours (A9a)."""

    async def story(tongue: Tongue) -> None:
        first, rest = tongue.spoken("one"), tongue.token("two") + tongue.proper
        script = answer(tongue, first, *[0.1, tongue.idle] * 7, rest)
        weir = await gate(await provide(script), dialects=[tongue.name], server={"keepalive": 0.4})
        assert (await fetch(weir, tongue)).body == first + tongue.idle * 7 + rest
        assert (await weir.record()).mutations == {}

    await in_every_dialect(story)
