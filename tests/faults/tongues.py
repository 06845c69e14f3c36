"""The seven dialects' words, by hand from the providers' public documentation: one `Tongue` each."""

import json
from typing import Any

from tests.faults.tongue import (
    Told,
    Tongue,
    lines_split,
    message,
    message_fields,
    messages_split,
    sse,
    sse_fields,
    sse_split,
    text,
)

ASKED = [{"role": "user", "content": "hello"}]
SSE = "text/event-stream"


def said_in_error(data: Any) -> Told | None:
    """Read OpenAI's error object, which stands alone in its event."""
    error = data.get("error") if isinstance(data, dict) else None
    return (error.get("code"), error["message"]) if isinstance(error, dict) else None


# OpenAI chat completions, and the same as Azure says it.


def chunk(delta: bytes, finish: bytes = b"null") -> bytes:
    choice = b'{"index":0,"delta":{%b},"finish_reason":%b}' % (delta, finish)
    return sse(b'{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"said","choices":[%b],"usage":null}' % choice)


CHAT_USAGE = sse(
    b'{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"said","choices":[],'
    b'"usage":{"prompt_tokens":5,"completion_tokens":3,"total_tokens":8}}'
)
CHAT_ERRORS = {
    "overloaded": (sse(b'{"error":{"message":"No","type":"server_error","param":null,"code":"server_error"}}'), "server_error"),
    "limited": (sse(b'{"error":{"message":"No","type":"requests","code":"rate_limit_exceeded"}}'), "rate_limit_exceeded"),
}
ROLE = chunk(b'"role":"assistant","content":""')
FILTER_RESULTS = sse(
    b'{"id":"","object":"","created":0,"model":"","choices":[],'
    b'"prompt_filter_results":[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}}]}'
)


def chat(name: str, path: str, preamble: tuple[bytes, ...], headers: dict[str, str]) -> Tongue:
    """OpenAI's words, at one of the two places where they are spoken."""
    return Tongue(
        name=name,
        path=path,
        whole_path=path,
        headers=headers,
        body={"model": "m", "messages": ASKED, "stream": True, "stream_options": {"include_usage": True}},
        whole_body={"stream": None, "stream_options": None},
        media_type=SSE,
        keepalive=b": keepalive\n\n",
        preamble=preamble,
        idle=b": ping\n\n",
        token=lambda said: chunk(b'"content":%b' % text(said)),
        reasoning=lambda said: chunk(b'"reasoning_content":%b' % text(said)),
        tool=chunk(b'"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"look","arguments":""}}]'),
        arguments=lambda said: chunk(b'"tool_calls":[{"index":0,"function":{"arguments":%b}}]' % text(said)),
        finish=chunk(b"", b'"stop"'),
        usage=CHAT_USAGE,
        end=b"data: [DONE]\n\n",
        needs_end=False,
        errors=CHAT_ERRORS,
        document=b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"said","choices":[{"index":0,"message":'
        b'{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":3,"total_tokens":8}}',
        refused=lambda status, why: json.dumps({"error": {"message": why, "type": "t", "param": None, "code": f"c{status}"}}).encode(),
        split=sse_split,
        told=lambda event: said_in_error(sse_fields(event)[1]),
        ends=lambda event: sse_fields(event)[1] == "[DONE]",
    )


# OpenAI Responses.


def responses_event(kind: str, rest: bytes, number: int = 1) -> bytes:
    return sse(b'{"type":"%b","sequence_number":%d,%b}' % (kind.encode(), number, rest), kind.encode())


def response(status: bytes, rest: bytes = b"") -> bytes:
    return b'"response":{"id":"resp_1","object":"response","created_at":1,"status":"%b","model":"said","output":[]%b}' % (status, rest)


ITEM = b'"item_id":"msg_1","output_index":0,"content_index":0'
COUNTED = b',"usage":{"input_tokens":5,"output_tokens":3,"total_tokens":8}'
LOOK = b'{"type":"function_call","id":"fc_1","call_id":"call_1","name":"look","arguments":"","status":"in_progress"}'


def responses_told(event: bytes) -> Told | None:
    name, data = sse_fields(event)
    if name == "error":
        return data["code"], data["message"]
    return (data["response"]["error"]["code"], data["response"]["error"]["message"]) if name == "response.failed" else None


RESPONSES = Tongue(
    name="openai-responses",
    path="/v1/responses",
    whole_path="/v1/responses",
    body={"model": "m", "input": "hello", "stream": True},
    whole_body={"stream": None},
    media_type=SSE,
    keepalive=b": keepalive\n\n",
    preamble=(
        responses_event("response.created", response(b"in_progress"), 0),
        responses_event("response.in_progress", response(b"in_progress")),
        responses_event(
            "response.output_item.added",
            b'"output_index":0,"item":{"type":"message","id":"msg_1","status":"in_progress","role":"assistant","content":[]}',
        ),
        responses_event("response.content_part.added", ITEM + b',"part":{"type":"output_text","text":"","annotations":[]}'),
    ),
    idle=b'event: keepalive\ndata: {"type":"keepalive","sequence_number":1}\n\n',
    token=lambda said: responses_event("response.output_text.delta", ITEM + b',"delta":' + text(said)),
    reasoning=lambda said: responses_event(
        "response.reasoning_summary_text.delta", b'"item_id":"rs_1","output_index":0,"summary_index":0,"delta":' + text(said)
    ),
    tool=responses_event("response.output_item.added", b'"output_index":1,"item":' + LOOK),
    arguments=lambda said: responses_event(
        "response.function_call_arguments.delta", b'"item_id":"fc_1","output_index":1,"delta":' + text(said)
    ),
    finish=b"",
    usage=b"",
    end=responses_event("response.completed", response(b"completed", COUNTED), 9),
    needs_end=True,
    errors={
        "overloaded": (
            sse(b'{"type":"error","code":"server_error","message":"No","param":null,"sequence_number":4}', b"error"),
            "server_error",
        ),
        "limited": (
            responses_event("response.failed", response(b"failed", b',"error":{"code":"rate_limit_exceeded","message":"No"}')),
            "rate_limit_exceeded",
        ),
    },
    document=b'{"id":"resp_1","object":"response","created_at":1,"status":"completed","model":"said","output":[{"type":"message",'
    b'"id":"msg_1","status":"completed","role":"assistant","content":[{"type":"output_text","text":"hi","annotations":[]}]}]'
    + COUNTED
    + b"}",
    refused=lambda status, why: json.dumps({"error": {"message": why, "type": "t", "param": None, "code": f"c{status}"}}).encode(),
    split=sse_split,
    told=responses_told,
    ends=lambda event: sse_fields(event)[0] in {"response.completed", "response.incomplete"},
)


# Anthropic messages.


def anthropic_event(kind: str, rest: bytes = b"") -> bytes:
    return sse(b'{"type":"%b"%b}' % (kind.encode(), b"," + rest if rest else b""), kind.encode())


def block(index: int, kind: bytes, key: bytes, said: str) -> bytes:
    return anthropic_event("content_block_delta", b'"index":%d,"delta":{"type":"%b","%b":%b}' % (index, kind, key, text(said)))


def anthropic_told(event: bytes) -> Told | None:
    name, data = sse_fields(event)
    return (data["error"].get("code", data["error"]["type"]), data["error"]["message"]) if name == "error" else None


ANTHROPIC = Tongue(
    name="anthropic",
    path="/v1/messages",
    whole_path="/v1/messages",
    headers={"anthropic-version": "2023-06-01"},
    body={"model": "m", "max_tokens": 50, "messages": ASKED, "stream": True},
    whole_body={"stream": None},
    media_type=SSE,
    keepalive=b'event: ping\ndata: {"type":"ping"}\n\n',
    preamble=(
        anthropic_event(
            "message_start",
            b'"message":{"id":"msg_1","type":"message","role":"assistant","model":"said","content":[],"stop_reason":null,'
            b'"stop_sequence":null,"usage":{"input_tokens":5,"output_tokens":1}}',
        ),
        anthropic_event("content_block_start", b'"index":0,"content_block":{"type":"text","text":""}'),
        anthropic_event("ping"),
    ),
    idle=anthropic_event("ping"),
    token=lambda said: block(0, b"text_delta", b"text", said),
    reasoning=lambda said: block(0, b"thinking_delta", b"thinking", said),
    tool=anthropic_event("content_block_start", b'"index":1,"content_block":{"type":"tool_use","id":"toolu_1","name":"look","input":{}}'),
    arguments=lambda said: block(1, b"input_json_delta", b"partial_json", said),
    finish=anthropic_event("content_block_stop", b'"index":0')
    + anthropic_event("message_delta", b'"delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":3}'),
    usage=b"",
    end=anthropic_event("message_stop"),
    needs_end=True,
    errors={
        "overloaded": (anthropic_event("error", b'"error":{"type":"overloaded_error","message":"Overloaded"}'), "overloaded_error"),
        "limited": (anthropic_event("error", b'"error":{"type":"rate_limit_error","message":"No"}'), "rate_limit_error"),
    },
    document=b'{"id":"msg_1","type":"message","role":"assistant","model":"said","content":[{"type":"text","text":"hi"}],'
    b'"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":5,"output_tokens":3}}',
    refused=lambda _status, why: json.dumps({"type": "error", "error": {"type": "api_error", "message": why}}).encode(),
    split=sse_split,
    told=anthropic_told,
    ends=lambda event: sse_fields(event)[0] == "message_stop",
)


# Gemini, framed with ?alt=sse: lines end in CR LF, and nothing but the end of the body ends a stream.


def candidate(parts: bytes, more: bytes = b"") -> bytes:
    said = b'{"candidates":[{"content":{"role":"model","parts":[%b]},"index":0%b}],%b}'
    counted = b'"usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":3,"totalTokenCount":8},"modelVersion":"said","responseId":"r1"'
    return sse(said % (parts, more, counted), eol=b"\r\n")


def gemini_told(event: bytes) -> Told | None:
    data = sse_fields(event)[1]
    if not isinstance(data, dict) or "error" not in data:
        return None
    error = data["error"]
    return next((detail["reason"] for detail in error.get("details", ()) if "reason" in detail), error["status"]), error["message"]


GEMINI = Tongue(
    name="gemini",
    path="/v1beta/models/m:streamGenerateContent?alt=sse",
    whole_path="/v1beta/models/m:generateContent",
    body={"contents": [{"role": "user", "parts": [{"text": "hello"}]}]},
    media_type=SSE,
    keepalive=b"\r\n\r\n",
    preamble=(candidate(b""), sse(b'{"promptFeedback":{"safetyRatings":[]},"modelVersion":"said","responseId":"r1"}', eol=b"\r\n")),
    idle=candidate(b'{"text":""}'),
    token=lambda said: candidate(b'{"text":%b}' % text(said)),
    reasoning=lambda said: candidate(b'{"text":%b,"thought":true}' % text(said)),
    tool=candidate(b'{"functionCall":{"name":"look","args":{}}}'),
    arguments=lambda said: candidate(b'{"functionCall":{"name":"look","args":{"at":%b}}}' % text(said)),
    finish=candidate(b'{"text":""}', b',"finishReason":"STOP"'),
    usage=b"",
    end=b"",
    needs_end=False,
    errors={
        "overloaded": (sse(b'{"error":{"code":503,"message":"No","status":"UNAVAILABLE"}}', eol=b"\r\n"), "UNAVAILABLE"),
        "limited": (sse(b'{"error":{"code":429,"message":"No","status":"RESOURCE_EXHAUSTED"}}', eol=b"\r\n"), "RESOURCE_EXHAUSTED"),
    },
    document=b'{"candidates":[{"content":{"role":"model","parts":[{"text":"hi"}]},"finishReason":"STOP","index":0}],'
    b'"usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":3,"totalTokenCount":8},"modelVersion":"said"}',
    refused=lambda status, why: json.dumps({"error": {"code": status, "message": why, "status": "UNAVAILABLE"}}).encode(),
    split=sse_split,
    told=gemini_told,
    ends=lambda event: b'"finishReason"' in event,
)


# Bedrock ConverseStream: a binary event stream; its usage follows the end of the message.


def converse(kind: str, data: bytes) -> bytes:
    return message({":event-type": kind, ":content-type": "application/json", ":message-type": "event"}, data)


def exception(kind: str, why: str) -> bytes:
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return message(headers, b'{"message":%b}' % text(why))


def converse_delta(delta: bytes, index: int = 0) -> bytes:
    return converse("contentBlockDelta", b'{"contentBlockIndex":%d,"delta":{%b}}' % (index, delta))


def bedrock_told(event: bytes) -> Told | None:
    headers, data = message_fields(event)
    return (data.get("originalMessage"), data["message"]) if headers[":message-type"] == "exception" else None


BEDROCK = Tongue(
    name="bedrock",
    path="/model/m/converse-stream",
    whole_path="/model/m/converse",
    body={"messages": [{"role": "user", "content": [{"text": "hello"}]}]},
    media_type="application/vnd.amazon.eventstream",
    keep_open=False,
    preamble=(converse("messageStart", b'{"role":"assistant"}'), converse("contentBlockStart", b'{"contentBlockIndex":0,"start":{}}')),
    idle=converse_delta(b'"text":""'),
    token=lambda said: converse_delta(b'"text":' + text(said)),
    reasoning=lambda said: converse_delta(b'"reasoningContent":{"text":%b}' % text(said)),
    tool=converse("contentBlockStart", b'{"contentBlockIndex":1,"start":{"toolUse":{"toolUseId":"t1","name":"look"}}}'),
    arguments=lambda said: converse_delta(b'"toolUse":{"input":%b}' % text(said), 1),
    finish=converse("contentBlockStop", b'{"contentBlockIndex":0}') + converse("messageStop", b'{"stopReason":"end_turn"}'),
    usage=converse("metadata", b'{"usage":{"inputTokens":5,"outputTokens":3,"totalTokens":8},"metrics":{"latencyMs":1}}'),
    end=b"",
    needs_end=False,
    errors={
        "overloaded": (exception("serviceUnavailableException", "No"), "serviceUnavailableException"),
        "limited": (exception("throttlingException", "No"), "throttlingException"),
    },
    document=b'{"output":{"message":{"role":"assistant","content":[{"text":"hi"}]}},"stopReason":"end_turn",'
    b'"usage":{"inputTokens":5,"outputTokens":3,"totalTokens":8},"metrics":{"latencyMs":1}}',
    refused=lambda _status, why: json.dumps({"message": why}).encode(),
    split=messages_split,
    told=bedrock_told,
    ends=lambda event: message_fields(event)[0].get(":event-type") == "messageStop",
)


# Ollama: a line of JSON for each piece, tool calls whole, and no place for an error's code.


def line(rest: bytes, done: bytes = b"false") -> bytes:
    return b'{"model":"said","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant",%b},"done":%b}\n' % (rest, done)


def ollama_told(event: bytes) -> Told | None:
    data = json.loads(event) if event.strip() else {}
    return (None, data["error"]) if "error" in data else None


OLLAMA = Tongue(
    name="ollama",
    path="/api/chat",
    whole_path="/api/chat",
    body={"model": "m", "messages": ASKED},  # a stream is what it gives unless told otherwise
    whole_body={"stream": False},
    media_type="application/x-ndjson",
    keep_open=False,
    preamble=(line(b'"content":""'),),
    idle=line(b'"content":""'),
    token=lambda said: line(b'"content":' + text(said)),
    reasoning=lambda said: line(b'"content":"","thinking":' + text(said)),
    tool=line(b'"content":"","tool_calls":[{"function":{"name":"look","arguments":{}}}]'),
    arguments=lambda said: line(b'"content":"","tool_calls":[{"function":{"name":"look","arguments":{"at":%b}}}]' % text(said)),
    finish=b"",
    usage=b"",
    end=line(b'"content":""', b'true,"done_reason":"stop","total_duration":9,"prompt_eval_count":5,"eval_count":3'),
    needs_end=True,
    errors={"overloaded": (b'{"error":"no room"}\n', "upstream_error"), "limited": (b'{"error":"no room"}\n', "upstream_error")},
    document=b'{"model":"said","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":"hi"},"done":true,'
    b'"done_reason":"stop","prompt_eval_count":5,"eval_count":3}',
    refused=lambda _status, why: json.dumps({"error": why}).encode(),
    split=lines_split,
    told=ollama_told,
    ends=lambda event: b'"done":true' in event,
)

TONGUES = {
    tongue.name: tongue
    for tongue in (
        chat("openai", "/v1/chat/completions", (ROLE,), {}),
        RESPONSES,
        ANTHROPIC,
        GEMINI,
        BEDROCK,
        OLLAMA,
        chat("azure", "/openai/deployments/m/chat/completions?api-version=2024-10-21", (FILTER_RESULTS, ROLE), {"api-key": "k"}),
    )
}
"""By the name that routes.yaml has for the dialect."""
