"""Doors at which a dialect speaks otherwise than at its first: the same faults must be told there too."""

import base64
import json
from dataclasses import replace

from tests.faults.tongue import Told, Tongue, sse, sse_fields, text
from tests.faults.tongues import ANTHROPIC, ASKED, BEDROCK, GEMINI, OLLAMA, TONGUES, converse

# OpenAI's legacy completions.


def completion(said: str, finish: bytes = b"null") -> bytes:
    choice = b'{"index":0,"text":%b,"logprobs":null,"finish_reason":%b}' % (text(said), finish)
    return sse(b'{"id":"cmpl-1","object":"text_completion","created":1,"model":"said","choices":[%b]}' % choice)


COMPLETIONS = replace(
    TONGUES["openai"],
    path="/v1/completions",
    whole_path="/v1/completions",
    body={"model": "m", "prompt": "hello", "stream": True, "stream_options": {"include_usage": True}},
    preamble=(completion(""),),
    token=completion,
    finish=completion("", b'"stop"'),
)

# Ollama's generate.


def generated(said: str, done: bytes = b"false") -> bytes:
    return b'{"model":"said","created_at":"2026-01-01T00:00:00Z","response":%b,"done":%b}\n' % (text(said), done)


GENERATE = replace(
    OLLAMA,
    path="/api/generate",
    whole_path="/api/generate",
    body={"model": "m", "prompt": "hello"},
    preamble=(generated(""),),
    token=generated,
    end=generated("", b'true,"done_reason":"stop","prompt_eval_count":5,"eval_count":3'),
)

# Bedrock's invoke of a model in that model's own words, each event in base64 in a binary message.


def invoked(event: bytes) -> bytes:
    """Return every event of a stream of Anthropic's as Bedrock passes it on."""
    data = [json.dumps(sse_fields(one)[1]).encode() for one in ANTHROPIC.split(event)]
    return b"".join(converse("chunk", b'{"bytes":"%b"}' % base64.b64encode(one)) for one in data)


INVOKE = replace(
    BEDROCK,
    path="/model/m/invoke-with-response-stream",
    whole_path="/model/m/invoke",
    body={"anthropic_version": "bedrock-2023-05-31", "max_tokens": 50, "messages": ASKED},
    preamble=tuple(map(invoked, ANTHROPIC.preamble)),
    token=lambda said: invoked(ANTHROPIC.token(said)),
    finish=invoked(ANTHROPIC.finish),
    usage=b"",
    end=invoked(ANTHROPIC.end),
    ends=lambda event: base64.b64encode(b'{"type": "message_stop"}') in event,
)

# Gemini without ?alt=sse: one JSON array, whose elements come one by one.


def element(event: bytes) -> bytes:
    return b",\r\n" + event.removeprefix(b"data: ").rstrip()


def elements(body: bytes) -> list[bytes]:
    """Cut an array before every comma between elements; its brackets go with the first and the last."""
    decoder, found, start = json.JSONDecoder(), list[bytes](), 0
    said = body.decode()
    while start < len(said):
        first = next((place for place in range(start, len(said)) if said[place] not in "[,\r\n "), len(said))
        try:
            _, end = decoder.raw_decode(said, first)
        except ValueError:
            end = len(said)
        if said[end:].strip() == "]":
            end = len(said)
        found.append(said[start:end].encode())
        start = end
    return found


def array_told(event: bytes) -> Told | None:
    said = event.strip(b"[,\r\n ")
    return GEMINI.told(b"data: " + (said[:-1].rstrip() if event.rstrip().endswith(b"\n]") else said)) if b'"error"' in said else None


ARRAY = replace(
    GEMINI,
    path=GEMINI.path.partition("?")[0],
    media_type="application/json",
    keepalive=b"",
    keep_open=False,
    preamble=(b"[" + element(GEMINI.preamble[0])[3:],),
    token=lambda said: element(GEMINI.token(said)),
    finish=element(GEMINI.finish),
    end=b"]",
    errors={what: (element(said) + b"]", code) for what, (said, code) in GEMINI.errors.items()},
    split=elements,
    told=lambda event: array_told(event.removesuffix(b"]") if not event.endswith(b"\n]") else event),
)

DOORS: dict[str, Tongue] = {"completions": COMPLETIONS, "generate": GENERATE, "invoke": INVOKE, "array": ARRAY}
"""By a word for the door; a tongue's `name` is its dialect."""
