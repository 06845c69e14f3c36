"""What an answer is made of. A plan yields steps, a player carries them out; a scripted fault is nothing but a list of them."""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from msgspec import Struct

Part = Literal["raw", "head", "preamble", "token", "finish", "usage", "done", "ping", "body"]


class Send(Struct, frozen=True, gc=False):
    """Bytes for the peer. `part` says what they are, `before` how many tokens went before them.

    Parts "raw" and "head" go out as they are; any other is payload, which `framed` puts into an HTTP chunk.
    """

    data: bytes
    part: Part = "raw"
    before: int = 0
    tokens: int = 0


class Pause(Struct, frozen=True, gc=False):
    """Silence of so many seconds; 0 lets the loop turn once, so that what follows is a write of its own."""

    seconds: float = 0.0


class End(Struct, frozen=True, gc=False):
    """The proper end of a body sent in chunks."""


class Reset(Struct, frozen=True, gc=False):
    """Break the connection with RST, once what was sent has left."""


class Fin(Struct, frozen=True, gc=False):
    """Close the connection cleanly."""


class HalfClose(Struct, frozen=True, gc=False):
    """Say that nothing more will come (FIN), and go on listening."""


class Hang(Struct, frozen=True, gc=False):
    """Say nothing more and wait for the peer to leave."""


Step = Send | Pause | End | Reset | Fin | HalfClose | Hang
LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Return payload as one HTTP/1.1 chunk (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def framed(steps: Iterable[Step], pack: Callable[[bytes], bytes] = chunk, last: bytes = LAST_CHUNK) -> Iterator[Step]:
    """Yield the steps with their payload packed for the wire, and the end of the body said with `last`; nothing where there is none."""
    for step in steps:
        if type(step) is Send and step.part not in {"raw", "head"}:
            if step.data:
                yield Send(pack(step.data), step.part, step.before, step.tokens)
        elif type(step) is End:
            if last:
                yield Send(last)
        else:
            yield step
