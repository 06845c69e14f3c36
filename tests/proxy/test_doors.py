"""Every door of every dialect leads somewhere, and before every other path somebody says what is wrong in words an SDK can show."""

from typing import Any

import orjson
import pytest

from gateway.dialects import DIALECTS

TURN = [{"role": "user", "content": "hello"}]
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}
CONVERSE = {"messages": [{"role": "user", "content": [{"text": "hello"}]}]}
INVOKE = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": TURN}
BODIES: dict[str, dict[str, Any]] = {
    "openai": {"model": "m", "messages": TURN, "prompt": "hello", "input": "hello"},
    "azure": {"messages": TURN, "prompt": "hello", "input": "hello"},
    "openai-responses": {"model": "m", "input": "hello"},
    "anthropic": {"model": "m", "max_tokens": 9, "messages": TURN},
    "gemini": CONTENTS,
    "bedrock": CONVERSE | INVOKE,
    "ollama": {"model": "m", "messages": TURN, "prompt": "hello", "input": "hello", "stream": False},
}
"""What each dialect's doors take: a dialect without a body here fails the build."""
DOORS = [(dialect.name, endpoint.method, endpoint.path) for dialect in DIALECTS.values() for endpoint in dialect.endpoints]


def body_for(dialect: str, path: str) -> bytes:
    body = BODIES[dialect]
    if dialect == "bedrock":
        body = INVOKE if "invoke" in path else CONVERSE
    return orjson.dumps(body)


@pytest.mark.parametrize("door", DOORS)
async def test_every_door_leads_to_an_upstream(provide: Any, gate: Any, make: Any, door: tuple[str, str, str]) -> None:
    """A call at each is answered by an upstream of its own dialect, and recorded as that dialect's (G6)."""
    dialect, method, path = door
    assert method == "POST"
    weir = await gate(await provide(), dialects=[dialect])
    for name in ("model", "id", "deployment"):
        path = path.replace(f"{{{name}}}", "m")
    request = make.post(body_for(dialect, path), path, {"Content-Type": "application/json"})
    client = await (await weir.client()).ask(request).finish()
    assert (client.status, client.complete) == (200, True)
    record = await weir.record()
    assert (record.outcome, record.dialect, record.asked_model) == ("completed", dialect, "m")


async def test_a_model_may_have_a_slash_in_its_name(provide: Any, gate: Any, make: Any) -> None:
    """As boto3 encodes an ARN: it is one segment of the path, and goes out as it came in."""
    provider = await provide()
    weir = await gate(provider, dialects=["bedrock"])
    path = "/model/arn%3Aaws%3Abedrock%3Aeu%3A1%3Ainference-profile%2Fm/converse"
    client = await (await weir.client()).ask(make.post(orjson.dumps(CONVERSE), path)).finish()
    assert client.status == 200
    assert (await weir.record()).asked_model == "arn:aws:bedrock:eu:1:inference-profile/m"
    assert provider.requests[-1].path == path


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/v1/nothing", "openai"),
        ("/v1/messages/batches", "anthropic"),
        ("/v1beta/models/m:predict", "gemini"),
        ("/api/push", "ollama"),
        ("/model/m/start", "bedrock"),
        ("/openai/deployments/m/images", "azure"),
    ],
)
async def test_an_unknown_path_is_told_in_the_nearest_dialect(gate: Any, provide: Any, make: Any, path: str, dialect: str) -> None:
    """404, and the SDK that asked can show why."""
    weir = await gate(await provide())
    client = await (await weir.client()).ask(make.post(b"{}", path)).finish()
    assert client.status == 404
    assert path in DIALECTS[dialect].read_error(404, client.body).message


async def test_a_wrong_method_is_told_the_right_one(gate: Any, provide: Any) -> None:
    """405 with Allow."""
    weir = await gate(await provide())
    client = (await weir.client()).ask(b"DELETE /v1/chat/completions HTTP/1.1\r\nHost: x\r\n\r\n")
    await client.finish()
    assert (client.status, client.headers["allow"]) == (405, "POST")


async def test_a_websocket_where_there_is_none_is_refused_at_once(gate: Any, provide: Any, make: Any) -> None:
    """501 instead of a connection that hangs."""
    weir = await gate(await provide())
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    client = (await weir.client()).ask(make.post(b"", "/v1/chat/completions", headers))
    await client.finish()
    assert client.status == 501


@pytest.mark.parametrize(
    ("path", "headers", "where"),
    [
        ("/v1/models", {}, lambda said: [model["id"] for model in said["data"]]),
        (
            "/v1/models",
            {"anthropic-version": "2023-06-01"},
            lambda said: [model["id"] for model in said["data"] if model["type"] == "model"],
        ),
        ("/v1/models", {"x-goog-api-key": "k"}, lambda said: [model["name"].removeprefix("models/") for model in said["models"]]),
        ("/v1beta/models", {}, lambda said: [model["name"].removeprefix("models/") for model in said["models"]]),
        ("/api/tags", {}, lambda said: [model["name"] for model in said["models"]]),
    ],
)
async def test_the_models_are_listed_for_every_client(gate: Any, provide: Any, path: str, headers: Any, where: Any) -> None:
    """Each asks on its own path, or shares one and is known by its headers; HEAD works as GET does."""
    weir = await gate(await provide(), match={"models": ["one", "two"]})
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    client = await (await weir.client()).ask(f"GET {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode()).finish()
    assert (client.status, where(client.document)) == (200, ["one", "two"])


async def test_ollamas_clients_learn_its_version(gate: Any, provide: Any) -> None:
    """Open WebUI compares it number by number."""
    weir = await gate(await provide())
    client = await (await weir.client()).ask(b"GET /api/version HTTP/1.1\r\nHost: x\r\n\r\n").finish()
    assert all(part.isdecimal() for part in client.document["version"].split("."))


@pytest.mark.parametrize(("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)])
async def test_a_page_of_another_site(provide: Any, gate: Any, site: str, status: int) -> None:
    """A browser says whose page makes a request: one of another site may not spend the operator's money, unless it is open (F2)."""
    provider = await provide()
    weir = await gate(provider)
    client = await weir.fetch({"Sec-Fetch-Site": site, "Content-Type": "text/plain"})
    assert (client.status, provider.total) == (status, int(status == 200))
    opened = await gate(provider, server={"open": True})
    assert (await opened.fetch({"Sec-Fetch-Site": site})).status == 200
