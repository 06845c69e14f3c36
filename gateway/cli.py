"""The `weir` command: arguments in, exit code out. What a command does lives in the package it belongs to."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, cast

import click
import orjson
from rich.console import Console
from rich.table import Table

from gateway import __version__, logs
from gateway.config import Config, ConfigErrors, json_schema, load, override
from gateway.early import hold_signals
from gateway.reload import Source
from gateway.supervisor import Gateway, PortTaken, Supervisor
from gateway.terminal.commands import replay, tail, top
from gateway.terminal.leaving import fail

DEFAULT_FILE = "routes.yaml"
PIPE_WIDTH = 10_000
config_option = click.option(
    "-c", "--config", "file", default=DEFAULT_FILE, show_default=True, type=click.Path(dir_okay=False), help="The configuration file."
)


def read(file: str) -> Config:
    """Load a configuration, or print every problem with it and leave with 2."""
    try:
        return load(file)
    except ConfigErrors as errors:
        click.echo(str(errors), err=True)
        sys.exit(2)


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """Tell a mistake on the command line as every other error is told: in one line, and code 2."""
    try:
        yield
    except click.UsageError as error:
        if "\n" in error.format_message():  # a bare `weir`: click raises the whole help
            raise
        fail(f"{error.format_message().rstrip('.')}; see {error.ctx.command_path if error.ctx else 'weir'} --help", 2)


class Commands(click.Group):
    """The commands; only how it tells mistakes differs from click's own."""

    def make_context(self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any) -> click.Context:
        with one_line():
            return super().make_context("weir" if parent is None else info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with one_line():
            return super().invoke(ctx)


def show(table: Table) -> None:
    """Print a table: as wide as the terminal, or so wide in a pipe that nothing is cut; brackets in names are brackets."""
    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, markup=False).print(table)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="weir")
def main() -> None:
    """Weir relays LLM streams untouched, routes each to the target that speaks first soonest, and keeps one true account of it."""


@main.command(short_help="Run the gateway.")
@config_option
@click.option("--host", help="Listen here instead of server.host.")
@click.option("--port", type=click.IntRange(0, 65535), help="Listen here instead of server.port; 0 takes any free one.")
@click.option("--admin-port", type=click.IntRange(0, 65535), help="Instead of admin.port.")
@click.option("--workers", help="Instead of server.workers: a number, or auto for one per CPU.")
@click.option(
    "--log-format", type=click.Choice(["json", "console"]), default="console", show_default=True, help="How logs are written to stderr."
)
def serve(file: str, log_format: logs.LogFormat, **overrides: Any) -> None:
    """Run the gateway: a supervisor, its workers and the recorder.

    \b
    SIGTERM, SIGINT  drain and end; a second one ends at once
    SIGHUP           read the file again, as when it changes; a bad one is refused
    SIGUSR2          replace the workers one after the other; no call is lost
    """
    hold_signals()
    source = Source(file, overrides)
    try:
        config = override(read(file), **overrides)
        gateway = Gateway(config, source)
    except ConfigErrors as errors:
        fail(str(errors), 2)
    except PortTaken as error:
        fail(str(error))
    logs.configure(log_format)
    click.echo(f"weir {__version__}  config {config.hash}  workers {config.server.workers}")
    click.echo(f"  base_url  {gateway.url}/v1\n  admin     {gateway.admin_url}")
    sys.exit(Supervisor(gateway.children(), config.server.drain, gateway.listeners, gateway.reloads).run())


@main.command(short_help="Validate a configuration, or show its routes.")
@config_option
@click.option("--schema", is_flag=True, help="Print the JSON Schema of the file instead, for editors.")
def check(file: str, schema: bool) -> None:
    """Say everything that is wrong with a configuration (exit code 2), or show its routes."""
    if schema:
        click.echo(orjson.dumps(json_schema(), option=orjson.OPT_INDENT_2).decode())
        return
    config = read(file)
    table = Table(
        "route", "models", "policy", "target", "model", "dialect", "base URL", title=f"{file}: config {config.hash}, nothing wrong"
    )
    for route in config.routes:
        for target in route.targets:
            upstream = config.upstreams[target.upstream]
            asked, served = ", ".join(route.match.models), target.model or "as asked"
            table.add_row(route.name, asked, route.policy, target.upstream, served, upstream.dialect, upstream.base_url)
    show(table)


@main.command(short_help="Tell which targets would serve a model, and why.")
@click.argument("model")
@config_option
def explain(model: str, file: str) -> None:
    """Tell which route serves MODEL, and in which order its targets would be tried and why (with nothing measured yet)."""
    from gateway.routing.explain import explain as explain_route
    from gateway.routing.health import Health

    config = read(file)
    route = config.match(model, "openai", {})
    if route is None:
        fail(f"no route of {file} serves the model {model!r}")
    click.echo(
        f"route {route.name}, policy {route.policy}, first-token deadline {route.first_token.timeout}, on slow: {route.first_token.on_slow}"
    )
    table = Table("order", "upstream", "model", "why")
    for place, view in enumerate(explain_route(route, model, Health(), 0.0), 1):
        table.add_row(str(place), view.target.upstream, view.target.model or model, view.why)
    show(table)


def when(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """Read an option that is a time in the past, as Unix seconds."""
    from gateway.telemetry.moments import moment

    try:
        return moment(value, time.time()) if value else None  # noqa: TID251 - an age is counted by the calendar, as streams' ends are
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@main.command(short_help="Write stored streams to a file, for evaluation.")
@config_option
@click.option("--since", callback=when, help="Streams that ended since: an age (1d, 90m), a date or time (ISO 8601), or Unix seconds.")
@click.option("--until", callback=when, help="Streams that ended before; likewise.")
@click.option("--route", "routes", multiple=True, help="Only of this route (repeatable).")
@click.option("--outcome", "outcomes", multiple=True, help="Only with this outcome (repeatable).")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many, the newest.")
@click.option(
    "--format", type=click.Choice(["jsonl", "parquet"]), help="One JSON object a line, or Parquet; by the file's ending when left out."
)
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), help="The file; - is stdout, for jsonl.")
def export(file: str, format: str | None, output: str, **wanted: Any) -> None:  # noqa: A002 - the option's name
    """Write stored streams to a file, the newest first: one row each, with prompt and text where the route keeps content.

    It reads the store's file, whether the gateway runs or not.
    """
    from gateway.telemetry import rows, sheets
    from gateway.telemetry.store import StoreUnreadable

    path = Path(read(file).telemetry.store.path)
    if str(path) == "off" or not path.exists():
        fail("telemetry.store.path is off: nothing is stored" if str(path) == "off" else f"there is no store at {path} yet")
    kind = format or ("parquet" if output.endswith(".parquet") else "jsonl")
    if output == "-" and kind == "parquet":
        fail("Parquet needs a file: -o FILE", 2)
    found = map(rows.row, rows.read(path, rows.Wanted(**wanted)))
    try:
        if output == "-":
            sheets.lines(found, sys.stdout.buffer)
            return
        count = sheets.written(found, kind, Path(output), progress())
    except (StoreUnreadable, sheets.NoParquet) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{output}: {error.strerror}")
    progress()(f"{count} streams in {output}")


@main.command(short_help="Run everything on this machine, with simulated providers.")
@click.option("--minutes", type=click.FloatRange(min=0.0, min_open=True), help="End by itself after so long.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="The gateway's port; a free one if it is taken."
)
@click.option("--admin-port", type=click.IntRange(0, 65535), default=8081, show_default=True, help="Likewise for the admin API.")
def demo(minutes: float | None, port: int, admin_port: int) -> None:
    """Run everything on this machine: three simulated providers, the gateway, and traffic. Needs no key and no network."""
    from gateway.sim import demo as sim_demo

    logs.configure("console")
    sys.exit(sim_demo.run(minutes, port, admin_port))


@main.command(short_help="Serve simulated providers.")
@click.option(
    "-c", "--scenario", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Providers, tempers and faults as YAML."
)
def sim(scenario: Path | None) -> None:
    """Serve simulated providers, one on port 9001 unless a scenario says otherwise. Ctrl-C ends it.

    Each speaks every dialect on its one port, told apart by the path: openai and openai-responses at http://HOST:PORT/v1; anthropic,
    gemini, bedrock, ollama and azure at http://HOST:PORT.
    """
    import uvloop

    from gateway.sim.scenario import DEFAULT, ScenarioError, load_scenario, run_scenario

    try:
        played = load_scenario(scenario.read_text()) if scenario else DEFAULT
        uvloop.run(run_scenario(played, cast("Callable[[str], None]", click.echo)))
    except ScenarioError as error:
        fail(f"{scenario}: {error}", 2)
    except OSError as error:
        fail(str(error))
    except KeyboardInterrupt:
        return


@main.command(short_help="Measure what Weir adds, or how it stands chaos.")
@click.option("--against", help="Measure this running gateway (a URL) instead of the built-in lanes.")
@click.option("--direct", help="With --against: its upstream's URL, to show what the gateway adds.")
@click.option("--pid", type=int, help="With --against: its process, to show its CPU and memory.")
@click.option("--model", default="bench", show_default=True, help="With --against: the model to ask for.")
@click.option("--streams", type=click.IntRange(min=1), show_default="200, with --chaos 500", help="Streams open at once.")
@click.option("--rate", default=10_000.0, show_default=True, help="Events a second over all streams.")
@click.option("--tokens", default=100, show_default=True, help="Events of one stream.")
@click.option("--seconds", default=5.0, show_default=True, help="One slot of one lane.")
@click.option("--rounds", default=3, show_default=True, help="Slots of each lane; medians are shown.")
@click.option("--lane", "lanes", multiple=True, help="Only these of direct, nginx, naive, weir (repeatable).")
@click.option(
    "--chaos", is_flag=True, help="Measure nothing: kill, reload and break whatever can be, and compare every account of every stream."
)
@click.option("--minutes", default=3.0, show_default=True, type=click.FloatRange(min=0.1), help="With --chaos: for how long.")
@click.option("--workers", default=2, show_default=True, type=click.IntRange(min=1), help="With --chaos: worker processes.")
@click.option("--seed", default=1, show_default=True, help="With --chaos: draws who does what and what goes wrong.")
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path), help="With --chaos: leave store, logs and configuration here.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write every figure here.")
@click.option("--markdown", "markdown_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the result as a table here.")
def bench(json_file: Path | None, markdown_file: Path | None, lanes: tuple[str, ...], chaos: bool, **options: Any) -> None:
    """Measure what Weir adds: latency, CPU per event, memory; beside nginx and a plain relay, in one run.

    With --chaos, compare instead what clients, providers, store, spans and metrics say of every stream while providers fail and
    processes are killed; the exit code is 1 if one was lost or two of them disagree.
    """
    wild = {name: options.pop(name) for name in ("minutes", "workers", "seed", "keep")}
    if options["streams"] is None:
        options["streams"] = 500 if chaos else 200
    if chaos:
        run_chaos(json_file, wild | {"streams": options["streams"]})
    from gateway.sim import bench as sim_bench

    if lanes:
        options["lanes"] = lanes
    try:
        report = sim_bench.run(sim_bench.BenchOptions(**options), progress())
    except (ValueError, sim_bench.StartError) as error:
        fail(str(error))
    Console().print(sim_bench.render(report))
    if json_file:
        json_file.write_bytes(sim_bench.to_json(report))
    if markdown_file:
        markdown_file.write_text(sim_bench.markdown(report))


def run_chaos(json_file: Path | None, options: dict[str, Any]) -> NoReturn:
    """Run chaos, show what came of it, and leave with 1 if that is not what was promised."""
    from gateway.sim.chaos.report import render, to_json
    from gateway.sim.chaos.run import ChaosOptions, StartError, run

    folder = options.pop("keep")
    try:
        report = run(ChaosOptions(**options), progress(), folder)
    except StartError as error:
        fail(str(error))
    Console(markup=False, highlight=False).print(render(report))
    if json_file:
        json_file.write_bytes(to_json(report))
    sys.exit(0 if report.passed else 1)


for view in (top, tail, replay):
    main.add_command(view)


def progress() -> Callable[[str], None]:
    """Return what says how far a long work has come: to a person at a terminal, to nobody in a pipe."""
    return (lambda text: click.echo(text, err=True)) if sys.stderr.isatty() else (lambda _: None)
