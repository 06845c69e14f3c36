"""The words and frames of one answer."""

import base64
import random
import struct

import orjson
import pytest

from gateway.sim.answers import Answer, Prompt, embeddings_document, read_prompt
from gateway.sim.tempers import Temper

CHAT = "/v1/chat/completions"


def answer(prompt: Prompt, **temper: object) -> Answer:
    shape = Temper(ttft=0, gap=0, **({"tokens": 12} | temper))  # type: ignore[arg-type]
    dice = random.Random(1)
    made = Answer(prompt, 0, dice)
    made.compose(shape.draw(dice), shape.speech, shape.tokens_per_chunk)
    return made


def choices(made: Answer) -> list[dict]:
    return [orjson.loads(made.frame(piece)[6:])["choices"][0] for piece in made.pieces]


def test_prompt_reads_what_an_answer_depends_on() -> None:
    """Fields that shape an answer are read; the model has a default and prompt tokens follow the length of the body."""
    body = b'{"stream":true,"stream_options":{"include_usage":true},"max_completion_tokens":7,"pad":"%b"}' % (b"x" * 400)
    prompt = read_prompt(CHAT, body, "fallback")
    assert (prompt.model, prompt.stream, prompt.include_usage, prompt.max_tokens) == ("fallback", True, True, 7)
    assert prompt.input_tokens == len(body) // 4


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"x"'])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    """Only a JSON object is a request."""
    with pytest.raises(ValueError):
        read_prompt(CHAT, body, "m")


def test_tokens_per_chunk_changes_chunks_not_tokens() -> None:
    """Twelve tokens by five are three chunks and still twelve tokens."""
    made = answer(Prompt(path=CHAT, model="m"), tokens_per_chunk=5)
    assert [piece.tokens for piece in made.pieces] == [5, 5, 2]
    assert made.usage()["completion_tokens"] == 12


def test_max_tokens_cuts_with_reason_length() -> None:
    """The ceiling counts reasoning too, and the finish reason says so."""
    made = answer(Prompt(path=CHAT, model="m", max_tokens=10), reasoning=8)
    assert (made.tokens, made.reasoning, made.finish_reason) == (10, 8, "length")


def test_reasoning_comes_first_and_only_in_chat() -> None:
    """A thinker's first deltas are reasoning_content; a text completion has none."""
    deltas = [list(choice["delta"]) for choice in choices(answer(Prompt(path=CHAT, model="m"), reasoning=3))]
    assert deltas == [["reasoning_content"]] * 3 + [["content"]] * 12
    assert answer(Prompt(path="/v1/completions", model="m"), reasoning=3).tokens == 12


def test_tool_call_arguments_join_to_json() -> None:
    """Tool speech opens a call, then sends arguments that are one JSON object."""
    made = answer(Prompt(path=CHAT, model="m"), speech="tool")
    deltas = [choice["delta"]["tool_calls"][0] for choice in choices(made)]
    assert deltas[0]["function"]["name"] == "measure_flow"
    assert set(orjson.loads("".join(delta["function"]["arguments"] for delta in deltas))) == {"place"}
    assert (made.finish_reason, made.tokens) == ("tool_calls", 12)
    message = orjson.loads(made.document())["choices"][0]["message"]
    assert orjson.loads(message["tool_calls"][0]["function"]["arguments"])


def test_two_tool_calls_follow_each_other() -> None:
    """Each has an index and an id of its own, and arguments that are one JSON object."""
    made = answer(Prompt(path=CHAT, model="m"), speech="tools")
    deltas = [choice["delta"]["tool_calls"][0] for choice in choices(made)]
    assert [delta["index"] for delta in deltas] == [0] * 6 + [1] * 6
    calls = orjson.loads(made.document())["choices"][0]["message"]["tool_calls"]
    assert len({call["id"] for call in calls}) == 2
    assert all(orjson.loads(call["function"]["arguments"]) for call in calls)


def test_cached_input_is_part_of_the_input() -> None:
    """No more of the input can come from the cache than there is."""
    assert answer(Prompt(path=CHAT, model="m", input_tokens=9), cached=4).usage()["prompt_tokens_details"] == {"cached_tokens": 4}
    assert answer(Prompt(path=CHAT, model="m", input_tokens=2), cached=4).usage()["prompt_tokens_details"] == {"cached_tokens": 2}


def test_usage_is_null_on_chunks_only_when_asked_for() -> None:
    """With include_usage every other chunk says usage null, as OpenAI does; without it the key is absent."""
    asked, silent = (answer(Prompt(path=CHAT, model="m", include_usage=include)) for include in (True, False))
    assert orjson.loads(asked.role()[6:])["usage"] is None
    assert "usage" not in orjson.loads(silent.role()[6:])
    assert orjson.loads(asked.usage_frame()[6:])["choices"] == []


def test_embeddings_are_the_same_as_floats_and_as_base64() -> None:
    """Both encodings hold the same vectors."""
    plain, packed = (
        orjson.loads(embeddings_document(Prompt(path="/v1/embeddings", model="m", inputs=2, base64=b), random.Random(1)))["data"]
        for b in (False, True)
    )
    assert [row["index"] for row in plain] == [0, 1]
    assert struct.unpack("<16f", base64.b64decode(packed[1]["embedding"])) == pytest.approx(plain[1]["embedding"], rel=1e-6)
