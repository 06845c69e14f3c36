"""How many extra upstream attempts a route may make: retries and fallbacks by its budget, hedges by their limit."""

from gateway.routing.window import Window


class RetryBudget:
    """Keeps extra attempts within `ratio` of the calls of the last `window` seconds, or `burst` if that is more.

    A window, not a bucket of tokens: tokens saved in quiet hours would all be spent on an upstream in trouble. Whatever the
    traffic, upstream attempts stay <= (1 + ratio) x calls as soon as a window holds burst / ratio calls. A ratio of 0 allows none.
    """

    __slots__ = ("_burst", "_ratio", "_window")

    def __init__(self, ratio: float, burst: int = 10, window: float = 10.0) -> None:
        self._ratio = ratio
        self._burst = burst
        self._window = Window(window)

    def called(self, now: float) -> None:
        """Count one call of a client."""
        self._window.add(now, 1, 0)

    def allow(self, now: float) -> bool:
        """Return whether one more extra attempt may be made, and count it if so."""
        self._window.advance(now)
        if self._ratio <= 0 or self._window.second + 1 > max(self._burst, self._ratio * self._window.first):
            return False
        self._window.add(now, 0, 1)
        return True


class HedgeLimit(RetryBudget):
    """The same mechanism for `first_token.hedge_limit`: a minute's window, so that 5 % means something at one call a second."""

    __slots__ = ()

    def __init__(self, ratio: float, burst: int = 1, window: float = 60.0) -> None:
        super().__init__(ratio, burst, window)
