"""An answer as a whole, folded from its events: what a document in any dialect is written from."""

from collections.abc import Iterable

from msgspec import Struct, field

from gateway.core.events import Delta, Event, Failed, Finished, Started, ToolOpened, Usage


class ToolCall(Struct):
    """A tool call as it came together; `arguments` is JSON text, "" when the model gave none."""

    id: str | None
    name: str
    arguments: str = ""


class Answer(Struct):
    """What one stream or document said. Text of one kind is one piece, whatever blocks it came in; tool calls keep their order."""

    id: str | None = None
    model: str | None = None
    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tools: list[ToolCall] = field(default_factory=list)
    finished: Finished | None = None
    usage: Usage | None = None
    failed: Failed | None = None


def fold(events: Iterable[Event]) -> Answer:
    """Gather the events of one answer; choices are not kept apart, so ask for one. A call that is opened again keeps what it has."""
    answer = Answer()
    pieces: dict[str, list[str]] = {"text": [], "reasoning": [], "refusal": []}
    calls: dict[int, tuple[ToolCall, list[str]]] = {}
    for event in events:
        match event:
            case Delta(kind="arguments"):
                calls.setdefault(event.index, (ToolCall(None, ""), []))[1].append(event.text)
            case Delta() if event.kind in pieces:
                pieces[event.kind].append(event.text)
            case ToolOpened():
                call = calls.setdefault(event.index, (ToolCall(None, ""), []))[0]
                call.id, call.name = event.id or call.id, event.name or call.name
            case _:
                _note(answer, event)
    answer.text, answer.reasoning, answer.refusal = ("".join(pieces[kind]) for kind in ("text", "reasoning", "refusal"))
    for call, arguments in calls.values():
        call.arguments = "".join(arguments)
        answer.tools.append(call)
    return answer


def _note(answer: Answer, event: Event) -> None:
    match event:
        case Started():
            answer.id, answer.model = event.id or answer.id, event.model or answer.model
        case Finished():
            answer.finished = event
        case Usage():
            answer.usage = event
        case Failed():
            answer.failed = answer.failed or event
