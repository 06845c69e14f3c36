"""When a file is read again, and what of it can be taken on by a gateway that runs."""

import os
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Config, load, override
from gateway.reload import FIXED, LOOK_EVERY, SETTLE, Reloads, Source, cannot_change

FILE = """version: 1
server: {server}
admin: {admin}
upstreams: {{a: {{base_url: "http://127.0.0.1:1/v1", api_key: {key}}}}}
routes: [{{name: chat, match: {{models: [{models}]}}, targets: [{{upstream: a}}]}}]
telemetry: {telemetry}
"""


def text(**parts: str) -> str:
    return FILE.format(**{"server": "{}", "admin": "{}", "key": "k", "models": "'*'", "telemetry": "{}"} | parts)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "routes.yaml"
    path.write_text(text())
    return path


def reloads(file: Path, **overrides: Any) -> Reloads:
    source = Source(str(file), overrides)
    return Reloads(override(load(file), **overrides), source)


def ticks(all_of: Reloads, count: int, start: float = 100.0) -> list[bool]:
    return [all_of.due(start + number * LOOK_EVERY) for number in range(count)]


def test_a_file_that_stays_is_never_due(file: Path) -> None:
    """Looking at it is all that is done."""
    assert ticks(reloads(file), 5) == [False] * 5


def test_a_file_is_read_when_nobody_writes_it_any_more(file: Path) -> None:
    """Not at the first look at which it has changed, but when it is the same at the next: a writer may be halfway."""
    ours = reloads(file)
    file.write_text(text(models="m"))
    assert ours.due(100.0) is False
    file.write_text(text(models="m, n"))
    assert ours.due(100.0 + LOOK_EVERY) is False
    assert ours.due(100.0 + 2 * LOOK_EVERY) is True
    assert ours.reload().changed is True
    assert ours.config.model_names() == ["m", "n"]
    assert ticks(ours, 4, 200.0) == [False] * 4


def test_a_file_that_is_gone_for_a_moment_is_waited_for(file: Path) -> None:
    """Some editors move it away before they write it anew."""
    ours, kept = reloads(file), file.read_text()
    file.unlink()
    assert ticks(ours, 3) == [False] * 3
    file.write_text(kept)
    os.utime(file, ns=(1, 1))
    assert ticks(ours, 3, 200.0) == [False, True, True]


@pytest.mark.parametrize("odd", ['"\\U00110000"', '"\\UFFFFFFFF"'])
def test_a_file_that_no_reader_expects_is_a_bad_file(file: Path, odd: str) -> None:
    """Whatever the readers stumble over, it is a problem of the file: what runs goes on (G4)."""
    ours = reloads(file)
    file.write_text(text(models=odd))
    outcome = ours.reload()
    assert (outcome.changed, len(outcome.problems), ours.config.routes[0].match.models) == (False, 1, ("*",))


def test_a_bad_file_is_read_once(file: Path) -> None:
    """Until it changes again; asked for, it is read as often as somebody asks."""
    ours, before = reloads(file), reloads(file).config
    file.write_text("version: 1\nupstreams: {a: {}}\n")
    assert True in ticks(ours, 3)
    outcome = ours.reload()
    assert (outcome.changed, outcome.possible, ours.config) == (False, True, before)
    assert outcome.problems[-1].startswith(f"{file}:2:")
    assert ticks(ours, 4, 200.0) == [False] * 4
    ours.ask(300.0)
    assert ours.due(300.0 + SETTLE) is True


def test_requests_in_a_burst_are_one(file: Path) -> None:
    """Due a moment after the first; the outcome answers the newest of them, and no later one."""
    ours = reloads(file)
    for number in (1, 2, 3):
        ours.ask(100.0 + number / 1000, number)
    assert ours.due(100.0) is False
    assert ours.due(100.001 + SETTLE) is True
    assert (ours.reload().asked, ours.reload().asked) == (3, 0)


def test_the_same_is_no_change_and_a_secret_is(file: Path) -> None:
    """Configurations are compared whole: the hash knows nothing of secrets."""
    ours = reloads(file)
    file.write_text("# a comment\n" + text())
    assert ours.reload().changed is False
    before = ours.config.hash
    file.write_text(text(key="another"))
    outcome = ours.reload()
    assert (outcome.changed, outcome.hash) == (True, before)


def test_what_the_command_line_said_still_holds(file: Path) -> None:
    """It wins over the file at a reload too, so that a changed port in the file is no change."""
    ours = reloads(file, port=0, workers="2")
    file.write_text(text(server="{port: 999, workers: 7, drain: 1s}"))
    assert ours.reload().changed is True
    assert (ours.config.server.port, ours.config.server.workers, ours.config.server.drain) == (0, 2, 1.0)


CHANGES = {
    "server.host": {"server": "{host: 127.0.0.2}"},
    "server.port": {"server": "{port: 1}"},
    "server.workers": {"server": "{workers: 3}"},
    "admin.host": {"admin": "{host: localhost}"},
    "admin.port": {"admin": "{port: 1}"},
    "telemetry.store.path": {"telemetry": "{store: {path: other.db}}"},
    "telemetry.store.retention": {"telemetry": "{store: {retention: 1d}}"},
    "telemetry.access_log": {"telemetry": "{access_log: off}"},
    "telemetry.otlp.headers": {"telemetry": "{otlp: {headers: {X-Key: sesame}}}"},
}


@pytest.mark.parametrize("key", CHANGES)
def test_what_is_acted_on_at_the_start_needs_a_restart(file: Path, key: str) -> None:
    """The whole file is refused, the key is named, its value is not."""
    ours = reloads(file)
    file.write_text(text(**({"models": "new"} | CHANGES[key])))
    outcome = ours.reload()
    assert outcome.problems == (f"{file}: cannot be changed while running: {key}; restart Weir for it",)
    assert ours.config.model_names() == []


TAKEN_ON = {
    "admin.token": {"admin": "{token: t}"},
    "admin.links": {"admin": "{links: {Jaeger: http://127.0.0.1:16686}}"},
    "server.drain": {"server": "{drain: 1s}"},
    "server.max_body": {"server": "{max_body: 1MiB}"},
    "server.head_timeout": {"server": "{head_timeout: 9s}"},
    "server.body_timeout": {"server": "{body_timeout: 9s}"},
    "server.max_connections": {"server": "{max_connections: 99}"},
    "server.keepalive": {"server": "{keepalive: 1s}"},
    "server.open": {"server": "{open: true}"},
    "routes": {"models": "m"},
    "telemetry.sampling": {"telemetry": "{sampling: {baseline: 1%}}"},
    "telemetry.mappers": {"telemetry": "{mappers: [langfuse]}"},
}


@pytest.mark.parametrize("key", TAKEN_ON)
def test_everything_else_is_taken_on(file: Path, key: str) -> None:
    """What new calls or new requests read where they need it needs no restart."""
    ours = reloads(file)
    file.write_text(text(**TAKEN_ON[key]))
    assert ours.reload().changed is True


def test_every_key_is_either_fixed_or_taken_on() -> None:
    """A new key of server or admin, or a new part of the file, is thought about here: can it change while Weir runs?"""
    known = {"version", "upstreams", "routes", "guards", "tenants", "server", "admin", "telemetry", *FIXED}
    assert {name for name in Config.model_fields if name not in known} == set()
    for part in ("server", "admin", "telemetry"):
        keys = {f"{part}.{name}" for name in type(getattr(Config(), part)).model_fields}
        assert keys - set(FIXED) - set(TAKEN_ON) == set()


def test_without_a_file() -> None:
    """There is nothing to read, which is no mistake in a configuration."""
    ours = Reloads(Config(), None)
    assert ticks(ours, 3) == [False] * 3
    outcome = ours.reload()
    assert (outcome.possible, outcome.changed, len(outcome.problems)) == (False, False, 1)
    assert list(cannot_change(Config(), Config())) == []
