"""The words of streams in the store: a table of their own, whose rows go when their streams' do. Keys are struck out first."""

import sqlite3
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress

import msgspec
import orjson

from gateway.core.blobs import lightened
from gateway.core.content import Content
from gateway.core.messages import Said
from gateway.telemetry.parcels import Unpacking
from gateway.telemetry.redaction import redacted

SELECT = "SELECT content FROM contents WHERE stream_id = ?"
_INSERT = "INSERT OR REPLACE INTO contents SELECT ?1, ?2 WHERE EXISTS (SELECT 1 FROM streams WHERE stream_id = ?1)"
WAITING = 32 * 1024 * 1024
"""Bytes of words that may wait for the store's thread."""
_DECODER = msgspec.msgpack.Decoder(Content)


class Room:
    """Counts the bytes of what waits: taken in the loop, given back in the store's thread."""

    def __init__(self, size: int = WAITING) -> None:
        self._left = size
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        with self._lock:
            fits = size <= self._left
            self._left -= size if fits else 0
        return fits

    def give(self, size: int) -> None:
        with self._lock:
            self._left += size


class Contents:
    """Puts together what workers say in parts; `keep` takes a whole to the store, and says whether there was room for it."""

    def __init__(self, keep: Callable[[Said], bool], lost: Callable[[str, int], None]) -> None:
        self._keep, self._lost = keep, lost
        self._unpacking = Unpacking(lost)

    def said(self, message: Said, slot: int) -> None:
        """Take a message of a slot's worker."""
        whole = self._unpacking.take(message, slot)
        if whole is not None and not self._keep(whole):
            self._lost("said", 1)


def write(transaction: sqlite3.Connection, rows: list[tuple[str, bytes]]) -> None:
    """Keep packed words with streams that are stored; those of others are nobody's, and would never go."""
    if rows:
        transaction.executemany(_INSERT, rows)


def rows(said: list[Said]) -> list[tuple[str, bytes]]:
    """Return the rows of these words; what cannot be read is left out."""
    found = []
    for one in said:
        with suppress(msgspec.MsgspecError):
            found.append((one.stream_id, packed(one)))
    return found


def packed(said: Said) -> bytes:
    """Return the words of a stream as they are kept: JSON without keys, compressed. Raises msgspec.MsgspecError for what are none."""
    content = _DECODER.decode(said.data)
    text, places = redacted(content.text, [*content.cuts, *content.seams])
    tools = [{"id": tool.id, "name": redacted(tool.name)[0], "arguments": redacted(tool.arguments)[0]} for tool in content.tools]
    kept = {
        "prompt": _prompt(content),
        "prompt_cut": content.prompt_cut,
        "text": text,
        "reasoning": redacted(content.reasoning)[0],
        "refusal": redacted(content.refusal)[0],
        "tools": tools,
        "cuts": places[: len(content.cuts)],
        "seams": places[len(content.cuts) :],
        "cut": content.cut,
    }
    return zlib.compress(orjson.dumps(kept), 6)


def unpacked(kept: bytes) -> bytes:
    """Return the JSON that `packed` has kept."""
    return zlib.decompress(kept)


def _prompt(content: Content) -> orjson.Fragment | str:
    """Return the request's body as it came, but for pictures and keys; as a text when it is no JSON, or no longer since it was cut."""
    text, _ = redacted(lightened(content.prompt).decode("utf-8", "replace"))
    if content.prompt_cut:
        return text
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return orjson.Fragment(text)
