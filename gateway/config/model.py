"""The whole configuration as frozen values, and the few questions the rest of Weir asks of it."""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_validator, model_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError, PydanticKnownError

from gateway.config.addresses import AddedHeaderName, BaseUrl, CaFile, HeaderValue, Host, Secret, SecretHeaderValue, Url, is_loopback
from gateway.config.base import Part
from gateway.config.links import LinkTemplate
from gateway.config.matching import glob, is_glob
from gateway.config.route import DialectName, Route
from gateway.config.values import Duration, EmptyIsNone, Name, Percentage, Size, Text, only

VERSION = 1


def _version(value: object) -> object:
    if value not in (VERSION, str(VERSION)):
        raise PydanticCustomError("version", "this Weir reads version {known} only", {"known": VERSION})
    return VERSION


def _workers(value: object) -> object:
    return os.cpu_count() or 1 if value == "auto" else value


def _access_log(value: str) -> str:
    if value not in ("stderr", "off") and "/" not in value and "." not in value:
        raise PydanticCustomError("access_log", "must be stderr, off, or a path with '/' or '.' in it")
    return value


class Server(Part):
    """The data plane's listener."""

    open: bool = False
    """Allow a host that other machines can reach although calls are not authenticated."""
    host: Host = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=8080, ge=0, le=65535)
    """Port to listen on; 0 takes any free one."""
    workers: Annotated[
        int,
        BeforeValidator(_workers),
        Field(ge=1, le=1024),
        WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1, "maximum": 1024}, {"type": "string", "pattern": r"^auto$|\$\{"}]}),
    ] = 1
    """Worker processes, or `auto` for one per CPU."""
    max_body: Annotated[Size, Field(ge=1)] = 20 * 1024 * 1024
    """Largest request body; a larger one is answered 413."""
    head_timeout: Annotated[Duration, Field(gt=0)] = 30.0
    """How long a client may take from the first byte of a request's head to its last; then it is answered 408."""
    body_timeout: Annotated[Duration, Field(gt=0)] = 60.0
    """In any stretch of a request's body so long, 1 KiB must come for every second of it, or else its end; then 408."""
    max_connections: int = Field(default=10_000, ge=1)
    """Clients connected to one worker at once; one more is answered 503. Never more than file descriptors allow, two a stream."""
    keepalive: Annotated[Duration, Field(ge=0)] = 15.0
    """Interval of SSE comments to a waiting client, only between events; `0s` turns them off."""
    drain: Annotated[Duration, Field(ge=0)] = 30.0
    """How long running streams may go on after SIGTERM."""
    tls: Annotated[None, only(None)] = None
    """Certificate and key. Not supported yet."""

    @field_validator("host")
    @classmethod
    def _closed_unless_said(cls, host: str, info: ValidationInfo) -> str:
        if info.data.get("open") is False and not is_loopback(host):
            raise PydanticCustomError(
                "open", "other machines can reach this address and no tenants are configured; use 127.0.0.1, or set server.open: true"
            )
        return host


class Admin(Part):
    """The admin plane's listener: console, metrics, health, API."""

    token: Secret = None
    """Bearer token asked of callers; needed when other machines can reach `host`."""
    host: Host = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=8081, ge=0, le=65535)
    """Port to listen on; 0 takes any free one."""
    links: Annotated[dict[Text, LinkTemplate], Field(max_length=8)] = Field(default_factory=dict)
    """Buttons on the console's pages: a name, and the http(s) URL it opens, with `{trace_id}`, `{span_id}`, `{stream_id}`, `{route}`,
    `{upstream}`, `{from_ms}` and `{to_ms}` filled in."""

    @field_validator("host")
    @classmethod
    def _closed_without_token(cls, host: str, info: ValidationInfo) -> str:
        if info.data.get("token", "unknown") is None and not is_loopback(host):
            raise PydanticCustomError("open", "other machines can reach this address; use 127.0.0.1, or set admin.token")
        return host


PROVIDERS: Mapping[DialectName, str] = {
    "openai": "openai",
    "openai-responses": "openai",
    "anthropic": "anthropic",
    "gemini": "gcp.gemini",
    "bedrock": "aws.bedrock",
    "ollama": "ollama",
    "azure": "azure.ai.openai",
}
"""`gen_ai.provider.name` by dialect, as the semantic conventions have it where they do."""


class Aws(Part):
    """Credentials that sign calls to AWS (Signature Version 4); without keys, those of AWS's own default chain."""

    region: Annotated[Text | None, EmptyIsNone] = None
    """Region to sign for; left out, the one in the host name."""
    access_key_id: Secret = None
    """Access key, with `secret_access_key`."""
    secret_access_key: Secret = None
    """Its secret."""
    session_token: Secret = None
    """Token of temporary keys."""

    @model_validator(mode="after")
    def _whole(self) -> "Aws":
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise PydanticCustomError("half", "access_key_id and secret_access_key go together")
        return self


class Upstream(Part):
    """A server that speaks for a model."""

    name: SkipJsonSchema[str] = ""
    """Its key in `upstreams`; not a key of its own in a file."""
    dialect: DialectName = "openai"
    """What it speaks."""
    base_url: BaseUrl
    """Where it is, as that provider's own SDK takes it."""
    api_key: Secret = None
    """Its credential: text, `${VAR}`, `${VAR:-default}` or `file:/path`."""
    provider: Name = Field(default="", validate_default=True)
    """`gen_ai.provider.name` in telemetry; left out, the dialect's."""
    api_version: Annotated[Text | None, EmptyIsNone] = None
    """`api-version` asked of an `azure` upstream by calls that name none."""
    aws: Aws | None = None
    """Signs calls to a `bedrock` upstream; without it, `api_key` is sent if there is one."""
    headers: dict[AddedHeaderName, HeaderValue] = Field(default_factory=dict, repr=False)
    """Added to every call."""
    max_streams: int = Field(default=200, ge=1)
    """Calls open at once; more wait their turn."""
    connect_timeout: Duration = Field(default=5.0, gt=0)
    """How long connecting may take, TLS included."""
    trace: bool = False
    """Send `traceparent` upstream."""
    tls_ca: Annotated[CaFile | None, EmptyIsNone] = None
    """PEM file with certificate authorities trusted besides the system's."""

    @field_validator("provider", mode="before")
    @classmethod
    def _by_dialect(cls, value: object, info: ValidationInfo) -> object:
        return value or PROVIDERS.get(info.data.get("dialect", "openai"), "openai")

    @model_validator(mode="after")
    def _of_its_dialect(self) -> "Upstream":
        for key, dialect in (("api_version", "azure"), ("aws", "bedrock")):
            if getattr(self, key) is not None and self.dialect != dialect:
                raise PydanticCustomError("foreign", "`{key}` is for upstreams of dialect {dialect}", {"key": key, "dialect": dialect})
        if self.aws is not None and self.api_key is not None:
            raise PydanticCustomError("both", "`api_key` and `aws` are two ways to say who you are; take one")
        return self

    @field_validator("name", mode="before")
    @classmethod
    def _not_in_a_file(cls, value: object, info: ValidationInfo) -> object:
        if info.context is not None:
            raise PydanticKnownError("extra_forbidden")
        return value


class Otlp(Part):
    """Where spans are sent."""

    endpoint: Annotated[Url | None, EmptyIsNone] = None
    """URL of an OTLP receiver; left out, nothing is sent."""
    protocol: Literal["http", "grpc"] = "http"
    """Protocol of the receiver."""
    headers: dict[AddedHeaderName, SecretHeaderValue] = Field(default_factory=dict)
    """Sent with every export."""
    metrics: bool = False
    """Push metrics there too."""


Reason = Literal["error", "stall", "fallback", "slow", "abort"]
REASONS: frozenset[Reason] = frozenset({"error", "stall", "fallback", "slow", "abort"})
Mapper = Literal["langfuse", "openinference", "respan", "promptlayer", "futureagi"]


class Sampling(Part):
    """Which streams get a span."""

    keep: Literal["all"] = "all"
    """All of them, unless `baseline` says otherwise."""
    baseline: Percentage | None = None
    """Instead of all: this share of the streams that nothing in `always` is true of."""
    always: frozenset[Reason] = REASONS
    """With `baseline`: what is kept whatever its share."""

    @model_validator(mode="after")
    def _one_of_two(self, info: ValidationInfo) -> "Sampling":
        if info.context is None:
            return self  # not from a file but a copy of one that was: it names every key
        if self.baseline is None and "always" in self.model_fields_set:
            raise PydanticCustomError("half", "`always` needs `baseline` beside it: the share of all other streams that is kept")
        if self.baseline is not None and "keep" in self.model_fields_set:
            raise PydanticCustomError("both", "`keep: all` and `baseline` are two answers to one question; take one")
        return self


class Store(Part):
    """The embedded store behind the console."""

    path: Text = "weir.db"
    """SQLite file, relative to the working directory."""
    retention: Duration = Field(default=7 * 86400.0, gt=0)
    """How long streams are kept."""
    max_size: Annotated[Size, Field(ge=16 * 1024 * 1024)] = 1024 * 1024 * 1024
    """Size of the file and its write-ahead log beyond which the oldest streams go."""


class Telemetry(Part):
    """Who is told about streams."""

    otlp: Otlp = Field(default_factory=Otlp)
    """OpenTelemetry export."""
    sampling: Sampling = Field(default_factory=Sampling)
    """Which streams get a span."""
    mappers: tuple[Mapper, ...] = ()
    """Vendors whose own attribute names are put on spans too, for their UIs."""
    store: Store = Field(default_factory=Store)
    """The embedded store."""
    access_log: Annotated[Text, AfterValidator(_access_log)] = "stderr"
    """`stderr`, `off`, or a path relative to the working directory; one JSON line per stream."""
    digest: Annotated[Literal[False], only(False, "false", "no", "off", shown="false")] = False
    """SHA-256 of what was sent, on the span. Not supported yet."""


class Config(Part):
    """The effective configuration: what routes.yaml says, with every default filled in."""

    version: Annotated[Literal[1], BeforeValidator(_version)] = 1
    """Version of the file format."""
    server: Server = Field(default_factory=Server)
    """The data plane's listener."""
    admin: Admin = Field(default_factory=Admin)
    """The admin plane's listener."""
    upstreams: dict[Name, Upstream] = Field(default_factory=dict)
    """Servers that speak for models, by name."""
    routes: tuple[Route, ...] = ()
    """Routes, in the order in which they are tried."""
    guards: Annotated[tuple[()], only([], {}, (), shown="[]")] = ()
    """Guards on answers. Not supported yet."""
    tenants: Annotated[tuple[()], only([], {}, (), shown="[]")] = ()
    """Who may call. Not supported yet."""
    state: Annotated[Literal["memory"], only("memory", shown="memory")] = "memory"
    """Where state shared by workers is kept."""
    telemetry: Telemetry = Field(default_factory=Telemetry)
    """Who is told about streams."""

    @field_validator("upstreams")
    @classmethod
    def _name_upstreams(cls, upstreams: dict[str, Upstream]) -> dict[str, Upstream]:
        return {name: upstream.model_copy(update={"name": name}) for name, upstream in upstreams.items()}

    @property
    def hash(self) -> str:
        """Twelve hex digits that change with the effective configuration, but not with a secret or the value of an added header."""
        effective = self.model_dump()
        for upstream in effective["upstreams"].values():
            upstream["headers"] = dict.fromkeys(upstream["headers"], "")
        canonical = json.dumps(effective, sort_keys=True, default=_plain)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    def match(self, model: str, dialect: str, headers: Mapping[str, str]) -> Route | None:
        """Find the route of a call: one that names the model exactly comes before any pattern, then the first in the file wins."""
        admitting = [route for route in self.routes if route.match.admits(dialect, headers)]
        exact = None if is_glob(model) else next((route for route in admitting if model in route.match.models), None)
        return exact or next((route for route in admitting if any(glob(pattern, model) for pattern in route.match.models)), None)

    def model_names(self) -> list[str]:
        """List the models a client may ask for by name: those in `match.models`, then the targets' of routes with patterns."""
        named = [name for route in self.routes for name in route.match.models if not is_glob(name)]
        behind = [
            target.model
            for route in self.routes
            if any(map(is_glob, route.match.models))
            for target in route.targets
            if target.model is not None
        ]
        return list(dict.fromkeys(named + behind))

    def known_models(self) -> frozenset[str]:
        """Return every model name in the configuration: what a metric label may say, anything else being `other`."""
        served = {target.model for route in self.routes for target in route.targets if target.model is not None}
        return frozenset({*self.model_names(), *served})

    def keeps_content(self, route: str) -> bool:
        """Tell whether anything of what is said on a route is stored; nothing is on one that is not there."""
        return any(each.name == route and each.content != "off" for each in self.routes)

    def latency_thresholds(self) -> list[float]:
        """Return every `slo.ttft` in seconds, ascending: bounds that latency histograms must have."""
        return sorted({route.slo.ttft for route in self.routes})

    def gap_thresholds(self) -> list[float]:
        """Return every `stall.threshold` in seconds, ascending: bounds that gap histograms must have."""
        return sorted({route.stall.threshold for route in self.routes})


def _plain(value: object) -> object:
    """Turn what JSON lacks into what is the same in every process; a secret into nothing."""
    return sorted(value) if isinstance(value, frozenset) else ""
