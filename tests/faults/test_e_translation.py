"""What an answer costs that is said anew in another dialect: work in proportion to its length, and memory that does not grow with it."""

import contextlib
import time
import tracemalloc
from typing import Any

import pytest

from gateway.core.events import Delta, Started, ToolOpened
from gateway.core.prompt import Prompt, Text, Turn
from gateway.dialects import DIALECTS
from gateway.dialects.base import Stamp, Writer

HELLO = Prompt(model="m", stream=True, turns=(Turn("user", (Text("hello"),)),), max_tokens=50)
KINDS = ("text", "reasoning", "arguments")
LINEAR, TRIES = 6.0, 4
PIECE, MANY = 4096, 6000
"""24 MB of an answer that does not end."""
KEPT = 10 * 1024**2
"""Bytes that may be kept of it: an answer in one piece is held to 8 MiB, tool arguments for Gemini to 4 MiB."""


def begun(dialect: str, kind: str) -> Writer:
    """Return the writer of an answer that has begun to say something of a kind."""
    writer = DIALECTS[dialect].writer(DIALECTS[dialect].compose(HELLO), Stamp("0" * 32, 1))
    writer.feed([Started("id", "said"), *([ToolOpened(0, "call_1", "look")] if kind == "arguments" else [])])
    return writer


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_long_answer_costs_in_proportion(dialect: str, kind: Any) -> None:
    """Four times the tokens take about four times the CPU, whatever they are and however they are said (E2)."""

    def work(count: int) -> float:
        writer, delta = begun(dialect, kind), [Delta(kind, "x" * 64)]
        started = time.process_time()
        for _ in range(count):
            writer.feed(delta)
        writer.end()
        return time.process_time() - started

    ratios: list[float] = []
    while len(ratios) < TRIES and (not ratios or ratios[-1] > LINEAR):
        ratios.append(work(12_000) / work(3_000))
    assert min(ratios) <= LINEAR, ratios


def kept_of(dialect: str, kind: Any) -> int:
    """Return how many bytes are kept of an answer of 24 MB whose end has not come."""
    writer = begun(dialect, kind)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        with contextlib.suppress(OverflowError):  # how a writer says that it cannot keep more: the client is told of an error
            for number in range(MANY):
                writer.feed([Delta(kind, f"{number:08d}" * (PIECE // 8))])
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dialect", ["openai", "anthropic", "gemini", "bedrock", "azure"])
def test_an_endless_answer_is_not_kept(dialect: str, kind: Any) -> None:
    """However much of it was said, little is kept, also of what must be said in one piece in the end (E1a)."""
    assert kept_of(dialect, kind) < KEPT


@pytest.mark.parametrize("kind", ["text", "reasoning"])
def test_an_endless_answer_is_not_kept_line_by_line(kind: Any) -> None:
    """Nor for Ollama's clients, whose tool calls alone are said in one piece (E1a)."""
    assert kept_of("ollama", kind) < KEPT


@pytest.mark.parametrize(("dialect", "kind"), [*(("openai-responses", kind) for kind in KINDS), ("ollama", "arguments")])
def test_what_must_be_said_again_is_bounded(dialect: str, kind: Any) -> None:
    """What a dialect repeats at the end, or says in one piece, is kept up to a limit: an endless answer must not fill memory (E1a)."""
    assert kept_of(dialect, kind) < KEPT
