"""The commands `top`, `tail` and `replay`: arguments only. Each imports what it needs, for who asks for none must not pay for them."""

# ruff: noqa: PLC0415

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import click
from pydantic_core import PydanticCustomError

from gateway.config.values import read_duration
from gateway.core.record import Outcome
from gateway.terminal.leaving import fail, looking

if TYPE_CHECKING:
    from gateway.terminal.admin import Place


class Duration(click.ParamType[float | bool]):
    """A duration as the configuration writes it, as seconds; `true` where there is one by default."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | bool:
        if value == "true":
            return True
        try:
            return cast("float", read_duration(value))
        except PydanticCustomError as error:
            self.fail(error.message(), param, ctx)


def looks_at(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say where the admin API is."""
    admin = click.option("--admin", metavar="URL", help="The admin API, instead of what the configuration says; token: WEIR_ADMIN_TOKEN.")
    file = click.option(
        "-c", "--config", "file", type=click.Path(dir_okay=False), help="The configuration that says where the admin API is.  [routes.yaml]"
    )
    return file(admin(command))


def place(file: str | None, admin: str | None) -> "Place":
    """Return where the admin API is."""
    from gateway.terminal.admin import Place

    return Place.of(file, admin)


@click.command(short_help="Watch routes, upstreams and running streams.")
@looks_at
@click.option("--once", is_flag=True, help="Print what there is and leave, as in a pipe.")
def top(file: str | None, admin: str | None, once: bool) -> None:
    """Watch routes, upstreams and running streams, the longest silence first. q or Ctrl-C ends it."""
    from gateway.terminal.top import run

    with looking():
        run(place(file, admin), once)


@click.command(short_help="Print a line for each stream that ends.")
@looks_at
@click.option("--route", multiple=True, help="Only streams of this route (repeatable).")
@click.option("--upstream", multiple=True, help="Only streams that this upstream served (repeatable).")
@click.option("--model", multiple=True, help="Only streams that asked for this model (repeatable).")
@click.option("--outcome", multiple=True, type=click.Choice(get_args(Outcome)), help="Only streams that ended so (repeatable).")
@click.option("--stalled", is_flag=True, help="Only streams with a silence over their route's threshold.")
@click.option(
    "--slow",
    type=Duration(),
    is_flag=False,
    flag_value="true",
    metavar="[DURATION]",
    help="Only first tokens later than the route's objective, or than this.",
)
@click.option("--since", type=Duration(), metavar="DURATION", help="Begin with what is stored of so long ago.")
@click.option("--json", "as_json", is_flag=True, help="Print rows of the API, one JSON document a line.")
def tail(file: str | None, admin: str | None, as_json: bool, since: float | None, **wanted: Any) -> None:
    """Print a line for each stream that ends, until Ctrl-C. A gateway that is away for a while is waited for."""
    from gateway.terminal.tail import Filter, run

    columns = {name: wanted[name] for name in ("route", "upstream", "model", "outcome") if wanted[name]}
    wants = Filter(columns=columns, stalled=wanted["stalled"], slow=wanted["slow"] or False)
    with looking():
        run(place(file, admin), wants, as_json, time.time() - since if since else None)  # noqa: TID251 - ages are by the calendar


@click.command(short_help="Play a stream again, here or as a provider.")
@click.argument("stream_ids", metavar="[STREAM_ID]...", nargs=-1)
@looks_at
@click.option(
    "--from", "files", multiple=True, type=click.Path(dir_okay=False, path_type=Path), help="A record saved as JSON (repeatable)."
)
@click.option("--speed", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True, help="So many times as fast.")
@click.option("--serve", "served", is_flag=True, help="Be a provider whose every stream is this one; several take turns.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=9001, show_default=True, help="With --serve: listen here; 0 takes any free one."
)
def replay(stream_ids: tuple[str, ...], files: tuple[Path, ...], speed: float, port: int, **how: Any) -> None:
    """Print the answer of STREAM_ID as it came: its tokens at their own speed, its silences with their owners, and its figures.

    With --serve, be a provider instead, in every dialect, that answers each call for a stream with this one: the same wait for the first
    token, the same gaps, the same end. Point an app at it, or Weir itself.
    """
    from gateway.terminal import fetch
    from gateway.terminal.replay import play

    if not (stream_ids or files):
        fail("say which stream: a STREAM_ID, or --from FILE; see weir replay --help", 2)
    with looking():
        recordings = [fetch.load(saved) for saved in files]
        if stream_ids:
            recordings += fetch.fetch(place(how["file"], how["admin"]), stream_ids)
        if how["served"]:
            fetch.serve(recordings, speed, port, cast("Callable[[str], None]", click.echo))
        else:
            for recording in recordings:
                play(recording, speed)
