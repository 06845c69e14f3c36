"""The benchmark's client: one keep-alive connection that asks for a stream, counts what comes and stamps it, in microseconds an event.

Three ways to drive them: `drive` (many streams at once, each asked again when it ends), `ask` (one stream), `hold` (open and leave silent).
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter
from typing import cast

import httptools
from msgspec import Struct, field

TOKEN = re.compile(rb'"(?:content|reasoning_content|text)"\s*:\s*"[^"]')
MARK = b"data: "
RECONNECT = 0.2
GRACE = 20.0
"""Seconds that streams still open at the end of a measurement get to finish before they count as errors."""


class Address(Struct, frozen=True):
    """Where and what to ask: `request` is the whole HTTP request, head and body."""

    host: str
    port: int
    request: bytes


class Tally(Struct):
    """What a number of streams amounted to; times in seconds. `broken` streams ended with an error status or without their end."""

    streams: int = 0
    broken: int = 0
    events: int = 0
    counts: dict[int, int] = field(default_factory=dict)
    ttft: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    first_error: str = ""

    def add(self, other: "Tally") -> None:
        self.streams += other.streams
        self.broken += other.broken
        self.events += other.events
        for count, times in other.counts.items():
            self.counts[count] = self.counts.get(count, 0) + times
        self.ttft.extend(other.ttft)
        self.gaps.extend(other.gaps)
        self.first_error = self.first_error or other.first_error


class Caller(asyncio.Protocol):
    """One connection; `ended` resolves when the stream asked for is over, to True when it came whole."""

    def __init__(self, request: bytes, tally: Tally) -> None:
        self.request = request
        self.tally = tally
        self.loop = asyncio.get_running_loop()
        self.lost = False
        self.ended: asyncio.Future[bool] = self.loop.create_future()
        self.spoke: asyncio.Future[None] = self.loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's transports are asyncio's in shape only

    def send(self) -> None:
        """Ask for one stream; the one before must have ended."""
        self.parser = httptools.HttpResponseParser(self)
        self.ended, self.spoke = self.loop.create_future(), self.loop.create_future()
        self.events, self.tail, self.first, self.last = 0, b"", 0.0, 0.0
        self.done = False
        self.sent = perf_counter()
        if self.lost:
            self.finish(False, "connection lost")
        else:
            self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.now = perf_counter()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.finish(False, str(error))

    def on_body(self, body: bytes) -> None:
        seen = self.tail + body
        fresh = seen.count(MARK)
        self.tail = seen[-(len(MARK) - 1) :] if not seen.endswith(b"\n\n") else b""
        self.done = self.done or b"[DONE]" in seen
        if not fresh:
            return
        self.events += fresh
        self.tally.events += fresh
        if self.first:
            self.tally.gaps.append(self.now - self.last)
        elif TOKEN.search(seen):
            self.first = self.now
            self.tally.ttft.append(self.now - self.sent)
            self.spoke.set_result(None)
        self.last = self.now

    def on_message_complete(self) -> None:
        status = self.parser.get_status_code()
        whole = status == 200 and self.done
        self.finish(whole, "" if whole else f"status {status}, {self.events} events and no end marker")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.finish(False, f"connection lost: {exc or 'closed'}")

    def finish(self, whole: bool, why: str = "") -> None:
        """Close the account of one stream, once."""
        if self.ended.done():
            return
        tally = self.tally
        tally.streams += whole
        tally.broken += not whole
        if whole:
            tally.counts[self.events] = tally.counts.get(self.events, 0) + 1
        tally.first_error = tally.first_error or why
        self.ended.set_result(whole)
        if not self.spoke.done():
            self.spoke.set_result(None)


async def connect(address: Address, tally: Tally) -> Caller:
    """Open one connection, without asking yet."""
    loop = asyncio.get_running_loop()
    _, caller = await loop.create_connection(lambda: Caller(address.request, tally), address.host, address.port)
    return caller


async def ask(caller: Caller) -> bool:
    """Ask for one stream and wait for its end; False when it came broken or not within a minute."""
    caller.send()
    try:
        return await asyncio.wait_for(asyncio.shield(caller.ended), 60)
    except TimeoutError:
        caller.finish(False, "no end within a minute")
        caller.transport.abort()
        return False


async def _repeat(address: Address, tally: Tally, delay: float, until: float) -> None:
    await asyncio.sleep(delay)
    while perf_counter() < until:
        try:
            caller = await connect(address, tally)
        except OSError as error:
            tally.broken += 1
            tally.first_error = tally.first_error or str(error)
            await asyncio.sleep(RECONNECT)
            continue
        try:
            while perf_counter() < until and await ask(caller):
                pass
        finally:
            caller.transport.abort()


async def drive(address: Address, tally: Tally, streams: int, seconds: float, spread: float = 0.0) -> None:
    """Keep `streams` streams open for `seconds`, their starts spread over the first `spread` of them, and let the last ones end."""
    until = perf_counter() + seconds
    try:
        async with asyncio.timeout(seconds + GRACE), asyncio.TaskGroup() as group:
            for number in range(streams):
                group.create_task(_repeat(address, tally, spread * number / streams, until))
    except TimeoutError:
        tally.broken += 1
        tally.first_error = tally.first_error or "streams still open at the end"


@asynccontextmanager
async def hold(address: Address, streams: int, batch: int = 50) -> AsyncIterator[Tally]:
    """Open `streams` streams, wait until each has spoken once, leave them open for the body of the `async with`, then drop them."""
    tally = Tally()
    callers: list[Caller] = []
    try:
        for start in range(0, streams, batch):
            opened = [await connect(address, tally) for _ in range(min(batch, streams - start))]
            callers += opened
            for caller in opened:
                caller.send()
            async with asyncio.timeout(GRACE):
                for caller in opened:
                    await caller.spoke
        yield tally
    finally:
        for caller in callers:
            if not caller.ended.done():
                caller.ended.set_result(False)  # dropping it is our doing, not an error
            caller.transport.abort()
