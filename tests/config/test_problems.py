"""Every mistake one can make in routes.yaml, with exactly what is said about it."""

import pytest

from gateway.config import ConfigErrors, Problem, parse
from gateway.config.problems import dotted

GOOD = """\
upstreams:
  fast: {base_url: "http://127.0.0.1:9001/v1"}
routes:
  - name: chat
    targets: [{upstream: fast}]
"""


def complaints(text: str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        parse(text, "r.yaml", environ or {})
    assert str(caught.value) == "\n".join(map(str, caught.value.problems))
    return [str(problem) for problem in caught.value.problems]


# What is added to a good file (its line 6), and all that is said then.
AFTER_GOOD = [
    ("servr: {port: 1}", "r.yaml:6:1: servr: unknown key 'servr', did you mean 'server'?"),
    (
        "zzz: 1",
        "r.yaml:6:1: zzz: unknown key 'zzz'; known here: version, server, admin, upstreams, routes, guards, tenants, state, telemetry",
    ),
    ("version: 2", "r.yaml:6:10: version: this Weir reads version 1 only, not '2'"),
    ("server: 8080", "r.yaml:6:9: server: must be a mapping of keys to values"),
    ("server: {port: abc}", "r.yaml:6:16: server.port: must be a whole number, not 'abc'"),
    ("server: {port: 1.5}", "r.yaml:6:16: server.port: must be a whole number, not '1.5'"),
    ("server: {port: -1}", "r.yaml:6:16: server.port: must be at least 0, not '-1'"),
    ("server: {port: 65536}", "r.yaml:6:16: server.port: must be at most 65535, not '65536'"),
    ("server: {port: [1]}", "r.yaml:6:16: server.port: must be a whole number"),
    ("server: {workers: 0}", "r.yaml:6:19: server.workers: must be at least 1, not '0'"),
    ("server: {workers: many}", "r.yaml:6:19: server.workers: must be a whole number, not 'many'"),
    (
        "server: {max_body: 20}",
        "r.yaml:6:20: server.max_body: must be a size with its unit, such as 20MiB, 64KiB or 1GB, not '20'",
    ),
    ("server: {max_body: 0B}", "r.yaml:6:20: server.max_body: must be at least 1, not '0B'"),
    (
        "server: {drain: 30}",
        "r.yaml:6:17: server.drain: must be a duration with its unit, such as 300ms, 2s, 5m or 7d, not '30'",
    ),
    ("server: {drain: {s: 1}}", "r.yaml:6:17: server.drain: must be a duration with its unit, such as 300ms, 2s, 5m or 7d"),
    ("server: {open: maybe}", "r.yaml:6:16: server.open: must be true or false, not 'maybe'"),
    ("server: {host: 'a b'}", "r.yaml:6:16: server.host: must be a host name or an IP address"),
    ("server: {host: ''}", "r.yaml:6:16: server.host: must be a host name or an IP address"),
    (
        "server: {host: 0.0.0.0}",
        "r.yaml:6:16: server.host: other machines can reach this address and no tenants are configured; "
        "use 127.0.0.1, or set server.open: true",
    ),
    (
        "admin: {host: '::'}",
        "r.yaml:6:15: admin.host: other machines can reach this address; use 127.0.0.1, or set admin.token",
    ),
    (
        "admin: {host: 10.0.0.1, token: '${NO:-}'}",
        "r.yaml:6:15: admin.host: other machines can reach this address; use 127.0.0.1, or set admin.token",
    ),
    ("admin: {port: 8080}", "r.yaml:6:15: admin.port: is the server's port already"),
    (
        "admin: {token: '${WEIR_TOKEN}'}",
        "r.yaml:6:16: admin.token: environment variable WEIR_TOKEN is not set; set it, or give a default: ${WEIR_TOKEN:-...}",
    ),
    ("admin: {token: 'a b'}", "r.yaml:6:16: admin.token: must be printable ASCII without spaces, since it is sent in a header"),
    ("admin: {token: [a]}", "r.yaml:6:16: admin.token: must be text"),
    (
        "admin: {token: 'file:/no/such/file'}",
        "r.yaml:6:16: admin.token: the file it names cannot be read: No such file or directory",
    ),
    ("telemetry: {otlp: {protocol: htp}}", "r.yaml:6:30: telemetry.otlp.protocol: must be http or grpc, not 'htp', did you mean 'http'?"),
    ("telemetry: {otlp: {endpoint: 'h:4317'}}", "r.yaml:6:30: telemetry.otlp.endpoint: must be an http:// or https:// URL with a host"),
    ("telemetry: {otlp: {headers: {'a b': c}}}", "r.yaml:6:30: telemetry.otlp.headers.a b: is not a valid header name"),
    (
        'telemetry: {otlp: {headers: {a: "b\\r\\nc"}}}',
        "r.yaml:6:33: telemetry.otlp.headers.a: must be printable ASCII on one line, without spaces around it",
    ),
    ("telemetry: {access_log: stdrr}", "r.yaml:6:25: telemetry.access_log: must be stderr, off, or a path with '/' or '.' in it"),
    ("telemetry: {store: {retention: 0s}}", "r.yaml:6:32: telemetry.store.retention: must be more than 0, not '0s'"),
    (
        "telemetry: {store: {path: ''}}",
        "r.yaml:6:27: telemetry.store.path: must be text without line breaks or control characters, and not empty",
    ),
    ("telemetry: {sampling: {keep: some}}", "r.yaml:6:30: telemetry.sampling.keep: must be all, not 'some'"),
    ("telemetry: {sampling: {baseline: 1}}", "r.yaml:6:34: telemetry.sampling.baseline: must be a percentage, such as 20%, not '1'"),
    (
        "telemetry: {sampling: {baseline: 101%}}",
        "r.yaml:6:34: telemetry.sampling.baseline: must be between 0% and 100%, not '101%'",
    ),
    (
        "telemetry: {sampling: {baseline: 1%, always: [errors]}}",
        "r.yaml:6:47: telemetry.sampling.always[0]: must be error, stall, fallback, slow or abort, not 'errors', did you mean 'error'?",
    ),
    (
        "telemetry: {sampling: {always: [error]}}",
        "r.yaml:6:23: telemetry.sampling: `always` needs `baseline` beside it: the share of all other streams that is kept",
    ),
    (
        "telemetry: {sampling: {keep: all, baseline: 1%}}",
        "r.yaml:6:23: telemetry.sampling: `keep: all` and `baseline` are two answers to one question; take one",
    ),
    (
        "telemetry: {mappers: [langfuze]}",
        "r.yaml:6:23: telemetry.mappers[0]: must be langfuse, openinference, respan, promptlayer or futureagi, not 'langfuze', "
        "did you mean 'langfuse'?",
    ),
    # Planned, not built.
    ("tenants: [{name: a}]", "r.yaml:6:10: tenants: not supported yet; leave it out or write []"),
    ("guards: {a: {kind: regex}}", "r.yaml:6:9: guards: not supported yet; leave it out or write []"),
    ("state: redis://:pw@h/0", "r.yaml:6:8: state: not supported yet; leave it out or write memory"),
    ("server: {tls: {cert: a, key: b}}", "r.yaml:6:15: server.tls: not supported yet; leave it out"),
    ("telemetry: {digest: true}", "r.yaml:6:21: telemetry.digest: not supported yet; leave it out or write false"),
    # YAML itself.
    ("version: 1\nversion: 1", "r.yaml:7:1: version: key 'version' is already on line 6"),
    ("version: !!int 1", "r.yaml:6:10: version: YAML tags are not understood here"),
    ("? [a, b]\n: c", "r.yaml:6:3: ?: a key must be text"),
]


@pytest.mark.parametrize(("added", "said"), AFTER_GOOD)
def test_a_mistake_is_told_where_it_stands(added: str, said: str) -> None:
    """One mistake, one problem, at its line and column, with its path and a way out."""
    assert complaints(f"{GOOD}{added}\n") == [said]


# A route's further keys, from line 6, column 5.
IN_ROUTE = [
    ("polcy: priority", "r.yaml:6:5: routes[0].polcy: unknown key 'polcy', did you mean 'policy'?"),
    (
        "policy: prority",
        "r.yaml:6:13: routes[0].policy: must be least-latency, priority, weighted or round-robin, not 'prority', did you mean 'priority'?",
    ),
    ("policy: cheapest-within-slo", "r.yaml:6:13: routes[0].policy: 'cheapest-within-slo' is not supported yet"),
    ("match: [a]", "r.yaml:6:12: routes[0].match: must be a mapping of keys to values"),
    ("match: {models: gpt-4o}", "r.yaml:6:21: routes[0].match.models: must be a list, such as [a, b]"),
    ("match: {models: []}", "r.yaml:6:21: routes[0].match.models: must hold at least one"),
    (
        "match: {models: [a, '']}",
        "r.yaml:6:25: routes[0].match.models[1]: must be text without line breaks or control characters, and not empty",
    ),
    ("match: {models: [a, [b]]}", "r.yaml:6:25: routes[0].match.models[1]: must be text"),
    (
        "match: {dialects: [opnai]}",
        "r.yaml:6:24: routes[0].match.dialects[0]: must be openai, openai-responses, anthropic, gemini, bedrock, ollama or azure, "
        "not 'opnai', did you mean 'openai'?",
    ),
    ("match: {tenants: [a]}", "r.yaml:6:22: routes[0].match.tenants: not supported yet; leave it out or write []"),
    (
        'match: {headers: {x-team: "a\\nb"}}',
        "r.yaml:6:31: routes[0].match.headers.x-team: must be printable ASCII on one line, without spaces around it",
    ),
    (
        "first_token: {timeout: 2}",
        "r.yaml:6:28: routes[0].first_token.timeout: must be a duration with its unit, such as 300ms, 2s, 5m or 7d, not '2'",
    ),
    ("first_token: {timeout: 0s}", "r.yaml:6:28: routes[0].first_token.timeout: must be more than 0, not '0s'"),
    (
        "first_token: {timeout: {adaptive: 95}}",
        "r.yaml:6:39: routes[0].first_token.timeout.adaptive: must be a percentile, such as p50, p95 or p99.9, not '95'",
    ),
    ("first_token: {timeout: {min: 1s}}", "r.yaml:6:28: routes[0].first_token.timeout.adaptive: required"),
    (
        "first_token: {timeout: {adaptive: p95, percentile: p9}}",
        "r.yaml:6:44: routes[0].first_token.timeout.percentile: unknown key 'percentile'; known here: adaptive, factor, min, max",
    ),
    (
        "first_token: {timeout: {adaptive: p95, max: 100ms}}",
        "r.yaml:6:49: routes[0].first_token.timeout.max: max must not be less than min",
    ),
    ("first_token: {timeout: {adaptive: p95, min: 11s}}", "r.yaml:6:28: routes[0].first_token.timeout: max must not be less than min"),
    (
        "first_token: {timeout: {adaptive: p95, factor: 0}}",
        "r.yaml:6:52: routes[0].first_token.timeout.factor: must be more than 0, not '0'",
    ),
    ("first_token: {hedge_limit: 101%}", "r.yaml:6:32: routes[0].first_token.hedge_limit: must be between 0% and 100%, not '101%'"),
    ("first_token: {hedge_limit: 0.05}", "r.yaml:6:32: routes[0].first_token.hedge_limit: must be a percentage, such as 20%, not '0.05'"),
    (
        "first_token: {on_slow: hedg}",
        "r.yaml:6:28: routes[0].first_token.on_slow: must be fallback, hedge or wait, not 'hedg', did you mean 'hedge'?",
    ),
    ("stall: {threshold: 0s}", "r.yaml:6:24: routes[0].stall.threshold: must be more than 0, not '0s'"),
    ("client: {on_disconnect: wait}", "r.yaml:6:29: routes[0].client.on_disconnect: must be cancel or drain, not 'wait'"),
    ("retry: {attempts: 0}", "r.yaml:6:23: routes[0].retry.attempts: must be at least 1, not '0'"),
    (
        "retry: {on: [connect, status_500]}",
        "r.yaml:6:27: routes[0].retry.on[1]: must be connect, status_429, status_5xx, slow_first_token or error_event, "
        "not 'status_500', did you mean 'status_5xx'?",
    ),
    ("retry: {on: connect}", "r.yaml:6:17: routes[0].retry.on: must be a list, such as [a, b]"),
    ("slo: {objective: 100%}", "r.yaml:6:22: routes[0].slo.objective: must be more than 0% and less than 100%, not '100%'"),
    ("mid_stream: retry", "r.yaml:6:17: routes[0].mid_stream: must be error or resume, not 'retry'"),
    ("strip: [reasoning]", "r.yaml:6:12: routes[0].strip: not supported yet; leave it out or write []"),
    ("guards: [no-secrets]", "r.yaml:6:13: routes[0].guards: not supported yet; leave it out or write []"),
    ("content_share: 200%", "r.yaml:6:20: routes[0].content_share: must be between 0% and 100%, not '200%'"),
    ("content: on", "r.yaml:6:14: routes[0].content: must be off, sampled or full, not 'on'"),
]


@pytest.mark.parametrize(("added", "said"), IN_ROUTE)
def test_a_mistake_in_a_route_is_told_where_it_stands(added: str, said: str) -> None:
    """The path names the route by its place in the list."""
    assert complaints(f"{GOOD}    {added}\n") == [said]


UPSTREAM = """\
upstreams:
  fast: {%s}
routes: [{name: chat, targets: [{upstream: fast}]}]
"""
IN_UPSTREAM = [
    ("", "r.yaml:2:9: upstreams.fast.base_url: required"),
    ("base_url: 'localhost:8080'", "r.yaml:2:20: upstreams.fast.base_url: must be an http:// or https:// URL with a host"),
    ("base_url: 'ftp://h'", "r.yaml:2:20: upstreams.fast.base_url: must be an http:// or https:// URL with a host"),
    ("base_url: 'http://'", "r.yaml:2:20: upstreams.fast.base_url: must be an http:// or https:// URL with a host"),
    ("base_url: 'http://:80/v1'", "r.yaml:2:20: upstreams.fast.base_url: must be an http:// or https:// URL with a host"),
    ("base_url: 'http://h:99999'", "r.yaml:2:20: upstreams.fast.base_url: must be a URL with a valid host and port"),
    ("base_url: 'http://[::1'", "r.yaml:2:20: upstreams.fast.base_url: must be a URL with a valid host and port"),
    ("base_url: 'http://u:secret@h'", "r.yaml:2:20: upstreams.fast.base_url: must not hold a user name or password"),
    ("base_url: 'http://h?key=secret'", "r.yaml:2:20: upstreams.fast.base_url: must not hold a query or a fragment"),
    ("base_url: 'http://h/#x'", "r.yaml:2:20: upstreams.fast.base_url: must not hold a query or a fragment"),
    ("base_url: 'http://h/a b'", "r.yaml:2:20: upstreams.fast.base_url: must be a URL in plain ASCII without spaces"),
    ('base_url: "http://h\\r\\nx: y"', "r.yaml:2:20: upstreams.fast.base_url: must be a URL in plain ASCII without spaces"),
    (
        "base_url: 'http://h/v1/chat/completions'",
        "r.yaml:2:20: upstreams.fast.base_url: must end before the endpoint (as in https://api.openai.com/v1), which Weir adds itself",
    ),
    (
        "base_url: 'http://h', dialect: gemeni",
        "r.yaml:2:41: upstreams.fast.dialect: must be openai, openai-responses, anthropic, gemini, bedrock, ollama or azure, "
        "not 'gemeni', did you mean 'gemini'?",
    ),
    ("base_url: 'http://h', aws: {}", "r.yaml:2:9: upstreams.fast: `aws` is for upstreams of dialect bedrock"),
    ("base_url: 'http://h', api_version: x", "r.yaml:2:9: upstreams.fast: `api_version` is for upstreams of dialect azure"),
    (
        "base_url: 'http://h', dialect: bedrock, api_key: k, aws: {}",
        "r.yaml:2:9: upstreams.fast: `api_key` and `aws` are two ways to say who you are; take one",
    ),
    (
        "base_url: 'http://h', dialect: bedrock, aws: {access_key_id: k}",
        "r.yaml:2:55: upstreams.fast.aws: access_key_id and secret_access_key go together",
    ),
    ("base_url: 'http://h', name: x", None),
    (
        "base_url: 'http://h', headers: {Content-Length: 1}",
        "r.yaml:2:42: upstreams.fast.headers.Content-Length: the header content-length is Weir's to set",
    ),
    ("base_url: 'http://h', headers: {'x:y': 1}", "r.yaml:2:42: upstreams.fast.headers.x:y: is not a valid header name"),
    (
        "base_url: 'http://h', headers: {x: ' 1'}",
        "r.yaml:2:45: upstreams.fast.headers.x: must be printable ASCII on one line, without spaces around it",
    ),
    ("base_url: 'http://h', max_streams: 0", "r.yaml:2:45: upstreams.fast.max_streams: must be at least 1, not '0'"),
    (
        "base_url: 'http://h', tls_ca: /no/such.pem",
        "r.yaml:2:40: upstreams.fast.tls_ca: the file cannot be read: No such file or directory",
    ),
    (
        "base_url: 'http://h', api_key: '${KEY}'",
        "r.yaml:2:41: upstreams.fast.api_key: environment variable KEY is not set; set it, or give a default: ${KEY:-...}",
    ),
]


@pytest.mark.parametrize(("keys", "said"), IN_UPSTREAM)
def test_a_mistake_in_an_upstream_is_told_where_it_stands(keys: str, said: str | None) -> None:
    """No message repeats a URL, a key or a header's value; an upstream's name is its key, not a key of its own."""
    [told] = complaints(UPSTREAM % keys)
    if said is None:
        assert told.startswith("r.yaml:2:32: upstreams.fast.name: unknown key 'name'")
    else:
        assert told == said


WHOLE = [
    ("", ["r.yaml:1:1: the file is empty"]),
    ("# only a comment\n", ["r.yaml:1:1: the file is empty"]),
    ("- a\n", ["r.yaml:1:1: must be a mapping with keys such as upstreams and routes"]),
    ("hello", ["r.yaml:1:1: must be a mapping with keys such as upstreams and routes"]),
    ("{}", ["r.yaml:1:1: routes: at least one route is needed", "r.yaml:1:1: upstreams: at least one upstream is needed"]),
    ("a: [b", ["r.yaml:1:6: not valid YAML: while parsing a flow sequence expected ',' or ']', but got '<stream end>'"]),
    ("a: b: c", ["r.yaml:1:5: not valid YAML: mapping values are not allowed here"]),
    ("a:\n\tb: c", ["r.yaml:2:1: not valid YAML: while scanning for the next token found character '\\t' that cannot start any token"]),
    ("a: 1\n--- \nb: 1", ["r.yaml:2:1: not valid YAML: expected a single document in the stream but found another document"]),
    ("a: 'x\nb: y", ["r.yaml:2:5: not valid YAML: while scanning a quoted scalar found unexpected end of stream (begun on line 1)"]),
    ("a: 1\nb: \x07", ["r.yaml:2:4: not valid YAML: character U+0007 is not allowed"]),
    ("a: *sk-live-secret", ["r.yaml:1:4: not valid YAML: found undefined alias"]),
]


@pytest.mark.parametrize(("text", "said"), WHOLE)
def test_a_text_that_is_no_configuration_is_one_clear_problem(text: str, said: list[str]) -> None:
    """Not YAML, empty, or not a mapping: said once, with its position, and nothing about what it would have meant."""
    assert complaints(text) == said


def test_all_problems_are_told_at_once_in_the_order_of_the_file() -> None:
    """Mistakes of every kind, in every part, do not hide each other."""
    text = """\
version: 3
server: {port: x, prt: 1}
upstreams:
  fast: {base_url: 'http://u:p@h', api_key: '${NOPE}'}
  bad name: {base_url: http://h}
routes:
  - name: chat
    polcy: x
    targets: [{upstream: fst, weight: -1}, {weight: 1}]
  - name: chat
    stall: {liveness: 1}
    targets: [{upstream: fast, weight: 0}]
  - 7
"""
    assert complaints(text) == [
        "r.yaml:1:10: version: this Weir reads version 1 only, not '3'",
        "r.yaml:2:16: server.port: must be a whole number, not 'x'",
        "r.yaml:2:19: server.prt: unknown key 'prt', did you mean 'port'?",
        "r.yaml:4:20: upstreams.fast.base_url: must not hold a user name or password",
        "r.yaml:4:45: upstreams.fast.api_key: environment variable NOPE is not set; set it, or give a default: ${NOPE:-...}",
        "r.yaml:5:3: upstreams.bad name: must be letters, digits, '.', '_' and '-', at most 64 of them",
        "r.yaml:8:5: routes[0].polcy: unknown key 'polcy', did you mean 'policy'?",
        "r.yaml:9:26: routes[0].targets[0].upstream: no upstream is called 'fst', did you mean 'fast'?",
        "r.yaml:9:39: routes[0].targets[0].weight: must be at least 0, not '-1'",
        "r.yaml:9:44: routes[0].targets[1].upstream: required",
        "r.yaml:10:11: routes[1].name: route 'chat' is already on line 7",
        "r.yaml:11:23: routes[1].stall.liveness: must be a duration with its unit, such as 300ms, 2s, 5m or 7d, not '1'",
        "r.yaml:12:14: routes[1].targets: at least one target must have a weight above 0",
        "r.yaml:13:5: routes[2]: must be a mapping of keys to values",
    ]


def test_an_unknown_upstream_names_those_there_are_when_none_is_near() -> None:
    """Nothing alike: the names are listed."""
    assert complaints(GOOD.replace("upstream: fast", "upstream: zzz")) == [
        "r.yaml:5:26: routes[0].targets[0].upstream: no upstream is called 'zzz'; there are fast"
    ]


def test_a_mistake_behind_an_alias_is_told_once() -> None:
    """Three routes share one wrong value: it stands in one place, so it is one problem."""
    text = "upstreams: {a: {base_url: http://h}}\nroutes:\n" + "".join(
        f"  - {{name: r{n}, stall: {'&s {threshold: 5}' if n == 0 else '*s'}, targets: [{{upstream: a}}]}}\n" for n in range(3)
    )
    assert complaints(text) == [
        "r.yaml:3:38: routes[0].stall.threshold: must be a duration with its unit, such as 300ms, 2s, 5m or 7d, not '5'"
    ]


def test_two_required_keys_of_one_mapping_are_two_problems() -> None:
    """They share a position, not a meaning."""
    assert complaints("upstreams: {a: {base_url: http://h}}\nroutes:\n  - {policy: priority}\n") == [
        "r.yaml:3:5: routes[0].name: required",
        "r.yaml:3:5: routes[0].targets: required",
    ]


def test_problems_are_values_in_the_order_of_the_file() -> None:
    """A problem is frozen, comparable, and has no position when it is not about a file."""
    first, second = Problem("f", 1, 9, "a", "x"), Problem("f", 2, 1, "", "y")
    assert ConfigErrors([second, first, first]).problems == [first, second]
    assert str(second) == "f:2:1: y"
    assert str(Problem("command line", 0, 0, "server.port", "z")) == "command line: server.port: z"
    with pytest.raises(AttributeError):
        first.line = 3  # type: ignore[misc]


def test_paths_are_written_as_people_write_them() -> None:
    """Lists by index; keys that cannot be printed are quoted."""
    assert dotted(("routes", 0, "match", "models", 1)) == "routes[0].match.models[1]"
    assert dotted(("a\nb", "")) == "'a\\nb'.''"
    assert dotted(()) == ""
