"""Makes a request of the Responses API of one in no dialect.

Sources: the OpenAI API reference (create a response) and its function calling guide. OpenAI refuses members it does not know, so what
has no member here is refused before it is sent.
"""

from collections.abc import Sequence
from typing import Any

from gateway.core.call import Call
from gateway.core.errors import Rejected
from gateway.core.prompt import Choice, Image, Part, Prompt, Reasoning, Shape, Text, Thought, Tool, ToolResult, ToolUse, Turn
from gateway.dialects.lenient import encodable, encode
from gateway.dialects.responses.talk import untranslatable

NAME = "openai-responses"
PATH = "/responses"


def compose(prompt: Prompt) -> Call:
    """Make the call that asks the same of a Responses upstream; see `dialects.base.Dialect.compose`."""
    _refuse(prompt)
    try:
        body = encode(_body(prompt))
    except RecursionError as error:
        raise Rejected("the request is nested too deeply", code="invalid_json") from error
    return Call(
        dialect=NAME,
        operation="chat",
        path=PATH,
        model=encodable(prompt.model),
        body=body,
        stream=prompt.stream,
        temperature=prompt.temperature,
        top_p=prompt.top_p,
        max_tokens=prompt.max_tokens,
        seed=None,
    )


def unsaid(prompt: Prompt) -> Sequence[str]:
    """Name what `compose` leaves out: a seed is a best effort everywhere, and reasoning is proof only to the provider that signed it."""
    parts = [part for turn in prompt.turns for part in turn.parts]
    left_out = {
        **{name: getattr(prompt, name) is not None for name in ("seed", "top_k", "frequency_penalty", "presence_penalty")},
        "thought": any(type(part) is Thought for part in parts),
        "signature": any(type(part) is ToolUse and part.signature is not None for part in parts),
        "tool_result.failed": any(type(part) is ToolResult and part.failed for part in parts),
    }
    return (*prompt.harmless, *(name for name, there in left_out.items() if there))


def _refuse(prompt: Prompt) -> None:
    if prompt.stop:
        raise untranslatable("stop", f"the {NAME}")
    if prompt.choice is not None and prompt.choice.mode in {"required", "named"} and not prompt.tools:
        raise untranslatable("tool_choice", f"the {NAME}")


def _body(prompt: Prompt) -> dict[str, Any]:
    """Return the request; it is not to be stored, which is the default here alone."""
    said = {
        "model": encodable(prompt.model),
        "instructions": "\n\n".join(prompt.system) or None,
        "input": [item for turn in prompt.turns for item in _items(turn)],
        "stream": prompt.stream or None,
        "store": False,
        "tools": [_tool(tool) for tool in prompt.tools] or None,
        "tool_choice": _choice(prompt.choice) if prompt.choice is not None and prompt.tools else None,  # it is an error without tools
        "parallel_tool_calls": prompt.parallel_tools,
        "max_output_tokens": prompt.max_tokens,
        "temperature": prompt.temperature,
        "top_p": prompt.top_p,
        "text": None if prompt.shape is None else {"format": _format(prompt.shape)},
        "reasoning": _reasoning(prompt.reasoning),
        "user": prompt.user,
    }
    return {member: value for member, value in said.items() if value is not None}


def _items(turn: Turn) -> list[dict[str, Any]]:
    """Return the items of one turn in their order: text and pictures in a row are one message."""
    items: list[dict[str, Any]] = []
    spoken: list[Text | Image] = []
    for part in turn.parts:
        match part:
            case Text() | Image():
                spoken.append(part)
            case Thought():
                continue
            case _:
                items += _message(turn.role, spoken)
                spoken = []
                items.append(_tool_item(part))
    return items + _message(turn.role, spoken)


def _tool_item(part: Part) -> dict[str, Any]:
    match part:
        case ToolUse():
            return {"type": "function_call", "call_id": part.id, "name": part.name, "arguments": part.arguments}
        case ToolResult():
            return {"type": "function_call_output", "call_id": part.id, "output": _output(part.parts)}
    raise AssertionError(part)


def _message(role: str, parts: Sequence[Text | Image]) -> list[dict[str, Any]]:
    """Return a message, none for no parts; plain text is sent plainly, which every server of this dialect takes."""
    if not parts:
        return []
    if role == "assistant" and any(type(part) is Image for part in parts):
        raise untranslatable("image of the assistant", f"the {NAME}")
    texts = [part.text for part in parts if type(part) is Text]
    # Servers differ on the parts of an answer that is sent back: it is one text.
    plain = len(texts) == len(parts) and (len(parts) == 1 or role == "assistant")
    return [{"type": "message", "role": role, "content": "".join(texts) if plain else [_part(part) for part in parts]}]


def _output(parts: Sequence[Text | Image]) -> str | list[dict[str, Any]]:
    texts = [part.text for part in parts if type(part) is Text]
    return "\n".join(texts) if len(texts) == len(parts) else [_part(part) for part in parts]


def _part(part: Text | Image) -> dict[str, Any]:
    match part:
        case Text():
            return {"type": "input_text", "text": part.text}
        case Image():
            url = part.url or f"data:{part.media_type or 'image/png'};base64,{part.data or ''}"
            return {"type": "input_image", "image_url": url, "detail": "auto"}


def _tool(tool: Tool) -> dict[str, Any]:
    """Return a function; here alone a silent `strict` means true, which makes optional parameters required."""
    empty: dict[str, Any] = {"type": "object", "properties": {}}
    said: dict[str, Any] = {"type": "function", "name": tool.name}
    if tool.description:
        said["description"] = tool.description
    return {**said, "parameters": tool.parameters or empty, "strict": tool.strict or False}


def _choice(choice: Choice) -> str | dict[str, Any]:
    return {"type": "function", "name": choice.name} if choice.mode == "named" else choice.mode


def _format(shape: Shape) -> dict[str, Any]:
    if shape.schema is None:
        return {"type": "json_object"}
    said = {"type": "json_schema", "name": shape.name, "schema": shape.schema}
    return said if shape.strict is None else {**said, "strict": shape.strict}


def _reasoning(reasoning: Reasoning | None) -> dict[str, Any] | None:
    word = reasoning.word if reasoning is not None else None
    return {"effort": "xhigh" if word == "max" else word} if word is not None else None  # xhigh is the most that OpenAI knows
