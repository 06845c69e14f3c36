"""What ConverseStream's events and Converse's documents say, at every cut, and how odd ones are still understood."""

import itertools
import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.call import Call
from gateway.core.events import Delta, Failed, Finished, Terminated, ToolOpened, Usage
from gateway.dialects.bedrock import BEDROCK
from gateway.wire.eventstream import encode, event, exception
from gateway.wire.framing import Frame

CALL = Call(dialect="bedrock", operation="chat", path="/model/m/converse-stream", model="m", body=b"{}", stream=True)
PADDING = "abcdefghijklmnop"
TEXT = [
    ("messageStart", {"p": PADDING, "role": "assistant"}),
    ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Grüß"}, "p": PADDING}),
    ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": ""}}),
    ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": " dich 👩‍👧"}}),
    ("contentBlockStop", {"contentBlockIndex": 0}),
    ("messageStop", {"stopReason": "end_turn"}),
    ("metadata", {"usage": {"inputTokens": 9, "outputTokens": 4, "totalTokens": 13}, "metrics": {"latencyMs": 300}}),
]
TOOLS = [
    ("messageStart", {"role": "assistant"}),
    ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "which one?"}}}),
    ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"signature": "c2ln"}}}),
    ("contentBlockStop", {"contentBlockIndex": 0}),
    ("contentBlockStart", {"contentBlockIndex": 1, "start": {"toolUse": {"toolUseId": "tooluse_1", "name": "tide"}}}),
    ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolUse": {"input": ""}}}),
    ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolUse": {"input": '{"at":'}}}),
    ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolUse": {"input": "7}"}}}),
    ("contentBlockStop", {"contentBlockIndex": 1}),
    ("contentBlockStart", {"contentBlockIndex": 2, "start": {"toolUse": {"toolUseId": "tooluse_2", "name": "moon"}}}),
    ("contentBlockStop", {"contentBlockIndex": 2}),
    ("messageStop", {"stopReason": "tool_use"}),
    (
        "metadata",
        {"usage": {"inputTokens": 3, "outputTokens": 0, "totalTokens": 18, "cacheReadInputTokens": 5, "cacheWriteInputTokens": 10}},
    ),
]
TEXT_SAYS = [Delta("text", "Grüß"), Delta("text", " dich 👩‍👧"), Finished("end_turn", "stop"), Usage(input=9, output=4), Terminated()]
TOOLS_SAY = [
    Delta("reasoning", "which one?"),
    ToolOpened(1, "tooluse_1", "tide"),
    Delta("arguments", '{"at":', 1),
    Delta("arguments", "7}", 1),
    ToolOpened(2, "tooluse_2", "moon"),
    Finished("tool_use", "tools"),
    Usage(input=18, output=0, cached=5, cache_write=10),
    Terminated(),
]


def framed(said: list[tuple[str, dict]]) -> bytes:
    return b"".join(event(name, json.dumps(payload).encode()) for name, payload in said)


def read(*chunks: bytes) -> list:
    """Everything that a stream in these reads says."""
    parser, reader = BEDROCK.framing(CALL).parser(), BEDROCK.reader(CALL)
    frames = [frame for chunk in chunks for frame in parser.feed(chunk)]
    assert b"".join(frame.raw for frame in frames) + parser.tail == b"".join(chunks)
    return [said for frame in frames for said in reader.events(frame)]


def one(name: str, payload: object) -> list:
    return read(event(name, json.dumps(payload).encode()))


@settings(max_examples=200, deadline=None)
@given(places=st.lists(st.integers(0, 10_000), max_size=10))
@pytest.mark.parametrize(("stream", "says"), [(TEXT, TEXT_SAYS), (TOOLS, TOOLS_SAY)])
def test_a_stream_says_the_same_at_any_cut(stream, says, places):
    """Text, reasoning, tools, finish and usage, however the reads fall."""
    whole = framed(stream)
    edges = [0, *sorted(place % (len(whole) + 1) for place in places), len(whole)]
    assert read(*(whole[start:end] for start, end in itertools.pairwise(edges))) == says


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("messageStart", {"role": "assistant"}),
        ("contentBlockStart", {"contentBlockIndex": 0, "start": {}}),
        ("contentBlockStart", {"contentBlockIndex": 0, "start": {"image": {"format": "png"}}}),
        ("contentBlockStop", {"contentBlockIndex": 0}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": ""}}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"citation": {"title": "t"}}}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"redactedContent": "b64="}}}),
        ("contentBlockDelta", {"contentBlockIndex": 0}),
        ("messageStop", {}),
        ("metadata", {"metrics": {"latencyMs": 1}}),
        ("metadata", {"usage": {}}),
        ("metadata", {"usage": {"inputTokens": -1, "outputTokens": 2**64}}),
        ("aNewEvent", {"anything": 1}),
        ("initial-response", {}),
    ],
)
def test_what_is_no_token_is_no_event(name, payload):
    """Roles, openings of text, signatures and events that are new to us are never tokens."""
    assert one(name, payload) == []


@pytest.mark.parametrize(
    ("reason", "meaning"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tools"),
        ("guardrail_intervened", "filtered"),
        ("content_filtered", "filtered"),
        ("malformed_tool_use", "other"),
        ("a_new_one", "other"),
    ],
)
def test_every_stop_reason_has_a_meaning(reason, meaning):
    """Bedrock's word is kept beside it."""
    assert one("messageStop", {"stopReason": reason}) == [Finished(reason, meaning)]


@pytest.mark.parametrize(
    ("usage", "said"),
    [
        ({"inputTokens": 10, "outputTokens": 5}, Usage(input=10, output=5)),
        ({"inputTokens": 0, "outputTokens": 0}, Usage(input=0, output=0)),
        ({"inputTokens": 10, "cacheReadInputTokens": 0}, Usage(input=10, cached=0)),
        ({"inputTokens": 1, "cacheReadInputTokens": 2, "cacheWriteInputTokens": 4}, Usage(input=7, cached=2, cache_write=4)),
        ({"cacheReadInputTokens": 2}, Usage(cached=2)),
        ({"inputTokens": "many", "outputTokens": 5.0}, Usage(output=5)),
        ({"inputTokens": 2**63 - 1, "cacheReadInputTokens": 1}, Usage(cached=1)),
    ],
)
def test_usage_is_inclusive_of_the_cache(usage, said):
    """Bedrock counts what the cache gave and took apart from the input; what is not said stays unsaid."""
    assert one("metadata", {"usage": usage}) == [said]


def test_metadata_ends_the_stream_only_after_the_message_has_stopped():
    """A server that says it earlier is not cut short."""
    late = [("metadata", {"usage": {"inputTokens": 1}}), ("messageStop", {"stopReason": "end_turn"})]
    assert read(framed(late)) == [Usage(input=1), Finished("end_turn", "stop")]


@pytest.mark.parametrize(
    ("message", "failed"),
    [
        (exception("throttlingException", b'{"message":"Too many tokens"}'), Failed("throttlingException", "Too many tokens")),
        (
            exception("modelStreamErrorException", b'{"originalStatusCode":500,"originalMessage":"cuda"}'),
            Failed("modelStreamErrorException", "cuda"),
        ),
        (exception("internalServerException", b"<html>"), Failed("internalServerException", "<html>")),
        (exception("validationException", b'{"Message":"' + b"x" * 5000 + b'"}'), Failed("validationException", "x" * 1000)),
        (exception("", b"[]"), Failed("upstream_error", "")),
        (
            encode({":message-type": "error", ":error-code": "InternalError", ":error-message": "it broke"}, b""),
            Failed("InternalError", "it broke"),
        ),
    ],
)
def test_an_error_in_the_stream_is_told(message, failed):
    """Exceptions of the model's own, and errors of the framing."""
    assert read(framed(TEXT[:2]) + message) == [Delta("text", "Grüß"), failed]


@pytest.mark.parametrize(
    ("name", "payload", "events"),
    [
        ("contentBlockDelta", {"contentBlockIndex": "0", "delta": {"text": "hi"}}, [Delta("text", "hi")]),
        ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolUse": {"input": {"a": 1}}}}, [Delta("arguments", '{"a":1}', 1)]),
        ("contentBlockStart", {"contentBlockIndex": 2, "start": {"toolUse": {"toolUseId": 7, "name": "f"}}}, [ToolOpened(2, None, "f")]),
        (
            "contentBlockDelta",
            {"contentBlockIndex": 0, "delta": {"text": 7, "reasoningContent": {"text": "hm"}}},
            [Delta("reasoning", "hm")],
        ),
        ("messageStop", {"stopReason": "x" * 100}, [Finished("x" * 64, "other")]),
        ("messageStop", {"stopReason": ["end_turn"]}, []),
        ("contentBlockDelta", {"contentBlockIndex": -(2**63), "delta": {"toolUse": {"input": "{}"}}}, [Delta("arguments", "{}", 0)]),
        ("contentBlockDelta", {"contentBlockIndex": 10**19, "delta": {"toolUse": {"input": "{}"}}}, [Delta("arguments", "{}", 0)]),
    ],
)
def test_odd_shapes_are_still_understood(name, payload, events):
    """A wrong type in one place hides nothing in another."""
    assert one(name, payload) == events


def test_half_a_character_is_still_a_token():
    """JavaScript writes one for a string cut in two: it stays what it was; where telemetry would have to say it, it is a question mark."""
    assert read(event("contentBlockDelta", b'{"contentBlockIndex":0,"delta":{"text":"a\\ud83d"}}')) == [Delta("text", "a\ud83d")]
    assert read(event("messageStop", b'{"stopReason":"a\\ud83d"}'))[0] == Finished("a?", "other")


@pytest.mark.parametrize(("payload", "error"), [(b"", msgspec.DecodeError), (b"{", msgspec.DecodeError), (b"[1]", msgspec.ValidationError)])
def test_what_cannot_be_read_raises(payload, error):
    """No JSON, or JSON of no known shape."""
    with pytest.raises(error):
        read(event("contentBlockDelta", payload))


MEMBERS = st.sampled_from(["delta", "text", "toolUse", "input", "usage", "start", "reasoningContent", "stopReason", "inputTokens",
    "contentBlockIndex", "output", "message", "content", "citationsContent"])  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(MEMBERS, inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(["contentBlockDelta", "contentBlockStart", "messageStop", "metadata", "messageStart", "exception:x", "error:", ""])


@settings(max_examples=500, deadline=None)
@given(name=NAMES, data=st.one_of(st.binary(max_size=40), JSON.map(lambda found: json.dumps(found).encode())))
def test_nothing_but_decode_errors_is_ever_raised(name, data):
    """Whatever an upstream says, the observer goes on; what is understood can be written down."""
    for reads in (lambda: BEDROCK.reader(CALL).events(Frame(data, data, name)), lambda: BEDROCK.read_document(CALL, data)):
        try:
            events = reads()
        except msgspec.DecodeError:
            continue
        assert all(said.text for said in events if isinstance(said, Delta))
        msgspec.json.encode(list(events))


def test_a_document_says_everything():
    """Reasoning, text, cited text, tools, finish and usage of an answer in one piece."""
    content = [
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}},
        {"text": "hi"},
        {"citationsContent": {"content": [{"text": " there"}], "citations": []}},
        {"toolUse": {"toolUseId": "t", "name": "f", "input": {"a": "ü"}}},
        {"toolUse": {"toolUseId": "u", "name": "g", "input": {}}},
    ]
    usage = {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}
    said = {"output": {"message": {"role": "assistant", "content": content}}, "stopReason": "tool_use", "usage": usage, "metrics": {}}
    assert BEDROCK.read_document(CALL, json.dumps(said).encode()) == (
        Delta("reasoning", "hm"),
        Delta("text", "hi"),
        Delta("text", " there"),
        ToolOpened(3, "t", "f"),
        Delta("arguments", '{"a":"ü"}', 3),
        ToolOpened(4, "u", "g"),
        Delta("arguments", "{}", 4),
        Finished("tool_use", "tools"),
        Usage(input=1, output=2),
    )


@pytest.mark.parametrize("body", [b"", b" ", b"{}", b"null", b"<html>"])
def test_a_document_that_says_nothing_is_no_answer(body):
    """An empty answer is not a complete one."""
    with pytest.raises(msgspec.DecodeError):
        BEDROCK.read_document(CALL, body)
