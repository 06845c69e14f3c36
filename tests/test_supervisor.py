"""The parent process: what it does with real children, and the sockets it makes for them."""

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.supervisor import Child, PortTaken, address, bind, link

PATIENCE = 20.0
PREAMBLE = """
import logging, os, signal, sys, time
from gateway import supervisor
from gateway.supervisor import Child, Supervisor, link

logging.basicConfig(format="%(message)s")

def say(word):
    with open("said", "a") as file:
        file.write(f"{time.monotonic()} {os.getpid()} {word}\\n")

def serve(name, leaving=0.0, deaf=False):
    def main():
        def leave(*_):
            say(f"{name} is told")
            if not deaf:
                time.sleep(leaving)
                say(f"{name} leaves")
                os._exit(0)
        signal.signal(signal.SIGTERM, leave)
        say(f"{name} starts")
        while True:
            time.sleep(10)
    return main
"""


class Said:
    """What the children of a program have said so far, as (seconds, pid, words)."""

    def __init__(self, program: subprocess.Popen[str], folder: Path) -> None:
        self.program, self.folder, self._file = program, folder, folder / "said"

    @property
    def lines(self) -> list[tuple[float, int, str]]:
        text = self._file.read_text() if self._file.exists() else ""
        return [(float(at), int(pid), words) for at, pid, words in (line.split(" ", 2) for line in text.splitlines())]

    @property
    def words(self) -> list[str]:
        return [words for _, _, words in self.lines]

    def pids(self, words: str) -> list[int]:
        return [pid for _, pid, said in self.lines if said == words]

    def until(self, words: str, times: int = 1) -> None:
        """Wait until something has been said so often."""
        deadline = time.monotonic() + PATIENCE
        while self.words.count(words) < times:
            assert time.monotonic() < deadline, (words, self.lines)
            time.sleep(0.01)

    def tell(self, number: int) -> None:
        self.program.send_signal(number)

    def touch(self, name: str) -> None:
        """Make a file that a child waits for."""
        (self.folder / name).touch()

    def end(self, patience: float = PATIENCE) -> tuple[int, str]:
        """Wait for the program's own end; return its exit code and what it logged."""
        _, log = self.program.communicate(timeout=patience)
        return self.program.returncode, log


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[[str], Said]]:
    """Run a program of these lines after the preamble, in a session of its own, of which nothing may be left."""
    running: list[subprocess.Popen[str]] = []

    def start(lines: str) -> Said:
        command = [sys.executable, "-c", PREAMBLE + lines]
        running.append(subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True))
        return Said(running[-1], tmp_path)

    yield start
    for one in running:
        one.kill()
        one.communicate()
    said = {pid for _, pid, _ in Said(running[0], tmp_path).lines} if running else set()
    deadline = time.monotonic() + PATIENCE
    while left := [pid for pid in said if _alive(pid)]:
        if time.monotonic() > deadline:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            pytest.fail(f"processes left behind: {left}")
        time.sleep(0.02)


def _alive(pid: int) -> bool:
    """A process that has died and waits for init to reap it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


# When a child that died comes back.


def test_the_first_death_is_made_good_at_once_and_each_next_one_later() -> None:
    """A child that does not stay up is restarted after 0, 0.1, 0.2 … seconds, at most 5."""
    child, pauses = Child("worker", lambda: None), []
    for _ in range(9):
        child._started = 100.0
        child.died(101.0)
        pauses.append(round(child.due - 101.0, 3))
    assert pauses == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_a_child_that_stayed_up_is_trusted_again() -> None:
    """After ten steady seconds the next death is made good at once."""
    child = Child("worker", lambda: None)
    for now in (1.0, 1.0, 1.0, 20.0):
        child._started = 0.0
        child.died(now)
    assert child.due == 20.0


def test_a_child_with_a_pause_of_its_own_never_comes_back_sooner() -> None:
    """`restart_after` is the least pause, however often it died."""
    child = Child("provider", lambda: None, restart_after=20.0)
    for _ in range(3):
        child._started = 0.0
        child.died(1.0)
        assert child.due == 21.0


def test_a_dead_child_is_replaced_and_the_cause_is_told(program: Callable[[str], Said]) -> None:
    """Killed from outside, there is another process of the same name, and one line says what the first died of."""
    said = program('sys.exit(Supervisor([Child("worker", serve("it"))], drain=1).run())')
    said.until("it starts")
    [first] = said.pids("it starts")
    os.kill(first, signal.SIGKILL)
    said.until("it starts", 2)
    assert said.pids("it starts")[1] != first
    said.tell(signal.SIGTERM)
    assert said.end() == (0, f"worker (pid {first}) died with signal 9; restarting\n")


def test_a_child_that_cannot_start_is_not_restarted_in_a_spin(program: Callable[[str], Said]) -> None:
    """A child that fails at once is tried a few times a second, and says each time what it was and where, not its words (F1)."""
    said = program("""
def broken():
    say("it starts")
    raise RuntimeError("no luck")
sys.exit(Supervisor([Child("worker", broken)], drain=1).run())
""")
    said.until("it starts", 5)  # at 0, 0, 0.1, 0.3, 0.7 s, or later
    said.tell(signal.SIGTERM)
    code, log = said.end()
    assert code == 0
    pauses = [later - sooner for (sooner, _, _), (later, _, _) in itertools.pairwise(said.lines[:5])]
    assert all(pause >= least for pause, least in zip(pauses, (0.0, 0.1, 0.2, 0.4), strict=True)), pauses
    assert 0 <= len(said.lines) - log.count("worker broke: RuntimeError at") <= 1  # the last may have been ended before it broke
    assert "no luck" not in log
    assert "died with exit code 1; restarting" in log


def test_a_supervisor_that_cannot_fork_tries_again(program: Callable[[str], Said]) -> None:
    """A machine out of processes for a moment ends nothing that runs."""
    said = program("""
import errno
fork, refusals = os.fork, iter([True, True])
def poor():
    if next(refusals, False):
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
    return fork()
supervisor.os.fork = poor
sys.exit(Supervisor([Child("worker", serve("it"))], drain=1).run())
""")
    said.until("it starts")
    said.tell(signal.SIGTERM)
    assert said.end() == (0, "worker cannot be started: Resource temporarily unavailable\n" * 2)


# The end.


def test_who_listens_to_the_others_is_told_last(program: Callable[[str], Said]) -> None:
    """The recorder is asked to leave when every worker has left."""
    said = program("""
children = [Child("recorder", serve("recorder"), last=True), Child("worker", serve("one", 0.3)), Child("worker", serve("two", 0.1))]
sys.exit(Supervisor(children, drain=5).run())
""")
    for name in ("recorder", "one", "two"):
        said.until(f"{name} starts")
    said.tell(signal.SIGTERM)
    assert said.end() == (0, "")
    assert said.words[-2:] == ["recorder is told", "recorder leaves"]
    assert {"one leaves", "two leaves"} < set(said.words[:-2])


def test_who_does_not_leave_is_killed_and_the_listener_still_leaves_politely(program: Callable[[str], Said]) -> None:
    """After drain and grace a deaf worker is killed; the recorder still gets to flush; the exit code says that it was not clean."""
    said = program("""
supervisor.STOP_GRACE = 2.5
children = [Child("recorder", serve("recorder"), last=True), Child("worker", serve("deaf", deaf=True))]
sys.exit(Supervisor(children, drain=0.2).run())
""")
    said.until("deaf starts")
    said.until("recorder starts")
    said.tell(signal.SIGTERM)
    assert said.end() == (1, "")
    assert said.words[-3:] == ["deaf is told", "recorder is told", "recorder leaves"]


def test_a_second_signal_kills_whatever_is_left(program: Callable[[str], Said]) -> None:
    """Told twice, it waits for nobody."""
    said = program("""
children = [Child("recorder", serve("recorder"), last=True), Child("worker", serve("deaf", deaf=True))]
sys.exit(Supervisor(children, drain=60).run())
""")
    said.until("deaf starts")
    said.until("recorder starts")
    said.tell(signal.SIGTERM)
    said.until("deaf is told")
    said.tell(signal.SIGINT)
    assert said.end() == (1, "")
    assert "recorder is told" not in said.words


def test_it_ends_by_itself_when_its_time_is_over(program: Callable[[str], Said]) -> None:
    """`seconds` end a run as SIGTERM does; SIGHUP ends nothing."""
    said = program("""
run = Supervisor([Child("worker", serve("it"))], drain=1).run(seconds=2.5, started=lambda: say("all started"))
sys.exit(run)
""")
    said.until("it starts")
    said.tell(signal.SIGHUP)
    assert said.end() == (0, "")
    assert said.words.count("it leaves") == said.words.count("all started") == 1


def test_a_signal_in_the_last_moments_changes_nothing(program: Callable[[str], Said]) -> None:
    """Between the last child's end and its own it can still be told to stop, and leaves with the code it has."""
    said = program("""
code = Supervisor([Child("worker", serve("it"))], drain=1).run(seconds=0.1)
say("all have left")
time.sleep(0.5)
sys.exit(code)
""")
    said.until("all have left")
    said.tell(signal.SIGTERM)
    said.tell(signal.SIGINT)
    assert said.end() == (0, "")


# Sockets.


def test_messages_wait_while_the_listener_is_replaced(program: Callable[[str], Said]) -> None:
    """A link outlives both sides: what was said to one process and not read is read, message by message, by the next one."""
    said = program("""
ear, mouth = link()
def speak():
    for number in range(4):
        mouth.send(b"m%d" % number)
    serve("mouth")()
def listen():
    ear.setblocking(True)
    say(ear.recv(100).decode())
children = [Child("recorder", listen, last=True), Child("worker", speak)]
sys.exit(Supervisor(children, drain=1).run())
""")
    said.until("m3")
    said.tell(signal.SIGTERM)
    assert said.end()[0] == 0
    assert [words for words in said.words if words.startswith("m") and words[1:].isdigit()] == ["m0", "m1", "m2", "m3"]
    assert len({said.pids(f"m{number}")[0] for number in range(4)}) == 4


def test_a_link_never_blocks_and_keeps_message_bounds() -> None:
    """Each send is one receive; a full link refuses at once instead of waiting."""
    ear, mouth = link()
    with ear, mouth:
        mouth.send(b"one")
        mouth.send(b"two")
        assert (ear.recv(100), ear.recv(100)) == (b"one", b"two")
        with pytest.raises(BlockingIOError):
            ear.recv(100)
        with pytest.raises(BlockingIOError):
            _fill(mouth)


def _fill(sock: socket.socket) -> None:
    for _ in range(100_000):
        sock.send(bytes(32 * 1024))


@pytest.mark.parametrize("count", [1, 3])
def test_sockets_of_one_address_share_its_port(count: int) -> None:
    """Port 0 is one free port for all workers, and all of them listen."""
    socks = bind("127.0.0.1", 0, count)
    ports = {sock.getsockname()[1] for sock in socks}
    assert (len(socks), len(ports)) == (count, 1)
    assert all(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) for sock in socks)
    assert address(socks[0]) == f"http://127.0.0.1:{ports.pop()}"
    for sock in socks:
        sock.close()


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("shared", [False, True])
def test_a_port_of_somebody_else_is_not_shared(count: int, shared: bool) -> None:
    """Even a program that would share its port with ours keeps it to itself: PortTaken names the address."""
    with socket.create_server(("127.0.0.1", 0), reuse_port=shared) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"^cannot listen on 127\.0\.0\.1:{port}: Address already in use$"):
            bind("127.0.0.1", port, count)


def test_an_address_that_is_not_ours_is_said_in_one_line() -> None:
    """TEST-NET-1 (RFC 5737) is nobody's: the error names the address and the reason."""
    with pytest.raises(PortTaken, match=r"^cannot listen on 192\.0\.2\.1:0: Cannot assign requested address$"):
        bind("192.0.2.1", 0, 1)


def test_ipv6_addresses_are_urls_too() -> None:
    """An IPv6 host stands in brackets."""
    try:
        [sock] = bind("::1", 0, 1)
    except PortTaken:
        pytest.skip("no IPv6 here")
    with sock:
        assert address(sock) == f"http://[::1]:{sock.getsockname()[1]}"


# Replacing, and what is said between parent and child.

SEATS = """
from gateway import replacement
from gateway.control import Ear, Leaving, Line, Ready, Retire, Stop

def words(child):
    child.ear.setblocking(True)
    line = Line(child.ear)
    child.ear.setblocking(True)
    for word, _ in line.heard():
        yield word

def seat(number, main):
    two = [Child("worker", None) for _ in range(2)]
    for shift, child in enumerate(two):
        child.seat, child.slot, child.wanted = number, 10 * number + shift, not shift
        child.main = lambda child=child, shift=shift: main(child, f"{number}{'ab'[shift]}")
    return two

def waits_for(file):
    while not os.path.exists(file):
        time.sleep(0.01)

def retiring(child, name, leave=lambda: time.sleep(0.2)):
    def main():
        signal.signal(signal.SIGTERM, lambda *_: (say(f"{name} is told"), os._exit(0)))
        say(f"{name} starts")
        Line(child.ear).say(Ready())
        os.kill(os.getppid(), signal.SIGCHLD)
        for word in words(child):
            if isinstance(word, Retire):
                say(f"{name} retires")
                leave()
                say(f"{name} leaves")
                os._exit(0)
    main()
"""


def test_workers_are_replaced_one_after_the_other(program: Callable[[str], Said]) -> None:
    """The successor of each serves before it is told to retire, and the next seat waits for that; who has left stays away."""
    said = program(
        SEATS
        + """
children = [*seat(1, retiring), *seat(2, retiring)]
sys.exit(Supervisor(children, drain=1).run())
"""
    )
    said.until("1a starts")
    said.until("2a starts")
    said.tell(signal.SIGUSR2)
    said.until("1a leaves")
    said.until("2a leaves")
    order = [words for words in said.words if words in {"1b starts", "1a retires", "2b starts", "2a retires"}]
    assert order == ["1b starts", "1a retires", "2b starts", "2a retires"]
    said.tell(signal.SIGUSR2)
    said.until("1b leaves")
    said.until("2b leaves")
    said.tell(signal.SIGTERM)
    code, _ = said.end()
    assert code == 0
    assert sorted(words for words in said.words if words.endswith("starts")) == sorted(
        ["1a starts", "2a starts", "1b starts", "2b starts", "1a starts", "2a starts"]
    )


def test_a_successor_waits_until_the_last_predecessor_has_left(program: Callable[[str], Said]) -> None:
    """There are two links a seat: while the one before still speaks on one, nobody else can; other seats go on."""
    said = program(
        SEATS
        + """
slow = seat(1, lambda child, name: retiring(child, name, lambda: waits_for("over") if name == "1a" else None))
sys.exit(Supervisor([*slow, *seat(2, retiring)], drain=1).run())
"""
    )
    said.until("1a starts")
    said.until("2a starts")
    said.tell(signal.SIGUSR2)
    said.until("2a leaves")
    said.tell(signal.SIGUSR2)
    said.until("2b leaves")
    assert said.words.count("1a starts") == 1
    said.touch("over")
    said.until("1b leaves")
    said.tell(signal.SIGTERM)
    assert said.end()[0] == 0
    words = said.words
    assert words.index("1a leaves") < len(words) - 1 - words[::-1].index("1a starts")


def test_a_successor_that_does_not_come_up_is_given_up(program: Callable[[str], Said]) -> None:
    """What serves goes on serving, and the log says so."""
    said = program(
        SEATS
        + """
replacement.READY_WITHIN = 2.5
def main(child, name):
    if name == "1b":
        say("1b starts")
        time.sleep(60)
    retiring(child, name)
sys.exit(Supervisor(seat(1, main), drain=1).run())
"""
    )
    said.until("1a starts")
    said.tell(signal.SIGUSR2)
    said.until("1b starts")
    [successor] = said.pids("1b starts")
    deadline = time.monotonic() + PATIENCE
    while _alive(successor):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    said.tell(signal.SIGTERM)
    code, log = said.end()
    assert (code, said.words.count("1a retires"), said.words.count("1b starts")) == (0, 0, 1)
    assert "does not come up" in log


def test_who_says_that_it_leaves_is_followed_before_it_has_left(program: Callable[[str], Said]) -> None:
    """A worker that somebody else told to leave need not be gone for another to begin; nobody follows it a second time."""
    said = program(
        SEATS
        + """
def main(child, name):
    if name == "1a":
        Line(child.ear).say(Leaving())
        os.kill(os.getppid(), signal.SIGCHLD)
        waits_for("over")
        say("1a leaves")
        return
    serve(name)()
sys.exit(Supervisor(seat(1, main), drain=1).run())
"""
    )
    said.until("1b starts")
    said.touch("over")
    said.until("1a leaves")
    time.sleep(0.3)
    said.tell(signal.SIGTERM)
    assert said.end()[0] == 0
    assert (said.words.count("1b starts"), said.words.count("1a leaves")) == (1, 1)


def test_a_seat_is_never_left_without_a_worker(program: Callable[[str], Said]) -> None:
    """Its worker is told to leave while the successor crashes again and again: whoever can, serves in the end, and can be replaced (G4)."""
    said = program(
        SEATS
        + """
from gateway import child as one
replacement.READY_WITHIN, one.LONGEST_PAUSE = 2.5, 0.3
def main(child, name):
    def leave(*_):
        Line(child.ear).say(Leaving())
        os.kill(os.getppid(), signal.SIGCHLD)
        time.sleep(0.2)
        say(f"{name} leaves")
        os._exit(0)
    if name == "1b" and not os.path.exists("healed"):
        say("1b breaks")
        os._exit(1)
    if os.path.exists("healed"):
        say(f"{name} serves")
        retiring(child, name, lambda: None)
    signal.signal(signal.SIGTERM, leave)
    say(f"{name} starts")
    Line(child.ear).say(Ready())
    os.kill(os.getppid(), signal.SIGCHLD)
    while True:
        time.sleep(10)
sys.exit(Supervisor(seat(1, main), drain=1).run())
"""
    )
    said.until("1a starts")
    said.tell(signal.SIGUSR2)
    said.until("1b breaks", 4)
    reaped = Path(f"/proc/{said.pids('1b breaks')[3]}")
    deadline = time.monotonic() + PATIENCE
    while reaped.exists():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    os.kill(said.pids("1a starts")[0], signal.SIGTERM)  # nobody runs in its successor's place just now
    said.until("1a leaves")
    said.until("1b breaks", said.words.count("1b breaks") + 10)  # beyond the time in which a successor has to come up
    said.touch("healed")
    said.until("1b serves")
    said.tell(signal.SIGUSR2)
    said.until("1b leaves")
    said.until("1a serves")
    said.tell(signal.SIGTERM)
    code, log = said.end()
    assert (code, "does not come up" in log) == (0, False)


def test_a_child_hears_why_it_is_stopped_and_shares_its_line_with_nobody(program: Callable[[str], Said]) -> None:
    """The word that the whole gateway ends is there when SIGTERM comes; another child's copy of the line keeps none open."""
    said = program(
        SEATS
        + """
def main(child, name):
    def told(*_):
        child.ear.setblocking(False)
        say(f"{name} heard {[type(word).__name__ for word, _ in Line(child.ear).heard()]}")
        os._exit(0)
    signal.signal(signal.SIGTERM, told)
    files = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    say(f"{name} holds {sum(os.readlink(file).startswith('socket') for file in files if os.path.exists(file))}")
    while True:
        time.sleep(10)
sys.exit(Supervisor([*seat(1, main), *seat(2, main)], drain=1).run())
"""
    )
    said.until("1a holds 1")
    said.until("2a holds 1")
    said.tell(signal.SIGTERM)
    assert said.end()[0] == 0
    assert {"1a heard ['Stop']", "2a heard ['Stop']"} < set(said.words)


def test_signals_meant_for_the_parent_end_no_child(program: Callable[[str], Said]) -> None:
    """SIGHUP, SIGUSR2 and SIGINT to a child, as a signal to all of a name brings them, are ignored there."""
    said = program('sys.exit(Supervisor([Child("worker", serve("it"))], drain=1).run())')
    said.until("it starts")
    [child] = said.pids("it starts")
    for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGINT):
        os.kill(child, number)
    time.sleep(0.3)
    said.tell(signal.SIGTERM)
    assert said.end() == (0, "")
    assert said.words == ["it starts", "it is told", "it leaves"]
