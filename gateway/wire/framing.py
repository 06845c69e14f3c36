"""What all framings of a streamed body have in common: how it is read, where it may be interrupted, and what means nothing in it."""

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct


class Frame(Struct, frozen=True, gc=False):
    """One block of a stream as it came.

    `raw` is every byte up to and including the blank line, `data` the joined data lines, `name` the event field. Comments, blank
    lines and events too large to be read have empty `data` and `name`.
    """

    raw: bytes
    data: bytes
    name: str


class Parser(Protocol):
    """Turns reads into frames; the raw bytes of all frames and the tail are always the input. See wire.sse.Parser."""

    at_boundary: bool
    skipped: int

    @property
    def tail(self) -> bytes: ...
    def feed(self, chunk: bytes) -> list[Frame]: ...


class Cutter(Protocol):
    """Holds back the frame that is not complete yet. See wire.sse.Cutter."""

    inside: bool

    @property
    def tail(self) -> bytes: ...
    @property
    def aligned(self) -> bool: ...
    def push(self, chunk: bytes) -> bytes: ...


class Framing(Struct, frozen=True):
    """One way to put events into a body.

    `media_type` has no parameters. `keepalive` means nothing between two events, and `ending` ends an event wherever a read ends with
    it, and closes one torn apart; either is empty where there is no such thing. `takes_lines` says that lines of our own, a
    comment between two events or an event's `id:`, may be put in, and that clients of the dialect take them.
    """

    media_type: str
    keepalive: bytes
    ending: bytes
    parser: Callable[[], Parser]
    cutter: Callable[[], Cutter]
    takes_lines: bool = False
