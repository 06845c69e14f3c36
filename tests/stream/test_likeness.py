"""A likeness must never say anything that parsing would not have said."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.events import Delta, ToolOpened
from gateway.dialects import DIALECTS
from gateway.dialects.base import Asked
from gateway.stream.cadence import CadenceMeter
from gateway.stream.likeness import learn
from gateway.stream.observer import Observer
from gateway.wire.sse import Parser

OPENAI = DIALECTS["openai"]
CALL = OPENAI.parse_call(OPENAI.endpoints[0], b'{"model":"m","stream":true}', Asked())


def chunk(text: str, **extra: object) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return b"data: %b\n\n" % msgspec.json.encode({"id": "c1", "model": "m", "choices": [choice], **extra})


def frame(raw: bytes):
    (one,) = Parser().feed(raw)
    return one


def reader():
    read = OPENAI.reader(CALL).events
    read(frame(chunk("first")))
    return read


def likeness_of(raw: bytes):
    read = reader()
    return learn(frame(raw), read(frame(raw)), read)


@given(st.text(min_size=1), st.text())
def test_what_it_knows_again_is_one_text_token(first, second):
    """Whenever a likeness holds, parsing the frame says one text delta and nothing else."""
    known = likeness_of(chunk(first))
    raw = chunk(second)
    if known is not None and known.holds(raw):
        (event,) = reader()(frame(raw))
        assert event == Delta("text", second)


TEXTS = (b"a", b" lazy", "犬".encode(), rb"\n", rb"\"", rb"\\", rb"\/", rb"\u00e9", rb"\u2028", rb"\uE000")
OTHERS = (
    b"\n",
    b"\r",
    b"\n\n",
    b"\t",
    b"\x00",
    b"\x1f",
    b'"',
    b'"},"finish_reason":"stop"',
    rb"\u00e",
    rb"\u00g0",
    rb"\ud83d",
    rb"\ude00",
    rb"\x",
)
STRANGE = (b"", b"\\", b"\xff", b"\xc3", rb"\ud83d\ude00", b'","note":"', b"\n\ndata: [DONE]\n\n")


@given(st.binary(max_size=40) | st.lists(st.sampled_from(TEXTS + OTHERS + STRANGE), max_size=6).map(b"".join))
def test_no_bytes_between_can_say_anything_else(between):
    """Any bytes in the text's place either are the text that a JSON parser reads there or are left to the parser."""
    known = likeness_of(chunk("word"))
    assert known is not None
    raw = chunk("word").replace(b'"word"', b'"' + between + b'"')
    if known.holds(raw):
        assert reader()(frame(raw)) == [Delta("text", json.loads(b'"%b"' % between.decode("utf-8", "replace").encode()))]


@pytest.mark.parametrize("text", TEXTS)
def test_every_piece_of_text_is_known_again(text):
    """Alone and behind an escape, where another part of the pattern reads it."""
    known = likeness_of(chunk("word"))
    assert known is not None
    for between in (text, rb"\n" + text):
        assert known.holds(chunk("word").replace(b"word", between))


@pytest.mark.parametrize("other", OTHERS)
def test_no_other_piece_is_taken_for_text(other):
    """What JSON does not let stand in a string, and half a surrogate pair, is left to the parser, before text and behind it."""
    known = likeness_of(chunk("word"))
    assert known is not None
    for between in (other, other + b"z", b"z" + other, rb"\n" + other, rb"\n" + other + b"z", other + rb"\n"):
        assert not known.holds(chunk("word").replace(b"word", between))


def test_ordinary_tokens_are_known_again():
    """The case it is for: the same chunk with another word."""
    known = likeness_of(chunk(" lazy"))
    assert known is not None
    assert known.holds(chunk(" dog"))
    assert known.holds(chunk("犬"))


@pytest.mark.parametrize("between", [rb"\n", rb".\n\n", rb"say \"no\"", rb"\\", rb"\u00e9t\u00E9", rb"\/\b\f\r\t"])
def test_a_token_with_escapes_is_known_again(between):
    """Line ends and quotes come in every answer of some length, and in code all the time."""
    known = likeness_of(chunk("word"))
    assert known is not None
    raw = chunk("word").replace(b"word", between)
    assert known.holds(raw)
    assert reader()(frame(raw)) == [Delta("text", json.loads(b'"%b"' % between))]


@pytest.mark.parametrize(
    "raw",
    [
        chunk(""),
        chunk("word").replace(b"word", b'"'),
        chunk("word").replace(b"word", b"\\"),
        chunk("word").replace(b"word", rb"\x"),
        chunk("word").replace(b"word", rb"\u00g0"),
        chunk("word").replace(b"word", rb"\ud83d"),
        chunk("word").replace(b"word", b"a\nb"),
        chunk("x", usage={"prompt_tokens": 1}),
        chunk("a") + chunk("b"),
        chunk("a")[:-1],
        chunk("a") + b": ping\n\n",
        b"data: [DONE]\n\n",
    ],
)
def test_all_else_is_left_to_the_parser(raw):
    """Empty text, what is no JSON text, half an emoji, other fields, several events in one read and half events are not what was learnt."""
    known = likeness_of(chunk("word"))
    assert known is not None
    assert not known.holds(raw)


@pytest.mark.parametrize("text", ["m", "c1", "content"])
def test_a_text_that_also_stands_elsewhere_is_not_learnt_from(text):
    """Which of two equal strings was the text cannot be told."""
    assert likeness_of(chunk(text)) is None


def test_an_escaped_text_does_not_pass_off_another_field_as_the_text():
    r"""With the text written as \u escapes its plain form may stand elsewhere: the trial finds out."""
    assert likeness_of(chunk("word", note="word").replace(b'"content":"word"', b'"content":"\\u0077ord"')) is None


def test_tool_calls_are_not_learnt_from():
    """Only plain text tokens are frequent enough to be worth it."""
    read = reader()
    assert learn(frame(chunk("x")), [ToolOpened(0, None, "x")], read) is None


@given(st.lists(st.sampled_from(["a", " b", "", "\n", '"', "\\", "é", "m"]), min_size=1, max_size=60), st.randoms())
def test_an_observer_that_learns_sees_what_one_that_parses_sees(words, dice):
    """Counts, kinds and times are the same as when every event comes in a read of two, which is never a likeness."""
    one, two = (Observer(OPENAI, CALL, CadenceMeter(9.0)) for _ in range(2))
    for at, word in enumerate(words):
        reasoning = dice.random() < 0.1
        raw = chunk(word).replace(b"content", b"reasoning_content") if reasoning else chunk(word)
        one.feed(raw, float(at))
        two.feed(b": x\n\n" + raw, float(at))
    for name in ("first_token_at", "first_answer_at", "last_token_at", "last_kind", "errors"):
        assert getattr(one, name) == getattr(two, name)
    assert one._meter.report() == two._meter.report()
