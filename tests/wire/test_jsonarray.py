"""A JSON array in pieces: every element found at every cut, nothing lost, nothing torn, in bounded memory."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire.framing import Frame
from gateway.wire.jsonarray import END, Cutter, Parser

ELEMENTS = [
    {"text": "plain"},
    {"text": 'a "quoted" }{][ brace', "deep": [[{"a": []}], {}]},
    {"text": "back\\slash \\" + '"', "long": "x" * 80 + "}" + "\\"},
    {},
    {"text": "grüß 漢字 👩‍👩‍👧‍👦 \u2028", "escaped": "\ud83d"},
]
STREAM = b"[" + b"\n,\r\n".join(json.dumps(element, indent=2).encode() for element in ELEMENTS) + b"\n]\n"

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=90),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
ARRAYS = st.lists(st.dictionaries(st.text(max_size=4), VALUES, max_size=3), max_size=6)
SEPARATORS = st.sampled_from([b",", b"\n,\r\n", b" , ", b",\n"])
PLACES = st.lists(st.integers(0, 10_000), max_size=8)


def parse(*chunks: bytes, limit: int = 1 << 20) -> tuple[list[Frame], Parser]:
    """Feed the chunks to a new parser and hold it to the law: nothing is lost."""
    parser = Parser(limit)
    frames = [frame for chunk in chunks for frame in parser.feed(chunk)]
    assert b"".join(frame.raw for frame in frames) + parser.tail == b"".join(chunks)
    return frames, parser


def elements(frames: list[Frame]) -> list[object]:
    return [json.loads(frame.data) for frame in frames if frame.data not in {b"", END}]


def cuts(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(edges)]


def ones(stream: bytes) -> list[bytes]:
    return [stream[at : at + 1] for at in range(len(stream))]


@settings(max_examples=500, deadline=None)
@given(array=ARRAYS, separator=SEPARATORS, places=PLACES, ascii_only=st.booleans(), indent=st.sampled_from([None, 2]))
def test_any_array_at_any_cut_gives_its_elements(array, separator, places, ascii_only, indent):
    """The elements are those a JSON parser finds in the whole, and the closing bracket is the last frame."""
    written = (json.dumps(element, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass") for element in array)
    stream = b"[" + separator.join(written) + b"]"
    frames, parser = parse(*cuts(stream, places))
    assert elements(frames) == array
    assert frames[-1].data == END
    assert parser.at_boundary
    assert parser.skipped == 0


@pytest.mark.parametrize("place", range(len(STREAM) + 1))
def test_every_split_of_the_fixture_gives_the_same_elements(place):
    """Two reads, cut anywhere, also between a backslash and what it escapes, say what one read says."""
    assert elements(parse(STREAM[:place], STREAM[place:])[0]) == ELEMENTS


def test_one_byte_at_a_time_gives_the_same_elements():
    """The smallest reads there are change nothing, and an element is told with its last byte."""
    frames, parser = parse(*ones(STREAM))
    assert elements(frames) == ELEMENTS
    assert [frame.raw[-1:] for frame in frames] == [b"}"] * len(ELEMENTS) + [b"]"]
    assert parser.tail == b"\n"


def test_a_frame_has_the_comma_before_its_element():
    """What is between two frames lacks a comma or a bracket, and nothing else."""
    frames, _ = parse(b'[{"a":1}\n,\r\n{"b":2}]')
    assert [(frame.raw, frame.data) for frame in frames] == [
        (b'[{"a":1}', b'{"a":1}'),
        (b'\n,\r\n{"b":2}', b'{"b":2}'),
        (b"]", END),
    ]


@pytest.mark.parametrize(
    ("stream", "data"),
    [
        (b"[]", [END]),
        (b" [ ] ", [END]),
        (b'{"error":{"code":503}}\n', [b'{"error":{"code":503}}']),
        (b'[[1],{"a":[]},"s]",7]', [b"[1]", b'{"a":[]}', END]),
        (b"", []),
        (b"<html>nothing", []),
        (b"]]}}", []),
        (b'[{"a":1}]]}[{"b":2}]', [b'{"a":1}', END, b'{"b":2}', END]),
    ],
)
def test_odd_streams_are_read_as_far_as_they_go(stream, data):
    """An object without its array is an element; scalars are none; stray brackets open nothing."""
    assert [frame.data for frame in parse(stream)[0]] == data
    assert [frame.data for frame in parse(*ones(stream))[0]] == data


@settings(max_examples=300, deadline=None)
@given(noise=st.lists(st.sampled_from([b"[", b"]", b"{", b"}", b'"', b"\\", b",", b"a", b"\n"]), max_size=60).map(b"".join), places=PLACES)
def test_noise_is_cut_alike(noise, places):
    """Whatever the bytes are, frames do not depend on the reads."""
    assert parse(*cuts(noise, places))[0] == parse(noise)[0]


@settings(max_examples=300, deadline=None)
@given(array=ARRAYS, places=PLACES, limit=st.integers(1, 60))
def test_oversize_elements_are_skipped_and_counted_alike_at_any_cut(array, places, limit):
    """Whether an element is too large depends on the element, not on the reads; its bytes still come out, the rest is still read."""
    stream = json.dumps(array).encode()
    whole, parser = parse(stream, limit=limit)
    pieces, other = parse(*cuts(stream, places), limit=limit)
    assert elements(whole) == elements(pieces)
    assert parser.skipped == other.skipped
    assert len(other.tail) <= limit + 1


def test_an_oversize_element_is_let_go_as_it_comes():
    """Memory is the limit and one read, and the next element is read again."""
    parser = Parser(16)
    frames = [frame for chunk in ones(b'[{"a":"' + b"\\\\x" * 20 + b'"},{"b":2}]') for frame in parser.feed(chunk)]
    assert [frame.data for frame in frames if frame.data] == [b'{"b":2}', END]
    assert parser.skipped == 1


def test_a_cutter_lets_whole_elements_go_and_holds_their_commas():
    """What is out is an array that lacks its bracket; the comma waits for what follows it."""
    cutter = Cutter()
    assert cutter.push(b"[") == b""
    assert cutter.push(b'{"a":1}\n,\r\n{"b') == b'[{"a":1}'
    assert not cutter.inside
    assert cutter.push(b'":2}') == b'\n,\r\n{"b":2}'
    assert cutter.push(b"\n]\n") == b"\n]"
    assert cutter.tail == b"\n"
    assert not cutter.aligned  # no read may pass it by


@settings(max_examples=300, deadline=None)
@given(array=ARRAYS, places=PLACES, limit=st.sampled_from([0, 7, 64 << 10]))
def test_a_cutter_loses_nothing_and_tells_when_it_tore(array, places, limit):
    """What is pushed comes out; while not `inside`, what is out becomes a whole array by a bracket."""
    stream, out, cutter = json.dumps(array, indent=1).encode(), b"", Cutter(limit)
    for chunk in cuts(stream, places):
        out += cutter.push(chunk)
        assert len(cutter.tail) <= limit + 1
        if out and not cutter.inside and not out.endswith(b"]"):
            assert json.loads(out + b"]") == array[: len(json.loads(out + b"]"))]
    assert out + cutter.tail == stream
