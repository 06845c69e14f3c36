"""An answer, its pace and its fault put together into steps: pure generators, no clock and no socket.

A healthy stream is `speech`. A fault is a function from such steps to steps, found in `PLAYS`; documents that come whole have
their own table, because most faults of a stream mean nothing there.
"""

import zlib
from collections.abc import Callable, Iterator
from http import HTTPStatus

from gateway.sim.answers import DONE_FRAME, PING, Answer, error_document, error_frame
from gateway.sim.faults import (
    Burst,
    ErrorEvent,
    Fault,
    GarbageFrame,
    GzipAnyway,
    HugeEvent,
    JsonReplyToStream,
    MissingDone,
    NeverEnding,
    OneByteWrites,
    PingStorm,
    Refuse,
    ResetAfter,
    Script,
    Silent,
    SlowFirstToken,
    SplitUtf8,
    Stall,
    Status,
    Truncate,
)
from gateway.sim.steps import End, Fin, Hang, Pause, Reset, Send, Step, framed
from gateway.sim.tempers import Pace

Steps = Iterator[Step]
GARBAGE = b'data: {"choices":[{"delta":{"content":"spilt\n\n'
_ANSWER_PARTS = frozenset({"head", "preamble", "ping"})
_GZIP = 31  # zlib's window bits for a gzip wrapper


def head(status: int, fields: dict[str, str], length: int | None = None) -> bytes:
    """Return a response head; without `length` the body comes in chunks."""
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Unknown"
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in fields.items()), framing]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def document(body: bytes, status: int = 200, fields: dict[str, str] | None = None) -> Steps:
    """Yield a JSON document in one piece."""
    yield Send(head(status, {"Content-Type": "application/json"} | (fields or {}), len(body)) + body)


def stream(answer: Answer, pace: Pace, burst: int, fault: Fault, fields: dict[str, str]) -> Steps:
    """Yield a streamed answer with its fault. `fields` are headers of every response."""
    if type(fault) in WHOLE:
        return WHOLE[type(fault)](fault, fields)
    if type(fault) is JsonReplyToStream:
        return reply(answer, pace, fault, fields)
    steps = speech(answer, pace, burst, {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"} | fields)
    play = PLAYS.get(type(fault))
    steps = framed(play(fault, steps) if play else steps)
    return byte_by_byte(steps) if type(fault) is OneByteWrites else steps


def speech(answer: Answer, pace: Pace, burst: int, fields: dict[str, str]) -> Steps:
    """Yield a healthy stream: head, role chunk, tokens at the temper's pace, finish, usage when asked for, [DONE]."""
    if pace.headers > 0:
        yield Pause(pace.headers)
    yield Send(head(200, fields), "head")
    if pace.role > pace.headers:
        yield Pause(pace.role - pace.headers)
    if role := answer.role():
        yield Send(role, "preamble")
    if pace.first > pace.role:
        yield Pause(pace.first - pace.role)
    sent = 0
    for index, piece in enumerate(answer.pieces):
        if index and index % burst == 0 and (gap := pace.gap()) > 0:
            yield Pause(gap)
        yield Send(answer.frame(piece), "token", sent, piece.tokens)
        sent += piece.tokens
    yield Send(answer.finish(), "finish", sent)
    if answer.prompt.include_usage:
        yield Send(answer.usage_frame(), "usage", sent)
    yield Send(DONE_FRAME, "done", sent)
    yield End()


def reply(answer: Answer, pace: Pace, fault: Fault, fields: dict[str, str]) -> Steps:
    """Return the steps of an answer that comes whole, when its last token would have come in a stream, with its fault."""
    if type(fault) in WHOLE:
        return WHOLE[type(fault)](fault, fields)
    if type(fault) is ErrorEvent:
        return document(error_document(fault.code, fault.message), 500, fields)
    wait = pace.first + sum(pace.gap() for _ in answer.pieces[1:])
    body = answer.document()
    if type(fault) is GzipAnyway:
        body, fields = zlib.compress(body, wbits=_GZIP), fields | {"Content-Encoding": "gzip"}
    steps = _whole(body, wait, answer.tokens, fields)
    if type(fault) in {SlowFirstToken, Stall, ResetAfter, Truncate}:
        steps = PLAYS[type(fault)](fault, steps)
    steps = framed(steps, bytes, b"")
    return byte_by_byte(steps) if type(fault) in {OneByteWrites, SplitUtf8} else steps


def _whole(body: bytes, wait: float, tokens: int, fields: dict[str, str]) -> Steps:
    """Yield a document in two halves, so that "after n tokens" falls between them for any n but 0."""
    if wait > 0:
        yield Pause(wait)
    yield Send(head(200, {"Content-Type": "application/json"} | fields, len(body)), "head")
    yield Send(body[: len(body) // 2], "token", 0, tokens)
    yield Send(body[len(body) // 2 :], "body", tokens)
    yield End()


def _due(step: Step, after: int) -> bool:
    """Say whether a fault that comes after so many tokens is due before this step, at the latest before the finish chunk."""
    return type(step) is Send and step.part not in _ANSWER_PARTS and (step.before >= after or step.part != "token")


def _at(steps: Steps, after: int, insert: Callable[[Send], Steps]) -> Steps:
    """Yield the steps, and once, where the fault is due, what `insert` gives for the step about to come."""
    waiting = True
    for step in steps:
        if waiting and type(step) is Send and _due(step, after):
            waiting = False
            yield from insert(step)
        yield step


def _until(steps: Steps, after: int, ending: Callable[[Send], Steps]) -> Steps:
    """Yield the steps up to where the fault is due, then what `ending` gives for the step cut off."""
    for step in steps:
        if type(step) is Send and _due(step, after):
            yield from ending(step)
            return
        yield step


def _pings(length: float | None, every: float) -> Steps:
    """Yield a comment each `every` seconds for `length` seconds, or for ever."""
    spent = 0.0
    while length is None or spent + every < length:
        yield Pause(every)
        yield Send(PING, "ping")
        spent += every
    if length is not None and length > spent:
        yield Pause(length - spent)


def _slow_first_token(fault: SlowFirstToken, steps: Steps) -> Steps:
    wait = _pings(fault.delay, fault.ping_every) if fault.ping_every else iter((Pause(fault.delay),))
    if fault.role_first:
        yield from _at(steps, 0, lambda _: wait)
        return
    for step in steps:
        yield step
        if type(step) is Send and step.part == "head":
            yield from wait


def _stall(fault: Stall, steps: Steps) -> Steps:
    waiting = True
    for step in steps:
        if not (waiting and type(step) is Send and _due(step, fault.after)):
            yield step
            continue
        waiting = False
        if fault.cut:
            yield Send(step.data[: fault.cut], step.part, step.before)
        yield Pause(fault.length)
        yield Send(step.data[fault.cut :], step.part, step.before, step.tokens)


def _reset(fault: ResetAfter, steps: Steps) -> Steps:
    return _until(steps, fault.after, lambda _: iter((Reset(),)))


def _truncate(fault: Truncate, steps: Steps) -> Steps:
    def ending(step: Send) -> Steps:
        if fault.cut:
            yield Send(step.data[: fault.cut], step.part, step.before)
        if fault.terminator:
            yield End()
        yield Fin()

    return _until(steps, fault.after, ending)


def _missing_done(fault: MissingDone, steps: Steps) -> Steps:  # noqa: ARG001 - one shape for all plays
    return (step for step in steps if not (type(step) is Send and step.part == "done"))


def _garbage(fault: GarbageFrame, steps: Steps) -> Steps:
    return _at(steps, fault.after, lambda step: iter((Send(GARBAGE, "body", step.before),)))


def _split(fault: SplitUtf8, steps: Steps) -> Steps:  # noqa: ARG001
    for step in steps:
        if type(step) is not Send or step.part == "head":
            yield step
            continue
        for at in range(len(step.data)):
            yield Send(step.data[at : at + 1], step.part, step.before, step.tokens if at == 0 else 0)
            yield Pause()


def _error_event(fault: ErrorEvent, steps: Steps) -> Steps:
    def ending(step: Send) -> Steps:
        yield Send(error_frame(fault.code, fault.message), "body", step.before)
        if fault.then_done:
            yield Send(DONE_FRAME, "done", step.before)
        yield End()

    return _until(steps, fault.after, ending)


def _ping_storm(fault: PingStorm, steps: Steps) -> Steps:
    return _at(steps, fault.after, lambda _: _pings(fault.lasting, fault.every))


def _burst(fault: Burst, steps: Steps) -> Steps:
    left = -1
    for step in steps:
        if left < 0 and _due(step, fault.after):
            yield Pause(fault.pause)
            left = fault.frames
        if left > 0 and type(step) is Pause:
            continue
        left -= 1 if left > 0 and type(step) is Send else 0
        yield step


def _never_ending(fault: NeverEnding, steps: Steps) -> Steps:  # noqa: ARG001
    last: Send | None = None
    gap = 0.0
    for step in steps:
        if type(step) is Send and step.part == "finish":
            break
        if type(step) is Pause and last:
            gap = step.seconds
        if type(step) is Send and step.part == "token":
            last = step
        yield step
    while last is not None:
        if gap > 0:
            yield Pause(gap)
        yield last


def _huge_event(fault: HugeEvent, steps: Steps) -> Steps:
    def insert(step: Send) -> Steps:
        opening, slot, closing = step.data.partition(b'"content":"')
        if not slot:
            opening, closing = b'data: {"pad":"', b'"}\n\n'
        data = opening + slot + b"x" * max(0, fault.size - len(step.data)) + closing
        size = fault.write or len(data)
        for start in range(0, len(data), size):
            yield Send(data[start : start + size], "body", step.before)
            yield Pause()

    return _at(steps, fault.after, insert)


def _gzip(fault: GzipAnyway, steps: Steps) -> Steps:  # noqa: ARG001
    press = zlib.compressobj(wbits=_GZIP)
    for step in steps:
        if type(step) is End:
            yield Send(press.flush(), "body")
            yield step
        elif type(step) is not Send:
            yield step
        elif step.part == "head":
            yield Send(step.data.replace(b"\r\n", b"\r\nContent-Encoding: gzip\r\n", 1), "head")
        else:
            data = press.compress(step.data) + press.flush(zlib.Z_SYNC_FLUSH)
            yield Send(data, step.part, step.before, step.tokens)


def byte_by_byte(steps: Steps) -> Steps:
    """Yield every byte as a write of its own."""
    return _split(SplitUtf8(), (Send(s.data, "raw", s.before, s.tokens) if type(s) is Send else s for s in steps))


def _status(fault: Status, fields: dict[str, str]) -> Steps:
    kinds = {429: "rate_limit_exceeded", 401: "invalid_api_key", 400: "invalid_request_error", 404: "model_not_found"}
    code = kinds.get(fault.code, "server_error")
    body = error_document(code, f"Simulated status {fault.code}.", code) if fault.body is None else fault.body.encode()
    wait = {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
    return document(body, fault.code, fields | wait | fault.headers)


WHOLE: dict[type[Fault], Callable[..., Steps]] = {
    Silent: lambda *_: iter((Hang(),)),
    Refuse: lambda *_: iter((Fin(),)),
    Status: _status,
    Script: lambda fault, _: iter(fault.steps),
}
"""Faults that replace the whole answer."""

PLAYS: dict[type[Fault], Callable[..., Steps]] = {
    SlowFirstToken: _slow_first_token,
    Stall: _stall,
    ResetAfter: _reset,
    Truncate: _truncate,
    MissingDone: _missing_done,
    GarbageFrame: _garbage,
    SplitUtf8: _split,
    ErrorEvent: _error_event,
    PingStorm: _ping_storm,
    Burst: _burst,
    NeverEnding: _never_ending,
    HugeEvent: _huge_event,
    GzipAnyway: _gzip,
}
"""Faults that change the steps of a healthy stream."""
