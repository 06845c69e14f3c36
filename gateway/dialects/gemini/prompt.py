"""A Gemini request, said in no dialect. Members may be in camelCase or snake_case, as proto3 JSON has it."""

import re
from collections import deque
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from gateway.core.call import Call
from gateway.core.errors import Rejected
from gateway.core.prompt import (
    Choice,
    Effort,
    Image,
    Part,
    Prompt,
    Reasoning,
    Role,
    Shape,
    Text,
    Thought,
    Tool,
    ToolResult,
    ToolUse,
    Turn,
)
from gateway.dialects import lenient
from gateway.dialects.gemini.schema import json_schema

_ROLES: dict[Any, Role] = {"user": "user", "function": "user", "model": "assistant", None: "user", "": "user"}
_READ = frozenset({"contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "model"})
_CONFIG_READ = frozenset(
    {
        "stopSequences", "responseMimeType", "responseSchema", "responseJsonSchema", "candidateCount", "maxOutputTokens", "temperature",
        "topP", "topK", "seed", "presencePenalty", "frequencyPenalty", "thinkingConfig", "responseModalities", "responseLogprobs",
        "_responseJsonSchema",
    }
)  # fmt: skip
_CONFIG_REFUSED = frozenset({"speechConfig", "imageConfig", "audioTranscriptionConfig", "translationConfig", "responseFormat"})
_PLAIN_ALPHABET = str.maketrans("-_", "+/")
_PART_READ = frozenset({"text", "thought", "thoughtSignature", "inlineData", "fileData", "functionCall", "functionResponse"})
_PART_HARMLESS = frozenset({"videoMetadata", "mediaResolution", "partMetadata"})
_EFFORTS: dict[str, Effort] = {"MINIMAL": "minimal", "LOW": "low", "MEDIUM": "medium", "HIGH": "high", "XHIGH": "xhigh", "MAX": "max"}
_PRIVATE = re.compile(r"gs:|https?://(generativelanguage\.googleapis\.com|(www\.)?youtube\.com|youtu\.be)/", re.IGNORECASE)
"""What only Google's own models, or its own keys, can open."""


def read_prompt(call: Call) -> Prompt:
    """Say a chat call in no dialect; raises `Rejected` that names what no other dialect could be told."""
    body = _members(lenient.read_object(call.body))
    config = _members(body.get("generationConfig"))
    notes = _Notes()
    _refuse(body, config)
    notes.extras(body, _READ, "")
    notes.extras(config, _CONFIG_READ, "generationConfig.")
    tools = _tools(body.get("tools"), notes)
    return Prompt(
        model=call.model,
        stream=call.stream,
        system=_system(body.get("systemInstruction")),
        turns=_turns(body.get("contents"), notes),
        tools=tools,
        choice=_choice(_members(_members(body.get("toolConfig")).get("functionCallingConfig")), tools),
        max_tokens=_whole(config.get("maxOutputTokens")),
        temperature=lenient.number(config.get("temperature")),
        top_p=lenient.number(config.get("topP")),
        top_k=_whole(config.get("topK")),
        seed=_whole(config.get("seed")),
        frequency_penalty=lenient.number(config.get("frequencyPenalty")),
        presence_penalty=lenient.number(config.get("presencePenalty")),
        stop=tuple(stop for stop in _list(config.get("stopSequences")) if isinstance(stop, str) and stop),
        shape=_shape(config),
        reasoning=_reasoning(_members(config.get("thinkingConfig")), notes),
        harmless=tuple(notes.harmless),
    )


class _Notes:
    """What is remembered from part to part: names of what is dropped, and which tool calls still wait for their result."""

    def __init__(self) -> None:
        self.harmless: dict[str, None] = {}
        self._calls = 0
        self._waiting: dict[str, deque[str]] = {}

    def extras(self, found: dict[str, Any], read: frozenset[str], place: str) -> None:
        self.harmless.update({place + name: None for name in found if name not in read})

    def called(self, name: str, said: str | None) -> str:
        """Return the id of a tool call: its own, or its place in the conversation."""
        self._calls += 1
        known = said or f"call_{self._calls}"
        self._waiting.setdefault(name, deque()).append(known)
        return known

    def answered(self, name: str, said: str | None) -> str:
        """Return the id of the call that a result is for: without one of its own, the first of that tool's that still waits."""
        waiting = self._waiting.setdefault(name, deque())
        if said is None:
            return waiting.popleft() if waiting else self.called(name, None)
        if said in waiting:
            waiting.remove(said)
        return said


def _refuse(body: dict[str, Any], config: dict[str, Any]) -> None:
    """Raise for the members that change an answer and that no other dialect has."""
    if "cachedContent" in body:
        raise _untranslatable("cachedContent")
    for name in sorted(_CONFIG_REFUSED & set(config)):
        raise _untranslatable(f"generationConfig.{name}")
    if (_whole(config.get("candidateCount")) or 1) > 1:
        raise _untranslatable("generationConfig.candidateCount")
    if config.get("responseLogprobs"):
        raise _untranslatable("generationConfig.responseLogprobs")
    if any(str(kind).upper() != "TEXT" for kind in _list(config.get("responseModalities"))):
        raise _untranslatable("generationConfig.responseModalities")


def _system(said: Any) -> tuple[str, ...]:
    if isinstance(said, str):
        return (said,) if said else ()
    found = _members(said)
    parts = [_members(part) for part in _list(found.get("parts", said if "text" in found or isinstance(said, list) else None))]
    if any(not isinstance(part.get("text"), str) for part in parts):
        raise _untranslatable("systemInstruction.parts")
    return tuple(part["text"] for part in parts if part["text"])


def _turns(contents: Any, notes: _Notes) -> tuple[Turn, ...]:
    turns: list[Turn] = []
    for content in _list(contents):
        said = _members({"parts": [{"text": content}]} if isinstance(content, str) else content)
        role = said.get("role")
        if not isinstance(role, str | None) or role not in _ROLES:
            raise _untranslatable("contents.role")
        parts = tuple(part for item in _list(said.get("parts")) for part in _parts(item, notes))
        if turns and turns[-1].role == _ROLES[role]:
            turns[-1] = Turn(_ROLES[role], turns[-1].parts + parts)
        elif parts:
            turns.append(Turn(_ROLES[role], parts))
    return tuple(Turn(turn.role, _joined(turn.parts)) if turn.role == "assistant" else turn for turn in turns)


def _joined(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """Put an answer together: clients keep a streamed one as it came, a part for each of its chunks."""
    joined: list[Part] = []
    for kind, group in groupby(parts, type):
        same = tuple(group)
        words = "".join(part.text for part in same if isinstance(part, Text | Thought))
        joined += [Text(words)] if kind is Text else [Thought(words)] if kind is Thought else same
    return tuple(joined)


def _parts(item: Any, notes: _Notes) -> Iterator[Part]:
    part = _members({"text": item} if isinstance(item, str) else item)
    for name in part:
        if name in _PART_HARMLESS or (name == "thoughtSignature" and "functionCall" not in part):
            notes.harmless[f"contents.parts.{name}"] = None
        elif name not in _PART_READ:
            raise _untranslatable(f"contents.parts.{name}")
    if isinstance(text := part.get("text"), str) and text:
        yield Thought(text) if part.get("thought") is True else Text(text)
    if "inlineData" in part or "fileData" in part:
        yield _image(part, "contents.parts.")
    if "functionCall" in part:
        yield _tool_use(_members(part["functionCall"]), _text(part.get("thoughtSignature")), notes)
    if "functionResponse" in part:
        yield _tool_result(_members(part["functionResponse"]), notes)


def _plain_base64(data: str) -> str:
    """Return base64 in the alphabet that every provider takes: google-genai writes the URL's, and proto3 JSON lets padding out."""
    return data.translate(_PLAIN_ALPHABET) + "=" * (-len(data) % 4)


def _image(part: dict[str, Any], place: str) -> Image:
    blob, file = _members(part.get("inlineData")), _members(part.get("fileData"))
    kind = blob.get("mimeType") or file.get("mimeType")
    if blob:
        if not (isinstance(kind, str) and kind.startswith("image/") and isinstance(blob.get("data"), str)):
            raise _untranslatable(place + "inlineData")
        return Image(media_type=kind, data=_plain_base64(blob["data"]))
    url = file.get("fileUri")
    plain = isinstance(url, str) and url.startswith(("https://", "http://")) and not _PRIVATE.match(url)
    if not plain or not isinstance(kind, str | None) or not (kind or "image/").startswith("image/"):
        raise _untranslatable(place + "fileData")
    return Image(media_type=kind, url=url)


def _tool_use(called: dict[str, Any], signature: str | None, notes: _Notes) -> ToolUse:
    name, args = _text(called.get("name")) or "", lenient.mapping(called.get("args"))
    return ToolUse(notes.called(name, _text(called.get("id"))), name, lenient.encode(args).decode(), signature)


def _tool_result(answered: dict[str, Any], notes: _Notes) -> ToolResult:
    """Read a tool's answer: by convention an object of `output` or `result`, or `error`; else the object itself is the answer."""
    name, response = _text(answered.get("name")) or "", answered.get("response")
    known, failed = notes.answered(name, _text(answered.get("id"))), False
    if isinstance(response, dict) and len(response) == 1 and (key := next(iter(response))) in {"output", "result", "error"}:
        response, failed = response[key], key == "error"
    text = response if isinstance(response, str) else lenient.encode({} if response is None else response).decode()
    pictures = [_image(_members(part), "contents.parts.functionResponse.parts.") for part in _list(answered.get("parts"))]
    return ToolResult(known, name, (Text(text), *pictures), failed)


def _tools(said: Any, notes: _Notes) -> tuple[Tool, ...]:
    tools: list[Tool] = []
    for item in _list(said):
        found = _members(item)
        for name in found:
            if name != "functionDeclarations":
                raise _untranslatable(f"tools.{name}")
        for declared in map(_members, _list(found.get("functionDeclarations"))):
            notes.extras(declared, frozenset({"name", "description", "parameters", "parametersJsonSchema"}), "tools.functionDeclarations.")
            schema = declared.get("parametersJsonSchema", json_schema(declared.get("parameters")))
            known = schema if isinstance(schema, dict) else None
            tools.append(Tool(_text(declared.get("name")) or "", _text(declared.get("description")) or "", known))
    return tuple(tools)


def _choice(said: dict[str, Any], tools: tuple[Tool, ...]) -> Choice | None:
    """Read which tools may be called. VALIDATED is AUTO that keeps to the schemas."""
    mode, allowed = str(said.get("mode") or "").upper(), _list(said.get("allowedFunctionNames"))
    if allowed and set(map(str, allowed)) != {tool.name for tool in tools} and (len(allowed) > 1 or mode != "ANY"):
        raise _untranslatable("toolConfig.functionCallingConfig.allowedFunctionNames")
    if mode == "ANY":
        return Choice("named", str(allowed[0])) if len(allowed) == 1 else Choice("required")
    return {"AUTO": Choice("auto"), "VALIDATED": Choice("auto"), "NONE": Choice("none")}.get(mode)


def _shape(config: dict[str, Any]) -> Shape | None:
    kind = str(config.get("responseMimeType") or "text/plain")
    if kind == "text/plain":
        return None
    if kind != "application/json":
        raise _untranslatable("generationConfig.responseMimeType")
    own = json_schema(config.get("responseSchema"))
    schema = next((said for said in (config.get("responseJsonSchema"), config.get("_responseJsonSchema"), own) if said is not None), None)
    return Shape(schema if isinstance(schema, dict) else None)


def _reasoning(said: dict[str, Any], notes: _Notes) -> Reasoning | None:
    """Read how much to think: a level, or a number of tokens, of which 0 is not at all and -1 is up to the model."""
    notes.extras(said, frozenset({"thinkingLevel", "thinkingBudget", "includeThoughts"}), "generationConfig.thinkingConfig.")
    if (effort := _EFFORTS.get(str(said.get("thinkingLevel") or "").upper())) is not None:
        return Reasoning(effort)
    budget = _whole(said.get("thinkingBudget"))
    if budget == 0:
        return Reasoning(effort="none")
    return Reasoning(budget=budget) if budget is not None and budget > 0 else None


def _untranslatable(field: str) -> Rejected:
    return Rejected(f"`{field}` cannot be expressed in any other dialect", code="untranslatable")


def _members(found: Any) -> dict[str, Any]:
    """Return an object's members in camelCase, without those that are null; {} for anything else."""
    if not isinstance(found, dict):
        return {}
    return {_camel(key): value for key, value in found.items() if value is not None}


def _camel(key: str) -> str:
    head, *rest = key.split("_")
    return head + "".join(word[:1].upper() + word[1:] for word in rest) if head else key


def _list(found: Any) -> list[Any]:
    """Return a list; a single object stands for a list of one, as Google's parsers take it."""
    return found if isinstance(found, list) else [found] if isinstance(found, dict | str) else []


def _text(found: Any) -> str | None:
    return found if isinstance(found, str) and found else None


def _whole(found: Any) -> int | None:
    """Return an integer, also one that is said as 40.0: Gemini's `topK` was a float in its first SDKs."""
    return int(found) if (number := lenient.number(found)) is not None and number == int(number) else None
