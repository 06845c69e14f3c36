"""Two counts over the last seconds: what the breaker (calls, failures) and the budgets (calls, extra attempts) are built on."""

PARTS = 10


class Window:
    """Counts two kinds of happenings over a sliding window of `length` seconds, in ten parts: memory is constant at any rate.

    A happening is forgotten between `length` and 1.1 x `length` seconds after it came, both kinds at the same moment.
    """

    __slots__ = ("_firsts", "_part", "_seconds", "_slot", "first", "length", "second")

    def __init__(self, length: float) -> None:
        self.length = length
        self._part = length / PARTS
        self._slot = 0
        self.clear()

    def clear(self) -> None:
        self.first = 0
        self.second = 0
        self._firsts = [0] * (PARTS + 1)
        self._seconds = [0] * (PARTS + 1)

    def add(self, now: float, first: int, second: int) -> None:
        """Count `first` and `second` more happenings at `now` (monotonic seconds; a step backwards counts as the same moment)."""
        self.advance(now)
        at = self._slot % (PARTS + 1)
        self._firsts[at] += first
        self._seconds[at] += second
        self.first += first
        self.second += second

    def advance(self, now: float) -> None:
        """Forget what is older than the window: `first` and `second` are then the counts in it."""
        slot = int(now / self._part)
        if slot <= self._slot:
            return
        for passed in range(max(self._slot + 1, slot - PARTS), slot + 1):
            at = passed % (PARTS + 1)
            self.first -= self._firsts[at]
            self.second -= self._seconds[at]
            self._firsts[at] = self._seconds[at] = 0
        self._slot = slot
