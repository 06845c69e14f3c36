"""What is written down of an answer: the same words at any cut, and nothing else is seen otherwise for it."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.answer import fold
from gateway.core.content import MAX_ANSWER
from gateway.core.events import Delta, Event, ToolOpened, Usage
from gateway.dialects import DIALECTS
from gateway.stream import transcript as module
from gateway.stream.cadence import MOST_TICKS, CadenceMeter
from gateway.stream.delivered import Fresh
from gateway.stream.observer import DocumentObserver, Observer
from gateway.stream.transcript import DocumentScribe, Scribe, Transcript
from tests.faults.tongues import TONGUES
from tests.proxy.test_resume import HELLO
from tests.rig.makers import Makers

WORDS = ("Al", "pha", " 😀 ", "\n\n", '"quoted"', "data: [DONE]")


def seen(observer: Any) -> dict[str, Any]:
    """Return everything an observer has found out."""
    names = ("usage", "finish", "failure", "terminated", "model", "response_id", "errors", "complete", "spoke", "last_kind")
    return {name: getattr(observer, name) for name in (*names, "first_event_at", "first_token_at", "first_answer_at")}


@pytest.mark.parametrize("dialect", TONGUES)
@settings(deadline=None)
@given(data=st.data())
def test_any_cut_is_the_same_text(dialect: str, data: st.DataObject) -> None:
    """However a stream is cut into reads, its words are those of its events, and all else is seen as without writing them down."""
    tongue, spoken = TONGUES[dialect], DIALECTS[dialect]
    call, _ = Makers.call(dialect, HELLO)
    words = data.draw(st.lists(st.sampled_from(WORDS), max_size=8))
    body = b"".join(tongue.preamble) + tongue.reasoning("hm") + b"".join(map(tongue.token, words)) + tongue.tool + tongue.proper
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=12)))
    plain_meter, meter, transcript = CadenceMeter(1.0), CadenceMeter(1.0), Transcript()
    plain, scribe = Observer(spoken, call, plain_meter), Scribe(spoken, call, meter, transcript)
    for at, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(body)], strict=True)):
        plain.feed(body[start:end], float(at))
        scribe.feed(body[start:end], float(at))
    expected = fold(Makers.heard(call, body))
    assert (transcript.text("text"), transcript.text("reasoning")) == (expected.text, expected.reasoning)
    assert [(tool.id, tool.name, tool.arguments) for tool in transcript.tools()] == [
        (tool.id, tool.name, tool.arguments) for tool in expected.tools
    ]
    assert seen(scribe) == seen(plain)
    assert meter.report() == plain_meter.report()
    steps = transcript.steps()
    assert len(steps) == len(meter.report().ticks)
    assert steps == sorted(steps)
    assert not steps or steps[-1] == len(expected.text) == transcript.characters


@pytest.mark.parametrize("dialect", TONGUES)
def test_a_document_is_written_down_too(dialect: str) -> None:
    """An answer in one piece, in pieces."""
    call, _ = Makers.call(dialect, HELLO)
    transcript = Transcript()
    plain, scribe = DocumentObserver(DIALECTS[dialect], call), DocumentScribe(DIALECTS[dialect], call, transcript)
    for observer in (plain, scribe):
        for byte in TONGUES[dialect].document:
            observer.feed(bytes([byte]), 1.0)
        observer.finish_document(2.0)
    assert transcript.text("text") == "hi"
    assert seen(scribe) == seen(plain)


def text(said: str, index: int = 0) -> Event:
    return Delta("text", said, index)


def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words, tool calls and arrivals have a bound each; what is kept is a beginning without holes, and is said to be one."""
    transcript = Transcript()
    transcript.take([text("x" * (MAX_ANSWER - 1)), text("ää"), text("y"), Delta("reasoning", "z")])
    assert (transcript.characters, transcript.text("reasoning"), transcript.full) == (MAX_ANSWER - 1, "", True)
    tools = Transcript()
    for index in range(module.MOST_TOOLS + 1):
        tools.take([ToolOpened(index, None, "look"), Delta("arguments", "{}", index)])
    assert (len(tools.tools()), tools.full) == (module.MOST_TOOLS, True)
    marks = Transcript()
    for _ in range(MOST_TICKS + 5):
        marks.mark()
    assert len(marks.steps()) == MOST_TICKS


def test_the_first_of_several_answers() -> None:
    """Of several choices the first one's text is kept; blocks of one answer are one text."""
    several, blocks = Transcript(choices=2), Transcript()
    events = [text("a"), text("X", 1), text("b"), Usage(1, 2), text("Y", 1)]
    several.take(events)
    blocks.take(events)
    assert (several.text("text"), blocks.text("text")) == ("ab", "aXbY")


def test_half_an_emoji_is_one_character() -> None:
    """What cannot be written as UTF-8 is a question mark, so that every count stays true."""
    transcript = Transcript()
    transcript.take([text("a\ud83d"), text("b")])
    assert (transcript.text("text"), transcript.characters) == ("a?b", 3)


def test_going_on_with_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a second upstream adds stands behind what there is, once it is chosen; of those that are not chosen nothing is left."""
    first = Transcript()
    first.take([text("one "), Delta("reasoning", "hm")])
    first.mark()
    loser, winner = Transcript(1, first, Fresh(" ")), Transcript(1, first, Fresh(" "))
    loser.take([text("never to be seen")])
    loser.mark()
    winner.take([Delta("reasoning", "again"), text(" "), text("two"), ToolOpened(0, "1", "look")])
    winner.mark()
    assert first.text("text") == "one "
    winner.join()
    winner.take([text(" three")])
    winner.mark()
    assert (winner.text("text"), winner.text("reasoning"), [tool.name for tool in winner.tools()]) == ("one two three", "hm", ["look"])
    assert winner.steps() == [4, 13, 13, 13]
    assert winner.said("text", 4, 3) == b"two"
