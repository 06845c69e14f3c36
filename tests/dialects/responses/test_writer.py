"""Saying an answer as the events of a response: every event numbered, every item opened and closed, the whole at the end."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import Rejected, UpstreamStalled
from gateway.core.events import Delta, Failed, Finished, Started, Terminated, ToolOpened, Usage
from gateway.dialects.base import Asked, Stamp
from gateway.dialects.responses import RESPONSES
from gateway.wire.sse import Parser

STAMP = Stamp("0123456789abcdef0123456789abcdef", 1_700_000_000)
DONE = Finished("completed")


def call(**members: object):
    body = json.dumps({"model": "asked", "stream": True, "input": "hi", **members}).encode()
    return RESPONSES.parse_call(RESPONSES.endpoints[0], body, Asked())


def write(*events: object, **members: object) -> bytes:
    writer = RESPONSES.writer(call(**members), STAMP)
    return b"".join(writer.feed([event]) for event in events) + writer.end()


def spoken(out: bytes) -> list[dict]:
    """The documents of a stream, held to its law: named as typed, numbered from 0, nothing else."""
    frames = Parser().feed(out)
    assert b"".join(frame.raw for frame in frames) == out
    documents = [json.loads(frame.data) for frame in frames]
    assert [frame.name for frame in frames] == [document["type"] for document in documents]
    assert [document["sequence_number"] for document in documents] == list(range(len(documents)))
    return documents


def kinds(out: bytes) -> list[str]:
    return [document["type"].removeprefix("response.") for document in spoken(out)]


def read(out: bytes) -> list:
    reader = RESPONSES.reader(call())
    return [event for frame in Parser().feed(out) for event in reader.events(frame)]


def test_text_is_one_message_opened_filled_and_closed():
    """The sequence that openai-python's accumulator needs, and the whole text wherever it is repeated."""
    out = write(Started("resp_9", "m"), Delta("text", "Hel"), Delta("text", "lo"), DONE, Usage(3, 2, 1, None, 0))
    assert kinds(out) == [
        *("created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.delta"),
        *("output_text.done", "content_part.done", "output_item.done", "completed"),
    ]
    *_, text, part, item, last = spoken(out)
    message = {
        "id": "msg_0123456789abcdef01234567_0",
        "type": "message",
        "status": "completed",
        "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": "Hello"}],
        "role": "assistant",
    }
    assert text["text"] == "Hello"
    assert part["part"] == message["content"][0]
    assert item["item"] == message
    response = last["response"]
    assert (response["id"], response["model"], response["created_at"], response["status"]) == ("resp_9", "m", 1_700_000_000, "completed")
    assert response["output"] == [message]
    assert response["usage"] == {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 0},
        "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 5,
    }


def test_reasoning_text_and_refusal_are_parts_and_items_of_their_own():
    """Reasoning is an item, a refusal a part of the message; each is closed before the next is opened."""
    out = write(Delta("reasoning", "h"), Delta("text", "a"), Delta("refusal", "n"), Delta("reasoning", "o"), DONE)
    assert kinds(out)[2:] == [
        *("output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta", "reasoning_summary_text.done"),
        *("reasoning_summary_part.done", "output_item.done", "output_item.added", "content_part.added", "output_text.delta"),
        *("output_text.done", "content_part.done", "content_part.added", "refusal.delta", "refusal.done", "content_part.done"),
        *("output_item.done", "output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta"),
        *("reasoning_summary_text.done", "reasoning_summary_part.done", "output_item.done", "completed"),
    ]
    places = [(d["output_index"], d.get("content_index", d.get("summary_index"))) for d in spoken(out) if d["type"].endswith(".delta")]
    assert places == [(0, 0), (1, 0), (1, 1), (2, 0)]
    output = spoken(out)[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["reasoning", "message", "reasoning"]
    assert output[1]["content"][1] == {"type": "refusal", "refusal": "n"}


def test_tool_calls_keep_their_ids_and_their_arguments_apart():
    """Arguments may interleave; a call without any says an empty object, one without an id gets one, a new id is a new call."""
    out = write(
        *(Delta("text", "x"), ToolOpened(5, "c1", "f")),
        *(ToolOpened(7, None, "g"), Delta("arguments", '{"a"', 5), Delta("arguments", "[]", 7)),
        *(Delta("arguments", ":1}", 5), ToolOpened(5, "c1", "f"), ToolOpened(5, "c2", "h"), Finished("tool_calls", "tools")),
    )
    calls = spoken(out)[-1]["response"]["output"][1:]
    assert [(item["call_id"], item["name"], item["arguments"], item["status"]) for item in calls] == [
        ("c1", "f", '{"a":1}', "completed"),
        ("call_0123456789abcdef01234567_2", "g", "[]", "completed"),
        ("c2", "h", "{}", "completed"),
    ]
    done = [document for document in spoken(out) if document["type"].endswith("arguments.done")]
    assert [(d["output_index"], d["item_id"], d["arguments"]) for d in done] == [
        (at, f"fc_0123456789abcdef01234567_{at}", item["arguments"]) for at, item in enumerate(calls, 1)
    ]
    assert [item["item"] for item in spoken(out) if item["type"] == "response.output_item.done"][1:] == calls


@pytest.mark.parametrize(
    ("finished", "kind", "reason", "state"),
    [
        (Finished("stop", "stop"), "completed", None, "completed"),
        (Finished("end_turn", "other"), "completed", None, "completed"),
        (None, "completed", None, "completed"),
        (Finished("MAX_TOKENS", "length"), "incomplete", "max_output_tokens", "incomplete"),
        (Finished("SAFETY", "filtered"), "incomplete", "content_filter", "incomplete"),
    ],
)
@pytest.mark.parametrize("last", [Delta("text", "cut"), ToolOpened(0, "c", "f")])
def test_the_end_says_why_in_this_dialects_words(finished, kind, reason, state, last):
    """What was cut is incomplete: the response, and the item that came last; those before it are whole."""
    events = [Delta("reasoning", "h"), last] + ([finished] if finished else [])
    response = spoken(write(*events))[-1]["response"]
    assert kinds(write(*events))[-1] == response["status"] == kind
    assert response["incomplete_details"] == (reason and {"reason": reason})
    assert [item["status"] for item in response["output"]] == ["completed", state]


def test_the_end_comes_once_and_nothing_after_it():
    """`Terminated` ends like `end`, and either may come again."""
    writer = RESPONSES.writer(call(), STAMP)
    first = writer.feed([Delta("text", "a"), DONE, Terminated(), Delta("text", "late")])
    assert kinds(first)[-1] == "completed"
    assert writer.feed([Delta("text", "later"), Terminated()]) == writer.end() == writer.end() == writer.fail(UpstreamStalled("x")) == b""
    assert first == write(Delta("text", "a"), DONE)


def test_an_answer_of_nothing_is_a_response_of_nothing():
    """Even so it begins and ends, with ids of ours and the model asked for; a failure is not said here."""
    out = write(Failed("c", "m"))
    assert kinds(out) == ["created", "in_progress", "completed"]
    response = spoken(out)[-1]["response"]
    assert (response["id"], response["model"], response["output"], response["usage"]) == (f"resp_{STAMP.id}", "asked", [], None)


def test_nothing_is_held_back_but_finish_and_usage():
    """Each delta is a frame at once; the last event waits for the end."""
    writer = RESPONSES.writer(call(), STAMP)
    assert writer.feed([Usage(1, 1), DONE]) == b""
    assert b'"delta":"a"' in writer.feed([Delta("text", "a")])
    assert writer.feed([Delta("audio", "UklG")]) == b""
    assert b"response.completed" in writer.end()


def test_a_response_repeats_what_was_asked():
    """Clients read tools, format and limits from the response; a line end in them ends no event."""
    tool = {"type": "function", "name": "f", "parameters": {}, "strict": False}
    said = {"instructions": "be\r\n\nkind", "tools": [tool], "tool_choice": "required", "parallel_tool_calls": False}
    said |= {"text": {"format": {"type": "json_object"}}, "temperature": 0.5, "max_output_tokens": 9, "metadata": {"k": "v"}}
    for document in spoken(write(Delta("text", "a"), **said)):
        if "response" in document:
            assert {key: document["response"][key] for key in said} == said


def test_a_schema_of_any_depth_does_not_stop_an_answer():
    """What can be read but is too deep to be written again is not repeated."""
    for depth in range(10, 1000, 10):
        body = b'{"model":"m","stream":true,"input":"hi","tools":[' + b'{"a":' * depth + b"1" + b"}" * depth + b"]}"
        try:
            asked = RESPONSES.parse_call(RESPONSES.endpoints[0], body, Asked())
        except Rejected:
            break
        writer = RESPONSES.writer(asked, STAMP)
        assert b"response.completed" in writer.feed([Delta("text", "a"), DONE]) + writer.end()
    assert depth > 500


def test_the_id_of_a_response_never_changes():
    """openai-python refuses a stream whose response changes its id; the model may become known later."""
    out = write(Delta("text", "a"), Started("late", "m"))
    responses = [document["response"] for document in spoken(out) if "response" in document]
    assert {response["id"] for response in responses} == {f"resp_{STAMP.id}"}
    assert responses[-1]["model"] == "m"


def test_a_failed_response_says_what_there_was():
    """Its code is one that OpenAI's clients know; the error that SDKs raise comes last; no tool call looks ready to be run."""
    writer = RESPONSES.writer(call(), STAMP)
    out = writer.feed([Delta("text", "half"), ToolOpened(0, "c", "f")]) + writer.fail(UpstreamStalled("nothing came"))
    *_, failed, error = spoken(out)
    assert failed["type"] == "response.failed"
    assert failed["response"]["error"] == {"code": "server_error", "message": "nothing came"}
    assert failed["response"]["output"][0]["content"][0]["text"] == "half"
    assert [item["status"] for item in failed["response"]["output"]] == ["completed", "incomplete"]
    assert kinds(out).count("output_item.done") == 1
    said = {"code": "upstream_silent", "message": "nothing came", "param": None}
    assert (error["type"], error["error"]) == ("error", {"type": "upstream_error", **said})
    assert said.items() <= error.items()
    assert writer.end() == writer.fail(UpstreamStalled("again")) == writer.feed([Delta("text", "late"), Terminated()]) == b""


def test_a_failure_before_anything_is_an_error_alone():
    """No response was ever begun."""
    writer = RESPONSES.writer(call(), STAMP)
    assert kinds(writer.fail(UpstreamStalled("nothing came"))) == ["error"]
    assert writer.end() == writer.fail(UpstreamStalled("again")) == b""


def test_half_an_emoji_is_passed_on_as_its_escape():
    """What came cut in two leaves cut in two, as valid JSON."""
    out = write(Delta("text", "\ud83d"), Delta("text", "\ude00"), DONE)
    assert b'"delta":"\\ud83d"' in out
    assert [event.text for event in read(out) if isinstance(event, Delta)] == ["\ud83d", "\ude00"]
    assert "\U0001f600" in spoken(out)[-1]["response"]["output"][0]["content"][0]["text"]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)
SAID = st.lists(
    st.one_of(st.builds(Delta, st.sampled_from(["text", "reasoning", "refusal"]), TEXTS), TEXTS.map(lambda name: [name])), max_size=8
)
ENDS = st.sampled_from([Finished("completed", "stop"), Finished("max_output_tokens", "length"), Finished("content_filter", "filtered")])


@settings(max_examples=150, deadline=None)
@given(said=SAID, finished=ENDS, usage=st.none() | st.builds(Usage, *[st.integers(0, 2**40)] * 5))
def test_what_is_written_is_read_again(said, finished, usage):
    """Events to frames to events is the same, tool calls with arguments included; so is the document, folded."""
    events: list = [Started("r", "m")]
    for at, item in enumerate(said):
        if isinstance(item, list):
            events += [ToolOpened(at, f"c{at}", item[0]), Delta("arguments", "{}", at)]
        else:
            events.append(item)
    if finished.meaning == "stop" and any(isinstance(event, ToolOpened) for event in events):
        finished = Finished("completed", "tools")
    events += [finished, *([usage] if usage else [])]
    places: dict[int, int] = {}

    def placed(found: list) -> list:
        """The same events with tool calls counted from 0."""
        for event in found:
            if isinstance(event, ToolOpened):
                places[event.index] = len(places)
        return [
            msgspec.structs.replace(event, index=places[event.index])
            if isinstance(event, ToolOpened) or (isinstance(event, Delta) and event.kind == "arguments")
            else event
            for event in found
        ]

    again = read(write(*events))
    expected = placed(events)
    places.clear()
    assert placed(again) == [*expected, Terminated()]
    whole = RESPONSES.write_document(call(), events, STAMP)
    texts = ["".join(e.text for e in said if isinstance(e, Delta) and e.kind == kind) for kind in ("text", "reasoning", "refusal")]
    found = RESPONSES.read_document(call(), whole)
    assert ["".join(e.text for e in found if isinstance(e, Delta) and e.kind == kind) for kind in ("text", "reasoning", "refusal")] == texts
    assert [e for e in found if isinstance(e, Finished | Usage)] == [e for e in events if isinstance(e, Finished | Usage)]


def test_a_document_of_a_failure_is_a_failed_response():
    """An answer in one piece that failed says so in its status."""
    document = json.loads(RESPONSES.write_document(call(), [Delta("text", "a"), Failed("rate_limit_exceeded", "slow")], STAMP))
    assert (document["status"], document["error"]) == ("failed", {"code": "rate_limit_exceeded", "message": "slow"})


def test_two_calls_never_have_one_id():
    """A client sends results back by id, and openai-python refuses a response with an item twice."""
    events = [ToolOpened(0, "c", "f"), ToolOpened(1, "c", "f"), Finished("t", "tools")]
    for document in (spoken(write(*events))[-1]["response"], json.loads(RESPONSES.write_document(call(), events, STAMP))):
        assert [item["call_id"] for item in document["output"]] == ["c", "call_0123456789abcdef01234567_1"]


def test_a_document_of_tools_has_a_call_for_each():
    """Ids are kept or made, empty arguments are an empty object, those that were cut off are none."""
    cut = json.loads(RESPONSES.write_document(call(), [ToolOpened(0, "c", "f"), Finished("m", "length")], STAMP))
    assert cut["output"][0]["arguments"] == ""
    document = json.loads(
        RESPONSES.write_document(call(), [ToolOpened(0, "c", "f"), ToolOpened(1, None, "g"), Finished("t", "tools")], STAMP)
    )
    assert [(item["call_id"], item["arguments"]) for item in document["output"]] == [("c", "{}"), ("call_0123456789abcdef01234567_1", "{}")]
