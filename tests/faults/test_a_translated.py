"""A1, A2, A17, B1, B3, B4, B5: the same faults when upstream and client speak different dialects, for every pair of them."""

from typing import Any

import pytest

from gateway.sim.faults import Script
from gateway.sim.plan import head
from gateway.sim.steps import Hang, Send
from tests.faults.everywhere import in_every_dialect
from tests.faults.scripts import CODES, ENDINGS, answer, ask, fetch, whole
from tests.faults.tongue import Tongue
from tests.faults.tongues import TONGUES

DIALECTS = pytest.mark.parametrize("dialect", TONGUES)
FAMILY = {"azure": "openai"}
"""Dialects that differ in addresses alone are never translated."""


def foreign(tongue: Tongue) -> list[Tongue]:
    """Return the dialects that an upstream may speak when a client speaks this one."""
    mine = FAMILY.get(tongue.name, tongue.name)
    return [other for other in TONGUES.values() if FAMILY.get(other.name, other.name) != mine]


@DIALECTS
async def test_a_good_answer(provide: Any, gate: Any, dialect: str) -> None:
    """Whatever its upstream speaks, a client gets its own dialect's proper end, once, and no error (A1d)."""
    tongue = TONGUES[dialect]
    for other in foreign(tongue):
        weir = await gate(await provide(answer(other, *other.split(other.speech("alpha", "beta")))), dialects=[other.name])
        client = await fetch(weir, tongue)
        record = await weir.record()
        events = tongue.split(client.body)
        assert client.headers["content-type"].startswith(tongue.media_type)
        assert sum(map(tongue.ends, events)) == 1, other.name
        assert [event for event in events if tongue.told(event)] == []
        assert client.body.index(b"alpha") < client.body.index(b"beta")
        assert (record.outcome, record.cadence.chunks, record.usage.input) == ("completed", 2, 5)


@DIALECTS
@pytest.mark.parametrize("how", ENDINGS)
async def test_half_an_event_and_no_more(provide: Any, gate: Any, caplog: Any, dialect: str, how: str) -> None:
    """Half an event and no end: what was said before it, then one error in the client's dialect, and no word in the log (A1c)."""
    tongue = TONGUES[dialect]
    for other in foreign(tongue):
        said = other.spoken("alpha", "beta") + other.token("gamma")[:-9]
        weir = await gate(await provide(answer(other, said, 0.02, ENDINGS[how])), dialects=[other.name])
        client = await fetch(weir, tongue)
        record = await weir.record()
        logged = [entry.getMessage() for entry in caplog.records]
        caplog.clear()
        before, told = tongue.last_error(client.body)
        assert (b"beta" in before, b"gamma" in before, tongue.ended(client.body)) == (True, False, False), other.name
        assert tongue.same_code(told, CODES[how])
        assert (record.outcome, record.error, logged) == ("upstream_truncated", CODES[how], [])


@DIALECTS
@pytest.mark.parametrize("how", ENDINGS)
async def test_a_stream_without_its_end(provide: Any, gate: Any, dialect: str, how: str) -> None:
    """A stream that breaks off: what was said, then one error in the client's dialect, never an end (A1a A1b A1d)."""
    tongue = TONGUES[dialect]
    for other in foreign(tongue):
        said = other.spoken("alpha", "beta")
        weir = await gate(await provide(answer(other, said, 0.02, ENDINGS[how])), dialects=[other.name])
        client = await fetch(weir, tongue)
        record = await weir.record()
        before, told = tongue.last_error(client.body)
        assert (b"beta" in before, tongue.ended(client.body)) == (True, False), other.name
        assert tongue.same_code(told, CODES[how])
        assert (record.outcome, record.error) == ("upstream_truncated", CODES[how])


@DIALECTS
@pytest.mark.parametrize("what", ["overloaded", "limited"])
async def test_an_error_in_a_good_stream(provide: Any, gate: Any, dialect: str, what: str) -> None:
    """An error that the upstream reports after tokens is said in the client's dialect, whatever end follows it (A2a A2b A2d B4)."""
    tongue = TONGUES[dialect]
    for other in foreign(tongue):
        error, code = other.errors[what]
        spare = await provide()
        script = answer(other, other.spoken("alpha") + error + other.proper)
        weir = await gate(await provide(script), spare, dialects=[other.name, dialect])
        client = await fetch(weir, tongue)
        record = await weir.record()
        before, told = tongue.last_error(client.body)
        assert (b"alpha" in before, tongue.ended(client.body), spare.total) == (True, False, 0), other.name
        assert tongue.same_code(told, code) or told[0] == code.lower()
        assert (record.outcome, record.error, weir.targets()[0].last_error) == ("upstream_error", code, code)


@DIALECTS
async def test_an_error_as_first_event(provide: Any, gate: Any, dialect: str) -> None:
    """With nothing sent it is a status in the client's dialect; the status of a refusal is kept, and its Retry-After (A15a A15b)."""
    tongue = TONGUES[dialect]
    for other in foreign(tongue):
        error, code = other.errors["limited"]
        weir = await gate(await provide(answer(other, error)), dialects=[other.name])
        client = await fetch(weir, tongue)
        assert client.status == (502 if other.name == "ollama" else 429)
        assert (client.headers["content-type"], (await weir.record()).error) == ("application/json", code)
        refusal = whole(429, other.refused(429, "Slower"), {"Retry-After": "9"})
        weir = await gate(await provide(refusal), dialects=[other.name])
        client = await fetch(weir, tongue)
        assert (client.status, client.headers["retry-after"]) == (429, "9")
        assert set(client.document) <= {"error", "type", "message", "__type"}
        assert b"Slower" in client.body


@DIALECTS
async def test_a_fallback_to_another_dialect(provide: Any, gate: Any, dialect: str) -> None:
    """A target that fails before its first token leaves no trace in the answer of the next, whatever the two speak (B3)."""
    tongue = TONGUES[dialect]
    for other in foreign(tongue):
        failing = answer(other, *other.preamble, 0.02, other.errors["overloaded"][0])
        good = answer(tongue, tongue.speech("two"))
        weir = await gate(await provide(failing), await provide(good), dialects=[other.name, dialect])
        client = await fetch(weir, tongue)
        assert (client.body, client.headers["x-weir-upstream"]) == (tongue.speech("two"), "b")
        assert [attempt.outcome for attempt in (await weir.record()).attempts] == ["error_event", "won"]


@DIALECTS
async def test_a_client_that_leaves(provide: Any, gate: Any, until: Any, dialect: str) -> None:
    """The upstream of a translated stream is closed with its client, and nobody is blamed (B1c)."""
    tongue = TONGUES[dialect]
    for other in foreign(tongue):
        provider = await provide(answer(other, other.spoken("alpha"), Hang()))
        weir = await gate(provider, dialects=[other.name])
        (await (await ask(weir, tongue)).saw(b"alpha")).reset()
        await until(lambda provider=provider: provider.requests[0].closed_by == "peer", "the upstream is closed", 3.0)
        assert (await weir.record()).outcome == "client_disconnect"
        assert weir.targets()[0].last_error is None


async def test_silence(provide: Any, gate: Any) -> None:
    """An upstream that falls silent is given up, and the client told in its own dialect (B5)."""

    async def story(tongue: Tongue) -> None:
        for other in foreign(tongue)[:3]:
            stall = {"liveness": 0.4, "progress": 30}
            weir = await gate(await provide(answer(other, other.spoken("alpha"), Hang())), dialects=[other.name], stall=stall)
            client = await fetch(weir, tongue)
            before, told = tongue.last_error(client.body)
            assert (b"alpha" in before, tongue.ended(client.body)) == (True, False)
            assert tongue.same_code(told, "upstream_silent")
            assert (await weir.record()).outcome == "upstream_stalled"

    await in_every_dialect(story)


@DIALECTS
async def test_a_document_for_a_stream(provide: Any, gate: Any, dialect: str) -> None:
    """A whole answer of another dialect to a call for a stream is said as the stream that was asked for (A15c)."""
    tongue = TONGUES[dialect]
    for other in foreign(tongue):
        weir = await gate(await provide(whole(200, other.document)), dialects=[other.name])
        client = await fetch(weir, tongue)
        record = await weir.record()
        assert client.headers["content-type"].startswith(tongue.media_type)
        assert (b"hi" in client.body, tongue.ended(client.body)) == (True, True), other.name
        assert (record.outcome, record.usage.output) == ("completed", 3)


@DIALECTS
@pytest.mark.parametrize("how", ["fin", "reset", "clean"])
async def test_half_a_document(provide: Any, gate: Any, dialect: str, how: str) -> None:
    """Half a document cannot be translated: nothing of it has been sent, so it is a status (A1b A1e)."""
    tongue = TONGUES[dialect]
    for other in foreign(tongue):
        said, body = {"Content-Type": "application/json"}, other.document[:-9]
        half = Script((Send(head(200, said, len(body) if how == "clean" else 9999) + body), *([] if how == "clean" else [ENDINGS[how]])))
        weir = await gate(await provide(half), dialects=[other.name])
        client = await fetch(weir, tongue, stream=False)
        assert (client.status, client.headers["content-type"]) == (502, "application/json")
        assert (await weir.record()).outcome == "upstream_truncated"
