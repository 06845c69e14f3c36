"""Several providers and their changes over time, from YAML: what `weir sim` serves."""

import asyncio
import difflib
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar

import msgspec
import yaml
from msgspec import UNSET, Struct, UnsetType, field

from gateway.sim.faults import NO_FAULTS, Always, ByModel, Chance, Every, FaultScript, FirstOf, InOrder, fault_from
from gateway.sim.provider import Provider
from gateway.sim.tempers import PRESETS, STEADY, Temper, quantity

T = TypeVar("T")


class ScenarioError(ValueError):
    """A scenario that cannot be played; the message names the place and what is allowed there."""


class Change(Struct, frozen=True):
    """At `at` seconds from the start a provider gets another temper, another script, or both; None leaves it as it is."""

    at: float
    temper: Temper | None = None
    faults: FaultScript | None = None


class Part(Struct, frozen=True, kw_only=True):
    """One provider of a scenario. With `repeat` seconds its changes start over after so long."""

    name: str
    host: str = "127.0.0.1"
    port: int = 0
    seed: int = 0
    models: tuple[str, ...] = ("sim-small", "sim-large")
    temper: Temper = STEADY
    faults: FaultScript = NO_FAULTS
    changes: tuple[Change, ...] = ()
    repeat: float | None = None


class Scenario(Struct, frozen=True):
    """Every provider to start."""

    parts: tuple[Part, ...]


DEFAULT = Scenario((Part(name="sim", port=9001),))


class _WrittenChange(Struct, forbid_unknown_fields=True):
    at: str | float
    temper: Any = None
    faults: Any = None


class _WrittenPart(Struct, forbid_unknown_fields=True):
    host: str = "127.0.0.1"
    port: int = 0
    seed: int = 0
    models: tuple[str, ...] = ("sim-small", "sim-large")
    temper: Any = "steady"
    faults: Any = None
    changes: list[_WrittenChange] = field(default_factory=list)
    repeat: str | float | None = None


class _WrittenTemper(Struct, forbid_unknown_fields=True):
    like: str = "steady"
    ttft: str | float | UnsetType = UNSET
    gap: str | float | UnsetType = UNSET
    tokens: str | float | UnsetType = UNSET
    headers: str | float | UnsetType = UNSET
    role_delay: str | float | UnsetType = UNSET
    reasoning: str | float | UnsetType = UNSET
    queueing: str | float | UnsetType = UNSET
    cached: str | float | UnsetType = UNSET
    tokens_per_chunk: int | UnsetType = UNSET
    burst: int | UnsetType = UNSET
    speech: Literal["words", "multibyte", "tool", "tools"] | UnsetType = UNSET


class _WrittenScenario(Struct, forbid_unknown_fields=True):
    providers: dict[str, Any]


def load_scenario(text: str) -> Scenario:
    """Return the scenario that a YAML text describes. Raises ScenarioError."""
    try:
        written = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ScenarioError(f"not YAML: {' '.join(str(error).split())}") from None
    if written is None:
        return DEFAULT
    names = _convert(written, _WrittenScenario, "").providers
    if not names:
        raise ScenarioError("providers: at least one is needed")
    parts = tuple(_part(name, value or {}) for name, value in names.items())
    _claim_ports(parts)
    return Scenario(parts)


def _claim_ports(parts: Iterable[Part]) -> None:
    owners: dict[tuple[str, int], str] = {}
    for part in parts:
        if part.port and (other := owners.setdefault((part.host, part.port), part.name)) != part.name:
            raise ScenarioError(f"providers.{part.name}.port: {part.port} is the port of {other} already")


def _part(name: str, value: Any) -> Part:
    place = f"providers.{name}"
    written = _convert(value, _WrittenPart, place)
    if not 0 <= written.port <= 65535:
        raise ScenarioError(f"{place}.port: {written.port} is no port")
    if not written.models:
        raise ScenarioError(f"{place}.models: at least one is needed")
    return Part(
        name=name,
        host=written.host,
        port=written.port,
        seed=written.seed,
        models=written.models,
        temper=_temper(written.temper, f"{place}.temper"),
        faults=_script(written.faults, f"{place}.faults"),
        changes=tuple(sorted((_change(c, f"{place}.changes[{i}]") for i, c in enumerate(written.changes)), key=lambda c: c.at)),
        repeat=None if written.repeat is None else _seconds(written.repeat, f"{place}.repeat"),
    )


def _change(written: _WrittenChange, place: str) -> Change:
    return Change(
        at=_seconds(written.at, f"{place}.at"),
        temper=None if written.temper is None else _temper(written.temper, f"{place}.temper"),
        faults=None if written.faults is None else _script(written.faults, f"{place}.faults"),
    )


def _temper(value: Any, place: str) -> Temper:
    """A preset's name, or fields of a temper on top of a preset's (`like`)."""
    written = _convert({"like": value} if isinstance(value, str) else value, _WrittenTemper, place)
    if written.like not in PRESETS:
        raise ScenarioError(f'{place}: no such preset "{written.like}"{_hint(written.like, PRESETS)}')
    fields = {name: item for name, item in msgspec.structs.asdict(written).items() if name != "like" and item is not UNSET}
    try:
        return msgspec.structs.replace(PRESETS[written.like], **fields)
    except ValueError as error:
        raise ScenarioError(f"{place}.{error}") from None


def _script(value: Any, place: str) -> FaultScript:
    """A fault for all, a list in order, or one of the rules of `SCRIPTS`; several rules at once: the first that strikes decides."""
    try:
        if value is None:
            return NO_FAULTS
        if isinstance(value, list):
            return InOrder(tuple(map(fault_from, value)))
        if isinstance(value, Mapping) and "kind" not in value:
            return _rules(value)
        return Always(fault_from(value))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ScenarioError(f"{place}: {error}") from None


def _rules(value: Mapping[str, Any]) -> FaultScript:
    for rule in value:
        if rule not in SCRIPTS:
            raise ValueError(f'no such rule "{rule}"{_hint(rule, SCRIPTS)}')
    scripts = tuple(SCRIPTS[rule](item) for rule, item in value.items())
    return scripts[0] if len(scripts) == 1 else FirstOf(scripts)


def _every(item: Mapping[str, Any]) -> FaultScript:
    if not isinstance(item.get("n"), int) or item["n"] < 1 or item.keys() - {"n", "fault"}:
        raise ValueError("every: is {n: 10, fault: stall 3 2s}")
    return Every(item["n"], fault_from(item["fault"]))


def _chance(item: Mapping[str, Any]) -> FaultScript:
    if not isinstance(item.get("p"), int | float) or not 0 <= item["p"] <= 1 or item.keys() - {"p", "fault"}:
        raise ValueError("chance: is {p: 0.05, fault: reset 3}")
    return Chance(float(item["p"]), fault_from(item["fault"]))


SCRIPTS: dict[str, Callable[[Any], FaultScript]] = {
    "always": lambda item: Always(fault_from(item)),
    "order": lambda item: InOrder(tuple(map(fault_from, item))),
    "cycle": lambda item: InOrder(tuple(map(fault_from, item)), repeat=True),
    "every": _every,
    "chance": _chance,
    "models": lambda item: ByModel({glob: fault_from(fault) for glob, fault in item.items()}),
}


def _seconds(value: str | float, place: str) -> float:
    try:
        return float(quantity(value)) if isinstance(value, str) else float(value)
    except ValueError as error:
        raise ScenarioError(f"{place}: {error}") from None


def _convert(value: Any, shape: type[T], place: str) -> T:
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        raise ScenarioError(f"{place or 'scenario'}: {error}") from None


def _hint(name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f', did you mean "{near[0]}"?' if near else f": there are {', '.join(names)}"


async def run_scenario(scenario: Scenario = DEFAULT, announce: Callable[[str], None] = print) -> None:
    """Serve until cancelled; `announce` gets one line for each provider that listens and for each change. Raises OSError."""
    providers = [Provider(part.temper, part.faults, part.seed, part.models, part.name) for part in scenario.parts]
    try:
        for provider, part in zip(providers, scenario.parts, strict=True):
            await provider.start(part.host, part.port)
            announce(f"{part.name}: {provider.base_url}")
        async with asyncio.TaskGroup() as group:
            for provider, part in zip(providers, scenario.parts, strict=True):
                group.create_task(_change_over_time(provider, part, announce))
            await asyncio.Event().wait()
    finally:
        for provider in providers:
            await provider.close()


async def _change_over_time(provider: Provider, part: Part, announce: Callable[[str], None]) -> None:
    began = time.monotonic()
    while part.changes:
        for change in part.changes:
            await asyncio.sleep(max(0.0, began + change.at - time.monotonic()))
            _apply(provider, change)
            announce(f"{part.name}: {change.at:g} s: {_told(change)}")
        if part.repeat is None:
            return
        began += part.repeat


def _apply(provider: Provider, change: Change) -> None:
    if change.temper is not None:
        provider.temper = change.temper
    if change.faults is not None:
        provider.faults = change.faults


def _told(change: Change) -> str:
    """Say a change in a few words."""
    words = []
    if change.temper is not None:
        preset = next((name for name, temper in PRESETS.items() if temper == change.temper), "changed")
        words.append(f"temper {preset}")
    if change.faults is not None:
        words.append("no faults" if change.faults == NO_FAULTS else f"faults {change.faults}")
    return ", ".join(words) or "nothing"
