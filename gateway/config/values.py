"""Values as people write them: `300ms`, `20MiB`, `5%`, `${VAR}`. Each is read to a number or a text, and can be written back."""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

DURATION_UNITS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600), "d": Decimal(86400)}
SIZE_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
# Bounded digits: no text may become infinity or cost more than a glance.
_NUMBER = r"([0-9]{1,12}(?:\.[0-9]{1,9})?)"
_DURATION = re.compile(_NUMBER + r"(ms|s|m|h|d)")
_SIZE = re.compile(_NUMBER + r"(B|[KMG]i?B)", re.IGNORECASE)
_PERCENTAGE = re.compile(_NUMBER + r"%")
_PERCENTILE = re.compile(r"p([0-9]{1,2}(?:\.[0-9]{1,3})?)")
_VARIABLE = re.compile(r"\$\$\{|\$\{([^}]*)\}|\$\{")
_VARIABLE_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


def read_duration(value: object) -> object:
    """Read `300ms 2s 5m 1h 7d` as seconds; a number (from Python, never from YAML) is seconds already."""
    if isinstance(value, int | float):
        return value
    if not isinstance(value, str) or not (found := _DURATION.fullmatch(value)):
        raise PydanticCustomError("duration", "must be a duration with its unit, such as 300ms, 2s, 5m or 7d")
    return float(Decimal(found[1]) * DURATION_UNITS[found[2]])


def show_duration(seconds: float) -> str:
    """Write seconds so that `read_duration` gives them back, in the largest unit that takes a whole number."""
    exact = Decimal(repr(seconds))
    for unit in ("d", "h", "m", "s", "ms"):
        count = exact / DURATION_UNITS[unit]
        if exact and count == count.to_integral_value():
            return f"{count:.0f}{unit}"
    return f"{exact.normalize():f}s"


def read_size(value: object) -> object:
    """Read `20MiB 64KiB 1GB 512B` as bytes; KB is 1000 and KiB 1024."""
    if isinstance(value, int | float):
        return value
    if not isinstance(value, str) or not (found := _SIZE.fullmatch(value)):
        raise PydanticCustomError("size", "must be a size with its unit, such as 20MiB, 64KiB or 1GB")
    return int(Decimal(found[1]) * SIZE_UNITS[found[2].lower()])


def show_size(count: int) -> str:
    """Write bytes so that `read_size` gives them back."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count and count % factor == 0:
            return f"{count // factor}{unit}"
    return f"{count}B"


def read_percentage(value: object) -> object:
    """Read `20%` as 0.2; a number (from Python) is a ratio already. From 0% to 100%."""
    if isinstance(value, str) and (found := _PERCENTAGE.fullmatch(value)):
        value = float(Decimal(found[1]) / 100)
    if not isinstance(value, int | float):
        raise PydanticCustomError("percentage", "must be a percentage, such as 20%")
    if not 0 <= value <= 1:
        raise PydanticCustomError("percentage", "must be between 0% and 100%")
    return value


def show_percentage(ratio: float) -> str:
    """Write a ratio so that `read_percentage` gives it back."""
    return f"{(Decimal(repr(ratio)) * 100).normalize():f}%"


def read_percentile(value: object) -> object:
    """Read `p95` as 0.95."""
    if isinstance(value, int | float) and 0 < value < 1:
        return value
    if isinstance(value, str) and (found := _PERCENTILE.fullmatch(value)) and Decimal(found[1]):
        return float(Decimal(found[1]) / 100)
    raise PydanticCustomError("percentile", "must be a percentile, such as p50, p95 or p99.9")


def expand(text: str, environ: Mapping[str, str]) -> str:
    """Put the environment in place of every `${VAR}` and `${VAR:-default}`; `$${` stands for `${` itself.

    As in a shell, the default is also taken when the variable is empty. Raises ValueError, whose message names the variable and
    never shows a value.
    """

    def value_of(found: re.Match[str]) -> str:
        if found[0] == "$${":
            return "${"
        if found[1] is None:
            raise ValueError("'${' is not closed by '}'; write '$${' for the characters themselves")
        if not (parts := _VARIABLE_NAME.fullmatch(found[1])):
            raise ValueError("'${...}' must hold the name of an environment variable, with ':-default' after it if wanted")
        name, default = parts[1], parts[2]
        given = environ.get(name)
        if default is not None:
            return given or default
        if given is None:
            raise ValueError(f"environment variable {name} is not set; set it, or give a default: ${{{name}:-...}}")
        return given

    return _VARIABLE.sub(value_of, text)


def only(*neutral: object, shown: str = "") -> BeforeValidator:
    """Accept the neutral values of a key that is not built yet, and say "not supported yet" to any other; the first is the result."""

    def check(value: object) -> object:
        if value in neutral:
            return neutral[0]
        raise PydanticCustomError("later", f"not supported yet; leave it out{f' or write {shown}' if shown else ''}")

    return BeforeValidator(check)


def choice(*planned: str) -> BeforeValidator:
    """Tell the planned values of a key, which are "not supported yet", from the ones nobody ever heard of."""

    def check(value: object) -> object:
        if value in planned:
            raise PydanticCustomError("later", f"'{value}' is not supported yet")
        return value

    return BeforeValidator(check)


def _printable(value: str) -> str:
    if not value or not value.isprintable():
        raise PydanticCustomError("text", "must be text without line breaks or control characters, and not empty")
    return value


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value):
        raise PydanticCustomError("name", "must be letters, digits, '.', '_' and '-', at most 64 of them")
    return value


def _objective(value: float) -> float:
    if not 0 < value < 1:
        raise PydanticCustomError("percentage", "must be more than 0% and less than 100%")
    return value


def _unless_empty(value: object) -> object:
    return None if value == "" else value


def _written(pattern: re.Pattern[str], title: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "title": title, "pattern": rf"^({pattern.pattern})$|\$\{{"})


Duration = Annotated[float, BeforeValidator(read_duration), _written(_DURATION, "duration")]
Size = Annotated[int, BeforeValidator(read_size), _written(re.compile(_NUMBER + "(B|KB|MB|GB|KiB|MiB|GiB)"), "size")]
Percentage = Annotated[float, BeforeValidator(read_percentage), _written(_PERCENTAGE, "percentage")]
Objective = Annotated[Percentage, AfterValidator(_objective)]
Percentile = Annotated[float, BeforeValidator(read_percentile), _written(_PERCENTILE, "percentile")]
Text = Annotated[str, AfterValidator(_printable)]
Name = Annotated[str, AfterValidator(_name)]
EmptyIsNone = BeforeValidator(_unless_empty)

SHOW: dict[str, Callable[[Any], str]] = {
    "duration": show_duration,
    "size": show_size,
    "percentage": show_percentage,
    "percentile": lambda ratio: f"p{show_percentage(ratio)[:-1]}",
}
"""How a value is written, by the title its type has in the JSON Schema."""
