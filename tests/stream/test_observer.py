"""What the observer makes of a stream: the right event at the right time, at any cut, and nothing it cannot survive."""

import json
import time
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from gateway.core.events import Failed, Usage
from gateway.core.record import Cadence
from gateway.dialects.base import Asked
from gateway.dialects.openai import OPENAI
from gateway.dialects.responses import RESPONSES
from gateway.stream.cadence import CadenceMeter
from gateway.stream.observer import DocumentObserver, Observer

CALL = OPENAI.parse_call(OPENAI.endpoints[0], b'{"model":"m","stream":true}', Asked())
DONE = b"data: [DONE]\n\n"
SEEN = (
    *("first_event_at", "first_token_at", "first_answer_at", "last_token_at", "last_kind", "response_id", "model", "usage", "finish"),
    *("failure", "terminated", "errors", "spoke", "complete"),
)


def observer(threshold: float = 1.0) -> tuple[Observer, CadenceMeter]:
    meter = CadenceMeter(threshold)
    return Observer(OPENAI, CALL, meter), meter


def event(document: object, end: bytes = b"\n\n") -> bytes:
    return b"data: " + json.dumps(document, ensure_ascii=False).encode() + end


def chunk(delta: object = None, end: bytes = b"\n\n", finish: str | None = None, **more: object) -> bytes:
    return event({"id": "c-1", "model": "m-1", "choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish}], **more}, end)


def usage(**counts: object) -> bytes:
    return event({"id": "c-1", "choices": [], "usage": counts})


def watch(*reads: bytes, step: float = 0.0) -> tuple[Observer, CadenceMeter]:
    made, meter = observer()
    for number, read in enumerate(reads):
        made.feed(read, 100.0 + number * step)
    return made, meter


def seen(made: Observer) -> dict:
    return {name: getattr(made, name) for name in SEEN}


STREAM = b"".join(
    [
        b": ping\n\n",
        event({"id": "", "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}, b"\r\n\r\n"),
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning_content": "grüß 漢字"}, b"\r\r"),
        chunk({"content": "👩‍👩‍👧‍👦 \u2028 \x85 ñ"}, b"\r\n\r\n"),
        b'event: x\ndata: {"choices":\ndata: [{"delta":{"content":"two lines"}}]}\n\n',
        chunk({"tool_calls": [{"index": 0, "id": "t", "function": {"name": "f", "arguments": '{"ü'}}]}),
        b"data: {bad json\n\n",
        b"data: 5\n\n",
        chunk(finish="tool_calls"),
        usage(prompt_tokens=9, completion_tokens=0, prompt_tokens_details={"cached_tokens": None}),
        DONE,
        chunk({"content": "after the end"}),
    ]
)
WHOLE = seen(watch(STREAM)[0])


def test_the_fixture_says_what_it_should():
    """The whole fixture in one read: names, kinds, usage, errors counted, and nothing after the end marker."""
    assert WHOLE["errors"] == {"json": 1, "shape": 1}
    assert (WHOLE["response_id"], WHOLE["model"], WHOLE["finish"]) == ("c-1", "m-1", ["tool_calls"])
    assert (WHOLE["usage"], WHOLE["last_kind"]) == (Usage(input=9, output=0), "arguments")
    assert WHOLE["terminated"]
    assert WHOLE["complete"]
    assert WHOLE["failure"] is None


@pytest.mark.parametrize("place", range(len(STREAM) + 1))
def test_every_split_sees_the_same(place):
    """Cut anywhere, in a character, in a line end, in a field name: the same account."""
    assert seen(watch(STREAM[:place], STREAM[place:])[0]) == WHOLE


def test_one_byte_at_a_time_sees_the_same():
    """The smallest reads there are change nothing but the number of arrivals."""
    made, meter = watch(*(STREAM[at : at + 1] for at in range(len(STREAM))))
    assert seen(made) == WHOLE
    assert meter.report().chunks == watch(STREAM)[1].report().chunks == 4


@settings(max_examples=200, deadline=None)
@given(places=st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_any_cuts_see_the_same(places):
    """The account does not depend on how the network cut the stream."""
    edges = [0, *sorted(places), len(STREAM)]
    reads = [STREAM[start:end] for start, end in pairwise(edges)]
    assert seen(watch(*reads)[0]) == WHOLE


def test_each_time_is_stamped_at_its_own_event():
    """Ping at 150 ms, filter chunk 200, role 250, reasoning 400, tool 700, content 900: each moment is told apart (D1)."""
    made, meter = observer()
    made.feed(b": ping\n\n", 0.150)
    made.feed(event({"id": "", "model": "", "created": 0, "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}), 0.200)
    made.feed(chunk({"role": "assistant", "content": ""}), 0.250)
    assert not made.spoke
    made.feed(chunk({"reasoning_content": "hm"}), 0.400)
    assert made.spoke
    made.feed(chunk({"tool_calls": [{"index": 0, "id": "t", "function": {"name": "f", "arguments": ""}}]}), 0.700)
    made.feed(chunk({"content": "hi"}), 0.900)
    assert (made.first_event_at, made.first_token_at, made.first_answer_at, made.last_token_at) == (0.2, 0.4, 0.7, 0.9)
    assert (made.last_kind, meter.last_at, meter.report().chunks) == ("text", 0.9, 3)


def test_a_stream_of_tool_calls_alone_has_a_first_token():
    """No text ever, but arguments for a quarter of an hour: first token and first answer at the first tool delta, and no stall."""
    made, meter = observer()
    made.feed(chunk({"role": "assistant", "content": None}), 1.0)
    made.feed(chunk({"tool_calls": [{"index": 0, "id": "t", "function": {"name": "f", "arguments": ""}}]}), 2.0)
    for number in range(1000):
        made.feed(chunk({"tool_calls": [{"index": 0, "function": {"arguments": "x"}}]}), 2.9 + 0.9 * number)
    assert (made.first_token_at, made.first_answer_at, made.last_kind) == (2.0, 2.0, "arguments")
    assert (meter.report().stall_count, meter.report().chunks, made.errors) == (0, 1001, {})


def test_a_stream_without_tokens_has_no_times_of_tokens():
    """Zero tokens: no first token, no gap, but a proper end."""
    made, meter = watch(chunk({"role": "assistant", "content": ""}) + chunk(finish="stop") + DONE)
    assert (made.first_token_at, made.first_answer_at, made.last_token_at, made.last_kind, made.spoke) == (None, None, None, None, False)
    assert made.complete
    assert meter.report() == Cadence()


def test_reads_make_arrivals_and_frames_make_chunks():
    """Three token frames in one read are one arrival: no gap between them."""
    _, meter = watch(chunk({"content": "a"}) * 3, chunk({"content": "b"}), chunk({"role": "x"}), chunk({"content": "c"}), step=0.25)
    report = meter.report()
    assert (report.chunks, report.arrivals, report.gap_max) == (5, 3, 0.5)


def test_one_frame_is_one_chunk_however_much_it_says():
    """Text, a tool and its arguments in one frame count once."""
    said = {"content": "a", "tool_calls": [{"index": 0, "id": "t", "function": {"name": "f", "arguments": "{}"}}]}
    made, meter = watch(chunk(said, finish="stop"))
    assert (meter.report().chunks, made.last_kind, made.finish) == (1, "arguments", ["stop"])


def test_a_ping_does_not_end_a_silence():
    """Comments, progress and empty deltas are no tokens: a gap of 40 s with pings in it is one gap."""
    made, meter = observer(threshold=2.0)
    made.feed(chunk({"content": "a"}), 0.0)
    for second in range(1, 40):
        made.feed(b": ping\n\n" + chunk({"content": ""}) + event({"choices": [], "prompt_progress": {}}), float(second))
    made.feed(chunk({"content": "b"}), 40.0)
    assert (meter.report().gap_max, meter.report().stall_count) == (40.0, 1)


def test_a_flood_after_a_silence_is_seen():
    """Thirty token frames in one read after three seconds: a burst."""
    assert watch(chunk({"content": "a"}), chunk({"content": "b"}) * 30, step=3.0)[1].report().burst
    assert not watch(chunk({"content": "a"}), chunk({"role": "assistant"}) * 30, step=3.0)[1].report().burst


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ([chunk(finish="stop"), usage(prompt_tokens=5, completion_tokens=2), DONE], Usage(5, 2)),
        ([chunk({"content": str(n)}, usage={"prompt_tokens": 5, "completion_tokens": n}) for n in range(1, 9)], Usage(5, 8)),
        ([usage(prompt_tokens=5, completion_tokens=2), chunk(usage=None), DONE], Usage(5, 2)),
        ([chunk(x_groq={"id": "r", "usage": {"prompt_tokens": 5, "completion_tokens": 0}})], Usage(5, 0)),
        ([chunk({"content": "a"}), DONE], None),
        ([usage(prompt_tokens=5, completion_tokens_details={"reasoning_tokens": 3})], Usage(5, None, reasoning=3)),
    ],
)
def test_usage_is_the_last_that_was_said(frames, expected):
    """After the finish, in every chunk, in Groq's field, or never: the last word holds, zero is zero, silence is unknown (D4)."""
    assert watch(*frames)[0].usage == expected
    assert watch(b"".join(frames))[0].usage == expected


def test_an_error_is_kept_though_the_end_marker_follows():
    """vLLM sends its error and then [DONE]: a failure, not a success; the first failure is the one that counts."""
    made, _ = watch(chunk({"content": "a"}), event({"error": {"message": "m", "code": 500}}), event({"error": "later"}), DONE)
    assert (made.failure, made.terminated) == (Failed("500", "m"), True)


def test_an_old_error_field_is_an_event():
    """llama.cpp's error field has no data line, yet it is what the stream said first."""
    made, _ = watch(b'error: {"code":500,"message":"gone"}\n\n')
    assert (made.failure, made.first_event_at) == (Failed("500", "gone"), 100.0)


def test_a_stream_without_its_end_is_not_complete():
    """Neither [DONE] nor a finish reason: truncated. A finish reason alone will do."""
    assert not watch(chunk({"content": "a"}))[0].complete
    assert watch(chunk({"content": "a"}, finish="stop"))[0].complete
    assert not watch(b"data: [DONE]\n")[0].terminated


def test_distinct_reasons_are_listed_in_order():
    """With several choices every reason is kept once."""
    made, _ = watch(*(chunk(finish=reason) for reason in ("stop", "length", "stop", "tool_calls")))
    assert made.finish == ["stop", "length", "tool_calls"]
    many, _ = watch(*(chunk(finish=f"reason {number}") for number in range(1000)))
    assert len(many.finish) <= 8


@pytest.mark.parametrize(
    ("frame", "errors"),
    [
        (b"data: {bad json\n\n", {"json": 1}),
        (b"data: \xff\xfe\n\n", {"json": 1}),
        (b'data: {"choices":5}\n\n', {"shape": 1}),
        (b"data: " + b"[" * 100_000 + b"\n\n", {"json": 1}),
        (b"data: " + b"x" * (1 << 20) + b"\n\n", {"oversize": 1}),
        (b"data: " + b"x" * (1 << 20) + b"\r\n\r\n", {"oversize": 1}),
        (b'data: {"choices":[{"index":"0","delta":{"tool_calls":[{"index":"0","function":{"arguments":"x"}}]}}]}\n\n', {}),
    ],
)
def test_what_cannot_be_read_is_counted_and_the_rest_is_read(frame, errors):
    """Garbage in the middle never raises and never ends the account: it is counted once by reason."""
    for size in (1 << 22, 1 << 10):
        stream = chunk({"content": "a"}) + frame + chunk({"content": "b"}, finish="stop") + DONE
        made, _ = watch(*(stream[at : at + size] for at in range(0, len(stream), size)))
        assert made.errors == errors
        assert (made.finish, made.terminated, made.response_id) == (["stop"], True, "c-1")


@settings(max_examples=300, deadline=None)
@given(
    reads=st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([b"data: ", b"\n\n", b"{}", b"[", b"error: ", b"\r", b'{"error":'])))
)
def test_no_bytes_whatever_raise(reads):
    """An observer fed with noise stays silent and alive."""
    watch(*reads)


def test_nothing_is_kept_of_what_was_said():
    """Four times the stream is no more memory: no text is kept, and no more than the times of its first few thousand tokens."""
    made, meter = observer()
    read = chunk({"content": "some words of an answer " * 20})

    def grown(times: int) -> int:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(times):
            made.feed(read, float(number))
            meter.bound()
        return tracemalloc.get_traced_memory()[0] - before

    tracemalloc.start()
    try:
        grown(5_000)
        assert grown(15_000) < 10_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [64, 1 << 20])
def test_one_large_event_costs_linear_time(size):
    """An event of 4 MiB costs about four times one of 1 MiB, in small reads and in large ones (E2)."""

    def work(total: int) -> float:
        best = float("inf")
        stream = chunk({"content": "x" * total})
        reads = [stream[at : at + size] for at in range(0, len(stream), size)]
        for _ in range(2):
            made, _ = observer()
            started = time.process_time()
            for read in reads:
                made.feed(read, 1.0)
            best = min(best, time.process_time() - started)
        return best

    assert any(work(4 << 20) <= 8 * work(1 << 20) for _ in range(6))  # whatever else the machine does, not six times in a row


ANSWER = {"id": "i", "model": "m-1", "choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3}}


def document(*reads: bytes, **options) -> DocumentObserver:
    made = DocumentObserver(OPENAI, CALL, **options)
    for number, read in enumerate(reads):
        made.feed(read, 1.0 + number)
    made.finish_document(10.0)
    made.finish_document(11.0)
    return made


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_an_answer_in_one_piece_is_read_when_it_is_whole(size):
    """Whatever the reads, the account is that of the document; it has no tokens to time."""
    body = json.dumps(ANSWER).encode()
    made = document(*(body[at : at + size] for at in range(0, len(body), size)))
    assert (made.response_id, made.model, made.usage, made.finish) == ("i", "m-1", Usage(3), ["stop"])
    assert (made.first_event_at, made.first_token_at, made.spoke, made.errors) == (1.0, None, False, {})
    assert made.complete


def test_an_error_in_one_piece_is_a_failure():
    """An error body is told by its code."""
    assert document(b'{"error":{"message":"slow down","type":"rate_limit"}}').failure == Failed("rate_limit", "slow down")


@pytest.mark.parametrize(
    ("body", "errors", "complete"),
    [(b"<html>", {"json": 1}, False), (b"", {"json": 1}, False), (b"[]", {"shape": 1}, False), (b"x" * 101, {"oversize": 1}, True)],
)
def test_an_answer_that_cannot_be_read_is_counted(body, errors, complete):
    """No JSON, no known shape, too large: counted, never raised; of what is too large nothing says that it was not whole."""
    made = document(body[:50], body[50:], limit=100)
    assert (made.errors, made.complete, made.usage) == (errors, complete, None)


def test_what_looks_known_may_mean_another_thing_after_another_event() -> None:
    """A reader that has heard of a new item must see the next text: an event a read and all in one count the same."""
    said = [
        *[{"type": "response.output_text.delta", "delta": "a"}] * 3,
        {"type": "response.output_item.added"},
        {"type": "response.output_text.delta", "delta": "a"},
        {"type": "response.output_text.done", "text": "a"},
    ]
    call = structs.replace(CALL, dialect="openai-responses")
    counted = []
    for reads in ([event(one) for one in said], [b"".join(event(one) for one in said)]):
        meter = CadenceMeter(1.0)
        watching = Observer(RESPONSES, call, meter)
        for read in reads:
            watching.feed(read, 1.0)
        counted.append(meter.report().chunks)
    assert counted == [4, 4]
