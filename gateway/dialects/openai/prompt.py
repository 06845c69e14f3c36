"""A chat request of this family, said in no dialect: what every other can be told, and nothing lost without a word."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import msgspec
from msgspec import Struct

from gateway.core.call import Call
from gateway.core.errors import Rejected
from gateway.core.prompt import (
    BUDGETS,
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
from gateway.dialects.lenient import Whole, mapping, mappings, read_object


class Function(Struct):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(Struct):
    type: str
    function: Function | None = None


class Called(Struct):
    name: str
    arguments: str = ""


class ToolCall(Struct):
    id: str
    type: str = "function"
    function: Called | None = None


class Message(Struct):
    """`reasoning_content` and `reasoning` are what servers of open models gave and take back."""

    role: str
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    name: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class Schema(Struct):
    name: str = "answer"
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class Format(Struct):
    """`schema` beside `json_object` is Together's and llama.cpp's way to say one."""

    type: str
    json_schema: Schema | None = None
    schema: dict[str, Any] | None = None


class Chat(Struct, kw_only=True):
    """The members that have a place in a prompt; `top_k` is vLLM's, llama.cpp's and OpenRouter's."""

    model: Any = None
    messages: list[dict[str, Any]]
    stream: Any = None
    stream_options: Any = None
    tools: list[FunctionTool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    max_tokens: Whole | None = None
    max_completion_tokens: Whole | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: Whole | None = None
    seed: Whole | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    stop: str | list[str] | None = None
    response_format: Format | None = None
    reasoning_effort: str | None = None
    user: str | None = None


REFUSED: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": (),
    "modalities": (["text"],),
    "audio": (),
    "functions": (),
    "function_call": ("none", "auto"),
    "web_search_options": (),
    "moderation": (),
    **dict.fromkeys(("guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs"), ()),  # vLLM
    **dict.fromkeys(("stop_token_ids", "bad_words", "allowed_token_ids"), ()),  # vLLM
    **dict.fromkeys(("grammar", "json_schema"), ()),  # llama.cpp
}
"""What an answer depends on and no prompt can say, with the values that ask for nothing."""

_EMPTY: tuple[Any, ...] = (None, "", [], {})
_TOOL_MEMBERS = {*Message.__struct_fields__}
_MESSAGE_MEMBERS = _TOOL_MEMBERS - {"name"}  # who of several users spoke: nothing that other dialects know
_MEMBERS = msgspec.json.Decoder(dict[str, Any])
_EFFORTS: Mapping[str, Effort] = {word: word for word in BUDGETS}


def read_prompt(call: Call) -> Prompt:
    """Raises `core.errors.Rejected` for what no other dialect could be told, and for what is no chat request."""
    if call.operation != "chat":
        raise Rejected("only chat can be translated: no other dialect knows this endpoint", code="untranslatable")
    try:
        return _Reading(members := _decode(call.body)).prompt(call, msgspec.convert(members, Chat))
    except msgspec.ValidationError as error:
        raise Rejected(f"this is no chat request: {error}", code="invalid_request") from error


def _decode(body: bytes) -> dict[str, Any]:
    """Read a body that `parse_call` has accepted; half an emoji becomes a question mark, since not every dialect can say it."""
    try:
        return _MEMBERS.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        pass
    try:
        return _MEMBERS.decode(json.dumps(read_object(body), ensure_ascii=False, allow_nan=False).encode("utf-8", "replace"))
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Rejected("the request body holds numbers or depths that no JSON of others does", code="invalid_json") from error


def refuse(member: str) -> NoReturn:
    raise Rejected(f"`{member}` cannot be expressed in another dialect", code="untranslatable")


class _Reading:
    """Reads one request; it remembers what can be dropped, and which tool an id belongs to."""

    def __init__(self, members: dict[str, Any]) -> None:
        for name, nothing in REFUSED.items():
            if members.get(name) not in (*_EMPTY, *nothing):
                refuse(name)
        self._harmless: dict[str, None] = {}
        self._note(members, {*Chat.__struct_fields__, *REFUSED})
        self._names: dict[str, str] = {}
        self._members = members

    def _note(self, found: dict[str, Any], known: Iterable[str], at: str = "") -> None:
        self._harmless |= dict.fromkeys(at + name for name, said in found.items() if name not in known and said not in _EMPTY)

    def prompt(self, call: Call, chat: Chat) -> Prompt:
        turns, system = self._turns(chat.messages)
        for tool in self._members.get("tools") or ():
            self._note(tool, FunctionTool.__struct_fields__, "tools.")
        choice, tools = _choice(chat.tool_choice, tuple(map(_tool, chat.tools or ())))
        return Prompt(
            model=call.model,
            stream=call.stream,
            system=system,
            turns=turns,
            tools=tools,
            choice=choice,
            parallel_tools=chat.parallel_tool_calls,
            max_tokens=chat.max_tokens if chat.max_completion_tokens is None else chat.max_completion_tokens,
            temperature=chat.temperature,
            top_p=chat.top_p,
            top_k=chat.top_k,
            seed=chat.seed,
            frequency_penalty=chat.frequency_penalty,
            presence_penalty=chat.presence_penalty,
            stop=tuple(word for word in ([chat.stop] if isinstance(chat.stop, str) else chat.stop or ()) if word),
            shape=_shape(chat.response_format),
            reasoning=_reasoning(chat.reasoning_effort),
            user=chat.user,
            harmless=tuple(self._harmless),
        )

    def _turns(self, messages: list[dict[str, Any]]) -> tuple[tuple[Turn, ...], tuple[str, ...]]:
        """Gather what each side said in a row; what the system says, wherever it stands, goes before all."""
        turns: list[tuple[Role, list[Part]]] = []
        system: list[str] = []
        for found in messages:
            for name in ("audio", "function_call"):
                if found.get(name):
                    refuse(f"messages.{name}")
            message = msgspec.convert(found, Message)
            self._note(found, _TOOL_MEMBERS if message.role == "tool" else _MESSAGE_MEMBERS, "messages.")
            if message.role in {"system", "developer"}:
                system += [part.text if isinstance(part, Text) else refuse("messages.content") for part in self._parts(message.content)]
                continue
            role, parts = self._said(message)
            if parts and turns and turns[-1][0] == role:
                turns[-1][1].extend(parts)
            elif parts:
                turns.append((role, parts))
        return tuple(Turn(role, tuple(parts)) for role, parts in turns), tuple(system)

    def _said(self, message: Message) -> tuple[Role, list[Part]]:
        match message.role:
            case "user":
                return "user", self._parts(message.content)
            case "assistant":
                return "assistant", self._answered(message)
            case "tool" if message.tool_call_id:
                id, parts = message.tool_call_id, self._parts(message.content)  # noqa: A001
                spoken = tuple(part for part in parts if isinstance(part, Text | Image))
                return "user", [ToolResult(id, self._names.get(id) or message.name or "", spoken)]
        raise Rejected("`messages.role` must be system, developer, user, assistant, or tool with a tool_call_id", code="untranslatable")

    def _answered(self, message: Message) -> list[Part]:
        thought = message.reasoning_content or message.reasoning
        parts: list[Part] = [Thought(thought)] if thought else []
        parts += self._parts(message.content)
        if message.refusal:
            parts.append(Text(message.refusal))
        for call in message.tool_calls or ():
            if call.function is None:
                refuse(f"messages.tool_calls.{call.type[:40]}")
            self._names[call.id] = call.function.name
            arguments = call.function.arguments
            parts.append(ToolUse(call.id, call.function.name, arguments if arguments.strip() else "{}"))
        return parts

    def _parts(self, content: str | list[dict[str, Any]] | None) -> list[Part]:
        """Read what a message says; empty text says nothing."""
        parts = [Text(content)] if isinstance(content, str) else [self._part(part) for part in content or ()]
        return [part for part in parts if part != Text("")]

    def _part(self, part: dict[str, Any]) -> Part:
        match part:
            case {"type": "text", "text": str(text)}:
                self._note(part, ("type", "text"), "messages.content.")
                return Text(text)
            case {"type": "refusal", "refusal": str(text)}:
                return Text(text)
            case {"type": "image_url", "image_url": {"url": str(url)} as image}:
                self._note(image, ("url",), "messages.content.image_url.")
                return _image(url)
            case {"type": "image_url", "image_url": str(url)}:  # as Mistral has it
                return _image(url)
        kind = part.get("type")
        refuse(f"messages.content.{kind[:40]}" if isinstance(kind, str) else "messages.content")


def _image(url: str) -> Image:
    if url[:5].lower() != "data:":
        return Image(url=url)
    head, _, data = url[5:].partition(",")
    media_type, *options = head.split(";")
    if "base64" not in options or not media_type:
        refuse("messages.content.image_url.url")
    return Image(media_type=media_type, data=data)


def _tool(tool: FunctionTool) -> Tool:
    if (function := tool.function) is None:
        refuse(f"tools.{tool.type[:40]}")
    return Tool(function.name, function.description or "", function.parameters, function.strict)


def _choice(said: str | dict[str, Any] | None, tools: tuple[Tool, ...]) -> tuple[Choice | None, tuple[Tool, ...]]:
    """Read `tool_choice`; one that allows only some of the tools is said by leaving out the others."""
    match said:
        case None:
            return None, tools
        case "auto" | "none" | "required":
            return Choice(said), tools
        case {"type": "function", "function": {"name": str(name)}}:
            return Choice("named", name), tools
        case {"type": "allowed_tools", "allowed_tools": {"mode": "auto" | "required" as mode, "tools": list(allowed)}}:
            names = [mapping(tool.get("function")).get("name") for tool in mappings(allowed)]
            return Choice(mode), tuple(tool for tool in tools if tool.name in names)
    refuse("tool_choice")


def _shape(said: Format | None) -> Shape | None:
    match said:
        case None | Format(type="text"):
            return None
        case Format(type="json_object", schema=bare):
            return Shape(bare)
        case Format(type="json_schema", json_schema=Schema() as schema):
            return Shape(schema.schema, schema.name, schema.strict)
    refuse("response_format")


def _reasoning(effort: str | None) -> Reasoning | None:
    if effort is None:
        return None
    return Reasoning(_EFFORTS[effort]) if effort in _EFFORTS else refuse("reasoning_effort")
