"""The parent process: binds the sockets, forks the recorder and the workers, restarts what dies, and ends them in the right order.

It has no event loop and no threads, so that forking is safe and a child is back a few milliseconds after it died. Listening
sockets and the links between workers and recorder are made here and outlive any child: connections and messages wait in the
kernel while one is replaced.
"""

import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence

from gateway.child import SIGNALS, Child
from gateway.config import Config
from gateway.console.serve import run as run_recorder
from gateway.control import Leaving, Ready, Reload, Stop, Swap, Vacant
from gateway.proxy.neighbours import Neighbours, bell, roll
from gateway.reload import Reloads, Source
from gateway.replacement import STEP_SECONDS, Replacement
from gateway.worker import run_worker

log = logging.getLogger("weir.supervisor")
BACKLOG = 4096
LINK_BUFFER = 4 * 1024 * 1024
STOP_GRACE = 5.0
LOOK_SECONDS = 0.5
SHIFTS = (0, 1)
"""Who serves in a seat, and who replaces that: each has a slot of its own to speak in."""


class PortTaken(Exception):
    """An address to listen on belongs to somebody else."""


class Supervisor:
    """Keeps children running until it is told to stop: by SIGTERM, SIGINT, or `seconds` having passed.

    SIGHUP, or a file that has changed, makes it reload; SIGUSR2 makes it replace its workers one after the other. A second SIGTERM or
    SIGINT kills what is left. `listeners` are closed here when stopping begins: each child goes on with its own, and one that has left
    leaves no port open on which callers would wait for nobody.
    """

    def __init__(
        self, children: Sequence[Child], drain: float, listeners: Sequence[socket.socket] = (), reloads: Reloads | None = None
    ) -> None:
        self._children, self._drain, self._listeners = children, drain, listeners
        self._reloads = reloads
        self._replacement = Replacement(children, self._start, self._vacate)
        self._forced = False

    def run(self, seconds: float | None = None, started: Callable[[], None] = lambda: None) -> int:
        """Run to the end and return the exit code; `started` is called when every child has been forked.

        The signals stay blocked when it returns: one more of them in the process's last moments must not change its exit code.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        for child in self._children:
            if child.wanted:
                self._start(child)
        started()
        self._watch(seconds)
        return self._stop()

    def _start(self, child: Child) -> None:
        child.start(time.monotonic(), self._children)
        if child.last:  # a new recorder finds words of processes that have left in links that nobody speaks on now
            for other in self._children:
                self._vacate(other)

    def _vacate(self, child: Child) -> None:
        """Let the recorder know that nobody speaks in a slot any more."""
        if child.seat is not None and child.pid is None and not child.wanted and child.last_pid:
            for last in self._children:
                if last.last:
                    last.tell(Vacant(child.slot, child.last_pid))

    def _watch(self, seconds: float | None) -> None:
        end = time.monotonic() + seconds if seconds is not None else float("inf")
        while (now := time.monotonic()) < end:
            for child in self._absent():
                if child.due <= now:
                    self._start(child)
            self._listen(now)
            if self._reloads is not None and self._reloads.due(now):
                self._reload(self._reloads)
            if self._replacement.busy:
                self._replacement.step(now)
            caught = signal.sigtimedwait(SIGNALS, max(0.0, self._wake_at(now, end) - now))
            number = caught.si_signo if caught is not None else 0
            if number in {signal.SIGTERM, signal.SIGINT}:
                return
            if number == signal.SIGHUP:
                self._ask(now)
            elif number == signal.SIGUSR2:
                self._replacement.ask()
            self._reap(quietly=False)

    def _absent(self) -> list[Child]:
        return [child for child in self._children if child.pid is None and child.wanted]

    def _wake_at(self, now: float, end: float) -> float:
        times = [end, now + 3600.0, *(child.due for child in self._absent())]
        if self._reloads is not None:
            times.append(self._reloads.wake_at(now))
        if self._replacement.busy:
            times.append(now + STEP_SECONDS)
        return min(times)

    def _listen(self, now: float) -> None:
        """Hear what the children have to say, and do what they ask for."""
        for child in self._children:
            for word in child.heard():
                match word:
                    case Ready():
                        child.ready = True
                    case Leaving():
                        self._replacement.leaving(child)
                    case Reload(number=number):
                        self._ask(now, number)

    def _ask(self, now: float, number: int = 0) -> None:
        if self._reloads is None:
            log.info("there is nothing to reload")
        else:
            self._reloads.ask(now, number)

    def _reload(self, reloads: Reloads) -> None:
        """Read the configuration again, hand a good one to every child, and tell what became of it."""
        outcome = reloads.reload()
        for problem in outcome.problems:
            log.error("not reloaded: %s", problem)
        if not outcome.problems:  # what is no change here may be one to a process that could not take it on before
            self._drain = reloads.config.server.drain
            for child in self._children:
                child.tell(Swap(), reloads.config)
            said = "reloaded: config %s" if outcome.changed else "nothing to reload: the file says what is running, config %s"
            log.info(said, outcome.hash)
        for child in self._children:
            if child.last:
                child.tell(outcome)

    def _reap(self, *, quietly: bool) -> None:
        """Learn of every child that has died; SIGCHLDs merge, so ask until there is no more to know."""
        for child in self._children:
            if child.pid is None:
                continue
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if not pid:
                continue
            if not child.wanted:
                child.left()
                self._vacate(child)
                if not quietly:
                    log.info("%s (pid %d) has left with %s", child.name, pid, _cause(status))
                continue
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
            for child in first:
                child.kill()
            clean = self._end(last, max(deadline, time.monotonic() + STOP_GRACE)) and clean
        for child in self._children:
            child.kill()
        return 0 if clean else 1

    def _end(self, children: Sequence[Child], deadline: float) -> bool:
        """Ask children to end, and say whether all have by the deadline; whoever asks us once more forces it."""
        for child in children:
            child.wanted = False
            child.tell(Stop())
            child.signal(signal.SIGTERM)
        while any(child.pid for child in children):
            if (left := deadline - time.monotonic()) <= 0:
                return False
            caught = signal.sigtimedwait(SIGNALS, min(left, LOOK_SECONDS))
            if caught is not None and caught.si_signo in {signal.SIGTERM, signal.SIGINT}:
                self._forced = True
                return False
            self._reap(quietly=True)
            for child in self._absent():  # who listens to those that end must hear them out, also if it has died meanwhile
                if child.last and child not in children and child.due <= time.monotonic():
                    self._start(child)
        return True


def _cause(status: int) -> str:
    return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit code {os.waitstatus_to_exitcode(status)}"


class Gateway:
    """The sockets and children of one `weir serve`. Raises PortTaken, with nothing left bound, when an address is somebody else's.

    `source` is where its configuration came from, if that can be read again.
    """

    def __init__(self, config: Config, source: Source | None = None) -> None:
        self.reloads = Reloads(config, source)
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
        """Return the recorder and the workers, joined by links that outlive them: two a worker, for it and for who takes its place."""
        seats = list(enumerate(self.listeners))
        links = [link() for _ in SHIFTS for _ in seats]
        ears, bells, present = [ear for ear, _ in links], [bell() for _ in links], roll()
        recorder = Child("recorder", lambda: self._record(recorder, ears), last=True)
        places = [Neighbours(bells, present, shift * len(seats) + seat) for shift in SHIFTS for seat, _ in seats]
        return [recorder, *(self._worker(place.number % len(seats), links, place) for place in places)]

    def _record(self, child: Child, ears: list[socket.socket]) -> None:
        self._keep_only(self.admin)
        run_recorder(self.reloads.config, ears, self.admin, child.ear)

    def _worker(self, seat: int, links: list[tuple[socket.socket, socket.socket]], place: Neighbours) -> Child:
        slot = place.number

        def work() -> None:
            self._keep_only(self.listeners[seat])
            run_worker(self.reloads.config, self.listeners[seat], links[slot][1], child.ear, place)

        child = Child("worker", work)
        child.seat, child.slot, child.wanted = seat, slot, slot < len(self.listeners)
        return child

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
