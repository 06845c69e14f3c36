"""Answers as ConverseStream and Converse say them: what was meant can be read again."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.core.call import Call
from gateway.core.errors import Stopped, UpstreamStalled
from gateway.core.events import Delta, Event, Failed, Finished, Started, Terminated, ToolOpened, Usage
from gateway.dialects.base import Stamp
from gateway.dialects.bedrock import BEDROCK

CALL = Call(dialect="bedrock", operation="chat", path="/model/m/converse-stream", model="m", body=b"{}", stream=True)
STAMP = Stamp("0123456789abcdef0123456789abcdef", 1_700_000_000)
TOOL_ID = "tooluse_0123456789abcdef01234567_0"


def written(*events: Event) -> bytes:
    """A stream of these events, and its end."""
    writer = BEDROCK.writer(CALL, STAMP)
    out = b"".join(writer.feed([event]) for event in events) + writer.end()
    assert writer.end() == writer.feed([Delta("text", "late")]) == b""
    return out


def messages(stream: bytes) -> list[tuple[str, dict]]:
    parser = BEDROCK.framing(CALL).parser()
    frames = parser.feed(stream)
    assert (parser.tail, parser.skipped) == (b"", 0)
    return [(frame.name, json.loads(frame.data)) for frame in frames]


def read(stream: bytes) -> list[Event]:
    reader = BEDROCK.reader(CALL)
    return [event for frame in BEDROCK.framing(CALL).parser().feed(stream) for event in reader.events(frame)]


def test_an_answer_of_every_kind_is_said_block_by_block():
    """Reasoning, text, two tools: one block each, in order, closed before the next; finish and usage at the end."""
    stream = written(
        Started("id", "model"),
        Delta("reasoning", "hm"),
        Delta("text", "hi"),
        Usage(input=18, output=1, cached=5, cache_write=10),
        Delta("text", " there"),
        ToolOpened(7, "call_a", "f"),
        Delta("arguments", '{"a":', 7),
        Delta("arguments", "1}", 7),
        ToolOpened(3, None, "g"),
        Finished("tool_calls", "tools"),
        Usage(input=18, output=9, cached=5, cache_write=10),
    )
    tool_id = "tooluse_0123456789abcdef01234567_1"
    usage = {"inputTokens": 3, "outputTokens": 9, "totalTokens": 27, "cacheReadInputTokens": 5, "cacheWriteInputTokens": 10}
    assert messages(stream) == [
        ("messageStart", {"role": "assistant"}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "hm"}}}),
        ("contentBlockStop", {"contentBlockIndex": 0}),
        ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"text": "hi"}}),
        ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"text": " there"}}),
        ("contentBlockStop", {"contentBlockIndex": 1}),
        ("contentBlockStart", {"contentBlockIndex": 2, "start": {"toolUse": {"toolUseId": "call_a", "name": "f"}}}),
        ("contentBlockDelta", {"contentBlockIndex": 2, "delta": {"toolUse": {"input": '{"a":'}}}),
        ("contentBlockDelta", {"contentBlockIndex": 2, "delta": {"toolUse": {"input": "1}"}}}),
        ("contentBlockStop", {"contentBlockIndex": 2}),
        ("contentBlockStart", {"contentBlockIndex": 3, "start": {"toolUse": {"toolUseId": tool_id, "name": "g"}}}),
        ("contentBlockStop", {"contentBlockIndex": 3}),
        ("messageStop", {"stopReason": "tool_use"}),
        ("metadata", {"usage": usage, "metrics": {"latencyMs": 0}}),
    ]


TEXTS = st.builds(Delta, st.sampled_from(["text", "reasoning"]), st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5))
TOOLS = st.builds(
    lambda name, pieces: (name, pieces), st.sampled_from(["f", "g"]), st.lists(st.text("ab{}é", min_size=1, max_size=4), max_size=3)
)
USAGES = st.one_of(
    st.none(), st.builds(lambda fresh, out, cached: Usage(fresh + (cached or 0), out, cached), st.integers(0, 9), st.integers(0, 9),
    st.none() | st.integers(0, 9)),
)  # fmt: skip


def renumbered(event: Event, places: list[int]) -> Event:
    """The event with its tool called by the order in which tools came."""
    is_of_tool = isinstance(event, ToolOpened) or (isinstance(event, Delta) and event.kind == "arguments")
    return replace(event, index=places.index(event.index)) if is_of_tool else event


@settings(max_examples=300, deadline=None)
@given(
    texts=st.lists(TEXTS, max_size=6), tools=st.lists(TOOLS, max_size=3), usage=USAGES, reason=st.sampled_from(["end_turn", "max_tokens"])
)
def test_what_is_written_reads_as_what_was_said(texts, tools, usage, reason):
    """Any answer, up to the numbers that its tools go by."""
    finished = Finished("tool_use", "tools") if tools else Finished(reason, "stop" if reason == "end_turn" else "length")
    said: list[Event] = list(texts)
    for number, (name, pieces) in enumerate(tools):
        said += [ToolOpened(number, f"t{number}", name), *(Delta("arguments", piece, number) for piece in pieces)]
    last = [finished, usage, Terminated()] if usage else [finished]
    seen = read(written(*said, *last[:2]))
    places = [event.index for event in seen if isinstance(event, ToolOpened)]
    assert [renumbered(event, places) for event in seen] == said + last


@pytest.mark.parametrize(
    ("finished", "with_tools", "reason"),
    [
        (Finished("stop", "stop"), False, "end_turn"),
        (Finished("STOP", "stop"), True, "tool_use"),
        (Finished("stop_sequence", "stop"), False, "stop_sequence"),
        (Finished("length", "length"), True, "max_tokens"),
        (Finished("model_context_window_exceeded", "length"), False, "model_context_window_exceeded"),
        (Finished("SAFETY", "filtered"), False, "content_filtered"),
        (Finished("guardrail_intervened", "filtered"), False, "guardrail_intervened"),
        (Finished("malformed_tool_use", "other"), False, "malformed_tool_use"),
        (Finished("eos", "other"), False, "end_turn"),
        (None, False, "end_turn"),
        (None, True, "tool_use"),
    ],
)
def test_why_an_answer_ended_is_said_in_bedrocks_words(finished, with_tools, reason):
    """In a stream and in a document."""
    events = [event for event in (ToolOpened(0, "t", "f") if with_tools else None, finished) if event]
    assert messages(written(*events))[-1] == ("messageStop", {"stopReason": reason})
    assert json.loads(BEDROCK.write_document(CALL, events, STAMP))["stopReason"] == reason


def test_an_empty_answer_has_a_beginning_and_an_end():
    """Without usage there is no metadata: nothing is counted that nobody said."""
    assert messages(written()) == [("messageStart", {"role": "assistant"}), ("messageStop", {"stopReason": "end_turn"})]


def test_the_end_marker_ends_it_once():
    """What comes later is not the stream's."""
    writer = BEDROCK.writer(CALL, STAMP)
    ended = writer.feed([Delta("text", "a"), Terminated(), Delta("text", "b")])
    assert [name for name, _ in messages(ended)] == ["messageStart", "contentBlockDelta", "contentBlockStop", "messageStop"]
    assert writer.end() == b""


def test_a_failure_is_not_said_by_the_writer():
    """It has last words for errors: see below."""
    assert BEDROCK.writer(CALL, STAMP).feed([Failed("x", "y")]) == b""


def test_an_error_is_the_last_that_is_said():
    """An exception; the open block stays open, and nothing follows. After the end there is no error left to tell of."""
    writer = BEDROCK.writer(CALL, STAMP)
    writer.feed([Delta("text", "a")])
    assert messages(writer.fail(Stopped("bye"))) == [("exception:serviceUnavailableException", {"message": "bye"})]
    assert writer.fail(Stopped("again")) == writer.end() == writer.feed([Delta("text", "b")]) == b""
    ended = BEDROCK.writer(CALL, STAMP)
    ended.end()
    assert ended.fail(Stopped("late")) == b""
    (said,) = messages(BEDROCK.writer(CALL, STAMP).fail(UpstreamStalled("slow")))
    assert said[1] == {"message": "slow", "originalStatusCode": 504, "originalMessage": "upstream_silent"}


def test_a_refusal_is_text_and_sound_is_nothing():
    """Converse has no words for either."""
    stream = messages(written(Delta("refusal", "no"), Delta("audio", "UklG"), Finished("stop", "stop")))
    assert stream[1] == ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "no"}})
    assert len(stream) == 4


def test_a_tool_that_is_opened_twice_is_one_tool_and_one_never_opened_has_an_id():
    """Some servers repeat themselves, some forget."""
    stream = messages(written(ToolOpened(0, "t", "f"), ToolOpened(0, "t", None), Delta("arguments", "{}", 0)))
    assert [name for name, _ in stream].count("contentBlockStart") == 1
    (_, start) = messages(written(Delta("arguments", "{}", 5)))[1]
    assert start["start"]["toolUse"] == {"toolUseId": TOOL_ID, "name": ""}


def test_a_piece_of_an_earlier_tool_call_is_said_under_its_own_block():
    """Tools whose arguments come interleaved."""
    stream = messages(written(ToolOpened(0, "a", "f"), ToolOpened(1, "b", "g"), Delta("arguments", "1", 0), Delta("arguments", "2", 1)))
    deltas = [(said["contentBlockIndex"], said["delta"]["toolUse"]["input"]) for name, said in stream if name == "contentBlockDelta"]
    assert deltas == [(0, "1"), (1, "2")]


def test_half_a_character_can_be_written():
    """As the escape that it came as."""
    assert messages(written(Delta("text", "a\ud83d")))[1][1]["delta"] == {"text": "a\ud83d"}


def test_a_document_says_the_whole_answer():
    """And reads as it was meant."""
    events = [
        Delta("reasoning", "hm"),
        Delta("text", "hi"),
        ToolOpened(0, "t", "f"),
        Delta("arguments", '{"a":1}', 0),
        Finished("tool_use", "tools"),
        Usage(input=7, output=2, cached=4),
    ]
    body = BEDROCK.write_document(CALL, events, STAMP)
    assert json.loads(body) == {
        "output": {
            "message": {
                "role": "assistant",
                "content": [
                    {"reasoningContent": {"reasoningText": {"text": "hm"}}},
                    {"text": "hi"},
                    {"toolUse": {"toolUseId": "t", "name": "f", "input": {"a": 1}}},
                ],
            }
        },
        "stopReason": "tool_use",
        "metrics": {"latencyMs": 0},
        "usage": {"inputTokens": 3, "outputTokens": 2, "totalTokens": 9, "cacheReadInputTokens": 4},
    }
    said = BEDROCK.read_document(CALL, body)
    assert [event for event in said if not isinstance(event, ToolOpened | Delta)] == events[-2:]


def test_arguments_cut_short_are_said_as_they_are():
    """A model that reached its limit leaves half an object."""
    body = BEDROCK.write_document(CALL, [ToolOpened(0, None, "f"), Delta("arguments", '{"a', 0), Finished("length", "length")], STAMP)
    (block,) = json.loads(body)["output"]["message"]["content"]
    assert block == {"toolUse": {"toolUseId": TOOL_ID, "name": "f", "input": '{"a'}}
