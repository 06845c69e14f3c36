"""Reads a request of the Responses API into one of no dialect; what is bound to OpenAI's own servers is refused by its name."""

import json
from collections.abc import Mapping
from typing import Any, Literal, cast

import msgspec

from gateway.core.call import Call
from gateway.core.errors import Rejected
from gateway.core.prompt import BUDGETS, Choice, Effort, Prompt, Reasoning, Shape, Tool, Turn
from gateway.dialects.lenient import mapping, mappings, number, read_object, text, whole
from gateway.dialects.responses.talk import Talk, invalid, untranslatable

# State and safety that only the server asked for can keep, and what no other dialect has a word for. False, 0 and null ask for nothing.
_BOUND = (
    *("previous_response_id", "conversation", "background", "prompt", "context_management", "moderation"),
    *("top_logprobs", "logprobs", "modalities", "audio", "logit_bias", "structured_outputs"),
)
# vLLM and llama.cpp take the last five too, OpenAI does not.
_UNDERSTOOD = frozenset(
    {
        *("model", "stream", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "max_output_tokens", "temperature"),
        *("top_p", "text", "reasoning", "user", "include", "n", "stop", "seed", "top_k", "frequency_penalty", "presence_penalty"),
        *_BOUND,
    }
)
# What these members say when they ask for nothing that another dialect does not do anyway.
_ABSENT: Mapping[str, Any] = {"store": False, "truncation": "disabled"}
_EFFORTS: Mapping[str, Effort] = {word: word for word in BUDGETS}


def read_prompt(call: Call) -> Prompt:
    """Say a call in no dialect; see `dialects.base.Dialect.read_prompt`."""
    asked = _decode(call.body)
    _refuse_bound(asked)
    harmless = [name for name, value in asked.items() if name not in _UNDERSTOOD and value not in (None, _ABSENT.get(name))]
    talk = Talk(harmless)
    talk.instruct(asked.get("instructions"))
    talk.read(asked.get("input"))
    tools = tuple(_tool(tool, f"tools[{at}]") for at, tool in enumerate(_list(asked, "tools")))
    choice, tools = _choice(asked.get("tool_choice"), tools)
    return Prompt(
        model=call.model,
        stream=call.stream,
        system=tuple(talk.system),
        turns=tuple(Turn(role, tuple(parts)) for role, parts in talk.turns),
        tools=tools,
        choice=choice,
        parallel_tools=_boolean(asked, "parallel_tool_calls"),
        max_tokens=_whole(asked, "max_output_tokens"),
        temperature=_number(asked, "temperature"),
        top_p=_number(asked, "top_p"),
        top_k=_whole(asked, "top_k"),
        seed=_whole(asked, "seed"),
        frequency_penalty=_number(asked, "frequency_penalty"),
        presence_penalty=_number(asked, "presence_penalty"),
        stop=_stop(asked.get("stop")),
        shape=_shape(mapping(asked.get("text")), harmless),
        reasoning=_reasoning(mapping(asked.get("reasoning")), harmless),
        user=text(asked.get("user")),
        harmless=tuple(dict.fromkeys(harmless)),
    )


def _decode(body: bytes) -> dict[str, Any]:
    """Read a body that `parse_call` has accepted; half an emoji stays one."""
    try:
        return mapping(msgspec.json.decode(body))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        found = read_object(body)
    try:
        json.dumps(found, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise Rejected("the request body holds numbers or depths that no JSON of others does", code="invalid_json") from error
    return found


def _refuse_bound(asked: dict[str, Any]) -> None:
    for field in _BOUND:
        if asked.get(field) and asked[field] != ["text"]:
            raise untranslatable(field)
    if asked.get("n") not in (None, 1):
        raise untranslatable("n")
    if "message.output_text.logprobs" in _list(asked, "include"):
        raise untranslatable("include")  # everything else to include comes from tools that are refused, or repeats the request


def _tool(tool: Any, where: str) -> Tool:
    found = mapping(tool)
    if found.get("type") != "function":
        raise untranslatable(f"{where} of type {str(found.get('type'))[:64]}")
    name = text(found.get("name"))
    if not name:
        raise invalid(f"{where}.name", "a non-empty string")
    parameters, strict = found.get("parameters"), found.get("strict")
    return Tool(
        name,
        text(found.get("description")) or "",
        parameters if isinstance(parameters, dict) else None,
        strict if isinstance(strict, bool) else None,
    )


def _choice(said: Any, tools: tuple[Tool, ...]) -> tuple[Choice | None, tuple[Tool, ...]]:
    """Read `tool_choice`; one that allows only some of the tools is said by leaving out the others."""
    if said is None:
        return None, tools
    if isinstance(said, str):
        if said not in {"auto", "none", "required"}:
            raise untranslatable("tool_choice")
        return Choice(cast("Literal['auto', 'none', 'required']", said)), tools
    found = mapping(said)
    if found.get("type") == "function" and (name := text(found.get("name"))):
        return Choice("named", name), tools
    if found.get("type") == "allowed_tools" and found.get("mode") in ("auto", "required"):
        allowed = {text(tool.get("name")) for tool in mappings(found.get("tools"))}
        return Choice(found["mode"]), tuple(tool for tool in tools if tool.name in allowed)
    raise untranslatable("tool_choice")


def _shape(said: dict[str, Any], harmless: list[str]) -> Shape | None:
    if said.get("verbosity") is not None:
        harmless.append("text.verbosity")
    form = mapping(said.get("format"))
    match form.get("type"):
        case None | "text":
            return None
        case "json_object":
            return Shape()
        case "json_schema" if isinstance(form.get("schema"), dict):
            strict = form.get("strict")
            return Shape(form["schema"], text(form.get("name")) or "answer", strict if isinstance(strict, bool) else None)
    raise untranslatable("text.format")


def _reasoning(said: dict[str, Any], harmless: list[str]) -> Reasoning | None:
    harmless += [f"reasoning.{member}" for member, value in said.items() if member != "effort" and value is not None]
    if (effort := said.get("effort")) is None:
        return None
    if not isinstance(effort, str) or effort not in _EFFORTS:
        raise untranslatable("reasoning.effort")
    return Reasoning(_EFFORTS[effort])


def _stop(said: Any) -> tuple[str, ...]:
    found = [said] if isinstance(said, str) else said or []
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise invalid("stop", "text or a list of texts")
    return tuple(word for word in found if word)


def _list(asked: dict[str, Any], field: str) -> list[Any]:
    said = asked.get(field)
    if said is not None and not isinstance(said, list):
        raise invalid(field, "a list")
    return said or []


def _number(asked: dict[str, Any], field: str) -> float | None:
    if (said := asked.get(field)) is not None and number(said) is None:
        raise invalid(field, "a number")
    return number(said)


def _whole(asked: dict[str, Any], field: str) -> int | None:
    if (said := asked.get(field)) is not None and whole(said) is None:
        raise invalid(field, "an integer")
    return whole(said)


def _boolean(asked: dict[str, Any], field: str) -> bool | None:
    said = asked.get(field)
    if said is not None and not isinstance(said, bool):
        raise invalid(field, "true or false")
    return said
