"""Bedrock's doors, addresses, credential and errors."""

import json

import pytest

from gateway.core.call import Call
from gateway.core.errors import GatewayError, Rejected, UpstreamStalled
from gateway.core.events import Failed
from gateway.core.prompt import Prompt
from gateway.dialects.base import Asked, Endpoint, Stamp
from gateway.dialects.bedrock import BEDROCK
from gateway.wire.eventstream import Parser
from gateway.wire.framing import Frame

CONVERSE_STREAM, CONVERSE, INVOKE_STREAM, INVOKE = BEDROCK.endpoints
NOVA = "amazon.nova-lite-v1:0"
ARN = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-x-v1:0"
ESCAPED = "arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fus.anthropic.claude-x-v1%3A0"


def parse(endpoint: Endpoint, body: object, model: str = NOVA) -> Call:
    return BEDROCK.parse_call(endpoint, body if isinstance(body, bytes) else json.dumps(body).encode(), Asked({"id": model}))


@pytest.mark.parametrize(
    ("endpoint", "operation", "stream", "verb"),
    [
        (CONVERSE_STREAM, "chat", True, "converse-stream"),
        (CONVERSE, "chat", False, "converse"),
        (INVOKE_STREAM, "text_completion", True, "invoke-with-response-stream"),
        (INVOKE, "text_completion", False, "invoke"),
    ],
)
@pytest.mark.parametrize(("model", "path"), [(NOVA, "amazon.nova-lite-v1%3A0"), (ARN, ESCAPED)])
def test_the_door_says_whether_to_stream_and_the_path_says_the_model(endpoint, operation, stream, verb, model, path):
    """A model's id may be an ARN: its slash must not end it. Escaped or not, it is the same model, sent escaped."""
    for said in (model, path):
        call = parse(endpoint, {"messages": []}, said)
        assert (call.model, call.operation, call.stream) == (model, operation, stream)
        assert call.path == f"/model/{path}/{verb}"


@pytest.mark.parametrize(
    "body",
    [
        {"inferenceConfig": {"maxTokens": 9, "temperature": 0.5, "topP": 1}},
        {"textGenerationConfig": {"maxTokenCount": 9, "temperature": 0.5, "topP": 1}},
        {"max_tokens": 9, "temperature": 0.5, "top_p": 1},
        {"max_gen_len": 9, "temperature": 0.5, "p": 1},
        {"max_tokens_to_sample": 9, "temperature": 0.5, "top_p": 1.0, "seed": None},
        {"max_tokens": 9, "temperature": 0.5, "top_p": 1.0, "prompt": "\ud83d"},
    ],
)
def test_sampling_is_read_where_each_family_puts_it(body):
    """For the record only: nothing of it is sent on but the body itself."""
    call = parse(INVOKE, body)
    assert (call.max_tokens, call.temperature, call.top_p, call.seed) == (9, 0.5, 1.0, None)


@pytest.mark.parametrize("config", [7, [], {"maxTokens": "9", "temperature": "hot", "topP": True}])
def test_a_wrong_type_is_not_ours_to_refuse(config):
    """What is not read is the upstream's to judge."""
    call = parse(CONVERSE, {"inferenceConfig": config})
    assert (call.max_tokens, call.temperature, call.top_p) == (None, None, None)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_refused(body):
    """Bedrock would do so too."""
    with pytest.raises(Rejected):
        parse(CONVERSE_STREAM, body)


def test_a_call_without_a_model_is_refused():
    """The path must name one."""
    with pytest.raises(Rejected, match="no model"):
        parse(CONVERSE, {}, "")


def test_another_model_changes_the_path_and_no_byte_of_the_body():
    """The model is in the path and only there; usage comes unasked."""
    body = b'{ "messages":[] ,"x":1.0}'
    call = parse(CONVERSE_STREAM, body)
    assert not BEDROCK.injects_usage(call)
    same, other = BEDROCK.outgoing(call, None, True), BEDROCK.outgoing(call, ARN, True)
    assert (same.path, same.body) == (call.path, body)
    assert (other.path, other.body) == (f"/model/{ESCAPED}/converse-stream", body)
    assert same.headers == (("Accept", "application/vnd.amazon.eventstream"),)
    assert BEDROCK.outgoing(parse(INVOKE, body), None, False).headers == ()


@pytest.mark.parametrize("model", ["", ".", "..", "%2E%2e"])
def test_a_step_in_the_path_is_no_model(model):
    """It would lead to another door of the upstream."""
    with pytest.raises(Rejected):
        parse(CONVERSE, {}, model)


def test_a_model_of_half_a_character_has_a_path():
    """Another dialect's clients name models in JSON."""
    prompt = Prompt(model="m\ud83d", stream=True)
    assert BEDROCK.compose(prompt).path == "/model/m%3F/converse-stream"


def test_a_bedrock_api_key_is_a_bearer_token():
    """As the user guide says; signatures are made elsewhere."""
    assert BEDROCK.credential("k") == {"Authorization": "Bearer k"}


def test_nothing_can_be_said_between_two_messages():
    """No message means nothing, no suffix ends one, and nothing is ever injected."""
    framing = BEDROCK.framing(parse(CONVERSE_STREAM, {}))
    assert (framing.keepalive, framing.ending, BEDROCK.usage_mark) == (b"", b"", b"")
    assert framing.media_type == "application/vnd.amazon.eventstream"
    assert BEDROCK.models_paths == ()
    assert not BEDROCK.is_usage_frame(Frame(b"", b"{}", "metadata"))
    assert not BEDROCK.refuses_usage(400, b"usage")


@pytest.mark.parametrize(
    ("terminated", "finish", "complete"), [(False, [], False), (False, ["end_turn"], True), (True, ["end_turn"], True), (True, [], True)]
)
def test_an_answer_is_complete_when_the_message_has_stopped(terminated, finish, complete):
    """Metadata that never came is a gap in the account, not in the answer."""
    assert BEDROCK.complete(terminated, finish) is complete


@pytest.mark.parametrize(
    ("status", "body", "failed"),
    [
        (400, b'{"message":"bad"}', Failed("ValidationException", "bad")),
        (403, b'{"Message":"no access"}', Failed("AccessDeniedException", "no access")),
        (429, b'{"message":null}', Failed("ThrottlingException", "")),
        (400, b'{"__type":"com.amazon.coral#UnknownOperationException"}', Failed("UnknownOperationException", "")),
        (400, b'{"__type":"ValidationException:http://x","message":"m"}', Failed("ValidationException", "m")),
        (502, b"<html>Bad Gateway</html>", Failed("upstream_error", "<html>Bad Gateway</html>")),
        (599, b"", Failed("upstream_error", "")),
        (500, b"[]", Failed("InternalServerException", "")),
    ],
)
def test_an_error_answer_is_read_in_any_body(status, body, failed):
    """Bedrock names its errors in a header; the status says the same."""
    assert BEDROCK.read_error(status, body) == failed


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (Rejected("no"), "validationException"),
        (GatewayError("no", status=429), "throttlingException"),
        (GatewayError("no"), "internalServerException"),
        (GatewayError("no", status=503), "serviceUnavailableException"),
        (UpstreamStalled("no"), "modelStreamErrorException"),
    ],
)
def test_an_error_in_a_stream_is_an_exception_message(error, name):
    """One that the SDKs raise, whoever says it."""
    call = parse(CONVERSE_STREAM, {})
    said = BEDROCK.error_event(error, call, begun=False)
    assert said == BEDROCK.error_event(error, call, begun=True) == BEDROCK.writer(call, Stamp("a", 0)).fail(error)
    (frame,) = Parser().feed(said)
    assert frame.name == "exception:" + name
    assert json.loads(frame.data)["message"] == "no"


def test_an_error_answer_is_named_as_bedrock_names_it():
    """In the body, where SDKs look when no header names it."""
    assert json.loads(BEDROCK.error_body(GatewayError("n\ud83d", status=429))) == {"__type": "ThrottlingException", "message": "n\ud83d"}


def test_models_are_summaries():
    """As ListFoundationModels gives them."""
    (model,) = json.loads(BEDROCK.models_document(["m"], 0))["modelSummaries"]
    assert (model["modelId"], model["modelArn"]) == ("m", "arn:aws:bedrock:::foundation-model/m")
