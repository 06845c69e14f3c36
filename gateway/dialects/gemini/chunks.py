"""The shape of Gemini's chunks: the members that are read, typed, and what can be made of them when a type is wrong."""

from typing import Any

import msgspec
from msgspec import Struct

from gateway.dialects.lenient import Whole, count, encodable, encode, mapping, mappings, text

# With `$alt=json;enum-encoding=int`, which Google's older clients ask for, enums are numbers.
_NUMBERED = (
    "FINISH_REASON_UNSPECIFIED", "STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "OTHER", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT",
    "SPII", "MALFORMED_FUNCTION_CALL", "IMAGE_SAFETY",
)  # fmt: skip

FOREIGN_SIGNATURE = "skip_thought_signature_validator"
"""What Gemini 3 is told instead of a thought signature when a tool call was another model's: without any it answers 400. Source:
ai.google.dev/gemini-api/docs/thought-signatures. It is taken as it stands, and as the base64 that Google's own clients make of it."""


class Camel(Struct, gc=False, rename="camel"):
    """Gemini writes its members in camelCase."""


class FunctionCall(Camel):
    """A tool call, whole in one part; or in pieces, `partial_args` each, where a client of Vertex has asked for that."""

    id: str | None = None
    name: str | None = None
    args: msgspec.Raw = msgspec.Raw(b"")
    partial_args: msgspec.Raw = msgspec.Raw(b"")
    will_continue: bool | None = None


class Code(Camel):
    code: str | None = None


class Blob(Camel):
    data: str | None = None


class Part(Camel):
    text: str | None = None
    thought: bool | None = None
    function_call: FunctionCall | None = None
    executable_code: Code | None = None
    inline_data: Blob | None = None


class Content(Camel):
    parts: list[Part] | None = None


class Candidate(Camel):
    content: Content | None = None
    finish_reason: str | int | None = None
    index: Whole | None = None


class Feedback(Camel):
    block_reason: str | int | None = None


class Counts(Camel):
    """`prompt_token_count` includes cached content; proto3 leaves out what is 0."""

    prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    total_token_count: int | None = None
    cached_content_token_count: int | None = None
    thoughts_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None


class Chunk(Camel):
    """What is read of every chunk once the stream has named itself; the rest is skipped, not built."""

    candidates: list[Candidate] | None = None
    usage_metadata: Counts | None = None
    prompt_feedback: Feedback | None = None
    error: Any = None


class NamedChunk(Chunk):
    response_id: str | None = None
    model_version: str | None = None


def loosely(found: dict[str, Any]) -> NamedChunk:
    """Take what can be understood from a chunk in which something has the wrong type."""
    usage = found.get("usageMetadata")
    return NamedChunk(
        candidates=[_candidate(candidate) for candidate in mappings(found.get("candidates"))],
        usage_metadata=Counts(*(count(usage.get(name)) for name in Counts.__struct_encode_fields__)) if isinstance(usage, dict) else None,
        prompt_feedback=Feedback(_either(mapping(found.get("promptFeedback")).get("blockReason"))),
        error=found.get("error"),
        response_id=text(found.get("responseId")),
        model_version=text(found.get("modelVersion")),
    )


def _candidate(candidate: dict[str, Any]) -> Candidate:
    parts = [_loose_part(part) for part in mappings(mapping(candidate.get("content")).get("parts"))]
    return Candidate(Content(parts), _either(candidate.get("finishReason")), count(candidate.get("index")))


def _loose_part(part: dict[str, Any]) -> Part:
    called = part.get("functionCall")
    return Part(
        text=text(part.get("text")),
        thought=part.get("thought") is True,
        function_call=_loose_call(called) if isinstance(called, dict) else None,
        executable_code=Code(text(mapping(part.get("executableCode")).get("code"))),
        inline_data=Blob(text(mapping(part.get("inlineData")).get("data"))),
    )


def _loose_call(called: dict[str, Any]) -> FunctionCall:
    args, pieces = (msgspec.Raw(encode(said) if said else b"") for said in (called.get("args"), called.get("partialArgs")))
    return FunctionCall(text(called.get("id")), text(called.get("name")), args, pieces, called.get("willContinue") is True)


def word(said: str | int) -> str | None:
    """Return an enum's word; None when it says nothing."""
    if isinstance(said, int):
        said = _NUMBERED[said] if 0 <= said < len(_NUMBERED) else "OTHER"
    return None if not said or said.endswith("_UNSPECIFIED") else encodable(said[:64])


def _either(found: Any) -> str | int | None:
    return found if type(found) is int else text(found)
