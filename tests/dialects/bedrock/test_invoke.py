"""What the chunks of an invoked model say, family by family."""

import base64
import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.call import Call
from gateway.core.events import Delta, Failed, Finished, Started, Terminated, ToolOpened, Usage
from gateway.dialects.bedrock import BEDROCK
from gateway.wire.eventstream import event, exception
from gateway.wire.framing import Frame

CALL = Call(dialect="bedrock", operation="text_completion", path="/model/m/invoke", model="m", body=b"{}", stream=True)
METRICS = {"inputTokenCount": 12, "outputTokenCount": 7, "invocationLatency": 900, "firstByteLatency": 80}
LAST = {"amazon-bedrock-invocationMetrics": METRICS}


def chunk(said: object) -> bytes:
    inner = said if isinstance(said, bytes) else json.dumps(said).encode()
    return event("chunk", json.dumps({"bytes": base64.b64encode(inner).decode(), "p": "abc"}).encode())


def read(*stream: object) -> list:
    parser, reader = BEDROCK.framing(CALL).parser(), BEDROCK.reader(CALL)
    frames = [frame for said in stream for frame in parser.feed(chunk(said))]
    return [said for frame in frames for said in reader.events(frame)]


ANTHROPIC = [
    {
        "type": "message_start",
        "message": {"id": "msg_1", "model": "claude", "usage": {"input_tokens": 10, "cache_read_input_tokens": 5, "output_tokens": 1}},
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "s"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "ping"},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "hi"}},
    {"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 12, "input_tokens": 10}},
    {"type": "message_stop", "amazon-bedrock-invocationMetrics": {**METRICS, "inputTokenCount": 10, "outputTokenCount": 12}},
]
LLAMA = [
    {"generation": "hi", "prompt_token_count": 4, "generation_token_count": 1, "stop_reason": None},
    {"generation": "", "prompt_token_count": None, "generation_token_count": 2, "stop_reason": "length", **LAST},
]


def test_a_stream_of_anthropics_events():
    """Usage comes in three places and is one: counts that a place does not say are not forgotten."""
    assert read(*ANTHROPIC) == [
        Started("msg_1", "claude"),
        Usage(input=15, output=1, cached=5),
        Delta("reasoning", "hm"),
        Delta("text", "hi"),
        ToolOpened(2, "t", "f"),
        Delta("arguments", "{}", 2),
        Finished("tool_use", "tools"),
        Usage(input=15, output=12, cached=5),
        Terminated(),
    ]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (
            [
                {"outputText": "hi", "index": 0, "totalOutputTextTokenCount": None, "completionReason": None, "inputTextTokenCount": 12},
                {"outputText": "", "index": 0, "totalOutputTextTokenCount": 7, "completionReason": "FINISH", **LAST},
            ],
            [Delta("text", "hi"), Usage(input=12), Finished("FINISH", "stop"), Usage(input=12, output=7), Terminated()],
        ),
        (
            LLAMA,
            [
                Delta("text", "hi"),
                Usage(input=4, output=1),
                Finished("length", "length"),
                Usage(input=4, output=2),
                Usage(input=12, output=7),
                Terminated(),
            ],
        ),
        (
            [{"outputs": [{"text": "hi", "stop_reason": None}]}, {"outputs": [{"text": "", "stop_reason": "stop"}], **LAST}],
            [Delta("text", "hi"), Finished("stop", "stop"), Usage(input=12, output=7), Terminated()],
        ),
        (
            [
                {"is_finished": False, "event_type": "text-generation", "text": "hi"},
                {"is_finished": True, "event_type": "stream-end", "finish_reason": "COMPLETE", "response": {"text": "hi"}, **LAST},
            ],
            [Delta("text", "hi"), Finished("COMPLETE", "stop"), Usage(input=12, output=7), Terminated()],
        ),
        (
            [{"type": "completion", "completion": " hi", "stop_reason": None}, {"completion": "", "stop_reason": "max_tokens", **LAST}],
            [Delta("text", " hi"), Finished("max_tokens", "length"), Usage(input=12, output=7), Terminated()],
        ),
        (
            [
                {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]},
                {"choices": [{"index": 0, "delta": {"reasoning": "hm"}}]},
                {"choices": [{"index": 0, "delta": {"content": "hi"}}]},
                {
                    "choices": [
                        {"index": 0, "delta": {"tool_calls": [{"index": 1, "id": "t", "function": {"name": "f", "arguments": "{}"}}]}}
                    ]
                },
                {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
                {"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 7}, **LAST},
            ],
            [
                Delta("reasoning", "hm"),
                Delta("text", "hi"),
                ToolOpened(1, "t", "f"),
                Delta("arguments", "{}", 1),
                Finished("tool_calls", "tools"),
                Usage(input=12, output=7),
                Terminated(),
            ],
        ),
        (
            [
                {"messageStart": {"role": "assistant"}},
                {"contentBlockDelta": {"delta": {"text": "hi"}, "contentBlockIndex": 0}},
                {"contentBlockStop": {"contentBlockIndex": 0}},
                {"messageStop": {"stopReason": "end_turn"}},
                {"metadata": {"usage": {"inputTokens": 12, "outputTokens": 7}, "metrics": {}}, **LAST},
            ],
            [Delta("text", "hi"), Finished("end_turn", "stop"), Usage(input=12, output=7), Usage(input=12, output=7), Terminated()],
        ),
        ([{"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}], [Failed("overloaded_error", "busy")]),
        ([{"something": "of an imported model"}, LAST], [Usage(input=12, output=7), Terminated()]),
        (
            [{"amazon-bedrock-invocationMetrics": {"inputTokenCount": 1, "cacheReadInputTokenCount": 2, "cacheWriteInputTokenCount": 4}}],
            [Usage(input=7, cached=2, cache_write=4), Terminated()],
        ),
    ],
    ids=["titan", "llama", "mistral", "cohere", "claude-2", "openai", "nova", "error", "unknown", "cache"],
)
def test_every_family_is_known_by_its_members(stream, events):
    """Text, finish and usage, and the metrics that Bedrock adds to the last chunk of every family."""
    assert read(*stream) == events


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (
            {
                "type": "message",
                "id": "msg_1",
                "model": "claude",
                "content": [{"type": "text", "text": "hi"}, {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}],
                "stop_reason": "end_turn",
                "usage": {"input_tokens": 3, "output_tokens": 4},
            },
            [
                Started("msg_1", "claude"),
                Delta("text", "hi"),
                ToolOpened(1, "t", "f"),
                Delta("arguments", '{"a":1}', 1),
                Finished("end_turn", "stop"),
                Usage(input=3, output=4),
            ],
        ),
        (
            {"inputTextTokenCount": 3, "results": [{"tokenCount": 4, "outputText": "hi", "completionReason": "LENGTH"}]},
            [Delta("text", "hi"), Finished("LENGTH", "length"), Usage(input=3, output=4)],
        ),
        (
            {"generation": "hi", "prompt_token_count": 3, "generation_token_count": 4, "stop_reason": "stop"},
            [Delta("text", "hi"), Finished("stop", "stop"), Usage(input=3, output=4)],
        ),
        ({"generations": [{"text": "hi", "finish_reason": "MAX_TOKENS"}]}, [Delta("text", "hi"), Finished("MAX_TOKENS", "length")]),
        (
            {
                "output": {"message": {"content": [{"text": "hi"}]}},
                "stopReason": "end_turn",
                "usage": {"inputTokens": 3, "outputTokens": 4},
            },
            [Delta("text", "hi"), Finished("end_turn", "stop"), Usage(input=3, output=4)],
        ),
        ({"embedding": [0.1, 0.2], "inputTextTokenCount": 3}, [Usage(input=3)]),
    ],
    ids=["claude", "titan", "llama", "cohere", "nova", "embedding"],
)
def test_a_document_of_every_family(body, events):
    """What invoke answers in one piece."""
    assert list(BEDROCK.read_document(CALL, json.dumps(body).encode())) == events


@pytest.mark.parametrize("place", range(0, len(chunk(LLAMA[0]) + chunk(LLAMA[1])) + 1, 7))
def test_a_stream_says_the_same_at_any_cut(place):
    """The framing is that of Converse."""
    whole = chunk(LLAMA[0]) + chunk(LLAMA[1])
    parser, reader = BEDROCK.framing(CALL).parser(), BEDROCK.reader(CALL)
    frames = parser.feed(whole[:place]) + parser.feed(whole[place:])
    assert b"".join(frame.raw for frame in frames) == whole
    assert [said for frame in frames for said in reader.events(frame)] == read(*LLAMA)


def test_tokens_thought_are_counted_where_they_are_said():
    """As OpenAI's models say them, beside the counts that Bedrock adds."""
    counts = {"prompt_tokens": 11, "completion_tokens": 7, "completion_tokens_details": {"reasoning_tokens": 2}}
    events = read({"choices": [{"index": 0, "delta": {"reasoning": "hm"}}]}, {"choices": [], "usage": counts, **LAST})
    assert events[0] == Delta("reasoning", "hm")
    assert [event.reasoning for event in events if isinstance(event, Usage)][-1] == 2


def test_an_invoked_nova_counts_its_cache_by_other_names():
    """Input is inclusive of it all the same."""
    usage = {"inputTokens": 2, "outputTokens": 7, "cacheReadInputTokenCount": 9, "cacheWriteInputTokenCount": 1}
    body = {"output": {"message": {"content": [{"text": "hi"}]}}, "stopReason": "end_turn", "usage": usage}
    said = Usage(input=12, output=7, cached=9, cache_write=1)
    assert said in BEDROCK.read_document(CALL, json.dumps(body).encode())
    assert said in read({"metadata": {"usage": usage}})


def test_an_exception_in_the_stream_is_told():
    """As Converse tells it."""
    (frame,) = BEDROCK.framing(CALL).parser().feed(exception("modelTimeoutException", b'{"message":"too long"}'))
    assert BEDROCK.reader(CALL).events(frame) == [Failed("modelTimeoutException", "too long")]


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b'{"bytes":"%%"}', b'{"bytes":"e30"}', b'{"bytes":7}', b"{}", b'{"bytes":"WzFd"}'])
def test_a_chunk_that_cannot_be_read_raises(payload):
    """Nothing inside, or nothing that is a JSON object."""
    with pytest.raises(msgspec.DecodeError):
        BEDROCK.reader(CALL).events(Frame(payload, payload, "chunk"))


MEMBERS = st.sampled_from(["type", "message", "usage", "delta", "text", "content", "choices", "outputs", "output", "metadata",
    "index", "tool_calls", "input_tokens", "stop_reason", "error", "content_block", "amazon-bedrock-invocationMetrics"])  # fmt: skip
WORDS = st.sampled_from(["message_start", "content_block_start", "content_block_delta", "message_delta", "error", "tool_use", "message"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(MEMBERS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=500, deadline=None)
@given(said=st.one_of(st.binary(max_size=30), JSON))
def test_nothing_but_decode_errors_is_ever_raised(said):
    """A model may say what it likes."""
    try:
        events = read(said)
    except msgspec.DecodeError:
        return
    assert all(event.text for event in events if isinstance(event, Delta))
    msgspec.json.encode(events)
