"""A writer that follows what another has written goes on as that one would have: in every dialect, after every frame."""

from typing import Any

import orjson
import pytest
from msgspec import structs

from gateway.core.answer import fold
from gateway.core.events import Delta, Event, Finished, Started, Terminated, Usage
from gateway.core.prompt import Prompt, Text, Turn
from gateway.dialects import DIALECTS
from gateway.dialects.base import Asked, Stamp
from gateway.dialects.openai.writer import ChunkWriter
from tests.rig.makers import Makers

HELLO = Prompt(model="m", stream=True, turns=(Turn("user", (Text("hello"),)),), max_tokens=50)
STARTED, USAGE = Started("id-of-theirs", "model-of-theirs"), Usage(input=3, output=4)
TEXTS = ["Once ", "upon", " a", "\n", "time"]
ENDING: list[Event] = [Finished("stop"), USAGE, Terminated()]


def whole(writer: Any, events: list[Event]) -> list[bytes]:
    """Write an answer, a list of what each event became."""
    return [writer.feed((event,)) for event in events] + [writer.end()]


@pytest.mark.parametrize(("name", "array"), [*((name, False) for name in DIALECTS), ("gemini", True)])
def test_the_rest_is_what_the_first_would_have_said(name: str, array: bool) -> None:
    """Byte for byte, wherever text has been said before: ids, numbers, blocks, and what the end repeats."""
    dialect = DIALECTS[name]
    call, _ = Makers.call(name, HELLO)
    if array:
        call = dialect.parse_call(dialect.endpoints[0], call.body, Asked({"model": "m"}))
    events = [STARTED, *(Delta("text", text) for text in TEXTS), *ENDING]
    first = whole(dialect.writer(call, Stamp("1", 7)), events)
    for spoken in range(2, 2 + len(TEXTS)):
        second, parser = dialect.writer(call, Stamp("2", 7)), dialect.framing(call).parser()
        frames = [frame for frame in parser.feed(b"".join(first[:spoken])) if frame.data]
        assert [second.follow(frame) for frame in frames][-1]
        assert b"".join(whole(second, events[spoken:])) == b"".join(first[spoken:])


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(b"event: %b\ndata: %b\n\n" % (event["type"].encode(), orjson.dumps(event)) for event in events)


THOUGHTFUL = (
    {"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "content": []}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "sig"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "ping"},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Once"}},
)
PLACES = [False, False, False, False, True, True, True, True]


def test_anthropics_thoughts_stay_their_own() -> None:
    """A thought that is open is no place to go on; after it the text goes on in its own block, and is closed once."""
    dialect = DIALECTS["anthropic"]
    call, _ = Makers.call("anthropic", HELLO)
    writer, sent = dialect.writer(call, Stamp("2", 7)), sse(*THOUGHTFUL)
    frames = dialect.framing(call).parser().feed(sent)
    assert [writer.follow(frame) for frame in frames][1:] == PLACES[1:]
    rest = b"".join(whole(writer, [Delta("text", " upon"), *ENDING]))
    assert rest.startswith(b'event: content_block_delta\ndata: {"type":"content_block_delta","index":1,')
    assert (rest.count(b"content_block_start"), rest.count(b"message_start"), rest.count(b"signature_delta")) == (0, 0, 0)
    assert rest.count(b'"type":"content_block_stop","index":1') == 1
    answer = fold(Makers.heard(call, sent + rest))
    assert (answer.text, answer.reasoning) == ("Once upon", "hm")


RESPONSE = {"id": "resp_1", "object": "response", "created_at": 5, "model": "gpt-x", "status": "in_progress", "output": []}
REASONING = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "sealed"}
MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
PART = {"type": "output_text", "text": "", "annotations": []}
PLACE = {"item_id": "msg_1", "output_index": 1, "content_index": 0}
REASONED = (
    {"type": "response.created", "response": RESPONSE},
    {"type": "response.output_item.added", "output_index": 0, "item": REASONING},
    {"type": "response.output_item.done", "output_index": 0, "item": REASONING},
    {"type": "response.output_item.added", "output_index": 1, "item": MESSAGE},
    {"type": "response.content_part.added", **PLACE, "part": PART},
    {"type": "response.output_text.delta", **PLACE, "delta": "Once"},
    {"type": "response.output_text.done", **PLACE, "text": "Once"},
)


def test_a_response_goes_on_in_its_own_item_and_numbers() -> None:
    """The end repeats the whole: reasoning as it was sealed, the text of both, under the ids and numbers that were given."""
    dialect = DIALECTS["openai-responses"]
    call, _ = Makers.call("openai-responses", HELLO)
    writer = dialect.writer(call, Stamp("2", 7))
    sent = sse(*({**event, "sequence_number": number} for number, event in enumerate(REASONED)))
    frames = dialect.framing(call).parser().feed(sent)
    assert [writer.follow(frame) for frame in frames[:6]] == [True, False, True, True, True, True]
    rest = b"".join(whole(writer, [Delta("text", " upon"), *ENDING]))
    events = [orjson.loads(line[6:]) for line in rest.split(b"\n") if line.startswith(b"data: ")]
    assert [event["sequence_number"] for event in events] == list(range(6, 6 + len(events)))
    assert (events[0]["type"], events[0]["item_id"], events[0]["output_index"]) == ("response.output_text.delta", "msg_1", 1)
    last = events[-1]["response"]
    assert (last["id"], last["created_at"], last["model"], last["output"][0]) == ("resp_1", 5, "gpt-x", REASONING)
    assert (last["output"][1]["id"], last["output"][1]["content"][0]["text"]) == ("msg_1", "Once upon")
    other = dialect.writer(call, Stamp("2", 7))
    assert [other.follow(frame) for frame in frames][-1] is False  # between the end of a text and that of its item


def test_azures_first_chunk_names_nothing() -> None:
    """The id and the model are those of the first chunk that has them."""
    call, _ = Makers.call("azure", HELLO)
    writer = ChunkWriter(call, Stamp("2", 7))
    sent = b'data: {"id":"","model":"","choices":[],"prompt_filter_results":[]}\n\n' + Makers.event() + Makers.event("a")
    for frame in DIALECTS["azure"].framing(call).parser().feed(sent):
        assert writer.follow(frame)
    assert writer.feed((Delta("text", "b"),)).startswith(
        b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"said"'
    )


@pytest.mark.parametrize(
    ("name", "model", "prefills"),
    [
        *(("anthropic", model, True) for model in ("claude-3-5-sonnet-20241022", "claude-sonnet-4-5", "claude-opus-4-1-20250805")),
        *(
            ("anthropic", model, False)
            for model in ("claude-opus-4-6", "claude-sonnet-4-6-20260514", "claude-sonnet-5", "kimi-k2", "claude")
        ),
        ("bedrock", "us.anthropic.claude-3-haiku-20240307-v1:0", True),
        ("bedrock", "anthropic.claude-sonnet-4-5-20250929-v1:0", True),
        ("bedrock", "us.anthropic.claude-opus-4-6-v1", False),
        ("bedrock", "amazon.nova-pro-v1:0", False),
        *(("gemini", model, True) for model in ("gemini-2.5-flash", "gemini-3-pro-preview", "models/gemini-2.0-flash")),
        *(("gemini", model, False) for model in ("gemini-3.6-flash", "gemini-flash-latest", "gemma-3")),
        ("ollama", "llama3.1", True),
        *((name, "gpt-4o", False) for name in ("openai", "azure", "openai-responses")),
    ],
)
def test_who_goes_on_with_a_last_turn_of_its_own(name: str, model: str, prefills: bool) -> None:
    """Only models that are known to: the others are asked to continue."""
    assert DIALECTS[name].prefills(structs.replace(HELLO, model=model)) is prefills
