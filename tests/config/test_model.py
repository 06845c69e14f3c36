"""The configuration as values, and the questions asked of it."""

import os
import pickle
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from gateway.config import Adaptive, Config, FirstToken, Match, Retry, Route, Server, Stall, Target, Upstream, parse

SECRETS = {"KEY": "sk-c4nary-key", "TOKEN": "c4nary-token", "OTLP": "c4nary-otlp", "HEADER": "c4nary-header"}
FULL = """\
version: 1
server: {host: 127.0.0.2, port: 0, workers: auto, max_body: 1MiB, keepalive: 0s, drain: 5m, open: yes}
admin: {host: "::1", port: 0, token: "${TOKEN}"}
upstreams:
  a:
    dialect: openai
    base_url: http://127.0.0.1:9001/v1/
    api_key: ${KEY}
    provider: vllm
    headers: {x-org: "${HEADER}"}
    max_streams: 7
    connect_timeout: 250ms
    trace: true
  b: {base_url: http://127.0.0.1:9002/v1, tls_ca: }
routes:
  - name: exact
    match: {models: [alpha, beta], dialects: [openai], headers: {X-Team: "re*"}, tenants: []}
    policy: weighted
    targets: [{upstream: a, model: big, weight: 3, priority: 1}, {upstream: b, weight: 0.5}]
    first_token: {timeout: {adaptive: p90, factor: 1.5, min: 100ms, max: 4s}, on_slow: hedge, hedge_limit: 10%}
    stall: {threshold: 500ms, liveness: 10s, progress: 1m}
    client: {write_timeout: 5s, on_disconnect: cancel}
    retry: {attempts: 2, on: [connect, status_429], budget: 0%}
    breaker: {failures: 3, window: 10s, open: 1s}
    mid_stream: error
    slo: {ttft: 800ms, objective: 99.5%}
    usage: leave
    strip: []
    guards: []
    content: off
  - name: rest
    match: {models: ["al*", "*"]}
    targets: [{upstream: b, model: small}]
    stall:
guards: []
tenants: []
state: memory
telemetry:
  otlp: {endpoint: http://127.0.0.1:4318, protocol: grpc, headers: {authorization: "${OTLP}"}, metrics: true}
  sampling: {keep: all}
  mappers: []
  store: {path: /tmp/w.db, retention: 1d}
  access_log: off
  digest: false
"""


def full(**secrets: str) -> Config:
    return parse(FULL, environ={**SECRETS, **secrets})


def test_every_key_of_the_contract_is_read() -> None:
    """What routes.yaml says arrives in the unit the code uses: seconds, bytes, ratios."""
    config = full()
    assert config.server == Server(
        host="127.0.0.2", port=0, workers=os.cpu_count() or 1, max_body=2**20, keepalive=0.0, drain=300.0, open=True
    )
    upstream = config.upstreams["a"]
    assert (upstream.name, upstream.base_url, upstream.provider) == ("a", "http://127.0.0.1:9001/v1", "vllm")
    assert upstream.api_key is not None
    assert upstream.api_key.get_secret_value() == SECRETS["KEY"]
    assert upstream.headers == {"x-org": SECRETS["HEADER"]}
    assert (upstream.max_streams, upstream.connect_timeout, upstream.trace, upstream.tls_ca) == (7, 0.25, True, None)
    exact, rest = config.routes
    assert exact.targets == (Target(upstream="a", model="big", weight=3, priority=1), Target(upstream="b", weight=0.5))
    assert exact.first_token == FirstToken(
        timeout=Adaptive(percentile=0.9, factor=1.5, min=0.1, max=4.0),  # type: ignore[call-arg]
        on_slow="hedge",
        hedge_limit=0.1,
    )
    assert exact.stall == Stall(threshold=0.5, liveness=10, progress=60)
    assert exact.retry == Retry(attempts=2, on=frozenset({"connect", "status_429"}), budget=0)
    assert (exact.breaker.failures, exact.breaker.window, exact.breaker.open) == (3, 10.0, 1.0)
    assert (exact.slo.ttft, exact.slo.objective, exact.usage, exact.client.write_timeout) == (0.8, 0.995, "leave", 5.0)
    assert rest.stall == Stall()
    otlp = config.telemetry.otlp
    assert (otlp.endpoint, otlp.protocol, otlp.metrics) == ("http://127.0.0.1:4318", "grpc", True)
    assert otlp.headers["authorization"].get_secret_value() == SECRETS["OTLP"]
    assert (config.telemetry.store.path, config.telemetry.store.retention, config.telemetry.access_log) == ("/tmp/w.db", 86400.0, "off")


def test_defaults_are_those_of_the_contract() -> None:
    """A route of three lines behaves as documented."""
    config = parse("upstreams: {a: {base_url: http://h}}\nroutes: [{name: r, targets: [{upstream: a}]}]", environ={})
    assert (config.server.host, config.server.port, config.server.workers) == ("127.0.0.1", 8080, 1)
    assert (config.server.max_body, config.server.keepalive, config.server.drain) == (20 * 2**20, 15.0, 30.0)
    assert (config.admin.host, config.admin.port, config.admin.token) == ("127.0.0.1", 8081, None)
    upstream, [route] = config.upstreams["a"], config.routes
    assert (upstream.dialect, upstream.provider, upstream.max_streams, upstream.connect_timeout) == ("openai", "openai", 200, 5.0)
    assert (route.match, route.policy, route.targets) == (Match(models=("*",)), "least-latency", (Target(upstream="a"),))
    assert (route.first_token.timeout, route.first_token.on_slow, route.first_token.hedge_limit) == (2.0, "fallback", 0.05)
    assert (route.stall.threshold, route.stall.liveness, route.stall.progress) == (1.0, 30.0, 120.0)
    assert (route.client.write_timeout, route.client.on_disconnect, route.usage) == (60.0, "cancel", "inject")
    assert (route.retry.attempts, route.retry.budget) == (3, 0.2)
    assert route.retry.on == {"connect", "status_429", "status_5xx", "slow_first_token", "error_event"}
    assert (route.breaker.failures, route.breaker.window, route.breaker.open) == (5, 30.0, 15.0)
    assert (route.slo.ttft, route.slo.objective) == (2.0, 0.99)
    assert (config.state, config.telemetry.otlp.endpoint, config.telemetry.otlp.protocol) == ("memory", None, "http")
    assert (config.telemetry.store.path, config.telemetry.store.retention) == ("weir.db", 7 * 86400.0)
    assert config.telemetry.access_log == "stderr"


def test_nothing_in_it_can_be_set() -> None:
    """A configuration is swapped whole, never changed."""
    config = full()
    for part in (config, config.server, config.upstreams["a"], config.routes[0], config.routes[0].stall, config.telemetry.otlp):
        name = next(iter(type(part).model_fields))
        with pytest.raises(ValidationError, match="frozen"):
            setattr(part, name, getattr(part, name))
    assert isinstance(config.routes, tuple)
    assert isinstance(config.routes[0].targets, tuple)
    assert isinstance(config.routes[0].match.models, tuple)
    assert isinstance(config.routes[0].retry.on, frozenset)


def test_secrets_never_show() -> None:
    """Not in repr, str, a dump as JSON or the text of a validation error; added headers may hold credentials too."""
    config = full()
    shown = [repr(config), str(config), repr(config.upstreams["a"]), str(config.admin), config.telemetry.otlp.model_dump_json()]
    with pytest.raises(ValidationError) as caught:
        Upstream.model_validate({"base_url": "http://u:c4nary@h", "api_key": ["c4nary"], "x": "c4nary"})
    shown += [str(caught.value), repr(caught.value)]
    assert "c4nary" not in "".join(shown)


@pytest.mark.parametrize("sampling", ["{}", "{keep: all}", "{baseline: 1%}", "{baseline: 1%, always: [error]}"])
def test_a_copy_is_a_configuration(sampling: str) -> None:
    """What one is dumped to, every key named, is read as the same again, whichever way it samples."""
    text = "upstreams: {a: {base_url: 'http://127.0.0.1:1/v1'}}\nroutes: [{name: r, match: {models: ['*']}, targets: [{upstream: a}]}]\n"
    config = parse(f"{text}telemetry: {{sampling: {sampling}}}\n")
    assert Config.model_validate(config.model_dump()) == config


def test_a_configuration_can_be_handed_to_another_process() -> None:
    """Pickled and back it is equal, secrets included."""
    config = full()
    again = pickle.loads(pickle.dumps(config))
    assert again == config
    assert again.hash == config.hash
    assert again.upstreams["a"].api_key == SecretStr(SECRETS["KEY"])


def test_the_hash_follows_the_meaning_and_not_the_secrets() -> None:
    """Comments, order, spelling and secrets do not change it; any effective value does."""
    config = full()
    assert len(config.hash) == 12
    assert int(config.hash, 16) >= 0
    assert config.hash == full(KEY="other", TOKEN="other", OTLP="other", HEADER="other").hash
    same = FULL.replace("drain: 5m", "drain: 300s").replace("on: [connect, status_429]", "on: [status_429, connect]") + "# comment\n"
    assert config.hash == parse(same, environ=SECRETS).hash
    for old, new in (("drain: 5m", "drain: 6m"), ("x-org", "x-other"), ("weight: 3", "weight: 4"), ("name: rest", "name: last")):
        assert config.hash != parse(FULL.replace(old, new), environ=SECRETS).hash


def test_the_hash_is_the_same_in_every_process() -> None:
    """Sets have no order of their own: workers started with other hash seeds must agree."""
    code = "import sys; from gateway.config import parse; print(parse(sys.stdin.read()).hash)"
    hashes = {
        subprocess.run(
            [sys.executable, "-c", code],
            input=FULL,
            env={**os.environ, **SECRETS, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2", "3")
    }
    assert hashes == {full().hash}


def routes(*matches: Match) -> Config:
    return Config(routes=tuple(Route(name=f"r{n}", match=match, targets=(Target(upstream="a"),)) for n, match in enumerate(matches)))


def chosen(config: Config, model: str, headers: dict[str, str] | None = None) -> str | None:
    route = config.match(model, "openai", headers or {})
    return route and route.name


def test_an_exact_name_comes_before_any_pattern() -> None:
    """Wherever it stands in the file; otherwise the first route that matches has the call."""
    config = routes(Match(models=("gpt*",)), Match(models=("g*",)), Match(models=("gpt-4o",)), Match(models=("gpt-4o",)))
    assert chosen(config, "gpt-4o") == "r2"
    assert chosen(config, "gpt-5") == "r0"
    assert chosen(config, "gemma") == "r1"
    assert chosen(config, "llama") is None
    assert chosen(config, "gpt*") == "r0"


def test_a_star_takes_all() -> None:
    """`*` is the default, and it matches even an empty name."""
    assert chosen(routes(Match()), "") == "r0"


def test_headers_and_dialects_narrow_a_route() -> None:
    """Header names are read in any case, values as patterns; an exact name whose headers do not fit is no match."""
    config = routes(Match(models=("m",), headers={"X-Team": "red*"}), Match(models=("m*",)), Match(dialects=("openai",)))
    assert chosen(config, "m", {"x-team": "red-1"}) == "r0"
    assert chosen(config, "m", {"X-TEAM": "blue"}) == "r1"
    assert chosen(config, "m") == "r1"
    assert chosen(config, "z") == "r2"
    assert config.match("z", "anthropic", {}) is None


@given(st.text(max_size=20), st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2))
def test_any_call_has_a_route_or_none(model: str, headers: dict[str, str]) -> None:
    """What a client sends can make no rule fail."""
    assert chosen(routes(Match(models=("a*b", "*c"), headers={"x": "*"}), Match()), model, headers) in ("r0", "r1")


def test_names_are_listed_once_and_in_order() -> None:
    """Exact names first, then what stands behind patterns; labels know the targets' models as well."""
    config = full()
    assert config.model_names() == ["alpha", "beta", "small"]
    assert config.known_models() == {"alpha", "beta", "small", "big"}


def test_thresholds_are_those_of_all_routes() -> None:
    """Histograms get a bound at each, so that "over the threshold" is counted exactly."""
    assert full().latency_thresholds() == [0.8, 2.0]
    assert full().gap_thresholds() == [0.5, 1.0]


def test_values_built_in_python_are_plain_numbers() -> None:
    """Tests and embedding programs need no units; what a file may not say is refused there too."""
    assert Stall(threshold=0.05).threshold == 0.05
    assert FirstToken(timeout=0.1).timeout == 0.1
    assert Upstream(name="x", base_url="http://h").name == "x"
    for wrong in (float("nan"), float("inf"), 0.0, -1.0):
        with pytest.raises(ValidationError):
            Stall(threshold=wrong)
