"""What the events of a response say: which are tokens, which are not, and how odd servers are still understood."""

import itertools
import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.events import Delta, Failed, Finished, Started, Terminated, ToolOpened, Usage
from gateway.dialects.responses import RESPONSES
from gateway.dialects.responses.reader import MAX_CALLS, EventReader
from gateway.wire.framing import Frame
from gateway.wire.sse import Parser


def read(reader: EventReader, document: object, name: str = "") -> list:
    return list(reader.events(Frame(b"", json.dumps(document).encode(), name)))


def read_all(*documents: dict) -> list:
    reader = EventReader()
    return [event for document in documents for event in read(reader, document)]


def event(kind: str, **members: object) -> dict:
    return {"type": f"response.{kind}", "sequence_number": 3, **members}


def stream(*documents: dict, named: bool = True, end: bytes = b"\n") -> bytes:
    out = b""
    for document in documents:
        name = b"event: " + document["type"].encode() + end if named else b""
        out += name + b"data: " + json.dumps(document, ensure_ascii=False).encode() + end + end
    return out


RESPONSE = {"id": "resp_1", "object": "response", "model": "m-1", "status": "in_progress", "output": [], "usage": None, "error": None}
USAGE = {
    "input_tokens": 20,
    "input_tokens_details": {"cached_tokens": 5},
    "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 3},
    "total_tokens": 27,
}
OPENAI = (
    event("created", response={**RESPONSE, "instructions": "be brief", "tools": [{"type": "function", "name": "f"}]}),
    event("in_progress", response=RESPONSE),
    event("output_item.added", output_index=0, item={"id": "rs_1", "type": "reasoning", "summary": []}),
    event("reasoning_summary_part.added", item_id="rs_1", output_index=0, summary_index=0, part={"type": "summary_text", "text": ""}),
    event("reasoning_summary_text.delta", item_id="rs_1", output_index=0, summary_index=0, delta="Weigh it", obfuscation="a81n"),
    event("reasoning_summary_text.done", item_id="rs_1", output_index=0, summary_index=0, text="Weigh it"),
    event(
        "reasoning_summary_part.done", item_id="rs_1", output_index=0, summary_index=0, part={"type": "summary_text", "text": "Weigh it"}
    ),
    event(
        "output_item.done",
        output_index=0,
        item={"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Weigh it"}]},
    ),
    event(
        "output_item.added",
        output_index=1,
        item={"id": "msg_1", "type": "message", "status": "in_progress", "content": [], "role": "assistant"},
    ),
    event(
        "content_part.added", item_id="msg_1", output_index=1, content_index=0, part={"type": "output_text", "annotations": [], "text": ""}
    ),
    event("output_text.delta", item_id="msg_1", output_index=1, content_index=0, delta="Grüß", logprobs=[], obfuscation="Xy"),
    event("output_text.delta", item_id="msg_1", output_index=1, content_index=0, delta=" \u2028dich\n", logprobs=[]),
    event("output_text.done", item_id="msg_1", output_index=1, content_index=0, text="Grüß \u2028dich\n", logprobs=[]),
    event("content_part.done", item_id="msg_1", output_index=1, content_index=0, part={"type": "output_text", "text": "Grüß \u2028dich\n"}),
    event(
        "output_item.done", output_index=1, item={"id": "msg_1", "type": "message", "content": [{"type": "output_text", "text": "Grüß"}]}
    ),
    event(
        "output_item.added", output_index=2, item={"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "f", "arguments": ""}
    ),
    event("function_call_arguments.delta", item_id="fc_1", output_index=2, delta='{"a":'),
    {"type": "keepalive", "sequence_number": 17},
    event("function_call_arguments.delta", item_id="fc_1", output_index=2, delta="1}"),
    event("function_call_arguments.done", item_id="fc_1", output_index=2, arguments='{"a":1}'),
    event(
        "output_item.done",
        output_index=2,
        item={"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "f", "arguments": '{"a":1}'},
    ),
    event("completed", response={**RESPONSE, "status": "completed", "usage": USAGE, "output": [{"type": "message"}]}),
)
OPENAI_SAYS = [
    Started("resp_1", "m-1"),
    Delta("reasoning", "Weigh it"),
    Delta("text", "Grüß"),
    Delta("text", " \u2028dich\n"),
    ToolOpened(2, "call_1", "f"),
    Delta("arguments", '{"a":', 2),
    Delta("arguments", "1}", 2),
    Finished("completed", "tools"),
    Usage(20, 7, 5, None, 3),
    Terminated(),
]
# No places, no numbers, no id of the call's item, and a call id that the deltas name: llama.cpp's server-task.cpp.
LLAMA = (
    event("created", response={"id": "resp_2", "object": "response", "status": "in_progress"}),
    event("in_progress", response={"id": "resp_2", "object": "response", "status": "in_progress"}),
    event("output_item.added", item={"id": "rs_2", "summary": [], "type": "reasoning", "content": [], "status": "in_progress"}),
    event("reasoning_text.delta", delta="hm", item_id="rs_2"),
    event("output_item.added", item={"arguments": "", "call_id": "fc_x", "name": "f", "type": "function_call", "status": "in_progress"}),
    event("function_call_arguments.delta", delta="{}", item_id="fc_x"),
    event("output_item.added", item={"arguments": "", "call_id": "fc_y", "name": "g", "type": "function_call", "status": "in_progress"}),
    event("function_call_arguments.delta", delta="[]", item_id="fc_y"),
    event("output_item.done", item={"type": "function_call", "call_id": "fc_x", "name": "f", "arguments": "{}", "status": "completed"}),
    event("output_item.done", item={"type": "function_call", "call_id": "fc_y", "name": "g", "arguments": "[]", "status": "completed"}),
    event("completed", response={"id": "resp_2", "model": "q", "status": "completed", "usage": {"input_tokens": 4, "output_tokens": 2}}),
)
LLAMA_SAYS = [
    Started("resp_2", None),
    Delta("reasoning", "hm"),
    ToolOpened(0, "fc_x", "f"),
    Delta("arguments", "{}", 0),
    ToolOpened(1, "fc_y", "g"),
    Delta("arguments", "[]", 1),
    Started("resp_2", "q"),
    Finished("completed", "tools"),
    Usage(4, 2),
    Terminated(),
]
# A part of its own for reasoning, empty ids, one index twice, and calls named only when they are done.
VLLM = (
    event("created", response={**RESPONSE, "id": "resp_3"}),
    event("output_item.added", output_index=0, item={"id": "", "summary": [], "type": "reasoning", "content": None}),
    event("reasoning_part.added", output_index=0, item_id="", content_index=0, part={"type": "reasoning_text", "text": ""}),
    event("reasoning_text.delta", output_index=0, item_id="", content_index=0, delta="so"),
    event("reasoning_text.done", output_index=0, item_id="", content_index=0, text="so"),
    event("output_item.done", output_index=1, item={"id": "a", "type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}),
    event("output_item.done", output_index=1, item={"id": "b", "type": "function_call", "call_id": "c2", "name": "f", "arguments": "{}"}),
    event("incomplete", response={"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "usage": None}),
)
VLLM_SAYS = [
    Started("resp_3", "m-1"),
    Delta("reasoning", "so"),
    ToolOpened(1, "c1", "f"),
    Delta("arguments", "{}", 1),
    ToolOpened(2, "c2", "f"),
    Delta("arguments", "{}", 2),
    Finished("max_output_tokens", "length"),
    Terminated(),
]
FAILING = (
    event("created", response=RESPONSE),
    {"type": "error", "sequence_number": 2, "error": {"type": "too_many_requests", "code": "too_many_requests", "message": "slow down"}},
    event("failed", response={**RESPONSE, "status": "failed", "error": {"code": "rate_limit_exceeded", "message": "slow down"}}),
)
FAILING_SAYS = [
    Started("resp_1", "m-1"),
    Failed("too_many_requests", "slow down"),
    Failed("rate_limit_exceeded", "slow down"),
    Terminated(),
]
STREAMS = {
    "openai": (stream(*OPENAI), OPENAI_SAYS),
    "openai-crlf": (stream(*OPENAI, end=b"\r\n"), OPENAI_SAYS),
    "unnamed": (stream(*OPENAI, named=False), OPENAI_SAYS),
    "llama": (stream(*LLAMA), LLAMA_SAYS),
    "vllm": (b": hello\n\n" + stream(*VLLM), VLLM_SAYS),
    "failing": (stream(*FAILING), FAILING_SAYS),
}


@pytest.mark.parametrize("case", STREAMS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_cut_of_a_stream_says_the_same(case, data):
    """Whatever the reads, the events are the same and no byte is lost."""
    whole, says = STREAMS[case]
    places = data.draw(st.lists(st.integers(0, len(whole)), max_size=12))
    parser, reader = Parser(), EventReader()
    frames = [frame for start, end in itertools.pairwise([0, *sorted(places), len(whole)]) for frame in parser.feed(whole[start:end])]
    assert b"".join(frame.raw for frame in frames) + parser.tail == whole
    assert [said for frame in frames for said in reader.events(frame)] == says


@pytest.mark.parametrize("case", STREAMS)
def test_a_stream_byte_by_byte_says_the_same(case):
    """The smallest reads there are."""
    whole, says = STREAMS[case]
    parser, reader = Parser(), EventReader()
    frames = [frame for at in range(len(whole)) for frame in parser.feed(whole[at : at + 1])]
    assert [said for frame in frames for said in reader.events(frame)] == says


@pytest.mark.parametrize(
    "document",
    [
        event("in_progress", response=None),
        event("queued", response={"id": "", "model": ""}),
        event("output_item.added", output_index=0, item={"type": "message", "content": [], "role": "assistant"}),
        event("output_item.added", output_index=0, item=None),
        event("output_item.added", output_index=0, item={"type": "web_search_call", "id": "ws"}),
        event("content_part.added", part={"type": "output_text", "text": ""}),
        event("output_text.delta", delta=""),
        event("output_text.delta", delta=None),
        event("output_text.done", text=""),
        event("output_text.annotation.added", annotation={"type": "url_citation"}),
        event("web_search_call.searching", item_id="ws"),
        event("image_generation_call.partial_image", partial_image_b64="aGk="),
        event("function_call_arguments.done", item_id="unknown", arguments="{}"),
        event("something.new", delta="x"),
        {"type": "keepalive", "sequence_number": 4},
    ],
)
def test_what_is_no_token_is_no_event(document):
    """Openings, searches, heartbeats and events nobody knows yet are not generated output."""
    assert read(EventReader(), document) == []


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (event("output_text.delta", delta=" "), [Delta("text", " ")]),
        (event("refusal.delta", delta="no"), [Delta("refusal", "no")]),
        (event("reasoning_text.delta", delta="h"), [Delta("reasoning", "h")]),
        (event("reasoning_summary_text.delta", delta="h"), [Delta("reasoning", "h")]),
        (event("audio.delta", delta="UklG"), [Delta("audio", "UklG")]),
        (event("audio.transcript.delta", delta="said"), [Delta("audio", "said")]),
        (event("output_text.done", text="whole"), [Delta("text", "whole")]),
        (event("refusal.done", refusal="no"), [Delta("refusal", "no")]),
        (
            event("function_call_arguments.delta", item_id="fc", output_index=4, delta="{"),
            [ToolOpened(4, "fc", None), Delta("arguments", "{", 4)],
        ),
        (
            event("code_interpreter_call_code.delta", item_id="ci", output_index=1, delta="1+1"),
            [ToolOpened(1, "ci", None), Delta("arguments", "1+1", 1)],
        ),
        (
            event("output_item.done", output_index=3, item={"type": "custom_tool_call", "call_id": "c", "name": "t", "input": "ls"}),
            [ToolOpened(3, "c", "t"), Delta("arguments", "ls", 3)],
        ),
        (event("output_item.added", output_index=0, item={"type": "mcp_call", "id": "mcp", "name": "t"}), [ToolOpened(0, "mcp", "t")]),
    ],
)
def test_every_kind_of_output_is_a_token(document, says):
    """Each kind of generated output is told, also where a server skips the deltas or the openings."""
    assert read(EventReader(), document) == says


def test_the_type_may_stand_in_the_event_field_alone():
    """Some servers name the event and not its data."""
    assert read(EventReader(), {"delta": "x"}, "response.output_text.delta") == [Delta("text", "x")]


def test_arguments_find_their_call():
    """By the item's id, by the place, or as the call opened last; a place never seen is another call."""
    calls = [event("output_item.added", output_index=at, item={"type": "function_call", "id": f"i{at}", "name": "f"}) for at in (1, 2)]
    said = read_all(
        *calls,
        event("function_call_arguments.delta", item_id="i1", output_index=2, delta="a"),
        event("function_call_arguments.delta", item_id="", output_index=1, delta="b"),
        event("function_call_arguments.delta", delta="c"),
        event("code_interpreter_call_code.delta", item_id="ci", output_index=3, delta="d"),
        event("function_call_arguments.delta", item_id="i2", output_index=-1, delta="e"),
    )
    assert said[2:] == [
        *(Delta("arguments", "a", 1), Delta("arguments", "b", 1), Delta("arguments", "c", 2)),
        *(ToolOpened(3, "ci", None), Delta("arguments", "d", 3), Delta("arguments", "e", 2)),
    ]


def test_a_last_event_of_megabytes_still_ends_the_stream():
    """It repeats everything, pictures included: were it skipped as too large, a whole answer would look torn."""
    output = [{"type": "image_generation_call", "result": "A" * (3 << 20)}]
    (frame,) = RESPONSES.framing(None).parser().feed(stream(event("completed", response={"status": "completed", "output": output})))
    assert list(EventReader().events(frame)) == [Finished("completed"), Terminated()]


def test_a_whole_text_is_told_once_for_each_part():
    """`done` repeats what the deltas said; where there were none it is all there is, part by part."""
    assert read_all(
        event("content_part.added"),
        event("output_text.done", text="one"),
        event("content_part.added"),
        event("output_text.delta", delta="two"),
        event("output_text.done", text="two"),
        event("output_item.added", item={"type": "message"}),
        event("output_text.done", text="three"),
    ) == [Delta("text", "one"), Delta("text", "two"), Delta("text", "three")]


def test_a_response_that_comes_only_at_the_end_is_read_from_there():
    """A server that streams nothing but the final response has still answered."""
    output = [
        {"type": "message", "content": [{"type": "output_text", "text": "hi"}]},
        {"type": "function_call", "call_id": "c", "name": "f"},
    ]
    says = read_all(event("completed", response={"id": "r", "model": "m", "status": "completed", "output": output}))
    assert says == [Started("r", "m"), Delta("text", "hi"), ToolOpened(1, "c", "f"), Finished("completed", "tools"), Terminated()]


@pytest.mark.parametrize(
    ("kind", "response", "says"),
    [
        ("completed", {"status": "completed"}, [Finished("completed", "stop")]),
        ("completed", {}, [Finished("completed", "stop")]),
        ("incomplete", {"incomplete_details": {"reason": "content_filter"}}, [Finished("content_filter", "filtered")]),
        ("incomplete", {"incomplete_details": None}, [Finished("incomplete", "other")]),
        ("incomplete", {"incomplete_details": {"reason": "x" * 99}}, [Finished("x" * 64, "other")]),
        ("cancelled", {}, [Finished("cancelled", "other")]),
        ("failed", {"error": None}, [Failed("upstream_error", "")]),
        ("failed", {"error": {"code": 500, "message": "m"}, "usage": {"input_tokens": 0}}, [Usage(input=0), Failed("500", "m")]),
        ("completed", {"usage": {"input_tokens": 0, "output_tokens": 0}}, [Finished("completed"), Usage(0, 0)]),
        ("completed", {"usage": {"input_tokens": -1, "output_tokens": 2**70}}, [Finished("completed")]),
        (
            "completed",
            {"usage": {"input_tokens": 9, "input_tokens_details": {"cached_tokens": None, "cache_write_tokens": 4}}},
            [Finished("completed"), Usage(input=9, cache_write=4)],
        ),
    ],
)
def test_the_last_event_says_why_and_how_much(kind, response, says):
    """Finish, failure and usage stand in the response of the event that ends the stream."""
    assert read_all(event(kind, response=response)) == [*says, Terminated()]


@pytest.mark.parametrize(
    ("document", "failed"),
    [
        ({"type": "error", "code": "c", "message": "m", "param": None, "sequence_number": 1}, Failed("c", "m")),
        ({"type": "error", "error": {"type": "t", "code": None, "message": "m"}}, Failed("t", "m")),
        ({"type": "response.error", "error": "broke"}, Failed("upstream_error", "broke")),
        ({"error": {"code": 503, "message": "loading", "type": "unavailable_error"}}, Failed("503", "loading")),
        ({"type": "error"}, Failed("upstream_error", "")),
    ],
)
def test_an_error_inside_a_stream_is_a_failure(document, failed):
    """Flat as the reference has it, nested as OpenAI sends it, bare as llama.cpp does."""
    assert read(EventReader(), document) == [failed]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'{"type":"response.output_text.delta","delta":"\\ud83d"}', [Delta("text", "\ud83d")]),
        (b'{"type":"response.output_text.delta","delta":"\xff"}', [Delta("text", "\ufffd")]),
        (b'{"type":"response.output_text.delta","delta":"a","output_index":"0"}', [Delta("text", "a")]),
        (b'{"type":"response.output_text.delta","delta":"a","logprobs":[NaN],"item":7}', [Delta("text", "a")]),
        (b'{"type":"response.output_text.delta","delta":{"text":"a"}}', []),
        (
            b'{"type":"response.output_item.done","output_index":0,"item":{"type":"function_call","name":"f","arguments":{"a":1}}}',
            [ToolOpened(0, None, "f"), Delta("arguments", '{"a":1}')],
        ),
        (b'{"error":"\\ud83d"}', [Failed("upstream_error", "?")]),
        (b'{"error":{"code":"\\ud83d","message":"\\ud83d"}}', [Failed("?", "?")]),
        (b'{"type":"response.created","response":{"id":"\\ud83d","model":"\\ud83d"}}', [Started("?", "?")]),
        (b'{"type":"response.incomplete","response":{"status":"\\ud83d"}}', [Finished("?", "other"), Terminated()]),
        (b'{"type":"response.completed","response":{"output":[{"type":[]}]}}', [Finished("completed"), Terminated()]),
        (b" [DONE]", [Terminated()]),
        (b"", []),
    ],
)
def test_odd_events_are_still_understood(data, says):
    """Half an emoji, wrong types, parsed arguments, chat's end marker: what can be understood is."""
    assert list(EventReader().events(Frame(b"", data, ""))) == says


@pytest.mark.parametrize("kind", ["[]", "{}", "7", "null"])
def test_an_item_of_no_known_type_hides_no_other(kind):
    """A type that is no word at all is one more that is not known."""
    body = b'{"output":[{"type":%b,"content":[{"type":"output_text","text":"a"}]}]}' % kind.encode()
    assert list(RESPONSES.read_document(None, body)) == [Delta("text", "a"), Finished("completed")]


def test_a_place_that_no_output_has_is_not_said():
    """A call after the highest place there is gets the next one, which 64 bits must hold."""
    spoken = event("function_call_arguments.delta", output_index=2**63 - 1, delta=":")
    opened = event("output_item.added", item={"type": "function_call", "name": "f"})
    assert read_all(spoken, opened) == [ToolOpened(0, None, None), Delta("arguments", ":"), ToolOpened(1, None, "f")]


@pytest.mark.parametrize("data", [b"{bad", b"<html>", b"[" * 100_000, b'{"type":'])
def test_garbage_is_a_decode_error(data):
    """What is not JSON raises, and is not mistaken for a wrong shape."""
    with pytest.raises(msgspec.DecodeError) as caught:
        EventReader().events(Frame(b"", data, ""))
    assert not isinstance(caught.value, msgspec.ValidationError)


@pytest.mark.parametrize("data", [b"5", b"[]", b"null", b"{}", b'{"choices":[]}', b'{"type":5}'])
def test_json_of_no_known_shape_is_a_validation_error(data):
    """JSON of which nothing can be understood raises as such."""
    with pytest.raises(msgspec.ValidationError):
        EventReader().events(Frame(b"", data, ""))


def test_what_a_hostile_upstream_says_is_bounded():
    """Names are clipped, and of a flood of tool calls only the last ones are remembered."""
    long = "x" * 9999
    reader = EventReader()
    assert read(reader, event("created", response={"id": long, "model": long})) == [Started("x" * 256, "x" * 256)]
    for at in range(3 * MAX_CALLS):
        item = {"type": "function_call", "id": f"{at}", "call_id": f"c{at}", "name": long}
        assert read(reader, event("output_item.added", output_index=at, item=item)) == [ToolOpened(at, f"c{at}", "x" * 256)]
    assert len(reader._calls) <= MAX_CALLS
    assert len(reader._places) <= 2 * MAX_CALLS + 2


KINDS = [
    *("response.created", "response.completed", "response.failed", "response.incomplete", "response.output_item.added", "error", ""),
    *("response.output_item.done", "response.output_text.delta", "response.output_text.done", "response.function_call_arguments.delta"),
    *("response.function_call_arguments.done", "response.refusal.done", "response.content_part.added"),
]
WORDS = (
    *("delta", "item", "response", "output_index", "item_id", "text", "arguments", "error", "usage", "status", "output", "id", "call_id"),
    *("name", "type", "content", "summary", "input_tokens", "incomplete_details", "reason", "model", "code", "message"),
)
JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-5, 2**70), st.floats(), st.text(max_size=4), st.sampled_from(["function_call", "message"])
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(WORDS), inner, max_size=6)),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(documents=st.lists(st.tuples(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(WORDS), JSON, max_size=6)), max_size=6))
def test_no_json_whatever_makes_the_reader_raise_anything_else(documents):
    """Any JSON is events or a decode error; no event has empty text, no arguments come before their tool is opened."""
    reader = EventReader()
    opened = set()
    for kind, members in documents:
        try:
            says = read(reader, {**members, "type": kind})
        except msgspec.DecodeError:
            continue
        for said in says:
            if isinstance(said, ToolOpened):
                opened.add(said.index)
            if isinstance(said, Delta):
                assert said.text
                assert said.kind != "arguments" or said.index in opened


@settings(max_examples=200, deadline=None)
@given(data=st.one_of(st.binary(max_size=60), JSON.map(lambda found: json.dumps(found).encode())))
def test_no_document_whatever_raises_anything_else(data):
    """An answer in one piece is events or a decode error; an error answer never raises."""
    RESPONSES.read_error(500, data)
    try:
        RESPONSES.read_document(None, data)
    except msgspec.DecodeError:
        return
