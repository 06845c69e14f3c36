"""What providers said, answer by answer: payload bytes as they went out, known again by the tag in the call that asked for them."""

import hashlib
import re
import zlib
from collections.abc import Iterator
from typing import Any

import httptools

from gateway.sim.doors import find
from gateway.sim.player import Request
from gateway.sim.provider import Provider
from gateway.sim.steps import Send, Step

TAG = re.compile(rb"chaos-\d{6}-\d+")


def inflated(data: bytes, encoding: str) -> bytes:
    """Return bytes without their compression, as far as they go."""
    return zlib.decompressobj(wbits=47).decompress(data) if encoding == "gzip" else data


class Answer:
    """One answer of one provider: its status, its payload without HTTP's framing, and whether all of it was said.

    `payload` is dropped once its client is judged (`forget`); digest, size and how it ended stay.
    """

    def __init__(self, provider: str, request: Request) -> None:
        self.provider, self.request = provider, request
        self.status = self.size = 0
        self.media_type = self.encoding = ""
        self.whole = False
        self.payload: bytearray | None = bytearray()
        self._sha = hashlib.sha256()
        self._parser = httptools.HttpResponseParser(self)

    @property
    def dialect(self) -> str:
        """The dialect that was spoken, by the path that was asked for."""
        found = find(self.request.method, self.request.path.partition("?")[0])
        return found[0].dialect.name if found else ""

    @property
    def digest(self) -> str:
        return self._sha.hexdigest()

    @property
    def said(self) -> bytes:
        """The payload without its compression, as far as it went; nothing once it is forgotten."""
        return inflated(bytes(self.payload or b""), self.encoding)

    def noted(self, steps: Iterator[Step]) -> Iterator[Step]:
        """Pass steps on, and note what they say."""
        for step in steps:
            if type(step) is Send:
                self._parser.feed_data(step.data)
            yield step

    def forget(self) -> None:
        self.payload = None

    # What httptools calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-type":
            self.media_type = value.decode("latin-1").partition(";")[0].strip().lower()
        elif name.lower() == b"content-encoding":
            self.encoding = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.size += len(body)
        self._sha.update(body)
        if self.payload is not None:
            self.payload += body

    def on_message_complete(self) -> None:
        self.whole = True


class Ledger:
    """Every answer by the tag of its call. What comes after a client was judged is kept without its payload."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self._judged: set[str] = set()

    def open(self, provider: str, request: Request) -> Answer | None:
        """Begin a page for an answer; None when nobody of ours asked for it."""
        found = TAG.search(request.body)
        if found is None:
            return None
        tag = found[0].decode()
        answer = Answer(provider, request)
        self.answers.setdefault(tag, []).append(answer)
        if tag in self._judged:
            answer.forget()
        return answer

    def of(self, tag: str) -> list[Answer]:
        return self.answers.get(tag, [])

    def judged(self, tag: str) -> None:
        """The client is done with: its payloads are not needed any more."""
        self._judged.add(tag)
        for answer in self.of(tag):
            answer.forget()


class Booked(Provider):
    """A provider that writes down what it says."""

    def __init__(self, ledger: Ledger, **named: Any) -> None:
        super().__init__(**named)
        self._ledger = ledger

    def answer(self, request: Request, keep_alive: bool) -> Iterator[Step]:
        steps = super().answer(request, keep_alive)
        page = self._ledger.open(self.name, request)
        return steps if page is None else page.noted(steps)
