"""An answer, its pace and its fault put together into steps; pure, so nothing here waits."""

import itertools
import random

import pytest

from gateway.sim.answers import Answer, Prompt
from gateway.sim.faults import FAULTS, HEALTHY, Burst, Fault, NeverEnding, PingStorm, SlowFirstToken, Stall, fault_from
from gateway.sim.plan import reply, stream
from gateway.sim.steps import Pause, Reset, Send, Step
from gateway.sim.tempers import Temper

TEMPER = Temper(ttft="300ms", gap="20ms", tokens=8, headers="50ms", role_delay="10ms")


def steps(fault: Fault = HEALTHY, temper: Temper = TEMPER, streamed: bool = True, limit: int = 20_000) -> list[Step]:
    dice = random.Random(5)
    answer = Answer(Prompt(path="/v1/chat/completions", model="m", stream=streamed), 0, dice)
    pace = temper.draw(dice)
    answer.compose(pace, temper.speech, temper.tokens_per_chunk)
    made = stream(answer, pace, temper.burst, fault, {}) if streamed else reply(answer, pace, fault, {})
    return list(itertools.islice(made, limit))


def silence(plan: list[Step], before: str) -> float:
    """Seconds of pause before the first send of this part."""
    until = itertools.takewhile(lambda step: not (type(step) is Send and step.part == before), plan)
    return sum(step.seconds for step in until if type(step) is Pause)


def joined(plan: list[Step]) -> bytes:
    return b"".join(step.data for step in plan if type(step) is Send)


def test_a_healthy_stream_keeps_its_tempers_times() -> None:
    """Head, role chunk, first token and finish come when the temper says, counted from the request."""
    plan = steps()
    times = {part: silence(plan, part) for part in ("head", "preamble", "token", "finish")}
    assert times == {key: pytest.approx(at) for key, at in {"head": 0.05, "preamble": 0.06, "token": 0.3, "finish": 0.3 + 7 * 0.02}.items()}


def test_a_document_comes_when_the_last_token_would_have() -> None:
    """Without a stream the whole answer takes as long."""
    assert silence(steps(streamed=False), "head") == pytest.approx(0.3 + 7 * 0.02)


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("streamed", [True, False])
def test_every_fault_has_a_plan_that_repeats(kind: str, streamed: bool) -> None:
    """The same seed and fault give the same steps, streamed or not."""
    fault = fault_from(kind)
    assert steps(fault, streamed=streamed) == steps(fault, streamed=streamed)
    assert steps(fault, streamed=streamed)


@pytest.mark.parametrize("kind", ["stall", "slow_first_token", "one_byte_writes"])
@pytest.mark.parametrize("streamed", [True, False])
def test_faults_of_time_change_no_byte(kind: str, streamed: bool) -> None:
    """A stall or a slow start is silence, not another answer."""
    assert joined(steps(fault_from(kind), streamed=streamed)) == joined(steps(streamed=streamed))


@pytest.mark.parametrize("after", [0, 1, 7, 8, 100])
def test_a_stall_lies_after_its_token(after: int) -> None:
    """The silence comes between token n and what follows it, before the finish chunk at the latest."""
    plan = steps(Stall(after=after, length=9))
    sent = [step for step in itertools.takewhile(lambda step: step != Pause(9), plan) if type(step) is Send and step.part == "token"]
    assert len(sent) == min(after, 8)
    assert Pause(9) in plan


def test_a_stall_may_cut_a_frame() -> None:
    """With `cut` the silence falls inside a frame, and the frame is whole afterwards."""
    plan = steps(Stall(after=2, length=9, cut=4))
    at = plan.index(Pause(9))
    assert plan[at - 1].data == b"4\r\ndata\r\n"
    assert sum(step.tokens for step in plan if type(step) is Send) == 8


def test_slow_first_token_fills_its_silence_with_comments() -> None:
    """Headers and role chunk come as ever, then comments until the delay is over."""
    plan = steps(SlowFirstToken(delay=1.0, ping_every=0.3))
    before = list(itertools.takewhile(lambda step: not (type(step) is Send and step.part == "token"), plan))
    assert [step.part for step in before if type(step) is Send] == ["head", "preamble", "ping", "ping", "ping"]
    assert silence(plan, "token") == pytest.approx(0.3 + 1.0)


def test_slow_first_token_may_hold_the_role_chunk_back() -> None:
    """With role_first off nothing but the head comes before the delay is over."""
    assert silence(steps(SlowFirstToken(delay=1.0, role_first=False)), "preamble") == pytest.approx(0.06 + 1.0)


def test_a_ping_storm_without_end_has_no_more_tokens() -> None:
    """After its tokens there are comments only."""
    plan = steps(PingStorm(every=0.1, after=2), limit=200)
    assert sum(step.tokens for step in plan if type(step) is Send) == 2
    assert [step.part for step in plan if type(step) is Send][-50:] == ["ping"] * 50


def test_a_burst_has_no_pause_inside() -> None:
    """Its frames follow each other without a silence."""
    plan = steps(Burst(frames=5, pause=3, after=1))
    at = plan.index(Pause(3)) + 1
    assert [type(step) for step in plan[at : at + 5]] == [Send] * 5
    assert type(plan[at + 5]) is Pause


def test_never_ending_keeps_its_gap() -> None:
    """Tokens go on at the temper's pace, and no finish comes."""
    plan = steps(NeverEnding(), limit=400)
    assert {step.part for step in plan[200:] if type(step) is Send} == {"token"}
    assert {step.seconds for step in plan[200:] if type(step) is Pause} == {0.02}


def test_bursty_temper_sends_many_chunks_a_pause() -> None:
    """With `burst` the gaps lie between groups of chunks."""
    pauses = [step for step in steps(temper=Temper(ttft=0, gap="1s", tokens=12, burst=4)) if type(step) is Pause]
    assert pauses == [Pause(1.0)] * 2


def test_a_reset_cuts_a_document_in_the_middle() -> None:
    """A document is cut between its halves, before its length is full."""
    plan = steps(fault_from("reset"), streamed=False)
    assert type(plan[-1]) is Reset
    assert joined(steps(streamed=False)).startswith(joined(plan))
