"""Label values are bounded: what a client or an upstream made up never becomes a series of its own."""

from collections.abc import Iterator

from gateway.config import Config, Route
from gateway.config.matching import is_glob
from gateway.core.record import Attempt, StreamRecord

OTHER, UNMATCHED, NONE = "other", "unmatched", "none"
FORMER_NAMES = 1000
Target = tuple[str, str, str]
"""(route, upstream, model)"""


class Labels:
    """Maps names to label values: configured ones to themselves, anything else to one word.

    Names that a reload has taken out are still known, for streams that began before it and counters that go on; of those the newest.
    `targets` is what the streams of this configuration will be counted under, in its order.
    """

    def __init__(self, config: Config) -> None:
        self.models, self.routes, self.upstreams = frozenset[str](), frozenset[str](), frozenset[str]()
        self.targets: tuple[Target, ...] = ()
        self._former: dict[str, None] = {}
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Take on another configuration."""
        former = dict.fromkeys((*sorted(self.models | self.routes | self.upstreams), *self._former))
        self._former = dict.fromkeys(list(former)[:FORMER_NAMES])
        self.models = config.known_models()
        self.routes = frozenset(route.name for route in config.routes)
        self.upstreams = frozenset(config.upstreams)
        self.targets = tuple(dict.fromkeys(target for route in config.routes for target in _targets(route)))

    def route(self, name: str) -> str:
        return name if name in self.routes or name in self._former else UNMATCHED

    def upstream(self, name: str) -> str:
        return name if name in self.upstreams or name in self._former else NONE

    def model(self, *names: str | None) -> str:
        """Return the first configured one of the names."""
        return next((name for name in names if name and (name in self.models or name in self._former)), OTHER)

    def tenant(self, name: str) -> str:
        """Tenants are not configured in this version, so nobody vouches for a name."""
        return OTHER if name else NONE

    def of(self, record: StreamRecord) -> tuple[str, str, str]:
        """Return (route, upstream, model) of a record; a model known by an alias only is named by its target."""
        served: Attempt | None = record.served
        model = self.model(record.asked_model, served.model if served else None)
        return self.route(record.route), self.upstream(record.upstream), model


def _targets(route: Route) -> Iterator[Target]:
    """Yield the labels of a route's streams: a model that is asked for by its name has that, any other that of its target."""
    named = [name for name in route.match.models if not is_glob(name)]
    for target in route.targets:
        for name in named:
            yield route.name, target.upstream, name
        if len(named) < len(route.match.models) or not named:
            yield route.name, target.upstream, target.model or OTHER
