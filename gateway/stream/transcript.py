"""What an answer says, kept while it is observed: only where a route stores content, or somebody may read along."""

from array import array
from collections.abc import Callable, Sequence
from typing import Literal

from gateway.core.answer import ToolCall
from gateway.core.call import Call
from gateway.core.content import MAX_ANSWER
from gateway.core.events import Delta, Event, ToolOpened
from gateway.dialects.base import Dialect
from gateway.stream.cadence import MOST_TICKS, CadenceMeter
from gateway.stream.delivered import Fresh
from gateway.stream.observer import Arrive, DocumentObserver, Observer
from gateway.wire.framing import Frame

Words = Literal["text", "reasoning", "refusal"]
MOST_TOOLS = 128


class Kept:
    """Words as UTF-8, which only grows: a text of a million tokens is no million objects. `full`: something came that is not here."""

    __slots__ = ("full", "size", "tools", "words")

    def __init__(self) -> None:
        self.words: dict[str, bytearray] = {"text": bytearray(), "reasoning": bytearray(), "refusal": bytearray()}
        self.tools: dict[int, tuple[ToolCall, bytearray]] = {}
        self.full = False
        self.size = 0

    def add(self, kept: bytearray, text: str) -> bool:
        """Add text, if there is room for all of it and nothing was left out before."""
        data = text.encode("utf-8", "replace")  # half an emoji is a question mark, one character as before
        self.size += len(data)
        self.full = self.full or self.size > MAX_ANSWER
        if not self.full:
            kept += data
        return not self.full

    def tool(self, index: int) -> tuple[ToolCall, bytearray] | None:
        """Return a tool call and its arguments, a new one if need be; None when there are too many."""
        if index not in self.tools and len(self.tools) >= MOST_TOOLS:
            self.full = True
            return None
        return self.tools.setdefault(index, (ToolCall(None, ""), bytearray()))

    def go_on(self, other: "Kept") -> None:
        """Put another's words behind these."""
        for kind, words in other.words.items():
            self.words[kind] += words
        self.tools |= other.tools
        self.size += other.size
        self.full = self.full or other.full


class Transcript:
    """The words of one upstream, MAX_ANSWER bytes of them; with `join`, those of the upstreams before it too.

    `after` is the answer so far, where this upstream goes on with it, and `fresh` tells what of its events is new. Of several answers to
    one call (`choices`) the first one's text is kept. `characters` is how much text there is, `cuts` how much there was after each
    arrival.
    """

    __slots__ = ("_after", "_alone", "_fresh", "_kept", "characters", "cuts")

    def __init__(self, choices: int = 1, after: "Transcript | None" = None, fresh: Fresh | None = None) -> None:
        self._alone, self._fresh = choices == 1, fresh
        self._after = after.kept if after is not None else None
        self._kept = Kept()
        self.characters: int = after.characters if after is not None else 0
        self.cuts: array[int] = after.cuts if after is not None else array("L")

    @property
    def kept(self) -> Kept:
        return self._kept

    @property
    def full(self) -> bool:
        """Whether something was said that is not here."""
        return self._kept.full

    def take(self, events: Sequence[Event]) -> None:
        """Note what has been said."""
        kept = self._kept
        for said in events:
            event = said if self._fresh is None else self._fresh.of(said)
            if type(event) is Delta:
                if event.kind == "arguments":
                    if (tool := kept.tool(event.index)) is not None:
                        kept.add(tool[1], event.text)
                elif (words := kept.words.get(event.kind)) is not None and (self._alone or not event.index) and kept.add(words, event.text):
                    self.characters += len(event.text) if event.kind == "text" else 0
            elif type(event) is ToolOpened and (tool := kept.tool(event.index)) is not None:
                tool[0].id, tool[0].name = event.id or tool[0].id, event.name or tool[0].name

    def mark(self) -> None:
        """Say that a read with tokens is over."""
        if len(self.cuts) < MOST_TICKS:
            self.cuts.append(self.characters)

    def join(self) -> None:
        """Go on with the words of the upstreams before: this one has been chosen."""
        before, self._after = self._after, None
        if before is not None:
            before.go_on(self._kept)
            self._kept = before

    def said(self, kind: Words, start: int, most: int | None) -> bytes:
        """Return words of one kind as UTF-8, from a byte on, at most so many of them."""
        return bytes(self._kept.words[kind][start : None if most is None else start + most])

    def text(self, kind: Words) -> str:
        return self._kept.words[kind].decode()

    def tools(self) -> list[ToolCall]:
        return [ToolCall(tool.id, tool.name, arguments.decode()) for tool, arguments in self._kept.tools.values()]

    def steps(self) -> list[int]:
        """Return how much text there was after each arrival. Where several upstreams were asked to go on at once, and one was chosen,
        what another had said meanwhile is nobody's."""
        steps, most = list[int](), 0
        for characters in self.cuts:
            most = min(max(most, characters), self.characters)
            steps.append(most)
        return steps


class Scribe(Observer):
    """An observer that reads every frame, and writes down what it says."""

    __slots__ = ("_transcript",)

    def __init__(self, dialect: Dialect, call: Call, meter: CadenceMeter, transcript: Transcript) -> None:
        super().__init__(dialect, call, meter)
        self._transcript = transcript
        self._arrive = _marking(meter, transcript.mark)

    def _learn(self, frame: Frame, events: Sequence[Event], alone: bool) -> None:
        """Learn nothing: what is known again without being parsed could not be written down."""

    def _take(self, events: Sequence[Event], now: float) -> bool:
        self._transcript.take(events)
        return super()._take(events, now)


class DocumentScribe(DocumentObserver):
    """The same for an answer in one piece."""

    __slots__ = ("_transcript",)

    def __init__(self, dialect: Dialect, call: Call, transcript: Transcript) -> None:
        super().__init__(dialect, call)
        self._transcript = transcript

    def _note(self, events: Sequence[Event]) -> None:
        self._transcript.take(events)
        super()._note(events)


def _marking(meter: CadenceMeter, mark: Callable[[], None]) -> Arrive:
    """Return what notes an arrival, and how far the text has come. It holds no observer: nothing of a stream may hold itself."""

    def arrived(now: float, chunks: int = 1) -> None:
        meter.arrive(now, chunks)
        mark()

    return arrived
