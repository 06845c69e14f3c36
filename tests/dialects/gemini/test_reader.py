"""What Gemini's streams say, in either framing, at any cut, and when they are odd."""

import contextlib
import itertools
import json
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.call import Call
from gateway.core.events import Delta, Event, Failed, Finished, Started, Terminated, ToolOpened, Usage
from gateway.dialects.base import Stamp
from gateway.dialects.gemini import GEMINI
from gateway.wire.framing import Frame

NAMED = {"modelVersion": "gemini-2.5-flash", "responseId": "r-1"}


def chunk(*parts: dict, finish: str | None = None, **members: object) -> dict:
    """A chunk of one candidate."""
    candidate = {"content": {"parts": list(parts), "role": "model"}, **({"finishReason": finish} if finish else {}), "index": 0}
    return {"candidates": [candidate], **members, **NAMED}


def counts(prompt: int | None = None, candidates: int | None = None, total: int | None = None, **more: int) -> dict:
    said = {"promptTokenCount": prompt, "candidatesTokenCount": candidates, "totalTokenCount": total, **more}
    return {"usageMetadata": {name: count for name, count in said.items() if count is not None}}


STARTED = Started("r-1", "gemini-2.5-flash")
CASES: dict[str, tuple[list[dict], list[Event]]] = {
    "text": (
        [
            chunk({"text": "Good "}, **counts(4, None, 4)),
            chunk({"text": 'day, "you" }{'}, **counts(4, 2, 6)),
            chunk({"text": ""}, finish="STOP", **counts(4, 5, 9)),
        ],
        [STARTED, Delta("text", "Good "), Usage(4, 0), Delta("text", 'day, "you" }{'), Usage(4, 2), Finished("STOP"), Usage(4, 5)],
    ),
    "finish on every chunk": (
        [chunk({"text": "a"}, finish="STOP"), chunk({"text": "b"}, finish="STOP"), chunk({"text": "c"}, finish="MAX_TOKENS")],
        [
            *(STARTED, Delta("text", "a"), Finished("STOP"), Delta("text", "b"), Finished("STOP")),
            *(Delta("text", "c"), Finished("MAX_TOKENS", "length")),
        ],
    ),
    "thoughts": (
        [
            chunk({"text": "Hm.", "thought": True}, **counts(4, None, 10, thoughtsTokenCount=6)),
            chunk({"text": "42"}, finish="STOP", **counts(4, 2, 12, thoughtsTokenCount=6)),
        ],
        [STARTED, Delta("reasoning", "Hm."), Usage(4, 6, reasoning=6), Delta("text", "42"), Finished("STOP"), Usage(4, 8, reasoning=6)],
    ),
    "tools": (
        [
            chunk({"functionCall": {"name": "look", "args": {"at": "the sky"}}, "thoughtSignature": "c2ln"}),
            chunk({"functionCall": {"id": "f-2", "name": "wait"}}, {"functionCall": {"name": "look", "args": {}}}),
            {"candidates": [{"finishReason": "STOP"}], **NAMED},
        ],
        [
            STARTED,
            ToolOpened(0, None, "look"),
            Delta("arguments", '{"at":"the sky"}', 0),
            ToolOpened(1, "f-2", "wait"),
            Delta("arguments", "{}", 1),
            ToolOpened(2, None, "look"),
            Delta("arguments", "{}", 2),
            Finished("STOP", "tools"),
        ],
    ),
    "blocked prompt": (
        [{"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, **counts(8, None, 8), **NAMED}],
        [STARTED, Finished("PROHIBITED_CONTENT", "filtered"), Usage(8, 0)],
    ),
    "error at the end": (
        [chunk({"text": "So"}), {"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}],
        [STARTED, Delta("text", "So"), Failed("UNAVAILABLE", "overloaded")],
    ),
}


def sse(chunks: Sequence[dict]) -> bytes:
    return b"".join(b"data: " + json.dumps(said, separators=(",", ":")).encode() + b"\r\n\r\n" for said in chunks)


def array(chunks: Sequence[dict]) -> bytes:
    """The same as one array, indented as Google indents it."""
    return b"[" + b"\n,\r\n".join(json.dumps(said, indent=2).encode() for said in chunks) + b"\n]\n"


def call(query: str = "?alt=sse", body: bytes = b"{}", verb: str = "streamGenerateContent", **members: object) -> Call:
    """A call as `parse_call` makes it."""
    path = f"/v1beta/models/gemini-2.5-flash:{verb}{query}"
    stream = verb == "streamGenerateContent"
    return Call(dialect="gemini", operation="chat", path=path, model="gemini-2.5-flash", body=body, stream=stream, **members)


STREAMED = call()
ARRAYED = call(query="")


def frames(dialect_call: Call, *chunks: bytes) -> list[Frame]:
    """Cut a stream into frames and hold the parser to the law: nothing is lost."""
    parser = GEMINI.framing(dialect_call).parser()
    found = [frame for chunk in chunks for frame in parser.feed(chunk)]
    assert b"".join(frame.raw for frame in found) + parser.tail == b"".join(chunks)
    return found


def told(dialect_call: Call, *chunks: bytes) -> list[Event]:
    reader = GEMINI.reader(dialect_call)
    return [event for frame in frames(dialect_call, *chunks) for event in reader.events(frame)]


def read(*documents: object) -> list[Event]:
    """What some chunks say to a reader of a stream that has named itself."""
    reader = GEMINI.reader(STREAMED)
    reader.events(framed(json.dumps(NAMED).encode()))
    return [event for document in documents for event in reader.events(framed(json.dumps(document).encode()))]


def framed(data: bytes) -> Frame:
    return Frame(b"data: " + data + b"\r\n\r\n", data, "")


def unfinished(events: Sequence[Event]) -> list[Event]:
    return [event for event in events if type(event) is not Finished]


def last_finish(events: Sequence[Event]) -> list[Event]:
    return [event for event in events if type(event) is Finished][-1:]


@pytest.mark.parametrize("name", CASES)
def test_a_stream_of_events_is_read(name):
    """Each case says what it should, and has no end marker."""
    chunks, events = CASES[name]
    assert told(STREAMED, sse(chunks)) == events


@pytest.mark.parametrize("name", CASES)
def test_the_same_as_an_array_says_the_same_and_ends(name):
    """An array tells its finish, the last one, when it closes: until then it is not whole."""
    chunks, events = CASES[name]
    assert told(ARRAYED, array(chunks)) == [*unfinished(events), *last_finish(events), Terminated()]
    assert told(ARRAYED, array(chunks).rstrip(b"\n]")) == unfinished(events)


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(sorted(CASES)), arrayed=st.booleans(), places=st.lists(st.integers(0, 10_000), max_size=8))
def test_every_cut_says_the_same(name, arrayed, places):
    """However a stream is cut into reads, its events are the same."""
    dialect_call, stream = (ARRAYED, array(CASES[name][0])) if arrayed else (STREAMED, sse(CASES[name][0]))
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    assert told(dialect_call, *(stream[start:end] for start, end in itertools.pairwise(edges))) == told(dialect_call, stream)
    assert told(dialect_call, *(stream[at : at + 1] for at in range(len(stream)))) == told(dialect_call, stream)


@pytest.mark.parametrize("name", ["text", "thoughts", "tools"])
@pytest.mark.parametrize("to", [STREAMED, ARRAYED], ids=["events", "array"])
def test_events_written_are_read_as_the_same_events(name, to):
    """Writer and reader agree: what is said comes back, finish and counts once and at the end."""
    events = CASES[name][1]
    asked = msgspec.structs.replace(to, body=b'{"generationConfig":{"thinkingConfig":{"includeThoughts":true}}}')
    writer = GEMINI.writer(asked, Stamp("stamp-1", 1_700_000_000))
    stream = b"".join(writer.feed([event]) for event in events) + writer.end()
    told_again = told(to, stream)
    said = [event for event in told_again if type(event) not in {Terminated, Usage, Finished}]
    assert [_nameless(event) for event in said] == [_nameless(event) for event in events if type(event) not in {Usage, Finished}]
    assert last_finish(told_again) == last_finish(events)
    assert [event for event in told_again if type(event) is Usage][-1:] == [event for event in events if type(event) is Usage][-1:]


def _nameless(event: Event) -> Event:
    return ToolOpened(event.index, None, event.name) if type(event) is ToolOpened else event


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"candidates": []},
        {"candidates": None},
        chunk(),
        chunk({"text": ""}),
        chunk({"text": "", "thought": True}),
        chunk({"text": "", "thoughtSignature": "c2ln"}),
        chunk({"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}}),
        {"candidates": [{"content": {"role": "model"}, "index": 0}]},
        {"candidates": [{"finishReason": "FINISH_REASON_UNSPECIFIED", "index": 0}]},
        {"promptFeedback": {"safetyRatings": []}},
        {"usageMetadata": {"trafficType": "ON_DEMAND"}},
        {"usageMetadata": {}},
        {"error": None},
    ],
)
def test_what_is_no_token_is_no_event(document):
    """Empty text, signatures, ratings and kinds of traffic say nothing."""
    assert read(document) == []


@pytest.mark.parametrize(
    ("document", "events"),
    [
        (chunk({"executableCode": {"language": "PYTHON", "code": "print(1)"}}), [Delta("text", "print(1)")]),
        (chunk({"inlineData": {"mimeType": "audio/pcm", "data": "AAAA"}}), [Delta("audio", "AAAA")]),
        ({"candidates": [{"content": {"parts": [{"text": "b"}]}, "index": 1}]}, [Delta("text", "b", 1)]),
        ({"candidates": [{"finishReason": "SAFETY"}]}, [Finished("SAFETY", "filtered")]),
        ({"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL"}]}, [Finished("MALFORMED_FUNCTION_CALL", "other")]),
        ({"candidates": [{"finishReason": "W" * 99}]}, [Finished("W" * 64, "other")]),
        ({"candidates": [{"finishReason": 2}]}, [Finished("MAX_TOKENS", "length")]),
        ({"promptFeedback": {"blockReason": 4}}, [Finished("OTHER", "filtered")]),
        ({"error": {"code": 429, "message": "m" * 2000}}, [Failed("429", "m" * 1000)]),
        ({"error": "gone"}, [Failed("upstream_error", "gone")]),
    ],
)
def test_every_kind_of_chunk_is_understood(document, events):
    """Code is text, sound is sound, enums may be numbers, and what is too long is clipped."""
    assert read(document) == events


@pytest.mark.parametrize(
    ("counted", "usage"),
    [
        (counts(10, 7, 17), Usage(10, 7)),
        (counts(10, 7, 29, thoughtsTokenCount=12), Usage(10, 19, reasoning=12)),
        (counts(10, 19, 29, thoughtsTokenCount=12), Usage(10, 19, reasoning=12)),
        (counts(10, 7, 22, toolUsePromptTokenCount=5), Usage(15, 7)),
        (counts(10, 7, 17, cachedContentTokenCount=4), Usage(10, 7, cached=4)),
        (counts(10, 7), Usage(10, 7)),
        (counts(10, 7, None, thoughtsTokenCount=3), Usage(10, 10, reasoning=3)),
        (counts(10), Usage(10)),
        (counts(10, 0, 10, cachedContentTokenCount=0), Usage(10, 0, cached=0)),
        (counts(10, 7, 3), Usage(10, 7)),
        (counts(-1, 7), Usage(None, 7)),
        (counts(2**63, 2**70), None),
    ],
)
def test_output_is_what_the_total_leaves(counted, usage):
    """Whether the candidates' count holds the thoughts differs by service; the total does not."""
    assert read(counted) == ([] if usage is None else [usage])


def test_the_last_counts_hold_and_nothing_erases_them():
    """Counts are cumulative; a chunk that says fewer of them, or none, leaves the others as they were."""
    three = read(counts(4, 1, 5, cachedContentTokenCount=2), chunk({"text": "x"}), counts(None, 3), counts(None, None, 9))
    assert [event for event in three if type(event) is Usage] == [Usage(4, 1, 2), Usage(4, 3, 2), Usage(4, 5, 2)]


def test_arguments_that_come_in_pieces_are_one_call():
    """Vertex streams arguments to clients that ask for it: one call, opened once."""
    pieces = [
        chunk({"functionCall": {"name": "look", "willContinue": True}}),
        chunk({"functionCall": {"partialArgs": [{"jsonPath": "$.at", "stringValue": "sky"}], "willContinue": True}}),
        chunk({"functionCall": {}}),
        chunk({"functionCall": {"name": "wait"}}),
    ]
    assert read(*pieces) == [
        ToolOpened(0, None, "look"),
        Delta("arguments", '[{"jsonPath": "$.at", "stringValue": "sky"}]', 0),
        ToolOpened(1, None, "wait"),
        Delta("arguments", "{}", 1),
    ]


def test_an_error_outside_of_any_event_is_read():
    """Google's front ends write an error as plain JSON over several lines in the middle of a stream of events."""
    bare = json.dumps({"error": {"code": 503, "message": "m", "status": "UNAVAILABLE"}}, indent=2).encode() + b"\r\n\r\n"
    assert told(STREAMED, sse([chunk({"text": "a"})]) + bare)[-1] == Failed("UNAVAILABLE", "m")
    assert told(STREAMED, b"[" + bare.strip() + b"]\n\n") == [Failed("UNAVAILABLE", "m")]
    assert told(STREAMED, b': {"error"\n\n{"error": \n\n{"ok":1}\n\n') == []


def test_odd_shapes_are_read_as_far_as_they_go():
    """Numbers as strings, wrong types, half characters and lists where an object should be."""
    odd = {**chunk({"text": "x"}, "y", {"text": 7}), "usageMetadata": {"promptTokenCount": "5"}, "error": [], "modelVersion": 3}
    assert read(odd) == [Delta("text", "x"), Usage(5)]
    assert read([chunk({"text": "x"}), chunk({"functionCall": {"name": "f", "args": "no"}})])[0] == Delta("text", "x")
    far = b'{"candidates":[{"content":{"parts":[{"text":"x"}]},"index":9223372036854775808}]}'
    assert list(GEMINI.reader(STREAMED).events(framed(far))) == [Delta("text", "x")]
    half = json.dumps(chunk({"text": "a\ud83d"})).encode()
    assert list(GEMINI.reader(STREAMED).events(framed(half)))[1:] == [Delta("text", "a\ud83d")]


def test_names_can_be_recorded():
    """Half a character fits no record: in ids, models and reasons it is a question mark."""
    half = b'{"responseId":"r\\ud83d","modelVersion":"m\\ud83d","candidates":[{"finishReason":"\\ud83d"}]}'
    assert list(GEMINI.reader(STREAMED).events(framed(half))) == [Started("r?", "m?"), Finished("?", "other")]


def test_a_stream_names_itself_once():
    """Id and model are told when they are known, clipped, and not again."""
    reader = GEMINI.reader(STREAMED)
    assert list(reader.events(framed(b'{"modelVersion":"' + b"m" * 300 + b'"}'))) == [Started(None, "m" * 256)]
    assert list(reader.events(framed(b'{"modelVersion":"n","responseId":"r"}'))) == [Started("r", "m" * 256)]
    assert list(reader.events(framed(b'{"modelVersion":"n","responseId":"s"}'))) == []


@pytest.mark.parametrize("data", [b"[DONE]", b"]", b"nonsense", b"{", b"3", b"[]", b'"x"', b"\xff\xfe", b"[" * 5000])
def test_what_cannot_be_read_is_a_decode_error(data):
    """Nothing but the error that is expected."""
    with pytest.raises(msgspec.DecodeError):
        GEMINI.reader(STREAMED).events(framed(data))


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["candidates", "content", "parts", "text", "thought", "functionCall", "args", "name", "finishReason", "usageMetadata",
             "promptTokenCount", "totalTokenCount", "error", "code", "index", "promptFeedback", "blockReason", "modelVersion"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(data=st.binary(max_size=60) | JSONS.map(lambda found: json.dumps(found).encode()), arrayed=st.booleans())
def test_nothing_else_is_ever_raised(data, arrayed):
    """Random bytes and random JSON give events or a decode error."""
    reader = GEMINI.reader(ARRAYED if arrayed else STREAMED)
    with contextlib.suppress(msgspec.DecodeError):
        assert all(type(event) is not Delta or event.text for event in reader.events(framed(data)))
    assert type(GEMINI.read_error(500, data)) is Failed


@pytest.mark.parametrize(
    ("body", "failed"),
    [
        (b'{"error":{"code":429,"message":"slow down","status":"RESOURCE_EXHAUSTED"}}', Failed("RESOURCE_EXHAUSTED", "slow down")),
        (b'[{"error":{"code":429,"message":"slow down"}}]', Failed("429", "slow down")),
        (b'{"error":{"message":"m"}}', Failed("503", "m")),
        (b"<html>Bad gateway</html>", Failed("503", "<html>Bad gateway</html>")),
        (b"", Failed("503", "")),
        (b"[]", Failed("503", "")),
    ],
)
def test_error_answers_are_read(body, failed):
    """An error object, the same in an array, or whatever a front end says."""
    assert GEMINI.read_error(503, body) == failed


def test_a_document_is_read_whole():
    """Text, tool calls, finish and counts; a list of chunks too; an empty one is no answer; counted tokens were not used."""
    one = call(verb="generateContent", query="")
    body = json.dumps(chunk({"text": "a"}, {"functionCall": {"name": "f"}}, finish="STOP", **counts(1, 2, 3)), indent=1).encode()
    events = [STARTED, Delta("text", "a"), ToolOpened(0, None, "f"), Delta("arguments", "{}", 0), Finished("STOP", "tools"), Usage(1, 2)]
    assert GEMINI.read_document(one, body) == events
    assert GEMINI.read_document(ARRAYED, b"[" + body + b"]") == events
    with pytest.raises(msgspec.DecodeError):
        GEMINI.read_document(one, b" \n")
    counting = msgspec.structs.replace(one, operation="count_tokens")
    assert GEMINI.read_document(counting, b'{"totalTokens":31,"promptTokensDetails":[]}') == []
