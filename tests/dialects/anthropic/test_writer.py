"""Events as Messages frames and documents: what Anthropic's own server would send."""

import json
from typing import Any

import pytest

from gateway.core.errors import UpstreamError
from gateway.core.events import Delta, Event, Failed, Finished, Started, Terminated, ToolOpened, Usage
from gateway.dialects.anthropic import ANTHROPIC
from gateway.dialects.anthropic.dialect import ENDPOINTS
from gateway.dialects.base import Asked, Stamp
from gateway.wire.sse import Parser

STAMP = Stamp("0123456789abcdef0123456789abcdef", 1_700_000_000)
CALL = ANTHROPIC.parse_call(ENDPOINTS[0], b'{"model":"asked","stream":true,"thinking":{"type":"adaptive"}}', Asked())

ANSWER: list[Event] = [
    Started("chatcmpl-1", "gpt-x"),
    Delta("reasoning", "Which "),
    Delta("reasoning", "city?"),
    Delta("text", "Let me "),
    Delta("text", "look. 🌧"),
    ToolOpened(0, "call_a", "weather"),
    Delta("arguments", '{"city":', 0),
    Delta("arguments", '"Graz"}', 0),
    ToolOpened(1, "call_b", "now"),
    Finished("tool_calls", "tools"),
    Usage(input=15, output=12, cached=5, reasoning=4),
]


def written(*batches: list[Event]) -> bytes:
    writer = ANTHROPIC.writer(CALL, STAMP)
    out = b"".join(writer.feed(batch) for batch in batches) + writer.end()
    assert writer.end() == b""
    assert writer.feed([Delta("text", "late")]) == b""
    return out


def documents(stream: bytes) -> list[dict[str, Any]]:
    """Read frames back; each names its document's type."""
    frames = Parser().feed(stream)
    found = [json.loads(frame.data) for frame in frames]
    assert [frame.name for frame in frames] == [document["type"] for document in found]
    return found


def read(stream: bytes) -> list[Event]:
    reader = ANTHROPIC.reader(CALL)
    return [event for frame in Parser().feed(stream) for event in reader.events(frame)]


def shape(stream: bytes) -> list[str]:
    """Say a stream's order in short."""
    short = []
    for document in documents(stream):
        kind = document.get("content_block", document.get("delta", {})).get("type", "")
        short.append(f"{document['type']} {document.get('index', '')} {kind}".strip())
    return short


def test_an_answer_is_said_in_order() -> None:
    """One block after the other, each opened and closed; the reason and the counts at the end."""
    stream = written(ANSWER)
    assert shape(stream) == [
        "message_start",
        "content_block_start 0 thinking",
        "content_block_delta 0 thinking_delta",
        "content_block_delta 0 thinking_delta",
        "content_block_delta 0 signature_delta",
        "content_block_stop 0",
        "content_block_start 1 text",
        "content_block_delta 1 text_delta",
        "content_block_delta 1 text_delta",
        "content_block_stop 1",
        "content_block_start 2 tool_use",
        "content_block_delta 2 input_json_delta",
        "content_block_delta 2 input_json_delta",
        "content_block_stop 2",
        "content_block_start 3 tool_use",
        "content_block_stop 3",
        "message_delta",
        "message_stop",
    ]
    first, *_, last, _ = documents(stream)
    assert first["message"] == {
        "id": "chatcmpl-1",
        "type": "message",
        "role": "assistant",
        "model": "gpt-x",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }
    assert last["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert last["usage"] == {
        "input_tokens": 10,
        "cache_read_input_tokens": 5,
        "output_tokens": 12,
        "output_tokens_details": {"thinking_tokens": 4},
    }


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_what_is_written_reads_the_same(size: int) -> None:
    """However the events come in, the reader finds them again: block numbers and the word for the end are this dialect's."""
    batches = [ANSWER[at : at + size] for at in range(0, len(ANSWER), size)]
    events = [event for event in read(written(*batches)) if not isinstance(event, Usage) or event.output]
    assert events == [
        Started("chatcmpl-1", "gpt-x"),
        Delta("reasoning", "Which ", 0),
        Delta("reasoning", "city?", 0),
        Delta("text", "Let me ", 1),
        Delta("text", "look. 🌧", 1),
        ToolOpened(2, "call_a", "weather"),
        Delta("arguments", '{"city":', 2),
        Delta("arguments", '"Graz"}', 2),
        ToolOpened(3, "call_b", "now"),
        Finished("tool_use", "tools"),
        Usage(input=15, output=12, cached=5, reasoning=4),
        Terminated(),
    ]


def test_the_beginning_is_not_held_back() -> None:
    """A client learns at once that its call was taken, and counts that are known go with it."""
    writer = ANTHROPIC.writer(CALL, STAMP)
    (first,) = documents(writer.feed([Started("i", "m"), Usage(input=9, cached=0, cache_write=2, output=1)]))
    assert first["message"]["usage"] == {
        "input_tokens": 7,
        "cache_creation_input_tokens": 2,
        "cache_read_input_tokens": 0,
        "output_tokens": 1,
    }
    assert writer.feed([Started("i", "m2"), Usage(input=9, output=2)]) == b""


def test_an_end_marker_ends_it_once() -> None:
    """Terminated does what end() does, and what comes after is not the answer's."""
    writer = ANTHROPIC.writer(CALL, STAMP)
    out = writer.feed([*ANSWER, Terminated(), Delta("text", "late")])
    assert documents(out)[-1] == {"type": "message_stop"}
    assert writer.end() == b""
    assert out == written(ANSWER)


def test_nothing_said_is_still_an_answer() -> None:
    """With names that were made for it."""
    first, last, end = documents(written([]))
    assert (first["message"]["id"], first["message"]["model"]) == ("msg_0123456789abcdef01234567", "asked")
    assert (last["delta"]["stop_reason"], last["usage"], end["type"]) == ("end_turn", {"output_tokens": 0}, "message_stop")


def test_tools_without_names_get_them() -> None:
    """Ids are made where none came, and pieces without a beginning get one."""
    stream = written([ToolOpened(7, None, "f"), Delta("arguments", "{}", 7), Delta("arguments", "[]", 3)])
    assert [event for event in read(stream) if isinstance(event, ToolOpened)] == [
        ToolOpened(0, "toolu_0123456789abcdef01234567_0", "f"),
        ToolOpened(1, "toolu_0123456789abcdef01234567_1", None),
    ]


def test_late_arguments_find_their_tool() -> None:
    """Pieces of two calls may come in turns; a call that is named twice is one call."""
    stream = written(
        [ToolOpened(0, "a", "f"), ToolOpened(1, "b", "g"), Delta("arguments", "1", 0), ToolOpened(1, "b", None), Delta("arguments", "2", 1)]
    )
    assert [event for event in read(stream) if isinstance(event, ToolOpened | Delta)] == [
        ToolOpened(0, "a", "f"),
        ToolOpened(1, "b", "g"),
        Delta("arguments", "1", 0),
        Delta("arguments", "2", 1),
    ]


def test_text_after_a_tool_opens_a_block_of_its_own() -> None:
    """And so does reasoning after text; a refusal is text."""
    stream = written([Delta("text", "a"), ToolOpened(0, "t", "f"), Delta("text", "b"), Delta("reasoning", "c"), Delta("refusal", "d")])
    starts = [line for line in shape(stream) if line.startswith("content_block_start")]
    assert [line.split()[1:] for line in starts] == [["0", "text"], ["1", "tool_use"], ["2", "text"], ["3", "thinking"], ["4", "text"]]


def test_what_cannot_be_said_is_skipped() -> None:
    """Errors have a frame of their own, and sound has none."""
    assert written([Started("i", "m"), Failed("x", "y"), Delta("audio", "aGk=")]) == written([Started("i", "m")])


@pytest.mark.parametrize(
    ("finished", "tools", "reason"),
    [
        (Finished("stop", "stop"), False, "end_turn"),
        (Finished("STOP", "stop"), True, "tool_use"),
        (Finished("stop_sequence", "stop"), False, "stop_sequence"),
        (Finished("MAX_TOKENS", "length"), True, "max_tokens"),
        (Finished("model_context_window_exceeded", "length"), False, "model_context_window_exceeded"),
        (Finished("content_filter", "filtered"), False, "refusal"),
        (Finished("pause_turn", "other"), False, "pause_turn"),
        (Finished("guardrail", "other"), False, "end_turn"),
        (None, True, "tool_use"),
    ],
)
def test_reasons_are_said_in_anthropics_words(finished: Finished | None, tools: bool, reason: str) -> None:
    """In streams and documents alike; a client that has tools to run is told so."""
    events: list[Event] = [ToolOpened(0, "t", "f")] if tools else [Delta("text", "a")]
    events += [finished] if finished else []
    assert documents(written(events))[-2]["delta"]["stop_reason"] == reason
    assert json.loads(ANTHROPIC.write_document(CALL, events, STAMP))["stop_reason"] == reason


@pytest.mark.parametrize(
    "thinking",
    [
        *("", ',"thinking":{"type":"disabled"}', ',"thinking":{"type":"adaptive","display":"omitted"}', ',"x":"\\ud83d"'),
        *(',"thinking":{"type":[]}', ',"thinking":{"type":{}}', ',"thinking":[]'),
    ],
)
def test_reasoning_that_was_not_asked_for_is_left_out(thinking: str) -> None:
    """A client that reads its answer from the first block finds it there."""
    call = ANTHROPIC.parse_call(ENDPOINTS[0], f'{{"model":"asked","stream":true{thinking}}}'.encode(), Asked())
    writer = ANTHROPIC.writer(call, STAMP)
    stream = writer.feed(ANSWER) + writer.end()
    assert [event for event in read(stream) if isinstance(event, Delta) and event.kind == "reasoning"] == []
    assert [line for line in shape(stream) if "start 0" in line] == ["content_block_start 0 text"]
    assert json.loads(ANTHROPIC.write_document(call, ANSWER, STAMP))["content"][0] == {"type": "text", "text": "Let me look. 🌧"}


def test_an_error_is_the_last_word() -> None:
    """In the middle of a block or before there was any: one event, and nothing after it."""
    error = UpstreamError("broke\n\n", status=529, code="error_event")
    for said in ([], ANSWER[:4]):
        writer = ANTHROPIC.writer(CALL, STAMP)
        begun = writer.feed(said)
        last = writer.fail(error)
        assert last == ANTHROPIC.error_event(error, CALL, begun=bool(begun))
        assert shape(last) == ["error"]
        assert read(begun + last)[-1] == Failed("overloaded_error", "broke\n\n")
        assert writer.fail(error) == writer.end() == writer.feed([Delta("text", "late")]) == b""
    writer = ANTHROPIC.writer(CALL, STAMP)
    assert writer.end()
    assert writer.fail(error) == b""


def test_half_an_emoji_is_an_escape() -> None:
    """What upstreams send is what clients get, also where UTF-8 has no bytes for it."""
    stream = written([Delta("text", "a\ud83d\n\nb")])
    assert b"\\ud83d" in stream
    assert [event for event in read(stream) if isinstance(event, Delta)] == [Delta("text", "a\ud83d\n\nb", 0)]


def test_a_document_says_the_same() -> None:
    """All in one piece, with members in one order, and read back as it was."""
    body = ANTHROPIC.write_document(CALL, ANSWER, STAMP)
    said = json.loads(body)
    assert list(said) == ["id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"]
    assert said["content"] == [
        {"type": "thinking", "thinking": "Which city?", "signature": ""},
        {"type": "text", "text": "Let me look. 🌧"},
        {"type": "tool_use", "id": "call_a", "name": "weather", "input": {"city": "Graz"}},
        {"type": "tool_use", "id": "call_b", "name": "now", "input": {}},
    ]
    assert ANTHROPIC.read_document(CALL, body) == [
        Started("chatcmpl-1", "gpt-x"),
        Delta("reasoning", "Which city?", 0),
        Delta("text", "Let me look. 🌧", 1),
        ToolOpened(2, "call_a", "weather"),
        Delta("arguments", '{"city":"Graz"}', 2),
        ToolOpened(3, "call_b", "now"),
        Finished("tool_use", "tools"),
        Usage(input=15, output=12, cached=5, reasoning=4),
    ]


def test_a_document_of_little_is_whole() -> None:
    """Names are made, arguments cut short become an empty object, and totals are numbers."""
    body = ANTHROPIC.write_document(CALL, [ToolOpened(0, None, None), Delta("arguments", '{"ci', 0)], STAMP)
    said = json.loads(body)
    assert said["content"] == [{"type": "tool_use", "id": "toolu_0123456789abcdef01234567_0", "name": "", "input": {}}]
    assert said["usage"] == {"input_tokens": 0, "output_tokens": 0}
