"""Makes Ollama's chat request of a prompt, and says what of it could not be told."""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.core.call import Call
from gateway.core.errors import Rejected
from gateway.core.prompt import Image, Prompt, Reasoning, Text, Thought, ToolResult, ToolUse, Turn
from gateway.dialects import lenient
from gateway.dialects.ollama import words

PATH = "/api/chat"
_LEVELLED = "gpt-oss"
_LEVELS = {"none": "low", "minimal": "low", "xhigh": "high", "max": "high"}
_MEANT: Mapping[bool | str, str] = {False: "none", True: "medium"}  # what Ollama takes a plain yes or no for


def compose(prompt: Prompt) -> Call:
    """Make the call; raises `Rejected` as `dialects.base.Dialect.compose` does."""
    _refuse_unsayable(prompt)
    body: dict[str, Any] = {"model": prompt.model, "messages": _messages(prompt), "stream": prompt.stream}
    if prompt.tools and not _forbidden(prompt):
        body["tools"] = _tools(prompt)
    if prompt.shape is not None:
        body["format"] = "json" if prompt.shape.schema is None else prompt.shape.schema
    if prompt.reasoning is not None:
        body["think"] = _think(prompt.model, prompt.reasoning)
    if options := _options(prompt):
        body["options"] = options
    return Call(
        dialect="ollama",
        operation="chat",
        path=PATH,
        model=prompt.model,
        body=words.encode(body),
        stream=prompt.stream,
        temperature=prompt.temperature,
        top_p=prompt.top_p,
        max_tokens=prompt.max_tokens,
        seed=prompt.seed,
    )


def unsaid(prompt: Prompt) -> Sequence[str]:
    """Name what `compose` leaves out."""
    parts = [part for turn in prompt.turns for part in turn.parts]
    left_out = {
        "user": prompt.user is not None,
        "reasoning": prompt.reasoning is not None and _loses(prompt.model, prompt.reasoning),
        "tools.strict": any(tool.strict for tool in prompt.tools),
        "signature": any(isinstance(part, Thought | ToolUse) and part.signature is not None for part in parts),
        "tool_result.failed": any(isinstance(part, ToolResult) and part.failed for part in parts),
    }
    return (*prompt.harmless, *(name for name, is_left_out in left_out.items() if is_left_out))


def _refuse_unsayable(prompt: Prompt) -> None:
    if prompt.tools and prompt.choice is not None and prompt.choice.mode in {"required", "named"}:
        raise _unsayable("tool_choice")
    if prompt.tools and prompt.parallel_tools is False and not _forbidden(prompt):
        raise _unsayable("parallel_tools")


def _forbidden(prompt: Prompt) -> bool:
    """Tell whether the model may call no tool: then it is not told of any, which is the only way to say so here."""
    return prompt.choice is not None and prompt.choice.mode == "none"


def _messages(prompt: Prompt) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    if prompt.system:
        messages.append({"role": "system", "content": "\n\n".join(prompt.system)})  # many templates know one system message only
    for turn in prompt.turns:
        messages += [_answer(turn)] if turn.role == "assistant" else _user(turn)
    return messages


def _user(turn: Turn) -> list[dict[str, Any]]:
    """Return a user's turn in its order: every tool result is a message, and so is what stands between them."""
    messages: list[dict[str, Any]] = []
    spoken: list[Text | Image] = []
    for part in turn.parts:
        if isinstance(part, Text | Image):
            spoken.append(part)
        elif isinstance(part, ToolResult):
            messages += [_message("user", spoken)] if spoken else []
            spoken = []
            messages.append(_message("tool", part.parts) | {"tool_name": part.name, "tool_call_id": part.id})
    return [*messages, _message("user", spoken)] if spoken else messages


def _answer(turn: Turn) -> dict[str, Any]:
    message = _message("assistant", [part for part in turn.parts if isinstance(part, Text | Image)])
    if thinking := "\n\n".join(part.text for part in turn.parts if isinstance(part, Thought)):
        message["thinking"] = thinking
    if calls := [_call(part) for part in turn.parts if isinstance(part, ToolUse)]:
        message["tool_calls"] = calls
    return message


def _message(role: str, parts: Sequence[Text | Image]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": role, "content": "\n\n".join(part.text for part in parts if isinstance(part, Text))}
    if images := [_image(part) for part in parts if isinstance(part, Image)]:
        message["images"] = images
    return message


def _image(image: Image) -> str:
    if image.data is None:
        raise _unsayable("image.url")
    return image.data


def _call(use: ToolUse) -> dict[str, Any]:
    if (arguments := lenient.arguments(use.arguments)) is None:
        raise _unsayable("tool_calls.arguments")
    return {"id": use.id, "function": {"name": use.name, "arguments": arguments}}


def _tools(prompt: Prompt) -> list[dict[str, Any]]:
    nothing = {"type": "object", "properties": {}}
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": nothing if tool.parameters is None else tool.parameters,
            },
        }
        for tool in prompt.tools
    ]


def _think(model: str, reasoning: Reasoning) -> bool | str:
    """Say how much to think. Words are refused by many servers for any model but gpt-oss, which understands nothing else."""
    if _LEVELLED not in model:
        return reasoning.tokens != 0
    word = reasoning.word or "medium"
    return _LEVELS.get(word, word)


def _loses(model: str, reasoning: Reasoning) -> bool:
    """Tell whether the model is told less than how much to think."""
    said = _think(model, reasoning)
    asked = "none" if reasoning.tokens == 0 else reasoning.effort
    return reasoning.word is not None and _MEANT.get(said, said) != asked


def _options(prompt: Prompt) -> dict[str, Any]:
    options = {
        "num_predict": prompt.max_tokens,
        "temperature": prompt.temperature,
        "top_p": prompt.top_p,
        "top_k": prompt.top_k,
        "seed": prompt.seed,
        "frequency_penalty": prompt.frequency_penalty,
        "presence_penalty": prompt.presence_penalty,
        "stop": list(prompt.stop) or None,
    }
    return {name: value for name, value in options.items() if value is not None}


def _unsayable(field: str) -> Rejected:
    return Rejected(f"`{field}` cannot be expressed in the ollama dialect", code="untranslatable")
