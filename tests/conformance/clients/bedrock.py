"""Converse and ConverseStream by `boto3`, its binary event streams included."""

import json
from contextlib import closing
from functools import cache
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError

from tests.conformance.outcome import PICTURE, SCHEMA, SYSTEM, TIMEOUT, TOOLS, Asked, Finish, Outcome, ToolCall

FINISH: dict[str, Finish] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tools",
    "content_filtered": "filtered",
    "guardrail_intervened": "filtered",
}


def request(asked: Asked) -> dict[str, Any]:
    """The arguments of `converse` and `converse_stream`."""
    pictures = [{"image": {"format": "png", "source": {"bytes": PICTURE}}}] if asked.picture else []
    messages: list[dict[str, Any]] = [{"role": "user", "content": [{"text": asked.text}, *pictures]}]
    if asked.calls:
        uses = [{"toolUse": {"toolUseId": call.id, "name": call.name, "input": call.arguments}} for call in asked.calls]
        results = [{"toolResult": {"toolUseId": call.id, "content": [{"text": asked.result}]}} for call in asked.calls]
        messages += [{"role": "assistant", "content": uses}, {"role": "user", "content": results}]
    said: dict[str, Any] = {
        "modelId": asked.model,
        "system": [{"text": SYSTEM}],
        "messages": messages,
        "inferenceConfig": {"maxTokens": asked.max_tokens},
    }
    if asked.tools:
        specs = [
            {"name": name, "description": tool["description"], "inputSchema": {"json": tool["parameters"]}} for name, tool in TOOLS.items()
        ]
        said["toolConfig"] = {"tools": [{"toolSpec": spec} for spec in specs]}
    if asked.picture:
        schema = {"schema": json.dumps(SCHEMA), "name": "level"}
        said["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": schema}}}
    if asked.reasoning:
        said["additionalModelRequestFields"] = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    return said


@cache
def client(url: str) -> Any:
    """One client for all questions, as applications have it: making one takes a fifth of a second."""
    return boto3.session.Session().client(
        "bedrock-runtime",
        region_name="eu-central-1",
        endpoint_url=url,
        aws_access_key_id="AKIDCONFORMANCE",
        aws_secret_access_key="conformance",
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=TIMEOUT, read_timeout=TIMEOUT, proxies={}),
    )


def ask(asked: Asked) -> Outcome:
    """Ask once and read to the end."""
    outcome = Outcome()
    sdk = client(asked.url)
    try:
        if asked.stream:
            with closing(sdk.converse_stream(**request(asked))["stream"]) as stream:
                _read_stream(stream, outcome)
        else:
            _read(sdk.converse(**request(asked)), outcome)
    except (ClientError, EventStreamError) as error:
        outcome.fail(error, error.response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
    return outcome


def leave(asked: Asked) -> None:
    """Close the stream after its first text."""
    with closing(client(asked.url).converse_stream(**request(asked))["stream"]) as stream:
        next(event for event in stream if "text" in event.get("contentBlockDelta", {}).get("delta", {}))


def _read_stream(stream: Any, outcome: Outcome) -> None:
    calls: dict[int, list[str]] = {}
    for event in stream:
        ((kind, said),) = event.items()
        match kind:
            case "contentBlockStart" if "toolUse" in said["start"]:
                calls[said["contentBlockIndex"]] = [said["start"]["toolUse"]["toolUseId"], said["start"]["toolUse"]["name"], ""]
            case "contentBlockDelta":
                outcome.pieces += 1
                delta = said["delta"]
                outcome.text += delta.get("text", "")
                outcome.reasoning += delta.get("reasoningContent", {}).get("text", "")
                if "toolUse" in delta:
                    calls[said["contentBlockIndex"]][2] += delta["toolUse"]["input"]
            case "messageStop":
                outcome.finish = FINISH[said["stopReason"]]
            case "metadata":
                _count(said["usage"], outcome)
    outcome.calls = [ToolCall(id_, name, json.loads(arguments)) for _, (id_, name, arguments) in sorted(calls.items())]


def _read(answer: Any, outcome: Outcome) -> None:
    for block in answer["output"]["message"]["content"]:
        outcome.text += block.get("text", "")
        outcome.reasoning += block.get("reasoningContent", {}).get("reasoningText", {}).get("text", "")
        if "toolUse" in block:
            outcome.calls.append(ToolCall(block["toolUse"]["toolUseId"], block["toolUse"]["name"], block["toolUse"]["input"]))
    outcome.finish = FINISH[answer["stopReason"]]
    _count(answer["usage"], outcome)


def _count(usage: dict[str, int], outcome: Outcome) -> None:
    outcome.input = usage["inputTokens"] + usage.get("cacheReadInputTokens", 0) + usage.get("cacheWriteInputTokens", 0)
    outcome.output = usage["outputTokens"]
