"""The openai-responses dialect: calls pass untouched, errors are told in its words, and a stream ends where it says so."""

import json

import msgspec
import pytest

from gateway.core.errors import Rejected, UpstreamStalled
from gateway.core.events import Delta, Failed, Finished, Started, ToolOpened, Usage
from gateway.dialects.base import Asked, Dialect, Outgoing
from gateway.dialects.responses import RESPONSES
from gateway.wire.sse import Parser

(DOOR,) = RESPONSES.endpoints


def parse(body: bytes):
    return RESPONSES.parse_call(DOOR, body, Asked(query={"key": "secret"}))


def test_it_is_a_dialect():
    """The table of dialects takes it; its door and upstream path are OpenAI's."""
    dialect: Dialect = RESPONSES
    assert (dialect.name, dialect.family, dialect.models_paths) == ("openai-responses", "openai-responses", ())
    assert (DOOR.method, DOOR.path, DOOR.operation, DOOR.upstream_path) == ("POST", "/v1/responses", "chat", "/responses")
    assert dialect.credential("k") == {"Authorization": "Bearer k"}
    assert [frame.data for frame in Parser().feed(dialect.framing(parse(b'{"model":"m"}')).keepalive)] == [b""]


def test_a_call_is_read_and_passes_as_it_came():
    """State and tools of OpenAI's own are nobody's business on the way to an upstream of this dialect; only the model is edited."""
    body = b'{ "input":"x", "model":"m" ,"stream":true,"previous_response_id":"resp_1","tools":[{"type":"web_search"}],"temperature":1,'
    body += b'"top_p":0.5,"max_output_tokens":7,"store":true}'
    call = parse(body)
    assert (call.model, call.stream, call.temperature, call.top_p, call.max_tokens) == ("m", True, 1.0, 0.5, 7)
    assert call.path == "/responses"
    assert RESPONSES.outgoing(call, None, True) == Outgoing("/responses", body)
    assert RESPONSES.outgoing(call, "m", True).body is body
    assert RESPONSES.outgoing(call, 'm"2', True).body == body.replace(b'"m"', b'"m\\"2"')
    assert not RESPONSES.injects_usage(call)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "invalid_json"),
        (b"[]", "invalid_json"),
        (b"\xff", "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b'{"input":"x"}', "invalid_model"),
        (b'{"model":""}', "invalid_model"),
        (b'{"model":5}', "invalid_model"),
    ],
)
def test_a_call_without_a_model_is_refused(body, code):
    """Every refusal is the client's fault, and says what."""
    with pytest.raises(Rejected) as caught:
        parse(body)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("said", "stream"), [("true", True), ("false", False), ("null", False), ('"yes"', True), ("1", True), ("[]", False)]
)
def test_streaming_is_asked_for_in_many_words(said, stream):
    """What pydantic takes for true is true."""
    assert parse(b'{"model":"m","stream":' + said.encode() + b"}").stream is stream


def test_half_an_emoji_in_a_call_is_no_reason_to_refuse_it():
    """Lone surrogates pass, and a model with one is still a name that can be recorded."""
    assert parse(b'{"model":"m\\ud83d","input":"\\ud83d"}').model == "m?"


def test_a_document_says_everything():
    """Text, reasoning, refusals, calls, usage and finish."""
    document = {
        "id": "r",
        "model": "m",
        "status": "completed",
        "output": [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "s"}], "content": [{"type": "reasoning_text", "text": "h"}]},
            {"type": "web_search_call", "id": "ws"},
            {"type": "message", "content": [{"type": "output_text", "text": "a"}, {"type": "refusal", "refusal": "n"}, {"type": "new"}]},
            {"type": "function_call", "call_id": "c", "id": "fc", "name": "f", "arguments": "{}"},
        ],
        "usage": {"input_tokens": 5, "output_tokens": 2, "output_tokens_details": {"reasoning_tokens": 0}},
    }
    assert RESPONSES.read_document(parse(b'{"model":"m"}'), json.dumps(document).encode()) == [
        Started("r", "m"),
        Delta("reasoning", "s"),
        Delta("reasoning", "h"),
        Delta("text", "a"),
        Delta("refusal", "n"),
        ToolOpened(3, "c", "f"),
        Delta("arguments", "{}", 3),
        Finished("completed", "tools"),
        Usage(5, 2, reasoning=0),
    ]


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"status": "queued"}, []),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, [Finished("max_output_tokens", "length")]),
        ({"status": "failed", "error": {"code": "server_error", "message": "m"}}, [Failed("server_error", "m")]),
        ({"error": {"message": "m", "type": "t"}}, [Failed("t", "m")]),
    ],
)
def test_a_document_says_how_it_ended(document, says):
    """One that still runs in the background has not."""
    assert RESPONSES.read_document(None, json.dumps(document).encode()) == says


@pytest.mark.parametrize("body", [b"", b" ", b"<html>"])
def test_a_document_of_garbage_is_a_decode_error(body):
    """As in a stream."""
    with pytest.raises(msgspec.DecodeError):
        RESPONSES.read_document(None, body)


@pytest.mark.parametrize(
    ("body", "failed"),
    [
        (b'{"error":{"message":"m","type":"t","param":null,"code":"c"}}', Failed("c", "m")),
        (b'{"error":{"code":401,"message":"m"}}', Failed("401", "m")),
        (b'{"code":"c","message":"m"}', Failed("c", "m")),
        (b'{"detail":"Not Found"}', Failed("upstream_error", "Not Found")),
        (b"<html>bad gateway</html>", Failed("upstream_error", "<html>bad gateway</html>")),
        (b"\xff" * 5000, Failed("upstream_error", "\ufffd" * 1000)),
        (b"", Failed("upstream_error", "")),
        (b"[]", Failed("upstream_error", "[]")),
    ],
)
def test_an_error_answer_is_read_in_any_shape(body, failed):
    """It never raises."""
    assert RESPONSES.read_error(500, body) == failed


def test_errors_are_told_in_this_dialects_words():
    """A body as OpenAI's, an event as reference and server have it: with a number, and nothing in a message can end it."""
    error = UpstreamStalled("no\r\n\nbyte")
    assert json.loads(RESPONSES.error_body(error)) == {
        "error": {"message": "no\r\n\nbyte", "type": "upstream_error", "param": None, "code": "upstream_silent"}
    }
    (frame,) = Parser().feed(RESPONSES.error_event(error, parse(b'{"model":"m"}'), True))
    assert frame.name == "error"
    assert json.loads(frame.data) == {
        "type": "error",
        "sequence_number": 0,
        "code": "upstream_silent",
        "message": "no\r\n\nbyte",
        "param": None,
        "error": {"type": "upstream_error", "code": "upstream_silent", "message": "no\r\n\nbyte", "param": None},
    }
    assert list(RESPONSES.reader(parse(b'{"model":"m"}')).events(frame)) == [Failed("upstream_silent", "no\r\n\nbyte")]


def test_only_the_last_event_completes_a_stream():
    """A finish never comes without the end."""
    assert RESPONSES.complete(True, ())
    assert not RESPONSES.complete(False, ("completed",))


def test_usage_is_never_asked_for():
    """It always comes, so no frame is ours and no error is about it."""
    (frame,) = Parser().feed(b'data: {"type":"response.completed"}\n\n')
    assert not RESPONSES.is_usage_frame(frame)
    assert not RESPONSES.refuses_usage(400, b"stream_options")


def test_models_are_listed_as_openai_lists_them():
    """The list that openai-python reads."""
    assert json.loads(RESPONSES.models_document(["a"], 5)) == {
        "object": "list",
        "data": [{"id": "a", "object": "model", "created": 5, "owned_by": "weir"}],
    }
