"""What a stream has said of late, event by event, so that a client which lost its connection can be given what it has not had. Pure."""

from bisect import bisect_left, bisect_right

from gateway.wire.framing import Frame, Framing

BLANK = b" \t\r\n"
COMPACT = 1024
"""Dropped entries that may lie about before the lists are made shorter."""


class Tape:
    """The latest `limit` bytes of one stream as its client gets them, cut at whole events; the last event stays whatever its size.

    Events are numbered from 1. Where the framing takes ids each gets an `id:` line as its last, so that ours stands where an upstream
    has one too; elsewhere clients count. Comments and blank lines have no number, and an `id:` without data gets the number of the event
    before it: a client takes every id it is told for its last. `ids` counts the lines put in. A place on the tape is
    a count of bytes since the beginning, always between two entries; `start` and `end` are the first and the last place there are.

    `torn` is set for a body that is no stream of events, and from an event on that is too large to be read: what follows passes as
    it comes, and nobody can be brought back into it.
    """

    __slots__ = ("_dropped", "_gone", "_limit", "_numbers", "_parser", "_pieces", "_places", "_says_ids", "count", "end", "ids", "start")

    def __init__(self, framing: Framing | None, limit: int) -> None:
        self._parser = framing.parser() if framing is not None else None
        self._says_ids = framing is not None and framing.takes_lines
        self._limit = limit
        self._places: list[int] = []
        self._numbers: list[int] = []  # twice its own for an event, one more for what comes behind it and has none
        self._pieces: list[bytes] = []
        self._gone = self._dropped = 0
        self.count = self.ids = self.start = self.end = 0

    @property
    def torn(self) -> bool:
        return self._parser is None

    def add(self, data: bytes) -> bytes:
        """Take bytes of the stream and return those that are the client's now: whole events with their ids."""
        if self._parser is None:
            said = self._put(data, 2 * self.count + 1)
        else:
            said = b"".join([self._entry(frame) for frame in self._parser.feed(data)])
            if self._parser.skipped:
                said += self._put(self._parser.tail, 2 * self.count + 1)
                self._parser = None
        return said

    def finish(self) -> bytes:
        """The stream has ended: return what is left of it, as a rule an event without its last line end."""
        if self._parser is None or not (tail := self._parser.tail):
            return b""
        whole = not self._says_ids and tail.strip(BLANK) != b""
        self.count += whole
        return self._put(tail, 2 * self.count + (not whole))

    def after(self, number: int) -> int | None:
        """Return the place after event `number` (0: the beginning), None when what follows it is no longer all there."""
        if self._dropped > 2 * number:
            return None
        index = bisect_right(self._numbers, 2 * number, self._gone)
        return self._places[index] if index < len(self._places) else self.end

    def read(self, place: int, most: int) -> tuple[bytes, int]:
        """Return about `most` bytes from a place on, one entry at least, and the place after them; raises IndexError at the end."""
        index = first = bisect_left(self._places, place, self._gone)
        size = len(self._pieces[index])
        while index + 1 < len(self._pieces) and size < most:
            index += 1
            size += len(self._pieces[index])
        return b"".join(self._pieces[first : index + 1]), place + size

    def _entry(self, frame: Frame) -> bytes:
        empty = not frame.data and not frame.name
        self.count += not empty
        raw = frame.raw
        if self._says_ids and (not empty or self._moves_id(raw)):
            self.ids += 1
            raw = with_id(raw, self.count)
        return self._put(raw, 2 * self.count + empty)

    def _moves_id(self, raw: bytes) -> bool:
        """Tell whether a block without data has an id of its own; beside an event too large to be read, it no longer matters."""
        assert self._parser is not None
        return b"id" in raw and not self._parser.skipped and any(line.partition(b":")[0] == b"id" for line in raw.splitlines())

    def _put(self, raw: bytes, number: int) -> bytes:
        if raw:
            self._places.append(self.end)
            self._numbers.append(number)
            self._pieces.append(raw)
            self.end += len(raw)
        return raw

    def shorten(self, had: int) -> None:
        """Drop the oldest entries while there is too much: only what lies before the place up to which the client has had it, and never
        the last."""
        gone, last = self._gone, len(self._pieces) - 1
        while gone < last and self.end - self.start > self._limit and self._places[gone + 1] <= had:
            self._pieces[gone], self._dropped = b"", self._numbers[gone]
            gone += 1
            self.start = self._places[gone]
        self._gone = gone
        if gone > COMPACT and gone > len(self._pieces) // 2:
            del self._pieces[:gone], self._places[:gone], self._numbers[:gone]
            self._gone = 0


def with_id(raw: bytes, number: int) -> bytes:
    """Return a server-sent event, its blank line included, with `number` for its id: as the last field, which is the one that counts."""
    if raw.endswith(b"\n\n"):
        return b"%bid: %d\n\n" % (raw[:-1], number)
    ending = b"\r\n" if raw.endswith(b"\r\n") else raw[-1:]
    return b"%bid: %d%b%b" % (raw[: -len(ending)], number, ending, ending)
