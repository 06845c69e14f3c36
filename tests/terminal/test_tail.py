"""`weir tail` over a real admin listener: every stream that ends, once, through filters, pipes and restarts."""

import asyncio
import os
import pty
import select
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiohttp import ClientSession, web

from gateway.config import Config
from gateway.console.api import admin_app
from gateway.core.messages import Ended
from gateway.core.record import Cadence, Stall
from gateway.telemetry.recorder import Recorder
from gateway.terminal.ink import Ink
from gateway.terminal.tail import Filter, line

Serve = Callable[..., Awaitable[tuple[Recorder, ClientSession]]]


def address(session: ClientSession) -> str:
    return str(session._base_url).rstrip("/")


async def listens(recorder: Recorder, until: Callable[..., Any]) -> None:
    """Wait until somebody watches."""
    await until(lambda: recorder.onlookers, "the view listens", 60.0)


async def test_a_line_for_each_stream_that_ends(serve: Serve, weir: Any, until: Any, make_record: Any) -> None:
    """Route, upstream, model, outcome, TTFT and stalls are on it, uncoloured in a pipe; Ctrl-C leaves with 0 and without a word."""
    recorder, session = await serve()
    view = await weir("tail", "--admin", address(session))
    await listens(recorder, until)
    silence = Stall(at=1.0, length=2.5, blame="client", chunk=3)
    cadence = Cadence(chunks=5, stalls=[silence], stall_count=1, stall_time={"client": 2.5})
    recorder.receive(Ended(1, make_record(1, cadence=cadence)))
    recorder.receive(Ended(2, make_record(2, outcome="upstream_error", error="429", first_token_at=None)))
    first, second = await view.line(), await view.line()
    assert [word in first for word in ("stream-1", "chat", "fast", "tiny", "completed", "300 ms!", "1 stall C 2.50 s")] == [True] * 7
    assert "upstream_error" in second
    assert "429" in second
    assert "\x1b" not in first + second
    assert await view.interrupt() == (0, "", "")


async def test_rows_as_json(serve: Serve, weir: Any, until: Any, make_record: Any) -> None:
    """With --json each line is the API's row, and nobody need guess when it ended."""
    recorder, session = await serve()
    view = await weir("tail", "--json", "--admin", address(session))
    await listens(recorder, until)
    record = make_record(1)
    recorder.receive(Ended(1, record))
    row = orjson.loads(await view.line())
    assert (row["stream_id"], row["outcome"], row["ttft"]) == ("stream-1", "completed", pytest.approx(0.3))
    assert row["ended"] == pytest.approx(record.received_unix + 1)


async def test_a_thousand_a_second_are_all_told(serve: Serve, weir: Any, until: Any, make_record: Any) -> None:
    """Every one of 3,000 streams that end at once is a line, in their order."""
    recorder, session = await serve()
    view = await weir("tail", "--json", "--admin", address(session))
    await listens(recorder, until)
    for number in range(3000):
        recorder.receive(Ended(number, make_record(number)))
    told = [orjson.loads(await view.line())["stream_id"] for _ in range(3000)]
    assert told == [f"stream-{number}" for number in range(3000)]


async def test_what_is_left_out_is_said(serve: Serve, weir: Any, until: Any, make_record: Any) -> None:
    """More than can be told at once is told as far as it goes, and the rest is counted on stderr."""
    recorder, session = await serve()
    view = await weir("tail", "--json", "--admin", address(session))
    await listens(recorder, until)
    for number in range(5100):
        recorder.receive(Ended(number, make_record(number)))
    for _ in range(5000):
        await view.line()
    assert await view.complaint() == "weir: 100 streams are left out here: more ended than this could be told"


async def test_since_begins_with_what_is_stored(serve: Serve, weir: Any, until: Any, make_record: Any) -> None:
    """Stored streams come first, the oldest first, through the same filters; then the new ones; each once."""
    recorder, session = await serve()
    for number in range(1, 5):
        outcome = "completed" if number % 2 else "upstream_error"
        recorder.receive(Ended(number, make_record(number, outcome=outcome)))
    await stored(recorder, 4)
    view = await weir("tail", "--since", "5m", "--outcome", "completed", "--json", "--admin", address(session))
    assert [orjson.loads(await view.line())["stream_id"] for _ in range(2)] == ["stream-1", "stream-3"]
    await listens(recorder, until)
    for number in range(5, 8):
        recorder.receive(Ended(number, make_record(number)))
    assert [orjson.loads(await view.line())["stream_id"] for _ in range(3)] == ["stream-5", "stream-6", "stream-7"]
    assert await view.interrupt() == (0, "", "")


async def stored(recorder: Recorder, count: int) -> None:
    """Wait until the store has committed `count` streams."""
    assert recorder.store is not None
    async with asyncio.timeout(10):
        while len(await asyncio.to_thread(recorder.store.newest_ids, 1000)) < count:  # noqa: ASYNC110 - it is a file
            await asyncio.sleep(0.02)


async def test_a_reader_who_leaves_ends_it_quietly(serve: Serve, until: Any, make_record: Any) -> None:
    """`weir tail | head -2` leaves without a traceback when the third line has nowhere to go."""
    recorder, session = await serve()
    command = f"{sys.executable} -m gateway tail --admin {address(session)} | head -2; echo left ${{PIPESTATUS[0]}}"
    shell = await asyncio.create_subprocess_exec(
        "bash", "-c", command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL
    )
    await listens(recorder, until)
    number = 0
    while recorder.onlookers and number < 200:
        number += 1
        recorder.receive(Ended(number, make_record(number)))
        await asyncio.sleep(0.1)
    async with asyncio.timeout(60):
        out, err = await shell.communicate()
    assert (len(out.splitlines()), out.splitlines()[-1], err) == (3, b"left 0", b"")


async def test_a_restarted_recorder_is_found_again(make_config: Any, weir: Any, until: Any, make_record: Any) -> None:
    """While the recorder is away the view says so once; when it is back, what ended meanwhile is told, and nothing twice."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    async with recorder_at(make_config(), port) as recorder:
        view = await weir("tail", "--json", "--admin", f"127.0.0.1:{port}")
        await listens(recorder, until)
        recorder.receive(Ended(1, make_record(1)))
        assert orjson.loads(await view.line())["stream_id"] == "stream-1"
    assert (await view.complaint()).endswith("; trying again")
    async with recorder_at(make_config(), port) as recorder:
        recorder.receive(Ended(2, make_record(2)))  # told before the view is back
        assert await view.complaint() == "weir: connected again"
        await listens(recorder, until)
        recorder.receive(Ended(3, make_record(3)))
        assert {orjson.loads(await view.line())["stream_id"] for _ in range(2)} == {"stream-2", "stream-3"}
        assert await view.interrupt() == (0, "", "")


@asynccontextmanager
async def recorder_at(config: Config, port: int) -> AsyncIterator[Recorder]:
    """A recorder with its listener on a port of the test's choice, which may have been another's before."""
    recorder = Recorder(config)
    await recorder.start()
    runner = web.AppRunner(admin_app(recorder), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.SockSite(runner, socket.create_server(("127.0.0.1", port))).start()
        yield recorder
    finally:
        await runner.cleanup()
        await recorder.close()


@pytest.mark.parametrize("forbidden", ["", "1"], ids=["colours", "NO_COLOR"])
async def test_a_terminal_gets_colours_unless_no_color(serve: Serve, until: Any, make_record: Any, forbidden: str) -> None:
    """On a terminal the outcome is coloured; with NO_COLOR set nothing is."""
    recorder, session = await serve()
    keyboard, screen = pty.openpty()
    environ = {**os.environ, "NO_COLOR": forbidden, "TERM": "xterm"}
    command = (sys.executable, "-m", "gateway", "tail", "--admin", address(session))
    view = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL, stdout=screen, env=environ)
    os.close(screen)
    try:
        await listens(recorder, until)
        recorder.receive(Ended(1, make_record(1)))
        readable, _, _ = await asyncio.to_thread(select.select, [keyboard], [], [], 60.0)
        assert readable
        said = os.read(keyboard, 65536)
    finally:
        view.kill()
        await view.wait()
        os.close(keyboard)
    assert (b"\x1b[32mcompleted" in said) is (not forbidden), said


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (Filter(), [1, 2, 3]),
        (Filter(columns={"route": ("chat",)}), [1, 3]),
        (Filter(columns={"outcome": ("completed", "rejected"), "upstream": ("fast",)}), [1, 2]),
        (Filter(stalled=True), [2]),
        (Filter(slow=True), [3]),
        (Filter(slow=0.3), [2, 3]),
    ],
    ids=repr,
)
def test_filters(row: Any, wanted: Filter, told: list[int]) -> None:
    """All that are given must hold; slow is over the objective, or over so many seconds."""
    rows = {
        1: row(1),
        2: row(2, route="other", outcome="rejected", stalls=1, ttft=0.3),
        3: row(3, outcome="upstream_error", slow=True, ttft=0.9),
    }
    assert [number for number, each in rows.items() if wanted.admits(each)] == told


def test_what_others_have_chosen_cannot_move_the_cursor(row: Any) -> None:
    """Escape sequences, line ends and marks that turn text around, in a model's name or an error, are shown as what they are not."""
    hostile = "gpt\x1b[2J\x9b31m\r\nweir: all is well\u202e"
    said = line(row(model=hostile, error=hostile, received=1.0), Ink(False))
    assert not set("\x1b\x9b\r\n\u202e") & set(said)
    assert "weir: all is well" in said
