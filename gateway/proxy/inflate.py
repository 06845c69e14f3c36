"""Answers that come compressed although we asked for none: opened here, between the connection and whoever takes its body."""

import zlib
from collections.abc import Callable
from typing import Any

from gateway.proxy.upstream import Head, Listener, Sink

GZIP, DEFLATE = b"\x1f\x8b", 8
"""How a gzip member begins, and what the low half of a zlib header's first byte is."""
INFLATABLE = frozenset({"gzip", "x-gzip", "deflate"})
AUTOMATIC, RAW = 32 + zlib.MAX_WBITS, -zlib.MAX_WBITS
"""Tell zlib to look whether it is gzip or zlib, or that it is neither: some call "deflate" what has no header at all."""
MOST = 8 << 20
"""Bytes that one read may become: beyond it, it is no answer but a bomb."""
MOST_MEMBERS = 64
"""Members that one read may hold: each costs a copy of all that follows it."""


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
        self._inflate: Any = None
        self._members = 0

    def __call__(self, chunk: bytes, now: float, framed: bytes | None = None) -> None:  # noqa: ARG002 - the chunk is not the client's
        plain, broken = self._open(chunk)
        if plain:
            self.sink(plain, now)
        if broken:
            self._give_up()
            self.listener.on_end("bad_response", now)

    def on_head(self, head: Head, now: float) -> None:
        self.listener.on_head(head, now)

    def on_end(self, why: str | None, now: float, last: bytes = b"") -> None:
        plain, broken = self._open(last)
        if broken:
            why = why or "bad_response"
        elif self._inflate is not None:
            why = why or "connection_closed"  # the message is whole, what was packed in it is not
        self.listener.on_end(why, now, plain)

    def _begins(self, chunk: bytes) -> bool:
        """Begin a member of the body; False for what follows the last one and is none."""
        if self._members and not chunk.startswith(GZIP[:1]):
            return False
        has_header = chunk.startswith(GZIP[:1]) or chunk[0] & 15 == DEFLATE
        self._inflate = zlib.decompressobj(AUTOMATIC if has_header else RAW)
        return True

    def _open(self, chunk: bytes) -> tuple[bytes, bool]:
        """Decompress a read, as far as it can be, and say whether it was broken.

        A body may be several compressed members one after the other; what follows them and is none is nothing (RFC 1952, as gzip does it).
        """
        parts, size, begun = list[bytes](), 0, self._members
        try:
            while chunk and (self._inflate is not None or self._begins(chunk)):
                parts.append(self._inflate.decompress(chunk, MOST + 1 - size))
                size += len(parts[-1])
                if size > MOST or self._members - begun >= MOST_MEMBERS:
                    return b"", True
                chunk = self._inflate.unused_data
                if self._inflate.eof:
                    self._inflate, self._members = None, self._members + 1
        except zlib.error:
            return b"".join(parts), True
        return b"".join(parts), False
