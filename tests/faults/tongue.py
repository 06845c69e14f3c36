"""What one dialect says on the wire, as bytes written by hand: nothing here asks the gateway how its dialects are spoken."""

import json
import re
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Told = tuple[str | None, str]
"""An error's code, None where the dialect has no place for it, and its message."""

CLOSED: Mapping[str, bytes | tuple[bytes, ...]] = {
    "text/event-stream": (b"\n\n", b"\r\n\r\n"),
    "application/x-ndjson": b"\n",
    "application/json": b"]",
}
"""What an event must end with to be read; a binary message says its own length."""


@dataclass(frozen=True)
class Tongue:
    """One dialect's words.

    `preamble` comes before the first token and is none; `idle` shows a live connection and no progress, and may come any number of
    times. An answer ends with `finish` (why), `usage`, `end`, each empty where the dialect does not say it apart; `needs_end` tells that
    `finish` alone is no end. `tool` opens a call and is a token. `errors` are errors inside a stream: the bytes, and the code that
    telemetry has for it. `split` cuts a body into whole events, what is left over included; `told` reads an event as an error, None when
    it is none; `ends` tells an event with which an answer is whole.
    """

    name: str
    path: str
    whole_path: str
    body: Mapping[str, Any]
    media_type: str
    preamble: tuple[bytes, ...]
    idle: bytes
    token: Callable[[str], bytes]
    reasoning: Callable[[str], bytes]
    tool: bytes
    arguments: Callable[[str], bytes]
    finish: bytes
    usage: bytes
    end: bytes
    needs_end: bool
    errors: Mapping[str, tuple[bytes, str]]
    document: bytes
    refused: Callable[[int, str], bytes]
    split: Callable[[bytes], list[bytes]]
    told: Callable[[bytes], Told | None]
    ends: Callable[[bytes], bool]
    whole_body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    keepalive: bytes = b""
    keep_open: bool = True
    """Whether the gateway may answer 200 before the upstream has: where there is no keepalive, the status waits."""

    def request(self, stream: bool = True, headers: Mapping[str, str] | None = None, **more: Any) -> bytes:
        """Return a call as a client of this dialect sends it; a field that is None is left out."""
        fields = {**(self.body if stream else {**self.body, **self.whole_body}), **more}
        content = json.dumps({name: value for name, value in fields.items() if value is not None}).encode()
        return self.post(content, stream, headers)

    def post(self, content: bytes, stream: bool = True, headers: Mapping[str, str] | None = None) -> bytes:
        """Return a call with exactly this body."""
        said = {"Host": "weir", "Content-Type": "application/json", **self.headers, **(headers or {}), "Content-Length": len(content)}
        lines = "".join(f"{name}: {value}\r\n" for name, value in said.items())
        return f"POST {self.path if stream else self.whole_path} HTTP/1.1\r\n{lines}\r\n".encode() + content

    @property
    def proper(self) -> bytes:
        """How an answer ends."""
        return self.finish + self.usage + self.end

    def speech(self, *texts: str) -> bytes:
        """Return a whole good answer that says these texts."""
        return b"".join(self.preamble) + b"".join(map(self.token, texts)) + self.proper

    def spoken(self, *texts: str) -> bytes:
        """Return an answer that says these texts and has no end."""
        return b"".join(self.preamble) + b"".join(map(self.token, texts))

    def last_error(self, body: bytes) -> tuple[bytes, Told]:
        """Split off the last event, which must be an error's, and return what came before it and what it says.

        Responses may say one error twice, as the answer's own end and as the stream's.
        """
        events = self.split(body)
        told = self.told(events[-1]) if events else None
        assert told is not None, body[-400:]
        assert body.endswith(CLOSED.get(self.media_type, b"")), "an event that is not closed is read by nobody"
        twice = len(events) > 1 and events[-2].startswith(b"event: response.failed\n")
        last = 2 if twice and (self.told(events[-2]) or told)[1] == told[1] else 1
        assert [event for event in events[:-last] if self.told(event)] == [], "an error is said once"
        return b"".join(events[:-last]), told

    def ended(self, body: bytes) -> bool:
        """Tell whether the proper end has been said."""
        return any(map(self.ends, self.split(body)))

    def same_code(self, told: Told, code: str) -> bool:
        """Tell whether an error says this code, as far as the dialect has a place for codes; something is said in any case."""
        return told[0] in {None, code, code.upper()} and bool(told[1])


def text(value: str) -> bytes:
    """Return a string as JSON with its characters as they are."""
    return json.dumps(value, ensure_ascii=False).encode()


def sse(data: bytes, name: bytes = b"", eol: bytes = b"\n") -> bytes:
    """Return one event of a text/event-stream."""
    return (b"event: " + name + eol if name else b"") + b"data: " + data + eol + eol


def sse_split(body: bytes) -> list[bytes]:
    """Cut a text/event-stream after every blank line."""
    return [piece for piece in re.split(rb"(?<=\r\n\r\n)|(?<=\n\n)|(?<=\r\r)", body) if piece]


def sse_fields(event: bytes) -> tuple[str, Any]:
    """Return an event's name and its JSON; None when it has none, text when it is no JSON."""
    lines = [line.partition(b":") for line in event.splitlines()]
    name = next((value.strip().decode() for key, _, value in lines if key == b"event"), "")
    data = b"\n".join(value.removeprefix(b" ") for key, _, value in lines if key == b"data")
    try:
        return name, json.loads(data) if data else None
    except ValueError:
        return name, data.decode("utf-8", "replace")


def lines_split(body: bytes) -> list[bytes]:
    """Cut newline-delimited JSON."""
    return body.splitlines(keepends=True)


def message(headers: Mapping[str, str], payload: bytes) -> bytes:
    """Return one message of application/vnd.amazon.eventstream: big-endian lengths, typed headers, two CRC-32s."""
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    said = b"".join(struct.pack("!B", len(name)) + name + struct.pack("!BH", 7, len(value)) + value for name, value in pairs)
    prelude = struct.pack("!II", 16 + len(said) + len(payload), len(said))
    front = prelude + struct.pack("!I", zlib.crc32(prelude)) + said + payload
    return front + struct.pack("!I", zlib.crc32(front))


def messages_split(body: bytes) -> list[bytes]:
    """Cut an event stream by its lengths, and check both checksums of every whole message."""
    found = []
    while len(body) >= 12 and len(body) >= (length := struct.unpack("!I", body[:4])[0]) >= 16:
        one, body = body[:length], body[length:]
        assert struct.unpack("!I", one[8:12])[0] == zlib.crc32(one[:8])
        assert struct.unpack("!I", one[-4:])[0] == zlib.crc32(one[:-4])
        found.append(one)
    return [*found, body] if body else found


def message_fields(one: bytes) -> tuple[dict[str, str], Any]:
    """Return a message's headers and its JSON."""
    length, size = struct.unpack("!II", one[:8])
    assert length == len(one), "half a message"
    headers, at = {}, 12
    while at < 12 + size:
        name = one[at + 1 : at + 1 + one[at]].decode()
        at += 1 + one[at]
        kind, count = struct.unpack("!BH", one[at : at + 3])
        assert kind == 7
        headers[name] = one[at + 3 : at + 3 + count].decode()
        at += 3 + count
    return headers, json.loads(one[12 + size : -4] or b"null")
