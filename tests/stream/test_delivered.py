"""What is kept of a delivered answer, when it can be gone on with, and what of the rest is new to its client."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.answer import fold
from gateway.core.errors import ErrorEvent, UpstreamError
from gateway.core.events import Delta, Event, Failed, Finished, Started, Terminated, ToolOpened, Usage
from gateway.core.prompt import Prompt, Text, Turn
from gateway.dialects import DIALECTS
from gateway.dialects.base import Stamp
from gateway.stream.cadence import CadenceMeter
from gateway.stream.delivered import Continuing, Delivered, Holdback, Telling, added
from tests.rig.makers import Makers

OPENAI = DIALECTS["openai"]
HELLO = Prompt(model="m", stream=True, turns=(Turn("user", (Text("hello"),)),))
CALL, _ = Makers.call("openai", HELLO)


def telling() -> Telling:
    return Telling(OPENAI.writer(CALL, Stamp("1", 1)), CadenceMeter(1.0))


def holding() -> tuple[Holdback, Telling, list[ErrorEvent]]:
    told, failed = telling(), list[ErrorEvent]()
    return Holdback(OPENAI.framing(CALL).parser(), OPENAI.reader(CALL), told, failed.append), told, failed


def heard(said: bytes) -> str:
    return "".join(event.text for event in Makers.heard(CALL, said) if isinstance(event, Delta))


def test_text_after_thought_is_resumable() -> None:
    """Nothing is yet, nor is reasoning alone; from the first text on it is."""
    kept = Delivered()
    kept.take((Started("a"), Delta("reasoning", "hm")))
    assert not kept.resumable
    kept.take((Delta("text", "Once "), Delta("text", "upon")))
    assert (kept.resumable, kept.text, kept.characters) == (True, "Once upon", 9)


@pytest.mark.parametrize(
    ("event", "obstacle"),
    [
        (ToolOpened(0, "a", "f"), "tool_call"),
        (Delta("arguments", "{"), "tool_call"),
        (Delta("refusal", "no"), "refusal"),
        (Delta("audio", "AAAA"), "audio"),
        (Finished("stop"), "finished"),
        (Terminated(), "finished"),
        (Failed("overloaded", ""), "failed"),
    ],
)
def test_anything_but_text_is_an_obstacle(event: Event, obstacle: str) -> None:
    """And stays one, whatever comes after it."""
    kept = Delivered()
    kept.take((Delta("text", "a"), event, Delta("text", "b")))
    assert (kept.resumable, kept.obstacle) == (False, obstacle)


def test_what_is_kept_is_bounded() -> None:
    """An answer that is too long is not kept, nor resumed."""
    kept = Delivered(limit=10)
    kept.take((Delta("text", "12345"), Delta("text", "67890")))
    assert kept.resumable
    kept.take((Delta("text", "1"),))
    assert (kept.resumable, kept.obstacle, kept.text) == (False, "too_long", "")


@given(st.text(" \n", max_size=4), st.lists(st.text(" \nab", min_size=1, max_size=3), max_size=6))
def test_white_space_is_never_said_twice(unseen: str, pieces: list[str]) -> None:
    """However the rest is cut: only what it has in common with the delivered white space is left out, from its beginning."""
    voice = Continuing(telling(), unseen)
    said = heard(b"".join(voice.feed((Delta("text", piece),)) for piece in pieces))
    rest = "".join(pieces)
    common = next((at for at, (mine, theirs) in enumerate(zip(unseen, rest, strict=False)) if mine != theirs), min(len(unseen), len(rest)))
    assert said == rest[common:]


@pytest.mark.parametrize("name", DIALECTS)
def test_the_rest_is_not_announced_nor_thought_aloud(name: str) -> None:
    """The answer has its name, and is in the middle of its text."""
    dialect, (call, _) = DIALECTS[name], Makers.call(name, HELLO)
    told = Telling(dialect.writer(call, Stamp("1", 1)), CadenceMeter(1.0))
    begun = told.feed((Started("first", "m"), Delta("text", "a")))
    voice = Continuing(told, "")
    said = voice.feed((Started("second", "n"), Delta("reasoning", "hm"), Delta("text", "b"))) + voice.end()
    answer = fold(Makers.heard(call, begun + said))
    assert (answer.text, answer.reasoning, b"second" in said, b'"n"' in said) == ("ab", "", False, False)
    assert told.delivered.text == "ab"


def test_counts_are_those_of_all() -> None:
    """The client hears the sum of what every upstream has counted."""
    told = telling()
    told.spent = Usage(input=10, output=3)
    assert added(told.spent, Usage(input=15, output=4, cached=2)) == Usage(input=25, output=7, cached=2)
    assert added(None, None) is None
    assert added(Usage(input=1), None) == Usage(input=1)


def test_a_told_failure_is_the_end() -> None:
    """Once the client has heard that it failed nobody goes on."""
    told = telling()
    told.feed((Delta("text", "a"),))
    assert told.resumable
    told.fail(UpstreamError("broken"))
    assert not told.resumable


@pytest.mark.parametrize("cut", [None, 0])
def test_an_error_that_another_could_make_good_is_kept_back(cut: Any) -> None:
    """With everything after it, and what came before it in the same read is passed on."""
    held, told, failed = holding()
    before, error, done = Makers.event("a"), b'data: {"error":{"code":"overloaded"}}\n\n', b"data: [DONE]\n\n"
    if cut is None:
        assert held.feed(before + error + done) == before
    else:
        assert (held.feed(before), held.feed(error), held.feed(done)) == (before, b"", b"")
    assert (held.held, [one.code for one in failed], told.resumable) == (error + done, ["overloaded"], True)
    assert told.delivered.text == "a"


@pytest.mark.parametrize(
    "frames",
    [
        [b'data: {"error":{"code":"overloaded"}}\n\n'],  # nothing was said before it
        [Makers.event("a"), b'data: {"error":{"code":"invalid_request"}}\n\n'],  # the call's own fault
        [Makers.event("a"), Makers.event(finish="stop"), b'data: {"error":{"code":"overloaded"}}\n\n'],
        [Makers.event("a"), b"data: {torn\n\n", b'data: {"error":{"code":"overloaded"}}\n\n'],
        [Makers.event("a"), b"data: %b\n\n" % (b"x" * (2 << 20)), b'data: {"error":{"code":"overloaded"}}\n\n'],
    ],
    ids=["early", "ours", "finished", "torn", "huge"],
)
def test_any_other_error_passes(frames: list[bytes]) -> None:
    """Byte for byte, and nobody goes on after it."""
    held, told, failed = holding()
    assert b"".join(map(held.feed, frames)) == b"".join(frames)
    assert (held.held, failed, told.resumable) == (b"", [], False)


def test_half_an_event_at_the_client_is_no_place_to_go_on() -> None:
    """Until its rest has come."""
    held, told, _ = holding()
    half, rest = Makers.event("b")[:9], Makers.event("b")[9:]
    assert held.feed(Makers.event("a") + half) == Makers.event("a") + half
    assert not told.resumable
    assert held.feed(rest) == rest
    assert (told.resumable, told.delivered.text) == (True, "ab")
