"""Faults by name, and which answers they befall."""

import random

import pytest

from gateway.sim.faults import (
    FAULTS,
    HEALTHY,
    Always,
    ByModel,
    Chance,
    EmptyChunks,
    ErrorEvent,
    Every,
    FaultScript,
    FirstOf,
    HugeEvent,
    InOrder,
    PingStorm,
    ResetAfter,
    SlowFirstToken,
    Stall,
    Status,
    Truncate,
    Turn,
    fault_from,
)


def picks(script: FaultScript, count: int, model: str = "m") -> list[str]:
    return [script.pick(Turn(number, model, random.Random(f"7/{number}"))).kind for number in range(count)]


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("none", HEALTHY),
        ("stall", Stall()),
        ("stall 4 2s", Stall(after=4, length=2)),
        ("stall length=250ms cut=3", Stall(length=0.25, cut=3)),
        ("reset 0", ResetAfter(after=0)),
        ("truncate 2 terminator=true", Truncate(after=2, terminator=True)),
        ("status 429 7", Status(429, retry_after=7)),
        ("status code=503", Status(503)),
        ("slow_first_token 1500ms ping_every=100ms role_first=no", SlowFirstToken(1.5, 0.1, role_first=False)),
        ("ping_storm 100ms lasting=2s", PingStorm(0.1, lasting=2)),
        ("huge_event 8MiB", HugeEvent(8 * 1024**2)),
        ("error_event 0 overloaded_error first=yes", ErrorEvent(0, "overloaded_error", first=True)),
        ("empty_chunks 2", EmptyChunks(2)),
        ({"kind": "stall", "after": 1, "length": "1s"}, Stall(after=1, length=1)),
        ({"kind": "status", "code": 302, "headers": {"Location": "/x"}}, Status(302, headers={"Location": "/x"})),
    ],
)
def test_text_forms(value: str, fault: object) -> None:
    """A fault is written as its kind and its fields, in order or by name."""
    assert fault_from(value) == fault


@pytest.mark.parametrize("kind", FAULTS)
def test_every_fault_has_a_text_form(kind: str) -> None:
    """Each kind alone is a fault with its defaults."""
    assert fault_from(kind).kind == kind


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("", "no such fault"),
        ("stal", "there are none, slow"),
        ("stall often", "after"),
        ("stall 1 2 3 4", "takes 3"),
        ("reset afterr=1", "afterr"),
    ],
)
def test_wrong_text_says_what_is_wrong(value: str, said: str) -> None:
    """The error names the kind or the field."""
    with pytest.raises(ValueError, match=said):
        fault_from(value)


def test_scripts_choose_by_turn() -> None:
    """Each script strikes exactly the answers it names."""
    reset, stall = ResetAfter(), Stall()
    assert picks(Always(reset), 2) == ["reset", "reset"]
    assert picks(InOrder([reset, stall]), 4) == ["reset", "stall", "none", "none"]
    assert picks(InOrder([reset, HEALTHY], repeat=True), 4) == ["reset", "none", "reset", "none"]
    assert picks(Every(3, stall), 6) == ["none", "none", "stall", "none", "none", "stall"]
    assert picks(ByModel({"slow-*": stall, "*": reset}), 1, "slow-1") == ["stall"]
    assert picks(ByModel({"slow-*": stall}), 1, "other") == ["none"]
    assert picks(FirstOf([Every(2, stall), Every(3, reset)]), 6) == ["none", "stall", "reset", "stall", "none", "stall"]


def test_chance_strikes_its_share_and_always_the_same() -> None:
    """A probability is kept over many answers, and repeats with the dice."""
    struck = picks(Chance(0.2, ResetAfter()), 2000)
    assert 300 < struck.count("reset") < 500
    assert struck == picks(Chance(0.2, ResetAfter()), 2000)
