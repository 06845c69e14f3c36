"""The AWS binary event stream: bytes to frames at any cut, the last place in held bytes between two of them, and frames to bytes.

A message is a prelude (total length, length of the headers, CRC of these eight bytes), headers, a payload, and the CRC of all that;
big endian, CRC-32 as zlib has it. Source: Amazon's event stream encoding, "application/vnd.amazon.eventstream".

Nothing marks the beginning of a message: after a prelude that is wrong nobody can tell where the next one begins, and clients give up.
So do we: the rest of such a stream is passed on unread.
"""

import struct
import zlib
from collections.abc import Mapping

from gateway.wire.framing import Frame, Framing

_PRELUDE = struct.Struct(">III")
_CRC = struct.Struct(">I")
_STRING = struct.Struct(">BH")
_LEAST = _PRELUDE.size + _CRC.size
_MOST_HEADERS, _MOST_PAYLOAD = 128 << 10, 24 << 20  # what botocore takes for possible
_TEXT_TYPE = 7
_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}  # header values of fixed size; types 6 and 7 carry two bytes of length


class Parser:
    """Turns reads into frames; the raw bytes of all frames and the tail are always the input.

    A frame's name is the type of its event, `exception:<type>` or `error:<code>`; its data is the payload, for an error its message.
    A message of more than `limit` bytes is not kept: it comes out without data as it arrives, and so does one whose checksum or headers
    are wrong, and everything after a wrong prelude; each counts once in `skipped`. Memory is `limit` plus one read.
    """

    __slots__ = ("_buffer", "_known", "_left", "_limit", "_lost", "at_boundary", "skipped")

    def __init__(self, limit: int = 1 << 20) -> None:
        self._limit = max(limit, _PRELUDE.size)
        self._buffer = bytearray()
        self._left = 0
        self._lost = False
        self._known: tuple[bytes, str] = (b"", "")
        self.at_boundary = False  # always: no frame can be known by its looks, its lengths and checksums are its own
        self.skipped = 0

    @property
    def tail(self) -> bytes:
        """The bytes of the message that is not complete yet."""
        return bytes(self._buffer)

    def feed(self, chunk: bytes) -> list[Frame]:
        """Take one read and return the frames that it completes."""
        if self._lost:
            return [Frame(chunk, b"", "")] if chunk else []
        buffer, frames, start = self._buffer, list[Frame](), 0
        if not buffer and not self._left and chunk and _length(chunk, 0) == len(chunk) <= self._limit:
            return [self._frame(chunk)]
        buffer += chunk
        while start < len(buffer):
            if self._left:
                start = self._pass(frames, start)
            elif (length := _length(buffer, start)) is None:
                break
            elif not length:
                self._lost, self._left = True, len(buffer) - start
                self.skipped += 1
            elif length > self._limit:
                self._left = length
                self.skipped += 1
            elif len(buffer) - start < length:
                break
            else:
                frames.append(self._frame(bytes(buffer[start : start + length])))
                start += length
        del buffer[:start]
        return frames

    def _pass(self, frames: list[Frame], start: int) -> int:
        """Pass on what has come of a message that is not read."""
        raw = bytes(self._buffer[start : start + self._left])
        frames.append(Frame(raw, b"", ""))
        self._left -= len(raw)
        return start + len(raw)

    def _frame(self, raw: bytes) -> Frame:
        """Read one whole message."""
        (crc,) = _CRC.unpack_from(raw, len(raw) - _CRC.size)
        payload_at = _PRELUDE.size + int.from_bytes(raw[4:8])
        if zlib.crc32(memoryview(raw)[: -_CRC.size]) == crc:
            payload, block = raw[payload_at : -_CRC.size], raw[_PRELUDE.size : payload_at]
            if block == self._known[0]:  # every token of a block has the same headers
                return Frame(raw, payload, self._known[1])
            if (headers := read_headers(block)) is not None:
                return self._named(raw, payload, block, headers)
        self.skipped += 1
        return Frame(raw, b"", "")

    def _named(self, raw: bytes, payload: bytes, block: bytes, headers: Mapping[str, str]) -> Frame:
        kind = headers.get(":message-type", "event")
        if kind == "error":
            return Frame(raw, headers.get(":error-message", "").encode(), "error:" + headers.get(":error-code", ""))
        name = "exception:" + headers.get(":exception-type", "") if kind == "exception" else headers.get(":event-type", "")
        self._known = (block, name)
        return Frame(raw, payload, name)


class Cutter:
    """Holds back the message that is not complete yet, so that whatever is said between two pushes lands between two messages.

    At most `limit` bytes are held: a larger message is let go as it comes, and `inside` says that the last byte let out tore it. After
    a wrong prelude there is no place between two messages any more, and `inside` stays true.
    """

    __slots__ = ("_held", "_left", "_limit", "_lost", "inside")

    def __init__(self, limit: int = 64 << 10) -> None:
        self._limit = max(limit, _PRELUDE.size)
        self._held = bytearray()
        self._left = 0
        self._lost = False
        self.inside = False

    @property
    def tail(self) -> bytes:
        """The bytes held back."""
        return bytes(self._held)

    @property
    def aligned(self) -> bool:
        """Always false: no last bytes of a read tell that a message ends with them, so every read must be cut."""
        return False

    def push(self, chunk: bytes) -> bytes:
        """Take one read and return everything up to the end of the last message that is whole."""
        if self._lost:
            return chunk
        held = self._held
        held += chunk
        end = self._last_end()
        out = chunk if end == len(held) == len(chunk) else bytes(held[:end])
        del held[:end]
        self.inside = self._lost or self._left > 0
        return out

    def _last_end(self) -> int:
        """Return the index up to which nothing is held back, and note what is still to come of the message that it tears."""
        size, end = len(self._held), 0
        while end < size:
            if self._left:
                passed = min(self._left, size - end)
                self._left -= passed
                end += passed
            elif (length := _length(self._held, end)) is None:
                break
            elif not length:
                self._lost = True
                return size
            elif length <= size - end:
                end += length
            elif size - end > self._limit:
                self._left = length
            else:
                break
        return end


def encode(headers: Mapping[str, str], payload: bytes) -> bytes:
    """Return one message; all its headers are strings."""
    block = b"".join(_header(name, value) for name, value in headers.items())
    prelude = struct.pack(">II", _LEAST + len(block) + len(payload), len(block))
    message = b"".join((prelude, _CRC.pack(zlib.crc32(prelude)), block, payload))
    return message + _CRC.pack(zlib.crc32(message))


def event(name: str, payload: bytes) -> bytes:
    """Return the message of one event whose payload is JSON."""
    return encode({":event-type": name, ":content-type": "application/json", ":message-type": "event"}, payload)


def exception(name: str, payload: bytes) -> bytes:
    """Return the message of an exception, with which a stream ends."""
    return encode({":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}, payload)


def read_headers(block: bytes) -> dict[str, str] | None:
    """Return the string headers of a message, None when the block is no sequence of headers; other values are passed over."""
    headers: dict[str, str] = {}
    at = 0
    try:
        while at < len(block):
            name = block[at + 1 : (at := at + 1 + block[at])]
            kind, at = block[at], at + 1
            size = _SIZES.get(kind)
            if size is None:
                if kind not in {6, _TEXT_TYPE}:
                    return None
                size, at = int.from_bytes(block[at : at + 2]), at + 2
            if kind == _TEXT_TYPE:
                headers[name.decode()] = block[at : at + size].decode()
            at += size
    except (IndexError, UnicodeDecodeError):
        return None
    return headers if at == len(block) else None


def _header(name: str, value: str) -> bytes:
    key, text = name.encode(), value.encode()
    return bytes((len(key),)) + key + _STRING.pack(_TEXT_TYPE, len(text)) + text


def _length(buffer: bytes | bytearray, start: int) -> int | None:
    """Return the length of the message that begins at `start`, None when its prelude has not come yet, 0 when no message begins there."""
    if len(buffer) - start < _PRELUDE.size:
        return None
    total, headers, crc = _PRELUDE.unpack_from(buffer, start)
    sane = _LEAST + headers <= total <= _LEAST + headers + _MOST_PAYLOAD and headers <= _MOST_HEADERS
    return total if sane and zlib.crc32(buffer[start : start + 8]) == crc else 0


FRAMING = Framing("application/vnd.amazon.eventstream", b"", b"", Parser, Cutter)
"""Nothing keeps it alive: there is no message that means nothing."""
