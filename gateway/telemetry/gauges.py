"""Gauges: read from what is live at the moment somebody asks, so that a worker that is gone takes its values with it."""

import time
from collections.abc import Iterator

from gateway import __version__
from gateway.config import Config
from gateway.telemetry.labels import Labels
from gateway.telemetry.live import Live, breaker_level
from gateway.telemetry.store import Store

Reading = tuple[str, tuple[str, ...], float]


class Gauges:
    """Reads the registry of live streams and workers, and how full the store is."""

    def __init__(self, live: Live, labels: Labels, config: Config, store: Store | None) -> None:
        self._live = live
        self._labels = labels
        self._store = store
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Take on another configuration: what it has no more has no series any more, but for streams that still live."""
        self.config_hash = config.hash
        self._promises = [(route.name, route.slo) for route in config.routes]
        self._pairs = [(route.name, target.upstream) for route in config.routes for target in route.targets]

    def read(self, now: float) -> Iterator[Reading]:
        """Yield (name, label values, value) of every gauge; `now` is monotonic seconds."""
        yield "weir_build_info", (__version__,), 1
        yield "weir_config_info", (self.config_hash,), 1
        if self._store is not None:
            yield "weir_store_bytes", (), self._store.size
            if (reach := self._store.reach(time.time())) is not None:  # noqa: TID251 - the store's times are the calendar's
                yield "weir_store_oldest_seconds", (), reach
        for route, slo in self._promises:
            yield "weir_slo_ttft_seconds", (route,), slo.ttft
            yield "weir_slo_objective", (route,), slo.objective
        yield from self._active(now)
        yield from _targets(self._live, self._labels, now)
        for worker in self._live.present(now):
            if worker.pulse is not None:
                yield "weir_oldest_gap_seconds", (str(worker.slot),), worker.pulse.oldest_gap
                yield "weir_loop_lag_seconds", (str(worker.slot),), worker.pulse.loop_lag

    def _active(self, now: float) -> Iterator[Reading]:
        """Every configured pair has a value, 0 included: a gauge that comes and goes makes holes in charts."""
        counts = dict.fromkeys(self._pairs, 0)
        for (route, upstream), count in self._live.active(now).items():
            key = self._labels.route(route), self._labels.upstream(upstream)
            counts[key] = counts.get(key, 0) + count
        for key, count in counts.items():
            yield "weir_streams_active", key, count


def _targets(live: Live, labels: Labels, now: float) -> Iterator[Reading]:
    scores: dict[tuple[str, str], list[float]] = {}
    breakers: dict[str, int] = {}
    for target in live.targets(now):
        if target.upstream not in labels.upstreams:
            continue  # told by a worker that has not heard of the reload yet
        upstream = labels.upstream(target.upstream)
        scores.setdefault((upstream, labels.model(target.model)), []).append(target.score)
        breakers[upstream] = max(breakers.get(upstream, 0), breaker_level(target.breaker))
    for key, several in scores.items():
        yield "weir_upstream_score_seconds", key, sum(several) / len(several)
    for upstream, level in breakers.items():
        yield "weir_breaker_state", (upstream,), level
