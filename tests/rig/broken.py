"""Streams that break off and streams that end well, frame by frame, and what of their text a client got."""

from typing import Any

import orjson

from gateway.sim.faults import Script
from gateway.sim.steps import Reset, Step
from tests.rig.makers import Makers


def text_of(body: bytes) -> str:
    """Return the text of an OpenAI stream, comments left out."""
    chunks = [orjson.loads(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: {")]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.get("choices", ()))


def dying(*pieces: bytes | float, last: Step | None = None) -> Script:
    """An OpenAI stream of these frames that breaks off: by a reset, which may overtake what is still on its way, or as `last` says."""
    return Makers.chunked(Makers.event(), *pieces, last or Reset())


def healthy(text: str) -> Script:
    """An OpenAI stream that says this and ends well."""
    return Makers.chunked(Makers.event(), Makers.event(text), Makers.event(finish="stop"), b"data: [DONE]\n\n")


def delta(**said: Any) -> bytes:
    """One chat chunk whose delta says this."""
    return b"data: %b\n\n" % orjson.dumps({"id": "x", "choices": [{"index": 0, "delta": said}]})
