"""Answers said as OpenAI says them: frame by frame, as one document, and understood again by our reader and the official SDK."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai._streaming import SSEDecoder
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from gateway.core.call import Call
from gateway.core.errors import UpstreamStalled
from gateway.core.events import Delta, Event, Failed, Finished, Started, Terminated, ToolOpened, Usage
from gateway.dialects.base import Stamp
from gateway.dialects.openai import OPENAI
from gateway.wire.sse import Parser

STAMP = Stamp("0123456789abcdef0123456789abcdef", 1_763_700_000)
DONE = b"data: [DONE]\n\n"
ANSWER: list[Event] = [
    *(Started("msg_1", "served"), Delta("reasoning", "hm"), Delta("text", "Let"), Delta("text", " me — 漢字\n\n"), Delta("refusal", "no")),
    *(ToolOpened(5, "toolu_1", "level"), Delta("arguments", '{"a":', 5), ToolOpened(2, "toolu_2", "level"), Delta("arguments", "{}", 2)),
    *(Delta("arguments", "1}", 5), Finished("tool_use", "tools"), Usage(10, 4, cached=0, cache_write=3, reasoning=1)),
]


def call(include_usage: bool | None = True) -> Call:
    return Call(dialect="openai", operation="chat", path="", model="asked", body=b"{}", stream=True, include_usage=include_usage)


def written(*events: Event, include_usage: bool | None = True) -> list[dict]:
    writer = OPENAI.writer(call(include_usage), STAMP)
    stream = b"".join(writer.feed([event]) for event in events) + writer.end()
    *frames, done = Parser().feed(stream)
    assert done.raw == DONE
    return [json.loads(frame.data) for frame in frames]


def read(stream: bytes) -> list[Event]:
    reader = OPENAI.reader(call())
    return [event for frame in Parser().feed(stream) for event in reader.events(frame)]


def test_an_answer_looks_like_openais():
    """Role first, one chunk for each event, the reason in a chunk of its own, usage in one without choices, the end marker."""
    stem = {"id": "msg_1", "object": "chat.completion.chunk", "created": STAMP.created, "model": "served"}
    deltas = [
        {"role": "assistant", "content": "", "refusal": None},
        {"reasoning_content": "hm"},
        {"content": "Let"},
        {"content": " me — 漢字\n\n"},
        {"refusal": "no"},
        {"tool_calls": [{"index": 0, "id": "toolu_1", "type": "function", "function": {"name": "level", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]},
        {"tool_calls": [{"index": 1, "id": "toolu_2", "type": "function", "function": {"name": "level", "arguments": ""}}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]},
    ]
    chunks = [
        *({**stem, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}], "usage": None} for delta in deltas),
        {**stem, "choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "tool_calls"}], "usage": None},
    ]
    details = {"prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 3}, "completion_tokens_details": {"reasoning_tokens": 1}}
    usage = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14, **details}
    assert written(*ANSWER) == [*chunks, {**stem, "choices": [], "usage": usage}]


def test_usage_is_said_only_to_who_asked():
    """Without include_usage no chunk knows the word."""
    for said in (None, False):
        assert all("usage" not in chunk for chunk in written(*ANSWER, include_usage=said))
    assert [chunk["usage"] for chunk in written(Delta("text", "a"), Finished("stop"))] == [None, None, None]
    assert "usage" not in json.loads(OPENAI.write_document(call(), [Usage(cached=4)], STAMP))
    assert written(Usage(None, 3))[-1]["usage"] == {"prompt_tokens": 0, "completion_tokens": 3, "total_tokens": 3}


def test_what_is_written_says_what_was_said():
    """Our reader hears the same events, tools counted from 0, the reason in OpenAI's word."""
    stream = (writer := OPENAI.writer(call(), STAMP)).feed(ANSWER) + writer.end()
    assert read(stream) == [
        *(Started("msg_1", "served"), *ANSWER[1:5], ToolOpened(0, "toolu_1", "level"), Delta("arguments", '{"a":', 0)),
        *(ToolOpened(1, "toolu_2", "level"), Delta("arguments", "{}", 1), Delta("arguments", "1}", 0)),
        *(Finished("tool_calls", "tools"), ANSWER[-1], Terminated()),
    ]


def test_the_official_sdk_hears_it():
    """openai-python's decoder finds every chunk, each valid in its types, and stops at the end marker."""
    stream = (writer := OPENAI.writer(call(), STAMP)).feed(ANSWER) + writer.end()
    *chunks, done = SSEDecoder().iter_bytes(iter([stream]))
    assert done.data == "[DONE]"
    heard = [ChatCompletionChunk.model_validate(chunk.json(), strict=True) for chunk in chunks]
    assert "".join(choice.delta.content or "" for chunk in heard for choice in chunk.choices) == "Let me — 漢字\n\n"
    whole = ChatCompletion.model_validate_json(OPENAI.write_document(call(), ANSWER, STAMP), strict=True)
    assert [tool.function.arguments for tool in whole.choices[0].message.tool_calls] == ['{"a":1}', "{}"]
    assert whole.usage.total_tokens == 14


def test_a_document_says_the_same():
    """Answers in one piece are folded from the same events."""
    events = OPENAI.read_document(call(), OPENAI.write_document(call(), ANSWER, STAMP))
    assert events == [
        *(Started("msg_1", "served"), Delta("reasoning", "hm"), Delta("text", "Let me — 漢字\n\n")),
        *(ToolOpened(0, "toolu_1", "level"), Delta("arguments", '{"a":1}', 0), ToolOpened(1, "toolu_2", "level")),
        *(Delta("arguments", "{}", 1), Delta("refusal", "no"), Finished("tool_calls", "tools"), ANSWER[-1]),
    ]


def test_an_empty_document_is_an_answer():
    """Nothing was said: empty text, our own names, an ordinary stop."""
    assert json.loads(OPENAI.write_document(call(), [], STAMP)) == {
        "id": f"chatcmpl-{STAMP.id}",
        "object": "chat.completion",
        "created": STAMP.created,
        "model": "asked",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "", "refusal": None}, "logprobs": None, "finish_reason": "stop"}
        ],
    }


def test_names_that_are_missing_are_made():
    """No id, no model, no id of a tool, no opening of one: ours are valid, and the same in every chunk."""
    chunks = written(Delta("arguments", "{}", 7), ToolOpened(9, None, "f"), Started("late", "late"))
    assert {(chunk["id"], chunk["model"]) for chunk in chunks} == {(f"chatcmpl-{STAMP.id}", "asked")}
    tools = [tool for chunk in chunks for choice in chunk["choices"] for tool in choice["delta"].get("tool_calls", [])]
    assert [(tool["index"], tool.get("id")) for tool in tools] == [
        *((0, "call_0123456789abcdef01234567_0"), (0, None), (1, "call_0123456789abcdef01234567_1"), (1, None))
    ]


def heard(*events: Event) -> list[list[str]]:
    """Every tool call as a client puts it together: it joins what it is told of an id, a name and arguments."""
    calls: dict[int, list[str]] = {}
    for chunk in written(*events):
        for tool in (tool for choice in chunk["choices"] for tool in choice["delta"].get("tool_calls", [])):
            known = calls.setdefault(tool["index"], ["", "", ""])
            said = (tool.get("id", ""), tool["function"].get("name", ""), tool["function"].get("arguments", ""))
            calls[tool["index"]] = [a + b for a, b in zip(known, said, strict=True)]
    return list(calls.values())


def test_a_call_without_arguments_says_an_empty_object():
    """Clients parse them, openai-python as soon as the next call begins; arguments that were cut off are no empty object."""
    calls = [ToolOpened(0, "a", "f"), ToolOpened(1, "b", "g"), Delta("arguments", "[]", 1), ToolOpened(2, "c", "h")]
    assert heard(*calls, Finished("t", "tools")) == [["a", "f", "{}"], ["b", "g", "[]"], ["c", "h", "{}"]]
    assert heard(*calls, Finished("m", "length"))[2] == ["c", "h", ""]
    places = [tool["index"] for chunk in written(*calls) for c in chunk["choices"] for tool in c["delta"].get("tool_calls", [])]
    assert places == sorted(places)
    for meaning, arguments in (("tools", "{}"), ("length", "")):
        whole = json.loads(OPENAI.write_document(call(), [calls[0], Finished("w", meaning)], STAMP))
        assert whole["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == arguments


def test_two_calls_never_have_one_id():
    """A client sends results back by id."""
    calls = [ToolOpened(0, "a", "f"), ToolOpened(1, "a", "f")]
    ours = "call_0123456789abcdef01234567_1"
    assert [known[0] for known in heard(*calls)] == ["a", ours]
    message = json.loads(OPENAI.write_document(call(), calls, STAMP))["choices"][0]["message"]
    assert [tool["id"] for tool in message["tool_calls"]] == ["a", ours]


def test_a_call_that_is_opened_again_is_not_said_again():
    """A name that comes late is said when it comes."""
    assert heard(ToolOpened(0, "a", "f"), Delta("arguments", "{", 0), ToolOpened(0, "a", "f"), Delta("arguments", "}", 0)) == [
        ["a", "f", "{}"]
    ]
    assert heard(ToolOpened(0, "a", None), Delta("arguments", "{}", 0), ToolOpened(0, "a", "f")) == [["a", "f", "{}"]]


@pytest.mark.parametrize(
    ("events", "word"),
    [
        ([Finished("end_turn", "stop")], "stop"),
        ([Finished("MAX_TOKENS", "length")], "length"),
        ([Finished("SAFETY", "filtered")], "content_filter"),
        ([Finished("pause_turn", "other")], "stop"),
        ([ToolOpened(0, "t", "f"), Finished("STOP", "stop")], "tool_calls"),
        ([ToolOpened(0, "t", "f"), Finished("length", "length")], "length"),
        ([Finished("STOP", "stop"), Delta("text", "a"), Finished("MAX_TOKENS", "length")], "length"),
        ([], "stop"),
    ],
)
def test_the_reason_is_openais(events, word):
    """One of its own words, the last that was said, and one that makes an agent call its tools."""
    assert written(*events, include_usage=False)[-1]["choices"][0]["finish_reason"] == word
    assert json.loads(OPENAI.write_document(call(), events, STAMP))["choices"][0]["finish_reason"] == word


def test_an_answer_ends_once():
    """The upstream's end marker ends it, ours adds nothing, and what follows is nobody's; a failure is not said here."""
    writer = OPENAI.writer(call(), STAMP)
    assert writer.feed([Failed("c", "m")]) == b""
    assert writer.feed([Delta("text", "a"), Finished("stop"), Terminated()]).endswith(DONE)
    assert writer.feed([Delta("text", "b")]) == writer.end() == b""


@pytest.mark.parametrize("before", [[], [Delta("text", "a")], [Delta("text", "a"), Finished("stop")]])
def test_an_answer_that_fails_ends_in_its_error(before):
    """No end marker, which clients take for a whole answer, no reason, and nothing after."""
    writer = OPENAI.writer(call(), STAMP)
    said = writer.feed(before)
    error = writer.fail(UpstreamStalled("nothing\r\n\ncame"))
    (frame,) = Parser().feed(error)
    assert json.loads(frame.data) == {
        "error": {"message": "nothing\r\n\ncame", "type": "upstream_error", "param": None, "code": "upstream_silent"}
    }
    assert b'"finish_reason":"' not in said
    assert writer.feed([Delta("text", "b"), Terminated()]) == writer.end() == writer.fail(UpstreamStalled("again")) == b""


def test_an_answer_that_has_ended_cannot_fail():
    """What was said is said."""
    writer = OPENAI.writer(call(), STAMP)
    assert writer.end().endswith(DONE)
    assert writer.fail(UpstreamStalled("late")) == b""


def test_nothing_is_said_after_the_end():
    """Not even of events that came together with it."""
    writer, other = OPENAI.writer(call(), STAMP), OPENAI.writer(call(), STAMP)
    assert writer.feed([Delta("text", "a"), Terminated(), Delta("text", "x"), Finished("stop")]) == other.feed(
        [Delta("text", "a"), Terminated()]
    )
    assert writer.feed([Delta("text", "x")]) == writer.end() == b""


def test_half_an_emoji_is_passed_on():
    """A character cut in two by the upstream is whole again at the client."""
    chunks = written(Delta("text", "\ud83d"), Delta("text", "\ude00"))
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text.encode("utf-16", "surrogatepass").decode("utf-16") == "😀"


TEXT = st.text(min_size=1, max_size=5)
EVENTS = st.lists(
    st.one_of(
        st.builds(Started, st.none() | TEXT, st.none() | TEXT),
        st.builds(Delta, st.sampled_from(["text", "reasoning", "refusal", "arguments", "audio"]), TEXT, st.integers(-2, 3)),
        st.builds(ToolOpened, st.integers(-2, 3), st.none() | TEXT, st.none() | TEXT),
        st.builds(Usage, st.none() | st.integers(0, 9), st.none() | st.integers(0, 9)),
        st.builds(Finished, TEXT, st.sampled_from(["stop", "length", "tools", "filtered", "other"])),
        st.builds(Failed, TEXT, TEXT),
    ),
    max_size=12,
)


@settings(max_examples=400, deadline=None)
@given(events=EVENTS, usage=st.booleans())
def test_any_events_make_a_sound_stream(events, usage):
    """However events come: whole frames, valid to the SDK, the same text, one end."""
    chunks = written(*events, include_usage=usage)
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk, strict=True)
    for kind, member in (("text", "content"), ("reasoning", "reasoning_content"), ("refusal", "refusal")):
        heard = "".join(choice["delta"].get(member) or "" for chunk in chunks for choice in chunk["choices"])
        assert heard == "".join(event.text for event in events if isinstance(event, Delta) and event.kind == kind)
    assert sum(choice["finish_reason"] is not None for chunk in chunks for choice in chunk["choices"]) == 1
    ChatCompletion.model_validate_json(OPENAI.write_document(call(), events, STAMP), strict=True)
