"""A recording as a provider: whoever asks for a stream gets this one again, with its waits, its silences and its end.

It stands where all upstreams of the stream stood together: its first token comes as late as the client's did, failed attempts included.
What was the client's or the gateway's doing (leaving, stopping) is not done again: there the answer ends as if it were complete.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import msgspec

from gateway.core.answer import ToolCall
from gateway.sim.answers import Answer
from gateway.sim.drafts import Piece
from gateway.sim.faults import HEALTHY, ErrorEvent, Fault, MissingDone, Refuse, ResetAfter, Silent, Stall, Status, Truncate
from gateway.sim.plan import WHOLE, document, refusal, speech
from gateway.sim.plays import PLAYS, Speaker
from gateway.sim.provider import Provider
from gateway.sim.steps import Pause, Step, framed
from gateway.sim.tempers import Pace
from gateway.sim.voices import Voice
from gateway.terminal.recording import UNKNOWN, Arrival, NotARecording, Recording, shares

DAY = 86_400.0
"""A silence that lasts until the other side has had enough of it."""
_LENGTH = frozenset({"length", "max_tokens", "max_output_tokens"})
_SILENT = frozenset({"upstream_stalled", "first_token_timeout"})


class Rerun(Provider):
    """Plays recordings, in turn, to every call for a stream; `speed` divides all waits."""

    def __init__(self, recordings: Sequence[Recording], speed: float = 1.0) -> None:
        models = tuple(dict.fromkeys(recording.record.asked_model for recording in recordings))
        super().__init__(models=models, name="replay")
        for recording in recordings:
            if not recording.record.streamed and recording.record.outcome == "completed":
                raise NotARecording(f"the stream {recording.record.stream_id} came in one piece: there is no cadence to serve")
        self._recordings = itertools.cycle(recordings)
        self._speed = speed

    def generate(self, answer: Answer | Voice, fault: Fault, fields: dict[str, str]) -> Iterator[Step]:
        """Return the next recording's steps; asked for a document, one that comes when the stream was over."""
        played = Score(next(self._recordings), self._speed)
        played.write(answer)
        if fault != HEALTHY:  # asked for by header
            whole = WHOLE.get(type(fault))
            return whole(fault, fields, answer.tongue) if whole else played.stream(answer, (fault,), fields)
        return played.answer(answer, fields)


class Score:
    """One recording, ready to be said by an answer of any dialect."""

    def __init__(self, recording: Recording, speed: float) -> None:
        self._recording, self._speed = recording, speed
        self._record = recording.record
        self._pieces: list[Piece] = []
        self._at: list[float] = []
        calls = iter(_calls(recording.tools, sum(arrival.tokens for arrival in recording.arrivals if arrival.kind == "tool")))
        for arrival in recording.arrivals:
            for piece in _pieces(arrival, calls):
                self._pieces.append(piece)
                self._at.append(arrival.at / speed)
        self._tokens = len(self._pieces)
        self._cut = self._record.outcome in {"upstream_error", "upstream_truncated"} | _SILENT

    @property
    def _ended(self) -> float:
        return self._recording.ended / self._speed

    def write(self, answer: Answer | Voice) -> None:
        """Put the recorded words and counts in the place of those an answer would have drawn."""
        usage, pieces = self._record.usage, list(self._pieces)
        if usage is not None and usage.output is not None and pieces and usage.output > self._tokens:
            pieces[-1] = msgspec.structs.replace(pieces[-1], tokens=1 + usage.output - self._tokens)
        self._tokens = sum(piece.tokens for piece in pieces)
        if self._cut:
            pieces.append(Piece("text", UNKNOWN, 1))  # never said: what an answer breaks off before
        answer.pieces = pieces
        answer.finish_reason = "length" if any(word.lower() in _LENGTH for word in self._record.finish) else "stop"
        if any(piece.kind == "opening" for piece in pieces):
            answer.finish_reason = "tool_calls"
        answer.reasoning = sum(piece.tokens for piece in pieces if piece.kind == "reasoning")
        if usage is not None:
            answer.prompt = msgspec.structs.replace(answer.prompt, input_tokens=usage.input or answer.prompt.input_tokens)
            answer.reasoning, answer.cached = usage.reasoning or answer.reasoning, usage.cached or 0

    def answer(self, answer: Answer | Voice, fields: dict[str, str]) -> Iterator[Step]:
        """Return the steps of the whole answer."""
        if (fault := self._instead()) is not None:
            wait = DAY if isinstance(fault, Silent) else self._ended
            return itertools.chain((Pause(wait),), WHOLE[type(fault)](fault, fields, answer.tongue))
        if not answer.prompt.stream:
            return self._document(answer, fields)
        return self.stream(answer, self._faults(), fields)

    def stream(self, answer: Answer | Voice, faults: Sequence[Fault], fields: dict[str, str]) -> Iterator[Step]:
        """Return the steps of a stream at the recorded pace, with these faults."""
        steps: Iterator[Step] = speech(answer, self._pace(), 1, answer.head | fields)
        for fault in faults:
            if (play := PLAYS.get(type(fault))) is not None:
                steps = play(fault, steps, cast("Speaker", answer))
        return framed(steps)

    def _document(self, answer: Answer | Voice, fields: dict[str, str]) -> Iterator[Step]:
        if self._cut:
            steps = refusal(answer.tongue, 502, f"The replayed stream ended as {self._record.outcome}.", fields)
        else:
            steps = document(answer.document(), 200, fields)
        return itertools.chain((Pause(self._ended),), steps)

    def _pace(self) -> Pace:
        """Return when everything comes: head, first event, tokens, and what the answer breaks off before."""
        recording, speed = self._recording, self._speed
        at = [*self._at, *([self._silent_until()] if self._cut else [])] or [self._ended]
        first = at[0]
        role = min(first, recording.opening / speed) if recording.opening is not None else first
        headers = min(role, recording.headers / speed) if recording.headers is not None else role
        gaps: Callable[[], float] = iter([max(0.0, to - since) for since, to in itertools.pairwise(at)]).__next__
        return Pace(headers=headers, role=role, first=first, gap=gaps, tokens=self._tokens, reasoning=0)

    def _silent_until(self) -> float:
        return self._ended + DAY if self._record.outcome in _SILENT else self._ended

    def _instead(self) -> Fault | None:
        """Return what comes in the place of a stream: a status, nothing at all, or a closed connection."""
        record, served = self._record, self._record.served
        if served is None or record.outcome == "gateway_error":
            return None if self._pieces else Status(code=record.status if record.status and record.status >= 400 else 502)
        if served.headers_at is None and not self._pieces:
            if record.outcome in _SILENT:
                return Silent()
            return Refuse() if record.outcome.startswith("upstream_") else None
        return Status(code=served.status) if served.status is not None and served.status >= 400 else None

    def _faults(self) -> tuple[Fault, ...]:
        """Return how it ends, where that is not the proper end at the recorded moment."""
        record, said = self._record, self._tokens
        if record.outcome == "upstream_error":
            code = record.error or ErrorEvent().code
            return (ErrorEvent(after=said, code=code, message="The replayed stream failed here.", first=self._recording.opening is None),)
        if record.outcome == "upstream_truncated":
            broken = record.error in {"connection_reset", "bad_response"}
            return (ResetAfter(after=said) if broken else Truncate(after=said, terminator=record.error == "stream_truncated"),)
        if record.outcome in _SILENT:
            return ()
        tail = Stall(after=said, length=max(0.0, self._ended - (self._at[-1] if self._at else self._ended)))
        return (tail, MissingDone()) if record.missing_done else (tail,)


def _pieces(arrival: Arrival, calls: Iterator[list[Piece]]) -> list[Piece]:
    """Return what an arrival said, token by token; each says something, for an empty one is none."""
    if arrival.kind == "tool":
        return [piece for part in itertools.islice(calls, arrival.tokens) for piece in part]
    if arrival.text is None:
        return [Piece(arrival.kind, UNKNOWN, 1)] * arrival.tokens
    parts = min(arrival.tokens, len(arrival.text))
    return [Piece(arrival.kind, text, 1) for text in shares(arrival.text, parts)]


def _calls(tools: Sequence[ToolCall], tokens: int) -> list[list[Piece]]:
    """Lay tool calls on so many tokens: each opens with its name, and its arguments follow; too few tokens say more than one thing."""
    said: list[Piece] = []
    for index, tool in enumerate(tools):
        room = max(1, tokens * (index + 1) // len(tools) - tokens * index // len(tools) - 1)
        said.append(Piece("opening", f"call_{(tool.id or str(index)).rpartition('_')[2]}", 1, index, tool.name or "tool"))
        arguments = tool.arguments or "{}"
        said += [Piece("arguments", text, 1, index) for text in shares(arguments, min(room, len(arguments)))]
    return [said[len(said) * place // tokens : len(said) * (place + 1) // tokens] for place in range(tokens)]
