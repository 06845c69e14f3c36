"""Server-sent events: bytes to frames at any cut, and the last place in held bytes where nothing is torn apart.

Follows the WHATWG event stream rules (HTML standard, 9.2.6). Lines end in LF, CRLF or CR, mixed at will; an event ends at a blank
line. A CR that is the last byte so far may yet be followed by its LF. After a CR a blank line is taken at once (a stray LF is one
more blank line and means nothing); after an LF we wait one byte, since such a stream writes CRLF and its LF is on the way.
"""

import re

from gateway.wire.framing import Frame, Framing

BOM = b"\xef\xbb\xbf"
# The end of a line and the blank line after it. It begins with a plain character class so that `re` can skip to candidates quickly.
_BOUNDARY = re.compile(rb"[\r\n](?:(?<=\n)\n|\r\n?)")
_BLANK_LINES = re.compile(rb"[\r\n]+")
_CR = 0x0D


class Parser:
    """Turns reads into frames; the raw bytes of all frames and the tail are always the input.

    An event of more than `limit` bytes is not kept: its bytes come out as frames without data as they arrive, `skipped` is counted
    once, and reading resumes after its blank line. Memory is `limit` plus one read, work is linear in the input.
    """

    __slots__ = ("_buffer", "_fresh", "_limit", "_searched", "_skipping", "at_boundary", "skipped")

    def __init__(self, limit: int = 1 << 20) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._searched = 0
        self._fresh = True
        self._skipping = False
        self.at_boundary = False  # false at first too: only the first bytes of a stream can be a byte order mark
        self.skipped = 0

    @property
    def tail(self) -> bytes:
        """The bytes of the event that is not complete yet."""
        return bytes(self._buffer)

    def feed(self, chunk: bytes) -> list[Frame]:
        """Take one read and return the frames that it completes."""
        if (self.at_boundary or self._opens_plainly(chunk)) and chunk.endswith(b"\n\n") and b"\r" not in chunk:
            if chunk.startswith(b"data: ") and chunk.find(b"\n") == len(chunk) - 2 <= self._limit - 2:
                return [Frame(chunk, chunk[6:-2], "")]
            return self._split(chunk)
        return self._gather(chunk)

    def _opens_plainly(self, chunk: bytes) -> bool:
        """Tell whether a stream begins with this chunk and without a byte order mark: from here on it stands at a boundary."""
        self.at_boundary = self._fresh and not self._buffer and chunk.startswith(b"data: ")
        self._fresh = self._fresh and not self.at_boundary
        return self.at_boundary

    def _split(self, chunk: bytes) -> list[Frame]:
        """Take a read that begins and ends at a boundary and knows no line end but LF."""
        frames: list[Frame] = []
        *blocks, rest = chunk.split(b"\n\n")
        for block in blocks:
            if len(block) + 2 > self._limit or block[:1] in b"\n":
                frames += self._gather(block + b"\n\n")
            elif block.startswith(b"data: ") and b"\n" not in block:
                frames.append(Frame(block + b"\n\n", block[6:], ""))
            else:
                frames.append(Frame(block + b"\n\n", *_fields(block)))
        return frames + self._gather(rest) if rest else frames

    def _gather(self, chunk: bytes) -> list[Frame]:
        """Take any read: what it completes leaves the buffer, the rest waits for more."""
        buffer = self._buffer
        buffer += chunk
        frames: list[Frame] = []
        start, search = self._after_blank_lines(frames, 0), self._searched
        while (end := _boundary(buffer, max(start, search))) is not None:
            frames.append(self._close(bytes(buffer[start:end])))
            start = search = self._after_blank_lines(frames, end)
        if self._skipping or len(buffer) - start > self._limit:
            start = self._let_go(frames, start)
        del buffer[:start]
        self._searched = max(0, len(buffer) - 2)
        self.at_boundary = not (buffer or self._fresh or self._skipping)
        return frames

    def _after_blank_lines(self, frames: list[Frame], start: int) -> int:
        if self._skipping or (blank := _BLANK_LINES.match(self._buffer, start)) is None:
            return start
        self._fresh = False
        frames.append(Frame(blank.group(), b"", ""))
        return blank.end()

    def _close(self, block: bytes) -> Frame:
        fresh, self._fresh = self._fresh, False
        if self._skipping:
            self._skipping = False
            return Frame(block, b"", "")
        if len(block) > self._limit:
            self.skipped += 1
            return Frame(block, b"", "")
        return Frame(block, *_fields(block.removeprefix(BOM) if fresh else block))

    def _let_go(self, frames: list[Frame], start: int) -> int:
        """Pass on what is held of an event that is too large, but for line ends that may turn out to be half a boundary."""
        if not self._skipping:
            self._skipping, self._fresh = True, False
            self.skipped += 1
        held = bytes(self._buffer[start:])
        if raw := held.rstrip(b"\r\n"):
            frames.append(Frame(raw, b"", ""))
        return start + len(raw)


class Cutter:
    """Holds back the event that is not complete yet, so that whatever is said between two pushes lands between two events.

    At most `limit` bytes are held: a larger event is let go as it comes, and `inside` says that the last byte let out tore it.
    """

    __slots__ = ("_held", "_limit", "_searched", "inside")

    def __init__(self, limit: int = 64 << 10) -> None:
        self._limit = limit
        self._held = bytearray()
        self._searched = 0
        self.inside = False

    @property
    def tail(self) -> bytes:
        """The bytes held back."""
        return bytes(self._held)

    @property
    def aligned(self) -> bool:
        """True when nothing is held and the last byte let out ended an event."""
        return not self._held and not self.inside

    def push(self, chunk: bytes) -> bytes:
        """Take one read and return everything up to the last event boundary in what is held."""
        if not self._held and chunk.endswith(b"\n\n"):
            self.inside = False
            return chunk
        held = self._held
        held += chunk
        end = self._last_boundary()
        if end:
            self.inside = False
        if (self.inside or len(held) - end > self._limit) and (torn := len(held.rstrip(b"\r\n"))) > end:
            end, self.inside = torn, True
        out = bytes(held[:end])
        del held[:end]
        self._searched = max(0, len(held) - 2)
        return out

    def _last_boundary(self) -> int:
        """Return the index after the last blank line held, 0 if there is none."""
        held, since = self._held, self._searched
        stop = len(held) - held.endswith(b"\n\r")
        pair = max(held.rfind(ends, since, stop) for ends in (b"\n\n", b"\r\r", b"\n\r"))
        if pair >= 0:
            end = pair + 2
            return end + (held[pair + 1] == _CR and held[end : end + 1] == b"\n")
        blank = None if self.inside else _BLANK_LINES.match(held)
        return blank.end() if blank else 0


def _boundary(buffer: bytearray, since: int) -> int | None:
    """Return the index after the first blank line that begins at `since` or later, None if none is complete."""
    found = _BOUNDARY.search(buffer, since)
    if found is None or (found.end() == len(buffer) and buffer.endswith(b"\n\r")):
        return None
    return found.end()


def _fields(block: bytes) -> tuple[bytes, str]:
    """Return the data and the name of one block; id, retry, comments and unknown fields are nothing to us."""
    data: list[bytes] = []
    name = b""
    for line in block.splitlines():
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    return (b"\n".join(data), name.decode("utf-8", "replace")) if data else (b"", "")


FRAMING = Framing("text/event-stream", b": keepalive\n\n", b"\n\n", Parser, Cutter, takes_lines=True)
"""Plain server-sent events; a comment keeps them alive."""
