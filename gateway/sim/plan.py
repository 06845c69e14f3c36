"""An answer, its pace and its fault put together into steps: pure generators, no clock and no socket.

A healthy stream is `speech`. A fault is a function from such steps to steps, found in `plays.PLAYS`; what replaces a whole answer is in
`WHOLE`. Documents that come whole know only a few faults, because most faults of a stream mean nothing there.
"""

import zlib
from collections.abc import Callable
from http import HTTPStatus
from typing import Literal

import msgspec

from gateway.sim.answers import GARBAGE
from gateway.sim.drafts import Piece
from gateway.sim.faults import (
    ErrorEvent,
    Fault,
    GzipAnyway,
    JsonReplyToStream,
    OneByteWrites,
    Refuse,
    RefuseUsage,
    ResetAfter,
    Script,
    Silent,
    SlowFirstToken,
    SplitUtf8,
    Stall,
    Status,
    Truncate,
)
from gateway.sim.plays import GZIP, PLAYS, Speaker, Steps, byte_by_byte
from gateway.sim.refusals import REFUSALS, openai_error
from gateway.sim.steps import End, Fin, Hang, Pause, Send, framed
from gateway.sim.tempers import Pace

__all__ = ["GARBAGE", "WHOLE", "document", "head", "refusal", "reply", "speech", "stream"]


def head(status: int, fields: dict[str, str], length: int | None = None) -> bytes:
    """Return a response head; without `length` the body comes in chunks."""
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Unknown"
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in fields.items()), framing]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def document(body: bytes, status: int = 200, fields: dict[str, str] | None = None) -> Steps:
    """Yield a JSON document in one piece."""
    yield Send(head(status, {"Content-Type": "application/json"} | (fields or {}), len(body)) + body)


def refusal(tongue: str, status: int, message: str, fields: dict[str, str], wait: float | None = None) -> Steps:
    """Yield an error status as a provider of this tongue says it."""
    body, more = REFUSALS[tongue](status, message, wait)
    return document(body, status, fields | more)


def stream(answer: Speaker, pace: Pace, burst: int, fault: Fault, fields: dict[str, str]) -> Steps:
    """Yield a streamed answer with its fault. `fields` are headers of every response."""
    if type(fault) in WHOLE:
        return WHOLE[type(fault)](fault, fields, answer.tongue)
    if type(fault) is RefuseUsage and answer.prompt.options:
        return document(openai_error("unknown_parameter", "Unknown parameter: 'stream_options'.", "invalid_request_error"), 400, fields)
    if type(fault) is JsonReplyToStream:
        return reply(answer, pace, fault, fields)
    steps = speech(answer, pace, burst, answer.head | fields)
    play = PLAYS.get(type(fault))
    steps = framed(play(fault, steps, answer) if play else steps)
    return byte_by_byte(steps) if type(fault) is OneByteWrites else steps


def speech(answer: Speaker, pace: Pace, burst: int, fields: dict[str, str]) -> Steps:
    """Yield a healthy stream: head, what comes before a token, tokens at the temper's pace, finish, usage where it was asked for, end."""
    yield from _opening(answer, pace, fields)
    hollow = answer.hollow
    sent = owed = 0  # tokens; a dialect that says a tool call in one piece owes them until then
    for index, piece in enumerate(answer.pieces):
        if index and index % burst == 0 and (gap := pace.gap()) > 0:
            yield Pause(gap)
        if data := answer.frame(piece):
            yield Send(data, "token", sent, piece.tokens + owed)
            sent, owed = sent + piece.tokens + owed, 0
        else:
            owed += piece.tokens
        if hollow:
            yield Send(answer.frame(_hollow(piece, "arguments")), "body", sent)
    yield Send(answer.finish(), "finish", sent)
    if usage := answer.usage_frame():
        yield Send(usage, "usage", sent)
    yield Send(answer.done(), "done", sent, owed)
    yield End()


def _opening(answer: Speaker, pace: Pace, fields: dict[str, str]) -> Steps:
    """Yield everything that comes before the first token."""
    if pace.headers > 0:
        yield Pause(pace.headers)
    yield Send(head(200, fields), "head")
    if pace.role > pace.headers:
        yield Pause(pace.role - pace.headers)
    if role := answer.role():
        yield Send(role, "preamble")
    for _ in range(answer.hollow if answer.pieces else 0):
        yield Send(answer.frame(_hollow(answer.pieces[0])), "preamble")
    if pace.first > pace.role:
        yield Pause(pace.first - pace.role)


def _hollow(piece: Piece, opened: Literal["text", "arguments"] = "text") -> Piece:
    """Return a piece like this one that says nothing; `opened` is its kind once a tool call has begun."""
    return Piece(piece.kind if piece.kind in {"text", "reasoning"} else opened, "", 0, piece.index)


def reply(answer: Speaker, pace: Pace, fault: Fault, fields: dict[str, str]) -> Steps:
    """Return the steps of an answer that comes whole, when its last token would have come in a stream, with its fault."""
    if type(fault) in WHOLE:
        return WHOLE[type(fault)](fault, fields, answer.tongue)
    if type(fault) is ErrorEvent:
        return _failed(fault, answer.tongue, fields)
    wait = pace.first + sum(pace.gap() for _ in answer.pieces[1:])
    body = answer.document()
    if type(fault) is GzipAnyway:
        body, fields = zlib.compress(body, wbits=GZIP), fields | {"Content-Encoding": "gzip"}
    steps = _whole(body, wait, answer.tokens, fields)
    if type(fault) in {SlowFirstToken, Stall, ResetAfter, Truncate}:
        quiet = msgspec.structs.replace(fault, ping_every=None) if type(fault) is SlowFirstToken else fault  # no comments in a document
        steps = PLAYS[type(fault)](quiet, steps, answer)
    steps = framed(steps, bytes, b"")
    return byte_by_byte(steps) if type(fault) in {OneByteWrites, SplitUtf8} else steps


def _failed(fault: ErrorEvent, tongue: str, fields: dict[str, str]) -> Steps:
    if tongue.startswith("openai"):
        return document(openai_error(fault.code, fault.message), 500, fields)
    return refusal(tongue, 500, fault.message, fields)


def _whole(body: bytes, wait: float, tokens: int, fields: dict[str, str]) -> Steps:
    """Yield a document in two halves, so that "after n tokens" falls between them for any n but 0."""
    if wait > 0:
        yield Pause(wait)
    yield Send(head(200, {"Content-Type": "application/json"} | fields, len(body)), "head")
    yield Send(body[: len(body) // 2], "token", 0, tokens)
    yield Send(body[len(body) // 2 :], "body", tokens)
    yield End()


def _status(fault: Status, fields: dict[str, str], tongue: str) -> Steps:
    body, more = REFUSALS[tongue](fault.code, f"Simulated status {fault.code}.", fault.retry_after)
    wait = {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
    return document(body if fault.body is None else fault.body.encode(), fault.code, fields | more | wait | fault.headers)


WHOLE: dict[type[Fault], Callable[..., Steps]] = {
    Silent: lambda *_: iter((Hang(),)),
    Refuse: lambda *_: iter((Fin(),)),
    Status: _status,
    Script: lambda fault, *_: iter(fault.steps),
}
"""Faults that replace the whole answer."""
