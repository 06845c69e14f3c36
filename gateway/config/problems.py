"""What is wrong with a configuration, said so that the one who wrote it can put it right: where, which key, and what was meant."""

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gateway.config.schema import keys_beside
from gateway.config.source import Finding, Path, Source

_SECRET_KEYS = frozenset({"api_key", "token", "headers"})
_MAPPING = "must be a mapping of keys to values"
_LIST = "must be a list, such as [a, b]"

# By pydantic's type of error: what we say. `{got}` is the text in the file; never put it where a secret may stand.
_MESSAGES = {
    "missing": "required",
    "duration": "{msg}{got}",
    "size": "{msg}{got}",
    "percentage": "{msg}{got}",
    "percentile": "{msg}{got}",
    "name": "{msg}{got}",
    "version": "{msg}{got}",
    "int_parsing": "must be a whole number{got}",
    "int_parsing_size": "must be a smaller number",
    "float_parsing": "must be a number{got}",
    "bool_parsing": "must be true or false{got}",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "finite_number": "must be a finite number",
    "greater_than": "must be more than {gt:g}{got}",
    "greater_than_equal": "must be at least {ge:g}{got}",
    "less_than": "must be less than {lt:g}{got}",
    "less_than_equal": "must be at most {le:g}{got}",
    "too_short": "must hold at least one",
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    "dict_type": _MAPPING,
    "tuple_type": _LIST,
    "frozen_set_type": _LIST,
}


@dataclass(frozen=True, order=True)
class Problem:
    """One thing wrong: `path` is like `routes[0].targets[1].upstream`, empty for the whole file.

    `line` and `col` count from 1; both are 0 for what is not in a file.
    """

    file: str
    line: int
    col: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.col}" if self.line else self.file
        return f"{where}: {self.path}: {self.message}" if self.path else f"{where}: {self.message}"


class ConfigErrors(Exception):
    """Everything wrong with a configuration, in the order of the file. Its text is one problem a line."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(set(problems))
        super().__init__("\n".join(map(str, self.problems)))


def dotted(path: Path) -> str:
    """Write a path as people do: `routes[0].match.models[1]`."""
    written = "".join(f"[{step}]" if isinstance(step, int) else f".{_plain(step)}" for step in path)
    return written.removeprefix(".")


def _plain(step: str) -> str:
    return step if step.isprintable() and step else repr(step)


def nearest(word: str, known: Iterable[str]) -> str:
    """Suggest the known word most like `word`; empty when none is."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f", did you mean '{close[0]}'?" if close else ""


def unknown_key(path: Path) -> str:
    name, known = str(path[-1]), keys_beside(path)
    return f"unknown key '{_plain(name)}'" + (nearest(name, known) or f"; known here: {', '.join(known)}")


def explain(error: ValidationError, source: Source) -> Iterator[Finding]:
    """Turn what pydantic found into our words and places."""
    for detail in error.errors(include_url=False, include_input=False):
        path, on_key = _path(detail, source)
        if source.told(path[:-1] if on_key else path):
            continue
        if detail["type"] == "too_short" and (*path, 0) in source.values:
            continue  # pydantic does not count the items that are wrong
        place = source.key_place(path) if on_key else source.place(path)
        yield Finding(path, _message(detail, path, source), place)


def _path(detail: ErrorDetails, source: Source) -> tuple[Path, bool]:
    """Return the path in the file, without pydantic's own steps ("[key]", names of alternatives), and whether the key is meant."""
    path: Path = ()
    for step in detail["loc"]:
        if (*path, step) in source.values:
            path = (*path, step)
    if detail["type"] == "missing":
        path = (*path, detail["loc"][-1])
    return path, detail["type"] == "extra_forbidden" or detail["loc"][-1:] == ("[key]",)


def _message(detail: ErrorDetails, path: Path, source: Source) -> str:
    got = _got(path, source)
    if detail["type"] == "extra_forbidden":
        return unknown_key(path)
    if detail["type"] == "literal_error":
        words = re.findall(r"'([^']*)'", detail["ctx"]["expected"])
        return f"must be {_either(words)}{got}" + (nearest(source.place(path).text or "", words) if got else "")
    template = _MESSAGES.get(detail["type"], "{msg}")
    return template.format(msg=detail["msg"], got=got, **detail.get("ctx", {}))


def _either(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _got(path: Path, source: Source) -> str:
    """Quote the text in the file, as written and not as filled in, unless a secret may stand there."""
    text = source.place(path).text
    if text is None or path not in source.values or not _SECRET_KEYS.isdisjoint(path):
        return ""
    return f", not {text if len(text) <= 60 else text[:60] + '...'!r}"
