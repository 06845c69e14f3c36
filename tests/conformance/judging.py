"""The rules that hold for every SDK and every pair of dialects, judged by what the provider itself says it sent."""

import base64
import itertools
import json
import time

from tests.conformance.outcome import PICTURE, SCHEMA, SYSTEM, TOOLS, Asked, Outcome
from tests.conformance.site import PATHS, PROBLEM, Site

IDLESS = frozenset({"ollama"})
"""Clients whose API knows no ids of tool calls."""
THOUGHTLESS = frozenset({"langchain"})
"""Clients that do not show reasoning."""
IN_ONE_PIECE = frozenset({"gemini", "ollama"})
"""Clients and targets whose API tells a tool call only when its arguments are complete."""
URL_SAFE = bytes.maketrans(b"-_", b"+/")
"""Google takes base64 in both alphabets, and its SDK sends the other one; nobody else does."""
CONNECTION = ("Connection", "Timeout")
_numbers = itertools.count(1)


def question(site: Site, temper: str, target: str, stream: bool, **more: object) -> Asked:
    """Return a question that can be found again by its text, for the provider of this temper, asked in the target's dialect."""
    said = {"tools": temper == "tools", "reasoning": temper == "thoughts", **more}
    text = f"How high is the water? (question-{next(_numbers):05d}-{time.monotonic_ns()})"
    return Asked(url=site.url, model=f"{temper}.to-{target}", text=text, stream=stream, **said)  # type: ignore[arg-type]


def asked_properly(site: Site, asked: Asked) -> None:
    """The upstream was asked once, in its own dialect, for all that the client said."""
    target = asked.model.partition(".to-")[2]
    request = site.request(asked.text)
    assert request.path.startswith(PATHS[target])
    assert SYSTEM.encode() in request.body
    for name, tool in TOOLS.items() if asked.tools else ():
        assert name.encode() in request.body
        assert tool["description"].encode() in request.body
    if asked.picture:
        assert base64.b64encode(PICTURE) in (request.body.translate(URL_SAFE) if target == "gemini" else request.body)
        assert all(name.encode() in request.body for name in SCHEMA["properties"])
    for call in asked.calls:
        assert call.name.encode() in request.body
        assert asked.result.encode() in request.body


def is_text(site: Site, asked: Asked, outcome: Outcome) -> None:
    """Every word arrived, in order, and the end was an end."""
    said = site.said(asked)
    assert (outcome.raised, outcome.message) == ("", "")
    assert outcome.text == said.text
    assert outcome.finish == "stop"
    assert not outcome.calls
    assert not asked.stream or outcome.pieces == said.pieces


def is_thought(client: str, site: Site, asked: Asked, outcome: Outcome) -> None:
    """Reasoning arrived as reasoning, and none of it as the answer."""
    said = site.said(asked)
    assert outcome.raised == ""
    assert outcome.text == said.text
    if client not in THOUGHTLESS:
        assert outcome.reasoning == said.reasoning


def is_tools(client: str, site: Site, asked: Asked, outcome: Outcome) -> None:
    """Every call arrived whole and in order, under an id of its own."""
    said = site.said(asked)
    assert (outcome.raised, outcome.message) == ("", "")
    assert [(call.name, call.arguments) for call in outcome.calls] == [(name, json.loads(text)) for name, text in said.calls]
    assert outcome.finish == "tools"
    if asked.stream and not {client, asked.model.partition(".to-")[2]} & IN_ONE_PIECE:
        assert outcome.pieces == said.pieces
    if client not in IDLESS:
        ids = [call.id for call in outcome.calls]
        assert all(ids)
        assert len(set(ids)) == len(ids)


def is_counted(site: Site, asked: Asked, outcome: Outcome) -> None:
    """The client was told the provider's own counts."""
    said = site.said(asked)
    assert outcome.raised == ""
    assert (outcome.input, outcome.output) == (said.input, said.output)


def is_error(site: Site, asked: Asked, outcome: Outcome) -> None:
    """The SDK raised an error of its API, not of its transport, after all that had been said before."""
    assert outcome.raised
    assert not any(word in outcome.raised for word in CONNECTION), outcome
    assert PROBLEM in outcome.message
    assert outcome.finish is None
    if asked.stream:
        assert outcome.text
        assert site.said(asked).text.startswith(outcome.text)


def is_refusal(outcome: Outcome) -> None:
    """The SDK raised what it raises for this status, and so knows what to do about it."""
    assert outcome.raised
    assert outcome.status == 429
    assert outcome.message


def is_left(site: Site, asked: Asked, left_at: float) -> None:
    """The upstream was cancelled soon after the client's leaving, and the record says who left."""
    request = site.request(asked.text)
    site.eventually(lambda: request.closed_by, "the upstream is cancelled")
    assert request.closed_by == "peer"
    assert request.closed_at is not None
    assert request.closed_at - left_at < 8.0  # a busy machine is late; an answer nobody cancels lasts 20 s
    temper, _, target = asked.model.partition(".to-")
    assert site.outcome(f"{temper}-{target}", request) == "client_disconnect"
