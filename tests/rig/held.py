"""An answer that lasts until its test ends it: what is to be looked at must not be over before a busy machine has looked."""

from collections.abc import Iterator, Sequence

from gateway.sim.faults import Script
from gateway.sim.steps import End, Pause, Send, Step, framed
from tests.rig.makers import SSE_HEAD, Makers

DONE = b"data: [DONE]\n\n"
LONGEST = 120.0
"""Seconds after which it ends by itself, should its test forget it."""


class Held:
    """What a provider's `Script` says: "w0 ", "w1 " and so on, every `gap` seconds, until `release` lets every answer end well.

    `first` is a frame that goes before the words. After `quiet_after` tokens it says nothing more until then. `ending` is what it says
    when it has been released. `runs` holds the frames of each answer, in the order they were begun.
    """

    def __init__(self, gap: float = 0.04, quiet_after: int | None = None, first: bytes = b"", ending: Sequence[str] = ()) -> None:
        self.gap, self.quiet_after, self.first, self.ending = gap, quiet_after, first, ending
        self.released = False
        self.runs: list[list[bytes]] = []

    @property
    def script(self) -> Script:
        """This as a fault of a simulated provider, asked for anew at each request."""
        return Script(self)  # type: ignore[arg-type] - steps that are made while they are played

    @property
    def bodies(self) -> set[bytes]:
        """Every answer that was given to its end."""
        return {b"".join(run) for run in self.runs if run[-1:] == [DONE]}

    def release(self) -> None:
        self.released = True

    def __iter__(self) -> Iterator[Step]:
        said: list[bytes] = []
        self.runs.append(said)
        yield Send(SSE_HEAD, "head")
        yield from framed(self._steps(said))

    def _steps(self, said: list[bytes]) -> Iterator[Step]:
        waited, number = 0.0, 0
        for frame in (Makers.event(), *([self.first] if self.first else [])):
            said.append(frame)
            yield Send(frame, "body")
        while not self.released and waited < LONGEST:
            if self.quiet_after is None or number < self.quiet_after:
                said.append(Makers.event(f"w{number} "))
                yield Send(said[-1], "token", number, 1)
                number += 1
            waited += self.gap
            yield Pause(self.gap)
        for word in self.ending:
            said.append(Makers.event(word))
            yield Send(said[-1], "token", number, 1)
            number += 1
            yield Pause(self.gap)
        for last in (Makers.event(finish="stop"), DONE):
            said.append(last)
            yield Send(last, "body")
        yield End()
