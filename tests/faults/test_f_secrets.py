"""Canaries in every place where a secret or a prompt may be, and every fault told at DEBUG: none is found anywhere but where it belongs."""

import asyncio
import re
import sqlite3
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import orjson
import pytest
from aiohttp import web
from click.testing import CliRunner

from gateway.cli import main
from gateway.config import ConfigErrors, load, parse
from gateway.core.answer import fold
from gateway.core.prompt import Prompt, Text, Turn
from gateway.dialects import DIALECTS
from gateway.logs import blunder
from gateway.sim.faults import ByModel, ErrorEvent, GarbageFrame, ResetAfter, Silent, Status, Truncate
from gateway.sim.provider import Provider
from gateway.sim.tempers import INSTANT
from tests.rig.client import Client
from tests.rig.makers import Makers
from tests.stories.conftest import Receiver, Weir, eventually

TOP = Path(__file__).parents[2]
LOUD = """
import logging
configure = logging.basicConfig
logging.basicConfig = lambda **said: configure(**{**said, "level": logging.DEBUG})
"""
PROMPT = "canary-prompt-of-a-user"
CALLERS = {
    "Authorization": "Bearer canary-caller-1",
    "x-api-key": "canary-caller-2",
    "api-key": "canary-caller-3",
    "x-goog-api-key": "canary-caller-4",
    "Cookie": "session=canary-caller-5",
    "Proxy-Authorization": "Basic canary-caller-6",
    "X-Amz-Security-Token": "canary-caller-7",
}
ECHO = f"invalid key canary-key-NAME: it said {PROMPT!r}"


def faults(dialect: str) -> dict[str, Any]:
    """Return what goes wrong by model: each provider repeats what it was sent, the key and the prompt, as bad ones do."""
    echo = ECHO.replace("NAME", dialect)
    code = echo if dialect.startswith("openai") else "server_error"
    said = orjson.dumps({"error": {"message": echo, "code": echo, "type": echo}, "message": echo}).decode()
    return {
        "refused": Status(401, body=said),
        "broken": Status(500, body=said),
        "elsewhere": Status(302, body=said, headers={"Location": f"http://127.0.0.1/?key=canary-key-{dialect}"}),
        "reported": ErrorEvent(2, message=echo, code=code),
        "reported-first": ErrorEvent(message=echo, first=True, code=code),
        "truncated": Truncate(2),
        "reset": ResetAfter(2),
        "garbage": GarbageFrame(1),
        "silent": Silent(),
    }


class Site:
    """The whole program between providers that repeat secrets and clients that bring some; `answers` is all that clients got."""

    def __init__(self, weir: Weir, folder: Path, collector: Receiver) -> None:
        self.weir, self.folder, self.collector = weir, folder, collector
        self.answers: list[bytes] = []
        self.words: dict[str, bytes] = {}
        self.texts: list[str] = []
        self.calls = 0
        self.table: dict[str, bytes] = {}

    async def say(self, request: bytes, port: int | None = None) -> Client:
        """Send bytes to the data port, and keep what comes back, or to another."""
        host, own = self.weir.address
        _, client = await asyncio.get_running_loop().create_connection(Client, host, port or own)
        await client.ask(request).finish()
        client.transport.abort()
        if port is None:
            self.answers.append(client.raw)
        return client

    async def call(self, dialect: str, model: str, stream: bool) -> None:
        prompt = Prompt(model=model, stream=stream, turns=(Turn("user", (Text(PROMPT),)),), max_tokens=50)
        call, request = Makers.call(dialect, prompt, CALLERS)
        client = await self.say(
            request.replace(b" HTTP/1.1", (b"&" if b"?" in call.path.encode() else b"?") + b"key=canary-caller-8 HTTP/1.1", 1)
        )
        self.calls += 1
        if model == "fine":
            self.texts.append(fold(Makers.heard(call, client.body)).text)

    async def told(self) -> dict[str, bytes]:
        """Return everything the program has told anyone but its clients, by where it was told."""
        async with httpx.AsyncClient(base_url=self.weir.admin_url, headers={"Authorization": "Bearer canary-token"}) as admin:

            async def whole() -> bool:
                page = (await admin.get("/api/streams?limit=1000")).json()["streams"]
                return len([row for row in page if row["state"] == "ended"]) >= self.calls

            await eventually(whole, "every call is stored")
            paths = ["/metrics", "/healthz", "/api/routes", "/api/streams?limit=1000", "/", "/nowhere", "/api/streams/none"]
            rows = (await admin.get("/api/streams?limit=1000")).json()["streams"]
            paths += [f"/api/streams/{row['stream_id']}" for row in rows] + [f"/api/traces/{row['trace_id']}" for row in rows[:5]]
            said = {path: (await admin.get(path)).content for path in paths}
            self.words = {row["stream_id"]: (await admin.get(f"/api/streams/{row['stream_id']}/content")).content for row in rows}
            said["openmetrics"] = (await admin.get("/metrics", headers={"Accept": "application/openmetrics-text"})).content
            said["refused"] = (await admin.get("/metrics", headers={"Authorization": "Bearer canary-wrong"})).content
        await eventually(lambda: len(self.collector.spans) >= self.calls, "every span is exported")
        assert await self.weir.stop() == 0
        said["spans"] = "\n".join(map(str, self.collector.spans)).encode()
        said["stdout"], said["stderr"] = self.weir.out.encode(), self.weir.err.encode()
        said |= {
            path.name: path.read_bytes() for path in self.folder.iterdir() if path.suffix not in {".yaml", ".py", ".pem"} and path.is_file()
        }
        said["rows"] = repr(sqlite3.connect(self.folder / "weir.db").execute("SELECT * FROM streams").fetchall()).encode()
        self.table = dict(sqlite3.connect(self.folder / "weir.db").execute("SELECT stream_id, content FROM contents").fetchall())
        del said["key.txt"]
        return said


def configured(providers: dict[str, Provider], collector: Receiver, content: str = "off") -> dict[str, Any]:
    """Return a configuration with a secret wherever there may be one."""
    upstreams: dict[str, Any] = {}
    for name, provider in providers.items():
        upstreams[name] = {"dialect": name, "base_url": provider.url(name), "api_key": f"${{{variable(name)}}}"}
        upstreams[name]["headers"] = {"X-Added": "canary-added"}
    upstreams["anthropic"]["api_key"] = "file:key.txt"
    del upstreams["bedrock"]["api_key"]
    upstreams["bedrock"]["aws"] = {
        "region": "eu-west-1",
        "access_key_id": "canary-aws-id",
        "secret_access_key": "canary-aws-secret",
        "session_token": "canary-aws-session",
    }
    patience = {"content": content, "stall": {"liveness": "2s", "progress": "5s"}, "retry": {"attempts": 1}, "breaker": {"failures": 1000}}
    routes = [
        {"name": name, "match": {"models": ["*"], "dialects": [name]}, "targets": [{"upstream": name}], **patience} for name in providers
    ]
    return {
        "version": 1,
        "server": {"port": 0, "drain": "1s"},
        "admin": {"port": 0, "token": "${ADMIN}"},
        "upstreams": upstreams,
        "routes": routes,
        "telemetry": {
            "store": {"path": "weir.db"},
            "access_log": "access.log",
            "otlp": {"endpoint": collector.url, "headers": {"X-Key": "canary-otlp"}},
        },
    }


def variable(name: str) -> str:
    """Return the environment variable that holds an upstream's key."""
    return f"KEY_{name.upper().replace('-', '_')}"


def environment(folder: Path) -> dict[str, str]:
    keys = {variable(name): f"canary-key-{name}" for name in DIALECTS}
    return {"ADMIN": "canary-token", "PYTHONPATH": f"{folder}:{TOP}", **keys}


@pytest.fixture
async def site(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    """The program at DEBUG, seven providers, a collector; every route keeps as much content as the parameter says."""
    collector = Receiver()
    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/v1/traces", collector.traces)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    providers = {name: Provider(msgspec.structs.replace(INSTANT, tokens=8), ByModel(faults(name))) for name in DIALECTS}
    for provider in providers.values():
        await provider.start()
    (tmp_path / "sitecustomize.py").write_text(LOUD)
    (tmp_path / "key.txt").write_text("canary-key-anthropic\n")
    (tmp_path / "routes.yaml").write_bytes(orjson.dumps(configured(providers, collector, getattr(request, "param", "off"))))
    weir = Weir(tmp_path, ["serve", "-c", "routes.yaml"], environment(tmp_path))
    yield Site(await weir.listening(), tmp_path, collector)
    await weir.finish()
    for provider in providers.values():
        await provider.close()
    await runner.cleanup()


BROKEN = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer canary-caller-9\x00\r\n\r\n",
    b"POST /v1/chat?key=canary-caller-9 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{}",
    b"GET /v1/realtime?model=x&key=canary-caller-9 HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: canary-caller-9\r\n\r\n",
    b'POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 33\r\n\r\n{"canary-prompt-of-a-user": ["xyz',
    b"canary-caller-9\r\n\r\n",
)


async def every_fault(site: Site) -> None:
    """Make every call there is to every provider."""
    for dialect in DIALECTS:
        await asyncio.gather(
            *(
                site.call(dialect, model, stream)
                for model in ("fine", *faults(dialect))
                for stream in (True, False)
                if stream or model != "silent"
            )
        )


def nowhere(said: dict[str, bytes], texts: list[str]) -> None:
    """Check that nothing that was told has a secret, a prompt or one of these answers in it."""
    for where, text in said.items():
        if found := re.search(rb"canary[-\w]*", text):
            pytest.fail(f"{found[0]!r} in {where}: ...{text[max(0, found.start() - 200) : found.end() + 50]!r}")
    assert min(map(len, texts)) > 20
    for answer in set(texts):
        assert not [where for where, text in said.items() if answer.encode() in text or " ".join(answer.split()[:4]).encode() in text]


async def test_no_secret_is_told_anywhere(site: Site) -> None:
    """All dialects and faults, at DEBUG: no key, token, cookie, prompt or answer is in any log, span, metric, row or page (F1 F5)."""
    await every_fault(site)
    admin = int(site.weir.admin_url.rpartition(":")[2])
    for data in BROKEN:
        await site.say(data)
        await site.say(data, admin)
    site.calls += 2  # the realtime session and the body that is no JSON have records too
    said = await site.told()
    assert b" DEBUG " in said["stderr"]
    nowhere(said, site.texts)
    assert site.table == {}
    assert {orjson.loads(answer)["error"] for answer in site.words.values()} == {"content is off for this route"}
    answers = b"".join(site.answers)
    assert not re.search(rb"canary-(caller|token|otlp|added|aws)", answers)
    assert b"invalid key" in answers, "the providers did repeat their keys"
    refusals = [answer for answer in site.answers if answer.startswith((b"HTTP/1.1 401", b"HTTP/1.1 500"))]
    assert len(refusals) >= 2 * len(DIALECTS)
    assert not [answer for answer in refusals if re.search(rb"canary-key-(?!bedrock)", answer)]


@pytest.mark.parametrize("site", ["full"], indirect=True)
async def test_words_that_are_kept_are_in_one_place(site: Site) -> None:
    """With content kept, prompts and answers are in the table of contents and the one answer that shows them, and nowhere else (F1 F5)."""
    await every_fault(site)
    nowhere(await site.told(), site.texts)
    assert len(site.table) == len(site.words) == site.calls
    for stream_id, kept in site.table.items():
        text = zlib.decompress(kept)
        assert orjson.loads(site.words[stream_id]).items() >= orjson.loads(text).items()
        assert PROMPT.encode() in text
        assert set(re.findall(rb"canary-(?:key|caller|token|otlp|added|aws)[-\w]*", text)) == set(), "no header, no credential"
    kept_texts = {orjson.loads(zlib.decompress(kept))["text"] for kept in site.table.values()}
    assert set(site.texts) <= kept_texts


def test_the_commands_tell_no_secret(tmp_path: Path) -> None:
    """What `weir check` and `weir explain` say of a configuration has none of its secrets in it, nor has anything that shows it (F1)."""
    providers = {name: Provider() for name in DIALECTS}
    for provider in providers.values():
        provider.host, provider.port = "127.0.0.1", 9
    collector = Receiver()
    collector.url = "http://127.0.0.1:4318"
    (tmp_path / "key.txt").write_text("canary-key-anthropic\n")
    (tmp_path / "routes.yaml").write_bytes(orjson.dumps(configured(providers, collector)))
    environ = environment(tmp_path)
    for command in (["check"], ["check", "--schema"], ["explain", "gpt-4o"]):
        ran = CliRunner().invoke(
            main, [*command, *(["-c", str(tmp_path / "routes.yaml")] if "--schema" not in command else [])], env=environ
        )
        assert ran.exit_code == 0
        assert ran.output
        assert "canary" not in ran.output
    config = load(tmp_path / "routes.yaml", environ)
    shown = [repr(config), str(config), repr(config.upstreams), repr(config.telemetry), repr(config.admin), config.hash]
    assert "canary" not in "".join(shown)
    assert config.upstreams["anthropic"].api_key is not None
    assert config.upstreams["anthropic"].api_key.get_secret_value() == "canary-key-anthropic"


MISTAKES = (
    "base_url: http://canary:canary@127.0.0.1/v1",
    "base_url: http://127.0.0.1/v1?key=canary",
    "base_url: 'http://127.0.0.1/v1 canary'",
    "{base_url: http://127.0.0.1/v1, api_key: [canary]}",
    "{base_url: http://127.0.0.1/v1, api_key: {canary: 1}}",
    "{base_url: http://127.0.0.1/v1, api_key: 'can ary canary'}",
    '{base_url: http://127.0.0.1/v1, headers: {X-A: "canary\\r\\nX-B: c"}}',
    "{base_url: http://127.0.0.1/v1, headers: {X-A: [canary]}}",
    "{base_url: http://127.0.0.1/v1, headers: {Content-Length: canary}}",
    "{base_url: http://127.0.0.1/v1, dialect: bedrock, aws: {access_key_id: canary}}",
    "{base_url: http://127.0.0.1/v1, dialect: bedrock, aws: {secret_access_key: [canary], access_key_id: canary}}",
)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_configuration_is_told_without_its_value(mistake: str) -> None:
    """Credentials in a URL are refused, and no message of what is wrong repeats what stands there (F1)."""
    place = mistake if mistake.startswith("{") else "{" + mistake + "}"
    with pytest.raises(ConfigErrors) as caught:
        parse(f"upstreams:\n  a: {place}\nroutes: [{{name: r, targets: [{{upstream: a}}]}}]\n", environ={})
    assert str(caught.value)
    assert "canary" not in str(caught.value)


def test_an_exception_is_told_without_its_words() -> None:
    """A line in the log names its type and where it came up, its cause too, and nothing that it says (F1)."""

    def deep() -> None:
        try:
            int("canary")
        except ValueError as error:
            raise KeyError("canary") from error

    with pytest.raises(KeyError) as caught:
        deep()
    line = blunder(caught.value)
    assert re.fullmatch(r"KeyError at test_f_secrets\.py:\d+ in deep < test_f_secrets\.py:\d+ in \w+; from ValueError at .* in deep", line)
    assert blunder(OSError(28, "No space left on device")) == "OSError (No space left on device) at a place unknown"
