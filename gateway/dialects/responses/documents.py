"""What a whole response says: the document of an answer in one piece, which the last event of a stream repeats."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from gateway.core.events import Delta, Event, Failed, Finished, Kind, Meaning, Started, ToolOpened, Usage
from gateway.dialects.lenient import clipped, count, encodable, encode, mapping, mappings, text

NAMED_CALLS = frozenset({"function_call", "custom_tool_call", "mcp_call"})
# Calls that the client answers; the server answers its own tools (a web search, an MCP call) before the response ends.
WAITING = frozenset(
    {"function_call", "custom_tool_call", "computer_call", "local_shell_call", "shell_call", "apply_patch_call", "mcp_approval_request"}
)
MEANINGS: Mapping[str, Meaning] = {"completed": "stop", "max_output_tokens": "length", "content_filter": "filtered"}

# The events that end a stream, and the status of the response they carry where it says none.
ENDS: Mapping[str, str] = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
    "response.cancelled": "cancelled",
    "response.done": "completed",
}
_RUNNING = frozenset({"queued", "in_progress"})
_NOTHING = Usage()


class Item(Struct, gc=False):
    """One item of the output; a function call has `arguments`, a custom tool's call `input`."""

    type: str | None = None
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    input: str | None = None


class Response(Struct, gc=False):
    """The response as far as events repeat it; what it says of tokens and errors is taken in any shape."""

    id: str | None = None
    model: str | None = None
    status: str | None = None
    usage: Any = None
    error: Any = None
    incomplete_details: Any = None


def document_events(found: dict[str, Any]) -> list[Event]:
    """Return everything a response document says; one that is still running in the background has not finished."""
    response = response_of(found)
    events: list[Event] = []
    if response.id or response.model:
        events.append(Started(clipped(response.id), clipped(response.model)))
    output, waits = output_events(found.get("output"))
    return events + output + closing_events(response, "completed", waits)


def output_events(output: Any) -> tuple[list[Event], bool]:
    """Return what the items of an output say, and whether any of them waits for the client."""
    events: list[Event] = []
    waits = False
    for index, found in enumerate(mappings(output)):
        kind = text(found.get("type"))
        if kind in NAMED_CALLS:
            events += _call_events(item_of(found), index)
        else:
            events += _text_events(found)
        waits = waits or kind in WAITING
    return events, waits


def _call_events(item: Item, index: int) -> list[Event]:
    opened = ToolOpened(index, clipped(item.call_id or item.id), clipped(item.name))
    said = item.arguments or item.input
    return [opened, Delta("arguments", said, index)] if said else [opened]


_PARTS: Mapping[str, tuple[Kind, str]] = {
    "output_text": ("text", "text"),
    "refusal": ("refusal", "refusal"),
    "summary_text": ("reasoning", "text"),
    "reasoning_text": ("reasoning", "text"),
}


def _text_events(item: dict[str, Any]) -> list[Event]:
    events: list[Event] = []
    for part in mappings(item.get("summary")) + mappings(item.get("content")):
        kind, member = _PARTS.get(str(part.get("type")), ("text", ""))
        if said := text(part.get(member)):
            events.append(Delta(kind, said))
    return events


def closing_events(response: Response, status: str, waits: bool) -> list[Event]:
    """Return what the end of a response says beside its output; `status` counts where the response gives none."""
    status = response.status or status
    usage = usage_of(response.usage)
    counted: list[Event] = [] if usage is None else [usage]
    if response.error or status == "failed":
        return [*counted, failed(response.error)]
    if status in _RUNNING:
        return counted
    reason = text(mapping(response.incomplete_details).get("reason")) if status == "incomplete" else None
    reason = reason or status
    meaning = MEANINGS.get(reason, "other")
    return [Finished(encodable(reason[:64]), "tools" if waits and meaning == "stop" else meaning), *counted]


def usage_of(found: Any) -> Usage | None:
    """Read the counts; those of the input include what was read from a cache or written to it."""
    counts = mapping(found)
    details = mapping(counts.get("input_tokens_details"))
    usage = Usage(
        input=count(counts.get("input_tokens")),
        output=count(counts.get("output_tokens")),
        cached=count(details.get("cached_tokens")),
        cache_write=count(details.get("cache_write_tokens")),
        reasoning=count(mapping(counts.get("output_tokens_details")).get("reasoning_tokens")),
    )
    return None if usage == _NOTHING else usage


def failed(error: Any) -> Failed:
    """Read an error object; llama.cpp's code is an HTTP status, some servers send a bare string."""
    if not isinstance(error, dict):
        return Failed("upstream_error", "" if error is None else encodable(str(error)[:1000]))
    codes: Sequence[Any] = (error.get("code"), error.get("type"))
    code = next((str(code) for code in codes if code and isinstance(code, str | int)), "upstream_error")
    return Failed(encodable(code[:64]), encodable(str(error.get("message") or "")[:1000]))


def item_of(found: dict[str, Any]) -> Item:
    """Take what can be understood of an item; some servers send arguments already parsed."""
    arguments = found.get("arguments")
    whole = encode(arguments).decode() if isinstance(arguments, dict) and arguments else None
    said = {name: text(found.get(name)) for name in ("type", "id", "call_id", "name", "input")}
    return Item(**said, arguments=text(arguments) or whole)


def response_of(found: dict[str, Any]) -> Response:
    """Take what can be understood of a response."""
    said = {name: text(found.get(name)) for name in ("id", "model", "status")}
    return Response(**said, usage=found.get("usage"), error=found.get("error"), incomplete_details=found.get("incomplete_details"))
