"""A1, A2, A3, A6, A17, B1, B3, B5, B9: the doors beside each dialect's first (completions, generate, invoke, Gemini's array)."""

from typing import Any

import pytest

from gateway.sim.faults import InOrder
from gateway.sim.steps import Hang
from tests.faults.doors import DOORS
from tests.faults.scripts import CODES, ENDINGS, answer, ask, fetch

EACH = pytest.mark.parametrize("door", DOORS)


@EACH
async def test_a_good_answer_at_any_cut(provide: Any, gate: Any, door: str) -> None:
    """Cut in two anywhere, bytes and account are those of the whole answer (A3 A4 A6 A1d)."""
    tongue = DOORS[door]
    said = tongue.speech("one", "zwei é 𝄞", "three")
    cuts = [answer(tongue, said[:at], said[at:]) for at in range(5, len(said), 23)]
    weir = await gate(await provide(InOrder([answer(tongue, said), *cuts])), dialects=[tongue.name])
    for _ in range(len(cuts) + 1):
        client = await fetch(weir, tongue)
        assert (client.body, client.complete) == (said, True)
    accounts = {(record.outcome, record.cadence.chunks, str(record.usage), str(record.parser_errors)) for record in weir.book.records}
    assert accounts == {("completed", 3, str(weir.book.records[0].usage), "{}")}
    assert weir.book.records[0].usage.output == 3


@EACH
@pytest.mark.parametrize("how", ENDINGS)
@pytest.mark.parametrize("torn", [False, True], ids=["", "torn"])
async def test_a_stream_without_its_end(provide: Any, gate: Any, door: str, how: str, torn: bool) -> None:
    """What was said up to the last whole event, then one error, never an end (A1a A1b A1c A1d)."""
    tongue = DOORS[door]
    spoken = tongue.spoken("one", "two")
    said = spoken + (tongue.token("three")[:-9] if torn else b"")
    weir = await gate(await provide(answer(tongue, said, 0.02, ENDINGS[how])), dialects=[tongue.name])
    client = await fetch(weir, tongue)
    before, told = tongue.last_error(client.body)
    record = await weir.record()
    assert (before, tongue.ended(client.body)) == (spoken, False)
    assert tongue.same_code(told, CODES[how])
    assert (record.outcome, record.error) == ("upstream_truncated", CODES[how])


@EACH
@pytest.mark.parametrize("how", ENDINGS)
async def test_a_stream_with_its_end(provide: Any, gate: Any, door: str, how: str) -> None:
    """Complete however the connection ends, and nothing is added (A1d A17)."""
    tongue = DOORS[door]
    weir = await gate(await provide(answer(tongue, tongue.speech("one"), 0.02, ENDINGS[how])), dialects=[tongue.name])
    client = await fetch(weir, tongue)
    assert (client.body, client.complete, (await weir.record()).outcome) == (tongue.speech("one"), True, "completed")


@EACH
async def test_an_error_in_a_good_stream(provide: Any, gate: Any, door: str) -> None:
    """Verbatim, the outcome, and counted against its target (A2a A2d)."""
    tongue = DOORS[door]
    error, code = tongue.errors["limited"]
    weir = await gate(await provide(answer(tongue, tongue.spoken("one") + error)), dialects=[tongue.name])
    client = await fetch(weir, tongue)
    record = await weir.record()
    assert client.body == tongue.spoken("one") + error
    assert (record.outcome, record.error, weir.targets()[0].last_error) == ("upstream_error", code, code)


@EACH
async def test_a_client_that_leaves(provide: Any, gate: Any, until: Any, door: str) -> None:
    """Its upstream is closed with it, and nobody is blamed (B1c)."""
    tongue = DOORS[door]
    provider = await provide(answer(tongue, tongue.spoken("one"), Hang()))
    weir = await gate(provider, dialects=[tongue.name])
    (await (await ask(weir, tongue)).saw(tongue.spoken("one"))).reset()
    await until(lambda: provider.requests[0].closed_by == "peer", "the upstream is closed", 3.0)
    assert ((await weir.record()).outcome, weir.targets()[0].last_error) == ("client_disconnect", None)


@EACH
async def test_a_fallback(provide: Any, gate: Any, door: str) -> None:
    """A target that fails after its preamble is left, and no byte of it is seen (B3)."""
    tongue = DOORS[door]
    first = await provide(answer(tongue, tongue.spoken(), 0.02, ENDINGS["reset"]))
    weir = await gate(first, await provide(answer(tongue, tongue.speech("two"))), dialects=[tongue.name] * 2)
    client = await fetch(weir, tongue)
    assert (client.body, client.headers["x-weir-upstream"]) == (tongue.speech("two"), "b")


@EACH
async def test_silence_and_shutdown(provide: Any, gate: Any, door: str) -> None:
    """A stream given up for its silence, or ended by a drain, says so in the words of its door (B5 B9)."""
    tongue = DOORS[door]
    for code, outcome in (("upstream_silent", "upstream_stalled"), ("server_shutdown", "shutdown")):
        script = answer(tongue, tongue.spoken("one"), Hang())
        weir = await gate(await provide(script), dialects=[tongue.name], stall={"liveness": 0.3 if "silent" in code else 30})
        client = await (await ask(weir, tongue)).saw(tongue.spoken("one"))
        if outcome == "shutdown":
            await weir.worker.drain(0.05)
        await client.finish()
        before, told = tongue.last_error(client.body)
        assert (before, tongue.ended(client.body)) == (tongue.spoken("one"), False)
        assert tongue.same_code(told, code)
        assert (await weir.record()).outcome == outcome
