"""B2, B3, B4, B10, B11, B12: another target while the client has seen nothing, none after that, in every dialect."""

import itertools
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from gateway.sim.faults import InOrder
from gateway.sim.steps import Fin, Hang, Reset
from tests.faults.scripts import ENDINGS, answer, ask, fetch, whole
from tests.faults.tongues import TONGUES
from tests.rig.rounds import judged_in_rounds

DIALECTS = pytest.mark.parametrize("dialect", TONGUES)
SOON = {"timeout": 0.3}
HEDGE = {"timeout": 0.15, "on_slow": "hedge", "hedge_limit": 1.0}


async def closed_by_us(until: Any, provider: Any) -> None:
    await until(lambda: provider.requests and provider.requests[0].closed_by == "peer", "the upstream is left")


@DIALECTS
@judged_in_rounds
async def test_signs_of_life_are_no_token(provide: Any, gate: Any, until: Any, dialect: str) -> None:
    """Headers, preamble and pings do not put off the first-token deadline: the next target answers, with no byte of the first (B2)."""
    tongue = TONGUES[dialect]
    first = await provide(answer(tongue, tongue.spoken(), *[0.05, tongue.idle] * 40, Hang()))
    second = await provide(answer(tongue, tongue.speech("two")))
    weir = await gate(first, second, dialects=[dialect] * 2, first_token=SOON)
    client = await fetch(weir, tongue)
    record = await weir.record()
    await closed_by_us(until, first)
    assert client.body == tongue.speech("two")
    assert (client.headers["x-weir-upstream"], client.headers["x-weir-attempts"]) == ("b", "2")
    assert 0.29 <= client.pieces[0][0] - client.sent_at < 1.5
    assert [(attempt.outcome, attempt.error) for attempt in record.attempts] == [("slow", "slow_first_token"), ("won", None)]
    assert (record.fallback_reason, weir.targets()[0].last_error) == ("slow_first_token", None)
    assert weir.plane.health.estimate(("a", "m"), weir.plane.clock()) >= 0.29  # a sample cut short, not one that is lost


@DIALECTS
@pytest.mark.parametrize("how", ["error", *ENDINGS])
async def test_a_preamble_commits_nothing(provide: Any, gate: Any, dialect: str, how: str) -> None:
    """A target that fails after its preamble and before a token is left for the next, and not one byte of it is seen (B3 A15b)."""
    tongue = TONGUES[dialect]
    end = tongue.errors["overloaded"][0] if how == "error" else ENDINGS[how]
    first = await provide(answer(tongue, *tongue.preamble, tongue.idle, 0.02, end))
    weir = await gate(first, await provide(answer(tongue, tongue.speech("two"))), dialects=[dialect] * 2)
    client = await fetch(weir, tongue)
    record = await weir.record()
    assert (client.status, client.body, client.headers["x-weir-upstream"]) == (200, tongue.speech("two"), "b")
    assert [attempt.outcome for attempt in record.attempts] == ["error_event" if how == "error" else "truncated", "won"]
    assert weir.targets()[0].last_error == record.attempts[0].error


@DIALECTS
@pytest.mark.parametrize("kind", ["token", "reasoning", "tool"])
@judged_in_rounds
async def test_a_preamble_comes_with_its_token(provide: Any, gate: Any, dialect: str, kind: str) -> None:
    """With another target left all of it is held until a token of any kind, and then goes out verbatim in one write (B3)."""
    tongue = TONGUES[dialect]
    token = tongue.tool if kind == "tool" else getattr(tongue, kind)("one")
    first = await provide(answer(tongue, *(piece for frame in tongue.preamble for piece in (frame, 0.03)), token, 0.1, tongue.proper))
    weir = await gate(first, await provide(), dialects=[dialect] * 2, first_token={"timeout": 5})
    client = await fetch(weir, tongue)
    assert client.body == tongue.spoken() + token + tongue.proper
    assert client.pieces[0][1] == tongue.spoken() + token
    assert (await weir.record()).upstream == "a"


@DIALECTS
@judged_in_rounds
async def test_nothing_is_held_for_nobody(provide: Any, gate: Any, dialect: str) -> None:
    """With no other target left each event of the preamble goes out while the next is still to come (B3b)."""
    tongue = TONGUES[dialect]
    frames = [*tongue.preamble, tongue.token("one"), tongue.token("two")]
    weir = await gate(
        await provide(answer(tongue, *(piece for frame in frames for piece in (frame, 0.08)), tongue.proper)), dialects=[dialect]
    )
    client = await fetch(weir, tongue)
    times = [client.when(frame) for frame in frames]
    assert all(later - sooner > 0.03 for sooner, later in itertools.pairwise(times))
    assert [data for _, data in client.pieces[: len(frames)]] == frames


@DIALECTS
@pytest.mark.parametrize("size", ["many", "large"])
@judged_in_rounds
async def test_no_more_is_held_than_a_little(provide: Any, gate: Any, dialect: str, size: str) -> None:
    """A target that has said 64 KiB, or in 64 reads, without a token is chosen: holding ends there (B3b)."""
    tongue = TONGUES[dialect]
    frames = [tongue.idle] * 80 if size == "many" else [tongue.idle * (70_000 // len(tongue.idle) + 1)]
    pieces = [piece for frame in frames for piece in (frame, 0.002)]
    other = await provide()
    weir = await gate(
        await provide(answer(tongue, tongue.spoken(), *pieces, 0.5, tongue.token("one"), tongue.proper)),
        other,
        dialects=[dialect] * 2,
        first_token={"timeout": 0.6},
    )
    client = await fetch(weir, tongue)
    assert (client.headers["x-weir-upstream"], other.total) == ("a", 0)
    assert client.body == tongue.spoken() + b"".join(frames) + tongue.token("one") + tongue.proper


@DIALECTS
@pytest.mark.parametrize("how", ["error", *ENDINGS])
async def test_a_stream_that_has_spoken_is_not_spliced(provide: Any, gate: Any, dialect: str, how: str) -> None:
    """After a token a failed stream ends in its error; two answers are never joined, and the other target gets no call (B4)."""
    tongue = TONGUES[dialect]
    spoken, other = tongue.spoken("one", "two", "three"), await provide()
    end = tongue.errors["overloaded"][0] if how == "error" else ENDINGS[how]
    weir = await gate(await provide(answer(tongue, spoken, 0.02, end)), other, dialects=[dialect] * 2)
    client = await fetch(weir, tongue)
    before, _ = tongue.last_error(client.body)
    assert (before, other.total) == (spoken, 0)
    assert (await weir.record()).outcome == ("upstream_error" if how == "error" else "upstream_truncated")


@DIALECTS
@pytest.mark.parametrize("how", ["status", "error", "reset"])
async def test_a_caller_may_forbid_fallback(provide: Any, gate: Any, dialect: str, how: str) -> None:
    """`x-weir-no-fallback: true` makes the first choice the only one, on every door (B4)."""
    tongue = TONGUES[dialect]
    first = {
        "status": whole(503, tongue.refused(503, "No"), {"Retry-After": "9"}),
        "error": answer(tongue, tongue.errors["overloaded"][0]),
        "reset": answer(tongue, tongue.spoken(), 0.02, Reset()),
    }[how]
    other = await provide()
    weir = await gate(await provide(first), other, dialects=[dialect] * 2)
    client = await fetch(weir, tongue, headers={"x-weir-no-fallback": "true"})
    record = await weir.record()
    assert (other.total, len(record.attempts), record.fallback_reason) == (0, 1, None)
    assert record.outcome == ("upstream_truncated" if how == "reset" else "upstream_error")
    assert client.status >= 500 or tongue.last_error(client.body)


@DIALECTS
async def test_a_pause_that_was_asked_for(provide: Any, gate: Any, dialect: str) -> None:
    """A target that asked for time by Retry-After gets no call until it is over; the other serves meanwhile (B10)."""
    tongue = TONGUES[dialect]
    first = await provide(whole(429, tongue.refused(429, "No"), {"Retry-After": "20"}))
    weir = await gate(first, await provide(answer(tongue, tongue.speech("two"))), dialects=[dialect] * 2)
    for _ in range(4):
        client = await fetch(weir, tongue)
        assert (client.body, client.headers["x-weir-upstream"]) == (tongue.speech("two"), "b")
    assert first.total == 1


@DIALECTS
async def test_a_pause_that_is_a_date(provide: Any, gate: Any, dialect: str) -> None:
    """Retry-After may be a date (RFC 9110, section 10.2.3): the target is left alone until then (B10)."""
    tongue = TONGUES[dialect]
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    first = await provide(whole(429, tongue.refused(429, "No"), {"Retry-After": until}))
    weir = await gate(first, await provide(answer(tongue, tongue.speech("two"))), dialects=[dialect] * 2)
    for _ in range(3):
        assert (await fetch(weir, tongue)).headers["x-weir-upstream"] == "b"
    assert first.total == 1


@DIALECTS
async def test_a_pause_with_nobody_else(provide: Any, gate: Any, dialect: str) -> None:
    """With no other target the client is told, in its own dialect and without a call, how long to wait (B10)."""
    tongue = TONGUES[dialect]
    provider = await provide(whole(429, tongue.refused(429, "No"), {"Retry-After": "20"}))
    weir = await gate(provider, dialects=[dialect])
    for _ in range(3):
        client = await fetch(weir, tongue)
        assert client.status == 429
        assert 0 < int(client.headers["retry-after"]) <= 20
    assert provider.total == 1
    assert set(client.document) <= {"error", "type", "message", "__type"}
    assert [record.outcome for record in weir.book.records] == ["upstream_error", "rejected", "rejected"]


@DIALECTS
@judged_in_rounds
async def test_the_first_token_wins_a_hedge(provide: Any, gate: Any, until: Any, dialect: str) -> None:
    """Not the first byte: a target that pings loses to one that speaks, is left at once, and is not blamed (B11)."""
    tongue = TONGUES[dialect]
    first = await provide(answer(tongue, tongue.spoken(), *[0.05, tongue.idle] * 40, Hang()))
    second = await provide(answer(tongue, tongue.spoken(), 0.1, tongue.token("two"), tongue.proper))
    weir = await gate(first, second, dialects=[dialect] * 2, first_token=HEDGE)
    client = await fetch(weir, tongue)
    record = await weir.record()
    await closed_by_us(until, first)
    assert first.requests[0].closed_at - client.when(tongue.token("two")) < 1.0
    assert client.body == tongue.speech("two")
    assert [(attempt.why, attempt.outcome, attempt.error) for attempt in record.attempts] == [
        ("first", "hedge_lost", None),
        ("hedge", "won", None),
    ]
    assert (record.hedged, weir.targets()[0].last_error) == (True, None)


@DIALECTS
@pytest.mark.parametrize("how", ["status", "error", "fin"])
@judged_in_rounds
async def test_an_error_wins_no_hedge(provide: Any, gate: Any, dialect: str, how: str) -> None:
    """A hedge that fails first leaves the race to the target that is slow and well (B11)."""
    tongue = TONGUES[dialect]
    second = {
        "status": whole(500, tongue.refused(500, "No")),
        "error": answer(tongue, tongue.spoken() + tongue.errors["overloaded"][0]),
        "fin": answer(tongue, tongue.spoken(), Fin()),
    }[how]
    first = await provide(answer(tongue, tongue.spoken(), 0.4, tongue.token("one"), tongue.proper))
    weir = await gate(first, await provide(second), dialects=[dialect] * 2, first_token=HEDGE)
    client = await fetch(weir, tongue)
    assert (client.body, client.headers["x-weir-upstream"]) == (tongue.speech("one"), "a")
    assert (await weir.record()).attempts[0].outcome == "won"


@DIALECTS
async def test_who_served_is_told(provide: Any, gate: Any, dialect: str) -> None:
    """After two targets failed headers and record say who answered, after whom and why; the answer is untouched, its model too (B12)."""
    tongue = TONGUES[dialect]
    first = await provide(whole(500, tongue.refused(500, "No")))
    second = await provide(InOrder([answer(tongue, tongue.errors["overloaded"][0])]))
    weir = await gate(first, second, await provide(answer(tongue, tongue.speech("three"))), dialects=[dialect] * 3)
    client = await fetch(weir, tongue)
    record = await weir.record()
    assert client.body == tongue.speech("three")
    assert (client.headers["x-weir-upstream"], client.headers["x-weir-attempts"], client.headers["x-weir-route"]) == ("c", "3", "chat")
    assert (record.asked_model, record.served_model) == ("m", None if dialect == "bedrock" else "said")
    assert [(attempt.upstream, attempt.outcome, attempt.error) for attempt in record.attempts] == [
        ("a", "status", "500"),
        ("b", "error_event", tongue.errors["overloaded"][1]),
        ("c", "won", None),
    ]


@DIALECTS
async def test_a_model_is_renamed_for_its_target_alone(provide: Any, gate: Any, dialect: str) -> None:
    """A target's own name for the model goes into the call, and the answer's `model` is the upstream's word, not ours (B12 A6)."""
    tongue = TONGUES[dialect]
    provider = await provide(answer(tongue, tongue.speech("one")))
    weir = await gate(provider, dialects=[dialect], targets=[{"upstream": "a", "model": "other"}])
    client = await (await ask(weir, tongue)).finish()
    assert client.body == tongue.speech("one")
    asked = provider.requests[0]
    assert ("other" in asked.path) != (b'"other"' in asked.body) or dialect == "azure"
    assert (await weir.record()).asked_model == "m"
