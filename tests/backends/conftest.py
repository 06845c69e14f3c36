"""The backends, one of each for all tests; `weir` and `provide` are those of the stories: the program in processes of its own."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from tests.backends import programs
from tests.backends.programs import Running
from tests.stories.conftest import eventually_fixture, provide, weir  # noqa: F401 - fixtures

THERE = {"phoenix": programs.PHOENIX, "rotel": programs.ROTEL, "jaeger": programs.JAEGER, "otelcol": programs.OTELCOL}
TAIL = Path(__file__).parents[2] / "deploy" / "compose" / "collector-tail.yaml"
INSTALLED = ("phoenix", "rotel")
"""What pip brings. Jaeger and OpenTelemetry's collector are built from source where Go is at hand, and missed nowhere else."""


@pytest.fixture(scope="session")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Running]]:
    """Return a backend by name, started when it is first asked for; `rotel` is a collector in front of Phoenix, `otelcol` of Jaeger."""
    running: dict[str, Running] = {}

    def folder(name: str) -> Path:
        return tmp_path_factory.mktemp(name)

    with ExitStack() as stack:

        def get(name: str) -> Running:
            if not THERE[name].exists():
                wanted = bool(os.environ.get("WEIR_TEST_BACKENDS")) and name in INSTALLED
                (pytest.fail if wanted else pytest.skip)(f"no {name} in {programs.HOME}: make test-backends, make collector")
            if name not in running:
                running[name] = stack.enter_context(start[name]())
            return running[name]

        start: dict[str, Callable[[], AbstractContextManager[Running]]] = {
            "phoenix": lambda: programs.phoenix(folder("phoenix")),
            "jaeger": lambda: programs.jaeger(folder("jaeger")),
            "rotel": lambda: programs.rotel(folder("rotel"), get("phoenix")),
            "otelcol": lambda: programs.otelcol(folder("otelcol"), TAIL, get("jaeger")),
        }

        yield get
