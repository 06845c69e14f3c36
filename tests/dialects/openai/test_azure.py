"""The Azure dialect: doors with a deployment in them, and the same calls as OpenAI's behind them."""

import json

import pytest

from gateway.core.call import Call
from gateway.core.errors import Rejected
from gateway.core.events import Delta, Failed, Started
from gateway.core.prompt import Prompt, Text, Turn
from gateway.dialects.base import Asked, Outgoing
from gateway.dialects.openai import AZURE, OPENAI
from gateway.wire.sse import Parser

CHAT, COMPLETIONS, EMBEDDINGS = AZURE.endpoints
BODY = b'{"messages":[],"stream":true}'


def call(body: bytes = BODY, deployment: str = "d-1", endpoint=CHAT, **query: str) -> Call:
    return AZURE.parse_call(
        endpoint, body, Asked({"deployment": deployment}, {name.replace("_", "-"): said for name, said in query.items()})
    )


def test_its_doors_are_azures():
    """The paths that Azure's clients ask for; the family is OpenAI's, so that nothing between the two is translated."""
    assert [(e.method, e.path, e.operation) for e in AZURE.endpoints] == [
        ("POST", "/openai/deployments/{deployment}/chat/completions", "chat"),
        ("POST", "/openai/deployments/{deployment}/completions", "text_completion"),
        ("POST", "/openai/deployments/{deployment}/embeddings", "embeddings"),
    ]
    assert (AZURE.name, AZURE.family) == ("azure", OPENAI.family)
    assert AZURE.credential("k") == {"api-key": "k"}


def test_the_deployment_is_the_model():
    """The path decides, whatever the body says or leaves out, and the body stays the very object that came."""
    for body in (BODY, b'{"model":"gpt-4o","stream":true}', b'{"model":7,"stream":true}'):
        read = call(body)
        assert (read.dialect, read.model, read.stream, read.body) == ("azure", "d-1", True, body)
        assert AZURE.outgoing(read, None, False) == AZURE.outgoing(read, "d-1", False) == Outgoing(read.path, body)
        assert AZURE.outgoing(read, None, False).body is body
    assert call(endpoint=EMBEDDINGS).stream is False


@pytest.mark.parametrize("deployment", ["", ".", ".."])
def test_a_path_without_a_deployment_is_rejected(deployment):
    """A deployment that would lead to another path is none."""
    with pytest.raises(Rejected) as caught:
        call(deployment=deployment)
    assert (caught.value.status, caught.value.code) == (400, "invalid_model")


def test_of_the_query_only_the_version_is_passed_on():
    """Keys and whatever else a client says in its query end here."""
    read = call(api_version="2024-10-21", api_key="secret", key="secret", subscription_key="secret")
    assert read.path == "/openai/deployments/d-1/chat/completions?api-version=2024-10-21"
    assert AZURE.outgoing(read, "other", False).path == "/openai/deployments/other/chat/completions?api-version=2024-10-21"
    assert call(api_version="1&key=x").path.endswith("?api-version=1%26key%3Dx")


def test_another_deployment_changes_the_path_alone():
    """The body is the client's; a name is quoted so that it stays one segment."""
    assert AZURE.outgoing(call(), "a/b ?é", False) == Outgoing("/openai/deployments/a%2Fb%20%3F%C3%A9/chat/completions", BODY)
    assert call(deployment="a/b").path == "/openai/deployments/a%2Fb/chat/completions"
    asking = AZURE.outgoing(call(), None, True)
    assert asking.body == b'{"stream_options":{"include_usage":true},' + BODY[1:]


def test_a_call_of_openais_goes_to_azure_as_it_is():
    """Of the same family: only the address changes, and no version is made up."""
    body = b'{"model" : "m","messages":[]}'
    read = OPENAI.parse_call(OPENAI.endpoints[0], body, Asked())
    assert AZURE.outgoing(read, None, False) == Outgoing("/openai/deployments/m/chat/completions", body)
    assert AZURE.outgoing(read, "d-2", False).path == "/openai/deployments/d-2/chat/completions"


@pytest.mark.parametrize(
    ("body", "model", "sent"),
    [
        (b'{"messages":[]}', None, b'{"model":"d-1","messages":[]}'),
        (b'{"messages":[]}', "m", b'{"model":"m","messages":[]}'),
        (b'{"messages":[], "model":"gpt-4o"}', None, b'{"messages":[], "model":"d-1"}'),
        (b'{"messages":[], "model":"gpt-4o"}', "m", b'{"messages":[], "model":"m"}'),
    ],
)
def test_a_call_of_azures_goes_to_openai_with_its_model_in_the_body(body, model, sent):
    """There the body decides, so the deployment's name, or the target's model, must stand in it."""
    assert OPENAI.outgoing(call(body, api_version="v"), model, False) == Outgoing("/chat/completions", sent)


def test_a_prompt_is_composed_for_a_deployment():
    """The path names it, the limit has the name that every deployment takes, and the call goes out as it was made."""
    made = AZURE.compose(Prompt(model="d 1", stream=True, turns=(Turn("user", (Text("hi"),)),), max_tokens=5))
    assert (made.dialect, made.path) == ("azure", "/openai/deployments/d%201/chat/completions")
    assert AZURE.outgoing(made, None, True) == Outgoing(made.path, made.body)
    assert json.loads(made.body)["max_completion_tokens"] == 5
    assert AZURE.read_prompt(made).turns == (Turn("user", (Text("hi"),)),)


FILTER = {"hate": {"filtered": False, "severity": "safe"}}


def test_azures_own_chunks_are_read():
    """The filter's verdicts on prompt and answer, with empty names, without choices or without a delta, are no tokens."""
    documents = [
        {"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": [{"prompt_index": 0, "x": FILTER}]},
        {"choices": [{"delta": {"content": "", "role": "assistant"}, "index": 0, "content_filter_results": {}}], "id": "c", "model": "m"},
        {"choices": [{"delta": {"content": "hi"}, "index": 0, "content_filter_results": FILTER}], "id": "c", "model": "m"},
        {"choices": [{"index": 0, "content_filter_offsets": {"check_offset": 1}, "content_filter_results": FILTER}], "id": "", "model": ""},
    ]
    parser, reader = AZURE.framing(call()).parser(), AZURE.reader(call())
    assert isinstance(parser, Parser)
    frames = [frame for document in documents for frame in parser.feed(b"data: " + json.dumps(document).encode() + b"\n\n")]
    assert [list(reader.events(frame)) for frame in frames] == [[], [Started("c", "m")], [Delta("text", "hi")], []]


def test_azures_errors_are_read():
    """The service's own shape, with a reason inside, and that of the management layer in front of it."""
    refused = {"error": {"message": "filtered", "code": "content_filter", "status": 400, "innererror": {"code": "Jailbreak"}}}
    assert AZURE.read_error(400, json.dumps(refused).encode()) == Failed("content_filter", "filtered")
    assert AZURE.read_error(429, b'{"statusCode":429,"message":"Rate limit is exceeded."}') == Failed("429", "Rate limit is exceeded.")
