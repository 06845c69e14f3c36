"""Requests of every dialect that the fuzz program begins with: everything said that can be said, the neutral and the odd."""

import json
from random import Random
from typing import Any

from gateway.dialects import DIALECTS
from tests.wire.fuzz_mutation import dumps, spoil_bytes, spoil_tree

_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": ["string", "null"], "enum": ["a", None]}},
    "required": ["city"],
}
_PNG = "iVBORw0KGgoAAAANSUhEUg=="
_SAMPLING: dict[str, Any] = {"temperature": 0.5, "top_p": 0.9, "seed": 7}

_OPENAI: list[dict[str, Any]] = [
    {
        "model": "m",
        "messages": [
            {"role": "system", "content": "be brief"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "what?"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{_PNG}"}},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "hm",
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"city":"Paris"}'}}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": _SCHEMA, "strict": True}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": True,
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 10,
        "stop": ["x"],
        "user": "u",
        "reasoning_effort": "low",
        **_SAMPLING,
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": _SCHEMA, "strict": True}},
        "logit_bias": {},
        "n": 1,
        "frequency_penalty": 0.1,
        "presence_penalty": 0.1,
        "metadata": {"a": "b"},
    },
    {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "tool_choice": "auto",
        "stop": "y",
        "response_format": {"type": "json_object"},
    },
]
_RESPONSES: list[dict[str, Any]] = [
    {
        "model": "m",
        "instructions": "be brief",
        "stream": True,
        "store": False,
        "input": [
            {
                "role": "user",
                "content": [{"type": "input_text", "text": "hi"}, {"type": "input_image", "image_url": f"data:image/png;base64,{_PNG}"}],
            },
            {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "AA"},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}", "id": "fc"},
            {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "sunny"}]},
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "so", "annotations": []}, {"type": "refusal", "refusal": "n"}],
            },
        ],
        "tools": [{"type": "function", "name": "f", "description": "d", "parameters": _SCHEMA, "strict": False}],
        "tool_choice": {"type": "function", "name": "f"},
        "parallel_tool_calls": False,
        "max_output_tokens": 9,
        "reasoning": {"effort": "high"},
        "text": {"format": {"type": "json_schema", "name": "a", "schema": _SCHEMA}},
        "include": ["reasoning.encrypted_content"],
        "user": "u",
        **_SAMPLING,
    },
    {
        "model": "m",
        "input": "hi",
        "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
        "tools": [{"type": "function", "name": "f", "parameters": None}],
        "text": {"format": {"type": "json_object"}},
    },
]
_ANTHROPIC: list[dict[str, Any]] = [
    {
        "model": "m",
        "max_tokens": 100,
        "system": [{"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}],
        "stream": True,
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "hi"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": _PNG}},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "x"}], "is_error": True},
                    {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
                ],
            },
        ],
        "tools": [{"name": "f", "description": "d", "input_schema": _SCHEMA, "strict": True}],
        "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        "stop_sequences": ["x"],
        "top_k": 3,
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "metadata": {"user_id": "u"},
        "temperature": 1,
        "top_p": 0.5,
        "output_config": {"effort": "high", "format": {"type": "json_schema", "schema": _SCHEMA}},
    },
    {
        "model": "m",
        "max_tokens": 1,
        "messages": [{"role": "user", "content": "hi"}],
        "system": "s",
        "tool_choice": {"type": "any"},
        "thinking": {"type": "adaptive"},
    },
]
_GEMINI: list[dict[str, Any]] = [
    {
        "systemInstruction": {"parts": [{"text": "be brief"}]},
        "contents": [
            {
                "role": "user",
                "parts": [
                    {"text": "hi"},
                    {"inlineData": {"mimeType": "image/png", "data": _PNG}},
                    {"fileData": {"mimeType": "image/png", "fileUri": "https://example.org/a.png"}},
                ],
            },
            {
                "role": "model",
                "parts": [
                    {"text": "hm", "thought": True},
                    {"functionCall": {"id": "c", "name": "f", "args": {"a": 1}}, "thoughtSignature": "AA=="},
                ],
            },
            {"role": "user", "parts": [{"functionResponse": {"id": "c", "name": "f", "response": {"output": "x"}}}]},
        ],
        "tools": [
            {
                "functionDeclarations": [
                    {
                        "name": "f",
                        "description": "d",
                        "parameters": {"type": "OBJECT", "properties": {"a": {"type": "STRING", "nullable": True, "format": "enum"}}},
                    },
                    {"name": "g", "parametersJsonSchema": _SCHEMA},
                ]
            }
        ],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
        "generationConfig": {
            "stopSequences": ["x"],
            "maxOutputTokens": 9,
            "temperature": 1,
            "topP": 0.5,
            "topK": 3,
            "seed": 1,
            "candidateCount": 1,
            "responseMimeType": "application/json",
            "responseSchema": {"type": "OBJECT", "properties": {"a": {"type": "INTEGER"}}},
            "thinkingConfig": {"thinkingBudget": 100, "includeThoughts": True},
        },
        "safetySettings": [],
        "cachedContent": None,
    },
    {
        "contents": [{"parts": [{"text": "hi"}]}],
        "generation_config": {
            "max_output_tokens": 3,
            "thinking_config": {"thinking_level": "LOW"},
            "response_json_schema": _SCHEMA,
            "response_mime_type": "application/json",
        },
    },
]
_BEDROCK: list[dict[str, Any]] = [
    {
        "system": [{"text": "be brief"}, {"cachePoint": {"type": "default"}}],
        "messages": [
            {"role": "user", "content": [{"text": "hi"}, {"image": {"format": "png", "source": {"bytes": _PNG}}}]},
            {
                "role": "assistant",
                "content": [
                    {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}},
                    {"toolUse": {"toolUseId": "t", "name": "f", "input": {"a": 1}}},
                ],
            },
            {
                "role": "user",
                "content": [{"toolResult": {"toolUseId": "t", "content": [{"json": {"a": 1}}, {"text": "x"}], "status": "error"}}],
            },
        ],
        "inferenceConfig": {"maxTokens": 9, "temperature": 0.5, "topP": 0.5, "stopSequences": ["x"]},
        "toolConfig": {
            "tools": [
                {"toolSpec": {"name": "f", "description": "d", "inputSchema": {"json": _SCHEMA}}},
                {"cachePoint": {"type": "default"}},
            ],
            "toolChoice": {"tool": {"name": "f"}},
        },
        "additionalModelRequestFields": {"top_k": 3, "thinking": {"type": "enabled", "budget_tokens": 1024}},
        "requestMetadata": {"a": "b"},
        "outputConfig": {
            "effort": "low",
            "textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"schema": "{}", "name": "a"}}},
        },
    },
    {"messages": [{"role": "user", "content": [{"text": "hi"}]}], "toolConfig": {"toolChoice": {"any": {}}, "tools": []}},
]
_OLLAMA: list[dict[str, Any]] = [
    {
        "model": "m",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "hi", "images": [_PNG]},
            {
                "role": "assistant",
                "content": "",
                "thinking": "hm",
                "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": {"a": 1}}}],
            },
            {"role": "tool", "tool_name": "f", "tool_call_id": "c", "content": "x"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": _SCHEMA}}],
        "options": {
            "temperature": 0.5,
            "top_p": 0.5,
            "top_k": 3,
            "seed": 1,
            "num_predict": 9,
            "stop": ["x"],
            "num_ctx": 100,
            "presence_penalty": 0.1,
        },
        "format": _SCHEMA,
        "think": "high",
        "keep_alive": "5m",
        "stream": True,
    },
    {"model": "m", "messages": [{"role": "user", "content": "hi"}], "format": "json", "think": True, "stream": False},
]

REQUESTS: dict[str, list[dict[str, Any]]] = {
    "openai": _OPENAI, "azure": _OPENAI, "openai-responses": _RESPONSES, "anthropic": _ANTHROPIC, "gemini": _GEMINI, "bedrock": _BEDROCK,
    "ollama": _OLLAMA,
}  # fmt: skip


def some_tree(name: str, rng: Random) -> dict[str, Any]:
    """Return a request of a dialect, whole or with some of its members left out: fewer are refused for something else."""
    tree: dict[str, Any] = json.loads(json.dumps(rng.choice(REQUESTS[name])))
    return {
        key: found for key, found in tree.items() if key in {"model", "messages", "contents", "input", "max_tokens"} or rng.random() < 0.6
    }


def some_request(name: str, rng: Random) -> bytes:
    """Return the body of a request: a few places of its tree changed, seldom a few of its bytes."""
    tree: Any = some_tree(name, rng)
    others = REQUESTS[name] if rng.random() < 0.7 else REQUESTS[rng.choice(tuple(DIALECTS))]
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        tree = spoil_tree(tree, rng, others)
    data = dumps(tree, rng)
    return spoil_bytes(data, rng, (data,)) if rng.random() < 0.2 else data
