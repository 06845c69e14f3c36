"""A stream's record as what can be played again: which tokens came when, who held each silence, and how it ended. Pure."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Literal

import msgspec
from msgspec import Struct

from gateway.core.answer import ToolCall
from gateway.core.owners import Blame
from gateway.core.record import StreamRecord
from gateway.terminal.ink import word
from gateway.terminal.leaving import Unable

TICKS = 10_000
"""Ticks of a cadence in one second."""
UNKNOWN = "▪"
"""Stands for one token of which nobody knows what it said."""


class NotARecording(Unable):
    """What was given is no record of a stream, or of one that cannot be played; the message says which."""


class Arrival(Struct, frozen=True):
    """One read that brought tokens: `at` seconds after the request was received. `text` is None where it is not known."""

    at: float
    tokens: int
    kind: Literal["text", "reasoning", "tool"] = "text"
    text: str | None = None


class Pause(Struct, frozen=True):
    """A stall: seconds after the request was received, length in seconds, who held most of it."""

    at: float
    length: float
    blame: Blame


class Recording(Struct, kw_only=True):
    """All that a replay needs. Times are seconds after the request was received; `headers` and `opening` (the first event) are None
    when they never came. `captured`: what it said is known. `kept`: how many arrivals' times are; those beyond are spread evenly."""

    record: StreamRecord
    headers: float | None
    opening: float | None
    arrivals: list[Arrival]
    ended: float
    stalls: list[Pause]
    captured: bool
    kept: int
    tools: Sequence[ToolCall] = ()


def read(view: Any, content: Any = None) -> Recording:
    """Return what a record of the admin API says, as its JSON was read; `content` is what /content says, None when it says nothing.

    Raises NotARecording.
    """
    record = _record(view)
    if record.operation == "realtime":
        raise NotARecording("a realtime session cannot be replayed: its record holds no cadence")
    began, served = record.received_at, record.served
    times = _times(record)
    said = content if isinstance(content, Mapping) and isinstance(content.get("text"), str) else None
    return Recording(
        record=record,
        headers=served.headers_at - began if served and served.headers_at is not None else None,
        opening=record.first_event_at - began if record.first_event_at is not None else None,
        arrivals=_spoken(record, times, said),
        ended=(record.ended_at or began) - began,
        stalls=[Pause(stall.at - began, stall.length, stall.blame) for stall in record.cadence.stalls],
        captured=said is not None,
        kept=min(len(record.cadence.ticks), len(times)),
        tools=[_tool(tool) for tool in said.get("tools") or () if isinstance(tool, Mapping)] if said is not None else [],
    )


def _tool(said: Mapping[str, Any]) -> ToolCall:
    return ToolCall(*(str(said.get(name) or "") for name in ("id", "name", "arguments")))


def _record(view: Any) -> StreamRecord:
    """Read a record. Its histogram is left out: JSON has no infinity, and nothing here asks for it."""
    if not isinstance(view, dict) or "stream_id" not in view:
        raise NotARecording("this is no record of a stream: take what /api/streams/ID answers")
    if view.get("ended_at", 0.0) is None:
        raise NotARecording(f"the stream {word(view['stream_id'])} has not ended yet")
    cadence = view.get("cadence")
    if isinstance(cadence, dict):
        view = {**view, "cadence": {**cadence, "gaps": []}}
    try:
        return msgspec.convert({**view, "voice": None}, StreamRecord)
    except msgspec.ValidationError as error:
        raise NotARecording(f"this is no record of a stream: {error}") from None


def _times(record: StreamRecord) -> list[tuple[float, int]]:
    """Return when tokens arrived, and how many: as they were kept; what was not kept lies evenly up to the last token."""
    cadence = record.cadence
    if record.first_token_at is None or not cadence.chunks or not record.streamed:
        return []
    first, many = record.first_token_at - record.received_at, dict(cadence.counts)
    times = [(first + ticks / TICKS, many.get(place, 1)) for place, ticks in enumerate(accumulate(cadence.ticks))] or [(first, 1)]
    left, reads = cadence.chunks - sum(tokens for _, tokens in times), max(cadence.arrivals, 1) - len(times)
    if left <= 0:
        return times
    reads = max(1, min(reads, left))
    since, last = times[-1][0], max(times[-1][0], (record.last_token_at or 0.0) - record.received_at)
    for place in range(reads):
        tokens = left * (place + 1) // reads - left * place // reads
        times.append((since + (last - since) * (place + 1) / reads, tokens))
    return times


def _spoken(record: StreamRecord, times: list[tuple[float, int]], said: Mapping[str, Any] | None) -> list[Arrival]:
    """Lay what was said on its arrivals. `cuts` of a content say how much text had come by each."""
    answer = record.first_answer_at - record.received_at if record.first_answer_at is not None else None
    thought = [at for at, _ in times if answer is None or at < answer - 0.5 / TICKS]
    if said is None:
        return [Arrival(at, tokens, "reasoning" if place < len(thought) else "text") for place, (at, tokens) in enumerate(times)]
    text, cuts = str(said["text"] or said.get("refusal") or ""), [cut for cut in said.get("cuts") or () if isinstance(cut, int)]
    thoughts = iter(shares(str(said.get("reasoning") or ""), len(thought)))
    arrivals, told = list[Arrival](), 0
    for place, (at, tokens) in enumerate(times):
        cut = cuts[place] if place < len(cuts) and said["text"] else len(text) * (place + 1) // len(times)
        cut = len(text) if place == len(times) - 1 else min(max(cut, told), len(text))
        if place < len(thought) and cut == told:
            arrivals.append(Arrival(at, tokens, "reasoning", next(thoughts) or None))
        elif cut == told and said.get("tools"):
            arrivals.append(Arrival(at, tokens, "tool"))
        else:
            arrivals.append(Arrival(at, tokens, "text", text[told:cut] or None))
        told = cut
    return arrivals


def shares(text: str, count: int) -> list[str]:
    """Cut a text into so many parts of about one length."""
    return [text[len(text) * place // count : len(text) * (place + 1) // count] for place in range(count)]
