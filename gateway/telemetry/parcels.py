"""What was said on streams, on its way from worker to recorder: in parts that a packet can take, all of them or none."""

from collections import deque
from collections.abc import Callable

from msgspec import Struct

from gateway.core.messages import Said

PART = 24 * 1024
WAITING = 8 * 1024 * 1024
"""Bytes that may wait in a worker; words have a queue of their own, and come after everything else."""


class Part(Struct, frozen=True):
    """One encoded message; `last` is the one with which its stream's words are whole."""

    data: bytes
    last: bool


class Parcels:
    """The worker's end. `encode` writes one message."""

    def __init__(self, encode: Callable[[Said], bytes], limit: int = WAITING) -> None:
        self._encode, self._limit = encode, limit
        self._parts: deque[Part] = deque()
        self._size = 0

    def __len__(self) -> int:
        return len(self._parts)

    def put(self, said: Said) -> bool:
        """Take a stream's words; False when there is no room for them."""
        if self._size + len(said.data) > self._limit:
            return False
        starts = range(0, len(said.data), PART) or (0,)
        for number, start in enumerate(starts):
            last = number == len(starts) - 1
            self._add(Part(self._encode(Said(said.stream_id, said.data[start : start + PART], number, last)), last))
        return True

    def _add(self, part: Part) -> None:
        self._parts.append(part)
        self._size += len(part.data)

    def take(self) -> Part:
        part = self._parts.popleft()
        self._size -= len(part.data)
        return part

    def give_back(self, parts: list[Part]) -> None:
        """Put parts that could not leave back to where they were."""
        self._parts.extendleft(reversed(parts))
        self._size += sum(len(part.data) for part in parts)

    def clear(self) -> int:
        """Forget everything; returns of how many streams."""
        lost = sum(part.last for part in self._parts)
        self._parts.clear()
        self._size = 0
        return lost


class Unpacking:
    """The recorder's end: puts together what comes in parts, each worker slot's one after the other."""

    def __init__(self, lost: Callable[[str, int], None]) -> None:
        self._lost = lost
        self._open: dict[int, tuple[str, list[bytes]]] = {}
        self._spoilt: dict[int, str] = {}

    def take(self, part: Said, slot: int) -> Said | None:
        """Take a part; returns the whole with the last one. A whole of which a part is missing, as when its worker has died, is lost."""
        if not part.part:
            self._give_up(slot)
            self._open[slot] = (part.stream_id, [])
        stream_id, parts = self._open.get(slot, ("", []))
        if (stream_id, len(parts)) != (part.stream_id, part.part):
            if not self._give_up(slot) and part.last and self._spoilt.get(slot) != part.stream_id:
                self._lost("said", 1)  # nothing of it came but this
            return None
        parts.append(part.data)
        if not part.last:
            return None
        del self._open[slot]
        return Said(stream_id, b"".join(parts))

    def _give_up(self, slot: int) -> bool:
        """Count what is open in a slot as lost, once; tell whether there was anything."""
        opened = self._open.pop(slot, None)
        if opened is not None:
            self._spoilt[slot] = opened[0]
            self._lost("said", 1)
        return opened is not None
