"""Gemini's doors, addresses, keys and errors: what goes upstream, and what never does."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import ModelNotFound, Rejected, Stopped, UpstreamError
from gateway.dialects.base import Asked, Endpoint
from gateway.dialects.gemini import GEMINI
from gateway.wire import jsonarray, sse

BODY = b'{ "contents": [{"parts":[{"text":"hi"}]}],\n "generationConfig":{"temperature":0.5,"topP":0.9,"maxOutputTokens":64,"seed":7}}'


def door(verb: str = "streamGenerateContent", version: str = "v1beta") -> Endpoint:
    (found,) = [endpoint for endpoint in GEMINI.endpoints if endpoint.path == f"/{version}/models/{{model}}:{verb}"]
    return found


def parsed(model: str = "gemini-2.5-flash", verb: str = "streamGenerateContent", body: bytes = BODY, **query: str):
    return GEMINI.parse_call(door(verb), body, Asked({"model": model}, query))


def test_there_is_a_door_for_each_method_and_version():
    """Chat streamed and whole, and the counting of tokens, under both versions."""
    assert {(endpoint.path, endpoint.operation) for endpoint in GEMINI.endpoints} == {
        (f"/{version}/models/{{model}}:{verb}", operation)
        for version in ("v1", "v1beta")
        for verb, operation in (("streamGenerateContent", "chat"), ("generateContent", "chat"), ("countTokens", "count_tokens"))
    }


def test_a_call_is_read_from_its_path_its_query_and_its_body():
    """The path names model and method, the query the framing, the body the rest; it goes out as it came."""
    call = parsed(alt="sse")
    assert (call.model, call.stream, call.operation) == ("gemini-2.5-flash", True, "chat")
    assert (call.temperature, call.top_p, call.max_tokens, call.seed) == (0.5, 0.9, 64, 7)
    out = GEMINI.outgoing(call, None, True)
    assert (out.path, out.body, out.headers) == ("/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse", BODY, ())
    assert out.body is call.body
    assert not GEMINI.injects_usage(call)


def test_versions_and_methods_keep_their_own_paths():
    """What came under /v1 goes out under /v1."""
    call = GEMINI.parse_call(door("generateContent", "v1"), b"{}", Asked({"model": "m"}))
    assert (call.path, call.stream) == ("/v1/models/m:generateContent", False)
    assert parsed(verb="countTokens").operation == "count_tokens"


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ({"key": "AIza-secret"}, ""),
        ({"alt": "sse", "key": "AIza-secret"}, "?alt=sse"),
        ({"key": "AIza-secret", "$alt": "sse", "access_token": "ya29"}, "?alt=sse"),
        ({"alt": "SSE"}, "?alt=sse"),
        ({"$alt": "json;enum-encoding=int"}, "?$alt=json%3Benum-encoding%3Dint"),
        ({"prettyPrint": "false", "callback": "f", "alt": "json"}, "?alt=json&prettyPrint=false"),
        ({"fields": "a,b&key=x#"}, "?fields=a%2Cb%26key%3Dx%23"),
    ],
)
def test_no_key_is_passed_on(query, path):
    """Of the query only what is known to be no secret goes upstream."""
    out = GEMINI.outgoing(parsed(**query), None, False)
    assert out.path == "/v1beta/models/gemini-2.5-flash:streamGenerateContent" + path
    assert "secret" not in out.path + repr(out.headers)


@pytest.mark.parametrize(
    ("said", "model", "path"),
    [
        ("models/gemini-x", "gemini-x", "models/gemini-x"),
        ("models%2Fgemini-x", "gemini-x", "models/gemini-x"),
        ("org/name", "org/name", "models/org%2Fname"),
        ("tunedModels/mine", "tunedModels/mine", "tunedModels/mine"),
        ("llama3:8b", "llama3:8b", "models/llama3%3A8b"),
        ("a?key=b#c", "a?key=b#c", "models/a%3Fkey%3Db%23c"),
        ("a\u00e4 b", "a\u00e4 b", "models/a%C3%A4%20b"),
    ],
)
def test_a_models_name_stays_within_its_segment(said, model, path):
    """Slashes, colons and marks in a name are escaped; the collection is not part of the name."""
    call = parsed(said)
    assert call.model == model
    assert call.path == f"/v1beta/{path}:streamGenerateContent"


@pytest.mark.parametrize("said", ["", "/", "models/", "..", "a/../b", "%2e%2e/x", "a//b", "./a", "a\r\nHost: b", "a%00", "x" * 257])
def test_what_is_no_models_name_is_refused(said):
    """Nothing that climbs, splits the request line or has no end."""
    with pytest.raises(Rejected) as refused:
        parsed(said)
    assert refused.value.code == "invalid_model"


@given(said=st.text(min_size=1, max_size=40), other=st.text(min_size=1, max_size=40))
def test_no_name_leads_elsewhere(said, other):
    """Whatever a client or a config calls a model, the path has four segments and the method at its end."""
    try:
        call = parsed(said)
        paths = call.path, GEMINI.outgoing(call, other, False).path
    except Rejected:
        return
    for path in paths:
        assert path.isascii()
        assert path.endswith(":streamGenerateContent")
        assert path.count("/") == 3
        assert not set(path) & set("?# \r\n")


def test_another_model_changes_the_path_and_what_repeats_it():
    """The name stands in the path, sometimes in the body, and in the request whose tokens are counted."""
    out = GEMINI.outgoing(parsed(alt="sse"), "gemini-3-pro", False)
    assert (out.path, out.body) == ("/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse", BODY)
    named = GEMINI.outgoing(parsed(body=b'{"model":"models/gemini-2.5-flash", "contents":[]}'), "b", False)
    assert named.body == b'{"model":"models/b", "contents":[]}'
    counted = parsed(verb="countTokens", body=b'{"generateContentRequest": {"model":"models/a","contents":[{"parts":[]}]}}')
    out = GEMINI.outgoing(counted, "tunedModels/b", False)
    assert out.path == "/v1beta/tunedModels/b:countTokens"
    assert out.body == b'{"generateContentRequest": {"model":"tunedModels/b","contents":[{"parts":[]}]}}'


@pytest.mark.parametrize("body", [b"", b"[]", b"nonsense", b'"x"', b"\xff", b'{"a":' * 20_000])
def test_a_body_that_is_no_object_is_refused(body):
    """An object is all that is asked of a body."""
    with pytest.raises(Rejected) as refused:
        parsed(body=body)
    assert refused.value.code == "invalid_json"


def test_what_weir_does_not_need_is_no_reason_to_refuse():
    """Odd types, snake_case and half characters pass."""
    assert parsed(body=b'{"generation_config":{"max_output_tokens":5,"top_p":0.1}}').max_tokens == 5
    assert parsed(body=b'{"generationConfig":[1],"contents":7}').temperature is None
    assert parsed(body=b'{"contents":[{"parts":[{"text":"\\ud83d"}]}],"generationConfig":{"temperature":1,"seed":1e400}}').temperature == 1


def test_the_framing_is_what_the_query_asks_for():
    """Server-sent events with alt=sse, one JSON array without."""
    events, array = GEMINI.framing(parsed(alt="sse")), GEMINI.framing(parsed())
    assert (events.media_type, array.media_type) == ("text/event-stream", "application/json")
    assert isinstance(events.parser(), sse.Parser)
    assert isinstance(events.cutter(), sse.Cutter)
    assert isinstance(array.parser(), jsonarray.Parser)
    assert isinstance(array.cutter(), jsonarray.Cutter)


def test_a_keepalive_means_nothing_in_either_framing():
    """Blank lines between events, white space between elements and before the first."""
    events, array = GEMINI.framing(parsed(alt="sse")), GEMINI.framing(parsed())
    parser = events.parser()
    stream = events.keepalive + b'data: {"a":1}\r\n\r\n' + events.keepalive * 3 + b'data: {"b":2}\r\n\r\n'
    assert all(event.startswith(b"data: ") for event in stream.split(b"\r\n\r\n") if event)  # as google-genai for Go reads it
    assert [frame.data for frame in parser.feed(stream) if frame.data] == [b'{"a":1}', b'{"b":2}']
    assert json.loads(array.keepalive + b'[{"a":1}' + array.keepalive * 2 + b',{"b":2}]') == [{"a": 1}, {"b": 2}]


def test_a_finish_makes_an_answer_whole():
    """No end marker of its own: the end of the stream after a finish; without one it was cut."""
    assert GEMINI.complete(False, ["STOP"])
    assert not GEMINI.complete(False, [])
    assert not GEMINI.complete(True, [])


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Rejected("no", code="invalid_model"), "INVALID_ARGUMENT"),
        (ModelNotFound("no"), "NOT_FOUND"),
        (UpstreamError("no"), "UNAVAILABLE"),
        (UpstreamError("no", status=429, code="429"), "RESOURCE_EXHAUSTED"),
        (UpstreamError("no", status=418), "INVALID_ARGUMENT"),
        (UpstreamError("no", status=599), "INTERNAL"),
    ],
)
def test_errors_are_google_errors(error, status):
    """The status is HTTP's and Google's word for it; our own code is the reason."""
    said = json.loads(GEMINI.error_body(error))["error"]
    assert (said["code"], said["status"], said["message"]) == (error.status, status, "no")
    assert said["details"][0]["reason"] == error.code.upper()


def test_an_error_ends_a_stream_in_its_own_form():
    """An event, or the last element of an array that stays one, also when it is the first."""
    error = Stopped("bye\n\n\ud83d")
    event = GEMINI.error_event(error, parsed(alt="sse"), begun=True)
    (frame,) = sse.Parser().feed(event)
    assert json.loads(frame.data)["error"]["message"] == "bye\n\n?"
    assert GEMINI.error_event(error, parsed(alt="sse"), begun=False) == event
    begun = json.loads(b'[{"a":1}' + GEMINI.error_event(error, parsed(), begun=True))
    first = json.loads(b"\r\n" + GEMINI.error_event(error, parsed(), begun=False))
    assert begun[1:] == first == [json.loads(frame.data)]


def test_keys_go_in_a_header_and_models_are_listed():
    """x-goog-api-key, and names with their collection."""
    assert GEMINI.credential("k") == {"x-goog-api-key": "k"}
    assert GEMINI.models_paths == ("/v1beta/models", "/v1/models")
    listed = msgspec.json.decode(GEMINI.models_document(["a", "tunedModels/b"], 0))
    assert [model["name"] for model in listed["models"]] == ["models/a", "tunedModels/b"]
