"""A provider on a real socket, and a raw client that keeps every byte."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from msgspec import Struct

from gateway.sim.provider import Provider
from gateway.sim.tempers import INSTANT


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Any]]:
    """Start providers, instant unless told otherwise; close them and see that nothing of them is left."""
    started: list[Provider] = []
    files = open_files()

    async def start(*args: Any, **named: Any) -> Provider:
        provider = Provider(*args, **({"temper": INSTANT} | named if not args else named))
        started.append(provider)
        await provider.start()
        return provider

    yield start
    for provider in started:
        await provider.close()
        assert provider.open_streams == 0
        assert provider.connections == 0
    await until(lambda: open_files() <= files)
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def until(condition: Callable[[], bool]) -> None:
    """Wait, 10 s at most, for something that the other side is about to do."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in another process or protocol
            await asyncio.sleep(0.002)


class Got(Struct):
    """What a raw client got: every byte, and whether the connection ended by "fin" or "reset"."""

    raw: bytes
    ended: str

    @property
    def head(self) -> str:
        return self.raw.partition(b"\r\n\r\n")[0].decode()

    @property
    def body(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[2]

    @property
    def chunks(self) -> list[bytes]:
        """The payload of each HTTP chunk, the last incomplete one left out."""
        rest, found = self.body, []
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            length = int(size, 16)
            found.append(rest[:length])
            rest = rest[length + 2 :]
        return [payload for payload in found if payload]

    @property
    def whole(self) -> bool:
        return self.body.endswith(b"0\r\n\r\n")


def request_bytes(path: str = "/v1/chat/completions", headers: dict[str, str] | None = None, **body: Any) -> bytes:
    content = orjson.dumps({"model": "sim-small", "stream": True, "messages": []} | body)
    lines = [f"POST {path} HTTP/1.1", "Host: sim", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    return "\r\n".join([*lines, f"Content-Length: {len(content)}", "", ""]).encode() + content


async def fetch(provider: Provider, headers: dict[str, str] | None = None, **body: Any) -> Got:
    """Ask once on a connection of its own and read until it ends."""
    return await converse(provider, request_bytes(headers={"Connection": "close"} | (headers or {}), **body))


async def converse(provider: Provider, data: bytes) -> Got:
    """Send bytes and read until the connection ends."""
    reader, writer = await asyncio.open_connection(provider.host, provider.port)
    raw, ended = b"", "fin"
    try:
        async with asyncio.timeout(10):
            writer.write(data)
            while piece := await reader.read(65536):
                raw += piece
    except ConnectionResetError:
        ended = "reset"
    finally:
        await hang_up(writer)
    return Got(raw, ended)


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    try:
        await writer.wait_closed()
    except (ConnectionResetError, BrokenPipeError):
        return


@pytest.fixture
def ask() -> Callable[..., Any]:
    return fetch


@pytest.fixture
def talk() -> Callable[..., Any]:
    return converse


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    return until


@pytest.fixture
def render() -> Callable[..., bytes]:
    return request_bytes
