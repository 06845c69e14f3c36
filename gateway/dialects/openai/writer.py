"""Says an answer as OpenAI does: chunks in the order and with the members of its server, or one document."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from gateway.core.answer import fold
from gateway.core.call import Call
from gateway.core.errors import GatewayError
from gateway.core.events import Delta, Event, Finished, Meaning, Started, Terminated, ToolOpened, Usage
from gateway.dialects.base import Stamp
from gateway.dialects.lenient import clipped, count, encodable, encode, mapping, text, untyped
from gateway.wire.framing import Frame

WORDS: dict[Meaning, str] = {"stop": "stop", "length": "length", "tools": "tool_calls", "filtered": "content_filter", "other": "stop"}
DONE = b"data: [DONE]\n\n"

_SAID = {"text": "content", "reasoning": "reasoning_content", "refusal": "refusal"}


class _Opened(Struct, gc=False):
    """A tool call that was opened: its place, and whether its name and any of its arguments were said."""

    ordinal: int
    named: bool
    argued: bool = False


class ChunkWriter:
    """Writes one stream. It remembers which tools were opened and under which index, why the answer ended, and its usage."""

    __slots__ = ("_call", "_ended", "_finished", "_head", "_ids", "_last", "_stamp", "_tail", "_tools", "_usage")

    def __init__(self, call: Call, stamp: Stamp) -> None:
        self._call, self._stamp = call, stamp
        self._head = b""
        self._tail = b',"usage":null}\n\n' if call.include_usage else b"}\n\n"
        self._tools: dict[int, _Opened] = {}
        self._last: _Opened | None = None
        self._ids: set[str] = set()
        self._finished: Finished | None = None
        self._usage: Usage | None = None
        self._ended = False

    def feed(self, events: Sequence[Event]) -> bytes:
        """See `dialects.base.Writer`."""
        return b"".join(map(self._say, events))

    def end(self) -> bytes:
        """See `dialects.base.Writer`."""
        if self._ended:
            return b""
        self._ended = True
        word = _word(self._finished, bool(self._tools))
        said = self._begin() + (self._fill() if word == "tool_calls" else b"") + self._chunk({}, word)
        if self._call.include_usage and self._usage is not None and (counts := _counts(self._usage)):
            said += b'%b,"choices":[],"usage":%b}\n\n' % (self._head, encode(counts))
        return said + DONE

    def fail(self, error: GatewayError) -> bytes:
        """See `dialects.base.Writer`; no `[DONE]` follows, which a client would take for an end."""
        if self._ended:
            return b""
        self._ended = True
        return error_event(error)

    def follow(self, frame: Frame) -> bool:
        """See `dialects.base.Writer`: the names are those of the first chunk that has them, and the role has been said with it."""
        if not self._head:
            found = mapping(untyped(frame.data))
            if found.get("id") or found.get("choices"):
                self._stamp = Stamp(self._stamp.id, count(found.get("created")) or self._stamp.created)
                self._begin(Started(clipped(text(found.get("id"))), clipped(text(found.get("model")))))
        return True

    def _say(self, event: Event) -> bytes:
        if self._ended:
            return b""
        match event:
            case Delta():
                return self._begin() + self._delta(event)
            case ToolOpened():
                return self._begin() + self._open(event)
            case Started():
                return self._begin(event)
            case Finished():
                self._finished = event
            case Usage():
                self._usage = event
            case Terminated():
                return self.end()
        return b""

    def _begin(self, started: Started | None = None) -> bytes:
        """Say who speaks; every chunk after it repeats the names that are known by then."""
        if self._head:
            return b""
        named = _named(started or Started(), self._call, self._stamp, "chat.completion.chunk")
        self._head = b"data: " + encode(named)[:-1]
        return self._chunk({"role": "assistant", "content": "", "refusal": None})

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return b'%b,"choices":[%b]%b' % (self._head, encode(choice), self._tail)

    def _delta(self, event: Delta) -> bytes:
        if event.kind in _SAID:
            return self._chunk({_SAID[event.kind]: event.text})
        if event.kind == "audio":
            return self._chunk({"audio": {"data": event.text}})
        opened = b"" if event.index in self._tools else self._open(ToolOpened(event.index, None, None))
        return opened + self._argue(self._tools[event.index], event.text)

    def _open(self, event: ToolOpened) -> bytes:
        """Open a tool call; of one that is open already only a name that comes late is said, for clients join what they are told."""
        if (known := self._tools.get(event.index)) is not None:
            if known.named or not event.name:
                return b""
            known.named = True
            return self._chunk({"tool_calls": [{"index": known.ordinal, "function": {"name": event.name}}]})
        filled, ordinal = self._fill(), len(self._tools)
        self._last = self._tools[event.index] = _Opened(ordinal, bool(event.name))
        called = _called(_unused(event.id, self._ids), event.name or "", "", self._stamp, ordinal)
        return filled + self._chunk({"tool_calls": [{"index": ordinal, **called}]})

    def _argue(self, tool: _Opened, text: str) -> bytes:
        tool.argued = True
        return self._chunk({"tool_calls": [{"index": tool.ordinal, "function": {"arguments": text}}]})

    def _fill(self) -> bytes:
        """Say the arguments of a call that has none before the next call begins, which is when openai-python parses them."""
        return b"" if self._last is None or self._last.argued else self._argue(self._last, "{}")


def error_event(error: GatewayError) -> bytes:
    return b"data: " + error_body(error) + b"\n\n"  # JSON escapes CR and LF: nothing in a message can end the event


def error_body(error: GatewayError) -> bytes:
    said = {"message": encodable(error.message), "type": error.kind, "param": None, "code": encodable(error.code)}
    return encode({"error": said})


def write_document(call: Call, events: Sequence[Event], stamp: Stamp) -> bytes:
    """Say a whole answer in one piece."""
    answer = fold(events)
    finish = _word(answer.finished, bool(answer.tools))
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None, "refusal": answer.refusal or None}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.tools:
        none = "{}" if finish == "tool_calls" else ""  # arguments that were cut off are not an empty object
        ids: set[str] = set()
        message["tool_calls"] = [
            _called(_unused(tool.id, ids), tool.name, tool.arguments or none, stamp, ordinal) for ordinal, tool in enumerate(answer.tools)
        ]
    if not (answer.text or answer.refusal or answer.tools):
        message["content"] = ""
    said = _named(Started(answer.id, answer.model), call, stamp, "chat.completion")
    said["choices"] = [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}]
    if answer.usage is not None and (counts := _counts(answer.usage)):
        said["usage"] = counts
    return encode(said)


def _named(started: Started, call: Call, stamp: Stamp, kind: str) -> dict[str, Any]:
    id, model = started.id or f"chatcmpl-{stamp.id}", started.model or call.model  # noqa: A001
    return {"id": id, "object": kind, "created": stamp.created, "model": model}


def _unused(id: str | None, ids: set[str]) -> str | None:  # noqa: A002
    """Return the id that an upstream gave a call, None when it gave another the same: their results could not be told apart."""
    if id in ids:
        return None
    if id:
        ids.add(id)
    return id


def _called(id: str | None, name: str, arguments: str, stamp: Stamp, ordinal: int) -> dict[str, Any]:  # noqa: A002
    return {
        "id": id or f"call_{stamp.id[:24]}_{ordinal}",
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def _word(finished: Finished | None, calls_tools: bool) -> str:
    """Say why it ended; providers for whom a tool call is an ordinary stop must not keep an agent from calling it."""
    meaning = finished.meaning if finished is not None else "stop"
    return "tool_calls" if calls_tools and meaning in {"stop", "other"} else WORDS[meaning]


def _counts(usage: Usage) -> dict[str, Any] | None:
    """Return the counts as clients must find them, None when nothing is known of the two that they ask for."""
    if usage.input is None and usage.output is None:
        return None
    prompt, output = usage.input or 0, usage.output or 0  # the schema knows no count that was not said
    counts: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}
    details = {"cached_tokens": usage.cached, "cache_write_tokens": usage.cache_write}
    if known := {name: said for name, said in details.items() if said is not None}:
        counts["prompt_tokens_details"] = known
    if usage.reasoning is not None:
        counts["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning}
    return counts
