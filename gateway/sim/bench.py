"""`weir bench`: the same streams directly, through nginx, through a naive relay and through Weir, in one run, lanes interleaved.

run(options) starts everything, measures, ends everything, and returns a report; `render`, `to_json` and `markdown` show it.
"""

import os
import resource
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import msgspec
import uvloop

from gateway import __version__
from gateway.sim.caller import Address
from gateway.sim.children import StartError
from gateway.sim.lanes import LANES, Lane, Stage, Unavailable
from gateway.sim.measures import MEASURES, BenchOptions, Course
from gateway.sim.origin import Origin
from gateway.sim.report import BenchReport, LaneReport, machine, markdown, render, to_json

__all__ = ["BenchOptions", "BenchReport", "StartError", "markdown", "render", "run", "to_json"]

Say = Callable[[str], None]
PROMPT = " ".join(f"word{number}" for number in range(50))


def run(options: BenchOptions, say: Say = lambda _: None) -> BenchReport:
    """Measure and report; `say` is told what is being done. Raises ValueError for options that make no sense, StartError when
    Weir or the provider does not start.

    Everything it started has ended when it returns or raises, also on Ctrl-C and SIGTERM.
    """
    for wanted, known in ((options.lanes, LANES), (options.measures, MEASURES)):
        if strange := sorted(set(wanted) - set(known)):
            raise ValueError(f"no such lane or measure: {', '.join(strange)}; there are {', '.join(known)}")
    started, load = perf_counter(), os.getloadavg()[0]
    with terminate_as_interrupt(), many_files(), tempfile.TemporaryDirectory(prefix="weir-bench-") as folder:
        found, skipped, ended = _against(options, say) if options.against else _staged(options, Path(folder), say)
    reports = [LaneReport(name=name, **values) for name, values in found.items()]
    return BenchReport(
        version=__version__,
        machine=machine(),
        options={name: value for name, value in msgspec.json.decode(msgspec.json.encode(options)).items() if name != "key"},
        lanes=reports,
        skipped=skipped,
        ended=ended,
        load=load,
        seconds=perf_counter() - started,
    )


Figures = dict[str, dict[str, Any]]
"""By lane, then by measure: the structs of gateway.sim.report."""
Found = tuple[Figures, dict[str, str], dict[str, str]]
"""Those, then by name why a lane was left out, and how a process ended that should not have."""


def _staged(options: BenchOptions, folder: Path, say: Say) -> Found:
    lanes, skipped = [], {}
    with Stage(folder) as stage, Origin(folder) as origin:
        for name in options.lanes:
            say(f"starting {name}")
            try:
                lanes.append(LANES[name](stage, origin.port))
            except Unavailable as why:
                skipped[name] = str(why)
        course = Course(lanes, options, origin.become, say, _address, scripted=True)
        figures = uvloop.run(_measure(course, options.measures))
        return figures, skipped, stage.ended()


def _against(options: BenchOptions, say: Say) -> Found:
    wanted = (("direct", options.direct, None), ("gateway", options.against, options.pid))
    lanes = [_lane(name, url, pid) for name, url, pid in wanted if url]
    measures = tuple(name for name in options.measures if name != "memory" or options.pid is not None)
    course = Course(lanes, options, _as_it_is, say, _address, scripted=False)
    return uvloop.run(_measure(course, measures)), {}, {}


def _as_it_is(*, ttft: float, gap: float, tokens: int) -> None:
    """Leave a provider that is not ours as it is."""


def _lane(name: str, url: str, pid: int | None) -> Lane:
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"{url} is not an http:// address")
    return Lane(name, parts.hostname, parts.port or 80, pid, parts.path.rstrip("/") or "/v1")


def _address(lane: Lane, options: BenchOptions) -> Address:
    # The client says nothing about usage, as most do: Weir asks for it and takes the answer out again, which is part of what it costs.
    body = msgspec.json.encode({"model": options.model, "stream": True, "messages": [{"role": "user", "content": PROMPT}]})
    head = [
        f"POST {lane.path}/chat/completions HTTP/1.1",
        f"Host: {lane.host}:{lane.port}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *([f"Authorization: Bearer {options.key}"] if options.key else []),
    ]
    return Address(lane.host, lane.port, "\r\n".join([*head, "", ""]).encode() + body)


async def _measure(course: Course, names: tuple[str, ...]) -> Figures:
    found: Figures = {lane.name: {} for lane in course.lanes}
    for name in sorted(names, key=list(MEASURES).index):
        for lane, figures in (await MEASURES[name](course)).items():
            found[lane][name] = figures
    return found


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Make SIGTERM end the run as Ctrl-C does, so that every `with` is left; only where signals can be taken."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # A loop turns SIGINT, and only that, into the cancelling of its main task; a shell starts background jobs with it ignored.
    before = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT)]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


@contextmanager
def many_files() -> Iterator[None]:
    """Raise this process's and so its children's limit of open files as far as it goes: one open stream is up to three of them."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
