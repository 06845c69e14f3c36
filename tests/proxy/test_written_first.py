"""What an upstream says goes to the client before we look at it: an observer that waits for the client to have it is not kept waiting."""

import asyncio
import socket
import threading
import time
from typing import Any

import pytest

from gateway.sim.faults import Script
from gateway.sim.steps import Pause, Send, chunk
from gateway.stream.observer import Observer
from tests.rig.makers import SSE_HEAD, Makers

LOOPS = "both"
LATEST = 10.0
"""Seconds after which an observer that waits in vain goes on."""


class Reader:
    """A client in a thread of its own, so that it reads while the gateway's loop stands still; `has` tells what has come to it."""

    def __init__(self, port: int, word: bytes) -> None:
        self.has, self._port, self._word = threading.Event(), port, word

    def read(self) -> bytes:
        body = b""
        with socket.create_connection(("127.0.0.1", self._port), timeout=4 * LATEST) as connection:
            connection.sendall(Makers.request())
            while not body.endswith(b"0\r\n\r\n") and (read := connection.recv(65536)):
                body += read
                if self._word in body:
                    self.has.set()
        return body


@pytest.mark.parametrize("ends", [False, True])
async def test_a_token_is_written_before_it_is_observed(provide: Any, gate: Any, make: Any, monkeypatch: Any, ends: bool) -> None:
    """Of a stream that has begun the first token reaches its client first, also when the end of the stream comes in the same read."""
    last = chunk(make.event(finish="stop") + b"data: [DONE]\n\n") + b"0\r\n\r\n"
    token = chunk(make.event("word"))
    said = (Send(token + last),) if ends else (Send(token), Pause(0.02), Send(last))
    weir = await gate(await provide(Script((Send(SSE_HEAD), Send(chunk(make.event())), Pause(0.02), *said))))
    reader = Reader(weir.port, b"word")
    waited: list[bool] = []
    feed = Observer.feed

    def late(observer: Observer, data: bytes, now: float) -> None:
        deadline = time.monotonic() + LATEST
        while b"word" in data and not reader.has.is_set() and time.monotonic() < deadline:
            pass  # the thread runs meanwhile, the loop does not
        if b"word" in data:
            waited.append(reader.has.is_set())
        feed(observer, data, now)

    monkeypatch.setattr(Observer, "feed", late)
    body = await asyncio.to_thread(reader.read)
    assert waited == [True]
    assert b"word" in body
    assert b"[DONE]" in body
