"""Where a running gateway's configuration comes from: when to read the file again, and whether what it says can be taken on."""

import os
from collections.abc import Iterator
from typing import Any

from gateway.config import Config, ConfigErrors, load, override
from gateway.control import LONGEST_PROBLEM, MOST_PROBLEMS, Outcome
from gateway.logs import blunder

SETTLE = 0.05
"""Seconds between a request and the reload, so that several in a burst are one."""
LOOK_EVERY = 0.5
FIXED = (
    *("server.host", "server.port", "server.workers", "server.tls", "admin.host", "admin.port", "state"),
    *("telemetry.otlp", "telemetry.store", "telemetry.access_log", "telemetry.digest"),
)
"""Keys, or parents of keys, that are acted on once, at the start: sockets are bound, processes forked, files and exporters opened."""

Look = tuple[int, int, int, int]


class Source:
    """A file, and what the command line says instead of it. It is looked at through links, as mounted ConfigMaps are swapped by one.

    Make it before the file is read for the first time: a change in between is then noticed.
    """

    def __init__(self, file: str, overrides: dict[str, Any] | None = None) -> None:
        self.file, self._overrides = file, overrides or {}
        self._read = self._last = self._look()

    def read(self) -> Config:
        """Read the file; raises ConfigErrors."""
        self._read = self._last = self._look()
        return override(load(self.file), **self._overrides)

    def changed(self) -> bool:
        """Return whether the file is another than was read, and the same as at the last look: nobody is still writing it."""
        last, self._last = self._last, self._look()
        return self._last is not None and self._last == last and self._last != self._read

    def _look(self) -> Look | None:
        try:
            found = os.stat(self.file)  # noqa: PTH116  one system call, links followed
        except OSError:
            return None  # between two versions, or gone: what runs goes on
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


class Reloads:
    """Decides when the file is read again, and holds the configuration that every new child begins with."""

    def __init__(self, config: Config, source: Source | None) -> None:
        self.config = config
        self._source = source
        self._asked = 0
        self._due: float | None = None
        self._look_at = 0.0

    def ask(self, now: float, number: int = 0) -> None:
        """Somebody wants a reload; `number` is the recorder's, for its answer."""
        self._asked = max(self._asked, number)
        self._due = self._due or now + SETTLE

    def due(self, now: float) -> bool:
        """Return whether to reload now: because it was asked for, or because the file has changed."""
        if self._source is not None and now >= self._look_at:
            self._look_at = now + LOOK_EVERY
            if self._source.changed():
                self._due = now
        return self._due is not None and now >= self._due

    def wake_at(self, now: float) -> float:
        """Return when to look again."""
        return min(self._due or float("inf"), now + LOOK_EVERY)

    def reload(self) -> Outcome:
        """Read the file and take it on, whole or not at all."""
        asked, self._asked, self._due = self._asked, 0, None
        if self._source is None:
            return self._refused(asked, ("there is no file to reload: this gateway was started without one",), possible=False)
        try:
            config = self._source.read()
        except ConfigErrors as errors:
            return self._refused(asked, tuple(str(errors).splitlines()))
        except Exception as error:  # noqa: BLE001  whatever a file makes the readers stumble over, what runs goes on
            return self._refused(asked, (f"{self._source.file}: could not be read: {blunder(error)}",))
        if fixed := list(cannot_change(self.config, config)):
            keys = ", ".join(fixed)
            return self._refused(asked, (f"{self._source.file}: cannot be changed while running: {keys}; restart Weir for it",))
        changed, self.config = config != self.config, config
        return Outcome(asked, config.hash, changed)

    def _refused(self, asked: int, problems: tuple[str, ...], *, possible: bool = True) -> Outcome:
        told = tuple(problem.encode("utf-8", "replace")[:LONGEST_PROBLEM].decode("utf-8", "ignore") for problem in problems[:MOST_PROBLEMS])
        return Outcome(asked, self.config.hash, problems=told, possible=possible)


def cannot_change(old: Config, new: Config) -> Iterator[str]:
    """Yield the keys that differ although they are acted on at the start only. Their names: values may be secrets."""
    for key in FIXED:
        before, after = old, new
        for name in key.split("."):
            before, after = getattr(before, name), getattr(after, name)
        yield from _different(key, before, after)


def _different(key: str, before: Any, after: Any) -> Iterator[str]:
    if before == after:
        return
    fields = getattr(type(before), "model_fields", None)
    if fields is None or type(before) is not type(after):
        yield key
        return
    for name in fields:
        yield from _different(f"{key}.{name}", getattr(before, name), getattr(after, name))
