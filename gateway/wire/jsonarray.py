"""One JSON array that comes in pieces: bytes to its elements at any cut, and the last place in held bytes where no element is torn.

Gemini streams so when it is not asked for events: `[{...}\\n,\\r\\n{...}\\n]`. A frame ends with the last byte of its element; the
comma and the white space before an element are its frame's. So between two frames stands a JSON array that lacks nothing but `]`,
and a comma when more is to come. White space may be said there at any time.

An object that stands where the array should (an error, as a rule) is taken as an element too.
"""

import re

from gateway.wire.framing import Frame, Framing

END = b"]"
"""The data of the frame that closes the array."""

# What opens and closes nothing; longer strings and those with escapes are crossed by _IN_STRING, which may stop at the end of a read.
_QUIET = re.compile(rb'(?:[^"\[\]{}]++|"[^"\\]{0,64}+")*+')
_IN_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_QUOTE, _ARRAY, _OPENING = ord('"'), ord("["), b"{["


class Scan:
    """How far a buffer is read, and how deep in brackets that place is. Every byte is looked at once."""

    __slots__ = ("_depth", "_floor", "_in_string", "at", "opened")

    def __init__(self) -> None:
        self.at = 0
        self.opened: int | None = None  # where the element begins in which `at` stands
        self._depth = self._floor = 0  # an element begins and ends at depth `_floor`, which is 1 inside the array
        self._in_string = False

    def next_end(self, buffer: bytearray) -> int | None:
        """Return the index after the next element, or after the bracket that closes the array; None when the buffer ends before."""
        while self.at < len(buffer):
            if self._in_string and not self._leave_string(buffer):
                return None
            found = _QUIET.match(buffer, self.at)
            assert found is not None
            self.at = found.end()
            if self.at < len(buffer) and self._cross(buffer[self.at]):
                return self.at
        return None

    def forget(self, count: int) -> None:
        """The first `count` bytes of the buffer are gone."""
        self.at -= count
        if self.opened is not None:
            self.opened -= count

    def _leave_string(self, buffer: bytearray) -> bool:
        found = _IN_STRING.match(buffer, self.at)
        assert found is not None
        self.at = found.end()
        if self.at == len(buffer) or buffer[self.at] != _QUOTE:
            return False  # the read ended in the string, or between a backslash and what it escapes
        self._in_string = False
        self.at += 1
        return True

    def _cross(self, byte: int) -> bool:
        """Step over a quote or a bracket; tell whether it ended a frame."""
        position, self.at = self.at, self.at + 1
        if byte == _QUOTE:
            self._in_string = True
        elif byte in _OPENING:
            if byte == _ARRAY and self._depth == self._floor == 0:
                self._floor = 1
            elif self._depth == self._floor:
                self.opened = position
            self._depth += 1
        elif self._depth:
            self._depth -= 1
            if self._depth < self._floor:
                self._floor = 0
                return True
            return self._depth == self._floor
        return False


class Parser:
    """Turns reads into frames; the raw bytes of all frames and the tail are always the input. Elements have no names.

    An element of more than `limit` bytes is not kept: its bytes come out as frames without data as they arrive, `skipped` is counted
    once, and reading resumes after it. Memory is `limit` plus one read, work is linear in the input.
    """

    __slots__ = ("_buffer", "_limit", "_scan", "_skipping", "at_boundary", "skipped")

    def __init__(self, limit: int = 1 << 20) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._scan = Scan()
        self._skipping = False
        self.at_boundary = True
        self.skipped = 0

    @property
    def tail(self) -> bytes:
        """The bytes after the last whole element."""
        return bytes(self._buffer)

    def feed(self, chunk: bytes) -> list[Frame]:
        """Take one read and return the frames that it completes."""
        buffer, scan = self._buffer, self._scan
        buffer += chunk
        frames: list[Frame] = []
        start = 0
        while (end := scan.next_end(buffer)) is not None:
            frames.append(self._close(start, end))
            start = end
        if self._skipping or len(buffer) - start > self._limit:
            start = self._let_go(frames, start)
        del buffer[:start]
        scan.forget(start)
        self.at_boundary = not (buffer or self._skipping)
        return frames

    def _close(self, start: int, end: int) -> Frame:
        raw, opened = bytes(self._buffer[start:end]), self._scan.opened
        self._scan.opened = None
        if self._skipping:
            self._skipping = False
            return Frame(raw, b"", "")
        if len(raw) > self._limit:
            self.skipped += 1
            return Frame(raw, b"", "")
        return Frame(raw, END if opened is None else raw[opened - start :], "")

    def _let_go(self, frames: list[Frame], start: int) -> int:
        """Pass on what is held of an element that is too large, but for a backslash whose other half has not come."""
        if not self._skipping:
            self._skipping = True
            self.skipped += 1
        if raw := bytes(self._buffer[start : self._scan.at]):
            frames.append(Frame(raw, b"", ""))
        return self._scan.at


class Cutter:
    """Holds back the element that is not complete yet, and the comma before it.

    At most `limit` bytes are held: a larger element is let go as it comes, and `inside` says that the last byte let out tore it.
    """

    __slots__ = ("_held", "_limit", "_scan", "inside")

    def __init__(self, limit: int = 64 << 10) -> None:
        self._limit = limit
        self._held = bytearray()
        self._scan = Scan()
        self.inside = False

    @property
    def tail(self) -> bytes:
        """The bytes held back."""
        return bytes(self._held)

    @property
    def aligned(self) -> bool:
        """False: how a read ends never tells that it is whole, so every read must be pushed."""
        return False

    def push(self, chunk: bytes) -> bytes:
        """Take one read and return everything up to the last element that is whole."""
        held, scan = self._held, self._scan
        held += chunk
        end = 0
        while (found := scan.next_end(held)) is not None:
            end, self.inside = found, False
        if self.inside or len(held) - end > self._limit:
            end, self.inside = scan.at, True
        out = bytes(held[:end])
        del held[:end]
        scan.forget(end)
        return out


FRAMING = Framing("application/json", b"", b"", Parser, Cutter)
"""Nothing keeps it alive: white space would be JSON, but google-api-core breaks at any before the array."""
