"""A request in no dialect, said as a Messages call: what it asks for in Anthropic's words, and what it does without."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from gateway.core.call import Call
from gateway.core.errors import Rejected
from gateway.core.prompt import Choice, Effort, Image, Part, Prompt, Text, Thought, Tool, ToolResult, ToolUse, Turn
from gateway.dialects import lenient

_MAX_TOKENS = 4096  # the API wants a limit from everybody
_LEAST_BUDGET = 1024  # "Must be at least 1024 and less than max_tokens"
_MODES = {"auto": "auto", "none": "none", "required": "any", "named": "tool"}
_EFFORTS: dict[Effort, str] = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
_SAMPLING = ("temperature", "top_p", "top_k")
_VERSION = re.compile(r"claude-(?:[a-z]+-)+(\d{1,2})(?:[-.](\d{1,2})(?!\d))?(?!\d)")  # a date of eight digits is no version
_OLDEST = re.compile(r"claude-(?:instant|[123](?!\d))")  # the version came before the name until 3.5
_FOREIGN = re.compile(r"[^a-zA-Z0-9_-]")  # what the API refuses in the id of a tool call


def compose(prompt: Prompt) -> Call:
    """Make the call that asks the same; raises `core.errors.Rejected` as `dialects.base.Dialect.compose` does."""
    _refuse(prompt)
    thinking, limit = _thinking(prompt)
    sampling = _sampling(prompt, thinking)
    body = {
        "model": prompt.model,
        "max_tokens": limit,
        "system": list(_blocks(tuple(map(Text, prompt.system)))) if prompt.turns else [],
        "messages": _messages(prompt.turns or (Turn("user", tuple(map(Text, prompt.system))),)),  # instructions alone are refused
        "tools": [_tool(tool) for tool in prompt.tools],
        "tool_choice": _choice(prompt),
        "stop_sequences": list(prompt.stop),
        **sampling,
        "thinking": thinking,
        "output_config": _config(prompt, thinking),
        "metadata": {"user_id": prompt.user} if prompt.user else None,
        "stream": True if prompt.stream else None,
    }
    said = {member: value for member, value in body.items() if value not in (None, [], {}) or member == "messages"}
    return Call(
        dialect="anthropic",
        operation="chat",
        path="/v1/messages",
        model=prompt.model,
        body=lenient.encode(said),
        stream=prompt.stream,
        temperature=sampling.get("temperature"),
        top_p=sampling.get("top_p"),
        max_tokens=limit,
    )


def unsaid(prompt: Prompt) -> Sequence[str]:
    """Name what `compose` leaves out or says otherwise: no answer is wrong without it."""
    thinking, _ = _thinking(prompt)
    sampling = _sampling(prompt, thinking)
    left_out = {
        "seed": prompt.seed is not None,
        "frequency_penalty": bool(prompt.frequency_penalty),
        "presence_penalty": bool(prompt.presence_penalty),
        **{member: getattr(prompt, member) != sampling.get(member) for member in _SAMPLING},
        "thought": any(isinstance(part, Thought) and not part.signature for turn in prompt.turns for part in turn.parts),
        "signature": any(isinstance(part, ToolUse) and part.signature for turn in prompt.turns for part in turn.parts),
        "reasoning": prompt.reasoning is not None and bool(prompt.reasoning.tokens) and thinking is None,
    }
    return tuple(dict.fromkeys((*prompt.harmless, *(member for member, is_left_out in left_out.items() if is_left_out))))


def prefills(prompt: Prompt) -> bool:
    """Tell whether a model goes on with a last turn of its own: Claude does before 4.6, which refuses that ("What's new in Claude 4.6",
    prefill removal), and never while it thinks or must call a tool. Of other models nobody knows."""
    thinking, _ = _thinking(prompt)
    thinks = thinking is not None and thinking["type"] != "disabled"
    forced = prompt.choice is not None and prompt.choice.mode in {"required", "named"}
    return not thinks and not forced and (_OLDEST.search(prompt.model) is not None or (0, 0) < _version(prompt.model) < (4, 6))


def _untranslatable(member: str) -> Rejected:
    return Rejected(f"`{member}` cannot be expressed in the anthropic dialect", code="untranslatable")


def _refuse(prompt: Prompt) -> None:
    """Refuse what would change the answer if it were left out. A stop sequence of nothing but white space is none here."""
    if prompt.shape is not None and prompt.shape.schema is None:
        raise _untranslatable("shape")
    if prompt.choice is not None and prompt.choice.mode in {"required", "named"} and not prompt.tools:
        raise _untranslatable("choice")
    if any(not stop.strip() for stop in prompt.stop):
        raise _untranslatable("stop")


def _version(model: str) -> tuple[int, int]:
    """Return a Claude's version; (0, 0) for the oldest, whose names are built otherwise, and for every other model."""
    found = _VERSION.search(model)
    return (int(found[1]), int(found[2] or 0)) if found is not None else (0, 0)


def _thinking(prompt: Prompt) -> tuple[dict[str, Any] | None, int]:
    """Say how much to think, and the limit that leaves room for it.

    From Claude 4.6 on models take adaptive thinking and an effort, and from 4.7 on nothing else; those before take a budget alone
    (platform.claude.com, "Adaptive thinking"). A budget is kept under the limit. Where there is no room for the least of budgets, a tool
    must be called, or the answer that is being continued did not begin with its thinking, the API would refuse it: it is left out.
    """
    reasoning, said = prompt.reasoning, prompt.max_tokens
    tokens = reasoning.tokens if reasoning is not None else None
    limit = _MAX_TOKENS if said is None else said
    if tokens is None or tokens < 0:
        return None, limit
    if tokens == 0:
        return {"type": "disabled"}, limit
    if prompt.choice is not None and prompt.choice.mode in {"required", "named"}:
        return None, limit
    if _version(prompt.model) >= (4, 6):
        return {"type": "adaptive", "display": "summarized"}, limit if said is not None else min(limit + tokens, 64_000)
    budget = max(tokens, _LEAST_BUDGET)
    if said is None:
        limit = min(limit + budget, 32_000)
    if limit <= _LEAST_BUDGET or _lost_its_thoughts(prompt.turns):
        return None, limit if said is not None else _MAX_TOKENS
    return {"type": "enabled", "budget_tokens": min(budget, limit - 1)}, limit


def _sampling(prompt: Prompt, thinking: dict[str, Any] | None) -> dict[str, Any]:
    """Say how to sample. Temperatures end at 1; models that think, and all from Claude 4.7 on, want to hear nothing about it; and since
    Claude 4.1 it is either temperature or top_p."""
    if _version(prompt.model) >= (4, 7) or (thinking is not None and thinking["type"] != "disabled"):
        return {}
    said = {member: value for member in _SAMPLING if (value := getattr(prompt, member)) is not None}
    if "temperature" in said:
        said["temperature"] = min(said["temperature"], 1.0)
        said.pop("top_p", None)
    return said


def _lost_its_thoughts(turns: Sequence[Turn]) -> bool:
    """Tell whether tool results continue an answer whose signed thinking the client has not kept: with a budget the API refuses that."""
    if len(turns) < 2 or not any(isinstance(part, ToolResult) for part in turns[-1].parts):
        return False
    return not any(isinstance(part, Thought) and part.signature for part in turns[-2].parts)


def _config(prompt: Prompt, thinking: dict[str, Any] | None) -> dict[str, Any]:
    config: dict[str, Any] = {}
    effort = _EFFORTS.get(prompt.reasoning.word or "none") if prompt.reasoning is not None else None
    if effort is not None and thinking is not None and thinking["type"] == "adaptive":
        config["effort"] = "high" if effort == "xhigh" and _version(prompt.model) < (4, 7) else effort
    if prompt.shape is not None:
        config["format"] = {"type": "json_schema", "schema": prompt.shape.schema}
    return config


def _tool(tool: Tool) -> dict[str, Any]:
    said: dict[str, Any] = {"name": tool.name}
    if tool.description:
        said["description"] = tool.description
    said["input_schema"] = {"type": "object", **(tool.parameters or {"properties": {}})}
    return said if tool.strict is None else {**said, "strict": tool.strict}


def _choice(prompt: Prompt) -> dict[str, Any] | None:
    """Say which tools to use; one at a time is a part of that here, and the API wants to hear neither without tools."""
    alone = prompt.parallel_tools is False
    if not prompt.tools or (prompt.choice is None and not alone):
        return None
    choice = prompt.choice or Choice("auto")
    said: dict[str, Any] = {"type": _MODES[choice.mode]}
    if choice.mode == "named":
        said["name"] = choice.name
    return {**said, "disable_parallel_tool_use": True} if alone and choice.mode != "none" else said


def _messages(turns: Iterable[Turn]) -> list[dict[str, Any]]:
    """Say the turns; the API refuses texts without a letter, and turns that hold nothing else go with them."""
    messages: list[dict[str, Any]] = []
    for turn in turns:
        blocks = list(_blocks(turn.parts))
        if messages and messages[-1]["role"] == turn.role:
            messages[-1]["content"] += blocks
        elif blocks:
            messages.append({"role": turn.role, "content": blocks})
    return messages


def _blocks(parts: Sequence[Part]) -> Iterator[dict[str, Any]]:
    """Say the parts of one turn, tool results first: nothing may stand between a call and its result."""
    for part in sorted(parts, key=lambda part: not isinstance(part, ToolResult)):
        match part:
            case Text():
                if part.text.strip():
                    yield {"type": "text", "text": part.text}
            case Image():
                yield {"type": "image", "source": _source(part)}
            case ToolUse():
                yield {"type": "tool_use", "id": _id(part.id), "name": part.name, "input": _input(part)}
            case ToolResult():
                yield _result(part)
            case Thought():
                if part.signature:
                    yield {"type": "thinking", "thinking": part.text, "signature": part.signature}


def _result(result: ToolResult) -> dict[str, Any]:
    said: dict[str, Any] = {"type": "tool_result", "tool_use_id": _id(result.id)}
    if content := list(_blocks(result.parts)):
        said["content"] = content
    return {**said, "is_error": True} if result.failed else said


def _source(image: Image) -> dict[str, Any]:
    if image.url is not None:
        return {"type": "url", "url": image.url}
    if not image.data or not image.media_type:
        raise _untranslatable("image")
    return {"type": "base64", "media_type": image.media_type, "data": image.data}


def _input(call: ToolUse) -> dict[str, Any]:
    if (found := lenient.arguments(call.arguments)) is None:
        raise _untranslatable("arguments")
    return found


def _id(name: str) -> str:
    return _FOREIGN.sub("_", name)
