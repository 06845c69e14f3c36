"""How a matrix test has an upstream say exactly these bytes, and asks for them."""

from typing import Any

from gateway.sim.faults import Script
from gateway.sim.plan import head
from gateway.sim.steps import End, Fin, Pause, Reset, Send, Step, framed
from tests.faults.tongue import Tongue

ENDINGS: dict[str, Step] = {"clean": End(), "fin": Fin(), "reset": Reset()}
"""How a connection may end: with the end of its body, without it, broken."""
CODES = {"clean": "stream_truncated", "fin": "connection_closed", "reset": "connection_reset"}
"""What each is called where the answer was not over."""


def answer(tongue: Tongue, *pieces: bytes | float | Step, headers: dict[str, str] | None = None) -> Script:
    """A streamed answer of exactly these bytes, each piece a write of its own, with pauses (seconds) and other steps between.

    Its body ends properly unless the last piece is a step.
    """
    steps: list[Step] = [Send(head(200, {"Content-Type": tongue.media_type, **(headers or {})}), "head")]
    for piece in pieces:
        if isinstance(piece, bytes):
            steps += [Send(piece, "body"), Pause(0)]
        else:
            steps.append(Pause(float(piece)) if isinstance(piece, int | float) else piece)
    ends = bool(pieces) and not isinstance(pieces[-1], bytes | int | float)
    return Script(tuple(framed(steps if ends else [*steps, End()])))


def whole(status: int, body: bytes, headers: dict[str, str] | None = None) -> Script:
    """An answer in one piece."""
    return Script((Send(head(status, {"Content-Type": "application/json", **(headers or {})}, len(body)) + body),))


async def ask(weir: Any, tongue: Tongue, stream: bool = True, headers: dict[str, str] | None = None, **body: Any) -> Any:
    """Send a call of this dialect on a connection of its own."""
    return (await weir.client()).ask(tongue.request(stream, headers, **body))


async def fetch(weir: Any, tongue: Tongue, stream: bool = True, headers: dict[str, str] | None = None, **body: Any) -> Any:
    """Send one and wait until its answer is over."""
    return await (await ask(weir, tongue, stream, headers, **body)).finish()
