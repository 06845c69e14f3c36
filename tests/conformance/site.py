"""What the SDKs are run against: simulated providers in a thread, one `weir serve` in front of them, and what both can tell afterwards."""

import asyncio
import random
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import orjson
from msgspec import Struct

from gateway.dialects import DIALECTS
from gateway.sim import children
from gateway.sim.drafts import Draft, Prompt
from gateway.sim.faults import NO_FAULTS, Always, ErrorEvent, Fault, Status
from gateway.sim.player import Request
from gateway.sim.provider import Provider
from gateway.sim.tempers import Temper
from tests.conformance.outcome import Asked

T = TypeVar("T")
PATIENCE = 20.0
PROBLEM = "The sluice is jammed."
KEEPALIVE = "250ms"
CLOCKS = 0.005
"""Seconds by which wall clock and monotonic clock may seem to disagree."""
TROUBLE = ("Traceback", "never retrieved", "was destroyed but", "Unclosed")
BASE_PATHS: Mapping[str, str] = {
    "openai": "/v1",
    "openai-responses": "/v1",
    "anthropic": "",
    "gemini": "",
    "bedrock": "",
    "ollama": "",
    "azure": "",
}
"""Every target dialect, and what its upstreams' base URLs end with."""
PATHS: Mapping[str, str | tuple[str, ...]] = {
    "openai": "/v1/chat/completions",
    "openai-responses": "/v1/responses",
    "anthropic": "/v1/messages",
    "gemini": ("/v1beta/models/", "/v1/models/"),
    "bedrock": "/model/",
    "ollama": "/api/chat",
    "azure": "/openai/deployments/",
}
"""How the paths begin that their requests must come to."""
TARGETS = tuple(BASE_PATHS)
MODELS: Mapping[str, str] = {
    **dict.fromkeys(("openai", "openai-responses", "azure"), "gpt-5-mini"),
    "anthropic": "claude-sonnet-4-5",
    "gemini": "gemini-2.5-flash",
    "ollama": "qwen3:8b",
    "bedrock": "eu.anthropic.claude-sonnet-4-5-20250929-v1:0",
}
"""Models that upstreams are asked for: some things are said otherwise, or not at all, to models that are not known for them."""
_QUICK = Temper(ttft=0, gap="500us", tokens=20, cached=7)
TEMPERS: Mapping[str, tuple[Temper, Fault | None]] = {
    "words": (_QUICK, None),
    "thoughts": (Temper(ttft=0, gap="500us", tokens=12, reasoning=8), None),
    "tools": (Temper(ttft=0, gap="500us", tokens=24, speech="tools"), None),
    "broken": (_QUICK, ErrorEvent(after=4, code="server_error", message=PROBLEM)),
    "busy": (_QUICK, Status(429, retry_after=1)),
    "slow": (Temper(ttft=0, gap="50ms", tokens=400), None),
    "late": (Temper(ttft="800ms", gap=0, tokens=20), None),
}
"""One provider each. Models are called `words.to-anthropic`: what is said, and in which dialect Weir has to ask for it."""


def routes(ports: Mapping[str, int], store: str) -> dict[str, Any]:
    """Return the configuration: a route and an upstream for every temper and every target dialect."""
    pairs = [(temper, target) for temper in TEMPERS for target in TARGETS if target in DIALECTS]
    return {
        "version": 1,
        "server": {"port": 0, "drain": "2s", "keepalive": KEEPALIVE},
        "admin": {"port": 0},
        "upstreams": {
            f"{temper}-{target}": {"dialect": target, "base_url": f"http://127.0.0.1:{ports[temper]}{BASE_PATHS[target]}", "api_key": "k"}
            for temper, target in pairs
        },
        "routes": [
            {
                "name": f"{temper}-{target}",
                "match": {"models": [f"{temper}.to-{target}"]},
                "targets": [{"upstream": f"{temper}-{target}", "model": MODELS[target]}],
                "first_token": {"timeout": "10s", "on_slow": "wait"},
                "retry": {"attempts": 1},
                "breaker": {"failures": 10_000},
            }
            for temper, target in pairs
        ],
        "telemetry": {"store": {"path": store}, "access_log": "off"},
    }


def eventually(ask: Callable[[], T], what: str) -> T:
    """Return the first answer that is true; raise TimeoutError when none came in time."""
    deadline = time.monotonic() + PATIENCE
    while not (answer := ask()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {PATIENCE:.0f} s: {what}")
        time.sleep(0.01)
    return answer


class Said(Struct, frozen=True):
    """What a provider meant to say: `pieces` chunks of `text` and `reasoning`, `calls` as (name, arguments), and its own token counts."""

    text: str
    reasoning: str
    calls: list[tuple[str, str]]
    pieces: int
    input: int
    output: int


class Site:
    """A running Weir and the providers behind it. `requests` may be read from any thread: providers only ever append to them."""

    def __init__(self, providers: Mapping[str, Provider], url: str, admin_url: str) -> None:
        self.providers, self.url = providers, url
        self._admin = httpx.Client(base_url=admin_url, timeout=PATIENCE, trust_env=False)

    def request(self, mark: str) -> Request:
        """Return the one upstream request whose body holds `mark`."""
        (found,) = (r for provider in self.providers.values() for r in provider.requests if mark.encode() in r.body)
        return found

    def said(self, asked: Asked) -> Said:
        """Draw once more the answer that this question was given."""
        request = self.request(asked.text)
        assert request.ordinal is not None
        provider = next(one for one in self.providers.values() if request in one.requests)
        dice = random.Random(f"{provider.seed}/answer/{request.ordinal}")
        count = max(1, len(request.body) // 4)
        draft = Draft(Prompt(path="", model="", max_tokens=asked.max_tokens, input_tokens=count), request.ordinal, dice, "")
        draft.compose(provider.temper.draw(dice), provider.temper.speech, provider.temper.tokens_per_chunk)
        openings = [piece for piece in draft.pieces if piece.kind == "opening"]
        calls = [("measure_flow", draft.written("arguments", opening.index)) for opening in openings]
        pieces = sum(piece.kind != "opening" for piece in draft.pieces)
        return Said(draft.written("text"), draft.written("reasoning"), calls, pieces, count, draft.tokens)

    def eventually(self, ask: Callable[[], T], what: str) -> T:
        return eventually(ask, what)

    def outcome(self, route: str, request: Request) -> str:
        """Wait until the stream that made this upstream request is stored, and return its outcome; routes are asked one at a time."""
        # The calendar is asked last: were it asked first and we held up in between, our own row would seem to lie in the future.
        at = request.at - time.monotonic() + time.time() + CLOCKS  # noqa: TID251  rows are told by the calendar

        def stored() -> list[dict[str, Any]]:
            rows = self._admin.get("/api/streams", params={"route": route, "limit": 100}).json()["streams"]
            before = [row for row in rows if row["received"] <= at]
            return [row for row in before if row["received"] == max(r["received"] for r in before) and row["state"] == "ended"]

        (row,) = eventually(stored, f"a stream of {route} is stored")
        return str(row["outcome"])

    def workers(self) -> list[Any]:
        return list(self._admin.get("/healthz").json()["workers"])

    def close(self) -> None:
        self._admin.close()


@contextmanager
def running(folder: Path) -> Iterator[Site]:
    """Start Weir and its providers; at the end all is stopped, and Weir must have said nothing that no operator should read."""
    log = folder / "weir.log"
    sockets = {temper: socket.create_server(("127.0.0.1", 0)) for temper in TEMPERS}
    config = routes({temper: held.getsockname()[1] for temper, held in sockets.items()}, str(folder / "weir.db"))
    (folder / "routes.yaml").write_bytes(orjson.dumps(config))
    with log.open("wb") as file:
        weir = children.start([sys.executable, "-W", "ignore", "-m", "gateway", "serve", "-c", str(folder / "routes.yaml")], file)
    try:
        with _providing(sockets) as providers:
            url, admin_url = eventually(lambda: _addresses(weir, log), f"weir prints its addresses, {log}")
            site = Site(providers, url, admin_url)
            try:
                eventually(site.workers, "a worker is heard of")
                yield site
            finally:
                site.close()
    finally:
        children.stop(weir, PATIENCE)
    assert [line for line in log.read_text().splitlines() if any(word in line for word in TROUBLE)] == [], log.read_text()


def _addresses(weir: "subprocess.Popen[bytes]", log: Path) -> list[str]:
    assert weir.poll() is None, f"weir left with {weir.returncode}: {log.read_text()}"
    found = re.findall(r"(?:base_url|admin) +(http://127\.0\.0\.1:\d+)", log.read_text())
    return found if len(found) == 2 else []


@contextmanager
def _providing(sockets: Mapping[str, socket.socket]) -> Iterator[Mapping[str, Provider]]:
    """Serve every temper on its socket, from a thread with a loop of its own."""
    providers = {
        temper: Provider(pace, Always(fault) if fault else NO_FAULTS, seed=1, name=temper) for temper, (pace, fault) in TEMPERS.items()
    }
    listening, over = threading.Event(), asyncio.Event()

    async def serve() -> None:
        for temper, provider in providers.items():
            await provider.start(sock=sockets[temper])
        loops.append(asyncio.get_running_loop())
        listening.set()
        await over.wait()
        for provider in providers.values():
            await provider.close()

    loops: list[asyncio.AbstractEventLoop] = []
    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="providers", daemon=True)
    thread.start()
    try:
        assert listening.wait(PATIENCE)
        yield providers
    finally:
        loops[0].call_soon_threadsafe(over.set)
        thread.join(PATIENCE)
        assert not thread.is_alive()
