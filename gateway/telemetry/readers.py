"""Who reads along with which running stream: a worker tells what a stream says only as long as somebody does."""

from collections.abc import Mapping
from typing import Protocol

from gateway.core.messages import Spoke
from gateway.telemetry.feed import Feed
from gateway.telemetry.live import Live


class Reader(Protocol):
    """Somebody who reads along. What it is told it must take at once."""

    def spoke(self, piece: Spoke) -> None: ...
    def over(self) -> None: ...


class Readers:
    """Over the registry of live streams, and the ways to their workers by slot."""

    def __init__(self, live: Live, feeds: Mapping[int, Feed]) -> None:
        self._live, self._feeds = live, feeds
        self._of: dict[str, set[Reader]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._of.values()))

    def join(self, stream_id: str, reader: Reader) -> None:
        """Let somebody read a live stream from its beginning; who reads it already is told all of it again, and knows by `Spoke.at`."""
        self._of.setdefault(stream_id, set()).add(reader)
        self._ask(stream_id, True)

    def leave(self, stream_id: str, reader: Reader) -> None:
        """Tell nobody any more; twice is once."""
        readers = self._of.get(stream_id, set())
        readers.discard(reader)
        if not readers and self._of.pop(stream_id, None) is not None:
            self._ask(stream_id, False)

    def spoke(self, piece: Spoke, _: int) -> None:
        for reader in self._of.get(piece.stream_id, ()):
            reader.spoke(piece)

    def ended(self, stream_id: str) -> None:
        """Say that a stream is over."""
        for reader in self._of.pop(stream_id, ()):
            reader.over()

    def _ask(self, stream_id: str, on: bool) -> None:
        stream = self._live.streams.get(stream_id)
        if stream is not None and (feed := self._feeds.get(stream.slot)) is not None:
            feed.follow(stream_id, on)
