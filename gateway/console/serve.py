"""The recorder as a process: every worker's socket in, the admin listener out, until SIGTERM or until nobody is left to serve."""

import asyncio
import gc
import os
import signal
import socket

import uvloop
from aiohttp import web

from gateway.config import Config
from gateway.console.api import admin_app
from gateway.telemetry.recorder import Recorder

DRAINING = 3.0
PARENT_EVERY = 1.0
GC_THRESHOLD = 20_000


def run(config: Config, links: list[socket.socket], admin: socket.socket) -> None:
    """Run until SIGTERM, then read what still waits, flush store and spans (a few seconds at most) and return.

    `links` holds the recorder's end of each worker slot's socketpair, `admin` is bound and, if need be, put to listen here.
    SIGINT is the supervisor's to act on: a Ctrl-C reaches the whole group.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    uvloop.run(_serve(config, links, admin))


async def _serve(config: Config, links: list[socket.socket], admin: socket.socket) -> None:
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    recorder = Recorder(config)
    runner = web.AppRunner(admin_app(recorder), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.SockSite(runner, admin).start()
    try:
        await recorder.start()
        gc.freeze()  # what start-up made lives as long as the process
        gc.set_threshold(GC_THRESHOLD, 20, 50)
        feeds = [recorder.connect(link, slot) for slot, link in enumerate(links)]
        await _until(over)
        for feed in feeds:
            feed.drain(DRAINING / max(1, len(feeds)))
    finally:
        await recorder.close()
        await runner.cleanup()


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
