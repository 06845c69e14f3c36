"""The parent process: binds the sockets, forks the recorder and the workers, restarts what dies, and ends them in the right order.

It has no event loop and no threads, so that forking is safe and a child is back a few milliseconds after it died. Listening
sockets and the links between workers and recorder are made here and outlive any child: connections and messages wait in the
kernel while one is replaced.
"""

import contextlib
import ctypes
import logging
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from gateway.app import run_worker
from gateway.config import Config
from gateway.console.serve import run as run_recorder
from gateway.proxy.neighbours import Bell, bell

log = logging.getLogger("weir.supervisor")
SIGNALS = frozenset({signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
BACKLOG = 4096
LINK_BUFFER = 4 * 1024 * 1024
STOP_GRACE = 5.0
STEADY_SECONDS = 10.0
LONGEST_PAUSE = 5.0
PR_SET_PDEATHSIG = 1


class PortTaken(Exception):
    """An address to listen on belongs to somebody else."""


class Child:
    """One process to keep running. `last` ones are stopped only when all others have ended: they hear what those still say."""

    def __init__(self, name: str, main: Callable[[], None], *, last: bool = False, restart_after: float = 0.0) -> None:
        self.name, self.main, self.last = name, main, last
        self.pid: int | None = None
        self._first_pause = restart_after
        self._pause = restart_after
        self._started = 0.0
        self.due = 0.0

    def start(self, now: float) -> None:
        """Fork. In the child, `main` runs with default signals, in a process group of its own, and dies with its parent."""
        self._started, parent = now, os.getpid()
        try:
            self.pid = os.fork()
        except OSError as error:  # no memory or no process left just now: those that run must not end for it
            log.error("%s cannot be started: %s", self.name, error.strerror)
            self.died(now)
            return
        if self.pid == 0:
            _be_child(self.name, self.main, parent)

    def died(self, now: float) -> None:
        """Plan its return: at once, or later and later when it does not stay up."""
        self.pid = None
        steady = now - self._started > STEADY_SECONDS
        self.due = now + (self._first_pause if steady else self._pause)
        self._pause = self._first_pause if steady else max(self._first_pause, min(LONGEST_PAUSE, max(0.1, self._pause * 2)))


def _be_child(name: str, main: Callable[[], None], parent: int) -> None:
    """Everything a forked child does, its exit included: nothing of the parent's stack may run twice."""
    code = 1
    try:
        os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            return  # it died before we could ask to be told
        Path("/proc/self/comm").write_text(f"weir-{name}"[:15])
        for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        main()
        code = 0
    except BaseException:  # noqa: BLE001  the child ends here whatever it was
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class Supervisor:
    """Keeps children running until it is told to stop: by SIGTERM, SIGINT, or `seconds` having passed.

    SIGHUP is accepted and ignored. A second SIGTERM or SIGINT kills what is left. `listeners` are closed here when stopping begins:
    each child goes on with its own, and one that has left leaves no port open on which callers would wait for nobody.
    """

    def __init__(self, children: Sequence[Child], drain: float, listeners: Sequence[socket.socket] = ()) -> None:
        self._children, self._drain, self._listeners = children, drain, listeners
        self._forced = False

    def run(self, seconds: float | None = None, started: Callable[[], None] = lambda: None) -> int:
        """Run to the end and return the exit code; `started` is called when every child has been forked.

        The signals stay blocked when it returns: one more of them in the process's last moments must not change its exit code.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        for child in self._children:
            child.start(time.monotonic())
        started()
        self._watch(seconds)
        return self._stop()

    def _watch(self, seconds: float | None) -> None:
        end = time.monotonic() + seconds if seconds is not None else float("inf")
        while (now := time.monotonic()) < end:
            waiting = [child for child in self._children if child.pid is None]
            for child in waiting:
                if child.due <= now:
                    child.start(now)
            due = min([end, *(child.due for child in waiting if child.pid is None)])
            caught = signal.sigtimedwait(SIGNALS, max(0.0, min(due - now, 3600.0)))
            if caught is not None and caught.si_signo in {signal.SIGTERM, signal.SIGINT}:
                return
            self._reap(quietly=False)

    def _reap(self, *, quietly: bool) -> None:
        """Learn of every child that has died; SIGCHLDs merge, so ask until there is no more to know."""
        for child in self._children:
            if child.pid is None:
                continue
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                if not quietly:
                    log.warning("%s (pid %d) died with %s; restarting", child.name, pid, _cause(status))
                child.died(time.monotonic())

    def _stop(self) -> int:
        """End the children: first those that serve, then those that listen to them; what does not end in time is killed."""
        for listener in self._listeners:
            listener.close()
        deadline = time.monotonic() + self._drain + STOP_GRACE
        first = [child for child in self._children if not child.last]
        last = [child for child in self._children if child.last]
        clean = self._end(first, deadline)
        if not self._forced:
            self._kill(first)
            clean = self._end(last, max(deadline, time.monotonic() + STOP_GRACE)) and clean
        self._kill(self._children)
        return 0 if clean else 1

    def _end(self, children: Sequence[Child], deadline: float) -> bool:
        """Ask children to end, and say whether all have by the deadline; whoever asks us once more forces it."""
        for child in children:
            self._send(child, signal.SIGTERM)
        while any(child.pid for child in children):
            if (left := deadline - time.monotonic()) <= 0:
                return False
            caught = signal.sigtimedwait(SIGNALS, left)
            if caught is not None and caught.si_signo in {signal.SIGTERM, signal.SIGINT}:
                self._forced = True
                return False
            self._reap(quietly=True)
        return True

    def _kill(self, children: Sequence[Child]) -> None:
        for child in children:
            self._send(child, signal.SIGKILL)
            if child.pid is not None:
                os.waitpid(child.pid, 0)
                child.pid = None

    def _send(self, child: Child, number: int) -> None:
        if child.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, number)


def _cause(status: int) -> str:
    return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit code {os.waitstatus_to_exitcode(status)}"


class Gateway:
    """The sockets and children of one `weir serve`. Raises PortTaken, with nothing left bound, when an address is somebody else's."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.listeners = bind(config.server.host, config.server.port, config.server.workers)
        try:
            self.admin = bind(config.admin.host, config.admin.port, 1)[0]
        except PortTaken:
            for listener in self.listeners:
                listener.close()
            raise
        self.url = address(self.listeners[0])
        self.admin_url = address(self.admin)

    def children(self) -> list[Child]:
        """Return the recorder and the workers, joined by links that outlive them."""
        links = [link() for _ in self.listeners]
        ears, mouths = [ear for ear, _ in links], [mouth for _, mouth in links]
        recorder = Child("recorder", lambda: self._record(ears), last=True)
        bells = [bell() for _ in self.listeners] if len(self.listeners) > 1 else []
        return [recorder, *(self._worker(number, mouth, bells) for number, mouth in enumerate(mouths))]

    def _record(self, ears: list[socket.socket]) -> None:
        self._keep_only(self.admin)
        run_recorder(self.config, ears, self.admin)

    def _worker(self, number: int, mouth: socket.socket, bells: Sequence[Bell]) -> Child:
        listener = self.listeners[number]

        def work() -> None:
            self._keep_only(listener)
            run_worker(self.config, listener, mouth, bells, number)

        return Child("worker", work)

    def _keep_only(self, mine: socket.socket) -> None:
        """In a child: close what is another's to listen on, so that a port is free as soon as its own child has left."""
        for sock in (*self.listeners, self.admin):
            if sock is not mine:
                sock.close()


def link() -> tuple[socket.socket, socket.socket]:
    """Return the recorder's and the worker's end of a link: messages keep their bounds, and wait while either side is replaced."""
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in pair:
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LINK_BUFFER)
    return pair


def bind(host: str, port: int, count: int) -> list[socket.socket]:
    """Return `count` sockets listening on one address; raises PortTaken when somebody else has it.

    With SO_REUSEPORT a second gateway of the same user would share our port unnoticed, so a plain socket asks first.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    probe = _bound(family, host, port, shared=False)
    if count == 1:
        return [probe]
    taken: int = probe.getsockname()[1]
    probe.close()
    return [_bound(family, host, taken, shared=True) for _ in range(count)]


def _bound(family: socket.AddressFamily, host: str, port: int, *, shared: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.setblocking(False)
    try:
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise PortTaken(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return sock


def address(sock: socket.socket) -> str:
    """Return the URL of a listening socket."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
