"""A client's Messages request, said in no dialect: what others can be told is read, what no answer depends on is named, the rest refused.

Source: Anthropic's API reference, "Create a Message", and the parameter types of its Python SDK.
"""

from collections.abc import Iterator
from typing import Any, Literal

import msgspec
from msgspec import Struct

from gateway.core.call import Call
from gateway.core.errors import Rejected
from gateway.core.prompt import Choice, Effort, Image, Part, Prompt, Reasoning, Role, Shape, Text, Thought, Tool, ToolResult, ToolUse, Turn
from gateway.dialects import lenient
from gateway.dialects.lenient import mapping

_READ = frozenset(
    {"model", "messages", "system", "max_tokens", "stop_sequences", "stream", "temperature", "top_p", "top_k", "tools", "tool_choice"}
    | {"thinking", "output_config", "output_format", "metadata", "container", "mcp_servers"}
)
_BLOCK_MEMBERS = {
    "text": frozenset({"type", "text"}),
    "image": frozenset({"type", "source"}),
    "document": frozenset({"type", "source"}),
    "thinking": frozenset({"type", "thinking", "signature"}),
    "tool_use": frozenset({"type", "id", "name", "input"}),
    "tool_result": frozenset({"type", "tool_use_id", "content", "is_error"}),
    "tool": frozenset({"type", "name", "description", "input_schema", "strict"}),
}
_MODES: dict[str, Literal["auto", "required", "named", "none"]] = {"auto": "auto", "any": "required", "tool": "named", "none": "none"}
_EFFORTS: dict[str, Effort] = {"low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}


def read_prompt(call: Call) -> Prompt:
    """Say a chat call in no dialect; raises `core.errors.Rejected` as `dialects.base.Dialect.read_prompt` does."""
    if call.operation != "chat":
        raise _untranslatable(call.operation)
    return _Request(lenient.read_object(call.body)).prompt(call)


def shows_thinking(call: Call) -> bool:
    """Tell whether a client wants to see the reasoning: without being asked, the API begins no answer with it."""
    try:
        thinking = _THINKING.decode(call.body).thinking
    except (msgspec.MsgspecError, ValueError, RecursionError):
        thinking = _loosely(call.body).get("thinking")
    said = mapping(thinking)
    return said.get("type") in ("enabled", "adaptive") and said.get("display") != "omitted"


class _Thinking(Struct):
    thinking: Any = None


_THINKING = msgspec.json.Decoder(_Thinking)


def _loosely(body: bytes) -> dict[str, Any]:
    try:
        return mapping(lenient.untyped(body))
    except msgspec.DecodeError:
        return {}


def _untranslatable(member: str) -> Rejected:
    return Rejected(f"`{member[:64]}` cannot be expressed in another dialect", code="untranslatable")


def _wrong(member: str, wanted: str) -> Rejected:
    return Rejected(f"`{member[:64]}` must be {wanted}", code="invalid_request")


class _Request:
    """One request while it is read; it remembers the tools' names by the ids of their calls, and what it left out."""

    def __init__(self, said: dict[str, Any]) -> None:
        self._said = said
        self._names: dict[str, str] = {}
        self._left_out = dict.fromkeys(member for member in said if member not in _READ and said[member] is not None)

    def prompt(self, call: Call) -> Prompt:
        said = self._said
        for member in ("container", "mcp_servers"):
            if said.get(member):
                raise _untranslatable(member)
        system = [words for words in _words(said.get("system"), "system", self) if words]
        turns = self._turns(system)
        choice = mapping(said.get("tool_choice"))
        alone = choice.get("disable_parallel_tool_use")
        return Prompt(
            model=call.model,
            stream=call.stream,
            system=tuple(system),
            turns=tuple(turns),
            tools=tuple(self._tool(tool) for tool in _objects(said.get("tools"), "tools")),
            choice=_choice(choice) if choice else None,
            parallel_tools=None if alone is None else not alone,
            max_tokens=self._whole("max_tokens"),
            temperature=self._number("temperature"),
            top_p=self._number("top_p"),
            top_k=self._whole("top_k"),
            stop=_stops(said.get("stop_sequences")),
            shape=self._shape(),
            reasoning=self._reasoning(),
            user=self._user(),
            harmless=tuple(self._left_out),
        )

    def leave_out(self, found: dict[str, Any], known: frozenset[str]) -> None:
        """Note the members that are neither known nor empty: cache hints, citations."""
        self._left_out |= dict.fromkeys(member for member in found if member not in known and found[member] is not None)

    def _turns(self, system: list[str]) -> list[Turn]:
        """Read the messages; system messages among them join the instructions, turns of one role become one."""
        turns: list[tuple[Role, list[Part]]] = []
        for message in _objects(self._said.get("messages"), "messages"):
            role, content = message.get("role"), message.get("content")
            if role == "system":
                system += [words for words in _words(content, "messages.content", self) if words]
                continue
            if role not in ("user", "assistant"):
                raise _wrong("messages.role", '"user" or "assistant"')
            parts = list(self._parts(content))
            if turns and turns[-1][0] == role:
                turns[-1][1].extend(parts)
            elif parts:
                turns.append((role, parts))
        return [Turn(role, tuple(parts)) for role, parts in turns]

    def _parts(self, content: Any) -> Iterator[Part]:
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        for block in _objects(content, "messages.content"):
            part = self._part(block, str(block.get("type")))
            if part is not None:
                yield part

    def _part(self, block: dict[str, Any], kind: str) -> Part | None:
        """Read one block; empty text and reasoning that only its provider can read say nothing to anybody else."""
        if kind == "redacted_thinking":
            self.leave_out({kind: block}, frozenset())
            return None
        if kind in _BLOCK_MEMBERS:
            self.leave_out(block, _BLOCK_MEMBERS[kind])
        if kind == "thinking":
            return Thought(_text(block, "thinking"), lenient.text(block.get("signature")) or None)
        if kind == "tool_use":
            self._names[_text(block, "id")] = _text(block, "name")
            return ToolUse(block["id"], block["name"], lenient.encode(mapping(block.get("input"))).decode())
        if kind == "tool_result":
            return self._result(block)
        return _seen(block, kind)

    def _result(self, block: dict[str, Any]) -> ToolResult:
        content, name = block.get("content"), _text(block, "tool_use_id")
        parts: list[Text | Image] = [Text(content)] if isinstance(content, str) and content else []
        if not isinstance(content, str):
            for inner in _objects(content or [], "tool_result.content"):
                kind = str(inner.get("type"))
                self.leave_out(inner, _BLOCK_MEMBERS.get(kind, frozenset(inner)))
                if (part := _seen(inner, kind)) is not None:
                    parts.append(part)
        return ToolResult(name, self._names.get(name, ""), tuple(parts), block.get("is_error") is True)

    def _tool(self, tool: dict[str, Any]) -> Tool:
        """Read a function; tools that Anthropic runs, or that its models know by heart, mean nothing elsewhere."""
        kind = tool.get("type")
        if kind not in (None, "custom"):
            raise _untranslatable(f"tools.{kind}")
        self.leave_out(tool, _BLOCK_MEMBERS["tool"])
        schema, strict = tool.get("input_schema"), tool.get("strict")
        return Tool(
            _text(tool, "name"),
            lenient.text(tool.get("description")) or "",
            schema if isinstance(schema, dict) else None,
            strict if isinstance(strict, bool) else None,
        )

    def _shape(self) -> Shape | None:
        shape = mapping(self._said.get("output_config")).get("format") or self._said.get("output_format")
        if not shape:
            return None
        if not isinstance(shape, dict) or shape.get("type") != "json_schema" or not isinstance(shape.get("schema"), dict):
            raise _untranslatable("output_config.format")
        return Shape(shape["schema"], strict=True)

    def _reasoning(self) -> Reasoning | None:
        """Read how much to think. Adaptive thinking lets the model decide, as models elsewhere do when nothing is said."""
        thinking, config = mapping(self._said.get("thinking")), mapping(self._said.get("output_config"))
        word = config.get("effort")
        effort = _EFFORTS.get(str(word))
        if effort is None:
            self.leave_out({"output_config.effort": word}, frozenset())
        self.leave_out({f"output_config.{member}": value for member, value in config.items()}, _CONFIG_MEMBERS)
        if thinking.get("type") == "disabled":
            return Reasoning(effort="none")
        if thinking.get("type") == "enabled":
            budget = lenient.whole(thinking.get("budget_tokens"))
            return Reasoning(effort, budget) if budget is not None or effort else None
        if thinking and effort is None:
            self.leave_out({"thinking": thinking}, frozenset())
        return Reasoning(effort) if effort else None

    def _user(self) -> str | None:
        metadata = mapping(self._said.get("metadata"))
        self.leave_out({f"metadata.{member}": value for member, value in metadata.items()}, frozenset({"metadata.user_id"}))
        return lenient.text(metadata.get("user_id"))

    def _number(self, member: str) -> float | None:
        said = self._said.get(member)
        if said is not None and lenient.number(said) is None:
            raise _wrong(member, "a number")
        return lenient.number(said)

    def _whole(self, member: str) -> int | None:
        said = self._said.get(member)
        if said is not None and lenient.count(said) is None:
            raise _wrong(member, "a whole number")
        return lenient.count(said)


_CONFIG_MEMBERS = frozenset({"output_config.effort", "output_config.format"})


def _seen(block: dict[str, Any], kind: str) -> Text | Image | None:
    """Read what a user or a tool shows. A document is text when it was given as text; files, PDFs and search results are refused."""
    source = mapping(block.get("source"))
    if kind == "text":
        return Text(words) if (words := _text(block, "text")) else None
    if kind == "document" and source.get("type") == "text":
        return Text(words) if (words := _text(source, "data")) else None
    if kind == "image" and source.get("type") == "base64":
        return Image(media_type=_text(source, "media_type"), data=_text(source, "data"))
    if kind == "image" and source.get("type") == "url":
        return Image(url=_text(source, "url"))
    raise _untranslatable(f"{kind}.source" if kind in {"image", "document"} else kind)


def _choice(choice: dict[str, Any]) -> Choice:
    mode = _MODES.get(str(choice.get("type")))
    if mode is None:
        raise _wrong("tool_choice.type", "auto, any, tool or none")
    return Choice(mode, _text(choice, "name") if mode == "named" else None)


def _words(content: Any, member: str, request: _Request) -> Iterator[str]:
    """Yield instructions: a string or text blocks."""
    if isinstance(content, str):
        yield content
        return
    for block in _objects(content or [], member):
        if block.get("type", "text") != "text":
            raise _untranslatable(f"{member}.{block['type']}")
        request.leave_out(block, _BLOCK_MEMBERS["text"])
        yield _text(block, "text")


def _stops(said: Any) -> tuple[str, ...]:
    if not isinstance(said or [], list) or not all(isinstance(stop, str) for stop in said or []):
        raise _wrong("stop_sequences", "a list of strings")
    return tuple(said or ())


def _objects(found: Any, member: str) -> list[dict[str, Any]]:
    if found is None and member == "tools":
        return []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise _wrong(member, "a list of objects")
    return found


def _text(found: dict[str, Any], member: str) -> str:
    if not isinstance(said := found.get(member), str):
        raise _wrong(member, "a string")
    return said
