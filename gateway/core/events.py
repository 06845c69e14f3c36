"""What a stream says, whatever its dialect: every frame turns into none, one or several of these."""

from typing import Literal

from msgspec import Struct

Kind = Literal["text", "reasoning", "refusal", "arguments", "audio"]
ANSWER_KINDS = frozenset({"text", "refusal", "arguments", "audio"})
"""Kinds that a user can see or an agent can act on; reasoning is generated, but it is not yet an answer."""

Meaning = Literal["stop", "length", "tools", "filtered", "other"]
"""Why an answer ended, in no provider's words: it was done, cut at a limit, waits for tool results, was withheld, or something else."""


class Started(Struct, frozen=True, gc=False):
    """The upstream has accepted the call and named its answer; not a token."""

    id: str | None = None
    model: str | None = None


class ToolOpened(Struct, frozen=True, gc=False):
    """The model begins a tool call: its name is generated output, so it counts as a token of kind arguments."""

    index: int
    id: str | None
    name: str | None


class Delta(Struct, frozen=True, gc=False):
    """Generated output. `text` is never empty; `index` is the choice, block or tool it belongs to."""

    kind: Kind
    text: str
    index: int = 0


class Usage(Struct, frozen=True, gc=False):
    """Token counts as the provider gave them, inclusive of cached input; None is "not said", never 0."""

    input: int | None = None
    output: int | None = None
    cached: int | None = None
    cache_write: int | None = None
    reasoning: int | None = None


class Finished(Struct, frozen=True, gc=False):
    """One choice has ended: the provider's own word for why ("stop", "MAX_TOKENS", "end_turn"), and what that means to everybody."""

    reason: str
    meaning: Meaning = "stop"


class Failed(Struct, frozen=True, gc=False):
    """The upstream reported an error inside its stream."""

    code: str
    message: str


class Terminated(Struct, frozen=True, gc=False):
    """The dialect's own end marker ("[DONE]", "message_stop") has come: what follows is not the stream's."""


Event = Started | ToolOpened | Delta | Usage | Finished | Failed | Terminated
