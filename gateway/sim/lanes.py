"""The ways a benchmark stream can take from client to provider: direct, nginx, a naive relay, Weir with all its telemetry on."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx
from msgspec import Struct

from gateway.sim import children, nginx, processes

WEIR = """\
version: 1
server: {{host: 127.0.0.1, port: {port}, workers: 1, drain: 1s}}
admin: {{host: 127.0.0.1, port: {admin}}}
upstreams:
  sim: {{dialect: openai, base_url: "http://127.0.0.1:{upstream}/v1", max_streams: 100000}}
routes:
  - name: bench
    match: {{models: ["*"]}}
    targets: [{{upstream: sim}}]
telemetry:
  otlp: {{endpoint: "http://127.0.0.1:{sink}"}}
  store: {{path: "{folder}/weir.db"}}
  access_log: "{folder}/access.log"
"""
"""Nothing is turned off: spans to a real receiver, the store, an access log. Only the limit of streams must not be what is measured."""


class Unavailable(Exception):
    """This lane cannot be had on this machine; the message says why."""


class Lane(Struct, frozen=True):
    """One running way. `pid` is the process that was started for it; None when there is none, or it is not ours to look at."""

    name: str
    host: str
    port: int
    pid: int | None = None
    path: str = "/v1"

    def relay(self) -> list[int]:
        """Return the processes that carry bytes: of Weir the workers, of anything else all of them."""
        everything = self.everything()
        return [pid for pid in everything if children.role(pid) == "weir-worker"] or everything

    def everything(self) -> list[int]:
        return [] if self.pid is None else processes.family(self.pid)


class Stage:
    """Everything one run started, in one temporary folder; leaving the `with` ends all of it, the last started first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._exits = ExitStack()
        self._started: dict[str, tuple[subprocess.Popen[bytes], Path]] = {}

    def __enter__(self) -> "Stage":
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def start(self, name: str, command: Sequence[str], port: int) -> subprocess.Popen[bytes]:
        """Start a process that will listen on 127.0.0.1:`port`, and wait until it does. Raises children.StartError."""
        path = self.folder / f"{name}.log"
        with path.open("wb") as log:
            child = children.start(command, log)
        self._exits.callback(children.stop, child)
        self._started[name] = child, path
        children.wait_listening(child, port, path)
        return child

    def ended(self) -> dict[str, str]:
        """Return, by name, how processes ended that should still be running."""
        return {
            name: f"ended with {child.returncode}; its last words: {children.last_words(path)}"
            for name, (child, path) in self._started.items()
            if child.poll() is not None
        }


def python(module: str, *arguments: object) -> list[str]:
    """Return the command that runs one of our own modules with this very interpreter."""
    return [sys.executable, "-m", module, *(str(argument) for argument in arguments)]


def _direct(stage: Stage, upstream: int) -> Lane:  # noqa: ARG001 - one shape for all lanes
    return Lane("direct", "127.0.0.1", upstream)


def _nginx(stage: Stage, upstream: int) -> Lane:
    program = nginx.find()
    if program is None:
        raise Unavailable("nginx is not installed")
    (port,) = children.free_ports(1)
    child = stage.start("nginx", nginx.command(program, stage.folder, port, upstream), port)
    return Lane("nginx", "127.0.0.1", port, child.pid)


def _naive(stage: Stage, upstream: int) -> Lane:
    (port,) = children.free_ports(1)
    child = stage.start("naive", python("gateway.sim.naive", port, f"http://127.0.0.1:{upstream}"), port)
    return Lane("naive", "127.0.0.1", port, child.pid)


def _weir(stage: Stage, upstream: int) -> Lane:
    sink, port, admin = children.free_ports(3)
    stage.start("sink", python("gateway.sim.sink", sink), sink)
    routes = stage.folder / "routes.yaml"
    routes.write_text(WEIR.format(port=port, admin=admin, upstream=upstream, sink=sink, folder=stage.folder))
    child = stage.start("weir", python("gateway", "serve", "-c", routes), port)
    _ready(port)
    return Lane("weir", "127.0.0.1", port, child.pid)


def _ready(port: int, patience: float = 20.0) -> None:
    """Wait until a worker answers: the supervisor listens before it has any."""
    try:
        httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=patience).raise_for_status()
    except httpx.HTTPError as error:
        raise children.StartError(f"weir listens and does not answer: {error}") from error


LANES: dict[str, Callable[[Stage, int], Lane]] = {"direct": _direct, "nginx": _nginx, "naive": _naive, "weir": _weir}
"""By name; each starts what it needs on the stage, in front of the provider on the given port, and raises Unavailable when it cannot."""
