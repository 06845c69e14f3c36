"""A Converse request as a prompt. Source: the Bedrock Runtime API reference, Converse."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from gateway.core.call import Call
from gateway.core.errors import Rejected
from gateway.core.prompt import BUDGETS, Choice, Image, Part, Prompt, Reasoning, Shape, Text, Thought, Tool, ToolResult, ToolUse, Turn
from gateway.dialects.bedrock.reader import written
from gateway.dialects.lenient import count, encode, mapping, mappings, read_object, text

HARMLESS = ("additionalModelResponseFieldPaths", "performanceConfig", "requestMetadata", "serviceTier")
_READ = ("messages", "system", "inferenceConfig", "toolConfig", "outputConfig", "additionalModelRequestFields")
_DECISIVE = ("tool_choice", "tools", "output_config", "response_format", "stop", "stop_sequences", "logit_bias", "logprobs", "n")
_REFUSED = ("guardrailConfig", "promptVariables")  # without the first an answer is not safe, without the second not asked for


def read(call: Call) -> Prompt:
    """Say a Converse request in no dialect; raises `Rejected` that names what no other dialect could be told."""
    body = read_object(call.body)
    for refused in _REFUSED:
        if body.get(refused):
            raise inexpressible(refused)
    harmless = [name for name in body if name not in _READ and name not in _REFUSED and body[name] is not None]
    sampling = mapping(body.get("inferenceConfig"))
    extra = _Extra(mapping(body.get("additionalModelRequestFields")))
    tools = mapping(body.get("toolConfig"))
    system, turns = _conversation(body, harmless)
    prompt = Prompt(
        model=call.model,
        stream=call.stream,
        system=system,
        turns=turns,
        tools=tuple(_tools(tools, harmless)),
        choice=_choice(mapping(tools.get("toolChoice"))),
        parallel_tools=extra.parallel_tools(),
        max_tokens=call.max_tokens,
        temperature=call.temperature,
        top_p=call.top_p,
        top_k=extra.top_k(),
        stop=tuple(item for item in _list(sampling.get("stopSequences")) if isinstance(item, str)),
        shape=_shape(mapping(body.get("outputConfig"))),
        reasoning=extra.reasoning(mapping(body.get("outputConfig")).get("effort")),
    )
    return msgspec.structs.replace(prompt, harmless=tuple(dict.fromkeys((*harmless, *extra.rest()))))


def inexpressible(member: str) -> Rejected:
    """Return the refusal of a member that is neither expressible nor harmless."""
    return Rejected(f"`{member}` cannot be expressed in another dialect", code="untranslatable")


def _conversation(body: dict[str, Any], harmless: list[str]) -> tuple[tuple[str, ...], tuple[Turn, ...]]:
    """Read system texts and turns; consecutive messages of one role are one turn."""
    system = list(_system(body.get("system"), harmless))
    turns: list[tuple[Any, list[Part]]] = []
    names: dict[str, str] = {}
    for message in _objects(body.get("messages"), "messages"):
        role = message.get("role")
        if role == "system":
            system += _system(message.get("content"), harmless)
            continue
        if role not in ("user", "assistant"):
            raise inexpressible("messages.role")
        parts = [part for block in _objects(message.get("content"), "messages.content") for part in _parts(block, names, harmless)]
        if turns and turns[-1][0] == role:
            turns[-1][1].extend(parts)
        else:
            turns.append((role, parts))
    return tuple(system), tuple(Turn(role, tuple(parts)) for role, parts in turns if parts)


def _system(blocks: Any, harmless: list[str]) -> Iterator[str]:
    for block in _objects(blocks, "system"):
        if words := text(block.get("text")) or text(mapping(mapping(block.get("guardContent")).get("text")).get("text")):
            yield words
        elif "cachePoint" in block:
            harmless.append("cachePoint")
        elif "text" not in block:
            raise inexpressible(f"system.{next(iter(block), 'content')}")


def _parts(block: dict[str, Any], names: dict[str, str], harmless: list[str]) -> Iterator[Part]:
    """Read one block of a message; `names` remembers what tools were called, for their results."""
    kind = next((name for name in block if block[name] is not None), "")
    if kind == "toolUse":
        yield _tool_use(mapping(block[kind]), names)
    elif kind == "toolResult":
        yield _tool_result(mapping(block[kind]), names)
    elif kind == "cachePoint":
        harmless.append(kind)
    elif kind in _BLOCKS:
        yield from _BLOCKS[kind](block[kind])
    else:
        raise inexpressible(f"messages.content.{kind}")


def _text(said: Any) -> Iterator[Text]:
    if isinstance(said, str) and said:
        yield Text(said)


def _image(said: Any) -> Iterator[Image]:
    source = mapping(mapping(said).get("source"))
    data, address = text(source.get("bytes")), text(mapping(source.get("s3Location")).get("uri"))
    if data is None and address is None:
        raise inexpressible("image.source")
    yield Image(f"image/{mapping(said).get('format') or 'png'}", data, None if data is not None else address)


def _guarded(said: Any) -> Iterator[Text | Image]:
    """Read what a guardrail would look at: without one it is content like any other."""
    guarded = mapping(said)
    yield from _text(mapping(guarded.get("text")).get("text"))
    if "image" in guarded:
        yield from _image(guarded["image"])


def _thought(said: Any) -> Iterator[Thought]:
    """Read reasoning; what is redacted only its maker could read, and it goes without saying elsewhere."""
    thought = mapping(mapping(said).get("reasoningText"))
    if words := text(thought.get("text")):
        yield Thought(words, text(thought.get("signature")))


def _cited(said: Any) -> Iterator[Text]:
    for found in mappings(mapping(said).get("content")):
        yield from _text(found.get("text"))


_BLOCKS: Mapping[str, Callable[[Any], Iterator[Part]]] = {
    "text": _text,
    "image": _image,
    "guardContent": _guarded,
    "reasoningContent": _thought,
    "citationsContent": _cited,
}


def _tool_use(said: dict[str, Any], names: dict[str, str]) -> ToolUse:
    tool = ToolUse(text(said.get("toolUseId")) or "", text(said.get("name")) or "", written(said.get("input")) or "{}")
    names[tool.id] = tool.name
    return tool


def _tool_result(said: dict[str, Any], names: dict[str, str]) -> ToolResult:
    parts: list[Text | Image] = []
    for block in _objects(said.get("content"), "toolResult.content"):
        if "json" in block:
            parts.append(Text(encode(block["json"]).decode()))
        elif "image" in block:
            parts += _image(block["image"])
        elif "text" in block:
            parts += _text(block["text"])
        else:
            raise inexpressible(f"toolResult.content.{next(iter(block), 'none')}")
    tool = text(said.get("toolUseId")) or ""
    return ToolResult(tool, names.get(tool, ""), tuple(parts), said.get("status") == "error")


def _tools(said: dict[str, Any], harmless: list[str]) -> Iterator[Tool]:
    for tool in _objects(said.get("tools"), "toolConfig.tools"):
        if isinstance(spec := tool.get("toolSpec"), dict):
            schema, strict = mapping(spec.get("inputSchema")).get("json"), spec.get("strict")
            parameters = schema if isinstance(schema, dict) else None
            yield Tool(
                text(spec.get("name")) or "",
                text(spec.get("description")) or "",
                parameters,
                strict is True if strict is not None else None,
            )
        elif "cachePoint" in tool:
            harmless.append("cachePoint")
        else:
            raise inexpressible(f"toolConfig.tools.{next(iter(tool), 'none')}")


def _choice(said: dict[str, Any]) -> Choice | None:
    if "tool" in said:
        return Choice("named", text(mapping(said["tool"]).get("name")))
    return Choice("required") if "any" in said else Choice("auto") if "auto" in said else None


def _shape(said: dict[str, Any]) -> Shape | None:
    """Read the schema of a structured answer, which is JSON within JSON."""
    found = mapping(mapping(mapping(said.get("textFormat")).get("structure")).get("jsonSchema"))
    if not found:
        return None
    schema = found.get("schema")
    try:
        schema = json.loads(schema) if isinstance(schema, str) else schema
    except ValueError as error:
        raise Rejected("`outputConfig` holds a schema that is not valid JSON", code="invalid_json") from error
    return Shape(schema if isinstance(schema, dict) else None, text(found.get("name")) or "answer")


def _objects(found: Any, name: str) -> list[dict[str, Any]]:
    """Return a list of objects; what is none would be an answer to another question if it were passed over."""
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise Rejected(f"`{name}` must be a list of objects", code="invalid_value")
    return found


def _list(found: Any) -> list[Any]:
    return found if isinstance(found, list) else []


class _Extra:
    """The fields of a model of its own, of which some are known; what is asked for is taken out, what is left is unknown."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = dict(fields)

    def top_k(self) -> int | None:
        nova = self._fields.get("inferenceConfig")
        if isinstance(nova, dict) and set(nova) == {"topK"}:
            del self._fields["inferenceConfig"]
            return count(nova["topK"])
        return count(next((self._fields.pop(name) for name in ("top_k", "topK", "k") if name in self._fields), None))

    def parallel_tools(self) -> bool | None:
        choice = mapping(self._fields.get("tool_choice"))
        if "disable_parallel_tool_use" not in choice or choice.get("type", "auto") != "auto":
            return None
        del self._fields["tool_choice"]
        return choice["disable_parallel_tool_use"] is not True

    def reasoning(self, effort: Any) -> Reasoning | None:
        """Read how much to think; `effort` is what Converse itself was told."""
        found = next((mapping(self._fields.pop(name)) for name in ("thinking", "reasoning_config") if name in self._fields), {})
        if found.get("type") == "disabled":
            return Reasoning("none")
        if budget := count(found.get("budget_tokens")):
            return Reasoning(budget=budget)
        output = mapping(self._fields.get("output_config"))
        if set(output) == {"effort"}:
            del self._fields["output_config"]
        efforts = (
            effort,
            self._fields.pop("reasoning_effort", None),
            output.get("effort"),
            mapping(self._fields.pop("reasoning", None)).get("effort"),
            mapping(self._fields.pop("reasoningConfig", None)).get("maxReasoningEffort"),
        )
        word = next((word for said in efforts for word in BUDGETS if word == said), None)
        return Reasoning(word) if word is not None or found.get("type") == "adaptive" else None

    def rest(self) -> Iterator[str]:
        """Name what is left; raises `Rejected` for that on which an answer depends."""
        for name in _DECISIVE:
            if self._fields.get(name) not in (None, [], {}, False, 1):
                raise inexpressible(f"additionalModelRequestFields.{name}")
        yield from (f"additionalModelRequestFields.{name}" for name in self._fields)
