"""A route: which calls it takes, which targets may serve them, and how patient it is with each."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from gateway.config.addresses import HeaderName, HeaderValue
from gateway.config.base import Part
from gateway.config.matching import glob
from gateway.config.values import Duration, EmptyIsNone, Name, Objective, Percentage, Percentile, Size, Text, choice, only

DialectName = Literal["openai", "openai-responses", "anthropic", "gemini", "bedrock", "ollama", "azure"]
Policy = Literal["least-latency", "priority", "weighted", "round-robin"]
Cause = Literal["connect", "status_429", "status_5xx", "slow_first_token", "error_event"]
CAUSES: frozenset[Cause] = frozenset({"connect", "status_429", "status_5xx", "slow_first_token", "error_event"})


class Match(Part):
    """Which calls a route takes: all of the conditions must hold; an empty one always does."""

    models: tuple[Text, ...] = Field(default=("*",), min_length=1)
    """Models a client may ask for; `*` stands for any run of characters."""
    dialects: tuple[DialectName, ...] = ()
    """Dialects of the calls; empty means all."""
    headers: dict[HeaderName, HeaderValue] = Field(default_factory=dict, repr=False)
    """Request headers that must be present with these values; `*` stands for any run of characters."""
    tenants: Annotated[tuple[()], only([], (), shown="[]")] = ()
    """Tenants whose calls are taken. Not supported yet."""

    def admits(self, dialect: str, headers: Mapping[str, str]) -> bool:
        """Say whether a call of this dialect with these headers passes, whatever its model; `headers` may be in any case."""
        if self.dialects and dialect not in self.dialects:
            return False
        if not self.headers:
            return True
        given = {name.lower(): value for name, value in headers.items()}
        return all(name.lower() in given and glob(wanted, given[name.lower()]) for name, wanted in self.headers.items())


class Target(Part):
    """One upstream, and the model to ask it for."""

    upstream: Text
    """Name of an upstream."""
    model: Annotated[Text | None, EmptyIsNone] = None
    """Model asked of the upstream; left out, the model the client asked for."""
    weight: float = Field(default=1.0, ge=0)
    """Share of the calls under `policy: weighted`."""
    priority: int = Field(default=0, ge=0)
    """Rank under `policy: priority`; 0 comes first."""


class Adaptive(Part):
    """A first-token deadline learned per target: `factor` times the percentile, kept between `min` and `max`."""

    adaptive: Percentile
    """Percentile of the target's recent times to first token."""
    factor: float = Field(default=2.0, gt=0)
    """The percentile is multiplied by this."""
    min: Duration = Field(default=0.3, gt=0)
    """The deadline is never shorter."""
    max: Duration = Field(default=10.0, gt=0, validate_default=True)
    """The deadline is never longer."""

    @model_validator(mode="before")
    @classmethod
    def _percentile_in_python(cls, given: Any, info: ValidationInfo) -> Any:
        """Let code say `Adaptive(percentile=0.95)`; in a file the key is `adaptive`."""
        if info.context is None and isinstance(given, dict) and "percentile" in given:
            return {"adaptive" if key == "percentile" else key: value for key, value in given.items()}
        return given

    @field_validator("max")
    @classmethod
    def _above_min(cls, value: float, info: ValidationInfo) -> float:
        if value < info.data.get("min", 0.0):
            raise PydanticCustomError("order", "max must not be less than min")
        return value

    @property
    def percentile(self) -> float:
        """The percentile as a ratio: 0.95 for `p95`."""
        return self.adaptive


def _shape_of_timeout(value: object) -> str:
    return "mapping" if isinstance(value, dict | Adaptive) else "duration"


Timeout = Annotated[
    Annotated[Annotated[Duration, Field(gt=0)], Tag("duration")] | Annotated[Adaptive, Tag("mapping")],
    Discriminator(_shape_of_timeout),
]


class FirstToken(Part):
    """How long a target may take to speak while another one is left to try."""

    timeout: Timeout = 2.0
    """A duration, or `{adaptive: p95, factor: 2.0, min: 300ms, max: 10s}`, learned per target."""
    on_slow: Literal["fallback", "hedge", "wait"] = "fallback"
    """What then: drop it for the next target, race the next target against it, or go on waiting."""
    hedge_limit: Percentage = 0.05
    """At most this share of the route's calls is raced."""


class Stall(Part):
    """How long a stream may be silent."""

    threshold: Duration = Field(default=1.0, gt=0)
    """A longer gap between tokens is counted as a stall."""
    liveness: Duration = Field(default=30.0, gt=0)
    """An upstream that sends no byte for this long is given up."""
    progress: Duration = Field(default=120.0, gt=0)
    """An upstream that sends no token for this long is given up, whatever else it sends."""


class Client(Part):
    """How patient the route is with its clients."""

    write_timeout: Duration = Field(default=60.0, gt=0)
    """A client that takes no byte for this long is disconnected."""
    on_disconnect: Literal["cancel", "drain"] = "cancel"
    """What happens to a stream when its client goes away: it ends, or goes on into a tape for the client to come back to."""
    drain: Annotated[Duration, Field(gt=0)] = 30.0
    """How long a stream on tape may go on with nobody there, and how long its tape stays when it is over."""
    tape: Annotated[Size, Field(ge=1024)] = 4 * 1024 * 1024
    """How much of a stream its tape keeps; one that says more with nobody there is ended."""
    on_failure: Literal["event", "cut"] = "event"
    """How a stream that fails midway ends after its error event: as a whole HTTP body, or visibly cut, for clients that read only bytes."""


class Retry(Part):
    """When another try is made: before the first byte reached the client, after it only where `mid_stream` says so."""

    attempts: int = Field(default=3, ge=1, le=10)
    """Tries per call, the first included."""
    on: frozenset[Cause] = CAUSES
    """What is tried again."""
    budget: Percentage = 0.2
    """At most this share of the route's calls may be extra tries."""


class Breaker(Part):
    """When a target is left alone for a while."""

    failures: int = Field(default=5, ge=1)
    """Failures in a row, or calls in the window of which more than half failed, that open the breaker."""
    window: Duration = Field(default=30.0, gt=0)
    """How far back failures count."""
    open: Duration = Field(default=15.0, gt=0)
    """How long the breaker first stays open; the time doubles up to 60 s while probes fail."""


class Slo(Part):
    """What the route promises; shown, counted and alerted on, never enforced."""

    ttft: Duration = Field(default=2.0, gt=0)
    """Time to first token that is good enough."""
    objective: Objective = 0.99
    """Share of streams that must be good enough."""


class Route(Part):
    """Calls that match are served by one of the targets."""

    name: Name
    """Unique name: a metric label, and the `x-weir-route` response header."""
    match: Match = Field(default_factory=Match)
    """Which calls the route takes; the first route that matches has them."""
    policy: Annotated[Policy, choice("cheapest-within-slo")] = "least-latency"
    """In which order targets are tried."""
    targets: tuple[Target, ...] = Field(min_length=1)
    """Who may serve the calls."""
    prompt_sizes: tuple[Annotated[Size, Field(gt=0)], ...] = Field(default=(), max_length=4)
    """Sizes of a request's body, ascending, from which on targets are measured apart: long prompts then say nothing about short ones."""
    first_token: FirstToken = Field(default_factory=FirstToken)
    """Patience before the first token."""
    stall: Stall = Field(default_factory=Stall)
    """Patience after it."""
    client: Client = Field(default_factory=Client)
    """Patience with the client."""
    retry: Retry = Field(default_factory=Retry)
    """Other tries."""
    breaker: Breaker = Field(default_factory=Breaker)
    """Leaving a failing target alone."""
    slo: Slo = Field(default_factory=Slo)
    """What is promised."""
    usage: Literal["inject", "leave"] = "inject"
    """Ask the upstream for token counts and strip what the client did not ask for, or leave calls as they are."""
    mid_stream: Literal["error", "resume"] = "error"
    """What a client gets when its upstream fails in the middle of an answer: an error, or the rest of its text from another target."""
    strip: Annotated[tuple[()], only([], (), shown="[]")] = ()
    """Parts of the answer left out. Not supported yet."""
    guards: Annotated[tuple[()], only([], (), shown="[]")] = ()
    """Guards on the answer. Not supported yet."""
    content: Literal["off", "sampled", "full"] = "off"
    """Storing of prompts and answers: never, of a share of the traces and of every stream that went wrong, or always."""
    content_share: Percentage = 0.1
    """Share of the traces whose prompts and answers are stored under `content: sampled`."""

    @field_validator("prompt_sizes")
    @classmethod
    def _ascending(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if list(sizes) != sorted(set(sizes)):
            raise PydanticCustomError("order", "sizes must be ascending, each once")
        return sizes

    @field_validator("targets")
    @classmethod
    def _somebody_has_weight(cls, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        if not any(target.weight for target in targets):
            raise PydanticCustomError("weights", "at least one target must have a weight above 0")
        return targets
