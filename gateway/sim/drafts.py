"""What one answer says, in no dialect: its words drawn from dice, cut into pieces, and counted."""

import random
from typing import Any, Literal

from msgspec import Struct

from gateway.sim.tempers import Pace

EPOCH = 1_763_700_000  # `created` of the first answer: a constant, because the same seed must give the same bytes
WORDS = (
    *("the water", " rises", " slowly", " over", " the sill", " and", " the gauge", " marks", " its height", ".", " Each", " litre", ","),
    *(" counted", " once", " falls", " past", " the notch", " into", " a quiet", " pool", ";", " upstream", " rain", " has begun"),
    *(" again", " so", " we wait", " for", " the crest", " to reach", " the stone", " crown", " at", " noon", ".\n", " Then", " it flows"),
    *(" steadily", ",", " a long", " clear", " sheet", " without", " a break", " from bank", " to bank", " until", " dusk", "."),
)
MULTIBYTE = (
    "Größe ",
    "水位",
    "は",
    "上がる",
    "。",
    " naïve",
    " façade",
    " річка",
    " 🌊",
    " 👩‍👩‍👧‍👦",
    " Ω≈3",
    "é",
    "\u2028",
    " çà et là",
    " 🇳🇴",
)


class Prompt(Struct, frozen=True, kw_only=True):
    """The few fields of a request that an answer depends on. `path` is OpenAI's, whatever the address asked for was."""

    path: str
    model: str
    stream: bool = False
    include_usage: bool = False
    options: bool = False
    max_tokens: int | None = None
    input_tokens: int = 1
    inputs: int = 1
    dimensions: int = 16
    base64: bool = False


def count_inputs(said: Any) -> int:
    """Return how many texts are to be embedded: a list of numbers is one, as tokens."""
    return len(said) if isinstance(said, list) and said and not isinstance(said[0], int) else 1


class Piece(Struct, frozen=True, gc=False):
    """One chunk's worth of generated output: `tokens` of them; `index` is the tool call it belongs to, `name` the tool it opens."""

    kind: Literal["text", "reasoning", "opening", "arguments"]
    text: str
    tokens: int
    index: int = 0
    name: str = "measure_flow"


class Draft:
    """One answer's words. They are drawn at once, and are the same in every dialect: only how they are said differs.

    `speech` is "words", "multibyte", "tool" or "tools"; a chat endpoint may also reason first. Output tokens are those of the pieces.
    With `hollow`, so many frames without text come before the first token, and one after each.
    """

    def __init__(self, prompt: Prompt, ordinal: int, dice: random.Random, prefix: str, chat: bool = True) -> None:
        self.prompt = prompt
        self.dice = dice
        self.chat = chat
        self.id = f"{prefix}sim{dice.getrandbits(64):016x}"
        self.created = EPOCH + ordinal
        self.pieces: list[Piece] = []
        self.reasoning = self.cached = self.hollow = 0
        self.finish_reason = "stop"

    @property
    def tokens(self) -> int:
        return sum(piece.tokens for piece in self.pieces)

    def compose(self, pace: Pace, speech: str, size: int) -> None:
        """Draw the pieces: `pace.reasoning` tokens of thought, then the answer, `size` tokens a piece, all within `max_tokens`."""
        self.cached = min(pace.cached, self.prompt.input_tokens)
        wanted, ceiling = pace.tokens, self.prompt.max_tokens
        self.reasoning = pace.reasoning if self.chat else 0
        if ceiling is not None and self.reasoning + wanted > ceiling:
            self.finish_reason = "length"
            self.reasoning = min(self.reasoning, ceiling)
            wanted = ceiling - self.reasoning
        self._draw("reasoning", WORDS, self.reasoning, size)
        if speech in {"tool", "tools"} and self.chat:
            self._call_tools(wanted, size, 1 if speech == "tool" else 2)
        else:
            self._draw("text", MULTIBYTE if speech == "multibyte" else WORDS, wanted, size)

    def _draw(self, kind: Literal["text", "reasoning", "arguments"], words: tuple[str, ...], count: int, size: int, index: int = 0) -> None:
        drawn = self.dice.choices(words, k=count)
        groups = (drawn[at : at + size] for at in range(0, count, size))
        self.pieces += [Piece(kind, "".join(group), len(group), index) for group in groups]

    def _call_tools(self, wanted: int, size: int, calls: int) -> None:
        """Call a tool, or several one after the other, each with arguments that are one JSON object."""
        plain = tuple(word for word in WORDS if "\n" not in word)
        for index in range(calls):
            share = wanted // calls + (wanted % calls if index == 0 else 0)
            name = f"call_{self.dice.getrandbits(48):012x}"
            self.pieces += [Piece("opening", name, 1, index), Piece("arguments", '{"place":"', 1, index)]
            self._draw("arguments", plain, max(0, share - 3), size, index)
            self.pieces.append(Piece("arguments", '"}', 1, index))
        if self.finish_reason == "stop":
            self.finish_reason = "tool_calls"

    def written(self, kind: str, index: int | None = None) -> str:
        """Return all text of a kind, of one tool call if `index` says which."""
        return "".join(piece.text for piece in self.pieces if piece.kind == kind and index in {None, piece.index})
