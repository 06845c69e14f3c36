"""`weir top`: routes, upstreams and running streams on a screen of its own, once a second; or once, where there is no screen."""

import asyncio
import os
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.live import Live

from gateway.terminal.admin import Admin, Place, Unanswered
from gateway.terminal.board import Board, Look

EVERY = 1.0
AT_ONCE = 20
"""Routes asked for their figures in one second; with more they take turns."""
PIPE_WIDTH = 180
LEAVE = frozenset(b"qQ\x03")


class Watch:
    """Keeps a look up to date."""

    def __init__(self, admin: Admin) -> None:
        self.look = Look(admin.url)
        self._admin = admin
        self._turn = 0

    async def ask(self) -> None:
        """Ask once for health, routes and their figures. Raises Unanswered."""
        look, admin = self.look, self._admin
        health, routes = await admin.get("/healthz"), await admin.get("/api/routes")
        look.health, look.routes = health, routes["routes"]
        names = [route["name"] for route in look.routes]
        look.overviews = {name: look.overviews[name] for name in names if name in look.overviews}
        for name in self._some(names):
            look.overviews[name] = await admin.get("/api/overview", {"route": name})

    def _some(self, names: list[str]) -> list[str]:
        if len(names) <= AT_ONCE:
            return names
        start, self._turn = self._turn, (self._turn + AT_ONCE) % len(names)
        return (names + names)[start : start + AT_ONCE]

    async def follow(self) -> None:
        """Take the live feed until cancelled, through breaks of it."""
        while True:
            try:
                await self.listen()
            except Unanswered:
                self.look.tracks.streams.clear()
                await asyncio.sleep(EVERY)  # `keep_asking` says what is wrong

    async def listen(self) -> None:
        """Take the live feed until it ends. Raises Unanswered."""
        async with self._admin.feed() as events:
            async for event in events:
                self.look.tracks.take(event)

    async def keep_asking(self) -> None:
        while True:
            try:
                await self.ask()
                self.look.trouble = None
            except Unanswered as error:
                self.look.trouble = str(error)
            await asyncio.sleep(EVERY)


async def once(place: Place) -> None:
    """Print what there is, after a second of listening to running streams. Raises Unanswered."""
    async with Admin(place) as admin:
        watch = Watch(admin)
        await watch.ask()
        with suppress(TimeoutError):
            async with asyncio.timeout(EVERY):
                await watch.listen()
        console = Console() if sys.stdout.isatty() else Console(width=PIPE_WIDTH)
        console.print(Board(watch.look, full=False))


async def screen(place: Place) -> None:
    """Draw until q, Ctrl-C or SIGTERM; the terminal is left as it was found. Raises Unanswered."""
    async with Admin(place) as admin:
        watch = Watch(admin)
        await watch.ask()  # what is wrong from the start is said on the terminal, not on a screen that goes away
        leave, redraw = asyncio.Event(), asyncio.Event()
        with _keys(leave), _signals(leave, redraw), Live(Board(watch.look, full=True), screen=True, auto_refresh=False) as live:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(work) for work in (watch.follow(), watch.keep_asking(), _draw(live, redraw))]
                await leave.wait()
                for task in tasks:
                    task.cancel()


async def _draw(live: Live, redraw: asyncio.Event) -> None:
    while True:
        live.refresh()
        redraw.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(EVERY):
                await redraw.wait()


@contextmanager
def _keys(leave: asyncio.Event) -> Iterator[None]:
    """Read keys as they are pressed and without showing them, where there is a keyboard."""
    if not sys.stdin.isatty():
        yield
        return
    keyboard, loop = sys.stdin.fileno(), asyncio.get_running_loop()
    before = termios.tcgetattr(keyboard)

    def pressed() -> None:
        keys = os.read(keyboard, 1024)
        if not keys or LEAVE.intersection(keys):
            leave.set()

    tty.setcbreak(keyboard)
    loop.add_reader(keyboard, pressed)
    try:
        yield
    finally:
        loop.remove_reader(keyboard)
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


@contextmanager
def _signals(leave: asyncio.Event, redraw: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    wanted: dict[signal.Signals, Callable[[], None]] = {
        signal.SIGINT: leave.set,
        signal.SIGTERM: leave.set,
        signal.SIGHUP: leave.set,
        signal.SIGWINCH: redraw.set,
    }
    for number, act in wanted.items():
        loop.add_signal_handler(number, act)
    try:
        yield
    finally:
        for number in wanted:
            loop.remove_signal_handler(number)


def run(place: Place, snapshot: bool) -> int:
    """Show it; returns the exit code. Raises Unanswered."""
    asyncio.run(once(place) if snapshot or not sys.stdout.isatty() else screen(place))
    return 0
