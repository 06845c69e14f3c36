"""B1, B6, B7: a client that leaves ends its upstream call at once, is nobody's failure, and nothing of it is left, in every dialect."""

from typing import Any

import pytest

from gateway.sim.faults import InOrder, Script, Silent
from gateway.sim.plan import head
from gateway.sim.steps import Hang, Reset, Send
from tests.faults.scripts import answer, ask, fetch, whole
from tests.faults.tongue import Tongue
from tests.faults.tongues import TONGUES
from tests.rig.rounds import judged_in_rounds

DIALECTS = pytest.mark.parametrize("dialect", TONGUES)
WITHIN = 1.0
"""Seconds; it takes milliseconds. The rounds leave out a machine that is busy."""
SMALL = {"segment": 1000, "buffer": 4096}


async def gone(weir: Any, provider: Any, until: Any, at: float) -> Any:
    """See what every way to leave must show."""
    request = provider.requests[-1]
    await until(lambda: request.closed_by, "the upstream's connection is closed", WITHIN)
    assert (request.closed_by, request.closed_at - at < WITHIN) == ("peer", True)
    record = await weir.record()
    assert (record.outcome, record.error, len(weir.book.records)) == ("client_disconnect", None, 1)
    await until(lambda: weir.in_flight() == 0)
    assert {state.last_error for state in weir.targets()} <= {None}
    return record


def phases(tongue: Tongue) -> dict[str, tuple[Any, bytes]]:
    """When a client may leave: what the upstream does, and what the client has of it by then."""
    spoken = tongue.spoken("one")
    document = Script((Send(head(200, {"Content-Type": "application/json"}, 9999) + tongue.document), Hang()))
    return {
        "before headers": (Silent(), b""),
        "before the first token": (answer(tongue, tongue.spoken(), Hang()), tongue.preamble[0]),
        "mid-stream": (answer(tongue, spoken, Hang()), spoken),
        "inside an event": (answer(tongue, spoken + tongue.token("two")[:-5], Hang()), spoken),
        "a whole answer": (Silent(), b""),
        "half an answer": (document, tongue.document),
    }


@DIALECTS
@pytest.mark.parametrize("phase", phases(TONGUES["openai"]))
@pytest.mark.parametrize("leave", ["reset", "close"])
@judged_in_rounds
async def test_in_every_phase(provide: Any, gate: Any, until: Any, dialect: str, phase: str, leave: str) -> None:
    """Before headers, before a token, mid-stream, of a document: the provider sees its connection close (B1a B1b B1c B1f)."""
    tongue = TONGUES[dialect]
    script, seen = phases(tongue)[phase]
    provider = await provide(script)
    weir = await gate(provider, dialects=[dialect])
    client = await ask(weir, tongue, stream="answer" not in phase)
    await until(lambda: provider.total)
    await client.saw(seen)
    await gone(weir, provider, until, getattr(client, leave)())


@DIALECTS
@judged_in_rounds
async def test_while_bytes_are_held(provide: Any, gate: Any, until: Any, dialect: str) -> None:
    """Also while a preamble is held back because another target is left (B1b)."""
    tongue = TONGUES[dialect]
    provider = await provide(answer(tongue, tongue.spoken(), Hang()))
    weir = await gate(provider, await provide(), dialects=[dialect] * 2, first_token={"timeout": 60})
    client = await ask(weir, tongue)
    await until(lambda: any(live.record.attempts[0].headers_at for live in weir.plane.live.values()))
    assert client.body == b""
    await gone(weir, provider, until, client.reset())


@DIALECTS
@judged_in_rounds
async def test_while_it_does_not_read(provide: Any, gate: Any, until: Any, dialect: str) -> None:
    """While the gateway waits for a client that takes nothing, its leaving is seen all the same (B1d)."""
    tongue = TONGUES[dialect]
    provider = await provide(answer(tongue, tongue.spoken(), *[tongue.token("x" * 4000) * 100] * 20, Hang()))
    weir = await gate(provider, dialects=[dialect])
    client = await weir.client(**SMALL)
    client.transport.pause_reading()
    client.ask(tongue.request())
    await until(lambda: any(live.ledger.owner == "client_blocked" for live in weir.plane.live.values()))
    record = await gone(weir, provider, until, client.reset())
    assert record.seconds["client_blocked"] > 0


@DIALECTS
@judged_in_rounds
async def test_during_a_fallback(provide: Any, gate: Any, until: Any, dialect: str) -> None:
    """The second attempt ends with its client as the first would have (B1e)."""
    tongue = TONGUES[dialect]
    second = await provide(Silent())
    weir = await gate(await provide(answer(tongue, tongue.spoken(), Hang())), second, dialects=[dialect] * 2, first_token={"timeout": 0.1})
    client = await ask(weir, tongue)
    await until(lambda: second.total)
    record = await gone(weir, second, until, client.reset())
    assert [attempt.outcome for attempt in record.attempts] == ["slow", "cancelled"]


@DIALECTS
async def test_aborts_blame_nobody(provide: Any, gate: Any, until: Any, dialect: str) -> None:
    """Clients that leave one after the other, before and after the first token, change nothing about their target (B6)."""
    tongue = TONGUES[dialect]
    scripts = [answer(tongue, tongue.spoken(), Hang()), answer(tongue, tongue.spoken("one"), Hang())] * 4
    provider = await provide(InOrder(scripts))
    weir = await gate(provider, dialects=[dialect], breaker={"failures": 2})
    for number in range(len(scripts)):
        client = await ask(weir, tongue)
        await client.saw(tongue.spoken("one") if number % 2 else tongue.spoken())
        client.reset()
        await weir.record(number + 1)
    [state] = weir.targets()
    assert (state.breaker, state.last_error) == ("closed", None)
    assert {record.outcome for record in weir.book.records} == {"client_disconnect"}


@DIALECTS
async def test_a_probe_that_its_client_leaves(provide: Any, gate: Any, until: Any, dialect: str) -> None:
    """An open breaker lets a probe through after its pause; one that its client left proves nothing, and another is let through (B6)."""
    tongue = TONGUES[dialect]
    good = answer(tongue, tongue.speech("one"))
    first = await provide(InOrder([whole(500, tongue.refused(500, "No")), answer(tongue, tongue.spoken(), Hang()), good, good]))
    patient = {"breaker": {"failures": 1, "open": 0.3}, "first_token": {"timeout": 60}}
    weir = await gate(first, await provide(answer(tongue, tongue.speech("two"))), dialects=[dialect] * 2, **patient)
    for _ in range(2):
        assert (await fetch(weir, tongue)).body == tongue.speech("two")
    assert (first.total, weir.targets()[0].breaker) == (1, "open")
    await until(lambda: weir.plane.health.usable(("a", "m"), weir.plane.clock()))
    client = await ask(weir, tongue)
    await until(lambda: first.total == 2)
    client.reset()
    assert (await weir.record(3)).outcome == "client_disconnect"
    assert weir.targets()[0].breaker == "half_open"
    for _ in range(2):
        assert (await fetch(weir, tongue)).body == tongue.speech("one")
    assert weir.targets()[0].breaker == "closed"


@DIALECTS
@pytest.mark.parametrize("status", [400, 404, 413, 422])
async def test_a_call_that_is_wrong(provide: Any, gate: Any, dialect: str, status: int) -> None:
    """A refusal that is about the call is the answer, word for word; no other target is asked and none is worse for it (B6)."""
    tongue = TONGUES[dialect]
    body, other = tongue.refused(status, "Look  again"), await provide()
    weir = await gate(await provide(whole(status, body)), other, dialects=[dialect] * 2, breaker={"failures": 1})
    for _ in range(2):
        client = await fetch(weir, tongue)
        assert (client.status, client.body, other.total) == (status, body, 0)
    assert {state.last_error for state in weir.targets()} <= {None}


@DIALECTS
async def test_nothing_is_left_of_streams_however_they_end(provide: Any, gate: Any, until: Any, dialect: str) -> None:
    """Slots, tickets and lists of what runs hold a stream while it runs, and nothing after it, in whatever way it ended (B7)."""
    tongue = TONGUES[dialect]
    spoken = tongue.spoken("one")
    left = [Silent(), answer(tongue, tongue.spoken(), Hang()), answer(tongue, spoken, Hang())]
    ended = [
        answer(tongue, spoken, Reset()),
        answer(tongue, spoken + tongue.errors["overloaded"][0]),
        answer(tongue, tongue.errors["overloaded"][0]),
        whole(429, tongue.refused(429, "No"), {"Retry-After": "30"}),
        answer(tongue, b"no such thing at all" * 3 + tongue.proper),
        answer(tongue, tongue.speech("one")),
    ]
    provider = await provide(InOrder([answer(tongue, spoken, Hang()), *left, *ended]))
    weir = await gate(provider, dialects=[dialect], breaker={"failures": 1000}, retry={"attempts": 1})
    stays = await (await ask(weir, tongue)).saw(spoken)
    assert weir.in_flight() >= 3
    assert [state.in_flight for state in weir.targets()] == [1]
    leavers = []
    for number in range(len(left)):
        leavers.append(await ask(weir, tongue))
        await until(lambda number=number: provider.total == number + 2)
    assert [state.in_flight for state in weir.targets()] == [4]
    for client in leavers:
        client.reset()
    await until(lambda: [state.in_flight for state in weir.targets()] == [1], "what was left is counted no more", 2.0)
    for _ in ended:
        await fetch(weir, tongue)
    await until(lambda: [state.in_flight for state in weir.targets()] == [1], "what ended is counted no more", 2.0)
    await weir.worker.drain(0.05)
    await stays.finish()
    await until(lambda: weir.in_flight() == 0, "nothing is left", 2.0)
    assert len(weir.book.records) == 1 + len(left) + len(ended)
