"""Those who watch streams live, and the share of the streams that they are shown: few enough to be told of, and to be looked at."""

from collections.abc import Callable, Iterator
from typing import Protocol

from gateway.core.messages import Watching
from gateway.telemetry.account import Account
from gateway.telemetry.live import LiveStream

MOST_SHOWN = 500
"""Streams that are shown at once: with more of them it is one in two, in four, in eight and so on, drawn by their ids."""
ENOUGH = 400


class Onlooker(Protocol):
    """Somebody who watches streams live. What it hears it must take at once. `closely`: it wants to hear of every token."""

    @property
    def closely(self) -> bool: ...

    def begun(self, stream: LiveStream) -> None: ...
    def moved(self, stream: LiveStream) -> None: ...
    def heard(self, stream_id: str, times: list[float], many: list[int], answer: float | None) -> None: ...
    def stalled(self, stream: LiveStream) -> None: ...
    def ended(self, told: Account) -> None: ...
    def drawn(self) -> None:
        """Another share of the streams is shown from now on."""
        ...


class Onlookers:
    """All of them. `tell` lets every worker know whether somebody looks on, and which streams are shown."""

    def __init__(self, tell: Callable[[Watching], None]) -> None:
        self._tell = tell
        self._every: set[Onlooker] = set()
        self.watching = Watching(False)

    def __iter__(self) -> Iterator[Onlooker]:
        return iter(self._every)

    def __len__(self) -> int:
        return len(self._every)

    def add(self, onlooker: Onlooker, active: int) -> None:
        """Let somebody hear of what goes on from now on; the workers tell once more what they know of the past of each stream."""
        self._every.add(onlooker)
        if onlooker.closely:
            self._say(Watching(True, fitting(self.watching.share, active)))
        onlooker.drawn()

    def discard(self, onlooker: Onlooker) -> None:
        self._every.discard(onlooker)
        if self.watching.on and not any(each.closely for each in self._every):
            self._say(Watching(False))

    def draw(self, active: int) -> None:
        """Fit the share to how many streams live; to be called now and then."""
        share = fitting(self.watching.share, active)
        if self.watching.on and share != self.watching.share:
            self._say(Watching(True, share))
            for onlooker in self._every:
                onlooker.drawn()

    def _say(self, watching: Watching) -> None:
        self.watching = watching
        self._tell(watching)


def fitting(share: float, active: int) -> float:
    """Return the share to show of so many streams: half or double the last one, as often as it takes, and not for a few streams more."""
    while active * share > MOST_SHOWN:
        share /= 2
    while share < 1.0 and active * share * 2 <= ENOUGH:
        share *= 2
    return share
