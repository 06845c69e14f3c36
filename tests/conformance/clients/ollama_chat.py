"""/api/chat by the `ollama` package."""

from contextlib import closing
from functools import cache
from typing import Any

import ollama

from tests.conformance.outcome import PICTURE, SCHEMA, SYSTEM, TIMEOUT, TOOLS, Asked, Finish, Outcome, ToolCall

FINISH: dict[str, Finish] = {"stop": "stop", "length": "length"}


def request(asked: Asked) -> dict[str, Any]:
    """The arguments of `chat`."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": asked.text}]
    if asked.calls:
        calls = [{"function": {"name": call.name, "arguments": call.arguments}} for call in asked.calls]
        messages.append({"role": "assistant", "content": "", "tool_calls": calls})
        messages += [{"role": "tool", "tool_name": call.name, "content": asked.result} for call in asked.calls]
    said: dict[str, Any] = {"model": asked.model, "messages": messages, "options": {"num_predict": asked.max_tokens}}
    if asked.tools:
        said["tools"] = [{"type": "function", "function": {"name": name, **tool}} for name, tool in TOOLS.items()]
    if asked.picture:
        messages[1]["images"], said["format"] = [PICTURE], SCHEMA
    if asked.reasoning:
        said["think"] = True
    return said


@cache
def client(url: str) -> ollama.Client:
    """One client for all questions, as applications have it."""
    return ollama.Client(host=url, timeout=TIMEOUT, trust_env=False)


def ask(asked: Asked) -> Outcome:
    """Ask once and read to the end."""
    outcome = Outcome()
    chat = client(asked.url).chat
    try:
        for answer in chat(**request(asked), stream=True) if asked.stream else [chat(**request(asked))]:
            _read(answer, outcome)
    except ollama.ResponseError as error:
        outcome.fail(error, error.status_code)
    return outcome


def leave(asked: Asked) -> None:
    """Close the stream after its first text; this SDK has no other way than to close the iterator."""
    with closing(client(asked.url).chat(**request(asked), stream=True)) as stream:
        next(answer for answer in stream if answer.message.content)


def _read(answer: Any, outcome: Outcome) -> None:
    """Add a line, or the whole answer, which has the same shape."""
    message = answer.message
    outcome.text += message.content or ""
    outcome.reasoning += message.thinking or ""
    outcome.calls += [ToolCall("", call.function.name, dict(call.function.arguments)) for call in message.tool_calls or ()]
    outcome.pieces += bool(message.content or message.thinking or message.tool_calls)
    if answer.done:
        outcome.finish = "tools" if outcome.calls and answer.done_reason == "stop" else FINISH[answer.done_reason]
        outcome.input, outcome.output = answer.prompt_eval_count, answer.eval_count
