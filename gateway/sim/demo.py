"""`weir demo`: everything on one machine with nothing else installed: three providers of different temper, the gateway, traffic."""

import asyncio
import contextlib
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import orjson
import uvloop
from rich.console import Console
from rich.live import Live
from rich.table import Table

from gateway.child import Child
from gateway.config import Config, parse
from gateway.sim.faults import Chance, FirstOf, Stall, Truncate
from gateway.sim.load import Aborts, Load, traffic
from gateway.sim.provider import Provider
from gateway.sim.tempers import FAST, STEADY, THINKER, Temper
from gateway.supervisor import Gateway, PortTaken, Supervisor

MODEL = "weir-demo"
TEMPERS: dict[str, Temper] = {"quick": FAST, "steady": STEADY, "thinker": THINKER}
RATE = 4.0
DRAIN = 2
RETURN_SECONDS = 20.0
"""A provider that is killed comes back after this long, so that one can watch its traffic leave and return."""

CONFIG = """
version: 1
server: {{port: {port}, drain: {drain}s}}
admin: {{port: {admin_port}}}
upstreams:
{upstreams}
routes:
  - name: demo
    match: {{models: [{model}, "*"]}}
    policy: least-latency
    targets: [{targets}]
    first_token: {{timeout: 2s, on_slow: fallback}}
    stall: {{threshold: 1s}}
telemetry:
  store: {{path: {store}}}
  access_log: off
"""


def run(minutes: float | None, port: int = 8080, admin_port: int = 8081) -> int:
    """Run the demo until SIGINT or SIGTERM, or for `minutes`; returns the exit code. Ports in use are replaced by free ones."""
    with tempfile.TemporaryDirectory(prefix="weir-demo-") as folder:
        sockets = {name: _reserve() for name in TEMPERS}
        gateway = _gateway(sockets, Path(folder), port, admin_port)
        providers = [Child(f"sim-{name}", _main(partial(_provide, name, sockets[name])), restart_after=RETURN_SECONDS) for name in TEMPERS]
        callers = Child("callers", _main(partial(_call, gateway.url)))
        children = [*gateway.children(), *providers, callers]
        if sys.stdout.isatty():
            children.append(Child("table", _main(partial(_show, gateway.admin_url))))
        supervisor = Supervisor(children, DRAIN, gateway.listeners, gateway.reloads)
        return supervisor.run(None if minutes is None else minutes * 60, started=lambda: _announce(gateway, providers))


def _gateway(sockets: dict[str, socket.socket], folder: Path, port: int, admin_port: int) -> Gateway:
    """Bind the gateway to its usual ports, or to free ones when somebody has them."""
    for data, admin in ((port, admin_port), (0, 0)):
        with contextlib.suppress(PortTaken):
            return Gateway(_config(sockets, folder, data, admin))
    raise PortTaken("no free port on 127.0.0.1")


def _config(sockets: dict[str, socket.socket], folder: Path, port: int, admin_port: int) -> Config:
    upstreams = "\n".join(f"  {name}: {{base_url: 'http://127.0.0.1:{sock.getsockname()[1]}/v1'}}" for name, sock in sockets.items())
    targets = ", ".join(f"{{upstream: {name}}}" for name in sockets)
    text = CONFIG.format(
        port=port, admin_port=admin_port, drain=DRAIN, upstreams=upstreams, targets=targets, model=MODEL, store=folder / "weir.db"
    )
    return parse(text, file="the demo's routes.yaml", environ={})


def _announce(gateway: Gateway, providers: list[Child]) -> None:
    """Say what to open and what to try, in plain lines that also read well in a pipe."""
    curl = f"""curl -N {gateway.url}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{"model": "{MODEL}", "stream": true, "messages": [{{"role": "user", "content": "hello"}}]}}'"""
    print(  # noqa: T201  this is what the command is for
        f"Weir is running. Point your app's base_url at it (any API key, model {MODEL}):\n\n"
        f"  base_url    {gateway.url}/v1\n"
        f"  console     {gateway.admin_url}/\n"
        f"  streams     {gateway.admin_url}/api/streams\n"
        f"  routes      {gateway.admin_url}/api/routes\n"
        f"  metrics     {gateway.admin_url}/metrics\n\n"
        f"  {curl}\n\n"
        "Kill a provider and watch its streams end in an error and its traffic leave; it is back after 20 s:\n\n"
        + "".join(f"  kill -9 {child.pid}    # {child.name}\n" for child in providers)
        + "\nCtrl-C ends everything.",
        flush=True,
    )


def _main(work: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Return the main of a child that does `work` until SIGTERM."""

    async def until_told() -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await work()

    return lambda: uvloop.run(until_told())


def _reserve() -> socket.socket:
    """Bind a port for a provider without listening on it: it stays the provider's, and refuses connections while that is dead."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", 0))
    return sock


async def _provide(name: str, reserved: socket.socket) -> None:
    """Be one provider; now and then a stream of it stalls or breaks, so that there is something to see."""
    faults = FirstOf((Chance(0.02, Stall(after=12, length=2.5)), Chance(0.01, Truncate(after=20))))
    provider = Provider(TEMPERS[name], faults, seed=sum(name.encode()), models=(MODEL,), name=name)
    await provider.start(sock=socket.create_server(reserved.getsockname(), reuse_port=True))
    try:
        await asyncio.Event().wait()
    finally:
        await provider.close()


async def _call(url: str) -> None:
    """Be the callers: a few streams a second, some of which are left early."""
    host, port = url.removeprefix("http://").split(":")
    await traffic(Load(host=host, port=int(port), rate=RATE, poisson=True, streams=200, model=MODEL, aborts=Aborts(share=0.05)))


async def _show(admin_url: str) -> None:
    """Keep a table of the last streams on the terminal."""
    async with httpx.AsyncClient(base_url=admin_url, timeout=2.0) as admin:
        with Live(_table([]), console=Console(markup=False), refresh_per_second=4, transient=True) as screen:
            while True:
                await asyncio.sleep(0.5)
                with contextlib.suppress(httpx.HTTPError):
                    reply = await admin.get("/api/streams", params={"limit": "14"})
                    screen.update(_table(orjson.loads(reply.content).get("streams", [])))


def _table(streams: list[dict[str, Any]]) -> Table:
    table = Table("stream", "upstream", "state", "TTFT", "chunks", "stalls", "tried", title="Last streams")
    for stream in streams:
        ttft = f"{stream['ttft'] * 1000:.0f} ms" if stream["ttft"] is not None else ""
        state = stream["outcome"] or stream["state"]
        counts = (str(stream[name] or "") for name in ("chunks", "stalls", "attempts"))
        table.add_row(stream["stream_id"][:8], stream["upstream"], state, ttft, *counts)
    return table
