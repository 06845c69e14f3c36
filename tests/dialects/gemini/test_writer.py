"""Answers in Gemini's words: chunks in either framing, and documents, that its own clients can read."""

import json
from collections.abc import Sequence

import pytest

from gateway.core.call import Call
from gateway.core.errors import UpstreamError
from gateway.core.events import Delta, Event, Failed, Finished, Started, Terminated, ToolOpened, Usage
from gateway.dialects.base import Stamp
from gateway.dialects.gemini import GEMINI, writer

STAMP = Stamp("0123456789abcdef0123456789abcdef", 1_700_000_000)
NAMES = {"modelVersion": "m-1", "responseId": "r-1"}


THINKS = b'{"generation_config":{"thinkingConfig":{"include_thoughts":true}}}'


def call(query: str, body: bytes = THINKS) -> Call:
    path = f"/v1beta/models/m:streamGenerateContent{query}"
    return Call(dialect="gemini", operation="chat", path=path, model="m", body=body, stream=True)


EVENTS, ARRAY = call("?alt=sse"), call("")
ANSWER: list[Event] = [
    Started("r-1", "m-1"),
    Delta("reasoning", "Hm."),
    Delta("text", "Two\n\ncalls:"),
    ToolOpened(3, "call_a", "look"),
    Delta("arguments", '{"at":\n', 3),
    ToolOpened(4, None, "wait"),
    Delta("arguments", ' "sky"}', 3),
    Finished("tool_calls", "tools"),
    Usage(input=10, output=9, cached=4, reasoning=2),
]
CALLS = [
    {
        "functionCall": {"id": "call_a", "name": "look", "args": {"at": "sky"}},
        "thoughtSignature": "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=",
    },
    {"functionCall": {"id": "call_0123456789abcdef01234567_1", "name": "wait", "args": {}}},
]
COUNTS = {
    "promptTokenCount": 10,
    "candidatesTokenCount": 7,
    "totalTokenCount": 19,
    "cachedContentTokenCount": 4,
    "thoughtsTokenCount": 2,
}


def written(to: Call, *feeds: Sequence[Event]) -> bytes:
    made = GEMINI.writer(to, STAMP)
    out = b"".join(made.feed(events) for events in feeds) + made.end()
    assert made.end() == made.feed([Delta("text", "late")]) == b""
    return out


def chunks(stream: bytes) -> list[dict]:
    assert stream.endswith(b"\r\n\r\n")
    assert all(line.startswith(b"data: ") for line in stream.split(b"\r\n") if line)
    return [json.loads(event.removeprefix(b"data: ")) for event in stream.split(b"\r\n\r\n") if event]


def test_an_answer_is_streamed_chunk_by_chunk():
    """Text and thoughts at once; calls, whole, with the finish and the counts in the last chunk."""
    said = chunks(written(EVENTS, *([event] for event in ANSWER)))
    assert said == [
        {"candidates": [{"content": {"parts": [{"text": "Hm.", "thought": True}], "role": "model"}, "index": 0}], **NAMES},
        {"candidates": [{"content": {"parts": [{"text": "Two\n\ncalls:"}], "role": "model"}, "index": 0}], **NAMES},
        {
            "candidates": [{"content": {"parts": CALLS, "role": "model"}, "finishReason": "STOP", "index": 0}],
            "usageMetadata": COUNTS,
            **NAMES,
        },
    ]


def test_the_same_as_an_array():
    """Without alt=sse the chunks are the elements of one array, written as they come."""
    made = GEMINI.writer(ARRAY, STAMP)
    first = made.feed(ANSWER[:2])
    assert json.loads(first + b"]")
    assert json.loads(first + made.feed(ANSWER[2:]) + made.end()) == chunks(written(EVENTS, ANSWER[:2], ANSWER[2:]))
    assert len(json.loads(written(ARRAY, [Finished("stop")]))) == 1
    assert first.startswith(b"[{")  # google-api-core for Python takes no byte before the array, and none after it
    assert written(ARRAY, ANSWER).endswith(b"}\n]")
    assert GEMINI.writer(ARRAY, STAMP).fail(UpstreamError("m")).endswith(b"}\n]")


def test_an_end_marker_ends_it_once():
    """Terminated is the end; what follows says nothing."""
    made = GEMINI.writer(EVENTS, STAMP)
    stream = made.feed([Delta("text", "a"), Finished("stop"), Terminated(), Usage(1, 2)])
    assert [chunk["candidates"][0].get("finishReason") for chunk in chunks(stream)] == [None, "STOP"]
    assert made.feed([Terminated()]) == made.end() == b""


@pytest.mark.parametrize(
    ("finished", "word"),
    [
        (None, "STOP"),
        (Finished("end_turn", "stop"), "STOP"),
        (Finished("tool_use", "tools"), "STOP"),
        (Finished("length", "length"), "MAX_TOKENS"),
        (Finished("content_filter", "filtered"), "SAFETY"),
        (Finished("RECITATION", "filtered"), "RECITATION"),
        (Finished("pause_turn", "other"), "OTHER"),
    ],
)
def test_every_finish_has_gemini_s_word(finished, word):
    """Its own words stay, all others are said by what they mean."""
    (last,) = chunks(written(EVENTS, [finished] if finished else []))
    assert last["candidates"] == [{"content": {"parts": [{"text": ""}], "role": "model"}, "finishReason": word, "index": 0}]
    assert "usageMetadata" not in last
    assert (last["modelVersion"], last["responseId"]) == ("m", STAMP.id)


@pytest.mark.parametrize(("arguments", "finished"), [('{"at": "s', "tools"), ("[1]", "stop"), ('{"at": "s', "length")])
def test_a_torn_tool_call_is_not_said(arguments, finished):
    """Arguments that are no object cannot be said; the finish tells why they are missing."""
    events = [ToolOpened(0, "a", "f"), Delta("arguments", arguments, 0), Finished("x", finished)]
    (last,) = chunks(written(EVENTS, events))
    assert last["candidates"][0]["content"]["parts"] == [{"text": ""}]
    assert last["candidates"][0]["finishReason"] == ("MAX_TOKENS" if finished == "length" else writer.MALFORMED)


def test_arguments_are_held_within_bounds(monkeypatch):
    """Too many are let go, and the call with them."""
    monkeypatch.setattr(writer, "MAX_ARGUMENTS", 10)
    (last,) = chunks(written(EVENTS, [ToolOpened(0, "a", "f"), Delta("arguments", '{"a":"', 0), Delta("arguments", 'bcdefgh"}', 0)]))
    assert last["candidates"][0]["finishReason"] == writer.MALFORMED


def test_what_gemini_has_no_word_for_is_left_out():
    """Failures are told by `error_event`, sounds by nobody; a refusal is text."""
    made = GEMINI.writer(EVENTS, STAMP)
    assert made.feed([Failed("c", "m"), Delta("audio", "AAAA"), Started("x", "y")]) == b""
    (said,) = chunks(made.feed([Delta("refusal", "No.")]))
    assert said["candidates"][0]["content"]["parts"] == [{"text": "No."}]


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        (Usage(input=3), {"promptTokenCount": 3}),
        (Usage(output=3, reasoning=1), {"candidatesTokenCount": 2, "thoughtsTokenCount": 1}),
        (Usage(0, 0, 0), {"promptTokenCount": 0, "candidatesTokenCount": 0, "totalTokenCount": 0, "cachedContentTokenCount": 0}),
    ],
)
def test_counts_that_were_not_said_are_left_out(usage, counts):
    """None is not 0."""
    (last,) = chunks(written(EVENTS, [usage]))
    assert last["usageMetadata"] == counts


def test_a_document_says_it_all():
    """Thoughts, text, calls, finish and counts in one piece; and it reads back as what it was."""
    body = GEMINI.write_document(call(""), ANSWER, STAMP)
    parts = [{"text": "Hm.", "thought": True}, {"text": "Two\n\ncalls:"}, *CALLS]
    assert json.loads(body) == {
        "candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": COUNTS,
        **NAMES,
    }
    assert GEMINI.read_document(call(""), body)[-2:] == [Finished("STOP", "tools"), ANSWER[-1]]
    assert json.loads(GEMINI.write_document(call(""), [], STAMP))["candidates"][0]["finishReason"] == "STOP"


@pytest.mark.parametrize("body", [b"{}", b'{"generationConfig":{"thinkingConfig":{"includeThoughts":false}}}', b'{"x":"\\ud83d"}'])
def test_thoughts_that_were_not_asked_for_are_left_out(body):
    """A client that puts all text of an answer together finds only the answer."""
    made = GEMINI.writer(call("?alt=sse", body), STAMP)
    assert made.feed(ANSWER[:2]) == b""
    (said,) = chunks(made.feed(ANSWER[2:3]))
    assert said["candidates"][0]["content"]["parts"] == [{"text": "Two\n\ncalls:"}]
    document = json.loads(GEMINI.write_document(call("", body), ANSWER, STAMP))
    assert document["candidates"][0]["content"]["parts"][0] == {"text": "Two\n\ncalls:"}


@pytest.mark.parametrize("said", [[], ANSWER[:4]])
def test_an_error_is_the_last_word(said):
    """An event, or the last element of an array that is closed; calls that are held are not said, and nothing follows."""
    error = UpstreamError("broke\r\n\r\n", code="error_event")
    for to in (EVENTS, ARRAY):
        made = GEMINI.writer(to, STAMP)
        begun = made.feed(said)
        last = made.fail(error)
        assert last == GEMINI.error_event(error, to, begun=bool(begun))
        found = json.loads(begun + last) if to is ARRAY else chunks(begun + last)
        assert found[-1]["error"]["message"] == "broke\r\n\r\n"
        assert "functionCall" not in json.dumps(found)
        assert made.fail(error) == made.end() == made.feed(ANSWER) == b""
        over = GEMINI.writer(to, STAMP)
        assert over.end()
        assert over.fail(error) == b""


def test_a_call_that_is_opened_again_keeps_what_it_has():
    """Servers may name a call twice, or its name after its arguments."""
    events = [Delta("arguments", '{"a":', 0), ToolOpened(0, "x", "f"), Delta("arguments", "1}", 0), ToolOpened(0, None, None)]
    (last,) = chunks(written(EVENTS, events))
    (part,) = last["candidates"][0]["content"]["parts"]
    assert part["functionCall"] == {"id": "x", "name": "f", "args": {"a": 1}}


def test_nothing_is_said_after_the_end():
    """Not even of events that came together with it."""
    for to in (EVENTS, ARRAY):
        made, other = GEMINI.writer(to, STAMP), GEMINI.writer(to, STAMP)
        late = [Delta("text", "x"), ToolOpened(0, "c", "f"), Finished("other", "other"), Usage(1, 1)]
        assert made.feed([Delta("text", "a"), Terminated(), *late]) == other.feed([Delta("text", "a"), Terminated()])
        assert made.feed(late) == made.end() == b""


def test_half_an_emoji_is_an_escape():
    """In text, in names and in arguments: what upstreams send is what clients get."""
    events = [Delta("text", "a\ud83d"), ToolOpened(0, "i\ud83d", "f"), Delta("arguments", '{"a":"\\ud83d","n":1' + "0" * 30 + "}", 0)]
    assert b'"a\\ud83d"' in written(EVENTS, events)
    document = json.loads(GEMINI.write_document(EVENTS, events, STAMP))
    assert document["candidates"][0]["content"]["parts"][1]["functionCall"]["args"] == {"a": "\ud83d", "n": 10**30}
