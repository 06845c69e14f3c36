"""Child processes of the benchmark: started so that none can outlive it, waited for until they listen, ended for certain."""

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class StartError(Exception):
    """A process of the benchmark ended, or did not listen in time; the message names its log."""


def _die_with_parent() -> None:
    # Even when the benchmark is killed with SIGKILL the kernel tells the child; nothing is left to listen on a port for ever.
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def start(command: Sequence[str], log: IO[bytes], pipes: bool = False) -> subprocess.Popen[bytes]:
    """Start a child in a process group of its own, so that a terminal's Ctrl-C reaches only the benchmark, which then stops it.

    What it says goes to `log`; with `pipes` its input and output are ours, and only its errors go there.
    """
    return subprocess.Popen(  # noqa: S603 - our own commands
        command,
        stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
        stdout=subprocess.PIPE if pipes else log,
        stderr=log,
        start_new_session=True,
        preexec_fn=_die_with_parent,  # noqa: PLW1509 - the benchmark starts its children before any thread
    )


def stop(child: subprocess.Popen[bytes], patience: float = 5.0) -> None:
    """End a child and everything in its process group: politely, then after `patience` seconds for certain. May be called twice."""
    if child.poll() is None:
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(patience)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()


def free_ports(count: int) -> list[int]:
    """Return different ports of 127.0.0.1 that nobody listens on just now."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def wait_listening(child: subprocess.Popen[bytes], port: int, log: Path, patience: float = 20.0) -> None:
    """Return when 127.0.0.1:`port` accepts a connection; raise StartError when the child ends first or `patience` seconds pass."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise StartError(f"a process ended with {child.returncode} before it listened; its last words: {last_words(log)}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise StartError(f"nothing listens on port {port} after {patience:.0f} s; last words: {last_words(log)}")


def last_words(log: Path) -> str:
    """Return the last line of a log that says something."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "none"


def role(pid: int) -> str:
    """Return the name a process gave itself ("weir-worker"), or "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
