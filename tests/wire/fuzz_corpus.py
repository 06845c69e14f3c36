"""Answers for the fuzz program: streams and documents of every dialect, framed in every way, then spoilt; and framings at their worst."""

import base64
import json
from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

from gateway.core.call import Call
from gateway.core.errors import Rejected
from gateway.core.events import Delta, Finished, Started, Terminated, ToolOpened, Usage
from gateway.dialects import DIALECTS
from gateway.dialects.base import Asked, Stamp
from gateway.wire import eventstream
from tests.wire.fuzz_mutation import dumps, spoil_bytes, spoil_tree
from tests.wire.fuzz_streams import STREAMS, Payloads

ASKED = Asked({"model": "m", "id": "m", "deployment": "m"}, {"alt": "sse", "api-version": "1"})
STAMP = Stamp("0123456789abcdef0123456789abcdef", 1_700_000_000)

ANSWERS = (
    [Started("r1", "m"), Delta("text", "Hello"), Delta("text", " wörld"), Finished("stop"), Usage(5, 2, 1, 0, 0), Terminated()],
    [Started("r2", "m"), Delta("reasoning", "let me see"), Delta("text", "漢字 👩‍👩‍👧"), Finished("length", "length"), Terminated()],
    [
        *(Started("r3", "m"), ToolOpened(0, "call_1", "get_weather"), Delta("arguments", '{"city":', 0), Delta("arguments", '"Paris"}', 0)),
        *(ToolOpened(1, "call_2", "now"), Delta("arguments", "{}", 1), Finished("tool_calls", "tools"), Usage(9, 9), Terminated()),
    ],
    [Delta("text", "x")] * 12,
)  # fmt: skip

FRAMINGS: dict[str, str] = {
    "text/event-stream": "sse",
    "application/x-ndjson": "ndjson",
    "application/json": "jsonarray",
    eventstream.FRAMING.media_type: "eventstream",
}


@cache
def calls(name: str) -> tuple[Call, ...]:
    """Return streamed calls through every door of a dialect, in every form that its answers take."""
    dialect, found = DIALECTS[name], []
    members: tuple[dict[str, Any], ...] = (
        {},
        {"stream_options": {"include_usage": True}},
        {"generationConfig": {"thinkingConfig": {"includeThoughts": True}}},
    )
    members += ({"thinking": {"type": "adaptive"}}, {"include": ["reasoning.encrypted_content"], "think": True})
    for endpoint in dialect.endpoints:
        for more in members:
            for query in (ASKED.query, {}):
                body = json.dumps({"model": "m", "stream": True, "messages": [], "prompt": "", "input": "", **more}).encode()
                call = dialect.parse_call(endpoint, body, Asked(ASKED.params, query))
                if call.stream and call not in found:
                    found.append(call)
    return tuple(found)


@cache
def seeds(name: str) -> tuple[Payloads, ...]:
    """Return the streams that a dialect begins with: those written by hand, and what its own writers say."""
    dialect, found = DIALECTS[name], [*STREAMS[name]]
    for call in calls(name):
        for answer in ANSWERS:
            writer, parser = dialect.writer(call, STAMP), dialect.framing(call).parser()
            said = writer.feed(answer) + writer.end()
            found.append([(frame.name, frame.data.decode()) for frame in parser.feed(said) if frame.data])
    return tuple(found)


def framed(kind: str, payloads: list[tuple[str, bytes]], rng: Random) -> bytes:
    """Put the events of one stream into a body."""
    return _FRAMED[kind](payloads, rng)


def _as_sse(payloads: list[tuple[str, bytes]], rng: Random) -> bytes:
    end = rng.choice((b"\n", b"\n", b"\n", b"\r\n", b"\r"))
    blocks = [rng.choice((b"", b"", b"", b"\xef\xbb\xbf", b": ping\n\n"))]
    for name, payload in payloads:
        named = b"event: " + name.encode() + end if name else b""
        blocks.append(named + b"data: " + (end + b"data: ").join(payload.splitlines()) + end + end)
        if rng.random() < 0.05:
            blocks.append(rng.choice((b": keepalive", b"id: 7", b"retry: 1", b"", b"data")) + end + end)
    return b"".join(blocks)


def _as_lines(payloads: list[tuple[str, bytes]], rng: Random) -> bytes:
    end = rng.choice((b"\n", b"\n", b"\r\n", b"\n\n"))
    return b"".join(payload.replace(b"\n", b" ") + end for _, payload in payloads)


def _as_array(payloads: list[tuple[str, bytes]], rng: Random) -> bytes:
    return (
        b"[" + rng.choice((b",\r\n", b"\n,\r\n", b",", b" , ")).join(payload for _, payload in payloads) + rng.choice((b"]", b"\n]\n", b""))
    )


def _as_messages(payloads: list[tuple[str, bytes]], rng: Random) -> bytes:
    return b"".join(_message(name, payload) for name, payload in payloads)


def _message(name: str, payload: bytes) -> bytes:
    kind, _, code = name.partition(":")
    if kind == "exception":
        return eventstream.exception(code, payload)
    if kind == "error":
        return eventstream.encode(
            {":message-type": "error", ":error-code": code, ":error-message": payload.decode("utf-8", "replace")}, b""
        )
    if kind == "chunk":
        payload = b'{"bytes":"%b","p":"abc"}' % base64.b64encode(payload)
    return eventstream.event(name, payload)


_FRAMED: dict[str, Callable[[list[tuple[str, bytes]], Random], bytes]] = {
    "sse": _as_sse, "ndjson": _as_lines, "jsonarray": _as_array, "eventstream": _as_messages,
}  # fmt: skip


def some_stream(name: str, kind: str, rng: Random) -> bytes:
    """Return a stream of a dialect: events changed, left out, said twice or borrowed from another, then bytes changed."""
    streams = seeds(name)
    payloads = list(rng.choice(streams))
    foreign = rng.choice(seeds(rng.choice(tuple(DIALECTS)))) if rng.random() < 0.1 else rng.choice(streams)
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(payloads) + 1)
        match rng.randrange(3):
            case 0:
                payloads[at:at] = payloads[at : at + 2] * rng.choice((1, 1, 5))
            case 1:
                payloads[at:at] = [rng.choice(foreign)]
            case _:
                del payloads[at : at + 1]
    written = [(event, spoilt(payload, rng) if rng.random() < 0.4 else payload.encode()) for event, payload in payloads]
    data = framed(kind, written, rng)
    return spoil_bytes(data, rng, (data, *WORST[kind])) if rng.random() < 0.5 else data


def spoilt(payload: str, rng: Random) -> bytes:
    """Return JSON with some of its places changed; what is no JSON with some of its bytes."""
    try:
        tree = json.loads(payload)
    except ValueError:
        return spoil_bytes(payload.encode(), rng, (payload.encode(),))
    for _ in range(rng.choice((1, 1, 2, 4))):
        tree = spoil_tree(tree, rng)
    return dumps(tree, rng)


_EVENT = eventstream.event("contentBlockDelta", b'{"delta":{"text":"hi"}}')
WORST: dict[str, tuple[bytes, ...]] = {
    "sse": (
        b"\xef\xbb\xbfdata: a\n\ndata: b\r\n\r\ndata: c\r\rdata:d\ndata\ndata: e\n\n",
        b": c\n\nevent: e\ndata: x\nid: 1\nretry: 3\n\n\n\r\n\r",
        b"data: x\n\r\ndata: y\r\n\rdata: z\r\r\n\n",
        b"event\ndata\n\ndata: " + b"x" * 300 + b"\n\n",
        b"data: \xff\xfe\x00\n\n\r\n\r\n",
        b"\n\n\n\r\r\r",
    ),
    "ndjson": (b'{"a":1}\n{"b":2}\r\n\n \n{"c":', b"\x00\n" + b"x" * 300 + b"\n{}\n", b'\xef\xbb\xbf{"a":"\xff"}\n\r\n\n'),
    "jsonarray": (
        b'[{"a":"\\"]}"}\n,\r\n{"b":[1,{"c":"\\\\"}]}\n]',
        b'[1,"x",{"a":1},[2],null]',
        b'{"error":{"message":"no"}}',
        b"]}[{]}[[[{}]]]",
        b"[]",
        b'["' + b"x" * 100 + b'",{"' + b"y" * 63 + b'":"' + b"\\" * 9 + b'"}]',
    ),
    "eventstream": (
        _EVENT * 3,
        _EVENT + eventstream.exception("x", b"{}") + _EVENT[:-1] + b"\x00",
        _EVENT[:20],
        _EVENT + b"\x00" * 16 + _EVENT,
    ),
}


def some_bytes(kind: str, rng: Random) -> bytes:
    """Return a body in one framing, of any dialect or made of nothing but what is nasty about the framing."""
    if rng.random() < 0.5:
        return some_stream(rng.choice(tuple(DIALECTS)), kind, rng)
    data = b"".join(rng.choice(WORST[kind]) for _ in range(rng.randrange(1, 4)))
    return spoil_bytes(data, rng, WORST[kind]) if rng.random() < 0.9 else data


@cache
def _documents(name: str) -> tuple[str, ...]:
    dialect = DIALECTS[name]
    written = [dialect.write_document(calls(name)[0], answer, STAMP).decode() for answer in ANSWERS]
    return (
        *written,
        '{"error":{"message":"no","type":"t","code":429}}',
        '{"message":"no","detail":[{"msg":"x"}]}',
        '{"error":"no"}',
        "<html>",
    )


def some_document(name: str, rng: Random) -> bytes:
    """Return an answer in one piece, or an error."""
    data = spoilt(rng.choice(_documents(name)), rng)
    return spoil_bytes(data, rng, (data,)) if rng.random() < 0.3 else data


def rejected(work: Callable[[], Any]) -> bool:
    """Do it; tell whether it was refused."""
    try:
        work()
    except Rejected:
        return True
    return False
