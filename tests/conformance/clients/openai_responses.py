"""The Responses API by the `openai` package, its typed events and the answer it ends with."""

import base64
import json
from typing import Any

import openai

from tests.conformance.clients.openai_chat import client
from tests.conformance.outcome import PICTURE, SCHEMA, SYSTEM, TOOLS, Asked, Outcome, ToolCall


def request(asked: Asked) -> dict[str, Any]:
    """The arguments of `create`."""
    url = f"data:image/png;base64,{base64.b64encode(PICTURE).decode()}"
    shown = [{"type": "input_text", "text": asked.text}, {"type": "input_image", "image_url": url, "detail": "auto"}]
    items: list[dict[str, Any]] = [{"role": "user", "content": shown if asked.picture else asked.text}]
    items += [
        {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": json.dumps(call.arguments)} for call in asked.calls
    ]
    items += [{"type": "function_call_output", "call_id": call.id, "output": asked.result} for call in asked.calls]
    said: dict[str, Any] = {
        "model": asked.model,
        "instructions": SYSTEM,
        "input": items,
        "max_output_tokens": asked.max_tokens,
        "store": False,
    }
    if asked.tools:
        said["tools"] = [{"type": "function", "name": name, "strict": False, **tool} for name, tool in TOOLS.items()]
    if asked.picture:
        said["text"] = {"format": {"type": "json_schema", "name": "level", "schema": SCHEMA, "strict": True}}
    if asked.reasoning:
        said["reasoning"] = {"effort": "low", "summary": "auto"}
    return said


def ask(asked: Asked) -> Outcome:
    """Ask once and read to the end."""
    outcome = Outcome()
    try:
        if asked.stream:
            _read_stream(asked, outcome)
        else:
            _read(client(asked.url).responses.create(**request(asked)), outcome)
    except openai.APIError as error:
        outcome.fail(error, getattr(error, "status_code", None))
    return outcome


def leave(asked: Asked) -> None:
    """Close the stream after its first text."""
    with client(asked.url).responses.create(**request(asked), stream=True) as stream:
        next(event for event in stream if event.type == "response.output_text.delta")


def _read_stream(asked: Asked, outcome: Outcome) -> None:
    """Read through the SDK's accumulating helper, which fails on any event out of order."""
    streamed, answer = Outcome(), None
    with client(asked.url).responses.stream(**request(asked)) as stream:
        for event in stream:
            match event.type:
                case "response.output_text.delta":
                    streamed.text += event.delta
                    outcome.text = streamed.text
                case "response.reasoning_text.delta" | "response.reasoning_summary_text.delta":
                    streamed.reasoning += event.delta
                case "response.completed" | "response.incomplete":
                    answer = event.response
            outcome.pieces += event.type.endswith(".delta")
        if answer is not None:
            _read(answer, outcome)
            assert (outcome.text, outcome.reasoning) == (streamed.text, streamed.reasoning)


def _read(answer: Any, outcome: Outcome) -> None:
    outcome.text = answer.output_text
    for item in answer.output:
        match item.type:
            case "reasoning":
                outcome.reasoning += "".join(part.text for part in [*item.summary, *(item.content or [])])
            case "function_call":
                outcome.calls.append(ToolCall(item.call_id, item.name, json.loads(item.arguments)))
    if answer.status == "completed":
        outcome.finish = "tools" if outcome.calls else "stop"
    elif answer.incomplete_details:
        outcome.finish = "length" if answer.incomplete_details.reason == "max_output_tokens" else "filtered"
    outcome.input, outcome.output = answer.usage.input_tokens, answer.usage.output_tokens
