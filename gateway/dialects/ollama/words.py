"""What reader, prompt and writer of the Ollama dialect share: its words for why an answer ended, and JSON on one line."""

from collections.abc import Mapping
from typing import Any

from gateway.core.events import Finished, Meaning
from gateway.dialects import lenient

_MEANINGS: Mapping[str, Meaning] = {"stop": "stop", "length": "length", "content_filter": "filtered"}
_REASONS: Mapping[Meaning, str] = {"stop": "stop", "tools": "stop", "length": "length", "filtered": "content_filter"}
_BREAKS = ((b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"), (b"\xc2\x85", b"\\u0085"))


def meaning(reason: str, called: bool) -> Meaning:
    """Say what a `done_reason` means to everybody: an answer that calls tools says "stop" too; "load" and "unload" are no answers."""
    said = _MEANINGS.get(reason, "other")
    return "tools" if called and said == "stop" else said


def done_reason(finished: Finished | None) -> str:
    """Return the word for an ending; Ollama has none for what was withheld, so it gets the one that others know."""
    if finished is None:
        return "stop"
    return _REASONS.get(finished.meaning, finished.reason)


def encode(said: Any) -> bytes:
    """Write JSON on one line, lone surrogates and integers beyond 64 bits included."""
    return on_one_line(lenient.encode(said))


def on_one_line(document: bytes) -> bytes:
    """Escape what ends a line to Unicode: httpx, with which ollama-python reads its lines, cuts there. Go escapes the first two as well."""
    for character, escape in _BREAKS:
        if character in document:
            document = document.replace(character, escape)
    return document


def whole(said: Any) -> int | None:
    """Return an integer of 64 bits; Go's JSON has one kind of number, so its clients may send 7.0."""
    return lenient.whole(int(said) if type(said) is float and said.is_integer() else said)
