"""The benchmark's provider: the simulated one in a process of its own, its temper set through a pipe between measures.

`python -m gateway.sim.origin` prints its port, then takes one JSON object a line, {"ttft": s, "gap": s, "tokens": n}, and answers each
with "ok" when it holds; the end of its input ends it.
"""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
import uvloop

from gateway.sim import children
from gateway.sim.provider import Provider
from gateway.sim.tempers import Temper


class Origin:
    """The other end of the pipe; a context manager that ends the process on leaving."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = 0

    def __enter__(self) -> "Origin":
        path = self._folder / "provider.log"
        with path.open("wb") as log:
            self._child = children.start([sys.executable, "-m", "gateway.sim.origin"], log, pipes=True)
        try:
            self.port = int(self._line())
        except ValueError:
            children.stop(self._child)
            raise children.StartError(f"the provider did not start; its last words: {children.last_words(path)}") from None
        return self

    def __exit__(self, *_: object) -> None:
        children.stop(self._child)

    def become(self, *, ttft: float, gap: float, tokens: int) -> None:
        """Set how it speaks from now on, and return when that holds."""
        assert self._child.stdin is not None
        self._child.stdin.write(msgspec.json.encode({"ttft": ttft, "gap": gap, "tokens": tokens}) + b"\n")
        self._child.stdin.flush()
        if self._line() != "ok":
            raise children.StartError("the provider ended")

    def _line(self) -> str:
        assert self._child.stdout is not None
        return self._child.stdout.readline().decode().strip()


def temper(values: Mapping[str, float]) -> Temper:
    return Temper(ttft=values["ttft"], gap=values["gap"], tokens=int(values["tokens"]))


async def serve() -> None:
    """Serve until the input ends."""
    provider = Provider()
    print(await provider.start(), flush=True)  # noqa: T201 - the port, for the parent
    loop, lines = asyncio.get_running_loop(), asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), os.fdopen(0, "rb", 0))
    while line := await lines.readline():
        provider.temper = temper(msgspec.json.decode(line))
        print("ok", flush=True)  # noqa: T201 - the answer, for the parent
    await provider.close()


if __name__ == "__main__":
    uvloop.run(serve())
