"""What is done to the gateway while it works: workers and the recorder are killed, the configuration is changed, workers are replaced."""

import asyncio
import os
import random
import re
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import orjson
from msgspec import Struct, field

from gateway.config import load
from gateway.sim import children, processes

SAMPLE = re.compile(r"^weir_streams_total\{(.*)\} ([0-9.e+]+)", re.MULTILINE)
OUTCOME = re.compile(r'outcome="(\w+)"')
CONFIRM = 8.0
"""Seconds within which a reload must show in /healthz."""


class Kill(Struct, frozen=True):
    """A process that was killed, when, and when another one did its work; monotonic seconds."""

    role: str
    pid: int
    at: float
    back_at: float


class Scrape(Struct, frozen=True):
    """`weir_streams_total` by outcome, of one recorder, begun at `at`."""

    at: float
    outcomes: dict[str, float]


class Deeds(Struct):
    """What was done. `last_words` are the scrapes of recorders right before each was killed."""

    kills: list[Kill] = field(default_factory=list)
    last_words: list[Scrape] = field(default_factory=list)
    reloads: int = 0
    confirmed: int = 0
    broken: int = 0
    refused: int = 0
    replacements: int = 0

    def of(self, role: str) -> list[Kill]:
        return [kill for kill in self.kills if kill.role == role]


class Admin:
    """The gateway from outside: its processes, and what its admin listener says."""

    def __init__(self, pid: int, url: str) -> None:
        self.pid = pid
        self._http = httpx.AsyncClient(base_url=url, timeout=5.0, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))

    async def close(self) -> None:
        await self._http.aclose()

    def pids(self, role: str) -> list[int]:
        return [pid for pid in processes.family(self.pid)[1:] if children.role(pid) == f"weir-{role}"]

    async def health(self) -> dict[str, Any]:
        """Return what /healthz says, {} when nobody answers just now."""
        with suppress(httpx.HTTPError, orjson.JSONDecodeError):
            found: dict[str, Any] = orjson.loads((await self._http.get("/healthz")).content)
            return found
        return {}

    async def live(self) -> list[dict[str, Any]]:
        """Return the streams that are live now."""
        with suppress(httpx.HTTPError, orjson.JSONDecodeError):
            rows = orjson.loads((await self._http.get("/api/streams", params={"limit": 1000})).content)["streams"]
            return [row for row in rows if row["state"] != "ended"]
        return []

    async def scrape(self) -> Scrape | None:
        began = time.monotonic()
        with suppress(httpx.HTTPError):
            return Scrape(began, outcomes((await self._http.get("/metrics")).text))
        return None


def outcomes(text: str) -> dict[str, float]:
    """Sum `weir_streams_total` by outcome."""
    found: dict[str, float] = {}
    for labels, value in SAMPLE.findall(text):
        if outcome := OUTCOME.search(labels):
            found[outcome[1]] = found.get(outcome[1], 0.0) + float(value)
    return found


class Mayhem:
    """Does it all, each deed at its own pace, until it is cancelled. `write(edition, sound)` puts a configuration in place and returns
    its path."""

    def __init__(self, admin: Admin, write: Callable[[int, bool], Path], seconds: float, seed: int) -> None:
        self.deeds = Deeds()
        self._admin, self._write = admin, write
        self._dice = random.Random(f"{seed}/mayhem")  # noqa: S311 - chaos must be repeatable
        self._edition = 0
        self._paces: tuple[tuple[Callable[[], Awaitable[None]], float], ...] = (
            (self._kill_worker, min(20.0, seconds / 3.5)),
            (self._kill_recorder, min(30.0, seconds / 2.5)),
            (self._reload, min(15.0, seconds / 4.5)),
            (self._replace, min(45.0, seconds / 1.7)),
        )

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for deed, pace in self._paces:
                group.create_task(self._again(deed, pace))

    async def _again(self, deed: Callable[[], Awaitable[None]], pace: float) -> None:
        while True:
            await asyncio.sleep(pace * self._dice.uniform(0.8, 1.2))
            await deed()

    async def _kill_worker(self) -> None:
        pids = self._admin.pids("worker")
        if pids:
            await self._kill("worker", self._dice.choice(sorted(pids)))

    async def _kill_recorder(self) -> None:
        pids = self._admin.pids("recorder")
        scrape = await self._admin.scrape()
        if pids and scrape is not None:
            self.deeds.last_words.append(scrape)
            await self._kill("recorder", pids[0])

    async def _kill(self, role: str, pid: int) -> None:
        at = time.monotonic()
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        place = len(self.deeds.kills)
        self.deeds.kills.append(Kill(role, pid, at, at + 60.0))
        await self._until(lambda health: _is_back(health, role, pid), 60.0)
        self.deeds.kills[place] = Kill(role, pid, at, time.monotonic())

    async def _reload(self) -> None:
        """Every fourth configuration is broken, and must be refused."""
        self._edition += 1
        sound = self._edition % 4 != 0
        path = self._write(self._edition, sound)
        os.kill(self._admin.pid, signal.SIGHUP)
        if sound:
            self.deeds.reloads += 1
            wanted = load(path).hash
            self.deeds.confirmed += await self._until(lambda health: health.get("config_hash") == wanted)
        else:
            self.deeds.broken += 1
            self.deeds.refused += await self._until(lambda health: health.get("last_reload_error") is not None)
            self._write(self._edition - 1, True)  # what is started anew must find a file it can read

    async def _until(self, wanted: Callable[[dict[str, Any]], bool], seconds: float = CONFIRM) -> bool:
        """Ask /healthz again and again; False when it never said so."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if wanted(await self._admin.health()):
                return True
            await asyncio.sleep(0.1)
        return False

    async def _replace(self) -> None:
        os.kill(self._admin.pid, signal.SIGUSR2)
        self.deeds.replacements += 1


def _is_back(health: dict[str, Any], role: str, dead: int) -> bool:
    """Say whether another process does the work of one that was killed."""
    workers = [worker["pid"] for worker in health.get("workers", ())]
    return bool(workers) and (dead not in workers if role == "worker" else health["pid"] != dead)
