"""What is asked of every SDK, and what is learned from each: words that no provider uses, so that one test can judge them all."""

import base64
from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct, field

SYSTEM = "Answer as the keeper of the weir."
TIMEOUT = 15.0
"""Seconds that any SDK waits for anything."""
TOOLS: Mapping[str, Mapping[str, Any]] = {
    "measure_flow": {
        "description": "Measure the flow of water at a place.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
    "read_gauge": {
        "description": "Read the gauge of a station.",
        "parameters": {
            "type": "object",
            "properties": {"station": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["station"],
        },
    },
}
PICTURE = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"metres": {"type": "number"}},
    "required": ["metres"],
    "additionalProperties": False,
}
Finish = Literal["stop", "length", "tools", "filtered", "other"]


class ToolCall(Struct, frozen=True):
    """A tool call as the SDK's user sees it; `id` is "" where the API has none."""

    id: str
    name: str
    arguments: dict[str, Any]


class Asked(Struct, frozen=True, kw_only=True):
    """One question. `reasoning`: the model is to think first, a little, and to show it; `picture`: with `PICTURE` in it, and `SCHEMA`
    for the answer; `calls`: what the assistant asked for before, each answered with `result`: a second turn."""

    url: str
    model: str
    text: str
    stream: bool
    tools: bool = False
    reasoning: bool = False
    picture: bool = False
    calls: tuple[ToolCall, ...] = ()
    result: str = ""
    max_tokens: int = 4000


class Outcome(Struct):
    """What an SDK made of an answer. `pieces` counts the events that held text, reasoning or arguments; `raised` is the class of the
    SDK's own error, "" when it raised none; `input` and `output` are tokens, None when the SDK was not told."""

    text: str = ""
    reasoning: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    finish: Finish | None = None
    input: int | None = None
    output: int | None = None
    pieces: int = 0
    raised: str = ""
    message: str = ""
    status: int | None = None

    def fail(self, error: Exception, status: int | None) -> None:
        """Note an error of the SDK's own, and the HTTP status that it names."""
        self.raised, self.message, self.status = type(error).__name__, str(error), status
