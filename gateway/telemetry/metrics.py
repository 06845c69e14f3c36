"""The state of every counter and histogram; gauges are read from what is live when somebody asks."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from math import inf

from msgspec import Struct, field

from gateway.telemetry.instruments import INSTRUMENTS, Bounds, Instrument

MOST_SERIES = 10_000
"""Per instrument. Labels are bounded by the config; this guards against what nobody thought of."""


class Exemplar(Struct, frozen=True):
    """One measurement and the trace it belongs to; `at` is unix seconds."""

    trace_id: str
    span_id: str
    value: float
    at: float


class Histogram(Struct):
    """Counts per bucket (`counts[i]` are values <= `bounds[i]`, the last one is everything above), and the last exemplar of each."""

    bounds: tuple[float, ...]
    counts: list[int]
    exemplars: list[Exemplar | None]
    total: float = 0.0

    @classmethod
    def empty(cls, bounds: tuple[float, ...]) -> "Histogram":
        return cls(bounds, [0] * (len(bounds) + 1), [None] * (len(bounds) + 1))

    def observe(self, value: float, exemplar: Exemplar | None = None) -> None:
        self.add(value, 1, value, exemplar)

    def add(self, bin_bound: float, count: int, total: float, exemplar: Exemplar | None = None) -> None:
        """Add a bin of `count` values of at most `bin_bound`, which sum to `total`."""
        bucket = bisect_left(self.bounds, bin_bound)
        self.counts[bucket] += count
        self.total += total
        if exemplar is not None:
            self.exemplars[bucket] = exemplar

    def rebound(self, bounds: tuple[float, ...]) -> None:
        """Go on with other bounds. Buckets that fall together are added up; of one that is cut in two, what was counted stays above."""
        counted = zip((*self.bounds, inf), self.counts, self.exemplars, strict=True)
        self.bounds, self.counts, self.exemplars = bounds, [0] * (len(bounds) + 1), [None] * (len(bounds) + 1)
        for edge, count, exemplar in counted:
            self.add(edge, count, 0.0, exemplar)

    def copy(self) -> "Histogram":
        return Histogram(self.bounds, self.counts.copy(), self.exemplars.copy(), self.total)


class Family(Struct, frozen=True):
    """One instrument and its series as they are now, safe to read in another thread."""

    instrument: Instrument
    values: list[tuple[tuple[str, ...], float]] = field(default_factory=list)
    histograms: list[tuple[tuple[str, ...], Histogram]] = field(default_factory=list)


class Metrics:
    """Counters and histograms by instrument name and label values, in the order the instrument names its labels."""

    def __init__(self, bounds: Mapping[Bounds, tuple[float, ...]]) -> None:
        self._bounds = bounds
        self._counters: dict[str, dict[tuple[str, ...], float]] = {}
        self._histograms: dict[str, dict[tuple[str, ...], Histogram]] = {}
        for row in INSTRUMENTS.values():
            if row.kind == "counter":
                self._counters[row.name] = {}
            elif row.kind == "histogram":
                self._histograms[row.name] = {}
        self.refused = 0

    def rebound(self, bounds: Mapping[Bounds, tuple[float, ...]]) -> None:
        """Go on with the bounds of another configuration; nothing counted is lost."""
        self._bounds = bounds
        for name, series in self._histograms.items():
            its = bounds[INSTRUMENTS[name].bounds or "latency"]
            for histogram in series.values():
                if histogram.bounds != its:
                    histogram.rebound(its)

    def count(self, name: str, labels: tuple[str, ...], amount: float = 1) -> None:
        """Add to a counter; 0 makes the series exist, so that its first increase can be seen."""
        series = self._counters[name]
        if labels in series:
            series[labels] += amount
        elif len(series) < MOST_SERIES:
            series[labels] = amount
        else:
            self.refused += 1

    def expect(self, name: str, awaited: Iterable[tuple[str, ...]]) -> None:
        """Let these series of a counter exist at 0, and no others that never moved: what is awaited no more leaves nothing behind."""
        series = self._counters[name]
        for labels in [labels for labels, amount in series.items() if not amount]:
            del series[labels]
        for labels in awaited:
            self.count(name, labels, 0)

    def observe(self, name: str, labels: tuple[str, ...], value: float, exemplar: Exemplar | None = None) -> None:
        if histogram := self.histogram(name, labels):
            histogram.observe(value, exemplar)

    def histogram(self, name: str, labels: tuple[str, ...]) -> Histogram | None:
        """Return one series of a histogram, made if need be; None when there are too many already."""
        series = self._histograms[name]
        if labels not in series:
            if len(series) >= MOST_SERIES:
                self.refused += 1
                return None
            series[labels] = Histogram.empty(self._bounds[INSTRUMENTS[name].bounds or "latency"])
        return series[labels]

    def value(self, name: str, labels: tuple[str, ...]) -> float:
        """Return a counter as it stands, 0 when it never moved."""
        return self._counters[name].get(labels, 0)

    def collect(self, gauges: Iterable[tuple[str, tuple[str, ...], float]], dropped: Mapping[str, int]) -> list[Family]:
        """Copy everything, the given gauges (name, labels, value) and the losses by kind included."""
        values: dict[str, list[tuple[tuple[str, ...], float]]] = {}
        for name, labels, value in gauges:
            values.setdefault(name, []).append((labels, value))
        for name, series in self._counters.items():
            values[name] = list(series.items())
        values["weir_telemetry_dropped_total"] = [((kind,), count) for kind, count in sorted(dropped.items())]
        return [
            Family(row, values.get(row.name, []), [(key, h.copy()) for key, h in self._histograms.get(row.name, {}).items()])
            for row in INSTRUMENTS.values()
        ]
