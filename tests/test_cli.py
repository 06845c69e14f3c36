"""The command line as it is typed: what each command prints, what it says when something is wrong, and with which code it leaves."""

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import orjson
import pytest
from click.testing import CliRunner

from gateway import __version__
from gateway.cli import main

ROOT = Path(__file__).parents[1]
GOOD = """\
version: 1
server: {port: 0}
admin: {port: 0}
upstreams: {fast: {base_url: "http://127.0.0.1:1/v1"}, slow: {base_url: "http://127.0.0.1:2/v1"}}
routes: [{name: chat, match: {models: ["gpt-[ab]*", gpt-c]}, targets: [{upstream: fast, model: tiny}, {upstream: slow}]}]
telemetry: {store: {path: "off"}, access_log: "off"}
"""
COMMANDS = sorted(main.commands)
Ran = subprocess.CompletedProcess[str]
Run = Callable[..., Ran]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run `weir` in a folder with a good routes.yaml, as a user does, to its end."""
    (tmp_path / "routes.yaml").write_text(GOOD)

    def weir(*arguments: str, **files: str) -> Ran:
        for name, text in files.items():
            (tmp_path / f"{name}.yaml").write_text(text)
        command = [sys.executable, "-m", "gateway", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

    return weir


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a good routes.yaml, for commands run in this process."""
    (tmp_path / "routes.yaml").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that another program listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


def refused(ran: Ran, code: int) -> str:
    """Check that a run said one line on stderr, nothing on stdout, and left with this code; return the line."""
    assert (ran.returncode, ran.stdout) == (code, ""), ran
    [line] = ran.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("version: 1\nroutes: [{name: a\n", r"bad\.yaml:\d+:\d+: ", "YAML|expected|closed|,"),
        (GOOD.replace("upstreams:", "upstraems: {}\nupstreams:"), r"bad\.yaml:4:1: upstraems: ", "did you mean 'upstreams'"),
        (
            GOOD.replace("{port: 0}\nadmin", "{port: '${NO_SUCH_PORT_VARIABLE}'}\nadmin"),
            r"bad\.yaml:2:\d+: server\.port: ",
            "NO_SUCH_PORT_VARIABLE",
        ),
    ],
    ids=["malformed", "unknown-key", "missing-variable"],
)
@pytest.mark.parametrize("command", ["serve", "check"])
def test_a_bad_configuration_is_one_line_with_its_place(run: Run, command: str, text: str, place: str, words: str) -> None:
    """File, line and column, what is wrong there, and exit code 2; nothing is started and nothing else is said."""
    line = refused(run(command, "-c", "bad.yaml", bad=text), 2)
    assert re.match(place, line), line
    assert re.search(words, line), line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("serve", "-c", "nowhere.yaml"), "nowhere.yaml:1:1: cannot be read: No such file"),
        (("serve", "--prot", "1"), "No such option '--prot'"),
        (("serve", "--port", "99999"), "99999 is not in the range"),
        (("serve", "--workers", "many"), "server.workers: must be a whole number, not 'many'"),
        (("serve", "--host", "0.0.0.0"), "server.host: other machines can reach this address"),
        (("explain",), "Missing argument 'MODEL'"),
        (("sim", "-c", "nowhere.yaml"), "'nowhere.yaml' does not exist"),
        (("sim", "-c", "routes.yaml"), "routes.yaml: scenario: Object contains unknown field `version`"),
        (("seve",), "No such command 'seve'"),
    ],
    ids=lambda value: "-".join(value).replace("--", "") if isinstance(value, tuple) else "",
)
def test_a_bad_command_line_is_one_line(run: Run, arguments: tuple[str, ...], words: str) -> None:
    """Every mistake is told in one line, with exit code 2."""
    assert words in refused(run(*arguments), 2)


@pytest.mark.parametrize("workers", ["1", "3"])
@pytest.mark.parametrize("option", ["--port", "--admin-port"])
def test_a_port_in_use_is_one_line(run: Run, taken: int, option: str, workers: str) -> None:
    """A port that another program has is no reason for a traceback, nor for sharing it: exit code 1."""
    line = refused(run("serve", option, str(taken), "--workers", workers), 1)
    assert line == f"weir: cannot listen on 127.0.0.1:{taken}: Address already in use"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_second_weir_does_not_share_the_first_ones_port(run: Run, tmp_path: Path, workers: str) -> None:
    """Several workers share a port among themselves, never with another Weir of the same user."""
    with listening(tmp_path, "serve", "--workers", workers) as (first, out):
        port = re.search(r"base_url +http://127\.0\.0\.1:(\d+)/v1", out)
        assert port, out
        assert out.startswith(f"weir {__version__}  config ")
        line = refused(run("serve", "--port", port[1], "--workers", workers), 1)
        assert line == f"weir: cannot listen on 127.0.0.1:{port[1]}: Address already in use"
        first.send_signal(signal.SIGTERM)
        assert first.wait(15) == 0


class listening:  # noqa: N801  reads as a verb
    """A `weir` that runs, and what it has printed when it is ready; killed with its whole group at the end."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._log = (folder / "stderr").open("w")
        command = [sys.executable, "-u", "-m", "gateway", *arguments]
        self._weir = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=self._log, text=True, start_new_session=True)

    def __enter__(self) -> tuple[subprocess.Popen[str], str]:
        assert self._weir.stdout is not None
        out = ""
        while not re.search(r"admin .*:\d+\n|^\w+: .*/v1\n", out):
            line = self._weir.stdout.readline()
            assert line, out
            out += line
        return self._weir, out

    def __exit__(self, *_: object) -> None:
        if self._weir.poll() is None:
            self._weir.terminate()
        try:
            self._weir.wait(15)
        finally:
            self._weir.kill()
            self._weir.communicate()
            self._log.close()


def test_sim_plays_a_scenario_until_ctrl_c(run: Run, tmp_path: Path) -> None:
    """It prints each provider's base URL, answers there, and leaves quietly on SIGINT."""
    (tmp_path / "two.yaml").write_text("providers: {quick: {temper: instant}, wild: {faults: status 500}}\n")
    with listening(tmp_path, "sim", "-c", "two.yaml") as (sim, first):
        assert sim.stdout is not None
        found = dict(re.findall(r"(\w+): http://127\.0\.0\.1:(\d+)/v1", first + sim.stdout.readline()))
        assert set(found) == {"quick", "wild"}
        assert b" 200 " in _get(int(found["quick"]), "/healthz")
        sim.send_signal(signal.SIGINT)
        assert sim.wait(10) == 0
    assert (tmp_path / "stderr").read_text() == ""


def _get(port: int, path: str) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: sim\r\nConnection: close\r\n\r\n".encode())
        return sock.recv(65536)


def test_check_shows_routes_uncut_in_a_pipe(run: Run) -> None:
    """A table in a pipe is as wide as it needs to be, and brackets in a pattern are not taken for markup."""
    ran = run("check")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "routes.yaml: config " in ran.stdout
    assert "gpt-[ab]*, gpt-c" in ran.stdout
    assert "http://127.0.0.1:2/v1" in ran.stdout


def test_every_problem_of_a_file_is_told(here: Path) -> None:
    """Three mistakes are three lines."""
    (here / "bad.yaml").write_text(GOOD.replace("name: chat", "nme: chat").replace("version: 1", "version: 9"))
    ran = CliRunner().invoke(main, ["check", "-c", "bad.yaml"])
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert all(line.startswith("bad.yaml:") for line in ran.stderr.splitlines())
    assert len(ran.stderr.splitlines()) >= 2


def test_check_prints_the_schema(here: Path) -> None:
    """The schema is JSON, whatever the file beside it is worth."""
    ran = CliRunner().invoke(main, ["check", "--schema", "-c", "nowhere.yaml"])
    assert (ran.exit_code, ran.stderr) == (0, "")
    assert {"upstreams", "routes", "telemetry"} <= orjson.loads(ran.stdout)["properties"].keys()


def test_explain_tells_the_order_of_targets(here: Path) -> None:
    """A model that a route serves: the route, its policy, and each target with why."""
    ran = CliRunner().invoke(main, ["explain", "gpt-[ab]1"])
    assert (ran.exit_code, ran.stderr) == (0, "")
    assert "route chat, policy least-latency" in ran.stdout
    assert sorted(re.findall(r"fast|slow", ran.stdout.partition("why")[2])) == ["fast", "slow"]
    assert "tiny" in ran.stdout
    assert "gpt-[ab]1" in ran.stdout


def test_explain_of_a_model_nobody_serves(here: Path) -> None:
    """One line, exit code 1."""
    ran = CliRunner().invoke(main, ["explain", "claude"])
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert ran.stderr == "weir: no route of routes.yaml serves the model 'claude'\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_complete(command: str) -> None:
    """Every option has words, and the list of commands tells each in a whole sentence."""
    ran = CliRunner().invoke(main, [command, "--help"], prog_name="weir")
    assert ran.exit_code == 0
    assert ran.stdout.startswith(f"Usage: weir {command} ")
    for parameter in main.commands[command].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            assert parameter.opts[0] in ran.stdout
    if command == "serve":
        assert re.findall(r"SIG[A-Z0-9]+", ran.stdout) == ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR2"]
    listed = CliRunner().invoke(main, ["--help"]).stdout
    assert re.search(rf"^  {command} +[A-Z].*\.$", listed, re.MULTILINE)
    assert "..." not in listed.partition("Commands:")[2]


def test_version_and_a_bare_weir() -> None:
    """`--version` says the version; no command at all shows the help."""
    assert CliRunner().invoke(main, ["--version"]).stdout == f"weir, version {__version__}\n"
    bare = CliRunner().invoke(main, [])
    assert "Commands:" in bare.output
    assert "Traceback" not in bare.output


def test_every_command_and_option_is_documented() -> None:
    """README.md or docs/cli.md name each command and each option, and name no command or option that is not there."""
    reference = (ROOT / "docs/cli.md").read_text()
    text = reference + (ROOT / "README.md").read_text()
    there = set()
    for name, command in main.commands.items():
        assert f"weir {name}" in text or f"## {name}" in text, name
        section = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", reference, re.MULTILINE | re.DOTALL)
        assert section, f"docs/cli.md has no section {name}"
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                there |= set(parameter.opts)
                assert all(f"`{option}" in section[1] for option in parameter.opts), (name, parameter.opts)
    assert set(re.findall(r"^## (\w+)$", reference, re.MULTILINE)) == set(main.commands)
    assert set(re.findall(r"`(--[a-z-]+)", reference)) <= there | {"--help", "--minutes"}


@pytest.mark.slow
def test_bench_writes_its_figures(run: Run, tmp_path: Path) -> None:
    """A tiny run of two lanes ends by itself, shows a table and writes both files."""
    started = time.monotonic()
    tiny = ("--streams", "4", "--rate", "200", "--tokens", "10", "--seconds", "0.5", "--rounds", "1")
    ran = run("bench", *tiny, "--lane", "direct", "--lane", "weir", "--json", "b.json", "--markdown", "b.md")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert {lane["name"] for lane in orjson.loads((tmp_path / "b.json").read_bytes())["lanes"]} == {"direct", "weir"}
    assert "weir" in ran.stdout
    assert "|" in (tmp_path / "b.md").read_text()
    assert time.monotonic() - started < 60


def test_bench_refuses_what_makes_no_sense(run: Run) -> None:
    """One line and exit code 1, before anything is started."""
    assert refused(run("bench", "--lane", "envoy"), 1).startswith("weir: no such lane or measure: envoy; there are direct")


def test_a_server_is_deaf_to_operators_before_it_is_read_in() -> None:
    """Reading the program in takes most of a second, in which a SIGHUP would end it: signals are held before anything is imported (G4)."""
    told = """
import signal, sys
hold = signal.pthread_sigmask
def held(*what):
    print(sorted({"gateway.cli", "aiohttp", "click"} & set(sys.modules)))
    return hold(*what)
signal.pthread_sigmask, sys.argv = held, ["weir", "serve", "--help"]
from gateway.__main__ import main
main()
"""
    ran = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[0] == "[]"
