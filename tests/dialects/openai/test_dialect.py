"""The OpenAI dialect: which requests it takes, what it changes in them, what errors look like, which frames it may strip."""

import json

import msgspec
import pytest
from openai._streaming import SSEDecoder

from gateway.core import errors
from gateway.core.call import Call
from gateway.core.events import Delta, Failed, Finished, Started, ToolOpened, Usage
from gateway.dialects import DIALECTS
from gateway.dialects.base import Asked
from gateway.dialects.openai import AZURE, OPENAI
from gateway.wire.sse import FRAMING, Parser

CHAT, COMPLETIONS, EMBEDDINGS = OPENAI.endpoints
INJECTED = b'"stream_options":{"include_usage":true}'


def call(body: bytes | str, endpoint=CHAT) -> Call:
    return OPENAI.parse_call(endpoint, body.encode() if isinstance(body, str) else body, Asked())


def sent_for(read: Call, model: str | None, inject_usage: bool) -> bytes:
    out = OPENAI.outgoing(read, model, inject_usage)
    assert (out.path, out.headers) == (read.path, ())
    return out.body


def frame(document: object, **spacing):
    (only,) = Parser().feed(b"data: " + json.dumps(document, **spacing).encode() + b"\n\n")
    return only


def test_the_registry_knows_the_dialect_by_its_name():
    """Config names a dialect, the table finds it, and every endpoint has a path for clients and one for upstreams."""
    assert DIALECTS["openai"] is OPENAI
    assert DIALECTS["azure"] is AZURE
    assert (OPENAI.name, OPENAI.family, OPENAI.models_paths) == ("openai", "openai", ("/v1/models",))
    assert [(e.method, e.path, e.operation, e.upstream_path) for e in OPENAI.endpoints] == [
        ("POST", "/v1/chat/completions", "chat", "/chat/completions"),
        ("POST", "/v1/completions", "text_completion", "/completions"),
        ("POST", "/v1/embeddings", "embeddings", "/embeddings"),
    ]


def test_a_request_is_read_but_kept_as_it_came():
    """The few members Weir acts on are read; the body stays the very object that came."""
    body = b'{"model":"m","stream":true,"temperature":0,"top_p":0.5,"max_tokens":7,"seed":-3,"messages":[{"role":"user","content":"hi"}]}'
    read = call(body)
    assert read == Call(
        dialect="openai",
        operation="chat",
        path="/chat/completions",
        model="m",
        body=body,
        stream=True,
        temperature=0.0,
        top_p=0.5,
        max_tokens=7,
        seed=-3,
    )
    assert read.body is body
    assert call('{"model":"m"}', COMPLETIONS).operation == "text_completion"
    assert call('{"model":"m","stream":true,"input":"x"}', EMBEDDINGS).stream is False


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"model=x", "invalid_json"),
        (b'{"model":"m"', "invalid_json"),
        (b'{"model":"m"} x', "invalid_json"),
        (b'["model"]', "invalid_json"),
        (b"null", "invalid_json"),
        (b'{"a":' * 100_000, "invalid_json"),
        (b'{"model":"m","a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid_json"),
        (b'{"model":"m\xff"}', "invalid_json"),
        (b"{}", "invalid_model"),
        (b'{"model":null}', "invalid_model"),
        (b'{"model":""}', "invalid_model"),
        (b'{"model":["m"]}', "invalid_model"),
        (b'{"model":3}', "invalid_model"),
    ],
)
def test_what_is_no_request_is_rejected(body, code):
    """A body that is no JSON object, or names no model, is the caller's error: 400, and no upstream is asked."""
    with pytest.raises(errors.Rejected) as caught:
        call(body)
    assert (caught.value.status, caught.value.code) == (400, code)


@pytest.mark.parametrize(
    ("said", "stream"),
    [
        *((said, True) for said in ("true", "1", "1.0", '"true"', '"True"')),
        *((said, False) for said in ("false", "null", "0", "2", '"false"', '"no"', "[1]", "{}")),
    ],
)
def test_stream_is_read_as_servers_read_it(said, stream):
    """`stream` is true for whatever common servers take for true, false for the rest; never an error of ours."""
    assert call('{"model":"m","stream":' + said + "}").stream is stream


def test_odd_types_in_members_of_the_upstream_are_its_business():
    """What we do not act on is not checked, and what cannot be recorded is left out."""
    read = call(
        '{"model":"m","temperature":"hot","top_p":true,"max_tokens":1.5,"seed":99999999999999999999999999,'
        '"messages":7,"tools":"none","temperature":1e999}'
    )
    assert (read.temperature, read.top_p, read.max_tokens, read.seed) == (None, None, None, None)
    assert call('{"model":"m","max_tokens":5,"max_completion_tokens":9}').max_tokens == 9
    assert call('{"model":"m","max_tokens":5,"max_completion_tokens":0}').max_tokens == 0


def test_a_lone_surrogate_is_no_reason_to_refuse_a_call():
    """JavaScript writes half an emoji as an escape that strict parsers refuse; upstreams decide, not we."""
    body = b'{"messages":[{"content":"\\ud83d cut"}],"model":"m","stream":true}'
    assert call(body).model == "m"
    assert sent_for(call(body), "n", True) == b"{" + INJECTED + b"," + body[1:].replace(b'"m"', b'"n"')


@pytest.mark.parametrize(
    ("options", "said", "injects"),
    [
        ("", None, True),
        (',"stream_options":null', None, True),
        (',"stream_options":{}', None, True),
        (',"stream_options":{"include_usage":null}', None, True),
        (',"stream_options":{"include_obfuscation":false}', None, True),
        (',"stream_options":{"include_usage":true}', True, False),
        (',"stream_options":{"include_usage":false}', False, False),
        (',"stream_options":"odd"', False, False),
    ],
)
def test_only_a_silent_client_is_spoken_for(options, said, injects):
    """Usage is asked for by us only when the answer is streamed and the client said nothing about it."""
    read = call('{"model":"m","stream":true' + options + "}")
    assert read.include_usage is said
    assert OPENAI.injects_usage(read) is injects
    assert not OPENAI.injects_usage(call('{"model":"m"' + options + "}"))
    assert sent_for(read, None, False) is read.body
    if not injects:
        assert sent_for(read, None, True) is read.body


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (b'{"model":"m", "stream":true}', b"{" + INJECTED + b',"model":"m", "stream":true}'),
        (b' {\n "stream":true,"model":"m"}', b" {" + INJECTED + b',\n "stream":true,"model":"m"}'),
        (b'{"model":"m","stream":true,"stream_options":null}', b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}'),
        (b'{"stream_options":{ },"model":"m","stream":true}', b'{"stream_options":{"include_usage":true },"model":"m","stream":true}'),
        (
            b'{"stream_options": {"x":1e2,"x":null},"model":"m","stream":true}',
            b'{"stream_options": {"include_usage":true,"x":1e2,"x":null},"model":"m","stream":true}',
        ),
        (
            b'{"stream_options":{"include_usage" : null},"model":"m","stream":true}',
            b'{"stream_options":{"include_usage" : true},"model":"m","stream":true}',
        ),
        (
            b'{"stream\\u005foptions":null,"model":"m","stream":true,"x":{"stream_options":null}}',
            b'{"stream\\u005foptions":{"include_usage":true},"model":"m","stream":true,"x":{"stream_options":null}}',
        ),
    ],
)
def test_asking_for_usage_changes_nothing_else(body, sent):
    """The request to the upstream is the client's, byte for byte, but for the one member we add or complete."""
    assert sent_for(call(body), None, True) == sent
    assert json.loads(sent)["stream_options"]["include_usage"] is True


def test_another_model_is_written_into_the_body_alone():
    """A target's model replaces the one asked for wherever it is written; the same model changes nothing."""
    body = b'{"n": 1e2, "model" : "m","x":null,"model":"m","text":"\\"model\\": \xe2\x82\xac"}'
    assert sent_for(call(body), 'a "b"', True) == body.replace(b'"m"', b'"a \\"b\\""')
    assert sent_for(call(body), "m", True) is body
    assert sent_for(call(body), None, True) is body


def test_a_key_travels_as_a_bearer():
    """Upstream keys go into one header and nowhere else."""
    assert OPENAI.credential("k") == {"Authorization": "Bearer k"}


TOOLS = [
    {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
    {"id": "b", "type": "function", "function": {"name": "f", "arguments": "[]"}},
]
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


@pytest.mark.parametrize("spacing", [{}, {"separators": (",", ":")}])
@pytest.mark.parametrize(
    ("document", "ours"),
    [
        ({"id": "x", "choices": [], "usage": USAGE}, True),
        ({"choices": [], "usage": {}}, False),
        ({"choices": [], "usage": None}, False),
        ({"choices": []}, False),
        ({"choices": [], "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}], "usage": None}, False),
        ({"choices": [{"index": 0, "delta": {}}], "usage": USAGE}, False),
        ({"choices": [{"index": 0, "delta": {"content": '"choices":[]'}}], "usage": USAGE}, False),
        ({"choices": [{"index": 0, "delta": {"content": "hi"}, "x": {"choices": []}}], "usage": USAGE}, False),
        ({"choices": None, "usage": USAGE}, False),
        ({"usage": USAGE}, False),
        ({"choices": [], "usage": USAGE, "error": {"message": "no"}}, False),
        ({"choices": [], "usage": 3}, False),
    ],
)
def test_only_the_frame_we_caused_may_be_stripped(document, ours, spacing):
    """A usage frame has an empty list of choices and a usage object; all others belong to the client."""
    one = frame(document, **spacing)
    assert OPENAI.is_usage_frame(one) is ours
    assert OPENAI.usage_mark in one.raw or not ours


@pytest.mark.parametrize("data", [b"[DONE]", b"", b'{"choices":[],"usage":{', b'{"choices":[],"usage":{}}x', b'"choices":[]', b"\xff"])
def test_a_frame_that_cannot_be_read_is_never_stripped(data):
    """Blind means hands off."""
    (one,) = Parser().feed(b"data: " + data + b"\n\n")
    assert OPENAI.is_usage_frame(one) is False


def test_most_reads_cannot_hold_a_usage_frame():
    """The cheap look at a read clears ordinary chunks, also when they say "usage":null each."""
    assert OPENAI.usage_mark not in (b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}],"usage":null}\n\n')


@pytest.mark.parametrize(
    ("status", "body", "refuses"),
    [
        (400, b'{"error":{"message":"Unknown parameter: stream_options"}}', True),
        (422, b'{"detail":[{"loc":["body","stream_options","include_usage"]}]}', True),
        (400, b'{"error":{"message":"bad model"}}', False),
        (500, b"stream_options", False),
        (401, b"include_usage", False),
    ],
)
def test_an_upstream_that_refuses_usage_is_understood(status, body, refuses):
    """A 400 or 422 that names what we added is ours to take back; anything else is the call's."""
    assert OPENAI.refuses_usage(status, body) is refuses


def test_a_stream_is_complete_with_its_marker_or_a_reason():
    """[DONE] or any finish reason is an end; neither is a truncation."""
    assert OPENAI.complete(True, [])
    assert OPENAI.complete(False, ["stop"])
    assert not OPENAI.complete(False, [])


def test_an_error_is_rendered_as_callers_know_it():
    """The body has OpenAI's shape, with our code and kind."""
    error = errors.StreamTruncated("the upstream closed the stream")
    said = {"message": "the upstream closed the stream", "type": "upstream_error", "param": None, "code": "stream_truncated"}
    assert json.loads(OPENAI.error_body(error)) == {"error": said}


@pytest.mark.parametrize("message", ["a\r\n\r\ndata: [DONE]\n\n", "\ud83d", 'quote " and \\', "line\u2028separator", "\x00"])
def test_nothing_in_a_message_can_end_the_error_event(message):
    """An error event is one event for any message, and never a terminal marker."""
    event = OPENAI.error_event(errors.UpstreamError(message, code="x\ny"), call('{"model":"m"}'), True)
    frames = Parser().feed(event)
    assert len(frames) == 1
    assert frames[0].raw == event
    assert set(json.loads(frames[0].data)["error"]) == {"message", "type", "param", "code"}


def test_the_official_client_sees_our_error_event():
    """openai-python's own decoder reads the event, and its rule for errors (a truthy `error`) fires."""
    (event,) = SSEDecoder().iter_bytes(
        iter([FRAMING.keepalive, OPENAI.error_event(errors.StreamTruncated("cut"), call('{"model":"m"}'), True)])
    )
    assert event.json()["error"]["code"] == "stream_truncated"


def test_a_keepalive_is_a_comment_and_nothing_more():
    """It dispatches no event in any client and ends on a boundary."""
    (one,) = Parser().feed(FRAMING.keepalive)
    assert (one.data, one.name) == (b"", "")


def test_models_are_listed_in_openai_shape():
    """Names in the order given, with the time they were configured."""
    listed = json.loads(OPENAI.models_document(["b", "a"], 5))
    assert listed["object"] == "list"
    assert listed["data"][0] == {"id": "b", "object": "model", "created": 5, "owned_by": "weir"}
    assert [model["id"] for model in listed["data"]] == ["b", "a"]


@pytest.mark.parametrize(
    ("endpoint", "document", "events"),
    [
        (
            CHAT,
            {"id": "i", "model": "m", "choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}], "usage": USAGE},
            [Started("i", "m"), Delta("text", "hi"), Finished("stop", "stop"), Usage(3, 4)],
        ),
        (
            CHAT,
            {"choices": [{"message": {"content": None, "reasoning": "hm", "refusal": "no"}, "finish_reason": "content_filter"}]},
            [Delta("reasoning", "hm"), Delta("refusal", "no"), Finished("content_filter", "filtered")],
        ),
        (
            CHAT,
            {"choices": [{"message": {"tool_calls": TOOLS, "content": ""}, "finish_reason": "tool_calls"}]},
            [
                *(ToolOpened(0, "a", "f"), Delta("arguments", "{}", 0), ToolOpened(1, "b", "f"), Delta("arguments", "[]", 1)),
                Finished("tool_calls", "tools"),
            ],
        ),
        (
            CHAT,
            {"choices": [{"index": "0", "message": {"content": [{"type": "text", "text": "hi"}]}, "finish_reason": "stop"}]},
            [Delta("text", "hi"), Finished("stop", "stop")],
        ),
        (
            COMPLETIONS,
            {"id": "i", "model": "m", "choices": [{"text": "hi", "finish_reason": "length"}], "usage": USAGE},
            [Started("i", "m"), Delta("text", "hi"), Finished("length", "length"), Usage(3, 4)],
        ),
        (
            EMBEDDINGS,
            {"model": "m", "data": [{"embedding": [0.5]}], "usage": {"prompt_tokens": 5, "total_tokens": 5}},
            [Started(None, "m"), Usage(5)],
        ),
        (CHAT, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, [Failed("rate_limit_exceeded", "slow down")]),
        (CHAT, [{"error": {"message": "gone", "code": 404}}], [Failed("404", "gone")]),
    ],
)
def test_an_answer_in_one_piece_is_read(endpoint, document, events):
    """Who answered, what was said, why it ended, what it cost, or what went wrong."""
    asked = call('{"model":"m"}', endpoint)
    assert OPENAI.read_document(asked, json.dumps(document).encode()) == events


def test_an_answer_that_is_no_json_says_so():
    """Garbage is a decode error, JSON of another shape a validation error; the observer counts them apart."""
    asked = call('{"model":"m"}')
    for body in (b"<html>", b"", b" \n", b"[DONE]"):
        with pytest.raises(msgspec.DecodeError) as caught:
            OPENAI.read_document(asked, body)
        assert not isinstance(caught.value, msgspec.ValidationError)
    with pytest.raises(msgspec.ValidationError):
        OPENAI.read_document(asked, b"[1]")
