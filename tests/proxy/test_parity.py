"""Every dialect gets the same account: the same script, spoken in each, gives the same times, counts and bytes."""

from typing import Any

import msgspec
import pytest

from gateway.core.prompt import Prompt, Text, Turn
from gateway.dialects import DIALECTS
from gateway.sim.tempers import INSTANT
from tests.rig.rounds import judged_in_rounds

HELLO = Prompt(model="m", stream=True, turns=(Turn("user", (Text("hello"),)),), max_tokens=50)
TTFT, GAP, TOKENS = 0.15, 0.03, 5
SCRIPTED = msgspec.structs.replace(INSTANT, ttft=TTFT, gap=GAP, tokens=TOKENS)
TOLERANCE, TRIES = 0.005, 12
"""Seconds, and how often a machine that is busy with something else may be late."""


@pytest.mark.parametrize("dialect", DIALECTS)
@judged_in_rounds
async def test_the_same_script_gives_the_same_account(provide: Any, gate: Any, make: Any, dialect: str) -> None:
    """The first token when the script has it, within 5 ms; as many tokens, as many gaps, the same text, usage, a proper end (D1b)."""
    weir = await gate(await provide(temper=SCRIPTED), dialects=[dialect])
    off = []
    for number in range(1, TRIES + 1):
        _, request = make.call(dialect, HELLO)
        await (await weir.client()).ask(request).finish()
        record = await weir.record(number)
        assert (record.outcome, record.dialect, record.streamed, record.mutations.get("translated")) == ("completed", dialect, True, None)
        assert (record.cadence.chunks, record.cadence.arrivals) == (TOKENS, TOKENS)
        assert record.usage is not None
        assert (record.usage.output, record.finish != []) == (TOKENS, True)
        [attempt] = record.attempts
        off.append(abs(attempt.first_token_at - attempt.sent_at - TTFT))
        assert attempt.first_event_at <= attempt.first_token_at
        if off[-1] <= TOLERANCE:
            break
    assert min(off) <= TOLERANCE, off


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_between_equals_not_a_byte_is_changed(provide: Any, gate: Any, direct: Any, make: Any, dialect: str) -> None:
    """A client and an upstream of one dialect might as well have no gateway between them."""
    weir = await gate(await provide(temper=SCRIPTED), dialects=[dialect], usage="leave")
    for stream in (True, False):
        _, request = make.call(dialect, msgspec.structs.replace(HELLO, stream=stream))
        client = await (await weir.client()).ask(request).finish()
        twin = await provide(temper=SCRIPTED)
        twin._ordinal = 0 if stream else 1  # its second answer, as it was the other's
        expected = await direct(twin, request=request)
        assert (client.status, client.headers["content-type"]) == (200, expected.headers["content-type"])
        assert client.body == expected.body


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_client_that_leaves_takes_its_upstream_along(provide: Any, gate: Any, make: Any, until: Any, dialect: str) -> None:
    """In any dialect, long before the answer would have ended, and it is the client's choice."""
    provider = await provide(temper=msgspec.structs.replace(SCRIPTED, tokens=500))
    weir = await gate(provider, dialects=[dialect])
    _, request = make.call(dialect, msgspec.structs.replace(HELLO, max_tokens=None))
    client = (await weir.client()).ask(request)
    await client.until(lambda: client.pieces)
    client.close()
    await until(lambda: provider.open_streams == 0, "the upstream is closed", 5.0)
    assert (await weir.record()).outcome == "client_disconnect"
