"""Label values are bounded: what a client or an upstream made up never becomes a series of its own."""

from gateway.config import Config
from gateway.core.record import Attempt, StreamRecord

OTHER, UNMATCHED, NONE = "other", "unmatched", "none"
FORMER_NAMES = 1000


class Labels:
    """Maps names to label values: configured ones to themselves, anything else to one word.

    Names that a reload has taken out are still known, for streams that began before it and counters that go on; of those the newest.
    """

    def __init__(self, config: Config) -> None:
        self.models, self.routes, self.upstreams = frozenset[str](), frozenset[str](), frozenset[str]()
        self._former: dict[str, None] = {}
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Take on another configuration."""
        former = dict.fromkeys((*sorted(self.models | self.routes | self.upstreams), *self._former))
        self._former = dict.fromkeys(list(former)[:FORMER_NAMES])
        self.models = config.known_models()
        self.routes = frozenset(route.name for route in config.routes)
        self.upstreams = frozenset(config.upstreams)

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
