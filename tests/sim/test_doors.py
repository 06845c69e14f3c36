"""One port for every dialect: how a request finds its provider, and what it gets there over a real socket."""

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from gateway.core.events import Usage
from gateway.dialects import DIALECTS
from gateway.sim import doors
from gateway.sim.faults import Always, ByModel, Status
from gateway.sim.tempers import Temper

Fixture = Callable[..., Any]
DOCUMENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "openai": ("/v1/chat/completions", {"model": "m", "messages": []}),
    "azure": ("/openai/deployments/m/chat/completions?api-version=2024-10-21", {"messages": []}),
    "openai-responses": ("/v1/responses", {"model": "m", "input": "hello"}),
    "anthropic": ("/v1/messages", {"model": "m", "max_tokens": 500, "messages": []}),
    "gemini": ("/v1beta/models/m:generateContent", {"contents": []}),
    "bedrock": ("/model/m/converse", {"messages": []}),
    "ollama": ("/api/chat", {"model": "m", "stream": False, "messages": []}),
}


def post(path: str, body: Any, headers: str = "") -> bytes:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    return f"POST {path} HTTP/1.1\r\nConnection: close\r\n{headers}Content-Length: {len(content)}\r\n\r\n".encode() + content


def get(path: str, headers: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n".encode()


@pytest.mark.parametrize(
    ("path", "dialect", "params"),
    [
        ("/v1/responses", "openai-responses", {}),
        ("/v1/messages", "anthropic", {}),
        ("/v1beta/models/gemini-2.5-flash:streamGenerateContent", "gemini", {"model": "gemini-2.5-flash"}),
        ("/v1/models/a:b:countTokens", "gemini", {"model": "a:b"}),
        ("/v1beta/tunedModels/mine:generateContent", "gemini", {"model": "tunedModels/mine"}),
        ("/model/arn%3Aaws%3Abedrock%2Fx/converse-stream", "bedrock", {"id": "arn:aws:bedrock/x"}),
        ("/model/anthropic.claude%3A0/invoke", "bedrock", {"id": "anthropic.claude:0"}),
        ("/openai/deployments/my%20one/embeddings", "azure", {"deployment": "my one"}),
        ("/api/generate", "ollama", {}),
    ],
)
def test_a_path_tells_its_dialect(path: str, dialect: str, params: dict[str, str]) -> None:
    """Each address leads to one door, and what its names stand for is decoded."""
    found = doors.find("POST", path)
    assert found is not None
    assert (found[0].dialect.name, found[1]) == (dialect, params)


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/nothing"), ("GET", "/v1/messages"), ("POST", "/model/a/b/converse")])
def test_what_leads_nowhere(method: str, path: str) -> None:
    """Another method, or a name over two segments, is no door."""
    assert doors.find(method, path) is None


def test_every_endpoint_of_every_dialect_is_a_door() -> None:
    """What the gateway serves, and so may ask an upstream for, the provider answers."""
    assert {door.dialect.name for door in doors.DOORS} == set(DIALECTS)
    assert len(doors.DOORS) == sum(len(dialect.endpoints) for dialect in DIALECTS.values())


async def test_base_urls_are_what_each_sdk_takes(serve: Fixture) -> None:
    """Only OpenAI's own have a path in theirs."""
    provider = await serve()
    root = f"http://127.0.0.1:{provider.port}"
    assert {name: provider.url(name).removeprefix(root) for name in DIALECTS} == dict.fromkeys(DIALECTS, "") | {
        "openai": "/v1",
        "openai-responses": "/v1",
    }


@pytest.mark.parametrize("name", DOCUMENTS)
async def test_documents_are_read_by_their_dialect(serve: Fixture, talk: Fixture, name: str) -> None:
    """The same seed says the same words in every dialect, as a document too."""
    provider = await serve()
    plain = orjson.loads((await talk(await serve(), post(*DOCUMENTS["openai"]))).body)["choices"][0]["message"]["content"]
    path, body = DOCUMENTS[name]
    got = await talk(provider, post(path, body))
    assert got.head.startswith("HTTP/1.1 200")
    found = doors.find("POST", path.partition("?")[0])
    assert found is not None
    call = doors.read_call(*found, path.partition("?")[2], orjson.dumps(body))
    events = found[0].dialect.read_document(call, got.body)
    assert "".join(event.text for event in events if hasattr(event, "text")) == plain
    assert [event.output for event in events if type(event) is Usage][-1] == 20


async def test_invoke_and_generate_as_documents(serve: Fixture, talk: Fixture) -> None:
    """A model's own form through Bedrock, and Ollama's without messages."""
    provider = await serve()
    invoked = orjson.loads((await talk(provider, post("/model/m/invoke", {"max_tokens": 4, "messages": []}))).body)
    assert (invoked["type"], invoked["stop_reason"], invoked["usage"]["output_tokens"]) == ("message", "max_tokens", 4)
    said = orjson.loads((await talk(provider, post("/api/generate", {"model": "m", "prompt": "x", "stream": False}))).body)
    assert said["response"]
    assert said["done"]


async def test_counts_and_embeddings(serve: Fixture, talk: Fixture) -> None:
    """What needs no words: how many tokens an input has, and vectors."""
    provider = await serve()
    counted = await talk(provider, post("/v1/messages/count_tokens", {"model": "m", "messages": ["x" * 400]}))
    assert orjson.loads(counted.body)["input_tokens"] > 100
    counted = await talk(provider, post("/v1beta/models/m:countTokens", {"contents": ["x" * 400]}))
    assert orjson.loads(counted.body)["totalTokens"] > 100
    embedded = await talk(provider, post("/api/embed", {"model": "m", "input": ["a", "b"]}))
    assert [len(vector) for vector in orjson.loads(embedded.body)["embeddings"]] == [16, 16]
    embedded = await talk(provider, post("/openai/deployments/m/embeddings?api-version=1", {"input": ["a", "b", "c"]}))
    assert len(orjson.loads(embedded.body)["data"]) == 3


@pytest.mark.parametrize(
    ("path", "headers", "names"),
    [
        ("/v1/models", "", lambda said: [row["id"] for row in said["data"] if row["object"] == "model"]),
        ("/v1/models", "anthropic-version: 2023-06-01\r\n", lambda said: [row["id"] for row in said["data"] if row["type"] == "model"]),
        ("/v1/models", "x-goog-api-key: k\r\n", lambda said: [row["displayName"] for row in said["models"]]),
        ("/v1beta/models", "", lambda said: [row["displayName"] for row in said["models"]]),
        ("/api/tags", "", lambda said: [row["name"] for row in said["models"]]),
        ("/openai/models?api-version=1", "", lambda said: [row["id"] for row in said["data"]]),
        ("/foundation-models", "", lambda said: [row["modelId"] for row in said["modelSummaries"]]),
    ],
)
async def test_models(serve: Fixture, talk: Fixture, path: str, headers: str, names: Callable[[Any], list[str]]) -> None:
    """Each dialect lists models in its own way; where two use one path, a header tells them apart."""
    got = await talk(await serve(models=("a", "b")), get(path, headers))
    assert names(orjson.loads(got.body)) == ["a", "b"]


@pytest.mark.parametrize(
    ("path", "headers", "dialect"),
    [
        ("/v1/nothing", "", "openai"),
        ("/v1/nothing", "anthropic-version: 2023-06-01\r\n", "anthropic"),
        ("/v1beta/nothing", "", "gemini"),
        ("/model/m/nothing", "", "bedrock"),
        ("/api/nothing", "", "ollama"),
        ("/openai/nothing", "", "azure"),
    ],
)
async def test_unknown_paths_are_404_in_their_dialect(serve: Fixture, talk: Fixture, path: str, headers: str, dialect: str) -> None:
    """What does not exist is told as the provider it was asked of tells it."""
    got = await talk(await serve(), post(path, {}, headers))
    assert got.head.startswith("HTTP/1.1 404")
    assert "No such endpoint" in DIALECTS[dialect].read_error(404, got.body).message


@pytest.mark.parametrize("name", DOCUMENTS)
async def test_what_is_no_request_is_400_in_its_dialect(serve: Fixture, talk: Fixture, name: str) -> None:
    """A body that is no JSON object, and a fault that does not exist, are the caller's."""
    provider = await serve()
    path, body = DOCUMENTS[name]
    assert (await talk(provider, post(path, b"[1]"))).head.startswith("HTTP/1.1 400")
    got = await talk(provider, post(path, body, "x-sim-fault: explode\r\n"))
    assert got.head.startswith("HTTP/1.1 400")
    assert "no such fault" in DIALECTS[name].read_error(400, got.body).message


@pytest.mark.parametrize("name", DOCUMENTS)
async def test_a_status_is_the_providers_own(serve: Fixture, talk: Fixture, name: str) -> None:
    """The error document is the dialect's, Retry-After is everybody's, and models choose faults in every dialect alike."""
    provider = await serve(faults=ByModel({"m": Status(429, retry_after=7)}))
    got = await talk(provider, post(*DOCUMENTS[name]))
    assert got.head.startswith("HTTP/1.1 429")
    assert "Retry-After: 7" in got.head
    assert DIALECTS[name].read_error(429, got.body).message == "Simulated status 429."
    assert (provider.requests[0].fault, provider.requests[0].ordinal) == ("status", 0)


async def test_streams_of_all_dialects_keep_the_same_times(serve: Fixture, talk: Fixture) -> None:
    """Over sockets too: no first token before its time, as many tokens, and one write for each moment of the plan."""
    provider = await serve(Temper(ttft="60ms", gap="5ms", tokens=5))
    asks = [
        post("/v1/chat/completions", {"model": "m", "stream": True}),
        post("/v1/responses", {"model": "m", "stream": True, "input": "x"}),
        post("/v1/messages", {"model": "m", "stream": True, "max_tokens": 50, "messages": []}),
        post("/v1beta/models/m:streamGenerateContent?alt=sse", {"contents": []}),
        post("/v1beta/models/m:streamGenerateContent", {"contents": []}),
        post("/model/m/converse-stream", {"messages": []}),
        post("/model/m/invoke-with-response-stream", {"max_tokens": 50, "messages": []}),
        post("/api/chat", {"model": "m", "messages": []}),
        post("/openai/deployments/m/chat/completions?api-version=1", {"stream": True}),
    ]
    async with asyncio.TaskGroup() as group:
        answers = [group.create_task(talk(provider, ask)) for ask in asks]
    assert all(answer.result().whole for answer in answers)
    for request in provider.requests:
        assert (request.outcome, request.tokens_sent) == ("completed", 5)
        assert request.first_token_at is not None
        assert request.first_token_at - request.at >= 0.059
        assert len(request.sent) == 6


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/responses", "text/event-stream; charset=utf-8"),
        ("/v1beta/models/m:streamGenerateContent", "application/json"),
        ("/model/m/converse-stream", "application/vnd.amazon.eventstream"),
        ("/api/chat", "application/x-ndjson"),
    ],
)
async def test_content_types(serve: Fixture, talk: Fixture, path: str, kind: str) -> None:
    """A stream says how it is framed."""
    body = {"model": "m", "stream": True, "input": "x", "messages": [], "contents": []}
    assert f"Content-Type: {kind}\r\n" in (await talk(await serve(), post(path, body))).head + "\r\n"


async def test_the_header_chooses_a_fault_in_any_dialect(serve: Fixture, talk: Fixture) -> None:
    """x-sim-fault holds for its request alone."""
    provider = await serve(faults=Always())
    got = await talk(provider, post("/v1/messages", DOCUMENTS["anthropic"][1] | {"stream": True}, "x-sim-fault: reset 2\r\n"))
    assert (got.ended, provider.requests[0].tokens_sent) == ("reset", 2)
    assert (await talk(provider, post(*DOCUMENTS["anthropic"]))).head.startswith("HTTP/1.1 200")
