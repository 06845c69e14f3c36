"""What Messages frames say: which are tokens, which are not, how counts add up, and how odd frames are still understood."""

import json
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.events import Delta, Event, Failed, Finished, Started, Terminated, ToolOpened, Usage
from gateway.dialects.anthropic.reader import StreamReader, document_events, failure
from gateway.wire.framing import Frame
from gateway.wire.sse import Parser


def sse(*documents: dict[str, Any], end: str = "\n") -> bytes:
    """Frame documents as Anthropic does: the event's name is the document's type."""
    return "".join(f"event: {one['type']}{end}data: {json.dumps(one)}{end}{end}" for one in documents).encode()


def opening(**usage: int) -> dict[str, Any]:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "content": [], "stop_reason": None}
    return {"type": "message_start", "message": {**message, "stop_sequence": None, "usage": usage}}


def start(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, **piece: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": piece}


def stop(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def closing(reason: str, **usage: Any) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage}


PING = {"type": "ping"}
STOP = {"type": "message_stop"}

PLAIN = sse(
    opening(input_tokens=10, cache_read_input_tokens=5, output_tokens=1),
    start(0, type="text", text=""),
    PING,
    delta(0, type="text_delta", text="Rain "),
    delta(0, type="text_delta", text="auf Dächern 🌧"),
    delta(0, type="citations_delta", citation={"type": "char_location", "cited_text": "Rain"}),
    stop(0),
    closing("end_turn", output_tokens=12),
    STOP,
)
PLAIN_EVENTS: list[Event] = [
    Started("msg_1", "claude-x"),
    Usage(input=15, output=1, cached=5),
    Delta("text", "Rain ", 0),
    Delta("text", "auf Dächern 🌧", 0),
    Finished("end_turn", "stop"),
    Usage(input=15, output=12, cached=5),
    Terminated(),
]

THINKING_AND_TOOLS = sse(
    opening(input_tokens=3, cache_creation_input_tokens=7, cache_read_input_tokens=0, output_tokens=2),
    start(0, type="thinking", thinking="", signature=""),
    delta(0, type="thinking_delta", thinking="Which city?"),
    delta(0, type="signature_delta", signature="c2lnbmVk"),
    stop(0),
    start(1, type="redacted_thinking", data="b3BhcXVl"),
    stop(1),
    start(2, type="tool_use", id="toolu_a", name="weather", input={}),
    delta(2, type="input_json_delta", partial_json=""),
    delta(2, type="input_json_delta", partial_json='{"city":'),
    delta(2, type="input_json_delta", partial_json='"Graz"}'),
    stop(2),
    start(3, type="tool_use", id="toolu_b", name="now", input={}),
    stop(3),
    closing("tool_use", output_tokens=40, output_tokens_details={"thinking_tokens": 9}),
    STOP,
    end="\r\n",
)
THINKING_AND_TOOLS_EVENTS: list[Event] = [
    Started("msg_1", "claude-x"),
    Usage(input=10, output=2, cached=0, cache_write=7),
    Delta("reasoning", "Which city?", 0),
    ToolOpened(2, "toolu_a", "weather"),
    Delta("arguments", '{"city":', 2),
    Delta("arguments", '"Graz"}', 2),
    ToolOpened(3, "toolu_b", "now"),
    Finished("tool_use", "tools"),
    Usage(input=10, output=40, cached=0, cache_write=7, reasoning=9),
    Terminated(),
]

SEARCHING = sse(
    opening(input_tokens=4, output_tokens=1),
    start(0, type="server_tool_use", id="srvtoolu_1", name="web_search", input={}),
    delta(0, type="input_json_delta", partial_json='{"query":"tides"}'),
    stop(0),
    start(1, type="web_search_tool_result", tool_use_id="srvtoolu_1", content=[{"type": "web_search_result", "title": "Tides"}]),
    stop(1),
    start(2, type="text", text=""),
    delta(2, type="text_delta", text="High at noon."),
    stop(2),
    closing("pause_turn", input_tokens=900, output_tokens=30, server_tool_use={"web_search_requests": 1}),
    STOP,
)
SEARCHING_EVENTS: list[Event] = [
    Started("msg_1", "claude-x"),
    Usage(input=4, output=1),
    ToolOpened(0, "srvtoolu_1", "web_search"),
    Delta("arguments", '{"query":"tides"}', 0),
    Delta("text", "High at noon.", 2),
    Finished("pause_turn", "other"),
    Usage(input=900, output=30),
    Terminated(),
]

OVERLOADED = sse(
    opening(input_tokens=4, output_tokens=1),
    start(0, type="text", text=""),
    delta(0, type="text_delta", text="Once"),
    {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "req_1"},
)
OVERLOADED_EVENTS: list[Event] = [
    Started("msg_1", "claude-x"),
    Usage(input=4, output=1),
    Delta("text", "Once", 0),
    Failed("overloaded_error", "Overloaded"),
]

# llama.cpp: blocks that all end at the end, a thinking block without a signature, tools without an input, few counts at the end.
LOCAL = sse(
    opening(cache_read_input_tokens=2, input_tokens=6, output_tokens=0),
    start(0, type="thinking", thinking=""),
    delta(0, type="thinking_delta", thinking="hm"),
    start(1, type="text", text=""),
    delta(1, type="text_delta", text="ok"),
    start(2, type="tool_use", id="x1", name="f"),
    delta(2, type="input_json_delta", partial_json="{}"),
    delta(0, type="signature_delta", signature=""),
    stop(0),
    stop(1),
    stop(2),
    closing("tool_use", output_tokens=5),
    STOP,
)
LOCAL_EVENTS: list[Event] = [
    Started("msg_1", "claude-x"),
    Usage(input=8, output=0, cached=2),
    Delta("reasoning", "hm", 0),
    Delta("text", "ok", 1),
    ToolOpened(2, "x1", "f"),
    Delta("arguments", "{}", 2),
    Finished("tool_use", "tools"),
    Usage(input=8, output=5, cached=2),
    Terminated(),
]

STREAMS = {
    "plain": (PLAIN, PLAIN_EVENTS),
    "thinking-and-tools": (THINKING_AND_TOOLS, THINKING_AND_TOOLS_EVENTS),
    "searching": (SEARCHING, SEARCHING_EVENTS),
    "overloaded": (OVERLOADED, OVERLOADED_EVENTS),
    "local": (LOCAL, LOCAL_EVENTS),
}


def read_stream(*chunks: bytes) -> list[Event]:
    """Parse and read, and check that no byte is lost on the way."""
    parser, reader = Parser(), StreamReader()
    frames = [frame for chunk in chunks for frame in parser.feed(chunk)]
    assert b"".join(frame.raw for frame in frames) + parser.tail == b"".join(chunks)
    return [event for frame in frames for event in reader.events(frame)]


def read(*documents: dict[str, Any]) -> list[Event]:
    return read_stream(sse(*documents))


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_says_what_it_says(name: str) -> None:
    """Tokens, counts, reasons and errors come out in order; pings, signatures, citations and tools' results do not."""
    stream, events = STREAMS[name]
    assert read_stream(stream) == events


@pytest.mark.parametrize("name", STREAMS)
@given(places=st.lists(st.integers(0, 3000), max_size=6))
@settings(max_examples=60, deadline=None)
def test_cuts_change_nothing(name: str, places: list[int]) -> None:
    """However the network cuts the bytes, the same is said."""
    stream, events = STREAMS[name]
    cuts = [0, *sorted(min(place, len(stream)) for place in places), len(stream)]
    assert read_stream(*(stream[a:b] for a, b in pairwise(cuts))) == events


@pytest.mark.parametrize("name", STREAMS)
def test_single_bytes_change_nothing(name: str) -> None:
    """Not even one byte at a time."""
    stream, events = STREAMS[name]
    assert read_stream(*(stream[at : at + 1] for at in range(len(stream)))) == events


def test_counts_replace_and_stay() -> None:
    """Acceptance D4: counts are totals so far, the cache is added once, and what is not repeated is kept."""
    events = read(
        opening(input_tokens=10, cache_read_input_tokens=5, output_tokens=1),
        closing("end_turn", output_tokens=7),
        closing("end_turn", output_tokens=12, input_tokens=10),
        {"type": "message_delta", "delta": {"stop_reason": None}, "usage": None},
    )
    usages = [event for event in events if isinstance(event, Usage)]
    assert usages[-1] == Usage(input=15, output=12, cached=5)
    assert len(usages) == 3


def test_an_aborted_stream_has_said_its_input() -> None:
    """Acceptance D5: what was read is known from the first frame, whatever comes of the rest."""
    events = read(opening(input_tokens=10, cache_read_input_tokens=5), *(delta(0, type="text_delta", text="x") for _ in range(40)))
    assert [event for event in events if isinstance(event, Usage)] == [Usage(input=15, cached=5)]
    assert sum(isinstance(event, Delta) for event in events) == 40


@pytest.mark.parametrize(
    ("usage", "said"),
    [
        ({}, None),
        ({"input_tokens": None, "output_tokens": None}, None),
        ({"input_tokens": 0, "output_tokens": 0}, Usage(input=0, output=0)),
        ({"cache_read_input_tokens": 5}, Usage(cached=5)),
        ({"input_tokens": -1, "output_tokens": 2**63}, None),
        ({"input_tokens": 2**62, "cache_read_input_tokens": 2**62}, Usage(cached=2**62)),
        ({"input_tokens": "7", "output_tokens": 3.0}, Usage(input=7, output=3)),
        ({"input_tokens": 2.5, "cache_read_input_tokens": True, "output_tokens": 4}, Usage(output=4)),
        ({"output_tokens": 4, "output_tokens_details": None}, Usage(output=4)),
        ({"output_tokens": 4, "output_tokens_details": {"thinking_tokens": 0}}, Usage(output=4, reasoning=0)),
        ({"output_tokens": 4, "cache_creation": {"ephemeral_5m_input_tokens": 3}, "service_tier": "standard"}, Usage(output=4)),
    ],
)
def test_only_real_counts_count(usage: dict[str, Any], said: Usage | None) -> None:
    """None is not said, zero is zero, and what no counter can have shown is nothing."""
    events = read({"type": "message_delta", "delta": {}, "usage": usage})
    assert events == ([] if said is None else [said])


@pytest.mark.parametrize(
    "document",
    [
        PING,
        start(0, type="text", text=""),
        start(0, type="thinking", thinking="", signature=""),
        start(0, type="redacted_thinking", data="eA=="),
        start(0, type="code_execution_tool_result", tool_use_id="s", content={"stdout": "1"}),
        start(0, type="fallback"),
        delta(0, type="text_delta", text=""),
        delta(0, type="thinking_delta", thinking=""),
        delta(0, type="input_json_delta", partial_json=""),
        delta(0, type="signature_delta", signature="eA=="),
        delta(0, type="some_new_delta", words={"a": [1]}),
        stop(0),
        {"type": "some_new_event", "index": 0, "text": "x"},
        {"type": "message_start"},
    ],
)
def test_what_is_no_output_is_no_event(document: dict[str, Any]) -> None:
    """Beginnings, ends, signatures, what tools answered, and whatever is invented next are no tokens."""
    assert read(document) == []


@pytest.mark.parametrize(
    ("reason", "meaning"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tools"),
        ("refusal", "filtered"),
        ("pause_turn", "other"),
        ("compaction", "other"),
    ],
)
def test_reasons_have_a_meaning(reason: str, meaning: str) -> None:
    """The provider's word is kept, and what it means is said beside it."""
    assert read(closing(reason)) == [Finished(reason, meaning)]  # type: ignore[arg-type]


def test_names_are_clipped() -> None:
    """No upstream fills a record with one name."""
    long = "x" * 5000
    first = {"type": "message_start", "message": {"id": long, "model": long}}
    events = read(first, start(0, type="tool_use", id=long, name=long), closing(long))
    assert events == [Started(long[:256], long[:256]), ToolOpened(0, long[:256], long[:256]), Finished(long[:64], "other")]
    (failed,) = read({"type": "error", "error": {"type": long, "message": long}})
    assert failed == Failed(long[:64], long[:1000])


def test_a_tool_that_comes_whole_is_told_once() -> None:
    """Some servers put the input into the block's beginning, and may yet repeat it in pieces."""
    events = read(
        start(0, type="tool_use", id="a", name="f", input={"x": 1}),
        delta(0, type="input_json_delta", partial_json='{"x": 1}'),
        start(1, type="tool_use", id="b", name="g", input={}),
        delta(1, type="input_json_delta", partial_json="{}"),
    )
    assert events == [ToolOpened(0, "a", "f"), Delta("arguments", '{"x": 1}', 0), ToolOpened(1, "b", "g"), Delta("arguments", "{}", 1)]


def test_blocks_without_a_number_are_counted() -> None:
    """A missing or impossible index does not mix two tools up."""
    events = read_stream(
        b'data: {"type":"content_block_start","content_block":{"type":"tool_use","id":"a","name":"f"}}\n\n'
        b'data: {"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":"1"}}\n\n'
        b'data: {"type":"content_block_start","index":-4,"content_block":{"type":"tool_use","id":"b","name":"g"}}\n\n'
        b'data: {"type":"content_block_delta","index":"1","delta":{"type":"input_json_delta","partial_json":"2"}}\n\n'
    )
    assert events == [ToolOpened(0, "a", "f"), Delta("arguments", "1", 0), ToolOpened(1, "b", "g"), Delta("arguments", "2", 1)]


@pytest.mark.parametrize(
    ("raw", "events"),
    [
        (b'event: message_stop\ndata: {"type":"message_stop"}\n\ndata: [DONE]\n\n', [Terminated()]),
        (b"event: message_stop\ndata: {}\n\n", [Terminated()]),
        (b'data: {"type":"message_stop"}\n\n', [Terminated()]),
        (b"event: ping\n\n", []),
        (b": comment\n\n", []),
        (b"event: ping\ndata: \n\n", []),
        (
            b'event: error\ndata: {"error":{"code":500,"message":"slot gone","type":"server_error"}}\n\n',
            [Failed("server_error", "slot gone")],
        ),
        (b'event: error\ndata: {"code":400,"message":"too long"}\n\n', [Failed("400", "too long")]),
        (b"event: error\ndata: it broke\n\n", [Failed("upstream_error", "it broke")]),
        (b'event: error\ndata: "it broke"\n\n', [Failed("upstream_error", "it broke")]),
        (b'data: {"error":"it broke"}\n\n', [Failed("upstream_error", "it broke")]),
        (b'data: {"type":"error","message":"bare"}\n\n', [Failed("upstream_error", "bare")]),
        (b'data: {"error":{"message":"half \\ud83d"}}\n\n', [Failed("upstream_error", "half ?")]),
        (b'data: {"type":"content_block_delta","index":0,"delta":{"text":"half \\ud83d"}}\n\n', [Delta("text", "half \ud83d", 0)]),
        (b'data: {"type":"content_block_delta","index":0,"delta":{"text":"\xff"}}\n\n', [Delta("text", "\ufffd", 0)]),
        (b'data: {"type":"message_start","message":{"id":"\\ud83d","model":"m\\udc00"}}\n\n', [Started("?", "m?")]),
        (b'data: {"type":"message_start","message":{"id":7,"model":"m"}}\n\n', [Started(None, "m")]),
        (b'data:{"type":"message_delta","delta":{"stop_reason":"\\ude00"}}\n\n', [Finished("?", "other")]),
        (b'data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":"Hi"}}\n\n', [Delta("text", "Hi", 0)]),
        (b'data: {"type":"content_block_stop","index":"0"}\n\n', []),
        (
            b'data: {"type":"content_block_start","index":"3",'
            b'"content_block":{"type":"tool_use","id":"a","name":"f","input":{"x":"\\ud83d"}}}\n\n',
            [ToolOpened(3, "a", "f"), Delta("arguments", '{"x":"\\ud83d"}', 3)],
        ),
    ],
)
def test_odd_frames_are_understood(raw: bytes, events: list[Event]) -> None:
    """Frames without a name, without a type, with half an emoji, with errors in other shapes: what can be read is read."""
    assert read_stream(raw) == events


@pytest.mark.parametrize(
    "data", [b"5", b'"x"', b"null", b"[]", b'{"type":"content_block_delta","delta":5}', b'{"type":"message_delta","delta":[]}']
)
def test_json_of_no_known_shape_is_an_error(data: bytes) -> None:
    """It is JSON, but no frame of this dialect."""
    with pytest.raises(msgspec.ValidationError):
        StreamReader().events(Frame(data, data, ""))


@pytest.mark.parametrize("data", [b"{", b"oops", b'{"type":', b"[" * 100_000])
def test_what_is_no_json_is_an_error(data: bytes) -> None:
    """A torn frame is not taken for silence."""
    with pytest.raises(msgspec.DecodeError):
        StreamReader().events(Frame(data, data, ""))


MEMBERS = st.sampled_from(["type", "index", "delta", "content_block", "message", "usage", "error", "text", "input", "id", "input_tokens"])
WORDS = st.sampled_from(["content_block_delta", "content_block_start", "message_start", "message_delta", "error", "tool_use", ""])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(MEMBERS, inner, max_size=5),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(value=VALUES, name=WORDS)
def test_no_json_breaks_the_reader(value: Any, name: str) -> None:
    """Whatever JSON says, the reader reads it or raises what it may raise; so does the reading of documents and errors."""
    data = json.dumps(value).encode()
    for reading in (lambda: StreamReader().events(Frame(data, data, name)), lambda: document_events(data)):
        try:
            events = reading()
        except msgspec.DecodeError:
            continue
        assert all(event.text for event in events if isinstance(event, Delta))
    assert isinstance(failure(data), Failed)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=60), name=WORDS)
def test_no_bytes_break_the_reader(data: bytes, name: str) -> None:
    """Nor do bytes that are no JSON at all."""
    for reading in (lambda: StreamReader().events(Frame(data, data, name)), lambda: document_events(data)):
        try:
            reading()
        except msgspec.DecodeError:
            continue
    assert isinstance(failure(data), Failed)


DOCUMENT = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-x",
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "eA=="},
        {"type": "redacted_thinking", "data": "eA=="},
        {"type": "text", "text": "Grüße"},
        {"type": "tool_use", "id": "toolu_a", "name": "f", "input": {"x": 1.50}},
        {"type": "tool_use", "id": "toolu_b", "name": "g", "input": {}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "cache_read_input_tokens": 4, "output_tokens": 5},
}


def test_a_document_says_everything_at_once() -> None:
    """Its blocks, its reason and its counts, arguments as they were written."""
    expected = [
        Started("msg_1", "claude-x"),
        Delta("reasoning", "hm", 0),
        Delta("text", "Grüße", 2),
        ToolOpened(3, "toolu_a", "f"),
        Delta("arguments", '{"x": 1.5}', 3),
        ToolOpened(4, "toolu_b", "g"),
        Finished("tool_use", "tools"),
        Usage(input=7, output=5, cached=4),
    ]
    assert document_events(json.dumps(DOCUMENT).encode()) == expected
    odd = json.dumps({**DOCUMENT, "model": 5}).encode()
    assert document_events(odd) == [Started("msg_1", None), *expected[1:4], Delta("arguments", '{"x":1.5}', 3), *expected[5:]]


def test_other_documents() -> None:
    """A count of tokens is usage, an error is a failure, nothing is an error."""
    assert document_events(b'{"input_tokens":2095}') == [Usage(input=2095)]
    assert document_events(b'{"type":"error","error":{"type":"not_found_error","message":"gone"}}') == [Failed("not_found_error", "gone")]
    for body in (b"", b"  ", b"<html>"):
        with pytest.raises(msgspec.DecodeError):
            document_events(body)


@pytest.mark.parametrize(
    ("body", "failed"),
    [
        (b'{"type":"error","error":{"type":"rate_limit_error","message":"slow down"}}', Failed("rate_limit_error", "slow down")),
        (b'{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}', Failed("unavailable_error", "Loading model")),
        (b'{"detail":"Not Found"}', Failed("upstream_error", "Not Found")),
        (b"<h1>Bad Gateway</h1>", Failed("upstream_error", "<h1>Bad Gateway</h1>")),
        (b"", Failed("upstream_error", "")),
    ],
)
def test_error_answers_are_read(body: bytes, failed: Failed) -> None:
    """In whatever shape a server or a proxy before it puts them."""
    assert failure(body) == failed
