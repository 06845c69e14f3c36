"""Server-sent events: what the rules of the event stream say, at every cut, in bounded memory and linear time."""

import codecs
import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire.framing import Frame
from gateway.wire.sse import BOM, Cutter, Parser

MIXED = (
    BOM
    + b"data:x\n\ndata: x\r\n\r\n: a comment\r\rdata: one\rdata:  two\r\r\n"
    + b"id: 7\nretry: 10\nunknown: u\nnocolon\n\nevent: ping\ndata\n\nevent: lonely\n\n\n\n"
    + "data: grüß 漢字 👩‍👩‍👧‍👦 \u2028 \x85 end\n\n".encode()
    + b'event:named\r\ndata:{"a":1}\r\ndata:\r\n\r\ndata:x:y\n\n'
)


def whatwg(stream: bytes) -> list[tuple[bytes, str]]:
    """The algorithm of the HTML standard, read literally, one character at a time."""
    text = stream.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    lines, line, position = [], "", 0
    while position < len(text):
        if text[position] in "\r\n":
            position += text[position : position + 2] == "\r\n"
            lines.append(line)
            line = ""
        else:
            line += text[position]
        position += 1
    events, data, name = [], "", ""
    for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                events.append((data[:-1].encode("utf-8", "surrogateescape"), name))
            data, name = "", ""
        elif field == "data":
            data += value + "\n"
        elif field == "event":
            name = value
    return events


def parse(*chunks: bytes, limit: int = 1 << 20) -> tuple[list[Frame], Parser]:
    """Feed the chunks to a new parser and hold it to the law: nothing is lost."""
    parser = Parser(limit)
    frames = [frame for chunk in chunks for frame in parser.feed(chunk)]
    assert b"".join(frame.raw for frame in frames) + parser.tail == b"".join(chunks)
    return frames, parser


def spoken(frames: list[Frame]) -> list[tuple[bytes, str]]:
    return [(frame.data, frame.name) for frame in frames if frame.data or frame.name]


def dispatched(stream: bytes) -> list[tuple[bytes, str]]:
    """What the standard dispatches, without unnamed events of empty data: our frames do not tell those from comments."""
    return [(data, name) for data, name in whatwg(stream) if data or name]


def cuts(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(edges)]


def ones(stream: bytes) -> list[bytes]:
    return [stream[at : at + 1] for at in range(len(stream))]


LINES = st.sampled_from(
    [
        b"data: x", b"data:x", b"data:  y", b"data", b"data:", b": comment", b":", b"event: e", b"event:f", b"event", b"id: 1", b"retry: 5",
        b"unknown: z", b"nocolon", b"", b"", b"", b"datax: no", b" data: no", "data: é漢👩‍👧".encode(), b"data: \xff\xfe", b"data: a:b",
        BOM,
    ]
)  # fmt: skip
STREAMS = st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r\n", b"\r"])), max_size=24).map(
    lambda lines: b"".join(line + end for line, end in lines)
)
SMALL_STREAMS = st.tuples(st.sampled_from([b"", BOM]), STREAMS, st.sampled_from([b"", b"data: torn", b"\n\n"])).map(b"".join)


@settings(max_examples=1500, deadline=None)
@given(stream=SMALL_STREAMS, places=st.lists(st.integers(0, 10_000), max_size=8))
def test_any_stream_at_any_cut_says_what_the_standard_says(stream, places):
    """The events are those of the WHATWG algorithm, however the stream is cut."""
    frames, parser = parse(*cuts(stream, places))
    if parser.tail.endswith(b"\n\r"):  # we wait for the LF; the standard has dispatched already
        frames, parser = parse(*cuts(stream, places), b"\n")
    assert spoken(frames) == dispatched(stream)
    assert parser.skipped == 0


@pytest.mark.parametrize("place", range(len(MIXED) + 1))
def test_every_split_of_the_mixed_fixture_gives_the_same_events(place):
    """Two reads, cut anywhere, say what one read says: no event lost, no character torn."""
    frames, _ = parse(MIXED[:place], MIXED[place:])
    assert spoken(frames) == spoken(parse(MIXED)[0]) == dispatched(MIXED)
    assert all("\ufffd" not in frame.data.decode() for frame in frames)


def test_one_byte_at_a_time_gives_the_same_events():
    """The smallest reads there are change nothing."""
    assert spoken(parse(*ones(MIXED))[0]) == dispatched(MIXED)


def test_the_mixed_fixture_reads_as_the_rules_say():
    """Each rule once, spelled out: spaces, joins, names, fields to ignore, events without data."""
    assert spoken(parse(MIXED)[0]) == [
        (b"x", ""),
        (b"x", ""),
        (b"one\n two", ""),
        (b"", "ping"),
        ("grüß 漢字 👩‍👩‍👧‍👦 \u2028 \x85 end".encode(), ""),
        (b'{"a":1}\n', "named"),
        (b"x:y", ""),
    ]


def test_a_read_that_is_one_event_is_passed_on_as_it_is():
    """The usual read costs no copy: the frame's raw bytes are the very object that was read."""
    parser = Parser()
    parser.feed(b"data: first\n\n")
    chunk = b'data: {"a":1}\n\n'
    (frame,) = parser.feed(chunk)
    assert frame.raw is chunk
    assert (frame.data, frame.name) == (b'{"a":1}', "")


def test_many_events_in_one_read_are_as_many_frames():
    """Merged reads are told apart again: N events in one read are N frames."""
    parser = Parser()
    parser.feed(b"\n")
    stream = b"".join(b"data: %d\n\n" % number for number in range(200)) + b"event: e\ndata: x\n\n: c\n\n\n"
    frames = parser.feed(stream)
    assert [frame.data for frame in frames][:200] == [b"%d" % number for number in range(200)]
    assert [(frame.raw, frame.data, frame.name) for frame in frames][200:] == [
        (b"event: e\ndata: x\n\n", b"x", "e"),
        (b": c\n\n", b"", ""),
        (b"\n", b"", ""),
    ]
    assert parser.tail == b""


def test_a_cr_only_stream_is_not_held_back():
    """An event that ends in two CRs is told at once, not when the next one comes."""
    parser = Parser()
    assert spoken(parser.feed(b"data: x\r\r")) == [(b"x", "")]
    assert spoken(parser.feed(b"\ndata: y\r\r")) == [(b"y", "")]


def test_a_crlf_cut_in_its_last_pair_is_one_event():
    """A stream of CRLF cut before its very last LF waits for that byte, so that the frame is whole."""
    parser = Parser()
    assert parser.feed(b"data: x\r\n\r") == []
    assert parser.feed(b"\n") == [Frame(b"data: x\r\n\r\n", b"x", "")]


@settings(max_examples=300, deadline=None)
@given(stream=SMALL_STREAMS, places=st.lists(st.integers(0, 10_000), max_size=8), limit=st.integers(1, 40))
def test_oversize_events_are_skipped_and_counted_alike_at_any_cut(stream, places, limit):
    """Whether an event is too large depends on the event, not on the reads; its bytes still come out, the rest is still read."""
    whole, parser = parse(stream, limit=limit)
    pieces, other = parse(*cuts(stream, places), limit=limit)
    if parser.tail.endswith(b"\n\r") or other.tail.endswith(b"\n\r") or b"\r\r\n" in stream:
        return  # here the size of an event depends on when its last LF comes
    assert spoken(pieces) == spoken(whole)
    assert parser.skipped == other.skipped
    assert len(other.tail) <= limit + 3


@pytest.mark.parametrize("size", [1, 1000, 1 << 20])
@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_reading_resumes_after_an_oversize_event(size, end):
    """An event over the limit is skipped once, whatever the reads, and the next blank line brings the parser back."""
    event = b"data: " + b"x" * 5000 + end
    stream = b"data: a" + end + event + b"data: b" + end
    frames, parser = parse(*(stream[at : at + size] for at in range(0, len(stream), size)), limit=4096)
    assert spoken(frames) == [(b"a", ""), (b"b", "")]
    assert parser.skipped == 1


def test_an_oversize_event_holds_no_more_than_the_limit():
    """8 MiB in 1 KiB reads: what is held stays under the limit and one read."""
    parser = Parser()
    held = 0
    for _ in range(8 << 10):
        parser.feed(b"data: " + b"x" * 1018)
        held = max(held, len(parser.tail))
    assert held <= (1 << 20)
    assert parser.skipped == 1
    assert spoken(parser.feed(b"\n\ndata: back\n\n")) == [(b"back", "")]


def test_a_byte_order_mark_counts_only_at_the_start():
    """A mark later on is part of a field name, and so of an unknown field."""
    assert spoken(parse(BOM + b"data: a\n\n" + BOM + b"data: b\n\n")[0]) == [(b"a", "")]
    assert spoken(parse(*ones(BOM + b"data: a\n\n"))[0]) == [(b"a", "")]
    assert codecs.BOM_UTF8 == BOM


def seconds(work, size: int) -> float:
    """CPU seconds of the better of two runs."""
    best = float("inf")
    for _ in range(2):
        started = time.process_time()
        work(size)
        best = min(best, time.process_time() - started)
    return best


def feed_small(make, end: bytes):
    def work(size: int) -> None:
        take = make()
        take(b"data: ")
        for _ in range(size // 64):
            take(b"x" * 64)
        take(end)

    return work


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
def test_one_large_event_in_small_reads_costs_linear_time(end):
    """4 MiB in 64-byte reads costs about four times what 1 MiB costs, in the parser and in the cutter."""
    for make in (lambda: Parser(16 << 20).feed, lambda: Parser().feed, lambda: Cutter(16 << 20).push, lambda: Cutter().push):
        work = feed_small(make, end)
        assert any(seconds(work, 4 << 20) <= 8 * seconds(work, 1 << 20) for _ in range(6))


@pytest.mark.parametrize("event", [b"data: x\n\n", b"data: x\r\n\r\n", b"event: e\ndata: x\n\n", b"\n", b": c\n\n"])
def test_many_events_in_one_read_cost_linear_time(event):
    """A read of four times the events costs about four times as much."""

    def work(size: int) -> None:
        parser = Parser()
        parser.feed(b"\n")
        parser.feed(event * (size // len(event)))

    assert any(seconds(work, 200_000) <= 8 * seconds(work, 50_000) for _ in range(6))


def push(*chunks: bytes, limit: int = 64 << 10) -> tuple[list[bytes], Cutter]:
    cutter = Cutter(limit)
    out = [cutter.push(chunk) for chunk in chunks]
    assert b"".join(out) + cutter.tail == b"".join(chunks)
    return out, cutter


@settings(max_examples=1000, deadline=None)
@given(stream=SMALL_STREAMS, places=st.lists(st.integers(0, 10_000), max_size=8))
def test_a_word_between_two_pushes_lands_between_two_events(stream, places):
    """Whatever is said after any push leaves every event of the stream as it was, and is itself read."""
    cutter = Cutter()
    said = b""
    for chunk in cuts(stream, places):
        said += cutter.push(chunk) + b"data: OURS\n\n" * (not cutter.inside)
        assert not cutter.inside
    ours = [(b"OURS", "")]
    seen = [event for event in dispatched(said + cutter.tail) if event not in ours]
    # A mark at the very start stops being at the start once we have spoken first.
    if not stream.startswith(BOM):
        assert seen == dispatched(stream)
    assert dispatched(said).count(ours[0]) == len(places) + 1


@pytest.mark.parametrize("place", range(len(MIXED) + 1))
def test_the_cutter_loses_nothing_at_any_split(place):
    """What is let out and what is held are the input, and nothing complete is held."""
    _, cutter = push(MIXED[:place], MIXED[place:])
    assert cutter.tail == b""
    _, cutter = push(MIXED[:place])
    frames, _ = parse(cutter.tail)
    assert spoken(frames) == []


def test_a_read_that_ends_on_a_boundary_comes_back_as_the_same_object():
    """The usual read costs the cutter no copy."""
    cutter = Cutter()
    chunk = b"data: a\n\ndata: b\n\n"
    assert cutter.push(chunk) is chunk


def test_the_cutter_holds_an_incomplete_event_until_it_is_whole():
    """Everything up to the last boundary goes out, the beginning of the next event waits."""
    assert push(b"data: a\n\nda", b"ta: b\n", b"\n: c\r\n\r", b"\ndata")[0] == [b"data: a\n\n", b"", b"data: b\n\n", b": c\r\n\r\n"]


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_the_cutter_lets_go_beyond_its_limit_and_knows_where_it_stands(end):
    """A large event is not held for ever: it is let out as it comes, and `inside` tells that nothing may be said in between."""
    cutter = Cutter(limit=100)
    assert cutter.push(b"data: " + b"x" * 50) == b""
    assert not cutter.inside
    assert len(cutter.push(b"x" * 50)) == 106
    assert cutter.inside
    assert cutter.push(b"y") == b"y"
    out = b"".join(cutter.push(bytes([byte])) for byte in end)
    assert out == end
    assert not cutter.inside
    assert cutter.push(b"data: z") == b""
    assert not cutter.inside


@settings(max_examples=500, deadline=None)
@given(stream=SMALL_STREAMS, places=st.lists(st.integers(0, 10_000), max_size=8), limit=st.integers(0, 30))
def test_a_small_cutter_speaks_only_between_events(stream, places, limit):
    """Even when events are torn, a word said while not `inside` changes no event."""
    cutter = Cutter(limit)
    said = b"\n"  # so that a mark at the start means nothing with and without our words
    for chunk in cuts(stream, places):
        said += cutter.push(chunk)
        if not cutter.inside:
            said += b": ours\n\n"
    assert dispatched(said + cutter.tail) == dispatched(b"\n" + stream)
    assert len(cutter.tail) <= limit + 3
