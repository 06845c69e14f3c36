"""Scenarios: what YAML may say, how mistakes are told, and changes over time."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway.sim.faults import Always, ByModel, Chance, Every, FirstOf, InOrder, ResetAfter, Stall, Status
from gateway.sim.scenario import DEFAULT, ScenarioError, load_scenario, run_scenario
from gateway.sim.tempers import FAST, SLOW, Temper

FULL = """
providers:
  fast:
    port: 9001
    seed: 7
    models: [a, b]
    temper: fast
    changes:
      - {at: 60s, temper: fast, faults: none}
      - {at: 30s, temper: {like: slow, ttft: 4s, tokens_per_chunk: 2}, faults: [status 429 7, none, {kind: stall, after: 1}]}
    repeat: 2m
  wild:
    temper: {ttft: 0.1, speech: tools, cached: 12}
    faults: {every: {n: 10, fault: reset}, chance: {p: 0.1, fault: stall 3 2s}, models: {"x-*": status 500}}
"""


def test_a_full_scenario() -> None:
    """Tempers, scripts and changes come out as written, changes in order of time."""
    fast, wild = load_scenario(FULL).parts
    assert (fast.name, fast.port, fast.seed, fast.models, fast.temper, fast.repeat) == ("fast", 9001, 7, ("a", "b"), FAST, 120)
    assert [change.at for change in fast.changes] == [30, 60]
    assert (fast.changes[0].temper.ttft, fast.changes[0].temper.gap, fast.changes[0].temper.tokens_per_chunk) == ("4s", SLOW.gap, 2)
    assert [fault.kind for fault in fast.changes[0].faults.faults] == ["status", "none", "stall"]
    assert wild.faults == FirstOf((Every(10, ResetAfter()), Chance(0.1, Stall(3, 2)), ByModel({"x-*": Status(500)})))
    assert isinstance(wild.temper, Temper)
    assert (wild.temper.speech, wild.temper.cached) == ("tools", 12)


def test_nothing_written_is_the_default() -> None:
    """An empty file is one steady provider on port 9001."""
    assert load_scenario("") == DEFAULT
    assert [(part.host, part.port) for part in DEFAULT.parts] == [("127.0.0.1", 9001)]


def test_a_text_or_a_list_is_a_script() -> None:
    """One fault is for all answers, a list is in order, a cycle starts over."""
    text = "providers: {a: {faults: reset}, b: {faults: [reset]}, c: {faults: {cycle: [reset, none]}}, d: {faults: {order: [reset]}}}"
    a, b, c, d = (part.faults for part in load_scenario(text).parts)
    assert (a, b, d) == (Always(ResetAfter()), InOrder((ResetAfter(),)), InOrder((ResetAfter(),)))
    assert c.repeat


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("providers: [", "not YAML"),
        ("[]", "scenario: "),
        ("providers: {}", "at least one"),
        ("provider: {}", "provider"),
        ("providers: {a: {prot: 1}}", r"providers\.a: .*prot"),
        ("providers: {a: 3}", r"providers\.a: "),
        ("providers: {a: {port: 70000}}", r"providers\.a\.port"),
        ("providers: {a: {models: []}}", r"providers\.a\.models"),
        ("providers: {a: {port: 9, host: h}, b: {port: 9, host: h}}", r"providers\.b\.port: 9 is the port of a"),
        ("providers: {a: {temper: fsat}}", 'no such preset "fsat", did you mean "fast"'),
        ("providers: {a: {temper: [fast]}}", r"providers\.a\.temper"),
        ("providers: {a: {temper: {tftt: 1s}}}", r"providers\.a\.temper: .*tftt"),
        ("providers: {a: {temper: {ttft: soon}}}", r"providers\.a\.temper\.ttft: .*soon"),
        ("providers: {a: {temper: {burst: 0}}}", r"providers\.a\.temper.*at least 1"),
        ("providers: {a: {temper: {burst: many}}}", r"providers\.a\.temper.*burst"),
        ("providers: {a: {faults: stal}}", r"providers\.a\.faults: no such fault"),
        ("providers: {a: {faults: {evry: {}}}}", 'did you mean "every"'),
        ("providers: {a: {faults: {every: {n: 0, fault: reset}}}}", "every: is"),
        ("providers: {a: {faults: {every: 3}}}", r"providers\.a\.faults"),
        ("providers: {a: {faults: {chance: {p: 2, fault: reset}}}}", "chance: is"),
        ("providers: {a: {changes: [{at: noon}]}}", r"providers\.a\.changes\[0\]\.at"),
        ("providers: {a: {changes: [{temper: slow}]}}", r"providers\.a: .*at"),
    ],
)
def test_mistakes_name_their_place(text: str, said: str) -> None:
    """Every mistake is a ScenarioError with the place in it."""
    with pytest.raises(ScenarioError, match=said):
        load_scenario(text)


async def test_run_announces_serves_changes_and_ends_clean() -> None:
    """Providers listen, change when it is time, and are gone when the run is cancelled."""
    changes = "[{at: 50ms, faults: status 503}, {at: 100ms, temper: slow, faults: none}]"
    text = f"providers: {{a: {{temper: instant, changes: {changes}}}, b: {{temper: instant}}}}"
    lines: list[str] = []
    over = asyncio.Event()

    def announce(line: str) -> None:
        lines.append(line)
        if "no faults" in line:
            over.set()

    before = asyncio.all_tasks()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(run_scenario(load_scenario(text), announce))
        async with asyncio.timeout(10):
            await over.wait()
        task.cancel()
    assert [line.split(":")[0] for line in lines] == ["a", "b", "a", "a"]
    assert lines[0].startswith("a: http://127.0.0.1:")
    assert "503" in lines[2]
    assert "slow" in lines[3]
    port = int(lines[0].rsplit(":", 1)[1].removesuffix("/v1"))
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", port)
    assert asyncio.all_tasks() <= before


async def test_a_port_in_use_is_an_error_and_leaves_nothing_listening(serve: Callable[..., Any]) -> None:
    """When one provider cannot listen the others are closed again."""
    taken = await serve()
    text = f"providers: {{a: {{temper: instant}}, b: {{port: {taken.port}}}}}"
    lines: list[str] = []
    with pytest.raises(OSError):
        await run_scenario(load_scenario(text), lines.append)
    assert len(lines) == 1
