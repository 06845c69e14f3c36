"""Events as Ollama's lines: what each line looks like, what waits for the end, and that its own reader reads the same back."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.call import Call
from gateway.core.errors import UpstreamError
from gateway.core.events import Delta, Failed, Finished, Started, Terminated, ToolOpened, Usage
from gateway.dialects.base import Stamp
from gateway.dialects.ollama import OLLAMA

CALL = Call(dialect="ollama", operation="chat", path="/api/chat", model="asked", body=b"{}", stream=True)
STAMP = Stamp("0123456789abcdef0123456789abcdef", 1_700_000_000)
MADE = "2023-11-14T22:13:20Z"


def written(*events, ended: bool = True) -> list[dict]:
    writer = OLLAMA.writer(CALL, STAMP)
    said = b"".join(writer.feed([event]) for event in events) + (writer.end() if ended else b"")
    assert writer.end() == b"" or not ended
    assert said.endswith(b"\n") or not said
    return [json.loads(line) for line in said.split(b"\n")[:-1]]


def message(done: bool = False, **said: object) -> dict:
    return {"model": "asked", "created_at": MADE, "message": {"role": "assistant", "content": "", **said}, "done": done}


def read(stream: bytes) -> list:
    parser, reader = OLLAMA.framing(CALL).parser(), OLLAMA.reader(CALL)
    events = [event for frame in parser.feed(stream) for event in reader.events(frame)]
    assert parser.tail == b""
    return events


def test_an_answer_is_said_line_by_line():
    """Text and thinking come at once; finish and usage wait for the line that is the end."""
    assert written(
        Started("id-1", None),
        Delta("reasoning", "hm"),
        Delta("text", 'a"\n'),
        Delta("refusal", "no"),
        Delta("audio", "UklG"),
        Finished("max_tokens", "length"),
        Usage(10, 3, cached=4, reasoning=2),
    ) == [
        message(thinking="hm"),
        message(content='a"\n'),
        message(content="no"),
        message(done=True) | {"done_reason": "length", "prompt_eval_count": 10, "prompt_eval_cached_count": 4, "eval_count": 3},
    ]


def test_the_bytes_are_those_of_a_server():
    """Members stand in the order in which Ollama writes them, without spaces."""
    writer = OLLAMA.writer(CALL, STAMP)
    head = b'{"model":"llama","created_at":"2023-11-14T22:13:20Z","message":{"role":"assistant","content":'
    assert writer.feed([Started(None, "llama"), Delta("text", "é")]) == head + '"é"},"done":false}\n'.encode()
    assert writer.feed([Usage(0, None), Terminated()]) == head + b'""},"done":true,"done_reason":"stop","prompt_eval_count":0}\n'
    assert writer.feed([Delta("text", "late")]) == writer.end() == b""


def test_tool_calls_come_whole():
    """Arguments that came in pieces are one object; an id that nobody gave is made; all calls are one line."""
    tools = [
        ToolOpened(3, None, "f"),
        Delta("arguments", '{"a":\n', 3),
        ToolOpened(7, "own", "g"),
        Delta("arguments", "1.50}", 3),
    ]
    calls = [
        {"id": "call_0123456789abcdef01234567_0", "function": {"index": 0, "name": "f", "arguments": {"a": 1.5}}},
        {"id": "own", "function": {"index": 1, "name": "g", "arguments": {}}},
    ]
    assert written(*tools, Finished("tool_use", "tools")) == [message(tool_calls=calls), message(done=True) | {"done_reason": "stop"}]
    assert written(*tools)[0] == message(tool_calls=calls)
    assert written(*tools, ended=False) == []


def test_a_call_that_is_opened_again_is_one_call():
    """Some servers repeat name and id with every piece, some tell them late."""
    tools = [Delta("arguments", '{"a"', 2), ToolOpened(2, "i", None), ToolOpened(2, None, "f"), Delta("arguments", ":1}", 2)]
    (said, _) = written(*tools)
    assert said == message(tool_calls=[{"id": "i", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}}])


def test_arguments_are_passed_on_as_they_were():
    """Numbers beyond a double survive; only line ends between them go."""
    writer = OLLAMA.writer(CALL, STAMP)
    writer.feed([ToolOpened(0, "i", "f"), Delta("arguments", '{"n":\n12345678901234567890123,\r\n"s":"\\n"}')])
    assert b'"arguments":{"n": 12345678901234567890123,  "s":"\\n"}' in writer.end()


def test_a_line_is_one_line_to_unicode_too():
    """ollama-python reads lines with httpx, which cuts at every line end that Unicode knows."""
    text = "a\u2028b\u2029c\x85d\x0b\x0c\x1c\r\n"
    events = [Delta("text", text), ToolOpened(0, text, text), Delta("arguments", json.dumps({"a": text}, ensure_ascii=False))]
    stream = OLLAMA.writer(CALL, STAMP).feed([*events, Terminated()])
    assert len(stream.decode().splitlines()) == stream.count(b"\n") == 3
    said = [json.loads(line)["message"] for line in stream.decode().splitlines()]
    assert (said[0]["content"], said[1]["tool_calls"][0]["function"]["arguments"]) == (text, {"a": text})
    event = OLLAMA.writer(CALL, STAMP).fail(UpstreamError(text))
    assert len(event.decode().splitlines()) == 1


@pytest.mark.parametrize("arguments", ['{"a":', "[1]", '{"a":NaN}', "x", "[" * 100_000])
def test_a_call_that_was_cut_off_is_not_made(arguments):
    """What is no object cannot be said here, and nobody should act on it."""
    assert written(ToolOpened(0, "i", "f"), Delta("arguments", arguments), Finished("length", "length")) == [
        message(done=True) | {"done_reason": "length"}
    ]


@pytest.mark.parametrize(
    ("finished", "reason"),
    [
        (Finished("end_turn", "stop"), "stop"),
        (Finished("MAX_TOKENS", "length"), "length"),
        (Finished("SAFETY", "filtered"), "content_filter"),
        (Finished("load", "other"), "load"),
    ],
)
def test_reasons_are_said_in_ollamas_words(finished, reason):
    """What an answer ended for keeps its meaning, and a word that only the provider knows stays itself."""
    assert written(finished)[-1]["done_reason"] == reason


def test_a_failure_is_not_said_among_the_lines():
    """It has last words for errors: see below."""
    assert written(Failed("overloaded", "later"), ended=False) == []


def test_an_error_is_the_last_that_is_said():
    """One line; a tool call that has not come together stays unsaid, and after the end there is no error left to tell of."""
    writer = OLLAMA.writer(CALL, STAMP)
    writer.feed([Delta("text", "a"), ToolOpened(0, "i", "f"), Delta("arguments", "{}")])
    assert writer.fail(UpstreamError("it broke")) == b'{"error":"it broke"}\n'
    assert writer.fail(UpstreamError("again")) == writer.end() == writer.feed([Delta("text", "b")]) == b""
    ended = OLLAMA.writer(CALL, STAMP)
    ended.end()
    assert ended.fail(UpstreamError("late")) == b""


def test_half_a_character_is_written_as_an_escape():
    """A lone surrogate is no reason to fail."""
    assert written(Delta("text", "\ud83d"))[0] == message(content="\ud83d")
    assert written(ToolOpened(0, "i", "f"), Delta("arguments", '{"a":"\ud83d"}'))[0]["message"]["tool_calls"]


TEXTS = st.text(min_size=1, max_size=20).filter(lambda text: not any("\ud800" <= char <= "\udfff" for char in text))
ARGUMENTS = st.dictionaries(TEXTS, st.one_of(st.integers(), st.text(max_size=3)), max_size=3).map(json.dumps)
DELTAS = st.lists(st.builds(Delta, st.sampled_from(["text", "reasoning"]), TEXTS), max_size=6)
COUNTS = st.one_of(st.none(), st.integers(0, 2**63 - 1))
USAGES = st.builds(Usage, input=COUNTS, output=COUNTS, cached=COUNTS).filter(lambda usage: usage != Usage())


@settings(max_examples=300, deadline=None)
@given(deltas=DELTAS, tools=st.lists(st.tuples(TEXTS, TEXTS, ARGUMENTS), max_size=3), usage=USAGES, cut=st.booleans())
def test_what_is_written_is_read_back(deltas, tools, usage, cut):
    """A whole answer goes through lines and back unchanged."""
    events = [Started(None, "m"), *deltas]
    for index, (id_, name, arguments) in enumerate(tools):
        events += [ToolOpened(index, id_, name), Delta("arguments", arguments, index)]
    events += [Finished("length", "length") if cut else Finished("stop", "tools" if tools else "stop"), usage, Terminated()]
    assert read(OLLAMA.writer(CALL, STAMP).feed(events)) == events


def test_an_answer_in_one_piece_says_it_all():
    """Text is joined, tool calls are whole, and the document reads back as the events that it was written from."""
    events = [
        Started("x", "m"),
        Delta("reasoning", "h"),
        Delta("text", "a"),
        Delta("text", "b"),
        ToolOpened(0, "i", "f"),
        Delta("arguments", '{"a":1}', 0),
        Finished("tool_calls", "tools"),
        Usage(5, 6),
    ]
    body = OLLAMA.write_document(CALL, events, STAMP)
    assert json.loads(body) == {
        "model": "m",
        "created_at": MADE,
        "message": {
            "role": "assistant",
            "content": "ab",
            "thinking": "h",
            "tool_calls": [{"id": "i", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}}],
        },
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": 5,
        "eval_count": 6,
    }
    assert OLLAMA.read_document(CALL, body) == [
        Started(None, "m"),
        Delta("reasoning", "h"),
        Delta("text", "ab"),
        *events[4:6],
        Finished("stop", "tools"),
        Usage(5, 6),
        Terminated(),
    ]
    assert b"thinking" not in OLLAMA.write_document(CALL, [Delta("text", "a")], STAMP)
