"""What can be understood of chunks that do not fit the shapes: string indices, parts instead of text, arguments already parsed."""

from typing import Any

from gateway.dialects.lenient import count, encode, mapping, mappings, text
from gateway.dialects.openai.shapes import Audio, Choice, Counts, Function, Groq, InputDetails, NamedChunk, OutputDetails, Said, Tool


def loosely(found: dict[str, Any], spoken: str) -> NamedChunk:
    """Take what can be understood from a chunk in which something has the wrong type; `spoken` is where its choices say what they say."""
    groq = mapping(found.get("x_groq"))
    return NamedChunk(
        choices=[_choice(choice, spoken) for choice in mappings(found.get("choices"))],
        usage=_counts(found.get("usage")),
        error=found.get("error"),
        x_groq=Groq(_counts(groq.get("usage")), groq.get("error")),
        id=text(found.get("id")),
        model=text(found.get("model")),
    )


def _choice(choice: dict[str, Any], spoken: str) -> Choice:
    index = count(choice.get("index")) or 0
    delta = mapping(choice.get(spoken))
    content = delta.get("content")
    said = Said(
        content=text(content) or _parts(content, "text"),
        reasoning_content=text(delta.get("reasoning_content")) or _parts(content, "thinking"),
        reasoning=text(delta.get("reasoning")),
        tool_calls=[_tool(tool) for tool in mappings(delta.get("tool_calls"))],
        refusal=text(delta.get("refusal")),
        function_call=_function(delta.get("function_call")),
        audio=Audio(text(mapping(delta.get("audio")).get("data")), text(mapping(delta.get("audio")).get("transcript"))),
    )
    return Choice(index, said, text(choice.get("finish_reason")), text(choice.get("text")))


def _tool(tool: dict[str, Any]) -> Tool:
    return Tool(count(tool.get("index")), text(tool.get("id")), _function(tool.get("function")))


def _function(function: Any) -> Function:
    found = mapping(function)
    arguments = found.get("arguments")
    whole = encode(arguments).decode() if isinstance(arguments, dict) and arguments else None  # some servers send them already parsed
    return Function(text(found.get("name")), text(arguments) or whole)


def _counts(usage: Any) -> Counts | None:
    if not isinstance(usage, dict):
        return None
    details = mapping(usage.get("prompt_tokens_details"))
    return Counts(
        count(usage.get("prompt_tokens")),
        count(usage.get("completion_tokens")),
        InputDetails(count(details.get("cached_tokens")), count(details.get("cache_write_tokens"))),
        OutputDetails(count(mapping(usage.get("completion_tokens_details")).get("reasoning_tokens"))),
    )


def _parts(content: Any, kind: str) -> str | None:
    """Join the parts of one kind: Mistral's reasoning models stream content as a list of `text` and `thinking` parts."""
    found = [part.get(kind) for part in mappings(content)]
    return "".join(text(part) or _parts(part, "text") or "" for part in found) or None
