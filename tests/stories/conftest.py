"""The real program in processes of its own, simulated providers here, and clients that keep every byte: what each story is told with."""

import asyncio
import contextlib
import gzip
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
import orjson
import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from gateway.sim.faults import Script
from gateway.sim.provider import Provider
from gateway.sim.steps import End, Pause, Send, Step, framed
from gateway.sim.tempers import INSTANT

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
TROUBLE = ("Traceback", "never retrieved", "Failed to detach", "was destroyed but", "Unclosed")
PATIENCE = 20.0
"""Seconds for whatever has to happen and is not itself measured: no machine is so busy that it takes longer."""


async def eventually(ask: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Return the first answer of `ask`, which may be a coroutine function, that is true; fail when none came in time."""
    deadline = time.monotonic() + patience
    while True:
        answer = ask()
        if isinstance(answer, Awaitable):
            answer = await answer
        if answer:
            return answer
        if time.monotonic() > deadline:
            pytest.fail(f"not within {patience:.0f} s: {what}")
        await asyncio.sleep(0.02)


def in_session(session: int) -> list[int]:
    """Return the processes of a session that live; one that has died and is not yet reaped counts as gone."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, _, _, its = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(its) == session and state != "Z":
                    found.append(int(entry.name))
    return found


class Weir:
    """One `weir` command, started as a user starts it: its processes are a session of their own, what it says goes to two files."""

    def __init__(self, folder: Path, arguments: list[str], environ: dict[str, str]) -> None:
        self._said, self._logged = folder / "stdout", folder / "stderr"
        with self._said.open("wb") as out, self._logged.open("wb") as err:
            command = [sys.executable, "-W", "ignore", "-m", "gateway", *arguments]
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=folder,
                env={**os.environ, **environ},
                start_new_session=True,
            )
        self.pid = self.process.pid
        self.url = self.admin_url = ""
        self._admin: httpx.AsyncClient | None = None

    @property
    def out(self) -> str:
        return self._said.read_text()

    @property
    def err(self) -> str:
        return self._logged.read_text()

    async def listening(self) -> "Weir":
        """Wait for the addresses it prints, and until the recorder has heard of every worker."""

        def told() -> list[str]:
            assert self.process.poll() is None, f"weir left with {self.process.returncode}: {self.err}"
            return re.findall(r"http://127\.0\.0\.1:\d+", self.out)[:2] if "\n  admin " in self.out or "metrics" in self.out else []

        self.url, self.admin_url = await eventually(told, "weir prints its addresses")
        self._admin = httpx.AsyncClient(base_url=self.admin_url, timeout=PATIENCE, limits=httpx.Limits(max_keepalive_connections=0))
        await eventually(self.workers, "a worker is heard of")
        return self

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", int(self.url.rpartition(":")[2])

    async def ask(self, path: str) -> Any:
        """Return the admin API's answer, or {} when it cannot be reached just now."""
        assert self._admin is not None
        try:
            return orjson.loads((await self._admin.get(path)).content)
        except httpx.HTTPError:
            return {}

    async def workers(self) -> list[int]:
        return [worker["pid"] for worker in (await self.ask("/healthz")).get("workers", [])]

    async def scrape(self) -> "Scrape":
        assert self._admin is not None
        return Scrape((await self._admin.get("/metrics")).text)

    async def streams(self, query: str = "") -> list[dict[str, Any]]:
        """Return every stream the admin API lists, page by page."""
        found: list[dict[str, Any]] = []
        path = first = f"/api/streams?limit=1000{query}"
        while True:
            page = await eventually(partial(self.ask, path), "the admin API lists streams")
            found += page["streams"]
            if not page["next"]:
                return found
            path = f"{first}&cursor={page['next']}"

    async def speaking(self, count: int = 1) -> list[dict[str, Any]]:
        """Wait until so many streams have begun to speak and have not ended, and return their rows."""

        async def all_speak() -> list[dict[str, Any]]:
            rows = [row for row in await self.streams() if row["state"] == "streaming"]
            return rows if len(rows) == count else []

        return list(await eventually(all_speak, f"{count} streams speak"))

    async def told(self, count: int) -> list[dict[str, Any]]:
        """Wait until so many streams are counted and stored (the store writes in batches), and return their rows."""

        async def all_told() -> list[dict[str, Any]]:
            rows = [row for row in await self.streams() if row["state"] == "ended"]
            return rows if len(rows) >= count and (await self.scrape()).sum("weir_streams_total") >= count else []

        found = await eventually(all_told, f"{count} streams are counted and stored")
        assert len(found) == count
        return list(found)

    def living(self) -> list[int]:
        return in_session(self.pid)

    async def leave(self, patience: float = PATIENCE) -> int:
        """Wait until it has ended by itself, and return its exit code."""
        return await asyncio.to_thread(self.process.wait, patience)

    async def stop(self, patience: float = PATIENCE) -> int:
        """SIGTERM to its process group, and wait; returns the exit code."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGTERM)
        return await self.leave(patience)

    async def finish(self) -> None:
        """End it if it has not ended; nothing of it may be left then, nor anything that no operator should read in its log."""
        code = await self.stop() if self.process.poll() is None else self.process.returncode
        if self._admin is not None:
            await self._admin.aclose()
        left = self.living()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left, f"processes left behind: {left}"
        assert code in (0, 1, -signal.SIGKILL), self.err
        assert [line for line in self.err.splitlines() if any(word in line for word in TROUBLE)] == [], self.err


class Scrape:
    """One answer of /metrics."""

    def __init__(self, text: str) -> None:
        self.samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def all(self, name: str, **labels: str) -> list[float]:
        return [s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items()]

    def sum(self, name: str, **labels: str) -> float:
        return sum(self.all(name, **labels))


class Answer(msgspec.Struct):
    """What a client got of one stream: `body` without HTTP's chunks; `broken` when the connection ended before the body did."""

    status: int
    headers: httpx.Headers
    body: bytes
    broken: bool
    seconds: float


class Client:
    """Asks Weir as an application does, with as many connections as it needs."""

    def __init__(self, url: str) -> None:
        self._http = httpx.AsyncClient(base_url=url, timeout=60.0, limits=httpx.Limits(max_connections=None), trust_env=False)

    async def ask(self, model: str = "m", began: Callable[[], None] = lambda: None, **headers: str) -> Answer:
        """Ask for one stream and keep its bytes; `began` is called at each read of its body."""
        started, body, broken = time.monotonic(), b"", False
        asked = {"model": model, "stream": True, "messages": [{"role": "user", "content": "hello"}]}
        async with self._http.stream("POST", "/v1/chat/completions", json=asked, headers=headers) as reply:
            try:
                async for piece in reply.aiter_raw():
                    body += piece
                    began()
            except httpx.TransportError:
                broken = True
        return Answer(reply.status_code, reply.headers, body, broken, time.monotonic() - started)

    async def many(self, count: int, at_once: int, **headers: str) -> list[Answer]:
        """Ask `count` times, `at_once` at a time."""
        gate = asyncio.Semaphore(at_once)

        async def one() -> Answer:
            async with gate:
                return await self.ask(**headers)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one()) for _ in range(count)]
        return [task.result() for task in tasks]

    async def close(self) -> None:
        await self._http.aclose()


def speech(words: int, gap: float) -> tuple[bytes, Script]:
    """Return the exact body of an answer of so many words, and the script of a provider that gives it, `gap` seconds a word."""
    said = ["", *(f"w{number} " for number in range(words)), None]
    frames = [_frame(word) for word in said] + [b"data: [DONE]\n\n"]
    steps: list[Step] = []
    for frame in frames:
        steps += [Send(frame, "token"), Pause(gap)]
    return b"".join(frames), Script((Send(HEAD), *framed([*steps, End()])))


def _frame(word: str | None) -> bytes:
    choice = {"index": 0, "delta": {} if word is None else {"content": word}, "finish_reason": "stop" if word is None else None}
    return b"data: " + orjson.dumps({"id": "c1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}) + b"\n\n"


def routes(providers: dict[str, str], **parts: Any) -> dict[str, Any]:
    """Return a configuration: one route to these upstreams, named with their base URLs; `parts` are merged into it."""
    config: dict[str, Any] = {
        "version": 1,
        "server": {"port": 0, "drain": "5s"},
        "admin": {"port": 0},
        "upstreams": {name: {"base_url": url} for name, url in providers.items()},
        "routes": [{"name": "chat", "match": {"models": ["*"]}, "targets": [{"upstream": name} for name in providers]}],
        "telemetry": {"store": {"path": "weir.db"}, "access_log": "off"},
    }
    for name, part in parts.items():
        place = config["routes"][0] if name == "route" else config[name]
        place.update(part)
    return config


@pytest.fixture
async def weir(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Weir]]]:
    """Start `weir serve` for these providers ({name: provider}), or with `command=` any other weir command; at the end, end all of it.

    `early` is called as soon as the process is there.
    """
    running: list[Weir] = []

    async def start(
        providers: dict[str, Provider] | None = None,
        command: list[str] | None = None,
        environ: dict[str, str] | None = None,
        early: Callable[[Weir], Awaitable[None]] | None = None,
        **parts: Any,
    ) -> Weir:
        folder = tmp_path / f"weir-{len(running)}"
        folder.mkdir()
        if providers is not None:
            config = routes({name: provider.base_url for name, provider in providers.items()}, **parts)
            (folder / "routes.yaml").write_bytes(orjson.dumps(config))
        running.append(Weir(folder, command or ["serve", "-c", "routes.yaml"], environ or {}))
        if early is not None:
            await early(running[-1])
        return await running[-1].listening()

    yield start
    for one in running:
        await one.finish()


@pytest.fixture
async def provide() -> AsyncIterator[Callable[..., Awaitable[Provider]]]:
    """Start simulated providers in this process; arguments are Provider's, instant unless told otherwise."""
    started: list[Provider] = []

    async def start(**named: Any) -> Provider:
        started.append(Provider(**{"temper": INSTANT, **named}))
        await started[-1].start()
        return started[-1]

    yield start
    for provider in started:
        await provider.close()
        assert provider.connections == 0


@pytest.fixture
async def client() -> AsyncIterator[Callable[[Weir], Client]]:
    """Return clients of a running Weir."""
    made: list[Client] = []

    def make(weir: Weir) -> Client:
        made.append(Client(weir.url))
        return made[-1]

    yield make
    for one in made:
        await one.close()


class Receiver:
    """An OTLP/HTTP collector that keeps the spans it was sent."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.url = ""

    async def traces(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        sent = ExportTraceServiceRequest.FromString(body)
        self.spans += [span for resource in sent.resource_spans for scope in resource.scope_spans for span in scope.spans]
        return web.Response()

    def attributes(self, span: Any) -> dict[str, Any]:
        return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in span.attributes}


@pytest.fixture
async def collector() -> AsyncIterator[Receiver]:
    """A collector on a free port of 127.0.0.1."""
    receiver = Receiver()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/v1/traces", receiver.traces)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield receiver
    await runner.cleanup()


@pytest.fixture
def black_hole() -> Iterator[str]:
    """The URL of a listener that never accepts and whose backlog is full: a connection to it is neither made nor refused."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(name="eventually")
def eventually_fixture() -> Callable[..., Awaitable[Any]]:
    return eventually


@pytest.fixture(name="speech")
def speech_fixture() -> Callable[[int, float], tuple[bytes, Script]]:
    return speech
