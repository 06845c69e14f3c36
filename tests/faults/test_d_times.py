"""When each thing happened: every moment is stamped at its own event, in every dialect, and what did not happen has no time."""

import time
from typing import Any

import pytest

from gateway.dialects import DIALECTS
from gateway.sim.faults import InOrder, Script
from gateway.sim.steps import Hang, Pause
from tests.faults.audience import heard, length
from tests.faults.everywhere import in_every_dialect, opened
from tests.faults.scripts import answer, ask, fetch
from tests.faults.tongue import Tongue
from tests.faults.tongues import TONGUES

HEADERS, EVENT, TOKEN, ANSWER, TEXT = 0.10, 0.25, 0.40, 0.55, 0.70
"""When a scripted answer has its head, its first event, reasoning, a tool call and text, in seconds after the request."""
NEAR, TRIES = 0.02, 6
"""Seconds that a stamp may be late, and how often a machine that is busy with something else may be later."""
NO_SAMPLES = ("weir_ttft_seconds", "weir_chunk_gap_seconds", "gen_ai_server_time_to_first_token_seconds")
PER_TOKEN = "gen_ai_server_time_per_output_token_seconds"


def timed(tongue: Tongue, *pieces: Any) -> Script:
    """Return an answer whose head waits too."""
    return Script((Pause(HEADERS), *answer(tongue, *pieces).steps))


def all_kinds(tongue: Tongue) -> Script:
    """Return an answer that says everything there is, each at its time: a comment, what is no token, reasoning, a tool call, text."""
    comment = b": ping\n\n" if tongue.media_type == "text/event-stream" else b""
    return timed(
        tongue,
        *((0.07, comment, 0.08) if comment else (0.15,)),
        *(b"".join(tongue.preamble), 0.05, tongue.idle, 0.10),
        *(tongue.reasoning("hm"), 0.07, tongue.idle, 0.08),
        *(tongue.tool, 0.15),
        *(tongue.token("text"), tongue.proper),
    )


def tools_only(tongue: Tongue) -> Script:
    """Return an answer that calls a tool and says nothing."""
    said = (b"".join(tongue.preamble), TOKEN - EVENT, tongue.tool, ANSWER - TOKEN, tongue.arguments("{}"), tongue.proper)
    return timed(tongue, EVENT - HEADERS, *said)


async def near(weir: Any, tongue: Tongue, expected: dict[str, float]) -> Any:
    """Ask until every stamp of an answer is where its script had it; return that record."""
    late: list[dict[str, float]] = []
    for number in range(1, TRIES + 1):
        await fetch(weir, tongue)
        record = await weir.record(number)
        sent = record.attempts[0].sent_at
        seen = {"headers": record.attempts[0].headers_at, "event": record.first_event_at, "token": record.first_token_at}
        seen |= {"answer": record.first_answer_at, "last": record.last_token_at}
        late.append({name: seen[name] - sent - at for name, at in expected.items()})
        if all(-0.005 <= off <= NEAR for off in late[-1].values()):
            return record
    raise AssertionError(late)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_each_moment_is_told_apart(provide: Any, gate: Any, dialect: str) -> None:
    """Comments are no events, what opens an answer is no token, reasoning is a token and no answer; a tool call is both (D1 D10)."""
    tongue = TONGUES[dialect]
    weir = await gate(await provide(all_kinds(tongue)), dialects=[dialect])
    async with heard(weir) as audience:
        times = {"headers": HEADERS, "event": EVENT, "token": TOKEN, "answer": ANSWER, "last": TEXT}
        record = await near(weir, tongue, times)
        span = (await audience.spans())[-1].attributes
    since_sent, since_received = record.attempts[0].sent_at, record.received_at
    assert record.cadence.chunks == 3  # reasoning, a tool call and text; idle words and what opens the answer are none
    told = {
        "weir.ttfb": record.first_byte_at - since_received,
        "weir.ttft": record.first_token_at - since_received,
        "weir.time_to_first_answer": record.first_answer_at - since_received,
        "gen_ai.response.time_to_first_chunk": record.first_event_at - since_sent,
        "gen_ai.server.time_to_first_token": record.first_token_at - since_sent,
    }
    assert {name: span[name] for name in told} == pytest.approx(told)


async def test_a_tool_call_alone(provide: Any, gate: Any) -> None:
    """With no text at all the first token, and the first answer, is the tool call (D1 A11)."""

    async def story(tongue: Tongue) -> None:
        weir = await gate(await provide(tools_only(tongue)), dialects=[tongue.name])
        record = await near(weir, tongue, {"headers": HEADERS, "event": EVENT, "token": TOKEN, "answer": TOKEN, "last": ANSWER})
        assert record.cadence.chunks == 2

    await in_every_dialect(story)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_no_token_no_sample(provide: Any, gate: Any, dialect: str) -> None:
    """An answer without a token, refused, or left before its first one adds to no latency but its own length (D1 D7)."""
    tongue = TONGUES[dialect]
    silent = opened(tongue, 0.05, tongue.idle, tongue.proper)
    weir = await gate(await provide(InOrder([silent, opened(tongue, Hang())])), dialects=[dialect])
    async with heard(weir) as audience:
        await fetch(weir, tongue)
        client = await ask(weir, tongue)
        await client.until(lambda: client.pieces)
        client.reset()
        await weir.record(2)
        scrape = await audience.scrape()
        spans = await audience.spans()
    assert [span.attributes["weir.outcome"] for span in spans] == ["completed", "client_disconnect"]
    times = {"weir.ttft", "weir.time_to_first_answer", "weir.gap.max", "gen_ai.server.time_to_first_token"}
    assert [times & set(span.attributes) for span in spans] == [set(), set()]
    assert {name: scrape.sum(f"{name}_count") for name in (*NO_SAMPLES, PER_TOKEN)} == dict.fromkeys((*NO_SAMPLES, PER_TOKEN), 0)
    assert scrape.sum("gen_ai_client_operation_duration_seconds_count") == 2


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_one_token_has_no_gap(provide: Any, gate: Any, dialect: str) -> None:
    """One token is a time to first token and nothing else: no gap, no time per token (D7)."""
    tongue = TONGUES[dialect]
    weir = await gate(await provide(opened(tongue, 0.02, tongue.token("only"), 0.02, tongue.proper)), dialects=[dialect])
    async with heard(weir) as audience:
        await fetch(weir, tongue)
        await weir.record()
        scrape = await audience.scrape()
        [span] = await audience.spans()
    assert (scrape.sum("weir_ttft_seconds_count"), scrape.sum("weir_chunk_gap_seconds_count"), scrape.sum(f"{PER_TOKEN}_count")) == (
        1,
        0,
        0,
    )
    assert not {"weir.gap.p50", "weir.gap.max", "gen_ai.server.time_per_output_token"} & set(span.attributes)
    assert span.attributes["weir.chunks"] == 1


@pytest.mark.parametrize("step", [3600.0, -3600.0], ids=["forward", "back"])
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_stepped_clock(provide: Any, gate: Any, monkeypatch: pytest.MonkeyPatch, dialect: str, step: float) -> None:
    """A wall clock that is set an hour on, or back, in the middle of a stream changes none of its durations (D7)."""
    tongue = TONGUES[dialect]
    pieces = [piece for said in ("one", "two", "three") for piece in (tongue.token(said), 0.05)]
    weir = await gate(await provide(opened(tongue, *pieces, tongue.proper)), dialects=[dialect])
    wall = time.time  # noqa: TID251 - the clock that is stepped
    async with heard(weir) as audience:
        client = await (await ask(weir, tongue)).saw(tongue.token("one"))
        monkeypatch.setattr(time, "time", lambda: wall() + step)
        await client.finish()
        record = await weir.record()
        monkeypatch.undo()
        scrape = await audience.scrape()
        [span] = await audience.spans()
    assert 0.1 < record.duration < 5.0
    assert length(span) == pytest.approx(record.duration, abs=0.001)
    assert abs(span.end_time / 1e9 - wall()) < 10.0
    assert scrape.sum("gen_ai_client_operation_duration_seconds_sum") == pytest.approx(record.duration)
    assert scrape.sum("weir_chunk_gap_seconds_sum") == pytest.approx(record.last_token_at - record.first_token_at)
    assert 0.0 < scrape.sum("weir_ttft_seconds_sum") < record.duration
    per_token = (record.last_token_at - record.first_token_at) / (record.usage.output - 1)
    assert span.attributes["gen_ai.server.time_per_output_token"] == pytest.approx(per_token)
