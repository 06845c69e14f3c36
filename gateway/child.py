"""One process that the supervisor keeps: forked, heard while it runs, started again when it dies, as long as it is wanted."""

import contextlib
import ctypes
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from gateway.config import Config
from gateway.control import Line, Word, pair
from gateway.logs import blunder

log = logging.getLogger("weir.supervisor")
SIGNALS = frozenset({signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2})
STEADY_SECONDS = 10.0
LONGEST_PAUSE = 5.0
PR_SET_PDEATHSIG = 1


class Child:
    """One process to keep running. `last` ones are stopped only when all others have ended: they hear what those still say.

    Children of one `seat` stand in for each other: one of them is wanted, the other begins when that is to be replaced. In the process
    itself `ear` is its end of the line to the supervisor. `slot` is the number of the link that it speaks on.
    """

    def __init__(self, name: str, main: Callable[[], None], *, last: bool = False, restart_after: float = 0.0) -> None:
        self.name, self.main, self.last = name, main, last
        self.seat: int | None = None
        self.slot = 0
        self.wanted = True
        self.ready = False
        self.pid: int | None = None
        self.last_pid = 0
        self.ear: socket.socket | None = None
        self.line: Line | None = None
        self._first_pause = restart_after
        self._pause = restart_after
        self._started = 0.0
        self.due = 0.0

    def start(self, now: float, others: Iterable["Child"] = ()) -> None:
        """Fork. In the child, `main` runs with default signals, in a process group of its own, and dies with its parent.

        What the parent holds of the lines to `others` is closed there: each is between two processes only.
        """
        self._started, parent, lines = now, os.getpid(), [other.line for other in others if other.line is not None]
        line, ear = pair()
        try:
            self.pid = os.fork()
        except OSError as error:  # no memory or no process left just now: those that run must not end for it
            log.error("%s cannot be started: %s", self.name, error.strerror)
            line.close()
            ear.close()
            self.died(now)
            return
        if self.pid == 0:
            self.ear = ear
            for its in (*lines, line):
                its.close()
            _be_child(self.name, self.main, parent)
        ear.close()
        self.line, self.last_pid = line, self.pid

    def died(self, now: float) -> None:
        """Plan its return: at once, or later and later when it does not stay up."""
        self.pid, self.ready = None, False
        if self.line is not None:
            self.line.close()
            self.line = None
        steady = now - self._started > STEADY_SECONDS
        self.due = now + (self._first_pause if steady else self._pause)
        self._pause = self._first_pause if steady else max(self._first_pause, min(LONGEST_PAUSE, max(0.1, self._pause * 2)))

    def left(self) -> None:
        """Forget a process that has gone for good; its successor, should there be one, begins with a clean record."""
        self.died(0.0)
        self._pause, self.due = self._first_pause, 0.0

    def tell(self, word: Word, config: Config | None = None) -> None:
        """Say something to the process, if there is one."""
        if self.line is not None:
            self.line.say(word, config)

    def heard(self) -> Iterator[Word]:
        """Yield what the process has said, and send it what waits."""
        if self.line is not None:
            self.line.flush()
            with contextlib.suppress(EOFError):
                for word, _ in self.line.heard():
                    yield word

    def signal(self, number: int) -> None:
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it now, and wait until it has."""
        self.signal(signal.SIGKILL)
        if self.pid is not None:
            os.waitpid(self.pid, 0)
            self.left()


def _be_child(name: str, main: Callable[[], None], parent: int) -> None:
    """Everything a forked child does, its exit included: nothing of the parent's stack may run twice."""
    code = 1
    try:
        os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            return  # it died before we could ask to be told
        Path("/proc/self/comm").write_text(f"weir-{name}"[:15])
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):  # the supervisor's to act on, whoever they were sent to
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        main()
        code = 0
    except BaseException as error:  # noqa: BLE001  the child ends here whatever it was
        log.error("%s broke: %s", name, blunder(error))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
