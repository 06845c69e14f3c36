"""What routes promise, as the rules need it: which routes share an objective for the first token, and the bucket that counts it."""

from collections.abc import Iterator

from msgspec import Struct

from gateway.config import Config
from gateway.config.route import Slo


class Objective(Struct, frozen=True):
    """Routes that promise the same; no routes means all there are. `ttft` in seconds, `ratio` of the streams."""

    ttft: float
    ratio: float
    routes: tuple[str, ...] = ()

    @property
    def bucket(self) -> str:
        """The `le` of the bucket that holds every stream that was quick enough: an objective is always a bound."""
        return repr(float(self.ttft))

    @property
    def matcher(self) -> str:
        return f'route=~"{"|".join(self.routes)}"' if self.routes else 'route!=""'


DEFAULT = (Objective(Slo().ttft, Slo().objective),)
"""For routes of which nothing is known but that they did not say otherwise."""


def objectives(config: Config) -> tuple[Objective, ...]:
    """Return the objectives of a config, each with its routes."""
    return tuple(_grouped(config)) or DEFAULT


def _grouped(config: Config) -> Iterator[Objective]:
    promised: dict[tuple[float, float], list[str]] = {}
    for route in config.routes:
        promised.setdefault((route.slo.ttft, route.slo.objective), []).append(route.name)
    for (ttft, ratio), routes in sorted(promised.items()):
        yield Objective(ttft, ratio, tuple(sorted(routes)))
