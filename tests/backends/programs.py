"""Programs of others that take spans: started on loopback as their makers say, waited for, ended for certain."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import yaml
from msgspec import Struct

from gateway.sim import children

HOME = Path(os.environ.get("WEIR_BACKENDS") or Path(__file__).parents[2] / ".backends")
"""Where `make test-backends` puts them."""
PHOENIX = HOME / "venv" / "bin" / "python"
ROTEL = HOME / "venv" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages" / "rotel" / "rotel-agent"
JAEGER = HOME / "jaeger"
OTELCOL = HOME / "otelcol"
PATIENCE = 150.0
"""Seconds a program may take until it answers: Phoenix imports for 9 of them on a quiet machine."""
PROTOBUF = {"Content-Type": "application/x-protobuf"}


class Running(Struct, frozen=True):
    """A program that listens: base URLs of its OTLP receivers, and of its API where it has one."""

    http: str
    grpc: str
    api: str = ""


@contextmanager
def phoenix(folder: Path) -> Iterator[Running]:
    """Arize Phoenix: a backend for traces of language models, with a UI, in SQLite."""
    port, grpc = children.free_ports(2)
    environ = {"PHOENIX_HOST": "127.0.0.1", "PHOENIX_PORT": str(port), "PHOENIX_GRPC_PORT": str(grpc), "PHOENIX_WORKING_DIR": str(folder)}
    command = [str(PHOENIX), str(Path(__file__).parent / "phoenix_on_loopback.py")]
    with _started(command, folder / "phoenix.log", {**environ, "PHOENIX_TELEMETRY_ENABLED": "false"}, f"http://127.0.0.1:{port}/healthz"):
        # Its first request for spans takes seconds, on a busy machine more than an exporter waits for an answer: it is an empty one.
        url = f"http://127.0.0.1:{port}"
        httpx.post(f"{url}/v1/traces", content=b"", headers=PROTOBUF, timeout=PATIENCE, trust_env=False).raise_for_status()
        httpx.get(f"{url}/v1/projects", timeout=PATIENCE, trust_env=False).raise_for_status()
        yield Running(url, f"http://127.0.0.1:{grpc}", url)


@contextmanager
def jaeger(folder: Path) -> Iterator[Running]:
    """Jaeger, all in one process and in memory."""
    http, grpc, api, *others = children.free_ports(7)
    flags = ("query.grpc-server", "admin.http", "collector.grpc-server", "collector.http-server")
    places = {"collector.otlp.http": http, "collector.otlp.grpc": grpc, "query.http-server": api, **dict(zip(flags, others, strict=True))}
    command = [str(JAEGER), *(f"--{flag}.host-port=127.0.0.1:{port}" for flag, port in places.items())]
    with _started(command, folder / "jaeger.log", {"SPAN_STORAGE_TYPE": "memory"}, f"http://127.0.0.1:{api}/api/services"):
        yield Running(f"http://127.0.0.1:{http}", f"http://127.0.0.1:{grpc}", f"http://127.0.0.1:{api}")


@contextmanager
def rotel(folder: Path, backend: Running) -> Iterator[Running]:
    """Rotel, a collector: takes spans over HTTP and gRPC and passes them on to a backend over HTTP."""
    http, grpc = children.free_ports(2)
    command = [
        *(str(ROTEL), "start", "--otlp-http-endpoint", f"127.0.0.1:{http}", "--otlp-grpc-endpoint", f"127.0.0.1:{grpc}"),
        *("--exporter", "otlp", "--otlp-exporter-protocol", "http", "--otlp-exporter-endpoint", backend.http),
    ]
    with _started(command, folder / "rotel.log", {}, f"http://127.0.0.1:{http}/"):
        yield Running(f"http://127.0.0.1:{http}", f"http://127.0.0.1:{grpc}", backend.api)


@contextmanager
def otelcol(folder: Path, shipped: Path, backend: Running) -> Iterator[Running]:
    """An OpenTelemetry Collector with a configuration of deploy/: on loopback, one backend, decisions within a second, no baseline."""
    http, grpc, own = children.free_ports(3)
    config = yaml.safe_load(shipped.read_text())
    config["receivers"]["otlp"]["protocols"] = {"http": {"endpoint": f"127.0.0.1:{http}"}, "grpc": {"endpoint": f"127.0.0.1:{grpc}"}}
    config["exporters"] = {"otlp": {"endpoint": backend.grpc.removeprefix("http://"), "tls": {"insecure": True}}}
    config["service"]["pipelines"]["traces"]["exporters"] = ["otlp"]
    config["service"]["telemetry"] = {"metrics": {"address": f"127.0.0.1:{own}"}}
    config["processors"]["tail_sampling"]["decision_wait"] = "1s"
    config["processors"]["tail_sampling"]["policies"][-1]["probabilistic"]["sampling_percentage"] = 0
    (folder / "collector.yaml").write_text(yaml.safe_dump(config))
    with _started([str(OTELCOL), "--config", str(folder / "collector.yaml")], folder / "otelcol.log", {}, f"http://127.0.0.1:{http}/"):
        yield Running(f"http://127.0.0.1:{http}", f"http://127.0.0.1:{grpc}", backend.api)


@contextmanager
def _started(command: list[str], log: Path, environ: dict[str, str], ready: str) -> Iterator[None]:
    """Start it, and wait until it answers below 500; at the end it is gone, and everything that it started."""
    with log.open("wb") as said:
        child = children.start(["/usr/bin/env", *(f"{name}={value}" for name, value in environ.items()), *command], said)
    try:
        _wait(child, ready, log)
        yield
    finally:
        children.stop(child)


def _wait(child: "subprocess.Popen[bytes]", ready: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert child.poll() is None, f"it ended with {child.returncode}: {log.read_text()[-2000:]}"
        try:
            if httpx.get(ready, timeout=5.0, trust_env=False).status_code < 500:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise TimeoutError(f"no answer from {ready} in {PATIENCE:.0f} s: {log.read_text()[-2000:]}")
