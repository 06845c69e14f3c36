"""What was said so far, as a request of the Responses API lists it: items of many types, gathered into turns."""

from collections.abc import Callable, Mapping
from typing import Any, cast

from gateway.core.errors import Rejected
from gateway.core.prompt import Image, Part, Role, Text, Thought, ToolResult, ToolUse
from gateway.dialects.lenient import mapping, mappings, text


def untranslatable(field: str, dialect: str = "another") -> Rejected:
    return Rejected(f"`{field}` cannot be expressed in {dialect} dialect", code="untranslatable")


def invalid(field: str, wanted: str) -> Rejected:
    return Rejected(f"`{field}` must be {wanted}", code="invalid_value")


class Talk:
    """The turns as they come together: what one side said in a row is one turn, system messages stand apart."""

    def __init__(self, harmless: list[str]) -> None:
        self.system: list[str] = []
        self.turns: list[tuple[Role, list[Part]]] = []
        self._harmless = harmless
        self._names: dict[str, str] = {}

    def instruct(self, said: Any) -> None:
        if said is not None and not isinstance(said, str):
            raise invalid("instructions", "text")
        self.system += [said] if said else []

    def read(self, said: Any) -> None:
        if isinstance(said, str):
            self._add("user", *self._parts(said, "input"))
            return
        if not isinstance(said, list):
            raise invalid("input", "text or a list of items")
        for at, item in enumerate(said):
            where = f"input[{at}]"
            if not isinstance(item, dict):
                raise invalid(where, "an item")
            kind = item.get("type") or ("message" if "role" in item else "item_reference")
            if (step := _ITEMS.get(str(kind))) is None:
                raise untranslatable(f"{where} of type {str(kind)[:64]}")
            step(self, item, where)

    def _add(self, role: Role, *parts: Part) -> None:
        if parts and (not self.turns or self.turns[-1][0] != role):
            self.turns.append((role, []))
        if parts:
            self.turns[-1][1].extend(parts)

    def message(self, item: dict[str, Any], where: str) -> None:
        parts = self._parts(item.get("content"), f"{where}.content")
        match item.get("role"):
            case "user":
                self._add("user", *parts)
            case "assistant":
                self._add("assistant", *parts)
            case "system" | "developer":
                self.system.extend(_texts(parts, where))
            case _:
                raise invalid(f"{where}.role", "user, assistant, system or developer")

    def function_call(self, item: dict[str, Any], where: str) -> None:
        call_id, name = text(item.get("call_id")), text(item.get("name"))
        if not call_id or not name:
            raise invalid(where, "a function call with `call_id` and `name`")
        if not isinstance(arguments := item.get("arguments") or "", str):
            raise invalid(f"{where}.arguments", "JSON as text")
        self._names[call_id] = name
        self._add("assistant", ToolUse(call_id, name, arguments if arguments.strip() else "{}"))

    def function_call_output(self, item: dict[str, Any], where: str) -> None:
        call_id = text(item.get("call_id")) or ""
        if call_id not in self._names:
            raise invalid(f"{where}.call_id", "the `call_id` of a function call before it")
        self._add("user", ToolResult(call_id, self._names[call_id], self._parts(item.get("output"), f"{where}.output")))

    def reasoning(self, item: dict[str, Any], where: str) -> None:  # noqa: ARG002 - the shape of every item
        """Take the reasoning itself where it is given, its summary otherwise; encrypted, it only means something to who made it."""
        parts = mappings(item.get("content")) or mappings(item.get("summary"))
        said = "\n\n".join(found for part in parts if (found := text(part.get("text"))))
        signature = text(item.get("encrypted_content"))
        if said or signature:
            self._add("assistant", Thought(said, signature))

    def _parts(self, content: Any, where: str) -> tuple[Text | Image, ...]:
        if isinstance(content, str):
            return (Text(content),) if content else ()
        if content is not None and not isinstance(content, list):
            raise invalid(where, "text or a list of parts")
        parts = (self._part(part, f"{where}[{at}]") for at, part in enumerate(content or ()))
        return tuple(part for part in parts if part is not None)

    def _part(self, part: Any, where: str) -> Text | Image | None:
        found = mapping(part)
        match found.get("type"):
            case "input_text" | "output_text" | "text":
                said = text(found.get("text"))
            case "refusal":
                said = text(found.get("refusal"))
            case "input_image":
                return self._image(found, where)
            case kind:
                raise untranslatable(f"{where} of type {str(kind)[:64]}")
        if said is None:
            raise invalid(where, "a part with text")
        return Text(said) if said else None

    def _image(self, part: dict[str, Any], where: str) -> Image:
        url = part.get("image_url")
        address = text(url) or text(mapping(url).get("url"))
        if not address:
            raise untranslatable(f"{where}.file_id")  # a file that only OpenAI has
        if part.get("detail") not in (None, "auto"):
            self._harmless.append("input_image.detail")
        if address[:5].lower() != "data:":
            return Image(url=address)
        head, comma, data = address[5:].partition(",")
        media_type, *options = head.split(";")
        if not comma or not media_type or "base64" not in options:
            raise invalid(f"{where}.image_url", "an address or base64 data with a media type")
        return Image(media_type=media_type, data=data)


_ITEMS: Mapping[str, Callable[[Talk, dict[str, Any], str], None]] = {
    "message": Talk.message,
    "function_call": Talk.function_call,
    "function_call_output": Talk.function_call_output,
    "reasoning": Talk.reasoning,
}


def _texts(parts: tuple[Text | Image, ...], where: str) -> list[str]:
    if any(type(part) is Image for part in parts):
        raise untranslatable(f"{where}.content")
    return [part.text for part in cast("tuple[Text, ...]", parts)]
