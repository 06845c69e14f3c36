"""YAML text -> a tree of plain mappings, lists and texts, and where in the file each of them stands.

Scalars stay text, whatever YAML 1.1 would make of them: `off` is not a boolean here, `on:` is a key and a model may be called
`4.10`. Fields know what they want and read it themselves. Aliases and merge keys work, within bounds.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from gateway.config.values import expand

Path = tuple[str | int, ...]
Tree = dict[str, "Tree"] | list["Tree"] | str | None

MAX_CHARACTERS = 1024 * 1024
MAX_DEPTH = 32
MAX_VALUES = 50_000
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TAGS = frozenset({"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:str"})
_QUOTED = re.compile(r""" ?(['"])(.*?)\1""")


@dataclass(frozen=True)
class Place:
    """Where something stands, counted from 1, and for a scalar its text as written, before any ${VAR} was filled in."""

    line: int
    col: int
    text: str | None = None


@dataclass(frozen=True)
class Finding:
    """Something wrong, by its path in the tree; `place` when the path alone cannot tell."""

    path: Path
    message: str
    place: Place


class UnreadableError(Exception):
    """The text is not YAML, or more of it than any configuration needs."""

    def __init__(self, message: str, place: Place) -> None:
        super().__init__(message)
        self.message = message
        self.place = place


@dataclass
class Source:
    """One text, read. Nothing is known about values at or under a `broken` path, so nothing more should be said about them."""

    tree: Tree = None
    keys: dict[Path, Place] = field(default_factory=dict)
    values: dict[Path, Place] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    broken: set[Path] = field(default_factory=set)

    def place(self, path: Path) -> Place:
        """Return where the value at `path` stands, or the innermost thing around it that exists."""
        while path not in self.values:
            path = path[:-1]
        return self.values[path]

    def key_place(self, path: Path) -> Place:
        return self.keys.get(path) or self.place(path)

    def told(self, path: Path) -> bool:
        """Say whether a problem at `path` follows from one that reading has already found."""
        return any(path[:length] in self.broken for length in range(len(path) + 1))


class _Composer(Reader, Scanner, Parser, Composer, BaseResolver):
    """PyYAML up to its nodes, without its guesses at types and with a floor to how deep it digs."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        BaseResolver.__init__(self)
        self._depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise UnreadableError(f"nested more than {MAX_DEPTH} levels deep", _place(parent) if parent else Place(1, 1))
        node: Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


def read(text: str, environ: Mapping[str, str]) -> Source:
    """Read one YAML document. Raises UnreadableError when there is no tree to speak of; smaller problems are in `Source.findings`."""
    if len(text) > MAX_CHARACTERS:
        raise UnreadableError(f"larger than {MAX_CHARACTERS} characters", Place(1, 1))
    try:
        root = _Composer(text).get_single_node()
    except ReaderError as error:
        before = text[: error.position]
        place = Place(before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise UnreadableError(f"not valid YAML: character U+{error.character:04X} is not allowed", place) from None
    except yaml.MarkedYAMLError as error:
        raise _not_yaml(error) from None
    except (
        ValueError,
        OverflowError,
        RecursionError,
    ) as error:  # PyYAML's own stumbles: an escape beyond Unicode, a version of 5,000 digits
        raise UnreadableError(f"not valid YAML: {type(error).__name__}", Place(1, 1)) from None
    if root is None:
        raise UnreadableError("the file is empty", Place(1, 1))
    if not isinstance(root, MappingNode):
        raise UnreadableError("must be a mapping with keys such as upstreams and routes", _place(root))
    builder = _Builder(environ)
    builder.source.tree = builder.build(root, ())
    return builder.source


def _not_yaml(error: yaml.MarkedYAMLError) -> UnreadableError:
    """Tell where and why; quoted words of the file are left out, since one of them may be a secret."""
    mark = error.problem_mark or error.context_mark
    why = _QUOTED.sub(_without_words, " ".join(part for part in (error.context, error.problem) if part))
    if mark and error.context_mark and error.context_mark.line < mark.line and why.startswith("while"):
        why += f" (begun on line {error.context_mark.line + 1})"
    return UnreadableError(f"not valid YAML: {why}", Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1))


def _without_words(quoted: re.Match[str]) -> str:
    return quoted[0] if len(quoted[2]) <= 2 or quoted[2].startswith("<") else ""


def _place(node: Node, text: str | None = None) -> Place:
    return Place(node.start_mark.line + 1, node.start_mark.column + 1, text)


class _Builder:
    """Walks the nodes once, aliases included as often as they are used, and remembers where everything stood."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.source = Source()
        self._environ = environ
        self._within: set[int] = set()
        self._count = 0

    def build(self, node: Node, path: Path) -> Tree:
        self._spend(node)
        if len(path) > MAX_DEPTH:
            raise UnreadableError(f"nested more than {MAX_DEPTH} levels deep once aliases are filled in", _place(node))
        self.source.values[path] = _place(node, node.value if isinstance(node, ScalarNode) else None)
        if node.tag not in _TAGS:
            return self._refuse(path, "YAML tags are not understood here", _place(node))
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        if id(node) in self._within:
            return self._refuse(path, "an alias stands inside what it stands for", _place(node))
        self._within.add(id(node))
        built: Tree = self._sequence(node, path) if isinstance(node, SequenceNode) else self._mapping(node, path)
        self._within.discard(id(node))
        return built

    def _spend(self, node: Node) -> None:
        self._count += 1
        if self._count > MAX_VALUES:
            raise UnreadableError(f"holds more than {MAX_VALUES} values once aliases are filled in", _place(node))

    def _refuse(self, path: Path, message: str, place: Place) -> Tree:
        """Note what is wrong, and return what stands in the tree for a value nobody knows."""
        self.source.findings.append(Finding(path, message, place))
        self.source.broken.add(path)
        return None

    def _scalar(self, node: ScalarNode, path: Path) -> Tree:
        if node.style is None and node.value in _NULLS:
            return None
        try:
            return expand(node.value, self._environ)
        except ValueError as error:
            return self._refuse(path, str(error), _place(node))

    def _sequence(self, node: SequenceNode, path: Path) -> list[Tree]:
        return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]

    def _mapping(self, node: Node, path: Path) -> dict[str, Tree]:
        """Build a mapping. What `<<` brings comes first, so that the mapping's own keys override it."""
        merged: dict[str, Tree] = {}
        own: dict[str, Tree] = {}
        for key, value in node.value:
            if _is_merge(key):
                merged = {**self._merged(value, path), **merged}
        for key, value in node.value:
            if _is_merge(key):
                continue
            if not isinstance(key, ScalarNode):
                self._refuse((*path, "?"), "a key must be text", _place(key))
                continue
            name, inner = key.value, (*path, key.value)
            if name in own:
                first = self.source.keys[inner]
                self.source.findings.append(Finding(inner, f"key '{name}' is already on line {first.line}", _place(key)))
                continue
            self.source.keys[inner] = _place(key)
            own[name] = self.build(value, inner)
        return {**merged, **own}

    def _merged(self, node: Node, path: Path) -> dict[str, Tree]:
        self._spend(node)
        if isinstance(node, SequenceNode):
            parts = [self._merged(item, path) for item in reversed(node.value)]
            return {name: value for part in parts for name, value in part.items()}
        if not isinstance(node, MappingNode) or id(node) in self._within:
            self.source.findings.append(Finding(path, "'<<' must be followed by an alias of a mapping, or a list of them", _place(node)))
            return {}
        self._within.add(id(node))
        built = self._mapping(node, path)
        self._within.discard(id(node))
        return built


def _is_merge(key: Node) -> bool:
    return isinstance(key, ScalarNode) and key.style is None and key.value == "<<"
