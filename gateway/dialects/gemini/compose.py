"""A request in no dialect, said to Gemini."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from gateway.core.errors import Rejected
from gateway.core.prompt import Choice, Effort, Image, Part, Prompt, Text, Thought, Tool, ToolResult, ToolUse, Turn
from gateway.dialects import lenient
from gateway.dialects.gemini.chunks import FOREIGN_SIGNATURE

_LEVELS: dict[Effort, str] = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY", "named": "ANY"}
_IN_LEVELS = re.compile(r"gemini-(?:[3-9]|\d\d)")
"""Models that think in levels: Gemini 3 and later."""

_BUDGETS = {"flash-lite": (512, 24_576), "pro": (128, 32_768)}
"""The least and the most tokens that some of Gemini 2.5 may think for; all but Pro take 0 too (ai.google.dev/gemini-api/docs/thinking)."""

_THOUGHTLESS = re.compile(r"gemini-(?:1|2\.0)")
"""Models that refuse to hear of thinking."""

_UNSIGNED = re.compile(r"gemini-[12](?!\d)|gemma")
"""Models that do not insist on thought signatures; "gemini-flash-latest" may be one that does."""

_CONTINUES = re.compile(r"gemini-(?:1\.5|2\.|3-|3\.1-)")

_MOST_STOPS = 5
_NOTHING = frozenset({"type", "properties", "required", "additionalProperties", "$schema"})

_MEDIA_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "heic": "image/heic",
}
_SUFFIX = re.compile(r"\.([a-z]+)(?:[?#]|$)", re.IGNORECASE)
_DATA_URL = re.compile(r"data:([^;,]+);base64,(.+)", re.DOTALL)


def compose(prompt: Prompt) -> bytes:
    """Return the request's body; raises `Rejected` that names what Gemini cannot be told."""
    if prompt.parallel_tools is False and prompt.tools:
        raise _untranslatable("parallel_tools")
    if prompt.choice is not None and prompt.choice.mode in {"required", "named"} and not prompt.tools:
        raise _untranslatable("choice")
    if len(prompt.stop) > _MOST_STOPS:
        raise _untranslatable("stop")
    body: dict[str, Any] = {"contents": _contents(prompt)}
    if prompt.system and prompt.turns:
        body["systemInstruction"] = {"parts": [{"text": text} for text in prompt.system]}
    if prompt.tools:
        body["tools"] = [{"functionDeclarations": [_declared(tool) for tool in prompt.tools]}]
    if prompt.choice is not None and prompt.tools:
        body["toolConfig"] = {"functionCallingConfig": _calling(prompt.choice)}
    if config := _config(prompt):
        body["generationConfig"] = config
    return lenient.encode(body)


def unsaid(prompt: Prompt) -> Sequence[str]:
    """Name what `compose` leaves out."""
    left_out = {
        "user": prompt.user,
        "tools.strict": any(tool.strict for tool in prompt.tools),
        "reasoning": prompt.reasoning is not None and prompt.reasoning.tokens and _thinking(prompt) is None,
    }
    return (*prompt.harmless, *(name for name, said in left_out.items() if said))


def prefills(prompt: Prompt) -> bool:
    """Tell whether a model goes on with a last turn of its own: newer ones refuse a call that ends with one (pipecat#5821)."""
    return _CONTINUES.match(prompt.model.rpartition("/")[2]) is not None


def _contents(prompt: Prompt) -> list[dict[str, Any]]:
    names = {part.id: part.name for turn in prompt.turns for part in turn.parts if isinstance(part, ToolUse)}
    signed = _UNSIGNED.search(prompt.model) is None
    roles = {"user": "user", "assistant": "model"}
    turns = prompt.turns or (Turn("user", tuple(map(Text, prompt.system))),)  # instructions alone are refused
    return [{"role": roles[turn.role], "parts": parts} for turn in turns if (parts := list(_turn(turn, names, signed)))]


def _turn(turn: Turn, names: dict[str, str], signed: bool) -> Iterator[dict[str, Any]]:
    """Yield the parts of a turn. Gemini signs the first tool call of each answer; where it was another's, the stand-in is said."""
    unsigned = signed and not any(isinstance(part, ToolUse) and part.signature for part in turn.parts)
    for part in turn.parts:
        for said in _said(part, names):
            if unsigned and "functionCall" in said:
                said["thoughtSignature"] = FOREIGN_SIGNATURE
                unsigned = False
            yield said


def _said(part: Part, names: dict[str, str]) -> Iterator[dict[str, Any]]:
    match part:
        case Text() if part.text:
            yield {"text": part.text}
        case Thought() if part.text:
            yield {"text": part.text, "thought": True}  # its signature is another provider's: Gemini signs calls and texts
        case Image():
            yield _image(part)
        case ToolUse():
            called = {"functionCall": {"id": part.id, "name": part.name, "args": lenient.arguments(part.arguments) or {}}}
            yield {**called, "thoughtSignature": part.signature} if part.signature else called
        case ToolResult():
            yield from _result(part, part.name or names.get(part.id, ""))


def _result(result: ToolResult, name: str) -> Iterator[dict[str, Any]]:
    """Yield what a tool answered; pictures stand beside it, where models before Gemini 3 can see them too."""
    text = "\n".join(part.text for part in result.parts if isinstance(part, Text))
    response = {"error": text} if result.failed else lenient.arguments(text) if text else None
    yield {"functionResponse": {"id": result.id, "name": name, "response": {"output": text} if response is None else response}}
    for part in result.parts:
        if isinstance(part, Image):
            yield _image(part)


def _image(image: Image) -> dict[str, Any]:
    if image.data is not None:
        return {"inlineData": {"mimeType": image.media_type or "image/png", "data": image.data}}
    if not (url := image.url):
        raise _untranslatable("image")
    if (inline := _DATA_URL.fullmatch(url)) is not None:
        return {"inlineData": {"mimeType": inline[1], "data": inline[2]}}
    suffix = _SUFFIX.search(url.rpartition("/")[2])
    kind = image.media_type or (_MEDIA_TYPES.get(suffix[1].lower()) if suffix else None)
    return {"fileData": {**({"mimeType": kind} if kind else {}), "fileUri": url}}


def _declared(tool: Tool) -> dict[str, Any]:
    """Declare a function; one that takes nothing has no parameters, since Gemini refuses an object without properties."""
    declared: dict[str, Any] = {"name": tool.name}
    if tool.description:
        declared["description"] = tool.description
    if tool.parameters and (tool.parameters.get("properties") or not _NOTHING.issuperset(tool.parameters)):
        declared["parametersJsonSchema"] = tool.parameters
    return declared


def _calling(choice: Choice) -> dict[str, Any]:
    named = {"allowedFunctionNames": [choice.name]} if choice.mode == "named" else {}
    return {"mode": _MODES[choice.mode], **named}


def _config(prompt: Prompt) -> dict[str, Any]:
    config: dict[str, Any] = {
        "temperature": prompt.temperature,
        "topP": prompt.top_p,
        "topK": prompt.top_k,
        "maxOutputTokens": prompt.max_tokens,
        "seed": prompt.seed,
        "presencePenalty": prompt.presence_penalty or None,  # several models refuse to hear of it
        "frequencyPenalty": prompt.frequency_penalty or None,
        "stopSequences": list(prompt.stop) or None,
        "responseMimeType": "application/json" if prompt.shape else None,
        "responseJsonSchema": prompt.shape.schema if prompt.shape else None,
        "thinkingConfig": _thinking(prompt),
    }
    return {name: said for name, said in config.items() if said is not None}


def _thinking(prompt: Prompt) -> dict[str, Any] | None:
    """Say how much to think: as a level where the model knows levels, else in tokens, within what the model takes."""
    model, reasoning = prompt.model, prompt.reasoning
    if reasoning is None or reasoning.tokens is None or reasoning.word is None or _THOUGHTLESS.search(model):
        return None
    shown = reasoning.tokens != 0
    if _IN_LEVELS.search(model):
        least = "low" if "pro" in model else "minimal"  # these cannot be told not to think at all
        return {"includeThoughts": shown, "thinkingLevel": _LEVELS.get(reasoning.word, least)}
    least_tokens, most_tokens = next((bounds for name, bounds in _BUDGETS.items() if name in model), (0, 24_576))
    tokens = 0 if not shown and "pro" not in model else min(max(reasoning.tokens, least_tokens), most_tokens)
    return {"includeThoughts": shown, "thinkingBudget": tokens}


def _untranslatable(field: str) -> Rejected:
    return Rejected(f"`{field}` cannot be expressed in the gemini dialect", code="untranslatable")
