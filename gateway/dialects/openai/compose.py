"""A prompt, said as a chat request of this family."""

import re
from collections.abc import Iterator
from typing import Any

from gateway.core.call import Call
from gateway.core.errors import Rejected
from gateway.core.prompt import Choice, Image, Part, Prompt, Reasoning, Shape, Text, Thought, Tool, ToolResult, ToolUse, Turn
from gateway.dialects.lenient import encode

_NEW_LIMIT = re.compile(r"(.*/)?(o\d|gpt-[5-9])")
"""OpenAI's reasoning models refuse `max_tokens`; many servers of other models know no `max_completion_tokens`, or refuse that."""


def compose(prompt: Prompt, dialect: str, path: str) -> Call:
    """Raises `core.errors.Rejected` that names what cannot be said."""
    body = {name: said for name, said in _members(prompt, dialect) if said is not None}
    return Call(
        dialect=dialect,
        operation="chat",
        path=path,
        model=prompt.model,
        body=encode(body),
        stream=prompt.stream,
        include_usage=True if prompt.stream else None,
        temperature=prompt.temperature,
        top_p=prompt.top_p,
        max_tokens=prompt.max_tokens,
        seed=prompt.seed,
    )


def unsaid(prompt: Prompt) -> tuple[str, ...]:
    """Name what `compose` leaves out: `top_k` is no member of OpenAI's, no server needs its earlier thoughts, failed tools say so."""
    parts = [part for turn in prompt.turns for part in turn.parts]
    left_out = {
        "top_k": prompt.top_k is not None,
        "thought": any(isinstance(part, Thought) for part in parts),
        "signature": any(isinstance(part, ToolUse) and part.signature is not None for part in parts),
        "tool_result.failed": any(isinstance(part, ToolResult) and part.failed for part in parts),
    }
    return (*prompt.harmless, *(name for name, is_there in left_out.items() if is_there))


def _members(prompt: Prompt, dialect: str) -> Iterator[tuple[str, Any]]:
    """Yield the request's members, those that are not said with None."""
    yield "model", prompt.model
    yield "messages", [*_system(prompt.system), *(message for turn in prompt.turns for message in _messages(turn, dialect))]
    if prompt.tools:  # the choice of no tools is an error
        yield "tools", [_tool(tool) for tool in prompt.tools]
        yield "tool_choice", _choice(prompt.choice)
        yield "parallel_tool_calls", prompt.parallel_tools
    elif prompt.choice is not None and prompt.choice.mode in {"required", "named"}:
        raise Rejected(f"`tool_choice` without tools cannot be expressed in the {dialect} dialect", code="untranslatable")
    new = dialect == "azure" or _NEW_LIMIT.match(prompt.model) is not None
    yield "max_completion_tokens" if new else "max_tokens", prompt.max_tokens
    for name in ("temperature", "top_p", "seed", "frequency_penalty", "presence_penalty", "user"):
        yield name, getattr(prompt, name)
    yield "stop", list(prompt.stop) or None
    yield "response_format", _format(prompt.shape)
    yield "reasoning_effort", _effort(prompt.reasoning)
    if prompt.stream:
        yield "stream", True
        yield "stream_options", {"include_usage": True}


def _system(texts: tuple[str, ...]) -> list[dict[str, Any]]:
    """One message: the chat templates of several open models take no second."""
    return [{"role": "system", "content": "\n\n".join(texts)}] if texts else []


def _messages(turn: Turn, dialect: str) -> Iterator[dict[str, Any]]:
    if turn.role == "assistant":
        yield from _assistant(turn.parts, dialect)
    else:
        yield from _user(turn.parts)


def _assistant(parts: tuple[Part, ...], dialect: str) -> Iterator[dict[str, Any]]:
    if any(isinstance(part, Image) for part in parts):
        raise Rejected(f"`image` in an assistant's turn cannot be expressed in the {dialect} dialect", code="untranslatable")
    text = "".join(part.text for part in parts if isinstance(part, Text))
    calls = [
        {"id": part.id, "type": "function", "function": {"name": part.name, "arguments": part.arguments}}
        for part in parts
        if isinstance(part, ToolUse)
    ]
    if text or calls:
        yield {"role": "assistant", "content": text or None, **({"tool_calls": calls} if calls else {})}


def _user(parts: tuple[Part, ...]) -> Iterator[dict[str, Any]]:
    """Say the results of tools first, each in a message of its own; what they show comes after, for a tool's message holds text only."""
    said: list[Text | Image] = []
    for part in parts:
        if isinstance(part, ToolResult):
            yield {"role": "tool", "tool_call_id": part.id, "content": "\n".join(one.text for one in part.parts if isinstance(one, Text))}
            said += [one for one in part.parts if isinstance(one, Image)]
        elif isinstance(part, Text | Image):
            said.append(part)
    if len(said) == 1 and isinstance(said[0], Text):
        yield {"role": "user", "content": said[0].text}
    elif said:
        yield {"role": "user", "content": [_part(part) for part in said]}


def _part(part: Text | Image) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    return {"type": "image_url", "image_url": {"url": part.url or f"data:{part.media_type or 'image/png'};base64,{part.data}"}}


def _tool(tool: Tool) -> dict[str, Any]:
    said = {"name": tool.name, "description": tool.description or None, "parameters": tool.parameters, "strict": tool.strict}
    return {"type": "function", "function": {name: value for name, value in said.items() if value is not None}}


def _choice(choice: Choice | None) -> Any:
    if choice is None:
        return None
    return {"type": "function", "function": {"name": choice.name}} if choice.mode == "named" else choice.mode


def _format(shape: Shape | None) -> dict[str, Any] | None:
    if shape is None:
        return None
    if shape.schema is None:
        return {"type": "json_object"}
    strict = {} if shape.strict is None else {"strict": shape.strict}
    return {"type": "json_schema", "json_schema": {"name": shape.name, "schema": shape.schema, **strict}}


def _effort(reasoning: Reasoning | None) -> str | None:
    word = reasoning.word if reasoning is not None else None
    return "xhigh" if word == "max" else word  # the most that OpenAI knows
