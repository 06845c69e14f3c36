"""What can go wrong with one answer, and which answers it befalls.

A fault is a value; `plan` turns it into steps. "After n" counts tokens; a fault due after more tokens than the answer has comes
before the finish chunk. Each has a text form for YAML and for the header `x-sim-fault`: its kind, then its fields in order or by
name ("stall 3 2s", "status code=429 retry_after=7").
"""

import random
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from gateway.sim.steps import Step
from gateway.sim.tempers import quantity


class Fault(Struct, frozen=True, tag_field="kind", tag="fault", forbid_unknown_fields=True):
    """One thing that goes wrong; times in seconds, sizes in bytes."""

    @property
    def kind(self) -> str:
        return str(type(self).__struct_config__.tag)


class Healthy(Fault, frozen=True, tag="none"):
    """Nothing goes wrong."""


class SlowFirstToken(Fault, frozen=True, tag="slow_first_token"):
    """Headers at once, then `delay` on top of the temper's own, with a comment every `ping_every`; the role chunk before or after."""

    delay: float = 5.0
    ping_every: float | None = None
    role_first: bool = True


class Silent(Fault, frozen=True, tag="silent"):
    """The request is taken and never answered, not even with a status."""


class Refuse(Fault, frozen=True, tag="refuse"):
    """Next in line when a connection comes: it is closed at once. On a connection already open: closed without a byte of answer."""


class Stall(Fault, frozen=True, tag="stall"):
    """Silence of `length` after `after` tokens, then on as before. `cut` bytes of the next frame go out before it."""

    after: int = 3
    length: float = 5.0
    cut: int = 0


class ResetAfter(Fault, frozen=True, tag="reset"):
    """The connection breaks (RST)."""

    after: int = 3


class Truncate(Fault, frozen=True, tag="truncate"):
    """A clean FIN too early, after `cut` bytes of the next frame, with (`terminator`) or without the end of the chunked body."""

    after: int = 3
    cut: int = 0
    terminator: bool = False


class MissingDone(Fault, frozen=True, tag="missing_done"):
    """Everything but what ends a stream in its dialect: the `[DONE]`, the `message_stop`."""


class GarbageFrame(Fault, frozen=True, tag="garbage_frame"):
    """One frame that is no JSON, in the middle of a good stream."""

    after: int = 3


class SplitUtf8(Fault, frozen=True, tag="split_utf8"):
    """Text of 2 to 4 byte characters, every byte of the body a chunk of its own."""


class Status(Fault, frozen=True, tag="status"):
    """An answer with this status instead; `body` is sent as it is, else an error document of the provider's shape."""

    code: int = 500
    retry_after: float | None = None
    body: str | None = None
    headers: dict[str, str] = {}


class ErrorEvent(Fault, frozen=True, tag="error_event"):
    """Status 200, then an error in the stream; `then_done` as vLLM does it, a `[DONE]` after the error; `first`: nothing before it.

    `code` is in the provider's own words. Its default is OpenAI's; others say their usual word for a server in trouble instead.
    """

    after: int = 3
    code: str = "server_error"
    message: str = "The server had an error while processing your request."
    then_done: bool = False
    first: bool = False


class PingStorm(Fault, frozen=True, tag="ping_storm"):
    """After `after` tokens only comments, one every `every`, for `lasting` seconds or until the peer leaves."""

    every: float = 0.1
    after: int = 0
    lasting: float | None = None


class Burst(Fault, frozen=True, tag="burst"):
    """A silence of `pause`, then `frames` chunks in one write, as from a hop that buffers."""

    frames: int = 20
    pause: float = 2.5
    after: int = 1


class NeverEnding(Fault, frozen=True, tag="never_ending"):
    """Tokens until the peer leaves; at gap 0 as fast as it takes them."""


class HugeEvent(Fault, frozen=True, tag="huge_event"):
    """One event of `size` bytes, sent `write` bytes at a time (0: at once)."""

    size: int = 8 * 1024**2
    after: int = 1
    write: int = 0


class EmptyChunks(Fault, frozen=True, tag="empty_chunks"):
    """`count` frames without text before the first token, and one after every token."""

    count: int = 3


class FilterChunks(Fault, frozen=True, tag="filter_chunks"):
    """What Azure says about its filter: a chunk on the prompt first, one on the text after every `every` tokens and after the finish.

    Only OpenAI's family of dialects can say this.
    """

    every: int = 5


class RefuseUsage(Fault, frozen=True, tag="refuse_usage"):
    """Status 400 when the request has `stream_options`, as from servers that do not know them; all is well when it has none."""


class OneByteWrites(Fault, frozen=True, tag="one_byte_writes"):
    """The whole response, head and framing included, one byte a write."""


class GzipAnyway(Fault, frozen=True, tag="gzip_anyway"):
    """The body compressed though nobody asked, flushed at every frame."""


class JsonReplyToStream(Fault, frozen=True, tag="json_reply_to_stream"):
    """One JSON document, though a stream was asked for."""


class Script(Fault, frozen=True, tag="script"):
    """These steps and no others: exact bytes, pauses, reset, half-close. For tests; it has no text form."""

    steps: tuple[Step, ...] = ()


HEALTHY = Healthy()
_TEXTUAL: tuple[type[Fault], ...] = (
    *(Healthy, SlowFirstToken, Silent, Refuse, Stall, ResetAfter, Truncate, MissingDone, GarbageFrame, SplitUtf8, Status),
    *(ErrorEvent, PingStorm, Burst, NeverEnding, HugeEvent, OneByteWrites, GzipAnyway, JsonReplyToStream),
    *(EmptyChunks, FilterChunks, RefuseUsage),
)
FAULTS: dict[str, type[Fault]] = {str(fault.__struct_config__.tag): fault for fault in _TEXTUAL}
_WORDS: dict[str, Any] = {"true": True, "yes": True, "false": False, "no": False, "null": None}


def fault_from(value: str | Mapping[str, Any]) -> Fault:
    """Return the fault of a text form, or of a mapping with `kind`. Raises ValueError saying what is wrong and what there is."""
    if isinstance(value, str):
        kind, *words = value.split() or [""]
        fields = _fields(kind, words)
    else:
        fields = {key: item for key, item in value.items() if key != "kind"}
        kind = str(value.get("kind", ""))
    if kind not in FAULTS:
        raise ValueError(f'no such fault "{kind}": there are {", ".join(FAULTS)}')
    try:
        return msgspec.convert({name: _plain(item) for name, item in fields.items()}, FAULTS[kind])
    except msgspec.ValidationError as error:
        raise ValueError(f"{kind}: {error}") from None


def _fields(kind: str, words: list[str]) -> dict[str, Any]:
    names = FAULTS[kind].__struct_fields__ if kind in FAULTS else ()
    fields: dict[str, Any] = {}
    for position, word in enumerate(words):
        name, equals, text = word.partition("=")
        if not equals and position >= len(names):
            raise ValueError(f"{kind}: takes {len(names)} values, not {len(words)}")
        fields[name if equals else names[position]] = text if equals else word
    return fields


def _plain(item: Any) -> Any:
    """Return a word as the number, duration, size or truth value it stands for, or as it is."""
    if not isinstance(item, str) or item in _WORDS:
        return _WORDS[item] if isinstance(item, str) else item
    try:
        return quantity(item)
    except ValueError:
        return item


class Turn(Struct, frozen=True):
    """What a script may look at: how many answers it decided before, the model asked for, and dice of this turn alone."""

    number: int
    model: str
    dice: random.Random


class FaultScript(Protocol):
    """Says which fault befalls an answer. Turns are numbered from 0 since the script was handed to the provider."""

    def pick(self, turn: Turn) -> Fault: ...


class Always(Struct, frozen=True):
    """The same for every answer."""

    fault: Fault = HEALTHY

    def pick(self, turn: Turn) -> Fault:  # noqa: ARG002 - one shape for all scripts
        return self.fault


class InOrder(Struct, frozen=True):
    """The first answer gets the first fault, and so on; after the last all is well, or it starts over (`repeat`)."""

    faults: Sequence[Fault]
    repeat: bool = False

    def pick(self, turn: Turn) -> Fault:
        if self.repeat and self.faults:
            return self.faults[turn.number % len(self.faults)]
        return self.faults[turn.number] if turn.number < len(self.faults) else HEALTHY


class Every(Struct, frozen=True):
    """The `n`-th, 2n-th, 3n-th answer."""

    n: int
    fault: Fault

    def pick(self, turn: Turn) -> Fault:
        return self.fault if (turn.number + 1) % self.n == 0 else HEALTHY


class Chance(Struct, frozen=True):
    """Any answer, with probability `p`; which ones is the seed's choice."""

    p: float
    fault: Fault

    def pick(self, turn: Turn) -> Fault:
        return self.fault if turn.dice.random() < self.p else HEALTHY


class ByModel(Struct, frozen=True):
    """By the model asked for: the first glob that matches."""

    faults: Mapping[str, Fault]

    def pick(self, turn: Turn) -> Fault:
        return next((fault for glob, fault in self.faults.items() if fnmatchcase(turn.model, glob)), HEALTHY)


class FirstOf(Struct, frozen=True):
    """Several scripts; the first that has something to go wrong decides."""

    scripts: Sequence[FaultScript]

    def pick(self, turn: Turn) -> Fault:
        picks = (script.pick(turn) for script in self.scripts)
        return next((fault for fault in picks if fault != HEALTHY), HEALTHY)


NO_FAULTS = Always()
