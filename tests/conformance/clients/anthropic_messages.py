"""Messages by the `anthropic` package; streams through its accumulating helper, which checks the order of events."""

import base64
from functools import cache
from typing import Any

import anthropic

from tests.conformance.outcome import PICTURE, SCHEMA, SYSTEM, TIMEOUT, TOOLS, Asked, Finish, Outcome, ToolCall

FINISH: dict[str, Finish] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tools",
    "refusal": "filtered",
}


def request(asked: Asked) -> dict[str, Any]:
    """The arguments of `create` and `stream`."""
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(PICTURE).decode()}
    shown = [{"type": "text", "text": asked.text}, {"type": "image", "source": source}]
    messages: list[dict[str, Any]] = [{"role": "user", "content": shown if asked.picture else asked.text}]
    if asked.calls:
        uses = [{"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments} for call in asked.calls]
        results = [{"type": "tool_result", "tool_use_id": call.id, "content": asked.result} for call in asked.calls]
        messages += [{"role": "assistant", "content": uses}, {"role": "user", "content": results}]
    said: dict[str, Any] = {"model": asked.model, "system": SYSTEM, "messages": messages, "max_tokens": asked.max_tokens}
    if asked.tools:
        said["tools"] = [
            {"name": name, "description": tool["description"], "input_schema": tool["parameters"]} for name, tool in TOOLS.items()
        ]
    if asked.picture:
        said["output_config"] = {"format": {"type": "json_schema", "schema": SCHEMA}}
    if asked.reasoning:
        said["thinking"] = {"type": "enabled", "budget_tokens": 1024}
    return said


@cache
def client(url: str) -> anthropic.Anthropic:
    """One client for all questions, as applications have it."""
    return anthropic.Anthropic(base_url=url, api_key="sk-conformance", max_retries=0, timeout=TIMEOUT)


def ask(asked: Asked) -> Outcome:
    """Ask once and read to the end."""
    outcome = Outcome()
    messages = client(asked.url).messages
    try:
        if asked.stream:
            with messages.stream(**request(asked)) as stream:
                _read_stream(stream, outcome)
        else:
            _read(messages.create(**request(asked)), outcome)
    except anthropic.APIError as error:
        outcome.fail(error, getattr(error, "status_code", None))
    return outcome


def leave(asked: Asked) -> None:
    """Close the stream after its first text."""
    with client(asked.url).messages.stream(**request(asked)) as stream:
        next(iter(stream.text_stream))


def _read_stream(stream: Any, outcome: Outcome) -> None:
    text = thinking = ""
    for event in stream:
        match event.type:
            case "text":
                text += event.text
                outcome.text = text
            case "thinking":
                thinking += event.thinking
            case "input_json":
                pass
            case _:
                continue
        outcome.pieces += 1
    _read(stream.get_final_message(), outcome)
    assert (outcome.text, outcome.reasoning) == (text, thinking)


def _read(answer: Any, outcome: Outcome) -> None:
    outcome.text = "".join(block.text for block in answer.content if block.type == "text")
    outcome.reasoning = "".join(block.thinking for block in answer.content if block.type == "thinking")
    outcome.calls = [ToolCall(block.id, block.name, block.input) for block in answer.content if block.type == "tool_use"]
    outcome.finish = FINISH[answer.stop_reason]
    cached = (answer.usage.cache_read_input_tokens or 0) + (answer.usage.cache_creation_input_tokens or 0)
    outcome.input, outcome.output = answer.usage.input_tokens + cached, answer.usage.output_tokens
