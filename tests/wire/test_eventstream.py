"""The AWS event stream: nothing is lost at any cut, checksums are believed, and what is written can be read."""

import itertools
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire.eventstream import Cutter, Parser, encode, event, exception, read_headers
from gateway.wire.framing import Frame

HEADERS = {":event-type": "chunk", ":message-type": "event"}
STREAM = b"".join(
    (
        event("messageStart", b'{"role":"assistant"}'),
        event("contentBlockDelta", '{"delta":{"text":"grüß 👩‍👧"}}'.encode()),
        event("contentBlockDelta", b"{}"),
        event("empty", b""),
        exception("throttlingException", b'{"message":"slow down"}'),
        encode({":message-type": "error", ":error-code": "Oops", ":error-message": "it broke"}, b""),
    )
)
SAID = [
    (b'{"role":"assistant"}', "messageStart"),
    ('{"delta":{"text":"grüß 👩‍👧"}}'.encode(), "contentBlockDelta"),
    (b"{}", "contentBlockDelta"),
    (b"", "empty"),
    (b'{"message":"slow down"}', "exception:throttlingException"),
    (b"it broke", "error:Oops"),
]


def cuts(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(edges)]


def parse(*chunks: bytes, limit: int = 1 << 20) -> tuple[list[Frame], Parser]:
    """Feed the chunks to a new parser and hold it to the law: nothing is lost."""
    parser = Parser(limit)
    frames = [frame for chunk in chunks for frame in parser.feed(chunk)]
    assert b"".join(frame.raw for frame in frames) + parser.tail == b"".join(chunks)
    return frames, parser


def spoken(frames: list[Frame]) -> list[tuple[bytes, str]]:
    return [(frame.data, frame.name) for frame in frames if frame.data or frame.name]


def broken(message: bytes, at: int) -> bytes:
    """The message with one bit turned."""
    return message[:at] + bytes((message[at] ^ 1,)) + message[at + 1 :]


def prelude(total: int, headers: int) -> bytes:
    lengths = struct.pack(">II", total, headers)
    return lengths + struct.pack(">I", zlib.crc32(lengths))


MESSAGES = st.one_of(
    st.builds(event, st.sampled_from(["a", "contentBlockDelta", "é"]), st.binary(max_size=60)),
    st.builds(exception, st.just("validationException"), st.binary(max_size=20)),
    st.builds(encode, st.dictionaries(st.text(max_size=10), st.text(max_size=20), max_size=3), st.binary(max_size=30)),
)
STREAMS = st.lists(MESSAGES, max_size=6).map(b"".join)


def test_a_message_reads_as_the_documentation_lays_it_out():
    """Byte by byte: two lengths, their checksum, name length, name, type 7, value length, value, payload, checksum."""
    lengths = b"\x00\x00\x00\x1a" + b"\x00\x00\x00\x08"
    body = lengths + struct.pack(">I", zlib.crc32(lengths)) + b"\x02:x\x07\x00\x02hi" + b"{}"
    assert encode({":x": "hi"}, b"{}") == body + struct.pack(">I", zlib.crc32(body))


@pytest.mark.parametrize("place", range(len(STREAM) + 1))
def test_every_split_says_the_same(place):
    """Two reads, cut anywhere, say what one read says."""
    frames, parser = parse(STREAM[:place], STREAM[place:])
    assert spoken(frames) == SAID
    assert (parser.skipped, parser.tail, parser.at_boundary) == (0, b"", False)


def test_one_byte_at_a_time_says_the_same():
    """The smallest reads there are change nothing."""
    assert spoken(parse(*(STREAM[at : at + 1] for at in range(len(STREAM))))[0]) == SAID


def test_a_read_that_is_one_message_is_passed_on_as_it_is():
    """The usual read costs no copy of the frame."""
    chunk = event("contentBlockDelta", b"{}")
    parser = Parser()
    for _ in range(2):
        (frame,) = parser.feed(chunk)
        assert frame.raw is chunk
        assert (frame.data, frame.name) == (b"{}", "contentBlockDelta")


@settings(max_examples=500, deadline=None)
@given(stream=STREAMS, torn=st.binary(max_size=30), places=st.lists(st.integers(0, 10_000), max_size=8), limit=st.integers(0, 200))
def test_any_cut_of_any_stream_says_the_same(stream, torn, places, limit):
    """Frames, and what is skipped, depend on the stream and not on its reads; garbage at the end loses no byte."""
    whole, parser = parse(stream + torn, limit=limit)
    pieces, other = parse(*cuts(stream + torn, places), limit=limit)
    assert spoken(pieces) == spoken(whole)
    assert parser.skipped == other.skipped
    assert len(other.tail) <= max(limit, 12)


@settings(max_examples=500, deadline=None)
@given(stream=st.binary(max_size=200), places=st.lists(st.integers(0, 10_000), max_size=8))
def test_bytes_that_are_no_event_stream_come_out_unread(stream, places):
    """Whatever comes, nothing is raised and no byte is lost."""
    frames, parser = parse(*cuts(stream, places))
    assert spoken(frames) == []
    assert parser.skipped == (len(stream) >= 12)


@pytest.mark.parametrize("at", [12, 20, -20, -5, -4, -1])
def test_a_message_with_a_wrong_checksum_is_skipped_and_the_next_one_read(at):
    """Its length is vouched for by the prelude's own checksum, so only this message is lost."""
    good = event("contentBlockDelta", b'{"delta":{"text":"hi there"}}')
    frames, parser = parse(good + broken(good, at % len(good)) + good)
    assert [frame.name for frame in frames] == ["contentBlockDelta", "", "contentBlockDelta"]
    assert parser.skipped == 1


@pytest.mark.parametrize(
    "wrong",
    [
        broken(event("a", b"{}"), 0),
        broken(event("a", b"{}"), 7),
        broken(event("a", b"{}"), 11),
        prelude(15, 0),
        prelude(40, 30),
        prelude(0, 0),
        prelude(2**32 - 1, 0),
        prelude((24 << 20) + 17, 0),
        prelude(200 << 10, 129 << 10),
        b"HTTP/1.1 502 Bad Gateway\r\n\r\n",
    ],
)
def test_after_a_wrong_prelude_nothing_is_read_and_nothing_is_held(wrong):
    """A wrong checksum or an absurd length leaves no place to resume at: it is counted once, and every byte goes on."""
    good = event("contentBlockDelta", b"{}")
    frames, parser = parse(good, wrong + good, good, b"", good)
    assert spoken(frames) == [(b"{}", "contentBlockDelta")]
    assert (parser.skipped, parser.tail) == (1, b"")


@pytest.mark.parametrize("size", [1, 100, 1 << 20])
def test_reading_resumes_after_an_oversize_message(size):
    """A message over the limit is passed on unread, counted once, and held no longer than its prelude."""
    small, large = event("a", b"{}"), event("b", b"x" * 5000)
    stream = small + large + small
    frames, parser = parse(*(stream[at : at + size] for at in range(0, len(stream), size)), limit=4096)
    assert spoken(frames) == [(b"{}", "a")] * 2
    assert parser.skipped == 1


def test_an_oversize_message_is_not_held():
    """20 MiB announced, 1 KiB at a time: only the reads are in memory."""
    parser = Parser()
    parser.feed(prelude(20 << 20, 0))
    assert max(len(parser.feed(b"x" * 1024)[0].raw) + len(parser.tail) for _ in range(100)) == 1024
    assert parser.skipped == 1


def typed(kind: int, value: bytes) -> bytes:
    return b"\x01h" + bytes((kind,)) + value


@pytest.mark.parametrize(
    ("block", "headers"),
    [
        (b"", {}),
        (typed(7, b"\x00\x02hi"), {"h": "hi"}),
        (typed(6, b"\x00\x02hi") + typed(7, b"\x00\x00"), {"h": ""}),
        (typed(0, b"") + typed(1, b"") + typed(2, b"1") + typed(3, b"12") + typed(4, b"1234"), {}),
        (typed(5, b"8" * 8) + typed(8, b"8" * 8) + typed(9, b"u" * 16), {}),
        (typed(10, b""), None),
        (typed(7, b"\x00\x05hi"), None),
        (typed(7, b"\x00\x02\xff\xfe"), None),
        (typed(4, b"1"), None),
        (b"\x05h", None),
    ],
)
def test_headers_of_every_type_are_crossed(block, headers):
    """Strings are read, the other types passed over, and what is no header is told."""
    assert read_headers(block) == headers


def test_a_message_with_headers_that_cannot_be_read_is_skipped():
    """Checksums that agree with nonsense do not make it sense."""
    block = typed(10, b"")
    head = prelude(16 + len(block), len(block)) + block
    frames, parser = parse(head + struct.pack(">I", zlib.crc32(head)) + event("a", b"{}"))
    assert spoken(frames) == [(b"{}", "a")]
    assert parser.skipped == 1


def push(*chunks: bytes, limit: int = 64 << 10) -> tuple[list[bytes], Cutter]:
    cutter = Cutter(limit)
    out = [cutter.push(chunk) for chunk in chunks]
    assert b"".join(out) + cutter.tail == b"".join(chunks)
    return out, cutter


@settings(max_examples=500, deadline=None)
@given(stream=STREAMS, places=st.lists(st.integers(0, 10_000), max_size=8), limit=st.integers(0, 100))
def test_a_word_between_two_pushes_lands_between_two_messages(stream, places, limit):
    """Whatever is said while the cutter is not `inside` leaves every message as it was, and is itself read."""
    cutter, said, ours = Cutter(limit), b"", 0
    for chunk in cuts(stream, places):
        said += cutter.push(chunk)
        if not cutter.inside:
            said += event("ours", b"")
            ours += 1
        assert not cutter.aligned
        assert len(cutter.tail) <= max(limit, 12)
    names = [name for _, name in spoken(parse(said + cutter.tail)[0])]
    assert names.count("ours") == ours
    assert [name for name in names if name != "ours"] == [name for _, name in spoken(parse(stream)[0])]


def test_a_whole_read_comes_back_as_the_same_object():
    """The usual read costs the cutter no copy of its own."""
    chunk = event("a", b"{}") * 2
    assert Cutter().push(chunk) is chunk


def test_the_cutter_lets_go_beyond_its_limit_and_knows_where_it_stands():
    """A large message is not held for ever; `inside` ends with it."""
    large = event("a", b"x" * 1000)
    out, cutter = push(large[:50], large[50:300], limit=100)
    assert out == [b"", large[:300]]
    assert cutter.inside
    assert cutter.push(large[300:]) == large[300:]
    assert not cutter.inside
    assert cutter.push(large[:5]) == b""
    assert not cutter.inside


@pytest.mark.parametrize("wrong", [broken(event("a", b"{}"), 3), prelude(0, 0), b"<html>Bad Gateway</html>"])
def test_after_a_wrong_prelude_the_cutter_holds_nothing(wrong):
    """No place between two messages is known any more: everything goes out, and nothing of ours may follow."""
    good = event("a", b"{}")
    out, cutter = push(good + wrong, good[:5], good[5:])
    assert out == [good + wrong, good[:5], good[5:]]
    assert cutter.inside
