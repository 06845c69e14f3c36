"""Calls in every dialect, each with a tag by which providers, clients and records know it again."""

from gateway.core.call import Call
from gateway.core.prompt import Prompt, Text, Turn
from gateway.dialects import DIALECTS
from gateway.sim.doors import ROOTS

MAX_TOKENS = 400


def asking(dialect: str, text: str = "?", *, model: str = "m", stream: bool = True) -> Call:
    """Return a call as a client of a dialect makes it."""
    prompt = Prompt(model=model, stream=stream, turns=(Turn("user", (Text(text),)),), max_tokens=MAX_TOKENS)
    return DIALECTS[dialect].compose(prompt)


def request(call: Call, tag: str, *, silent_about_usage: bool = False) -> bytes:
    """Return the whole HTTP request; a client of OpenAI's may say nothing about usage, as most do."""
    body = call.body
    if silent_about_usage:
        body = body.replace(b',"stream_options":{"include_usage":true}', b"")
    lines = [
        f"POST {ROOTS.get(call.dialect, '')}{call.path} HTTP/1.1",
        "Host: weir",
        "Content-Type: application/json",
        f"x-weir-tag-chaos: {tag}",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body
