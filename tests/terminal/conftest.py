"""The views' tests stand on the rig, and on the recorder of the console's tests; `weir` is the program as it is typed."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tests.console.conftest import make_config, make_record, serve  # noqa: F401
from tests.rig.fixtures import *  # noqa: F403

PATIENCE = 60.0
"""Seconds that a view may take to start, on a machine with much else to do."""


class View:
    """One view that runs, reading what it prints line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self) -> str:
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            return (await self.process.stdout.readline()).decode().rstrip("\n")

    async def complaint(self) -> str:
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            return (await self.process.stderr.readline()).decode().rstrip("\n")

    async def over(self) -> tuple[int, str, str]:
        """Wait for its end; returns exit code and what it has said besides, on stdout and on stderr."""
        async with asyncio.timeout(PATIENCE):
            out, err = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, out.decode(), err.decode()

    async def interrupt(self) -> tuple[int, str, str]:
        self.process.send_signal(signal.SIGINT)
        return await self.over()


@pytest.fixture
async def weir() -> AsyncIterator[Callable[..., Awaitable[View]]]:
    """Start a command of weir's with its output in pipes; whatever still runs at the end is killed."""
    views: list[View] = []

    async def start(*arguments: str, **environ: str) -> View:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **environ},
        )
        views.append(View(process))
        return views[-1]

    yield start
    for view in views:
        if view.process.returncode is None:
            view.process.kill()
            await view.process.communicate()


@pytest.fixture
def row() -> Callable[..., dict[str, Any]]:
    """Return rows of ended streams as the API gives them."""

    def make(number: int = 1, **changes: Any) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "stream_id": f"{number:08x}cafe", "route": "chat", "upstream": "fast", "model": "tiny", "state": "ended", "received": 1000.0,
            "ended": 1001.0, "outcome": "completed", "error": None, "ttft": 0.2, "duration": 1.0, "slow": False, "chunks": 5,
            "output_tokens": 5, "stalls": 0, "stall_time": {}, "attempts": 1, "cost_usd": None,
        }  # fmt: skip
        return {**fields, **changes}

    return make


@pytest.fixture(autouse=True)
def nothing_blocks() -> None:
    """A view owns its process: it may wait for what it prints to."""
