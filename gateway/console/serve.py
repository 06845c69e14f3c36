"""The recorder as a process: every worker's socket in, the admin listener out, until SIGTERM or until nobody is left to serve."""

import asyncio
import gc
import logging
import os
import signal
import socket

import uvloop
from aiohttp import web
from aiohttp.http import HttpProcessingError

from gateway.config import Config
from gateway.console.api import admin_app
from gateway.control import Ear, Outcome, Reload, Swap, Vacant, Word
from gateway.logs import tell_of
from gateway.telemetry.recorder import Recorder

DRAINING = 3.0
PARENT_EVERY = 1.0
ANSWERED_WITHIN = 5.0
GC_THRESHOLD = 20_000
http_log = logging.getLogger("weir.admin")


class SendersFault(logging.Filter):
    """Keeps what is no HTTP out of the log: aiohttp would tell it as an error of ours, with the sender's bytes, the token among them."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


SENDERS_FAULT = SendersFault()


def run(config: Config, links: list[socket.socket], admin: socket.socket, control: socket.socket | None = None) -> None:
    """Run until SIGTERM, then read what still waits, flush store and spans (a few seconds at most) and return.

    `links` holds the recorder's end of each worker slot's socketpair, `admin` is bound and, if need be, put to listen here; `control`
    is the line to the supervisor.
    SIGINT is the supervisor's to act on: a Ctrl-C reaches the whole group.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    uvloop.run(_serve(config, links, admin, control))


async def _serve(config: Config, links: list[socket.socket], admin: socket.socket, control: socket.socket | None) -> None:
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(tell_of)
    loop.add_signal_handler(signal.SIGTERM, over.set)
    recorder = Recorder(config)
    desk = Desk(recorder, control) if control is not None else None
    http_log.addFilter(SENDERS_FAULT)
    app = admin_app(recorder, desk.reload if desk is not None else None)
    runner = web.AppRunner(app, access_log=None, logger=http_log, shutdown_timeout=1.0)
    await runner.setup()
    await web.SockSite(runner, admin).start()
    try:
        await recorder.start()
        gc.freeze()  # what start-up made lives as long as the process
        gc.set_threshold(GC_THRESHOLD, 20, 50)
        feeds = [recorder.connect(link, slot) for slot, link in enumerate(links)]
        if desk is not None:
            desk.start()
        await _until(over)
        for feed in feeds:
            feed.drain(DRAINING / max(1, len(feeds)))
    finally:
        if desk is not None:
            desk.close()
        await recorder.close()
        await runner.cleanup()


class Desk:
    """Where the supervisor's words are taken, and where a reload is asked of it."""

    def __init__(self, recorder: Recorder, control: socket.socket) -> None:
        self._recorder, self._ear = recorder, Ear(control, self._hear)
        self._asked = 0
        self._waiting: dict[int, asyncio.Future[Outcome]] = {}

    def start(self) -> None:
        self._ear.start()

    def close(self) -> None:
        self._ear.close()

    async def reload(self) -> Outcome | None:
        """Ask for a reload, and return what became of it; None when that is not known after some seconds."""
        self._asked += 1
        number, answered = self._asked, asyncio.get_running_loop().create_future()
        self._waiting[number] = answered
        self._ear.say(Reload(number))
        try:
            async with asyncio.timeout(ANSWERED_WITHIN):
                outcome: Outcome = await answered
                return outcome
        except TimeoutError:
            return None
        finally:
            del self._waiting[number]

    def _hear(self, word: Word, config: Config | None) -> None:
        if isinstance(word, Swap) and config is not None:
            self._recorder.configure(config)
        elif isinstance(word, Outcome):
            self._answer(word)
        elif isinstance(word, Vacant):
            self._recorder.vacate(word.slot, word.pid)

    def _answer(self, outcome: Outcome) -> None:
        if outcome.error is None:
            self._recorder.reload_error = None
        elif outcome.possible:
            self._recorder.reload_failed(outcome.error)
        for number, answered in self._waiting.items():
            if number <= outcome.asked and not answered.done():
                answered.set_result(outcome)


async def _until(over: asyncio.Event) -> None:
    """Wait for the signal, or for the supervisor's death: an orphan would hold the admin port for ever."""
    parent = os.getppid()
    while os.getppid() == parent:
        try:
            async with asyncio.timeout(PARENT_EVERY):
                await over.wait()
        except TimeoutError:
            continue
        return
