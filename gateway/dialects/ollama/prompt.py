"""Reads a chat request of Ollama's into a prompt that every dialect can be told.

Sources: docs.ollama.com, api/chat and capabilities (tool calling, thinking, vision, structured outputs); the options are those of
ollama `api/types.go`.
"""

from collections.abc import Mapping
from typing import Any

from gateway.core.call import Call
from gateway.core.errors import Rejected
from gateway.core.prompt import Image, Part, Prompt, Reasoning, Role, Shape, Text, Thought, Tool, ToolResult, ToolUse, Turn
from gateway.dialects import lenient
from gateway.dialects.ollama import words

_READ = frozenset({"model", "stream", "messages", "tools", "options", "format", "think", "logprobs"})
_OPTIONS = frozenset({"temperature", "top_p", "top_k", "seed", "num_predict", "stop", "presence_penalty", "frequency_penalty"})
_EFFORTS: Mapping[Any, Reasoning] = {
    False: Reasoning("none"),
    True: Reasoning("medium"),  # what Ollama itself takes true for where a model knows levels
    "low": Reasoning("low"),
    "medium": Reasoning("medium"),
    "high": Reasoning("high"),
    "max": Reasoning("max"),
}
_PICTURES: Mapping[str, str] = {"iVBORw0KGgo": "image/png", "/9j/": "image/jpeg", "R0lGOD": "image/gif", "UklGR": "image/webp"}


def read_prompt(call: Call) -> Prompt:
    """Say a chat call in no dialect; raises `Rejected` as `dialects.base.Dialect.read_prompt` does."""
    if call.operation != "chat":
        raise Rejected(f"`{call.path}` cannot be expressed in another dialect", code="untranslatable")
    said = lenient.read_object(call.body)
    options = _member(said, "options", dict, {})
    if said.get("logprobs"):
        raise _unsayable("logprobs")
    conversation = _Conversation()
    for message in _list(said, "messages"):
        conversation.add(message)
    return Prompt(
        model=call.model,
        stream=call.stream,
        system=tuple(conversation.system),
        turns=tuple(Turn(role, tuple(parts)) for role, parts in conversation.turns),
        tools=tuple(_tool(tool) for tool in _list(said, "tools")),
        max_tokens=lenient.count(options.get("num_predict")),
        temperature=lenient.number(options.get("temperature")),
        top_p=lenient.number(options.get("top_p")),
        top_k=lenient.count(options.get("top_k")),
        seed=words.whole(options.get("seed")),
        frequency_penalty=lenient.number(options.get("frequency_penalty")),
        presence_penalty=lenient.number(options.get("presence_penalty")),
        stop=_stop(options.get("stop")),
        shape=_shape(said.get("format")),
        reasoning=_reasoning(said.get("think")),
        harmless=_harmless(said, options),
    )


class _Conversation:
    """Gathers messages into turns, and finds for each tool result the call it answers: ids are rare here, names may be missing."""

    def __init__(self) -> None:
        self.system: list[str] = []
        self.turns: list[tuple[Role, list[Part]]] = []
        self._pending: list[ToolUse] = []
        self._called = 0

    def add(self, message: dict[str, Any]) -> None:
        role = message.get("role")
        if role == "system":
            self._instruct(message)
        elif role == "user":
            self._say("user", _pieces(message))
        elif role == "assistant":
            self._say("assistant", self._answer(message))
        elif role == "tool":
            self._say("user", [self._result(message)])
        else:
            raise _invalid("messages[].role")

    def _instruct(self, message: dict[str, Any]) -> None:
        if message.get("images"):
            raise _unsayable("messages[].images")
        if content := _content(message):
            self.system.append(content)

    def _say(self, role: Role, parts: list[Part]) -> None:
        if not parts:
            return
        if self.turns and self.turns[-1][0] == role:
            self.turns[-1][1].extend(parts)
        else:
            self.turns.append((role, parts))

    def _answer(self, message: dict[str, Any]) -> list[Part]:
        thinking = lenient.text(message.get("thinking"))
        parts: list[Part] = [Thought(thinking)] if thinking else []
        parts += _pieces(message)
        for call in _list(message, "tool_calls"):
            function = _member(call, "function", dict, {})
            name = function.get("name")
            if not isinstance(name, str) or not name:
                raise _invalid("messages[].tool_calls[].function.name")
            id_ = lenient.text(call.get("id")) or f"call_{self._called}"
            self._called += 1
            use = ToolUse(id_, name, words.encode(_member(function, "arguments", dict, {})).decode())
            self._pending.append(use)
            parts.append(use)
        return parts

    def _result(self, message: dict[str, Any]) -> ToolResult:
        use = self._answered(message)
        parts = [part for part in _pieces(message) if isinstance(part, Text | Image)]
        return ToolResult(use.id, use.name, tuple(parts))

    def _answered(self, message: dict[str, Any]) -> ToolUse:
        """Return the call that a tool message answers: by id, else the oldest open one of its name, else the oldest open one."""
        id_, name = lenient.text(message.get("tool_call_id")), lenient.text(message.get("tool_name"))
        for place, use in enumerate(self._pending):
            if use.id == id_ if id_ else (not name or use.name == name):
                return self._pending.pop(place)
        if not id_:
            id_ = f"call_{self._called}"
            self._called += 1
        return ToolUse(id_, name or "", "{}")


def _pieces(message: dict[str, Any]) -> list[Part]:
    """Return a message's images and its text: Ollama shows a model the images first."""
    images = message.get("images")
    if images is not None and not isinstance(images, list):
        raise _invalid("messages[].images")
    parts: list[Part] = [_image(image) for image in images or ()]
    if content := _content(message):
        parts.append(Text(content))
    return parts


def _image(said: Any) -> Image:
    """Read base64; it comes without a media type, which its first bytes tell."""
    if not isinstance(said, str):
        raise _invalid("messages[].images")
    data = said.partition(";base64,")[2] if said.startswith("data:") else said
    for beginning, media_type in _PICTURES.items():
        if data.startswith(beginning):
            return Image(media_type, data)
    raise _unsayable("messages[].images")


def _content(message: dict[str, Any]) -> str:
    content = message.get("content")
    if content is not None and not isinstance(content, str):
        raise _invalid("messages[].content")
    return content or ""


def _tool(tool: dict[str, Any]) -> Tool:
    function = _member(tool, "function", dict, {})
    name = function.get("name")
    if tool.get("type", "function") != "function" or not isinstance(name, str) or not name:
        raise _invalid("tools")
    return Tool(name, lenient.text(function.get("description")) or "", _member(function, "parameters", dict, None))


def _shape(said: Any) -> Shape | None:
    if said is None or said == "":
        return None
    if isinstance(said, dict):
        return Shape(said)
    if said == "json":
        return Shape()
    raise _invalid("format")


def _reasoning(said: Any) -> Reasoning | None:
    if said is None or said == "":
        return None
    if not isinstance(said, bool | str) or said not in _EFFORTS:
        raise _invalid("think")
    return _EFFORTS[said]


def _stop(said: Any) -> tuple[str, ...]:
    if isinstance(said, str):
        return (said,)
    return tuple(word for word in said if isinstance(word, str)) if isinstance(said, list) else ()


def _harmless(said: dict[str, Any], options: dict[str, Any]) -> tuple[str, ...]:
    """Name what is dropped: how a machine keeps and runs its model (`keep_alive`, `num_ctx`), how it picks among the likeliest words
    (`min_p`, `repeat_penalty`), and what nobody knows."""
    members = [name for name, value in said.items() if name not in _READ and value is not None]
    return tuple(members + [f"options.{name}" for name, value in options.items() if name not in _OPTIONS and value is not None])


def _list(said: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = said.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise _invalid(name)
    return found


def _member(said: dict[str, Any], name: str, kind: type, default: Any) -> Any:
    found = said.get(name)
    if found is None:
        return default
    if not isinstance(found, kind):
        raise _invalid(name)
    return found


def _invalid(field: str) -> Rejected:
    return Rejected(f"`{field}` is not what the ollama dialect knows by that name", code="invalid_value")


def _unsayable(field: str) -> Rejected:
    return Rejected(f"`{field}` cannot be expressed in another dialect", code="untranslatable")
