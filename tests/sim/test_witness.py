"""Counting the events of a stream, however it is cut."""

import random

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.sim.answers import Answer, Prompt, error_frame
from gateway.sim.tempers import Temper
from gateway.sim.witness import EventCounter


def body(tokens: int, speech: str, line_end: bytes) -> bytes:
    dice = random.Random(tokens)
    answer = Answer(Prompt(path="/v1/chat/completions", model="m", include_usage=True), 0, dice)
    answer.compose(Temper(ttft=0, gap=0, tokens=tokens, reasoning=2).draw(dice), speech, 1)
    frames = [answer.role(), b": ping\n\n", *map(answer.frame, answer.pieces), answer.finish(), answer.usage_frame(), b"data: [DONE]\n\n"]
    return b"".join(frames).replace(b"\n", line_end)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(4, 12), st.sampled_from(["words", "multibyte", "tool"]), st.sampled_from([b"\n", b"\r\n"]))
def test_cuts_make_no_difference(data: st.DataObject, tokens: int, speech: str, line_end: bytes) -> None:
    """Fed in any pieces, the counts are those of the whole: comments, role, finish and usage are no deltas."""
    whole = body(tokens, speech, line_end)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=30)))
    counter = EventCounter()
    found = sum(counter.feed(whole[start:end]) for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True))
    assert (counter.events, counter.deltas, found) == (1 + 2 + tokens + 1 + 1 + 1, 2 + tokens, 2 + tokens)
    assert (counter.done, counter.failed) == (True, False)


def test_other_spacing_and_shapes_count_as_well() -> None:
    """A relay that serialises anew puts spaces and other keys: still one delta each."""
    counter = EventCounter()
    for delta in ({"content": "x", "role": "assistant"}, {"role": "assistant", "content": ""}, {"content": None, "reasoning": "hm"}):
        counter.feed(b"data: " + str(orjson.dumps({"choices": [{"delta": delta}]}), "ascii").replace(":", ": ").encode() + b"\n\n")
    assert (counter.events, counter.deltas) == (3, 2)


def test_an_error_event_is_seen_and_a_word_is_not() -> None:
    """Only a truthy top-level `error` is one."""
    counter = EventCounter()
    counter.feed(b'data: {"choices":[],"error":null}\n\n')
    counter.feed(b'data: {"choices":[{"delta":{"content":"an \\"error\\" it is"}}]}\n\n')
    assert not counter.failed
    counter.feed(b"event: error\n" + error_frame("x", "y"))
    assert counter.failed
