"""The Anthropic dialect: which requests it takes, what it changes in them, what errors and models look like."""

import json

import pytest

from gateway.core import errors
from gateway.core.call import Call
from gateway.core.events import Failed
from gateway.dialects.anthropic import ANTHROPIC
from gateway.dialects.anthropic.dialect import ENDPOINTS
from gateway.dialects.base import Asked, Dialect
from gateway.wire.sse import Parser

MESSAGES, COUNT = ENDPOINTS
BODY = b'{"model":"m","max_tokens":7,"stream":true,"temperature":0.5,"top_p":1,"messages":[{"role":"user","content":"hi"}]}'


def call(body: bytes | str, endpoint=MESSAGES, **query: str) -> Call:
    return ANTHROPIC.parse_call(endpoint, body.encode() if isinstance(body, str) else body, Asked(query=query))


def test_it_is_a_dialect() -> None:
    """It has all that the interface asks for, under its own name and family."""
    dialect: Dialect = ANTHROPIC
    assert (dialect.name, dialect.family, dialect.framing(call(BODY)).media_type) == ("anthropic", "anthropic", "text/event-stream")
    assert ANTHROPIC.models_paths == ("/v1/models",)
    assert [(door.method, door.path, door.operation, door.upstream_path) for door in dialect.endpoints] == [
        ("POST", "/v1/messages", "chat", "/v1/messages"),
        ("POST", "/v1/messages/count_tokens", "count_tokens", "/v1/messages/count_tokens"),
    ]


def test_a_call_is_read_and_kept() -> None:
    """The body stays as it came; what Weir acts on is read from it."""
    assert call(BODY) == Call(
        dialect="anthropic",
        operation="chat",
        path="/v1/messages",
        model="m",
        body=BODY,
        stream=True,
        temperature=0.5,
        top_p=1.0,
        max_tokens=7,
    )
    counted = call(BODY, COUNT)
    assert (counted.operation, counted.path, counted.stream) == ("count_tokens", "/v1/messages/count_tokens", False)


def test_of_the_query_only_beta_goes_on() -> None:
    """A key that a client put there never reaches an upstream."""
    assert call(BODY, beta="true", key="sk-secret").path == "/v1/messages?beta=true"
    assert call(BODY, COUNT, beta="a b&x=1").path == "/v1/messages/count_tokens?beta=a+b%26x%3D1"
    assert call(BODY, api_key="sk-secret").path == "/v1/messages"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"not json", "invalid_json"),
        (b"[]", "invalid_json"),
        (b'{"model":"m"', "invalid_json"),
        (b'{"model":"\xff"}', "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b'{"messages":[]}', "invalid_model"),
        (b'{"model":""}', "invalid_model"),
        (b'{"model":5}', "invalid_model"),
    ],
)
def test_what_is_no_call_is_rejected(body: bytes, code: str) -> None:
    """With a status and a code, and never with more than that."""
    with pytest.raises(errors.Rejected) as rejected:
        call(body)
    assert (rejected.value.status, rejected.value.code) == (400, code)


def test_what_is_not_needed_is_not_checked() -> None:
    """Odd types are the upstream's to refuse; half an emoji is carried on as it came."""
    odd = '{"model":"m","stream":"true","temperature":"hot","max_tokens":1e400,"messages":[{"role":"user","content":"\\ud83d"}]}'
    read = call(odd)
    assert (read.stream, read.temperature, read.max_tokens, read.body) == (True, None, None, odd.encode())


def test_only_the_model_is_replaced() -> None:
    """Every other byte is the client's."""
    body = b'{ "max_tokens" : 1.0e1,\n "model" : "m" , "metadata":{"model":"m"}, "messages":[] }'
    out = ANTHROPIC.outgoing(call(body, beta="true"), 'n"1', inject_usage=True)
    assert out.body == body.replace(b'"m" ,', b'"n\\"1" ,')
    assert out.path == "/v1/messages?beta=true"
    assert out.headers == (("anthropic-version", "2023-06-01"),)
    for same in (None, "m"):
        assert ANTHROPIC.outgoing(call(body), same, inject_usage=True).body == body


def test_usage_is_never_asked_for() -> None:
    """It comes by itself, in every stream: nothing is added to a call, and nothing taken from an answer."""
    (frame,) = Parser().feed(b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":5}}\n\n')
    assert not ANTHROPIC.injects_usage(call(BODY))
    assert not ANTHROPIC.is_usage_frame(frame)
    assert not ANTHROPIC.refuses_usage(400, b"usage")
    assert ANTHROPIC.usage_mark == b""


def test_a_stream_is_complete_with_its_end_marker_only() -> None:
    """A reason to stop is said before the end: message_stop alone is the end (acceptance A1)."""
    assert ANTHROPIC.complete(terminated=True, finish=())
    assert not ANTHROPIC.complete(terminated=False, finish=["end_turn"])


def test_the_key_goes_into_its_own_header() -> None:
    """As the API wants it."""
    assert ANTHROPIC.credential("sk-1") == {"x-api-key": "sk-1"}


def test_a_keepalive_is_a_ping() -> None:
    """It is one whole event, and says nothing."""
    framing = ANTHROPIC.framing(call(BODY))
    (frame,) = framing.parser().feed(framing.keepalive)
    assert (frame.name, json.loads(frame.data)) == ("ping", {"type": "ping"})
    assert ANTHROPIC.reader(call(BODY)).events(frame) == ()
    assert framing.keepalive.endswith(framing.ending)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.Rejected("no"), "invalid_request_error"),
        (errors.Rejected("no", status=401), "authentication_error"),
        (errors.ModelNotFound("no"), "not_found_error"),
        (errors.BodyTooLarge("no"), "request_too_large"),
        (errors.Rejected("no", status=429), "rate_limit_error"),
        (errors.Rejected("no", status=418), "invalid_request_error"),
        (errors.NoTarget("no"), "overloaded_error"),
        (errors.StreamTruncated("no"), "api_error"),
        (errors.SlowFirstToken("no"), "timeout_error"),
        (errors.GatewayError("no"), "api_error"),
    ],
)
def test_errors_are_said_in_anthropics_words(error: errors.GatewayError, kind: str) -> None:
    """The kind goes by the status, our own code stands beside it."""
    said = {"type": "error", "error": {"type": kind, "message": "no", "code": error.code}}
    assert json.loads(ANTHROPIC.error_body(error)) == said
    (frame,) = Parser().feed(ANTHROPIC.error_event(error, call(BODY), begun=False))
    assert ANTHROPIC.error_event(error, call(BODY), begun=True) == frame.raw
    assert (frame.name, json.loads(frame.data)) == ("error", said)
    assert ANTHROPIC.reader(call(BODY)).events(frame) == [Failed(kind, "no")]
    assert ANTHROPIC.read_error(error.status, ANTHROPIC.error_body(error)) == Failed(kind, "no")


def test_no_message_ends_an_event() -> None:
    """Line ends and half an emoji in a message stay inside it."""
    error = errors.GatewayError("a\n\ndata: b\r\n\r\n\ud83d", code="\ud83d")
    event = ANTHROPIC.error_event(error, call(BODY), begun=True)
    (frame,) = Parser().feed(event)
    assert json.loads(frame.data)["error"]["message"] == "a\n\ndata: b\r\n\r\n?"


def test_models_are_listed() -> None:
    """One page, with the ends named as the SDK's pages need them."""
    listed = json.loads(ANTHROPIC.models_document(["a", "b"], 1_700_000_000))
    assert (listed["first_id"], listed["last_id"], listed["has_more"]) == ("a", "b", False)
    assert listed["data"][0] == {
        "type": "model",
        "id": "a",
        "display_name": "a",
        "created_at": "2023-11-14T22:13:20Z",
        "lifecycle": "active",
    }
    assert json.loads(ANTHROPIC.models_document([], 0)) == {"data": [], "has_more": False, "first_id": None, "last_id": None}
