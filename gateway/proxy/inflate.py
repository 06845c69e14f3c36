"""Answers that come compressed although we asked for none: opened here, between the connection and whoever takes its body."""

import zlib
from collections.abc import Callable

from gateway.proxy.upstream import Head, Listener, Sink

INFLATABLE = frozenset({"gzip", "x-gzip", "deflate"})
AUTOMATIC = 32 + zlib.MAX_WBITS
"""Tells zlib to look whether it is gzip or zlib."""
MOST = 8 << 20
"""Bytes that one read may become: beyond it, it is no answer but a bomb."""


def opened(head: Head) -> Head | None:
    """Return the head that an answer has once it is opened, None when there is nothing that we can open."""
    if head.headers.get("content-encoding", "").strip().lower() not in INFLATABLE:
        return None
    return Head(head.status, {name: value for name, value in head.headers.items() if name not in {"content-encoding", "content-length"}})


class Inflated:
    """Sink and listener of one exchange: hands on what it was told, its bytes decompressed as far as every read allows.

    `give_up` closes the connection when the bytes are not what their encoding says; the end is then told as `bad_response`.
    """

    def __init__(self, sink: Sink, listener: Listener, give_up: Callable[[], None]) -> None:
        self.sink, self.listener = sink, listener
        self._give_up = give_up
        self._inflate = zlib.decompressobj(AUTOMATIC)

    def __call__(self, chunk: bytes, now: float, framed: bytes | None = None) -> None:  # noqa: ARG002 - the chunk is not the client's
        try:
            plain = self._open(chunk)
        except zlib.error:
            self._give_up()
            self.listener.on_end("bad_response", now)
            return
        if plain:
            self.sink(plain, now)

    def on_head(self, head: Head, now: float) -> None:
        self.listener.on_head(head, now)

    def on_end(self, why: str | None, now: float, last: bytes = b"") -> None:
        try:
            last = self._open(last)
        except zlib.error:
            why, last = why or "bad_response", b""
        self.listener.on_end(why, now, last)

    def _open(self, chunk: bytes) -> bytes:
        """Decompress a read; a body may be several compressed members one after the other."""
        plain = b""
        while chunk:
            plain += self._inflate.decompress(chunk, MOST + 1 - len(plain))
            if len(plain) > MOST:
                raise zlib.error("too large")
            chunk = self._inflate.unused_data
            if self._inflate.eof:
                self._inflate = zlib.decompressobj(AUTOMATIC)
        return plain
