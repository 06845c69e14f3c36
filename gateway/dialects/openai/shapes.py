"""What OpenAI-shaped chunks and documents look like, as far as they are read: every other member is skipped, not built."""

from typing import Any

from msgspec import Struct

from gateway.dialects.lenient import Whole


class Function(Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class Tool(Struct, gc=False):
    index: Whole | None = None
    id: str | None = None
    function: Function | None = None


class Audio(Struct, gc=False):
    data: str | None = None
    transcript: str | None = None


class Said(Struct, gc=False):
    """A choice's delta. vLLM says `reasoning` or, before, `reasoning_content`; some servers repeat one in the other."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[Tool] | None = None
    refusal: str | None = None
    function_call: Function | None = None
    audio: Audio | None = None


class Choice(Struct, gc=False):
    """`text` is the completions endpoint's; Azure's content filter sends choices without a delta."""

    index: Whole = 0
    delta: Said | None = None
    finish_reason: str | None = None
    text: str | None = None


class InputDetails(Struct, gc=False):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class OutputDetails(Struct, gc=False):
    reasoning_tokens: int | None = None


class Counts(Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: InputDetails | None = None
    completion_tokens_details: OutputDetails | None = None


class Groq(Struct, gc=False):
    usage: Counts | None = None
    error: Any = None


class Chunk(Struct, gc=False):
    """What is read of every chunk once the stream has named itself; the rest is skipped, not built."""

    choices: list[Choice] | None = None
    usage: Counts | None = None
    error: Any = None
    x_groq: Groq | None = None


class NamedChunk(Chunk, gc=False):
    id: str | None = None
    model: str | None = None


class WholeChoice(Struct, gc=False):
    """A choice of an answer in one piece: the same things said, under another name."""

    index: Whole = 0
    message: Said | None = None
    finish_reason: str | None = None
    text: str | None = None


class Document(Struct, gc=False):
    """An answer in one piece."""

    choices: list[WholeChoice] | None = None
    usage: Counts | None = None
    error: Any = None
    x_groq: Groq | None = None
    id: str | None = None
    model: str | None = None
