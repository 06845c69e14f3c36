"""Newline-delimited JSON: bytes to frames at any cut, and the last place in held bytes where no line is torn apart.

A line ends in LF; a CR before it, and spaces around the document, are no part of it. Blank lines mean nothing. What follows the
last LF is not a line yet and stays in `tail`: a stream whose last line has no LF is finished by whoever sees its end.
"""

from gateway.wire.framing import Frame, Framing

_SPACE = b" \t\r\n"


class Parser:
    """Turns reads into frames, one a line; the raw bytes of all frames and the tail are always the input.

    A line of more than `limit` bytes is not kept: its bytes come out as frames without data as they arrive, `skipped` is counted
    once, and reading resumes after its LF. Memory is `limit` plus one read, work is linear in the input.
    """

    __slots__ = ("_buffer", "_limit", "_skipping", "at_boundary", "skipped")

    def __init__(self, limit: int = 1 << 20) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._skipping = False
        self.at_boundary = True
        self.skipped = 0

    @property
    def tail(self) -> bytes:
        """The bytes of the line that is not complete yet."""
        return bytes(self._buffer)

    def feed(self, chunk: bytes) -> list[Frame]:
        """Take one read and return the frames that it completes."""
        end = chunk.rfind(b"\n") + 1
        if self.at_boundary and end == len(chunk):
            return self._lines(chunk)
        frames: list[Frame] = []
        if end:
            frames = self._lines(bytes(self._buffer) + chunk[:end])
            self._buffer.clear()
        self._buffer += chunk[end:]
        if self._skipping or len(self._buffer) > self._limit:
            self._let_go(frames)
        self.at_boundary = not (self._buffer or self._skipping)
        return frames

    def _lines(self, block: bytes) -> list[Frame]:
        """Take bytes that end with a LF."""
        if block.find(b"\n") == len(block) - 1:
            return [self._line(block)] if block else []
        return [self._line(line + b"\n") for line in block[:-1].split(b"\n")]

    def _line(self, raw: bytes) -> Frame:
        if self._skipping:
            self._skipping = False
            return Frame(raw, b"", "")
        if len(raw) > self._limit:
            self.skipped += 1
            return Frame(raw, b"", "")
        return Frame(raw, raw.strip(_SPACE), "")

    def _let_go(self, frames: list[Frame]) -> None:
        """Pass on what is held of a line that is too large."""
        if not self._skipping:
            self._skipping = True
            self.skipped += 1
        if self._buffer:
            frames.append(Frame(bytes(self._buffer), b"", ""))
            self._buffer.clear()


class Cutter:
    """Holds back the line that is not complete yet, so that whatever is said between two pushes lands between two lines.

    At most `limit` bytes are held: a larger line is let go as it comes, and `inside` says that the last byte let out tore it.
    """

    __slots__ = ("_held", "_limit", "inside")

    def __init__(self, limit: int = 64 << 10) -> None:
        self._limit = limit
        self._held = bytearray()
        self.inside = False

    @property
    def tail(self) -> bytes:
        """The bytes held back."""
        return bytes(self._held)

    @property
    def aligned(self) -> bool:
        """True when nothing is held and the last byte let out ended a line."""
        return not self._held and not self.inside

    def push(self, chunk: bytes) -> bytes:
        """Take one read and return everything up to the last LF in what is held."""
        if not self._held and chunk.endswith(b"\n"):
            self.inside = False
            return chunk
        held = self._held
        end = chunk.rfind(b"\n") + 1
        if end:
            end += len(held)
            self.inside = False
        held += chunk
        if (self.inside or len(held) - end > self._limit) and len(held) > end:
            end, self.inside = len(held), True
        out = bytes(held[:end])
        del held[:end]
        return out


FRAMING = Framing("application/x-ndjson", b"", b"\n", Parser, Cutter)
"""Nothing keeps it alive: clients read every line as JSON, blank ones too."""
