"""The golden table of usage: what each provider's counts come to, wherever in a stream they stand and however they count.

Counts are told inclusive of cached input, the last word holds, what is not said is not 0. An interrupted stream keeps what it had.
"""

import importlib
import json

import pytest

from gateway.core.events import Delta, Finished, Usage
from gateway.dialects.base import Asked
from gateway.wire import eventstream

BODY = b'{"model":"m","stream":true,"messages":[],"max_tokens":9,"stream_options":{"include_usage":true}}'


def data(*documents: object, end: str = "\n\n") -> bytes:
    """Events without a name, as OpenAI and Gemini send them; text is sent as it is."""
    return "".join(f"data: {said if isinstance(said, str) else json.dumps(said)}{end}" for said in documents).encode()


def named(*documents: dict) -> bytes:
    """Events named by their type, as Anthropic and the Responses API send them."""
    return b"".join(b"event: " + said["type"].encode() + b"\n" + data(said) for said in documents)


def lines(*documents: dict) -> bytes:
    return b"".join(json.dumps(said).encode() + b"\n" for said in documents)


def messages(*events: tuple[str, dict]) -> bytes:
    """Messages of the AWS event stream."""
    return b"".join(eventstream.event(name, json.dumps(said).encode()) for name, said in events)


def opened(**usage: int) -> dict:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage}
    return {"type": "message_start", "message": message}


def ended(reason: str | None = None, **usage: int) -> dict:
    return {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage}


BLOCK = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}}
STOP = {"type": "message_stop"}


def chunk(*choices: dict, **members: object) -> dict:
    return {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": list(choices), **members}


SAID = {"index": 0, "delta": {"content": "hi"}, "finish_reason": None}
FINISHED = {"index": 0, "delta": {}, "finish_reason": "stop"}
COUNTS = {"prompt_tokens": 10, "completion_tokens": 12, "total_tokens": 22}
DETAILS = {"prompt_tokens_details": {"cached_tokens": 5}, "completion_tokens_details": {"reasoning_tokens": 4}}
ZEROS = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "prompt_tokens_details": {"cached_tokens": 0}}
CONTINUOUS = [chunk(SAID, usage={"prompt_tokens": 10, "completion_tokens": n, "total_tokens": 10 + n}) for n in (1, 2, 3)]


def part(text: str, **members: object) -> dict:
    return {"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}], "modelVersion": "m", **members}


def metadata(prompt: int, total: int, **counts: int) -> dict:
    return {"usageMetadata": {"promptTokenCount": prompt, "totalTokenCount": total, **counts}}


LAST_PART = {"candidates": [{"finishReason": "STOP", "index": 0}], "modelVersion": "m"}


def responded(kind: str, usage: object) -> dict:
    status = kind.rpartition(".")[2]
    return {"type": kind, "sequence_number": 9, "response": {"id": "resp_1", "model": "m", "status": status, "output": [], "usage": usage}}


CREATED = {
    "type": "response.created",
    "sequence_number": 0,
    "response": {"id": "resp_1", "model": "m", "status": "in_progress", "usage": None},
}
TEXT_DELTA = {
    "type": "response.output_text.delta",
    "item_id": "i",
    "output_index": 0,
    "content_index": 0,
    "delta": "hi",
    "sequence_number": 1,
}
SPENT = {
    "input_tokens": 10,
    "input_tokens_details": {"cached_tokens": 5},
    "output_tokens": 12,
    "output_tokens_details": {"reasoning_tokens": 4},
    "total_tokens": 22,
}

CONVERSED = (
    ("messageStart", {"role": "assistant"}),
    ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "hi"}}),
    ("contentBlockStop", {"contentBlockIndex": 0}),
    ("messageStop", {"stopReason": "end_turn"}),
)


def line(**members: object) -> dict:
    return {"model": "m", "created_at": "2026-11-21T10:00:00Z", "message": {"role": "assistant", "content": ""}, "done": False, **members}


DONE = {"done": True, "done_reason": "stop"}

TABLE = {
    ("anthropic.ANTHROPIC", "/v1/messages"): {
        "exclusive counts add up, cumulative ones replace": (
            named(opened(input_tokens=10, cache_read_input_tokens=5, output_tokens=1), BLOCK, ended(output_tokens=7))
            + named(ended("end_turn", output_tokens=12, input_tokens=10), STOP),
            Usage(input=15, output=12, cached=5),
        ),
        "what the cache took is input too": (
            named(opened(input_tokens=10, cache_read_input_tokens=5, cache_creation_input_tokens=3, output_tokens=1), BLOCK)
            + named(ended("end_turn", output_tokens=12), STOP),
            Usage(input=18, output=12, cached=5, cache_write=3),
        ),
        "a cut stream keeps the counts of its start": (
            named(opened(input_tokens=10, cache_read_input_tokens=5, output_tokens=1), *[BLOCK] * 40),
            Usage(input=15, output=1, cached=5),
        ),
        "0 is said": (
            named(opened(input_tokens=0, cache_read_input_tokens=0, output_tokens=0), ended("end_turn", output_tokens=0), STOP),
            Usage(input=0, output=0, cached=0),
        ),
    },
    ("openai.OPENAI", "/v1/chat/completions"): {
        "a chunk after the finish counts": (
            data(chunk(SAID, usage=None), chunk(FINISHED, usage=None), chunk(usage=COUNTS | DETAILS), "[DONE]"),
            Usage(input=10, output=12, cached=5, reasoning=4),
        ),
        "of continuous usage only the last counts (vLLM)": (data(*CONTINUOUS, chunk(FINISHED), "[DONE]"), Usage(10, 3)),
        "x_groq is read": (data(chunk(SAID), chunk(FINISHED, x_groq={"id": "r", "usage": COUNTS}), "[DONE]"), Usage(10, 12)),
        "0 is said": (data(chunk(FINISHED), chunk(usage=ZEROS), "[DONE]"), Usage(0, 0, cached=0)),
        "null is not said": (data(chunk(SAID, usage=None), chunk(FINISHED, usage=None), "[DONE]"), None),
        "a cut stream has none": (data(*[chunk(SAID, usage=None)] * 40), None),
        "a cut stream of continuous usage keeps the last": (data(*CONTINUOUS), Usage(10, 3)),
    },
    ("openai.AZURE", "/openai/deployments/{deployment}/chat/completions"): {
        "a chunk after the finish counts": (
            data(
                {"id": "", "model": "", "created": 0, "choices": [], "prompt_filter_results": []},
                chunk(SAID),
                chunk(FINISHED),
                chunk(usage=COUNTS),
                "[DONE]",
            ),
            Usage(10, 12),
        ),
    },
    ("responses.RESPONSES", "/v1/responses"): {
        "the terminal event counts": (
            named(CREATED, TEXT_DELTA, responded("response.completed", SPENT)),
            Usage(input=10, output=12, cached=5, reasoning=4),
        ),
        "an incomplete answer counts": (
            named(CREATED, TEXT_DELTA, responded("response.incomplete", SPENT)),
            Usage(input=10, output=12, cached=5, reasoning=4),
        ),
        "a cut stream has none": (named(CREATED, *[TEXT_DELTA] * 40), None),
        "null is not said": (named(CREATED, responded("response.completed", None)), None),
    },
    ("gemini.GEMINI", "/v1beta/models/{model}:streamGenerateContent"): {
        "cumulative counts replace, and silence erases nothing": (
            data(part("a", **metadata(10, 12)), part("b", **metadata(10, 15)), part("c", **metadata(10, 20)), LAST_PART, end="\r\n\r\n"),
            Usage(input=10, output=10),
        ),
        "thoughts are output, wherever they are counted": (
            data(
                part("a", **metadata(10, 30, candidatesTokenCount=12, thoughtsTokenCount=8, cachedContentTokenCount=5)),
                LAST_PART,
                end="\r\n\r\n",
            ),
            Usage(input=10, output=20, cached=5, reasoning=8),
        ),
        "a cut stream keeps the last": (data(part("a", **metadata(10, 12)), part("b", **metadata(10, 15))), Usage(10, 5)),
        "nothing is not said": (data(part("a"), LAST_PART), None),
    },
    ("bedrock.BEDROCK", "/model/{id}/converse-stream"): {
        "metadata after messageStop counts, exclusive counts add up": (
            messages(
                *CONVERSED,
                (
                    "metadata",
                    {
                        "usage": {
                            "inputTokens": 10,
                            "outputTokens": 12,
                            "totalTokens": 30,
                            "cacheReadInputTokens": 5,
                            "cacheWriteInputTokens": 3,
                        },
                        "metrics": {"latencyMs": 100},
                    },
                ),
            ),
            Usage(input=18, output=12, cached=5, cache_write=3),
        ),
        "0 is said": (
            messages(*CONVERSED, ("metadata", {"usage": {"inputTokens": 0, "outputTokens": 0, "totalTokens": 0}})),
            Usage(0, 0),
        ),
        "a cut stream has none": (messages(*CONVERSED[:2]), None),
    },
    ("ollama.OLLAMA", "/api/chat"): {
        "the last line counts": (
            lines(line(), line(**DONE, prompt_eval_count=10, eval_count=12, total_duration=99)),
            Usage(10, 12),
        ),
        "cached input is part of the input": (
            lines(line(**DONE, prompt_eval_count=10, prompt_eval_cached_count=5, eval_count=12)),
            Usage(10, 12, cached=5),
        ),
        "0 is said, and what is left out is not": (lines(line(**DONE, eval_count=0)), Usage(None, 0)),
        "nothing is not said": (lines(line(**DONE)), None),
        "a cut stream has none": (lines(*[line(message={"role": "assistant", "content": "hi"})] * 40), None),
    },
}
ROWS = [
    pytest.param(dialect, path, stream, usage, id=f"{dialect.partition('.')[0]}: {rule}")
    for (dialect, path), rules in TABLE.items()
    for rule, (stream, usage) in rules.items()
]


def answered(dialect: str, path: str, *reads: bytes) -> list:
    """Return the events of a stream that answers a call at one of a dialect's doors."""
    package, _, name = dialect.partition(".")
    speaker = getattr(importlib.import_module(f"gateway.dialects.{package}"), name)
    door = next(endpoint for endpoint in speaker.endpoints if endpoint.path == path)
    asked = Asked({"model": "m", "id": "m", "deployment": "m"}, {"alt": "sse"})
    call = speaker.parse_call(door, BODY, asked)
    parser = speaker.framing(call).parser()
    reader = speaker.reader(call)
    return [event for read in reads for frame in parser.feed(read) for event in reader.events(frame)]


def usage_of(events: list) -> Usage | None:
    """The last word holds, as in stream.observer."""
    return next((event for event in reversed(events) if isinstance(event, Usage)), None)


@pytest.mark.parametrize(("dialect", "path", "stream", "usage"), ROWS)
def test_what_a_stream_cost(dialect, path, stream, usage):
    """The counts of a whole stream, and the same however it is cut (D4)."""
    events = answered(dialect, path, stream)
    assert usage_of(events) == usage
    assert any(isinstance(event, Delta | Finished | Usage) for event in events)  # it was read, not passed over
    assert usage_of(answered(dialect, path, *(stream[at : at + 7] for at in range(0, len(stream), 7)))) == usage


def test_every_dialect_has_its_rows():
    """A dialect that is registered is in the table."""
    registry = importlib.import_module("gateway.dialects").DIALECTS
    names = {getattr(importlib.import_module(f"gateway.dialects.{where.split('.')[0]}"), where.split(".")[1]).name for where, _ in TABLE}
    assert set(registry) <= names
