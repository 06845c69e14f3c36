"""Streams of every dialect that the fuzz program begins with, as providers and the servers that imitate them write them."""

import json

Payloads = list[tuple[str, str]]
"""The events of one stream: a name where the framing has names, and the JSON."""


def _unnamed(*payloads: str) -> Payloads:
    return [("", payload) for payload in payloads]


def _typed(*payloads: str) -> Payloads:
    return [(json.loads(payload)["type"], payload) for payload in payloads]


_OPENAI = [
    _unnamed(
        '{"id":"","choices":[],"created":0,"model":"","prompt_filter_results":[]}',
        '{"id":"c","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}',
        '{"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"hi"}}],"obfuscation":"aa"}',
        '{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":""}}]}}]}',
        '{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\\"a\\":1}"}}]}}]}',
        '{"choices":[{"index":1,"delta":{"refusal":"no","reasoning":"r","function_call":{"name":"f","arguments":"{}"}}}]}',
        '{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls","content_filter_offsets":{}}],"timings":{"prompt_n":3}}',
        '{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":null},'
        '"completion_tokens_details":{"reasoning_tokens":2}},"x_groq":{"usage":{"prompt_tokens":1}}}',
        "[DONE]",
    ),
    _unnamed(
        '{"error":{"message":"slow down","type":"rate","code":429}}', '[{"error":{"message":"x"}}]', '{"choices":[{"text":"t"}]}', "[DONE]"
    ),
    _unnamed(
        '{"choices":[{"delta":{"content":[{"type":"text","text":"a"},{"type":"thinking","thinking":[{"text":"b"}]}],"audio":{"data":"AA"}}}]}'
    ),
]
_RESPONSES = [
    _typed(
        '{"type":"response.created","sequence_number":0,"response":{"id":"resp_1","model":"m","status":"in_progress","output":[]}}',
        '{"type":"response.output_item.added","output_index":0,"item":{"id":"i0","type":"message","content":[]}}',
        '{"type":"response.output_text.delta","item_id":"i0","output_index":0,"content_index":0,"delta":"hi"}',
        '{"type":"response.output_text.delta","item_id":"i0","output_index":0,"content_index":0,"delta":"ho"}',
        '{"type":"response.output_text.done","item_id":"i0","text":"hiho"}',
        '{"type":"response.output_item.added","output_index":1,"item":{"id":"i1","type":"function_call","call_id":"c1","name":"f"}}',
        '{"type":"response.function_call_arguments.delta","item_id":"i1","output_index":1,"delta":"{}"}',
        '{"type":"response.function_call_arguments.done","item_id":"i1","output_index":1,"arguments":"{}"}',
        '{"type":"response.output_item.done","output_index":1,"item":{"id":"i1","type":"function_call","call_id":"c1","name":"f","arguments":"{}"}}',
        '{"type":"response.completed","response":{"id":"resp_1","model":"m","status":"completed","output":[{"type":"message","content":'
        '[{"type":"output_text","text":"hiho"}]}],"usage":{"input_tokens":3,"output_tokens":4,"input_tokens_details":{"cached_tokens":1}}}}',
    ),
    _typed(  # without numbers and ids, as servers write that grew from chat completions
        '{"type":"response.created","response":{"id":"r","model":"m"}}',
        *['{"type":"response.output_text.delta","output_index":0,"delta":"a"}'] * 3,
        '{"type":"response.output_item.added","output_index":0,"item":{"type":"message"}}',
        *['{"type":"response.output_text.delta","output_index":0,"delta":"b"}'] * 2,
        '{"type":"response.output_text.done","output_index":0,"text":"bb"}',
        '{"type":"response.completed","response":{"status":"completed"}}',
    ),
    _typed('{"type":"error","code":"quota","message":"no"}', '{"type":"response.failed","response":{"error":{"code":"x","message":"y"}}}'),
]
_ANTHROPIC = [
    _typed(
        '{"type":"message_start","message":{"id":"msg_1","model":"m","usage":{"input_tokens":4,"cache_read_input_tokens":3,"output_tokens":1}}}',
        '{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":""}}',
        '{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}',
        '{"type":"ping"}',
        '{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"hi"}}',
        '{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_1","name":"f","input":{}}}',
        '{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\\"a\\":1}"}}',
        '{"type":"content_block_stop","index":2}',
        '{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":9,"output_tokens_details":{"thinking_tokens":1}}}',
        '{"type":"message_stop"}',
    ),
    _typed('{"type":"error","error":{"type":"overloaded_error","message":"busy"}}'),
]
_GEMINI = [
    _unnamed(
        '{"candidates":[{"content":{"parts":[{"text":"th","thought":true},{"text":"hi"}],"role":"model"},"finishReason":"STOP","index":0}],'
        '"usageMetadata":{"promptTokenCount":4,"candidatesTokenCount":2,"totalTokenCount":9,"thoughtsTokenCount":3},"modelVersion":"m","responseId":"r"}',
        '{"candidates":[{"content":{"parts":[{"functionCall":{"id":"f1","name":"f","args":{"a":1}},"thoughtSignature":"AA=="},'
        '{"functionCall":{"name":"g","partialArgs":[{"jsonPath":"$.a","stringValue":"x"}],"willContinue":true}},{"executableCode":{"code":"1"}},'
        '{"inlineData":{"mimeType":"image/png","data":"AAAA"}}]}}]}',
        '{"promptFeedback":{"blockReason":"SAFETY"}}',
        '{"error":{"code":429,"message":"slow","status":"RESOURCE_EXHAUSTED"}}',
    )
]
_BEDROCK = [
    [
        ("messageStart", '{"role":"assistant"}'),
        ("contentBlockDelta", '{"contentBlockIndex":0,"delta":{"text":"hi"}}'),
        ("contentBlockDelta", '{"contentBlockIndex":0,"delta":{"reasoningContent":{"text":"r"}}}'),
        ("contentBlockStart", '{"contentBlockIndex":1,"start":{"toolUse":{"toolUseId":"t1","name":"f"}}}'),
        ("contentBlockDelta", '{"contentBlockIndex":1,"delta":{"toolUse":{"input":"{}"}}}'),
        ("messageStop", '{"stopReason":"tool_use"}'),
        ("metadata", '{"usage":{"inputTokens":5,"outputTokens":2,"cacheReadInputTokens":1},"metrics":{"latencyMs":4}}'),
        ("exception:throttlingException", '{"message":"slow"}'),
        ("error:500", "broken"),
    ],
    *([("chunk", payload) for _, payload in stream] for stream in (_ANTHROPIC[0], _OPENAI[0])),
    [("chunk", '{"outputText":"hi","index":0,"completionReason":"FINISH","amazon-bedrock-invocationMetrics":{"inputTokenCount":3}}')],
]
_OLLAMA = [
    _unnamed(
        '{"model":"m","created_at":"2025-01-01T00:00:00Z","message":{"role":"assistant","content":"hi","thinking":"t"},"done":false}',
        '{"message":{"content":"","tool_calls":[{"id":"c","function":{"name":"f","arguments":{"a":1}}}]},"done":false}',
        '{"model":"m","response":"x","thinking":"y","done":false}',
        '{"model":"m","message":{"content":""},"done":true,"done_reason":"stop","prompt_eval_count":4,"eval_count":5,"total_duration":1}',
        '{"error":"out of memory"}',
    )
]
STREAMS: dict[str, list[Payloads]] = {
    "openai": _OPENAI,
    "azure": _OPENAI,
    "openai-responses": _RESPONSES,
    "anthropic": _ANTHROPIC,
    "gemini": _GEMINI,
    "bedrock": _BEDROCK,
    "ollama": _OLLAMA,
}
