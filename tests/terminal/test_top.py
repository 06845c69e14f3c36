"""`weir top` in a terminal of its own: what it shows, how it leaves, and what it is in a pipe."""

import asyncio
import fcntl
import os
import pty
import signal
import struct
import sys
import termios
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from aiohttp import ClientSession
from pydantic import SecretStr

from gateway.core.messages import Begun, Ended, Hello, Pulse, Stalled, TargetState
from gateway.core.record import Cadence, Stall
from gateway.telemetry.recorder import Recorder

Serve = Callable[..., Awaitable[tuple[Recorder, ClientSession]]]


class Screen:
    """A terminal with a `weir top` in it; `shown` is all that was written to it so far."""

    def __init__(self, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        self.resize(40, 150)
        self.before = termios.tcgetattr(self._ours)
        environ = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        environ |= {"TERM": "xterm-256color", "NO_COLOR": ""}
        self._pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", "gateway", "top", *arguments],
            environ,
            # opened by the leader of a session, it becomes that session's terminal: its Ctrl-C is a signal
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.ttyname(theirs), os.O_RDWR, 0), *((os.POSIX_SPAWN_DUP2, 0, fd) for fd in (1, 2))],
            setsid=True,
        )
        os.close(theirs)
        os.set_blocking(self._ours, False)
        self._shown = b""
        self._code: int | None = None

    @property
    def shown(self) -> str:
        try:
            while data := os.read(self._ours, 65536):
                self._shown += data
        except (BlockingIOError, OSError):
            pass
        return self._shown.decode(errors="replace")

    @property
    def attributes(self) -> Any:
        return termios.tcgetattr(self._ours)

    def press(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def signal(self, number: int) -> None:
        os.kill(self._pid, number)

    def resize(self, lines: int, columns: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def left(self) -> bool:
        """Say whether it has ended; then `code` is how."""
        if self._code is None:
            self.shown  # noqa: B018 - what it writes last must be read, or it waits
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code is not None

    @property
    def code(self) -> int | None:
        return self._code

    def close(self) -> None:
        if not self.left():
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        os.close(self._ours)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Screen]]:
    screens: list[Screen] = []

    def start(*arguments: str) -> Screen:
        screens.append(Screen(*arguments))
        return screens[-1]

    yield start
    for screen in screens:
        screen.close()


@pytest.fixture
async def busy(serve: Serve, make_record: Any) -> AsyncIterator[tuple[Recorder, str]]:
    """A recorder with a stalled stream that ended, one that is silent now, a worker, and a target whose breaker is open."""
    recorder, session = await serve()
    now = time.monotonic()
    recorder.receive(Hello(1))
    silence = Stall(at=1.0, length=2.5, blame="client", chunk=3)
    cadence = Cadence(chunks=5, stalls=[silence], stall_count=1, stall_time={"client": 2.5})
    recorder.receive(Ended(1, make_record(1, cadence=cadence)))
    record = make_record(77, ended_at=None, stream_id="abcdef0123456789", received_at=now - 5)
    recorder.receive(Begun(record, "streaming"))
    recorder.receive(Stalled("abcdef0123456789", "upstream", "streaming", now - 3.0))
    async with asyncio.TaskGroup() as group:
        beating = group.create_task(heart(recorder))
        yield recorder, str(session._base_url).rstrip("/")
        beating.cancel()


async def heart(recorder: Recorder) -> None:
    """Beat as a worker's does: one that is not heard of has nothing to say of the present."""
    while True:
        now = time.monotonic()
        recorder.receive(
            Pulse(1, now, 1, 0.0123, 0.0, {}, [TargetState("fast", "tiny", 0.3, 0.42, 1, "open", now - 2, "http_\x1b[31m500")])
        )
        await asyncio.sleep(0.5)


@pytest.mark.parametrize("key", [b"q", b"\x03"], ids=["q", "ctrl-c"])
async def test_it_shows_and_leaves_the_terminal_as_it_was(
    busy: tuple[Recorder, str], terminal: Callable[..., Screen], until: Any, key: bytes
) -> None:
    """Routes, upstreams and running streams on a screen of its own; q or Ctrl-C ends it with 0, cursor and keyboard restored."""
    _, url = busy
    screen = terminal("--admin", url)
    await until(lambda: "abcdef01" in screen.shown, "the running stream is shown", 60.0)
    for words in ("1 worker", "12 ms", "chat", "fast", "open", "stalled U", "▨", "http_"):
        assert words in screen.shown, words
    assert "http_\x1b[31m500" not in screen.shown
    assert screen.attributes[3] & (termios.ICANON | termios.ECHO) == 0
    screen.press(key)
    await until(screen.left, "it has left", 60.0)
    assert screen.code == 0
    assert screen.attributes == screen.before
    assert screen.shown.count("\x1b[?1049h") == screen.shown.count("\x1b[?1049l") == 1
    assert screen.shown.rindex("\x1b[?25h") > screen.shown.rindex("\x1b[?25l")
    assert "Traceback" not in screen.shown


async def test_it_follows_the_size_and_news(
    busy: tuple[Recorder, str], terminal: Callable[..., Screen], until: Any, make_record: Any
) -> None:
    """A wider terminal is used at once, a stream that begins is there within a second or two; SIGTERM ends it as q does."""
    recorder, url = busy
    screen = terminal("--admin", url)
    await until(lambda: "abcdef01" in screen.shown, "the running stream is shown", 60.0)
    assert "http_" in screen.shown
    screen.resize(30, 100)
    screen.signal(signal.SIGWINCH)
    seen = len(screen.shown)
    await until(lambda: "abcdef01" in screen.shown[seen:], "it draws again", 60.0)
    latest = screen.shown[seen:].rpartition("\x1b[H")[0].rpartition("\x1b[H")[2]
    assert "http_" not in latest  # no room for the last error
    recorder.receive(Begun(make_record(78, ended_at=None, stream_id="beef000111"), "first_token"))
    await until(lambda: "beef0001" in screen.shown, "a new stream is shown", 60.0)
    screen.signal(signal.SIGTERM)
    await until(screen.left, "it has left", 60.0)
    assert (screen.code, screen.attributes) == (0, screen.before)


async def test_a_recorder_that_goes_away_is_said_on_the_screen(
    busy: tuple[Recorder, str], serve: Any, terminal: Callable[..., Screen], until: Any
) -> None:
    """What is wrong stands in red above the last figures, and the screen stays."""
    recorder, url = busy
    screen = terminal("--admin", url)
    await until(lambda: "abcdef01" in screen.shown, "the running stream is shown", 60.0)
    recorder.config = recorder.config.model_copy(update={"admin": serve_token(recorder)})
    await until(lambda: "asks for a token" in screen.shown, "the trouble is shown", 60.0)
    assert not screen.left()


def serve_token(recorder: Recorder) -> Any:
    """Return the admin part with a token that the view does not know."""
    return recorder.config.admin.model_copy(update={"token": SecretStr("changed")})


async def test_in_a_pipe_it_is_a_snapshot(busy: tuple[Recorder, str], weir: Any) -> None:
    """Without a terminal it prints what there is, uncut, uncoloured, once, and leaves with 0; so it does for --once."""
    _, url = busy
    for arguments in ((), ("--once",)):
        code, out, err = await (await weir("top", "--admin", url, *arguments)).over()
        assert (code, err) == (0, "")
        assert "\x1b" not in out
        for words in ("1 worker", "chat", "fast", "tiny", "open", "C 1", "abcdef01", "stalled U", "http_\ufffd[31m500", "100.0 %"):
            assert words in out, words
