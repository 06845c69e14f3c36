"""Chat completions by `langchain-openai`, as agents call them."""

from contextlib import closing
from typing import Any

import openai
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_openai import ChatOpenAI

from tests.conformance.clients.openai_chat import FINISH, content
from tests.conformance.outcome import SCHEMA, SYSTEM, TIMEOUT, TOOLS, Asked, Outcome, ToolCall


def model(asked: Asked) -> Any:
    said = {"model": asked.model, "base_url": f"{asked.url}/v1", "api_key": "sk-conformance", "max_tokens": asked.max_tokens}
    effort = {"reasoning_effort": "low"} if asked.reasoning else {}
    chat = ChatOpenAI(**said, **effort, max_retries=0, timeout=TIMEOUT, stream_usage=True)
    tools = [{"type": "function", "function": {"name": name, **tool}} for name, tool in TOOLS.items()]
    if asked.picture:
        return chat.bind(response_format={"type": "json_schema", "json_schema": {"name": "level", "schema": SCHEMA, "strict": True}})
    return chat.bind_tools(tools) if asked.tools else chat


def messages(asked: Asked) -> list[BaseMessage]:
    said: list[BaseMessage] = [SystemMessage(SYSTEM), HumanMessage(content(asked))]
    if asked.calls:
        calls = [{"id": call.id, "name": call.name, "args": call.arguments, "type": "tool_call"} for call in asked.calls]
        said.append(AIMessage("", tool_calls=calls))
        said += [ToolMessage(asked.result, tool_call_id=call.id) for call in asked.calls]
    return said


def ask(asked: Asked) -> Outcome:
    """Ask once and read to the end."""
    outcome = Outcome()
    try:
        _read(_joined(asked, outcome) if asked.stream else model(asked).invoke(messages(asked)), outcome)
    except openai.APIError as error:
        outcome.fail(error, getattr(error, "status_code", None))
    return outcome


def leave(asked: Asked) -> None:
    """Close the stream after its first text; langchain has no other way than to close the iterator."""
    with closing(model(asked).stream(messages(asked))) as stream:
        next(chunk for chunk in stream if chunk.text)


def _joined(asked: Asked, outcome: Outcome) -> AIMessageChunk:
    whole: AIMessageChunk | None = None
    for chunk in model(asked).stream(messages(asked)):
        whole = chunk if whole is None else whole + chunk
        outcome.text += str(chunk.text)
        outcome.pieces += bool(chunk.text or any(call["args"] for call in chunk.tool_call_chunks))
    assert whole is not None
    return whole


def _read(answer: Any, outcome: Outcome) -> None:
    assert not getattr(answer, "invalid_tool_calls", [])
    outcome.text = str(answer.text)
    outcome.calls = [ToolCall(call["id"] or "", call["name"], call["args"]) for call in answer.tool_calls]
    outcome.finish = FINISH[answer.response_metadata["finish_reason"]]
    if answer.usage_metadata:
        outcome.input, outcome.output = answer.usage_metadata["input_tokens"], answer.usage_metadata["output_tokens"]
