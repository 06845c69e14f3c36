"""The Ollama dialect: which requests it takes, what it changes in them, what errors and the list of models look like."""

import json

import msgspec
import pytest

from gateway.core import errors
from gateway.core.call import Call
from gateway.core.events import Delta, Failed, Finished, Started, Terminated, ToolOpened, Usage
from gateway.dialects.base import Asked, Dialect, Outgoing, Stamp
from gateway.dialects.ollama import OLLAMA
from gateway.dialects.ollama.dialect import ENDPOINTS
from gateway.wire.framing import Frame

CHAT, GENERATE, EMBED = ENDPOINTS


def call(body: bytes | str, endpoint=CHAT) -> Call:
    return OLLAMA.parse_call(endpoint, body.encode() if isinstance(body, str) else body, Asked())


def test_the_doors_are_those_of_an_ollama_server():
    """An upstream's paths are the doors' own, and the instance has all that a dialect must."""
    dialect: Dialect = OLLAMA
    assert (dialect.name, dialect.family, dialect.models_paths) == ("ollama", "ollama", ("/api/tags",))
    assert [(e.method, e.path, e.operation) for e in dialect.endpoints] == [
        ("POST", "/api/chat", "chat"),
        ("POST", "/api/generate", "text_completion"),
        ("POST", "/api/embed", "embeddings"),
    ]
    assert all(e.path == e.upstream_path for e in dialect.endpoints)
    framing = dialect.framing(call('{"model":"m"}'))
    assert (framing.media_type, framing.keepalive, framing.ending) == ("application/x-ndjson", b"", b"\n")
    assert framing.parser().feed(b"{}\n")[0].data == b"{}"
    assert framing.cutter().push(b"{}\n{") == b"{}\n"
    assert dialect.usage_mark == b""


def test_a_request_is_read_but_kept_as_it_came():
    """The few members Weir acts on are read; the body stays the very object that came."""
    body = b'{"model":"m:7b","messages":[],"options":{"temperature":0,"top_p":0.5,"num_predict":7,"seed":-3,"num_ctx":99}}'
    read = call(body)
    assert read == Call(
        dialect="ollama",
        operation="chat",
        path="/api/chat",
        model="m:7b",
        body=body,
        stream=True,
        temperature=0.0,
        top_p=0.5,
        max_tokens=7,
        seed=-3,
    )
    assert read.body is body
    assert OLLAMA.outgoing(read, None, True) == Outgoing("/api/chat", body)
    assert OLLAMA.outgoing(read, "m:7b", False).body is body


@pytest.mark.parametrize(
    ("body", "stream"),
    [
        ('{"model":"m"}', True),
        ('{"model":"m","stream":null}', True),
        ('{"model":"m","stream":true}', True),
        ('{"model":"m","stream":false}', False),
    ],
)
def test_streaming_is_the_default(body, stream):
    """Only an explicit false asks for one piece; embeddings are always in one piece."""
    assert call(body).stream is call(body, GENERATE).stream is stream
    assert call(body, EMBED).stream is False


def test_usage_is_never_asked_for():
    """Ollama always tells it, so nothing is injected, stripped or refused."""
    read = call('{"model":"m"}')
    assert read.include_usage is None
    assert not OLLAMA.injects_usage(read)
    assert not OLLAMA.is_usage_frame(Frame(b'{"eval_count":3}\n', b'{"eval_count":3}', ""))
    assert not OLLAMA.refuses_usage(400, b"stream_options")


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (b'{"model":"m", "x":"model"}', b'{"model":"n", "x":"model"}'),
        (b' {\n "x":{"model":"m"},"model" : "m"}', b' {\n "x":{"model":"m"},"model" : "n"}'),
        (b'{"model":"m","s":"\\ud83d"}', b'{"model":"n","s":"\\ud83d"}'),
    ],
)
def test_only_the_model_is_changed(body, sent):
    """Every other byte is the client's."""
    assert OLLAMA.outgoing(call(body), "n", False) == Outgoing("/api/chat", sent)


def test_odd_types_in_members_of_the_upstream_are_its_business():
    """What we do not act on is not checked, and what cannot be recorded is left out."""
    read = call('{"model":"m","messages":7,"options":{"temperature":"hot","top_p":true,"num_predict":-1,"seed":1e300}}')
    assert (read.temperature, read.top_p, read.max_tokens, read.seed) == (None, None, None, None)
    assert call('{"model":"m","options":[1]}').seed is None
    assert call('{"model":"m","options":{"seed":7.0,"num_predict":1.5}}').seed == 7


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b'{"model":"m"', "invalid_json"),
        (b'["model"]', "invalid_json"),
        (b'{"a":' * 100_000, "invalid_json"),
        (b'{"model":"m\xff"}', "invalid_json"),
        (b"{}", "invalid_model"),
        (b'{"model":""}', "invalid_model"),
        (b'{"model":3}', "invalid_model"),
    ],
)
def test_what_is_no_request_is_rejected(body, code):
    """A body that is no JSON object, or names no model, is the caller's error."""
    with pytest.raises(errors.Rejected) as caught:
        call(body)
    assert (caught.value.status, caught.value.code) == (400, code)


def test_a_key_is_sent_only_where_one_is_configured():
    """Ollama.com takes a bearer token; a local server takes none."""
    assert OLLAMA.credential("k") == {"Authorization": "Bearer k"}
    assert OLLAMA.credential("") == {}


def test_an_answer_in_one_piece_is_read_whole():
    """Text, thinking, tool calls, finish and usage, as its stream would say them."""
    message = {"role": "assistant", "content": "a", "thinking": "t", "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}]}
    body = {"model": "m", "message": message, "done": True, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 2}
    assert OLLAMA.read_document(call('{"model":"m"}'), msgspec.json.encode(body) + b"\n") == [
        Started(None, "m"),
        Delta("reasoning", "t"),
        Delta("text", "a"),
        ToolOpened(0, None, "f"),
        Delta("arguments", '{"x":1}', 0),
        Finished("stop", "tools"),
        Usage(3, 2),
        Terminated(),
    ]


def test_embeddings_tell_their_input():
    """An embed answer has counts and no end of its own."""
    body = b'{"model":"m","embeddings":[[0.1]],"total_duration":9,"prompt_eval_count":8}'
    assert OLLAMA.read_document(call('{"model":"m"}', EMBED), body) == [Started(None, "m"), Usage(8)]


def test_an_empty_answer_is_no_answer():
    """Nothing and blanks are not JSON."""
    for body in (b"", b" \n"):
        with pytest.raises(msgspec.DecodeError):
            OLLAMA.read_document(call('{"model":"m"}'), body)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error":"model \\"x\\" not found"}', 'model "x" not found'),
        (b"<html>bad gateway</html>", "<html>bad gateway</html>"),
        (b'{"detail":"odd"}', '{"detail":"odd"}'),
        (b"", "status 502"),
        (b"\xff", "\ufffd"),
        (b'{"error":' * 100_000, '{"error":' * 111 + "{"),
    ],
)
def test_an_error_answer_is_read_in_any_body(body, message):
    """Reading an error never fails."""
    assert OLLAMA.read_error(502, body) == Failed("upstream_error", message)


def test_only_done_is_an_end():
    """A reason without `done`, or an end of the connection, is no proper end."""
    assert OLLAMA.complete(True, [])
    assert not OLLAMA.complete(False, ["stop"])


def test_errors_are_one_sentence_on_one_line():
    """A message cannot end its line, and what cannot be encoded does not fail."""
    error = errors.UpstreamError("two\nlines \ud83d")
    assert json.loads(OLLAMA.error_body(error)) == {"error": "two\nlines ?"}
    asked = call('{"model":"m"}')
    line = OLLAMA.error_event(error, asked, begun=True)
    assert line == OLLAMA.error_event(error, asked, begun=False) == OLLAMA.writer(asked, Stamp("a", 0)).fail(error)
    assert line == OLLAMA.error_body(error) + b"\n"
    assert line.count(b"\n") == 1


def test_the_list_of_models_has_what_clients_read():
    """Names, a time, and empty details."""
    (model,) = json.loads(OLLAMA.models_document(["a:1"], 1_700_000_000))["models"]
    assert (model["name"], model["model"], model["modified_at"]) == ("a:1", "a:1", "2023-11-14T22:13:20Z")
    assert set(model) == {"name", "model", "modified_at", "size", "digest", "details"}
