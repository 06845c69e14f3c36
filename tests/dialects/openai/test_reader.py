"""What OpenAI-shaped chunks say: which are tokens, which are not, and how odd ones are still understood."""

import json
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.events import Delta, Failed, Finished, Started, Terminated, ToolOpened, Usage
from gateway.dialects.openai.reader import ChunkReader, read_error
from gateway.wire.framing import Frame
from gateway.wire.sse import Parser


def named() -> ChunkReader:
    """A reader of a stream that has named itself."""
    reader = ChunkReader()
    assert read(reader, {"id": "c-1", "model": "m"}) == [Started("c-1", "m")]
    return reader


def read(reader: ChunkReader, document: object) -> list:
    return list(reader.events(framed(json.dumps(document).encode())))


def framed(data: bytes) -> Frame:
    (frame,) = Parser().feed(b"data: " + data + b"\n\n")
    return frame


def chunk(delta: object, **choice: object) -> dict:
    return {"id": "c-1", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": None, **choice}]}


@pytest.mark.parametrize(
    "document",
    [
        chunk({"role": "assistant", "content": ""}),
        chunk({"role": "assistant"}),
        chunk({"role": "assistant", "content": None}),
        chunk({"content": "", "reasoning_content": "", "refusal": None, "tool_calls": []}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": ""}}]}),
        chunk({"function_call": {"arguments": ""}}),
        chunk({"audio": {"id": "a", "expires_at": 1}}),
        chunk({}),
        chunk(None),
        {"choices": [{"index": 0, "text": ""}]},
        {"id": "", "model": "", "created": 0, "choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
        {"choices": [{"index": 0, "content_filter_offsets": {"check_offset": 44}, "content_filter_results": {}, "finish_reason": None}]},
        {"choices": [], "prompt_progress": {"total": 100, "cache": 0, "processed": 32, "time_ms": 5}},
        {"x_groq": {"id": "req_1"}},
        {"choices": [], "usage": None},
        {"choices": None},
        {"error": None, "choices": []},
        {"error": {}, "choices": []},
        {"unknown": [1, {"deep": None}]},
        {},
    ],
)
def test_what_is_no_token_is_no_event(document):
    """Roles, empty text, filters and progress are the preamble of a stream, not its first token."""
    assert read(named(), document) == []


@pytest.mark.parametrize(
    ("delta", "events"),
    [
        ({"content": "hi"}, [Delta("text", "hi")]),
        ({"content": " "}, [Delta("text", " ")]),
        ({"content": "👩‍👩‍👧"}, [Delta("text", "👩‍👩‍👧")]),
        ({"reasoning_content": "hm"}, [Delta("reasoning", "hm")]),
        ({"reasoning": "hm", "content": ""}, [Delta("reasoning", "hm")]),
        ({"reasoning": "hm", "reasoning_content": "hm"}, [Delta("reasoning", "hm")]),
        ({"refusal": "no"}, [Delta("refusal", "no")]),
        ({"audio": {"id": "a", "data": "UklG"}}, [Delta("audio", "UklG")]),
        ({"audio": {"transcript": "said"}}, [Delta("audio", "said")]),
        ({"function_call": {"name": "f", "arguments": ""}}, [ToolOpened(0, None, "f")]),
        ({"function_call": {"arguments": "{"}}, [Delta("arguments", "{")]),
        ({"tool_calls": [{"index": 1, "id": "t", "function": {"name": "f", "arguments": ""}}]}, [ToolOpened(1, "t", "f")]),
        ({"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]}, [Delta("arguments", "{}", 1)]),
        (
            {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}, {"index": 1, "id": "b"}]},
            [ToolOpened(0, "a", "f"), Delta("arguments", "{}", 0), ToolOpened(1, "b", None)],
        ),
    ],
)
def test_every_kind_of_output_is_a_token(delta, events):
    """Text, reasoning, refusal, audio and tool calls are generated output, each of its own kind."""
    assert read(named(), chunk(delta)) == events


def test_completions_speak_in_text():
    """The completions endpoint has no delta: its choices carry the text."""
    assert read(named(), {"choices": [{"text": "a", "index": 2, "finish_reason": "stop"}]}) == [
        Delta("text", "a", 2),
        Finished("stop", "stop"),
    ]


def test_a_finish_and_a_token_can_share_a_frame():
    """vLLM's last chunk may bring text and the reason to stop at once: both are told, the token first."""
    assert read(named(), chunk({"content": "."}, finish_reason="stop")) == [Delta("text", "."), Finished("stop")]


def test_every_choice_is_read():
    """With n > 1 a chunk may speak for several choices."""
    two = {"choices": [{"index": 0, "delta": {"content": "a"}}, {"index": 1, "delta": {}, "finish_reason": "length"}]}
    assert read(named(), two) == [Delta("text", "a", 0), Finished("length", "length")]


def test_a_stream_names_itself_once():
    """The first chunk that has an id and a model says Started; Azure's empty ones do not, and later ones do not again."""
    reader = ChunkReader()
    assert read(reader, {"id": "", "model": "", "choices": [], "prompt_filter_results": []}) == []
    assert read(reader, chunk({"role": "assistant", "content": ""})) == [Started("c-1", "m")]
    assert read(reader, chunk({"content": "x"})) == [Delta("text", "x")]
    late = ChunkReader()
    assert read(late, {"id": "i"}) == [Started("i", None)]
    assert read(late, {"id": "j", "model": "m"}) == [Started("i", "m")]


def test_a_repeated_tool_id_opens_no_second_tool():
    """Some servers repeat id and name with every piece of the arguments."""
    reader = named()
    piece = {"tool_calls": [{"index": 0, "id": "t", "function": {"name": "f", "arguments": "a"}}]}
    assert read(reader, chunk(piece)) == [ToolOpened(0, "t", "f"), Delta("arguments", "a")]
    assert read(reader, chunk(piece)) == [Delta("arguments", "a")]


def piece(index: int, named: str | None, name: str | None, arguments: str = "", choice: int = 0) -> dict:
    tool = {"index": index, "id": named, "type": "function", "function": {"name": name, "arguments": arguments}}
    return {"choices": [{"index": choice, "delta": {"tool_calls": [tool]}}]}


def test_tools_of_one_index_are_told_apart():
    """Ollama gives every call the index 0, and with n > 1 choices share theirs: no two tools have the same index here."""
    reader = named()
    said = [read(reader, piece(0, "a", "f", "{}")), read(reader, piece(0, "b", "f", "[")), read(reader, piece(0, None, None, "]"))]
    assert said[0] == [ToolOpened(0, "a", "f"), Delta("arguments", "{}", 0)]
    (opened, one), (other,) = said[1:]
    assert (opened.id, opened.name) == ("b", "f")
    assert one.index == other.index == opened.index != 0
    assert read(reader, piece(0, "c", "g", choice=1))[0].index not in {0, opened.index}


def test_interleaved_tools_are_opened_once_each():
    """Servers that repeat id and name with every piece may speak of several calls in turn; old vLLM makes up an id for each piece."""
    reader = named()
    for index in (0, 1):
        assert read(reader, piece(index, f"t{index}", "f")) == [ToolOpened(index, f"t{index}", "f")]
    for index in (0, 1, 0, 1):
        assert read(reader, piece(index, f"t{index}", "f", "x")) == [Delta("arguments", "x", index)]
    assert read(reader, piece(1, "made-up", None, "x")) == [Delta("arguments", "x", 1)]


def test_a_tool_may_tell_its_name_late():
    """An id alone opens a call; the name that follows is told for the same call."""
    reader = named()
    assert read(reader, piece(3, "t", None)) == [ToolOpened(3, "t", None)]
    assert read(reader, piece(3, None, "f", "x")) == [ToolOpened(3, "t", "f"), Delta("arguments", "x", 3)]


def test_tools_without_end_are_not_remembered_without_end():
    """What a hostile stream opens is told, but no more than 128 calls are kept in mind."""
    reader = named()
    for number in range(1000):
        assert read(reader, piece(number, f"t{number}", "f"))[0].id == f"t{number}"
    assert len(reader._tools) == 128


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        *(("stop", "stop"), ("eos", "stop"), ("length", "length"), ("model_length", "length"), ("tool_calls", "tools")),
        *(("function_call", "tools"), ("content_filter", "filtered"), ("abort", "other"), ("insufficient_system_resource", "other")),
    ],
)
def test_why_an_answer_ended_has_a_meaning(word, meaning):
    """The server's own word is kept, and said in everybody's."""
    assert read(named(), chunk({}, finish_reason=word)) == [Finished(word, meaning)]


@pytest.mark.parametrize(
    ("body", "failed"),
    [
        (b'{"error":{"message":"no","type":"t","code":"c"}}', Failed("c", "no")),
        (b'{"error":{"message":"no","code":"429"}}', Failed("429", "no")),
        (b'{"error":{"message":"no","code":null,"type":""}}', Failed("400", "no")),
        (b'{"error":"no such model"}', Failed("400", "no such model")),
        (b'[{"error":{"message":"no","code":404}}]', Failed("404", "no")),
        (b'{"object":"error","message":"no","type":"BadRequestError","code":400}', Failed("400", "no")),
        (b'{"statusCode":401,"message":"no key"}', Failed("400", "no key")),
        (b'{"detail":"Not Found"}', Failed("400", "Not Found")),
        (b'{"detail":[{"loc":["body"],"msg":"field required"}]}', Failed("400", "field required")),
        (b'{"error":{"detail":7}}', Failed("400", "")),
        (b"slow down", Failed("400", "slow down")),
        (b"<html>Bad Gateway</html>", Failed("400", "")),
        (b"", Failed("400", "")),
        (b"[]", Failed("400", "")),
        (b"null", Failed("400", "")),
        (b"[" * 100_000, Failed("400", "[" * 1000)),
        (b"\xff\xfe", Failed("400", "\ufffd\ufffd")),
    ],
)
def test_every_error_answer_says_something(body, failed):
    """OpenAI's shape, a framework's, a proxy's page or nothing: a code and what can be shown of a message."""
    assert read_error(400, body) == failed


ERRORS = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "message", "detail", "msg", "code", "type"]), inner, max_size=4)
    ),
)


@settings(max_examples=300, deadline=None)
@given(body=st.one_of(st.binary(max_size=60), ERRORS.map(lambda found: json.dumps(found).encode())))
def test_no_error_answer_whatever_raises(body):
    """Any bytes are a failure, bounded."""
    failed = read_error(500, body)
    assert len(failed.code) <= 64
    assert len(failed.message) <= 1000


FULL = {
    "prompt_tokens": 10,
    "completion_tokens": 20,
    "total_tokens": 30,
    "cost": 0.01,
    "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 5},
}


@pytest.mark.parametrize(
    ("document", "usage"),
    [
        ({"choices": [], "usage": FULL}, Usage(input=10, output=20, cached=4, reasoning=5)),
        (
            {"choices": [], "usage": {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 7}}},
            Usage(9, cached=0, cache_write=7),
        ),
        ({"choices": [], "usage": {"prompt_tokens": 9.0, "prompt_tokens_details": {"cache_write_tokens": "7"}}}, Usage(9, cache_write=7)),
        ({"choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": 0}}, Usage(input=0, output=0)),
        ({"choices": [], "usage": {"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": None}}}, Usage(input=3)),
        ({"choices": [], "usage": {"prompt_tokens": 3, "prompt_tokens_details": None}}, Usage(input=3)),
        ({"choices": [{"index": 0, "delta": {}}], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}, Usage(3, 1)),
        ({"x_groq": {"id": "r", "usage": {"prompt_tokens": 3, "completion_tokens": 1}}}, Usage(3, 1)),
        ({"choices": [], "usage": {"prompt_tokens": 3.0, "completion_tokens": "7"}}, Usage(3, 7)),
        ({"choices": [], "usage": {"prompt_tokens": -3, "completion_tokens": 2**70}}, None),
        ({"choices": [], "usage": {}}, None),
        ({"choices": [], "usage": None}, None),
    ],
)
def test_usage_is_what_the_provider_said(document, usage):
    """Counts are taken as given, zero is zero, and what was not said stays unknown."""
    assert read(named(), document) == ([] if usage is None else [usage])


@pytest.mark.parametrize(
    ("error", "failed"),
    [
        ({"message": "m", "type": "t", "code": "c"}, Failed("c", "m")),
        ({"message": "m", "type": "BadRequestError", "param": None, "code": 400}, Failed("400", "m")),
        ({"message": "m", "type": "server_error", "code": None}, Failed("server_error", "m")),
        ({"message": "m"}, Failed("upstream_error", "m")),
        ({"code": {"odd": 1}}, Failed("upstream_error", "")),
        ("it broke", Failed("upstream_error", "it broke")),
        (True, Failed("upstream_error", "True")),
    ],
)
def test_an_error_inside_a_stream_is_a_failure(error, failed):
    """Whatever shape an upstream gives its error, it is recognised by a truthy `error`, wherever it stands in the stream."""
    assert read(named(), {"error": error}) == [failed]
    assert read(ChunkReader(), {"error": error, "choices": 5}) == [failed]


def test_groqs_own_error_is_a_failure():
    """Groq says why a stream was stopped early in a field of its own."""
    assert read(named(), {"x_groq": {"id": "r", "error": "over capacity"}}) == [Failed("upstream_error", "over capacity")]


@pytest.mark.parametrize(
    ("block", "events"),
    [
        (b'error: {"code":500,"message":"slot gone","type":"server_error"}\n\n', [Failed("500", "slot gone")]),
        (b'error:{"message":"m"}\r\n\r\n', [Failed("upstream_error", "m")]),
        (b"error: it broke\n\n", [Failed("upstream_error", "it broke")]),
        (b": ping\n\n", []),
        (b"data:\n\n", []),
        (b"\n", []),
        (b"errors: x\n\n", []),
    ],
)
def test_llama_cpps_old_error_field_is_a_failure(block, events):
    """Its error came as an SSE field named error, which the event stream rules ignore and we do not; comments stay silent."""
    (frame,) = Parser().feed(block)
    assert list(named().events(frame)) == events


@pytest.mark.parametrize("data", [b"[DONE]", b" [DONE] ", b"[DONE]\n"])
def test_the_end_marker_terminates(data):
    """[DONE] is the end, also with spaces around it."""
    assert list(named().events(Frame(b"", data, ""))) == [Terminated()]


@pytest.mark.parametrize("data", [b"{bad json", b"<html>", b'{"choices":[', b"[" * 100_000, b"nul", b"[DONT]"])
def test_garbage_is_a_decode_error(data):
    """What is not JSON raises, and is not mistaken for a wrong shape."""
    with pytest.raises(msgspec.DecodeError) as caught:
        named().events(Frame(b"", data, ""))
    assert not isinstance(caught.value, msgspec.ValidationError)


@pytest.mark.parametrize("data", [b"5", b'"text"', b"[]", b"null", b'[[{"error":1}]]', b'{"choices":"x"}', b'{"choices":[5]}'])
def test_json_of_no_known_shape_is_a_validation_error(data):
    """JSON of which nothing can be understood raises as such."""
    with pytest.raises(msgspec.ValidationError):
        named().events(Frame(b"", data, ""))


@pytest.mark.parametrize(
    ("data", "events"),
    [
        (
            b'{"choices":[{"index":"0","delta":{"tool_calls":[{"index":"1","id":"t","function":{"name":"f","arguments":"{"}}]}}]}',
            [ToolOpened(1, "t", "f"), Delta("arguments", "{", 1)],
        ),
        (
            b'{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"x"}},{"function":{"arguments":"y"}}]}}]}',
            [Delta("arguments", "x", 0), Delta("arguments", "y", 1)],
        ),
        (b'{"choices":[{"index":null,"delta":{"content":"a"}}]}', [Delta("text", "a")]),
        (b'{"choices":[{"index":10000000000000000000,"delta":{"content":"x"}}]}', [Delta("text", "x")]),
        (
            b'{"choices":[{"delta":{"tool_calls":[{"index":-9223372036854775808,"function":{"arguments":"x"}}]}}]}',
            [Delta("arguments", "x", 0)],
        ),
        (b'{"choices":[{"delta":{"content":"a","tool_calls":{}}},7]}', [Delta("text", "a")]),
        (
            b'{"choices":[{"delta":{"tool_calls":[{"function":{"name":"f","arguments":{"a":1}}}]}}]}',
            [ToolOpened(0, None, "f"), Delta("arguments", '{"a":1}')],
        ),
        (
            b'{"choices":[{"delta":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"h"}]},{"type":"text","text":"a"}]}}]}',
            [Delta("reasoning", "h"), Delta("text", "a")],
        ),
        (b'{"choices":[{"delta":{"content":"\\ud83d"}}]}', [Delta("text", "\ud83d")]),
        (b'{"choices":[{"delta":{"content":"a"},"logprobs":{"x":-Infinity}}]}', [Delta("text", "a")]),
        (b'{"choices":[{"delta":{"content":"\xff"}}]}', [Delta("text", "\ufffd")]),
        (b'{"choices":[{"delta":{"content":"a"},"finish_reason":{"type":"stop"}}]}', [Delta("text", "a")]),
        (b'[{"error":{"message":"m","code":429}}]', [Failed("429", "m")]),
    ],
)  # fmt: skip
def test_odd_chunks_are_still_understood(data, events):
    """String indices, missing indices, parts instead of text, half an emoji: real servers send them, and tokens are tokens."""
    assert list(named().events(Frame(b"", data, ""))) == events


@pytest.mark.parametrize(
    ("data", "events"),
    [
        (b'{"id":"\\ud83d","choices":[]}', [Started("?")]),
        (b'{"model":"m\\udc00"}', [Started(None, "m?")]),
        (b'{"choices":[{"finish_reason":"\\ud83d"}]}', [Finished("?", "other")]),
        (b'{"error":{"code":"c\\ud83d","message":"m\\ud83d"}}', [Failed("c?", "m?")]),
        (b'{"error":"\\ud83d"}', [Failed("upstream_error", "?")]),
    ],
)
def test_names_can_be_recorded(data, events):
    """Half an emoji fits no record: in ids, models, reasons and errors it is a question mark."""
    assert list(ChunkReader().events(Frame(b"", data, ""))) == events
    assert list(ChunkReader().document(data)) == events


def test_an_error_answer_can_be_recorded():
    """The same holds for an answer that is nothing but an error."""
    assert read_error(500, b'{"message":"\\ud83d"}') == Failed("500", "?")
    assert read_error(500, b'"\\ud83d"') == Failed("500", "?")
    assert read_error(500, b'{"detail":"\\ud83d"}') == Failed("500", "?")


def test_what_a_hostile_upstream_says_is_clipped():
    """Names, reasons and messages that end in a record are bounded, whatever the stream says."""
    long = "x" * 10_000
    reader = ChunkReader()
    started, finished, failed = read(
        reader, {"id": long, "model": long, "choices": [{"finish_reason": long}], "error": {"code": long, "message": long}}
    )
    assert (len(started.id), len(started.model), len(finished.reason), len(failed.code), len(failed.message)) == (256, 256, 64, 64, 1000)


WORDS = (
    *("choices", "delta", "content", "tool_calls", "function", "index", "usage", "error", "x_groq", "id", "model", "text", "data"),
    *("prompt_tokens", "prompt_tokens_details", "cached_tokens", "finish_reason", "arguments", "name", "audio", "thinking"),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(WORDS),
            inner,
            max_size=5,
        ),
    ),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(
    document=st.one_of(
        JSON, JSON.map(lambda inner: {"choices": [{"delta": inner}]}), JSON.map(lambda inner: {"choices": [inner], "usage": inner})
    )
)
def test_no_json_whatever_makes_the_reader_raise_anything_else(document):
    """Any JSON is events or a decode error; no event has empty text."""
    try:
        events = ChunkReader().events(framed(json.dumps(document).encode()))
    except msgspec.DecodeError:
        return
    assert all(event.text for event in events if isinstance(event, Delta))


@settings(max_examples=300, deadline=None)
@given(document=st.one_of(JSON, JSON.map(lambda inner: {"choices": [{"message": inner, "finish_reason": "stop"}], "usage": inner})))
def test_no_document_whatever_makes_the_reader_raise_anything_else(document):
    """The same holds for answers in one piece."""
    try:
        events = ChunkReader().document(json.dumps(document).encode())
    except msgspec.DecodeError:
        return
    assert all(event.text for event in events if isinstance(event, Delta))


STREAM = b"".join(
    b"data: " + (said if isinstance(said, bytes) else json.dumps(said, ensure_ascii=False).encode()) + end
    for said, end in [
        ({"id": "", "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}, b"\n\n"),
        (chunk({"role": "assistant", "content": ""}), b"\r\n\r\n"),
        (chunk({"reasoning": "grüß"}), b"\n\n"),
        (chunk({"content": "漢字 👩‍👩‍👧‍👦 \u2028"}), b"\r\r"),
        (piece(0, "t", "f", '{"a":'), b"\n\n"),
        (piece(0, None, None, "1}"), b"\n\n"),
        (chunk({}, finish_reason="tool_calls"), b"\n\n"),
        ({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 0}}, b"\n\n"),
        (b"[DONE]", b"\n\n"),
    ]
)
SAID = [
    *(Started("c-1", "m"), Delta("reasoning", "grüß"), Delta("text", "漢字 👩‍👩‍👧‍👦 \u2028")),
    *(ToolOpened(0, "t", "f"), Delta("arguments", '{"a":', 0), Delta("arguments", "1}", 0)),
    *(Finished("tool_calls", "tools"), Usage(3, 0), Terminated()),
]


@settings(max_examples=200, deadline=None)
@given(places=st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_any_cuts_say_the_same(places):
    """What a stream says does not depend on how it was cut, and no byte of it is lost."""
    parser, reader, frames = Parser(), ChunkReader(), []
    edges = [0, *sorted(places), len(STREAM)]
    for start, end in pairwise(edges):
        frames += parser.feed(STREAM[start:end])
    assert b"".join(frame.raw for frame in frames) + parser.tail == STREAM
    assert [event for frame in frames for event in reader.events(frame)] == SAID
