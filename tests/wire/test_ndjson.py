"""Newline-delimited JSON: lines at every cut, in bounded memory and linear time."""

import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire.framing import Frame
from gateway.wire.ndjson import Cutter, Parser

MIXED = (
    b'{"a":1}\n{"a":2}\r\n\n\r\n  \t\n {"a":3} \n'
    + '{"a":"grüß 漢字 👩‍👩‍👧‍👦 \u2028 \x85 end"}\n'.encode()
    + b'{"a":"\\n"}\r\n\r{"a":4}\n{"a":5}'
)


def parse(*chunks: bytes, limit: int = 1 << 20) -> tuple[list[Frame], Parser]:
    """Feed the chunks to a new parser and hold it to the law: nothing is lost."""
    parser = Parser(limit)
    frames = []
    for chunk in chunks:
        frames += parser.feed(chunk)
        assert parser.at_boundary is (not parser.tail and (not frames or frames[-1].raw.endswith(b"\n")))
    assert b"".join(frame.raw for frame in frames) + parser.tail == b"".join(chunks)
    return frames, parser


def spoken(frames: list[Frame]) -> list[bytes]:
    return [frame.data for frame in frames if frame.data]


def documents(stream: bytes) -> list[bytes]:
    """The rule, read literally: what stands before each LF, without the space around it."""
    return [line.strip(b" \t\r\n") for line in stream.split(b"\n")[:-1] if line.strip(b" \t\r\n")]


def cuts(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(edges)]


def ones(stream: bytes) -> list[bytes]:
    return [stream[at : at + 1] for at in range(len(stream))]


PIECES = st.sampled_from(
    [b'{"a":1}', b"{}", b"x", b" ", b"\r", b"\n", b"\n", b"\r\n", b"\n\n", "é漢\u2028".encode(), b"\xff", b'{"b":"' + b"y" * 20]
)
STREAMS = st.lists(PIECES, max_size=24).map(b"".join)
PLACES = st.lists(st.integers(0, 10_000), max_size=8)


def test_the_mixed_fixture_reads_as_the_rules_say():
    """Each rule once: LF, CRLF, blank lines, space around, a CR that ends nothing, a last line without LF."""
    frames, parser = parse(MIXED)
    assert spoken(frames) == [
        b'{"a":1}',
        b'{"a":2}',
        b'{"a":3}',
        '{"a":"grüß 漢字 👩‍👩‍👧‍👦 \u2028 \x85 end"}'.encode(),
        b'{"a":"\\n"}',
        b'{"a":4}',
    ]
    assert len(frames) == MIXED.count(b"\n")
    assert parser.tail == b'{"a":5}'
    assert [frame.data for frame in parser.feed(b"\n\n")] == [b'{"a":5}', b""]


@pytest.mark.parametrize("place", range(len(MIXED) + 1))
def test_every_split_of_the_mixed_fixture_gives_the_same_frames(place):
    """Two reads, cut anywhere, say what one read says."""
    assert parse(MIXED[:place], MIXED[place:])[0] == parse(MIXED)[0]


@settings(max_examples=1000, deadline=None)
@given(stream=STREAMS, places=PLACES)
def test_any_stream_at_any_cut_gives_the_same_frames(stream, places):
    """The frames depend on the stream, not on the reads."""
    frames, parser = parse(*cuts(stream, places))
    assert spoken(frames) == documents(stream)
    assert frames == parse(*ones(stream))[0] == parse(stream)[0]
    assert parser.skipped == 0


def test_a_read_that_is_one_line_is_passed_on_as_it_is():
    """The usual read costs no copy: the frame's raw bytes are the very object that was read."""
    parser = Parser()
    chunk = b'{"a":1}\n'
    (frame,) = parser.feed(chunk)
    assert frame.raw is chunk
    assert (frame.data, frame.name) == (b'{"a":1}', "")
    assert parser.at_boundary
    assert parser.feed(b"") == []


@settings(max_examples=300, deadline=None)
@given(stream=STREAMS, places=PLACES, limit=st.integers(1, 40))
def test_oversize_lines_are_skipped_and_counted_alike_at_any_cut(stream, places, limit):
    """Whether a line is too large depends on the line, not on the reads; its bytes still come out, the rest is still read."""
    whole, parser = parse(stream, limit=limit)
    pieces, other = parse(*cuts(stream, places), limit=limit)
    assert spoken(pieces) == spoken(whole)
    assert parser.skipped == other.skipped
    assert len(other.tail) <= limit


@pytest.mark.parametrize("size", [1, 1000, 1 << 20])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_reading_resumes_after_an_oversize_line(size, end):
    """A line over the limit is skipped once, whatever the reads, and its LF brings the parser back."""
    stream = b"1" + end + b'"' + b"x" * 5000 + b'"' + end + b"2" + end
    frames, parser = parse(*(stream[at : at + size] for at in range(0, len(stream), size)), limit=4096)
    assert spoken(frames) == [b"1", b"2"]
    assert parser.skipped == 1


def test_an_oversize_line_holds_no_more_than_the_limit():
    """8 MiB in 1 KiB reads: what is held stays under the limit."""
    parser = Parser()
    held = 0
    for _ in range(8 << 10):
        parser.feed(b"x" * 1024)
        held = max(held, len(parser.tail))
    assert held <= (1 << 20)
    assert parser.skipped == 1
    assert spoken(parser.feed(b"\n{}\n")) == [b"{}"]


def seconds(work, size: int) -> float:
    """CPU seconds of the better of two runs."""
    best = float("inf")
    for _ in range(2):
        started = time.process_time()
        work(size)
        best = min(best, time.process_time() - started)
    return best


def test_one_large_line_in_small_reads_costs_linear_time():
    """4 MiB in 64-byte reads costs about four times what 1 MiB costs, in the parser and in the cutter."""
    for make in (lambda: Parser(16 << 20).feed, lambda: Parser().feed, lambda: Cutter(16 << 20).push, lambda: Cutter().push):

        def work(size: int, make=make) -> None:
            take = make()
            for _ in range(size // 64):
                take(b"x" * 64)
            take(b"\n")

        assert any(seconds(work, 4 << 20) <= 8 * seconds(work, 1 << 20) for _ in range(6))


def push(*chunks: bytes, limit: int = 64 << 10) -> tuple[list[bytes], Cutter]:
    cutter = Cutter(limit)
    out = [cutter.push(chunk) for chunk in chunks]
    assert b"".join(out) + cutter.tail == b"".join(chunks)
    return out, cutter


@settings(max_examples=500, deadline=None)
@given(stream=STREAMS, places=PLACES, limit=st.sampled_from([0, 1, 5, 30, 64 << 10]))
def test_a_word_between_two_pushes_lands_between_two_lines(stream, places, limit):
    """Whatever is said after a push that did not end inside a line leaves every line as it was, and is itself read."""
    cutter = Cutter(limit)
    said, words = b"", 0
    for chunk in cuts(stream, places):
        said += cutter.push(chunk)
        if not cutter.inside:
            said += b"OURS\n"
            words += 1
    read = documents(said + cutter.tail)
    assert read.count(b"OURS") == words
    assert [line for line in read if line != b"OURS"] == documents(stream)
    assert len(cutter.tail) <= limit


@pytest.mark.parametrize("place", range(len(MIXED) + 1))
def test_the_cutter_loses_nothing_and_holds_nothing_complete(place):
    """What is let out and what is held are the input, and no LF is held."""
    _, cutter = push(MIXED[:place])
    assert b"\n" not in cutter.tail
    assert cutter.aligned is (not cutter.tail)
    push(MIXED[:place], MIXED[place:])


def test_a_read_that_ends_on_a_boundary_comes_back_as_the_same_object():
    """The usual read costs the cutter no copy."""
    chunk = b"{}\n{}\n"
    assert Cutter().push(chunk) is chunk


def test_the_cutter_lets_go_beyond_its_limit_and_knows_where_it_stands():
    """A large line is not held for ever: it is let out as it comes, and `inside` tells that nothing may be said in between."""
    out, cutter = push(b"x" * 50, b"x" * 51, b"y", limit=100)
    assert out == [b"", b"x" * 101, b"y"]
    assert cutter.inside
    assert not cutter.aligned
    assert cutter.push(b"z\nnext") == b"z\n"
    assert not cutter.inside
    assert cutter.tail == b"next"
