"""The breaker of one target: everything that moves it between closed, open and half open is here."""

from gateway.config import Breaker
from gateway.routing.window import Window

LONGEST = 60.0
"""Seconds: neither an open time nor a Retry-After keeps a target away for longer."""
FEWEST = 5
"""A failure ratio over fewer calls than this says nothing."""
PROOF = 2
"""Successes that close it again."""


class Circuit:
    """A breaker and its moments.

    closed     calls pass; `failures` in a row, or more than half of at least 5 in the window, open it
    open       no calls for `open` seconds; each time it fails again the time doubles, up to 60 s
    half_open  one probe at a time, until it speaks or ends; two successes close it, a failed probe opens it again

    A call carries the `era` in which it began: what calls from before the last opening still report says nothing new, so it is
    ignored. A Retry-After is a second lock of its own and works in every state.
    """

    __slots__ = (
        *("_closed_at", "_failed_in_a_row", "_open_for", "_opens_at", "_probing", "_since", "_state", "_succeeded", "_window"),
        *("era", "held_until", "settings"),
    )

    def __init__(self, settings: Breaker, now: float = 0.0) -> None:
        self.settings = settings
        self._state = "closed"
        self._since = now
        self._window = Window(settings.window)
        self._failed_in_a_row = 0
        self._succeeded = 0
        self._probing = False
        self._open_for = 0.0
        self._opens_at = 0.0
        self._closed_at = float("-inf")
        self.held_until = 0.0
        self.era = 0

    def configure(self, settings: Breaker) -> None:
        """Take over the settings of the route that calls now; of routes that share a target, the longest window holds for all."""
        if settings.window > self._window.length:
            self._window = Window(settings.window)
        self.settings = settings

    def state(self, now: float) -> str:
        return "half_open" if self._state == "open" and now >= self._opens_at else self._state

    def since(self, now: float) -> float:
        """Return the monotonic time at which it came into the state it is in."""
        return self._opens_at if self._state == "open" and now >= self._opens_at else self._since

    def usable(self, now: float) -> bool:
        if now < self.held_until:
            return False
        if self._state == "closed":
            return True
        return now >= self._opens_at and not self._probing

    def opens_at(self, now: float) -> float:
        """Return when a call may next pass; never earlier than `now`."""
        return max(now, self.held_until, self._opens_at if self._state == "open" else now)

    def why_not(self, now: float) -> str:
        """Say why no call may pass, or return "" when one may."""
        if now < self.held_until:
            return f"asked to wait {self.held_until - now:.1f} s (Retry-After)"
        if self.usable(now):
            return ""
        if now < self._opens_at:
            return f"breaker open for another {self._opens_at - now:.1f} s"
        return "breaker half open, its probe is under way"

    def admit(self, now: float) -> bool:
        """Count a call in and return whether it is the probe."""
        if self._state == "closed":
            return False
        if self._state == "open" and now >= self._opens_at:
            self._enter("half_open", self._opens_at)
        if self._state == "half_open" and not self._probing:
            self._probing = True
            return True
        return False

    def release(self, era: int) -> None:
        """Free the probe's place: it has spoken, or has ended without saying anything about the target."""
        if era == self.era:
            self._probing = False

    def hold(self, seconds: float, now: float) -> None:
        """Let no call pass for `seconds`, as the upstream asked by Retry-After; at most 60."""
        self.held_until = max(self.held_until, now + min(seconds, LONGEST))

    def succeeded(self, era: int, now: float) -> None:
        if era != self.era:
            return
        self._failed_in_a_row = 0
        if self._state == "closed":
            self._window.add(now, 1, 0)
            return
        if self._state == "open":  # a call let through because no other target was left
            self._enter("half_open", now)
        self._succeeded += 1
        if self._succeeded >= PROOF:
            self._closed_at = now
            self._enter("closed", now)

    def failed(self, era: int, probe: bool, now: float) -> None:
        if era != self.era:
            return
        if self._state == "closed":
            self._failed_in_a_row += 1
            self._window.add(now, 1, 1)
            if self._broken():
                relapsed = now - self._closed_at < self.settings.window
                self._open(self._open_for * 2 if relapsed else self.settings.open, now)
        elif probe:
            self._open(self._open_for * 2, now)

    def _broken(self) -> bool:
        calls, failures = self._window.first, self._window.second
        return self._failed_in_a_row >= self.settings.failures or (calls >= FEWEST and failures * 2 > calls)

    def _open(self, seconds: float, now: float) -> None:
        self._open_for = min(seconds, max(LONGEST, self.settings.open))
        self._opens_at = now + self._open_for
        self.era += 1
        self._enter("open", now)

    def _enter(self, state: str, now: float) -> None:
        self._state = state
        self._since = now
        self._succeeded = 0
        self._failed_in_a_row = 0
        self._probing = False
        self._window.clear()
