"""What Ollama's lines say: which are tokens, which are not, and how odd ones are still understood."""

import itertools
import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.events import Delta, Failed, Finished, Started, Terminated, ToolOpened, Usage
from gateway.dialects.ollama.reader import LineReader
from gateway.wire.framing import Frame
from gateway.wire.ndjson import Parser


def line(**members: object) -> dict:
    return {"model": "m", "created_at": "2026-11-21T10:00:00.5Z", **members}


def said(done: bool = False, **message: object) -> dict:
    return line(message={"role": "assistant", "content": "", **message}, done=done)


DONE = {"done": True, "done_reason": "stop", "total_duration": 900, "load_duration": 5, "prompt_eval_count": 11, "eval_count": 4}


def stream(*lines: dict, end: bytes = b"\n") -> bytes:
    return b"".join(json.dumps(one, ensure_ascii=False).encode() + end for one in lines)


CHAT = stream(said(content="Grüß"), said(content=" 👩‍👧\u2028"), said(content="!"), said() | DONE)
CRLF = stream(said(content="a"), said() | DONE, end=b"\r\n\r\n")
THINKING = stream(said(thinking="hm"), said(thinking="\n"), said(content="yes"), said() | DONE)
TOOLS = stream(
    said(tool_calls=[{"id": "call_a", "function": {"index": 0, "name": "f", "arguments": {"city": "Köln", "n": 1.50}}}]),
    said(tool_calls=[{"function": {"index": 0, "name": "g", "arguments": {}}}, {"function": {"name": "f"}}]),
    said() | DONE,
)
GENERATE = stream(line(thinking="hm", response="", done=False), line(response="Hi", done=False), line(response="", context=[1, 2]) | DONE)
FAILED = stream(said(content="a"), {"error": "an error was encountered while running the model"})
FIXTURES = {"chat": CHAT, "crlf": CRLF, "thinking": THINKING, "tools": TOOLS, "generate": GENERATE, "failed": FAILED}

END = [Finished("stop"), Usage(11, 4), Terminated()]
SPOKEN = {
    "chat": [Started(None, "m"), Delta("text", "Grüß"), Delta("text", " 👩‍👧\u2028"), Delta("text", "!"), *END],
    "crlf": [Started(None, "m"), Delta("text", "a"), *END],
    "thinking": [Started(None, "m"), Delta("reasoning", "hm"), Delta("reasoning", "\n"), Delta("text", "yes"), *END],
    "tools": [
        Started(None, "m"),
        ToolOpened(0, "call_a", "f"),
        Delta("arguments", '{"city": "Köln", "n": 1.5}', 0),
        ToolOpened(1, None, "g"),
        Delta("arguments", "{}", 1),
        ToolOpened(2, None, "f"),
        Finished("stop", "tools"),
        *END[1:],
    ],
    "generate": [Started(None, "m"), Delta("reasoning", "hm"), Delta("text", "Hi"), *END],
    "failed": [Started(None, "m"), Delta("text", "a"), Failed("upstream_error", "an error was encountered while running the model")],
}


def events_of(*chunks: bytes) -> list:
    parser, reader = Parser(), LineReader()
    frames = [frame for chunk in chunks for frame in parser.feed(chunk)]
    assert b"".join(frame.raw for frame in frames) + parser.tail == b"".join(chunks)
    return [event for frame in frames for event in reader.events(frame)]


def read(document: object, reader: LineReader | None = None) -> list:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return list((reader or named()).events(Frame(data + b"\n", data, "")))


def named() -> LineReader:
    """A reader of a stream that has named its model."""
    reader = LineReader()
    assert read({"model": "m"}, reader) == [Started(None, "m")]
    return reader


@pytest.mark.parametrize("name", FIXTURES)
def test_a_stream_says_what_it_says(name):
    """Each fixture in full: tokens, tools, finish, usage and end in their order."""
    assert events_of(FIXTURES[name]) == SPOKEN[name]


@pytest.mark.parametrize("name", FIXTURES)
def test_every_split_gives_the_same_events(name):
    """Two reads, cut anywhere, and one byte at a time, say what one read says."""
    whole = FIXTURES[name]
    for place in range(len(whole) + 1):
        assert events_of(whole[:place], whole[place:]) == SPOKEN[name]
    assert events_of(*(whole[at : at + 1] for at in range(len(whole)))) == SPOKEN[name]


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(sorted(FIXTURES)), places=st.lists(st.integers(0, 10_000), max_size=8))
def test_any_cuts_give_the_same_events(name, places):
    """However many reads there are, the events are the same."""
    whole = FIXTURES[name]
    edges = [0, *sorted(place % (len(whole) + 1) for place in places), len(whole)]
    assert events_of(*(whole[start:end] for start, end in itertools.pairwise(edges))) == SPOKEN[name]


@pytest.mark.parametrize(
    "document",
    [
        said(),
        said(content=None),
        said(thinking=""),
        said(tool_calls=[]),
        said(tool_calls=[{}]),
        said(tool_calls=None),
        line(response="", done=False),
        line(message=None),
        {"error": None},
        {"error": ""},
        {"status": "pulling manifest"},
        {"prompt_eval_count": None},
        {},
        b"",
    ],
)
def test_what_is_no_token_is_no_event(document):
    """Roles and empty text are not tokens; a blank line is nothing."""
    assert read(document) == []


@pytest.mark.parametrize(
    ("document", "events"),
    [
        (said(content=" "), [Delta("text", " ")]),
        (said(content="b", thinking="a"), [Delta("reasoning", "a"), Delta("text", "b")]),
        (said(done=True, content="."), [Delta("text", "."), Terminated()]),
        (said() | {"done": True, "done_reason": "length"}, [Finished("length", "length"), Terminated()]),
        (said() | {"done": True, "done_reason": "load"}, [Finished("load", "other"), Terminated()]),
        (said() | {"done": True, "done_reason": ""}, [Terminated()]),
        (said() | {"done_reason": "stop"}, []),
        (line(done=True, done_reason="x" * 100), [Finished("x" * 64, "other"), Terminated()]),
        (
            said(tool_calls=[{"function": {"name": "f", "arguments": '{"a":1}'}}]),
            [ToolOpened(0, None, "f"), Delta("arguments", '{"a":1}', 0)],
        ),
        (said(tool_calls=[{"id": 7, "function": {"name": "f", "arguments": None}}]), [ToolOpened(0, None, "f")]),
        (said(tool_calls=[{"id": "i" * 300, "function": {"name": "f"}}]), [ToolOpened(0, "i" * 256, "f")]),
        ({"error": "e" * 2000}, [Failed("upstream_error", "e" * 1000)]),
        ({"error": {"code": 429, "message": "slow down"}}, [Failed("429", "slow down")]),
        ({"error": ["odd"]}, [Failed("upstream_error", "['odd']")]),
        ({"model": 3, "message": {"content": "x", "images": 7}}, [Delta("text", "x")]),
        ({"message": {"content": "x", "thinking": 3}}, [Delta("text", "x")]),
        (b'{"message":{"content":"\\ud83d"}}', [Delta("text", "\ud83d")]),
        (b'{"message":{"content":"\xff"}}', [Delta("text", "\ufffd")]),
    ],
)
def test_what_a_line_says(document, events):
    """Every kind of output is told once, in the order in which it is read; what has a wrong type is passed over."""
    assert read(document) == events


def test_what_telemetry_repeats_is_unicode():
    """The names of models and reasons go into records; half a character would not."""
    line = b'{"model":"m\\ud83d","done":true,"done_reason":"\\ud83d"}'
    assert read(line, LineReader()) == [Started(None, "m?"), Finished("?", "other"), Terminated()]


def test_arguments_are_the_very_text_that_came():
    """Numbers beyond a double and the order of members survive: arguments are passed on, not read."""
    data = b'{"message":{"tool_calls":[{"function":{"name":"f","arguments":{"b":12345678901234567890123,"a":1.10}}}]}}'
    assert read(data)[1] == Delta("arguments", '{"b":12345678901234567890123,"a":1.10}', 0)


@pytest.mark.parametrize(
    ("counts", "usage"),
    [
        ({"prompt_eval_count": 11, "eval_count": 4}, Usage(11, 4)),
        ({"prompt_eval_count": 11, "eval_count": 4, "prompt_eval_cached_count": 8}, Usage(11, 4, cached=8)),
        ({"eval_count": 4}, Usage(None, 4)),
        ({"prompt_eval_count": 0, "eval_count": 0, "prompt_eval_cached_count": 0}, Usage(0, 0, cached=0)),
        ({"prompt_eval_count": -1, "eval_count": 2**70}, None),
        ({"prompt_eval_count": "9", "eval_count": 3.0}, Usage(9, 3)),
        ({"prompt_eval_count": 2**63, "eval_count": 2**63 - 1}, Usage(None, 2**63 - 1)),
    ],
)
def test_counts_are_said_or_not_said(counts, usage):
    """A count left out, negative or beyond 64 bits is not said; 0 is 0; cached input is part of the input."""
    assert [event for event in read(said(done=True) | counts) if isinstance(event, Usage)] == ([usage] if usage else [])


@pytest.mark.parametrize("data", [b"[1]", b"7", b"null", b'"text"', b'{"message":7}', b'{"done":"maybe"}'])
def test_json_of_no_known_shape_is_said_to_be_so(data):
    """What is JSON but nothing we know raises ValidationError."""
    with pytest.raises(msgspec.ValidationError):
        read(data)


@pytest.mark.parametrize("data", [b"{", b"data: {}", b"<html>", b'{"a":' * 100_000, b"\xff\xfe"])
def test_what_is_no_json_is_said_to_be_so(data):
    """What is not JSON raises DecodeError and not ValidationError."""
    with pytest.raises(msgspec.DecodeError) as caught:
        read(data)
    assert not isinstance(caught.value, msgspec.ValidationError)


MEMBERS = [
    "message", "content", "thinking", "tool_calls", "function", "name", "arguments", "id", "done", "done_reason", "error", "model",
    "response", "eval_count", "prompt_eval_count", "prompt_eval_cached_count", "code", "x",
]  # fmt: skip
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.sampled_from(["stop", "{}", "["])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(MEMBERS),
            inner,
            max_size=5,
        ),
    ),
    max_leaves=20,
)


@settings(max_examples=1000, deadline=None)
@given(document=JSON, junk=st.binary(max_size=20), fresh=st.booleans())
def test_nothing_but_a_decode_error_comes_of_any_bytes(document, junk, fresh):
    """Any JSON and any bytes are read or refused; no text of a delta is ever empty."""
    for data in (json.dumps(document).encode(), junk, json.dumps(document).encode() + junk):
        try:
            events = (LineReader() if fresh else named()).events(Frame(data, data.strip(), ""))
        except msgspec.DecodeError:
            continue
        assert all(event.text for event in events if isinstance(event, Delta))
