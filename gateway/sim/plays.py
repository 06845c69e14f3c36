"""What a fault makes of the steps of a healthy stream: one function each, found in `PLAYS`; pure generators."""

# ruff: noqa: ARG001 - all plays have one shape

import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from gateway.sim.drafts import Piece, Prompt
from gateway.sim.faults import (
    Burst,
    EmptyChunks,
    ErrorEvent,
    Fault,
    FilterChunks,
    GarbageFrame,
    GzipAnyway,
    HugeEvent,
    MissingDone,
    NeverEnding,
    PingStorm,
    ResetAfter,
    SlowFirstToken,
    SplitUtf8,
    Stall,
    Truncate,
)
from gateway.sim.steps import End, Fin, Hang, Pause, Reset, Send, Step

Steps = Iterator[Step]
GZIP = 31  # zlib's window bits for a gzip wrapper
_ANSWER_PARTS = frozenset({"head", "preamble", "ping"})
_ENDS = frozenset({"finish", "usage", "done"})


class Speaker(Protocol):
    """An answer in one dialect: its frames in order, and what faults say in their place. A frame that is empty is not sent."""

    head: dict[str, str]
    ping: bytes
    garbage: bytes
    afterword: bytes
    tongue: str
    prompt: Prompt
    pieces: list[Piece]
    hollow: int

    @property
    def tokens(self) -> int: ...
    def role(self) -> bytes: ...
    def frame(self, piece: Piece) -> bytes: ...
    def finish(self) -> bytes: ...
    def usage_frame(self) -> bytes: ...
    def done(self) -> bytes: ...
    def document(self) -> bytes: ...
    def again(self, step: Send) -> bytes: ...
    def swell(self, after: int, size: int) -> bool: ...
    def fail(self, fault: ErrorEvent, step: Send | None) -> bytes: ...
    def filtered(self, said: int | None) -> bytes: ...


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


def _pings(ping: bytes, length: float | None, every: float) -> Steps:
    """Yield what keeps a stream alive each `every` seconds for `length` seconds, or for ever."""
    spent = 0.0
    while length is None or spent + every < length:
        yield Pause(every)
        yield Send(ping, "ping")
        spent += every
    if length is not None and length > spent:
        yield Pause(length - spent)


def _slow_first_token(fault: SlowFirstToken, steps: Steps, speaker: Speaker) -> Steps:
    wait = _pings(speaker.ping, fault.delay, fault.ping_every) if fault.ping_every else iter((Pause(fault.delay),))
    if fault.role_first:
        yield from _at(steps, 0, lambda _: wait)
        return
    for step in steps:
        yield step
        if type(step) is Send and step.part == "head":
            yield from wait


def _stall(fault: Stall, steps: Steps, speaker: Speaker) -> Steps:
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


def _reset(fault: ResetAfter, steps: Steps, speaker: Speaker) -> Steps:
    return _until(steps, fault.after, lambda _: iter((Reset(),)))


def _truncate(fault: Truncate, steps: Steps, speaker: Speaker) -> Steps:
    def ending(step: Send) -> Steps:
        if fault.cut:
            yield Send(step.data[: fault.cut], step.part, step.before)
        if fault.terminator:
            yield End()
        yield Fin()

    return _until(steps, fault.after, ending)


def _missing_done(fault: MissingDone, steps: Steps, speaker: Speaker) -> Steps:
    return (step for step in steps if not (type(step) is Send and step.part == "done"))


def _garbage(fault: GarbageFrame, steps: Steps, speaker: Speaker) -> Steps:
    after = max(1, fault.after) if speaker.garbage.startswith(b",") else fault.after  # no array begins with a comma
    return _at(steps, after, lambda step: iter((Send(speaker.garbage, "body", step.before),)))


def _split(fault: SplitUtf8, steps: Steps, speaker: Speaker) -> Steps:
    return _every_byte(steps)


def _every_byte(steps: Iterable[Step]) -> Steps:
    for step in steps:
        if type(step) is not Send or step.part == "head":
            yield step
            continue
        for at in range(len(step.data)):
            yield Send(step.data[at : at + 1], step.part, step.before, step.tokens if at == 0 else 0)
            yield Pause()


def _error_event(fault: ErrorEvent, steps: Steps, speaker: Speaker) -> Steps:
    def ending(step: Send | None) -> Steps:
        before = step.before if step else 0
        yield Send(speaker.fail(fault, step), "body", before)
        if fault.then_done:
            yield Send(speaker.afterword, "done", before)
        yield End()

    return _instead(steps, ending(None)) if fault.first else _until(steps, fault.after, ending)


def _instead(steps: Steps, others: Steps) -> Steps:
    """Yield the head, then other steps than those that follow it."""
    for step in steps:
        yield step
        if type(step) is Send and step.part == "head":
            yield from others
            return


def _ping_storm(fault: PingStorm, steps: Steps, speaker: Speaker) -> Steps:
    return _at(steps, fault.after, lambda _: _pings(speaker.ping, fault.lasting, fault.every))


def _burst(fault: Burst, steps: Steps, speaker: Speaker) -> Steps:
    left = -1
    for step in steps:
        if left < 0 and _due(step, fault.after):
            yield Pause(fault.pause)
            left = fault.frames
        if left > 0 and type(step) is Pause:
            continue
        left -= 1 if left > 0 and type(step) is Send else 0
        yield step


def _never_ending(fault: NeverEnding, steps: Steps, speaker: Speaker) -> Steps:
    last: Send | None = None
    gap = 0.0
    for step in steps:
        if type(step) is Send and step.part in _ENDS:
            break
        if type(step) is Pause and last:
            gap = step.seconds
        yield step
        if type(step) is Send and step.part == "token":
            last = step
            if step.before + step.tokens >= speaker.tokens:
                break  # before the finish is made: an answer that has ended says nothing more
    again = Send(speaker.again(last), "token", last.before, last.tokens) if last else None
    while again is not None and again.data:
        if gap > 0:
            yield Pause(gap)
        yield again
    if last is not None:
        yield Hang()


def _huge_event(fault: HugeEvent, steps: Steps, speaker: Speaker) -> Steps:
    def insert(step: Send) -> Steps:
        opening, slot, closing = step.data.partition(b'"content":"')
        if not slot:
            opening, closing = b'data: {"pad":"', b'"}\n\n'
        return _torn(opening + slot + b"x" * max(0, fault.size - len(step.data)) + closing, fault.write, step.before)

    if not speaker.swell(fault.after, fault.size):
        return _at(steps, fault.after, insert)
    return itertools.chain.from_iterable(_torn_step(step, fault) for step in steps)


def _torn_step(step: Step, fault: HugeEvent) -> Steps:
    huge = type(step) is Send and len(step.data) > fault.size and not step.tokens
    return _torn(step.data, fault.write, step.before) if type(step) is Send and huge else iter((step,))


def _torn(data: bytes, write: int, before: int) -> Steps:
    """Yield bytes in writes of a size, 0 for all at once."""
    size = write or len(data)
    for start in range(0, len(data), size):
        yield Send(data[start : start + size], "body", before)
        yield Pause()


def _empty_chunks(fault: EmptyChunks, steps: Steps, speaker: Speaker) -> Steps:
    speaker.hollow = fault.count
    return steps


def _filter_chunks(fault: FilterChunks, steps: Steps, speaker: Speaker) -> Steps:
    spoken = said = 0
    for step in steps:
        yield step
        if type(step) is not Send:
            continue
        if step.part == "head":
            yield Send(speaker.filtered(None), "preamble")
        if step.part == "token":
            said += len(speaker.pieces[spoken].text)
            spoken += 1
        if step.part == "finish" or (step.part == "token" and spoken % fault.every == 0):
            yield Send(speaker.filtered(said), "body", step.before + step.tokens)


def _gzip(fault: GzipAnyway, steps: Steps, speaker: Speaker) -> Steps:
    press = zlib.compressobj(wbits=GZIP)
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
    return _every_byte(Send(s.data, "raw", s.before, s.tokens) if type(s) is Send else s for s in steps)


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
    EmptyChunks: _empty_chunks,
    FilterChunks: _filter_chunks,
}
"""Faults that change the steps of a healthy stream."""
