"""The ways to write requests and answers byte for byte."""

from collections.abc import Mapping
from typing import Any

import orjson

from gateway.core.call import Call
from gateway.core.events import Event
from gateway.core.prompt import Prompt
from gateway.dialects import DIALECTS
from gateway.sim.doors import ROOTS
from gateway.sim.faults import Script
from gateway.sim.plan import head
from gateway.sim.steps import End, Pause, Send, Step, framed

SSE_HEAD = head(200, {"Content-Type": "text/event-stream"})


class Makers:
    """The ways to write requests and answers byte for byte."""

    @staticmethod
    def request(headers: Mapping[str, str] | None = None, path: str = "/v1/chat/completions", **body: Any) -> bytes:
        """Return a whole call; fields of the body that are None are left out."""
        fields = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hello"}]} | body
        return Makers.post(orjson.dumps({name: value for name, value in fields.items() if value is not None}), path, headers)

    @staticmethod
    def post(content: bytes, path: str = "/v1/chat/completions", headers: Mapping[str, str] | None = None, version: str = "1.1") -> bytes:
        lines = [f"POST {path} HTTP/{version}", "Host: weir", *(f"{name}: {value}" for name, value in (headers or {}).items())]
        return "\r\n".join([*lines, f"Content-Length: {len(content)}", "", ""]).encode() + content

    @staticmethod
    def chunked(*pieces: bytes | float | Step, head: bytes = SSE_HEAD) -> Script:
        """An answer of exactly these bytes, each a chunk and a write of its own, with pauses (seconds) and other steps between."""
        steps: list[Step] = [Send(head, "head")]
        for piece in pieces:
            if isinstance(piece, bytes):
                steps += [Send(piece, "body"), Pause(0.001)]
            else:
                steps.append(Pause(float(piece)) if isinstance(piece, int | float) else piece)
        ends = pieces and not isinstance(pieces[-1], bytes | int | float)
        return Script(tuple(framed(steps if ends else [*steps, End()])))

    @staticmethod
    def event(text: str | None = None, finish: str | None = None) -> bytes:
        """One chat chunk: a delta with this text, with none the one that names the role."""
        delta = {} if finish else {"role": "assistant", "content": ""} if text is None else {"content": text}
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return b"data: %b\n\n" % orjson.dumps({"id": "chatcmpl-1", "model": "said", "choices": [choice]})

    @staticmethod
    def call(dialect: str, prompt: Prompt, headers: Mapping[str, str] | None = None) -> tuple[Call, bytes]:
        """Return a prompt as a client of a dialect sends it: what its answer is read with, and the whole request."""
        call = DIALECTS[dialect].compose(prompt)
        said = {"Content-Type": "application/json", **(headers or {})}
        return call, Makers.post(call.body, ROOTS.get(dialect, "") + call.path, said)

    @staticmethod
    def heard(call: Call, body: bytes) -> list[Event]:
        """Return what an answer says to a client of the call's dialect; all of it must be readable."""
        dialect = DIALECTS[call.dialect]
        if not call.stream:
            return list(dialect.read_document(call, body))
        parser, reader = dialect.framing(call).parser(), dialect.reader(call)
        events = [event for frame in parser.feed(body) for event in reader.events(frame)]
        assert not parser.tail.strip()
        return events
