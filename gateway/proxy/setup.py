"""What calls take from one configuration: its routes, its pools, what is known of its targets. Replaced whole, never changed in place."""

from collections.abc import Callable, Mapping

from gateway.config import Config, Route
from gateway.core.buckets import GAP_BOUNDS, LATENCY_BOUNDS, subdivide, with_thresholds
from gateway.proxy.upstream import Pool
from gateway.routing.budget import HedgeLimit, RetryBudget
from gateway.routing.health import Health

REMEMBERED_MODELS = 1024


class Setup:
    """One configuration at work. A call keeps the setup that it was routed by, however often it is replaced meanwhile.

    Made `after` another it carries on what has not changed: the pool of an upstream (connections, slots, what was learned of it) with
    the health of its targets, and what a route's budgets have counted. An upstream that changed in anything is a new one.
    """

    __slots__ = ("_by_headers", "_routes", "config", "gap_bounds", "hash", "health", "hedges", "latency_bounds", "pools", "retries")

    def __init__(self, config: Config, clock: Callable[[], float], after: "Setup | None" = None) -> None:
        self.config, self.hash = config, config.hash
        kept = after.unchanged(config) if after is not None else {}
        self.pools = {name: kept.get(name) or Pool(name, upstream, clock) for name, upstream in config.upstreams.items()}
        self.health = Health()
        self.hedges = {route.name: HedgeLimit(route.first_token.hedge_limit) for route in config.routes}
        self.retries = {route.name: RetryBudget(route.retry.budget) for route in config.routes}
        self.gap_bounds = subdivide(with_thresholds(GAP_BOUNDS, config.gap_thresholds()))
        self.latency_bounds = subdivide(with_thresholds(LATENCY_BOUNDS, config.latency_thresholds()))
        self._routes: dict[tuple[str, str], Route | None] = {}
        self._by_headers = any(route.match.headers for route in config.routes)

    def unchanged(self, config: Config) -> dict[str, Pool]:
        """Return the pools of those upstreams that another configuration has just so, credentials included."""
        mine, others = self.config.upstreams, config.upstreams
        return {name: pool for name, pool in self.pools.items() if others.get(name) == mine[name]}

    def inherit(self, after: "Setup") -> None:
        """Take over what calls have taught the setup before this one: in the loop, where no call is taught meanwhile.

        Budgets go on where the allowance is the same: else each reload would allow a fresh burst of retries.
        """
        self.health = after.health.carried({name for name, pool in self.pools.items() if after.pools.get(name) is pool})
        old = {route.name: route for route in after.config.routes}
        for route in self.config.routes:
            if (before := old.get(route.name)) is None:
                continue
            if before.first_token.hedge_limit == route.first_token.hedge_limit:
                self.hedges[route.name] = after.hedges[route.name]
            if before.retry.budget == route.retry.budget:
                self.retries[route.name] = after.retries[route.name]

    def route_for(self, model: str, dialect: str, headers: Mapping[str, str]) -> Route | None:
        """Return the route of a call. Where headers have no say the answer is remembered: most calls ask for the same few models."""
        if self._by_headers:
            return self.config.match(model, dialect, headers)
        if (model, dialect) not in self._routes:
            if len(self._routes) >= REMEMBERED_MODELS:
                self._routes.clear()
            self._routes[model, dialect] = self.config.match(model, dialect, headers)
        return self._routes[model, dialect]
