"""Chat completions by the `openai` package."""

import base64
import json
from functools import cache
from typing import Any

import openai

from tests.conformance.outcome import PICTURE, SCHEMA, SYSTEM, TIMEOUT, TOOLS, Asked, Finish, Outcome, ToolCall

FINISH: dict[str, Finish] = {"stop": "stop", "length": "length", "tool_calls": "tools", "content_filter": "filtered"}


def content(asked: Asked) -> Any:
    """What the user says, which langchain takes in this form too."""
    url = f"data:image/png;base64,{base64.b64encode(PICTURE).decode()}"
    shown = [{"type": "text", "text": asked.text}, {"type": "image_url", "image_url": {"url": url}}]
    return shown if asked.picture else asked.text


def request(asked: Asked) -> dict[str, Any]:
    """The arguments of `create`."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content(asked)}]
    if asked.calls:
        calls = [{"id": c.id, "type": "function", "function": {"name": c.name, "arguments": json.dumps(c.arguments)}} for c in asked.calls]
        messages.append({"role": "assistant", "content": None, "tool_calls": calls})
        messages += [{"role": "tool", "tool_call_id": call.id, "content": asked.result} for call in asked.calls]
    said: dict[str, Any] = {"model": asked.model, "messages": messages, "max_completion_tokens": asked.max_tokens}
    if asked.tools:
        said["tools"] = [{"type": "function", "function": {"name": name, **tool}} for name, tool in TOOLS.items()]
    if asked.picture:
        said["response_format"] = {"type": "json_schema", "json_schema": {"name": "level", "schema": SCHEMA, "strict": True}}
    if asked.reasoning:
        said["reasoning_effort"] = "low"
    return said


@cache
def client(url: str) -> openai.OpenAI:
    """One client for all questions, as applications have it."""
    return openai.OpenAI(base_url=f"{url}/v1", api_key="sk-conformance", max_retries=0, timeout=TIMEOUT)


def ask(asked: Asked) -> Outcome:
    """Ask once and read to the end."""
    outcome = Outcome()
    create = client(asked.url).chat.completions.create
    try:
        if asked.stream:
            _read_stream(create(**request(asked), stream=True, stream_options={"include_usage": True}), outcome)
        else:
            _read(create(**request(asked)), outcome)
    except openai.APIError as error:
        outcome.fail(error, getattr(error, "status_code", None))
    return outcome


def leave(asked: Asked) -> None:
    """Close the stream after its first text."""
    with client(asked.url).chat.completions.create(**request(asked), stream=True) as stream:
        next(chunk for chunk in stream if chunk.choices and chunk.choices[0].delta.content)


def _read_stream(stream: Any, outcome: Outcome) -> None:
    calls: dict[int, list[str]] = {}
    for chunk in stream:
        if chunk.usage is not None:
            outcome.input, outcome.output = chunk.usage.prompt_tokens, chunk.usage.completion_tokens
        for choice in chunk.choices:
            delta = choice.delta
            text, thought = delta.content or "", getattr(delta, "reasoning_content", None) or ""
            outcome.text, outcome.reasoning = outcome.text + text, outcome.reasoning + thought
            outcome.pieces += bool(text or thought)
            for part in delta.tool_calls or ():
                call = calls.setdefault(part.index, ["", "", ""])
                for place, piece in enumerate((part.id, part.function.name, part.function.arguments)):
                    call[place] += piece or ""
                outcome.pieces += bool(part.function.arguments)
            if choice.finish_reason:
                outcome.finish = FINISH[choice.finish_reason]
    outcome.calls = [ToolCall(id_, name, json.loads(arguments)) for _, (id_, name, arguments) in sorted(calls.items())]


def _read(answer: Any, outcome: Outcome) -> None:
    (choice,) = answer.choices
    outcome.text = choice.message.content or ""
    outcome.reasoning = getattr(choice.message, "reasoning_content", None) or ""
    outcome.calls = [ToolCall(c.id, c.function.name, json.loads(c.function.arguments)) for c in choice.message.tool_calls or ()]
    outcome.finish = FINISH[choice.finish_reason]
    outcome.input, outcome.output = answer.usage.prompt_tokens, answer.usage.completion_tokens
