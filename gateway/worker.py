"""A worker process: it serves, takes on new configurations as they come, and leaves: alone, so that no caller notices, or with all."""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import Coroutine
from typing import Any

import uvloop

from gateway.app import FLUSH_SECONDS, Worker
from gateway.config import Config
from gateway.control import Ear, Leaving, Ready, Retire, Stop, Swap, Word
from gateway.logs import blunder, tell_of
from gateway.proxy.neighbours import Neighbours
from gateway.telemetry.link import SocketLink

log = logging.getLogger("weir.worker")
GC_THRESHOLD = 20_000
"""Young objects before a collection: a stream makes a few hundred and frees them itself, so Python's 700 would only cost (7 % of CPU)."""


class Orders:
    """What a worker's parent, and whoever else signals it, wants of it; taken on while it serves.

    SIGTERM after a word of the supervisor's, or from the kernel because the supervisor has died, ends the worker with the gateway.
    Alone it ends this worker only: another is asked for, and streams get `server.drain`. Once more, it drains at once.
    """

    def __init__(self, worker: Worker, ear: Ear | None) -> None:
        self._worker, self._ear = worker, ear
        self._stopping = False
        self._swaps: asyncio.Queue[Config] = asyncio.Queue()
        self.leave = asyncio.Event()
        self.stop = asyncio.Event()
        self.patience: float | None = None

    def hear(self, word: Word, config: Config | None) -> None:
        """Take a word of the supervisor."""
        if isinstance(word, Swap) and config is not None:
            self._swaps.put_nowait(config)
        elif isinstance(word, Stop):
            self._stopping = True
        elif isinstance(word, Retire):
            self.leave.set()

    def terminate(self) -> None:
        """SIGTERM has come."""
        if self._ear is not None:
            self._ear.read()  # the word that explains it was sent before it
        if self._ear is None or self._stopping or self._ear.orphaned or self.leave.is_set():
            self.stop.set()
            return
        self.patience = self._worker.config.server.drain
        self._ear.say(Leaving())
        self.leave.set()

    async def swap(self) -> None:
        """Take on configurations as they come, until cancelled; of several that wait, the newest."""
        while True:
            config = await self._swaps.get()
            while not self._swaps.empty():
                config = self._swaps.get_nowait()
            try:
                await self._worker.swap(config)
            except Exception as error:  # noqa: BLE001  whatever it is, the worker has a configuration that works
                log.error("the new configuration could not be taken on (%s); this worker goes on with the one it has", blunder(error))

    async def ended(self) -> None:
        """Wait until the worker may close: its streams have ended, or been told why they end."""
        leave, stop = _task(self.leave.wait()), _task(self.stop.wait())
        await asyncio.wait({leave, stop}, return_when=asyncio.FIRST_COMPLETED)
        over = False
        if not stop.done():
            retired = _task(self._worker.retire())
            await asyncio.wait({retired, stop}, timeout=self.patience, return_when=asyncio.FIRST_COMPLETED)
            over = not stop.done()  # it has retired, or its streams have had their time
            await _cancelled(retired)
        await _cancelled(leave)
        await _cancelled(stop)
        await self._worker.drain(0.0 if over else self._worker.config.server.drain)


def run_worker(
    config: Config,
    listener: socket.socket,
    link_socket: socket.socket,
    control: socket.socket | None = None,
    neighbours: Neighbours | None = None,
) -> None:
    """The main of a worker process: serves until it is told to leave, by a signal or by the supervisor, and leaves as told."""
    uvloop.run(_serve(config, listener, link_socket, control, neighbours))


async def _serve(
    config: Config,
    listener: socket.socket,
    link_socket: socket.socket,
    control: socket.socket | None,
    neighbours: Neighbours | None,
) -> None:
    link = SocketLink(link_socket, lambda: worker.live(), lambda order: worker.obey(order))  # noqa: PLW0108  see below
    worker = Worker(config, link, neighbours)  # it comes into being after its link
    ear = Ear(control, lambda word, config: orders.hear(word, config)) if control is not None else None  # noqa: PLW0108  likewise
    orders = Orders(worker, ear)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(tell_of)
    loop.add_signal_handler(signal.SIGTERM, orders.terminate)
    link.start()
    await worker.start(listener)
    gc.freeze()  # what start-up made lives as long as the process: never look at it again
    gc.set_threshold(GC_THRESHOLD, 20, 50)
    swapping = _task(orders.swap())
    if ear is not None:
        ear.start()
        ear.say(Ready())
    await orders.ended()
    await _cancelled(swapping)
    await worker.close()
    await link.close(FLUSH_SECONDS)
    if ear is not None:
        ear.close()


def _task(work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
    return asyncio.get_running_loop().create_task(work)


async def _cancelled(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
