"""The real program, simulated providers, and a real Prometheus that scrapes it every second and evaluates the shipped rules."""

import asyncio
import os
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from tests.stories.conftest import eventually, eventually_fixture, provide, weir  # noqa: F401 - fixtures

RULES = Path(__file__).parents[2] / "dashboards" / "alerts.yaml"
CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - {{job_name: weir, static_configs: [{{targets: ["{target}"]}}]}}
"""


SOUND = "A" * 6400
"""A tenth of a second of speech, as the Realtime API sends it."""


class Speaker:
    """A realtime server: each answer is a word, a tenth of a second of sound, a silence longer than that, and some more sound."""

    base_url = ""

    async def start(self) -> None:
        self._runner = web.ServerRunner(web.Server(self._serve, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.base_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        session = web.WebSocketResponse(timeout=2)
        await session.prepare(request)
        sound = {"type": "response.output_audio.delta", "response_id": "r", "delta": SOUND}
        async for message in session:
            if message.json()["type"] == "response.create":
                await session.send_json({"type": "response.created", "response": {"id": "r"}})
                await session.send_json({"type": "response.output_audio_transcript.delta", "delta": "Hi"})
                await session.send_json(sound)
                await asyncio.sleep(0.3)
                await session.send_json(sound)
                await session.send_json({"type": "response.done", "response": {"id": "r", "status": "completed"}})
        return session

    async def close(self) -> None:
        await self._runner.cleanup()


@pytest.fixture
async def speaker() -> AsyncIterator[Speaker]:
    """A realtime server on a free port of 127.0.0.1."""
    one = Speaker()
    await one.start()
    yield one
    await one.close()


def hurried(rules: str, times: int) -> str:
    """Return rules whose windows and waits are so many times shorter, evaluated every second: what takes minutes takes seconds."""

    def shorter(found: re.Match[str]) -> str:
        seconds = int(found[2]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[3]]
        return f"{found[1]}{max(1, seconds // times)}s{found[4]}"

    return re.sub(r"(\[|for: )(\d+)([smhd])(\]|$)", shorter, rules.replace("interval: 1m", "interval: 1s"), flags=re.MULTILINE)


class Prometheus:
    """One server of its own, with its files in a folder of the test, that evaluates these rules."""

    def __init__(self, folder: Path, target: str, rules_text: str) -> None:
        folder.mkdir()
        rules, config = folder / "alerts.yaml", folder / "prometheus.yaml"
        rules.write_text(rules_text)
        config.write_text(CONFIG.format(rules=rules, target=target))
        with socket.create_server(("127.0.0.1", 0)) as probe:
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        said = (folder / "said").open("wb")
        flags = [f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={address}"]
        command = ["prometheus", *flags, "--enable-feature=exemplar-storage"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        said.close()
        self._said = folder / "said"
        self._http = httpx.AsyncClient(base_url=f"http://{address}", timeout=10.0, trust_env=False)

    async def ready(self) -> bool:
        assert self.process.poll() is None, self._said.read_text()
        try:
            return (await self._http.get("/-/ready")).is_success
        except httpx.HTTPError:
            return False

    async def ask(self, path: str, **parameters: Any) -> Any:
        """Return the data of an answer of its API; what it cannot answer fails the test."""
        answer = (await self._http.get(f"/api/v1/{path}", params=parameters)).json()
        assert answer["status"] == "success", (parameters, answer.get("error"))
        return answer["data"]

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series an expression has at this moment."""
        result: list[dict[str, Any]] = (await self.ask("query", query=expression))["result"]
        return result

    async def close(self) -> None:
        await self._http.aclose()
        self.process.terminate()
        assert await asyncio.to_thread(self.process.wait, 20) == 0


@pytest.fixture
async def prometheus(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Prometheus]]]:
    """Start a Prometheus that scrapes this address ("127.0.0.1:8081") and evaluates `rules`, the shipped ones unless told otherwise."""
    if shutil.which("prometheus") is None:
        assert not os.environ.get("CI"), "CI has Prometheus; see .ci/run"
        pytest.skip("prometheus is not on PATH")
    running: list[Prometheus] = []

    async def start(target: str, rules: str | None = None) -> Prometheus:
        running.append(Prometheus(tmp_path / "prometheus", target, hurried(RULES.read_text(), 1) if rules is None else rules))
        await eventually(running[-1].ready, "Prometheus is ready")
        return running[-1]

    yield start
    for one in running:
        await one.close()
