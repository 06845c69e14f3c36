"""From a file to a Config, or to every problem in it at once."""

import codecs
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path as FilePath

from pydantic import ConfigDict, ValidationError

from gateway.config.base import Part, Reading
from gateway.config.model import Admin, Config, Server
from gateway.config.problems import ConfigErrors, Problem, dotted, explain, nearest
from gateway.config.source import Finding, Path, Place, Source, Tree, UnreadableError, read

_COMMAND_LINE = "command line"
_NOWHERE = Place(0, 0)


class _AdminAlone(Part):
    """The one part of a configuration that who only looks has to know."""

    model_config = ConfigDict(extra="ignore")

    admin: Admin = Admin()


def load(path: str | FilePath, environ: Mapping[str, str] = os.environ) -> Config:
    """Read a file. Raises ConfigErrors with all that is wrong, an unreadable file included."""
    return parse(_text(path), str(path), environ)


def load_admin(path: str | FilePath, environ: Mapping[str, str] = os.environ) -> Admin:
    """Read the admin part of a file, whatever the rest is worth: who only looks has no upstream's key in the environment.

    Raises ConfigErrors.
    """
    file = str(path)
    try:
        source = read(_text(path), environ)
    except UnreadableError as error:
        raise ConfigErrors([Problem(file, error.place.line, error.place.col, "", error.message)]) from None
    found = [finding for finding in source.findings if finding.path[:1] == ("admin",)]
    try:
        alone = _AdminAlone.model_validate(source.tree, context=Reading(FilePath(file).parent))
    except ValidationError as error:
        found += explain(error, source)
    if found:
        raise ConfigErrors(_once(Problem(file, f.place.line, f.place.col, dotted(f.path), f.message) for f in found))
    return alone.admin


def _text(path: str | FilePath) -> str:
    file = str(path)
    try:
        content = FilePath(path).read_bytes()
    except OSError as error:
        raise ConfigErrors([Problem(file, 1, 1, "", f"cannot be read: {error.strerror}")]) from None
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        before = content[: error.start].decode()
        line, col = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise ConfigErrors([Problem(file, line, col, "", "is not UTF-8 text")]) from None


def parse(text: str, file: str = "routes.yaml", environ: Mapping[str, str] = os.environ) -> Config:
    """Read a text; `file` is what problems call it, and paths in it are relative to its folder. Raises ConfigErrors."""
    try:
        source = read(text, environ)
    except UnreadableError as error:
        raise ConfigErrors([Problem(file, error.place.line, error.place.col, "", error.message)]) from None
    found = [*source.findings, *_references(source)]
    try:
        config = Config.model_validate(source.tree, context=Reading(FilePath(file).parent))
    except ValidationError as error:
        found += explain(error, source)
    else:
        found += _listeners(config, source)
    if found:
        raise ConfigErrors(_once(Problem(file, f.place.line, f.place.col, dotted(f.path), f.message) for f in found))
    return config


def _once(problems: Iterable[Problem]) -> Iterable[Problem]:
    """Tell a problem in an aliased part once, not once per use."""
    return {(p.line, p.col, p.path.rpartition(".")[2], p.message): p for p in sorted(problems, reverse=True)}.values()


def override(
    config: Config, *, host: str | None = None, port: int | None = None, admin_port: int | None = None, workers: int | str | None = None
) -> Config:
    """Return the configuration with what the command line said; it is checked as the file was. Raises ConfigErrors."""
    server = {name: value for name, value in (("host", host), ("port", port), ("workers", workers)) if value is not None}
    admin = {} if admin_port is None else {"port": admin_port}
    problems: list[Problem] = []
    changed: dict[str, Server | Admin] = {}
    for name, model, part, new in (("server", Server, config.server, server), ("admin", Admin, config.admin, admin)):
        try:
            changed[name] = model.model_validate({**part.model_dump(), **new})
        except ValidationError as error:
            given = Source(values={(): _NOWHERE, **{(key,): Place(0, 0, str(value)) for key, value in new.items()}})
            problems += [Problem(_COMMAND_LINE, 0, 0, dotted((name, *f.path)), f.message) for f in explain(error, given)]
    config = config.model_copy(update=changed)
    problems += [Problem(_COMMAND_LINE, 0, 0, dotted(f.path), f.message) for f in _listeners(config, Source(values={(): _NOWHERE}))]
    if problems:
        raise ConfigErrors(problems)
    return config


def _listeners(config: Config, source: Source) -> Iterator[Finding]:
    """Check that both listeners can be bound at once."""
    path = ("admin", "port")
    hosts = {config.server.host, config.admin.host}
    if config.server.port and config.server.port == config.admin.port and (len(hosts) == 1 or hosts & {"0.0.0.0", "::"}):  # noqa: S104
        yield Finding(path, "is the server's port already", source.place(path))


def _references(source: Source) -> Iterator[Finding]:
    """Check what no part can check alone: that names are unique, and that what is referred to exists.

    Texts are quoted as written, not as filled in: a variable may hold anything.
    """
    tree = source.tree
    assert isinstance(tree, dict)
    for name, meaning in (("upstreams", "upstream"), ("routes", "route")):
        if not tree.get(name) and not source.told((name,)):
            yield Finding((name,), f"at least one {meaning} is needed", source.place((name,)))
    upstreams = tree.get("upstreams")
    known = list(upstreams) if isinstance(upstreams, dict) else []
    seen: dict[str, int] = {}
    for path, name in _texts(tree, "routes", "name"):
        place = source.place(path)
        if name in seen:
            yield Finding(path, f"route '{place.text}' is already on line {seen[name]}", place)
        seen.setdefault(name, place.line)
    for path, name in _texts(tree, "routes", "targets", "upstream"):
        if name not in known and known:
            place = source.place(path)
            yield Finding(
                path, f"no upstream is called '{place.text}'" + (nearest(name, known) or f"; there are {', '.join(known)}"), place
            )


def _texts(tree: Tree, *names: str) -> Iterator[tuple[Path, str]]:
    """Yield every text under these keys with its path, going into each item of a list."""
    if isinstance(tree, list):
        for index, item in enumerate(tree):
            for path, text in _texts(item, *names):
                yield (index, *path), text
    elif isinstance(tree, dict) and names:
        for path, text in _texts(tree.get(names[0]), *names[1:]):
            yield (names[0], *path), text
    elif isinstance(tree, str) and not names:
        yield (), tree
