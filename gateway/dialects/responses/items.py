"""What a response is made of: the items of its output, and the response around them as each of its events repeats it."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from gateway.core.call import Call
from gateway.core.events import Kind, Meaning, Usage
from gateway.dialects.base import Stamp
from gateway.dialects.lenient import clipped, count, encodable, text

ENDINGS: Mapping[Meaning, tuple[str, str | None]] = {
    "stop": ("completed", None),
    "tools": ("completed", None),
    "length": ("incomplete", "max_output_tokens"),
    "filtered": ("incomplete", "content_filter"),
    "other": ("completed", None),
}
"""The status and the reason for it."""


ERRORS = frozenset({"rate_limit_exceeded", "invalid_prompt"})
"""Codes of a failed response that others may give too; clients that check know no code but OpenAI's own."""


class Part(Struct):
    """Text of one kind as it came, piece by piece: the events that end a part repeat it whole."""

    kind: Kind
    pieces: list[str]

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def document(self, text: str) -> dict[str, Any]:
        if self.kind == "refusal":
            return {"type": "refusal", "refusal": text}
        if self.kind == "reasoning":
            return {"type": "summary_text", "text": text}
        return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


class Spoken(Struct):
    """An item of text: a message with text and refusals, each a part of its own, or reasoning.

    Reasoning is said as a summary: the only form of it that OpenAI's own server streams, and so the one that clients show.
    """

    id: str
    index: int
    thinks: bool
    parts: list[Part]
    done: bool = False

    @property
    def place(self) -> dict[str, Any]:
        """Where the part spoken last is."""
        member = "summary_index" if self.thinks else "content_index"
        return {"item_id": self.id, "output_index": self.index, member: len(self.parts) - 1}

    def document(self, status: str) -> dict[str, Any]:
        parts = [part.document(part.text) for part in self.parts]
        if self.thinks:
            return {"id": self.id, "type": "reasoning", "status": status, "summary": parts}
        return {"id": self.id, "type": "message", "status": status, "content": parts, "role": "assistant"}


class FunctionCall(Struct):
    """A tool call; it is done when the whole response is."""

    id: str
    index: int
    call_id: str
    name: str
    pieces: list[str]
    done: bool = False

    @property
    def place(self) -> dict[str, Any]:
        return {"item_id": self.id, "output_index": self.index}

    def document(self, status: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "function_call",
            "status": status,
            "arguments": "".join(self.pieces),
            "call_id": self.call_id,
            "name": self.name,
        }


class Quoted(Struct):
    """An item that an upstream of this dialect has said itself; it is repeated as it came."""

    index: int
    item: dict[str, Any]
    done: bool = False

    def document(self, status: str) -> dict[str, Any]:  # noqa: ARG002 - it says its own
        return self.item


Item = Spoken | FunctionCall | Quoted


class Envelope:
    """The response around its items; it says what the client asked for as OpenAI's server does, nothing that nobody knows."""

    __slots__ = ("_asked", "_call", "_stamp", "id", "model")

    def __init__(self, call: Call, stamp: Stamp) -> None:
        self._call, self._stamp, self._asked = call, stamp, _asked(call.body)
        self.id = f"resp_{stamp.id}"
        self.model = call.model

    def adopt(self, response: dict[str, Any]) -> None:
        """Take the names that an upstream gave the response: whoever ends it repeats them."""
        self.id, self.model = clipped(text(response.get("id"))) or self.id, text(response.get("model")) or self.model
        self._stamp = Stamp(self._stamp.id, count(response.get("created_at")) or self._stamp.created)

    def item_id(self, prefix: str, index: int) -> str:
        return f"{prefix}_{self._stamp.id[:24]}_{index}"

    def document(
        self,
        status: str,
        output: Sequence[dict[str, Any]] = (),
        reason: str | None = None,
        usage: Usage | None = None,
        error: tuple[str, str] | None = None,
    ) -> dict[str, Any]:
        """Return the response; `reason` is why it is incomplete, `error` a code and a message."""
        call, asked = self._call, self._asked
        return {
            "id": self.id,
            "object": "response",
            "created_at": self._stamp.created,
            "status": status,
            "background": False,
            "error": None if error is None else {"code": error[0] if error[0] in ERRORS else "server_error", "message": error[1]},
            "incomplete_details": None if reason is None else {"reason": reason},
            "instructions": asked.instructions,
            "max_output_tokens": call.max_tokens,
            "model": encodable(self.model),
            "output": output,
            "parallel_tool_calls": True if asked.parallel_tool_calls is None else asked.parallel_tool_calls,
            "previous_response_id": None,
            "reasoning": asked.reasoning or {"effort": None, "summary": None},
            "store": False,
            "temperature": 1.0 if call.temperature is None else call.temperature,
            "text": asked.text or {"format": {"type": "text"}},
            "tool_choice": asked.tool_choice or "auto",
            "tools": asked.tools or [],
            "top_p": 1.0 if call.top_p is None else call.top_p,
            "truncation": "disabled",
            "usage": None if usage is None else usage_document(usage),
            "user": None,
            "metadata": asked.metadata or {},
        }


def usage_document(usage: Usage) -> dict[str, Any]:
    """Say the counts; every one of them is required, so that what was not said has to be 0."""
    given, made = usage.input or 0, usage.output or 0
    return {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": usage.cached or 0, "cache_write_tokens": usage.cache_write or 0},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning or 0},
        "total_tokens": given + made,
    }


class _Asked(Struct):
    """What a response repeats of the request."""

    instructions: Any = None
    parallel_tool_calls: Any = None
    reasoning: Any = None
    text: Any = None
    tool_choice: Any = None
    tools: Any = None
    metadata: Any = None


_ASKED = msgspec.json.Decoder(_Asked)
_ROOM = 100
"""Levels that an event may lie deeper, in JSON and in calls, than what is asked here whether it can be written."""


def _asked(body: bytes) -> _Asked:
    try:
        asked = _ASKED.decode(body)
        deep: Any = asked
        for _ in range(_ROOM):
            deep = [deep]
        msgspec.json.encode(deep)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _Asked()  # a body that only a lenient reading understands: the answer is the same without the echo
    return asked
