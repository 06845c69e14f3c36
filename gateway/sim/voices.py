"""One answer in any dialect but OpenAI's: the draft as events, and the dialect's own writer to make frames of them."""

import random
from collections.abc import Mapping, Sequence

import orjson

from gateway.core.call import Call
from gateway.core.events import Delta, Event, Finished, Meaning, Started, ToolOpened, Usage
from gateway.dialects.base import Dialect, Stamp
from gateway.sim.drafts import Draft, Piece, Prompt
from gateway.sim.faults import ErrorEvent
from gateway.sim.steps import Send
from gateway.wire.framing import Parser

_MEANINGS: Mapping[str, Meaning] = {"stop": "stop", "length": "length", "tool_calls": "tools"}


class Voice(Draft):
    """Says one answer to a call of `dialect`. What is special about a dialect is in the classes of `accents`."""

    prefix = ""
    tool_prefix = "call_"
    garbage = b'event: spilt\ndata: {"type":"spilt\n\n'
    afterword = b""
    cache_write: int | None = None
    marker = 1
    """How many of the last frames make the end of a stream; without them it is not complete."""

    def __init__(self, dialect: Dialect, call: Call, prompt: Prompt, ordinal: int, dice: random.Random) -> None:
        super().__init__(prompt, ordinal, dice, self.prefix)
        self.call = call
        framing = dialect.framing(call)
        self.ping = framing.keepalive
        self.tongue = dialect.name
        self.stamp = Stamp(self.id, self.created)
        self.spoken = 0
        self._dialect = self.author(dialect)
        self._writer = self._dialect.writer(call, self.stamp)
        self._done = b""
        charset = "; charset=utf-8" if framing.media_type.startswith("text/") else ""
        self.head = {"Content-Type": framing.media_type + charset, "Cache-Control": "no-cache"}

    def author(self, dialect: Dialect) -> Dialect:
        """Return the dialect whose writer says it."""
        return dialect

    def role(self) -> bytes:
        """What comes before anything is said: the answer's name and what its input counts, where the dialect tells that early."""
        counted = Usage(self.prompt.input_tokens, 1, self.cached, self.cache_write)
        return self._dress(self._feed([Started(self.id, self.prompt.model), counted]))

    def frame(self, piece: Piece) -> bytes:
        """Return the frames that say a piece; none while the dialect waits for the rest of a tool call."""
        self.spoken += piece.tokens
        events = [self._event(piece)]
        if piece is self.pieces[-1]:
            events.append(self._finished())
        return self._dress(self._feed(events))

    def finish(self) -> bytes:
        """Return everything from the last piece to the end marker, `done` that."""
        said = self._feed([self._finished(), self._usage(self.tokens)]) + self._writer.end()
        frames = [self._dress(raw) for raw in _split(said, self._dialect.framing(self.call).parser())]
        cut = max(0, len(frames) - self.marker)
        self._done = b"".join(frames[cut:])
        return b"".join(frames[:cut])

    def done(self) -> bytes:
        return self._done

    def usage_frame(self) -> bytes:
        """Nothing: here usage always comes unasked, with the finish."""
        return b""

    def document(self) -> bytes:
        """The whole answer in one piece."""
        return self._dialect.write_document(self.call, self.events(), self.stamp)

    def events(self) -> list[Event]:
        """Return everything that is said, in no dialect."""
        said = [self._event(piece) for piece in self.pieces]
        return [Started(self.id, self.prompt.model), *said, self._finished(), self._usage(self.tokens)]

    def count(self) -> bytes:
        """Return the document that says how many tokens the input has."""
        return orjson.dumps({"input_tokens": self.prompt.input_tokens})

    def again(self, step: Send) -> bytes:  # noqa: ARG002 - the first token's frames may open something, which is done only once
        """Say a token more, and no more than that."""
        more = Delta("text", " on")
        self._writer.feed([more])
        return self._dress(self._writer.feed([more]))

    def swell(self, after: int, size: int) -> bool:
        """Put one piece of `size` characters after so many tokens."""
        place = said = 0
        while place < len(self.pieces) and said < after:
            said += self.pieces[place].tokens
            place += 1
        near = self.pieces[max(0, place - 1)].kind if self.pieces else "text"
        self.pieces.insert(place, Piece("reasoning" if near == "reasoning" else "text", "x" * size, 0))
        return True

    def fail(self, fault: ErrorEvent, step: Send | None) -> bytes:
        """Return the error that stands in the place of this step, None before anything was said."""
        raise NotImplementedError

    def filtered(self, said: int | None) -> bytes:  # noqa: ARG002
        """Nothing: what Azure says of its filter cannot be said here."""
        return b""

    def _feed(self, events: Sequence[Event]) -> bytes:
        return self._writer.feed(events)

    def _dress(self, said: bytes) -> bytes:
        return said

    def _event(self, piece: Piece) -> Event:
        if piece.kind == "opening":
            return ToolOpened(piece.index, self.tool_prefix + piece.text.removeprefix("call_"), piece.name)
        return Delta(piece.kind, piece.text, piece.index)

    def _finished(self) -> Finished:
        return Finished(self.finish_reason, _MEANINGS[self.finish_reason])

    def _usage(self, output: int) -> Usage:
        return Usage(self.prompt.input_tokens, output, self.cached, self.cache_write, self.reasoning or None)


def _split(said: bytes, parser: Parser) -> list[bytes]:
    """Return bytes frame by frame."""
    frames = [frame.raw for frame in parser.feed(said)]
    return [*frames, parser.tail] if parser.tail else frames
