"""The recorder as a process: started, fed, asked, stopped."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from gateway.core.messages import Ended, FromRecorder, Hello, Watching
from gateway.core.record import StreamRecord
from gateway.telemetry.query import Query
from gateway.telemetry.store import Store

CHILD = """
import socket, sys
from gateway.config import parse
from gateway.console.serve import run
link, admin = (socket.socket(fileno=int(fd)) for fd in sys.argv[2:])
run(parse(open(sys.argv[1]).read()), [link], admin)
"""

ROUTES = """
version: 1
upstreams: {{fast: {{base_url: "http://127.0.0.1:1/v1"}}}}
routes: [{{name: chat, match: {{models: ["*"]}}, targets: [{{upstream: fast}}]}}]
telemetry: {{store: {{path: "{folder}/weir.db"}}, access_log: "{folder}/access.log"}}
"""


def test_a_process_from_start_to_stop(make_record: Callable[..., StreamRecord], tmp_path: Path) -> None:
    """It says Hello, serves /healthz, ignores SIGINT; on SIGTERM it takes what still waits, stores it and exits 0."""
    (tmp_path / "routes.yaml").write_text(ROUTES.format(folder=tmp_path))
    worker, link = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    worker.settimeout(10)
    admin = socket.create_server(("127.0.0.1", 0))
    with worker, link, admin:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path / "routes.yaml"), str(link.fileno()), str(admin.fileno())],
            pass_fds=(link.fileno(), admin.fileno()),
        )
        try:
            assert msgspec.msgpack.decode(worker.recv(4096), type=FromRecorder) == Hello(child.pid)
            assert health(admin)["status"] == "degraded"  # no worker has said that it is there
            child.send_signal(signal.SIGINT)
            send(worker, Hello(1), Ended(1, make_record(1)))
            assert msgspec.msgpack.decode(worker.recv(4096), type=FromRecorder) == Watching(False)
            assert msgspec.msgpack.decode(worker.recv(4096), type=FromRecorder).seq == 1
            assert health(admin)["workers"][0]["pid"] == 1
            os.kill(child.pid, signal.SIGSTOP)
            send(worker, Ended(2, make_record(2)))
            child.send_signal(signal.SIGTERM)
            os.kill(child.pid, signal.SIGCONT)
            assert child.wait(15) == 0
        finally:
            child.kill()
            child.wait()
    found = Store(str(tmp_path / "weir.db"), 60.0, lambda _: None).find(Query())
    assert [kept.record.stream_id for kept in found] == ["stream-2", "stream-1"]
    assert len((tmp_path / "access.log").read_text().splitlines()) == 2


def send(worker: socket.socket, *messages: Any) -> None:
    worker.send(msgspec.msgpack.encode(list(messages)))


def health(admin: socket.socket) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{admin.getsockname()[1]}/healthz", timeout=5) as response:
        return json.load(response)
