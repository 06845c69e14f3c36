"""The tape alone: whatever way bytes come, what is on it is the stream, and each place is where the event after it begins."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.gemini.dialect import ARRAY
from gateway.dialects.gemini.dialect import FRAMING as GEMINI
from gateway.proxy.tape import Tape, with_id
from gateway.wire import eventstream, ndjson, sse
from gateway.wire.framing import Framing

ALL = 1 << 60
STREAMS: dict[str, tuple[Framing, bytes, int]] = {
    "sse": (sse.FRAMING, b": hello\n\ndata: a\n\nevent: x\ndata: b\n\n: ping\n\n\n\ndata: c\r\n\r\nid: 77\ndata: d\n\ndata: [DONE]\n\n", 5),
    "gemini": (GEMINI, b"data: a\r\n\r\n\r\n\r\ndata: b\r\n\r\ndata: c\r\n\r\n", 3),
    "ndjson": (ndjson.FRAMING, b'{"a":1}\n\n{"b":2}\r\n{"c":3}\n{"d":4}', 4),
    "array": (ARRAY, b'[{"a":"]"}\n,\r\n{"b":[1]}\n,\r\n{"c":3}\n]\n', 4),
    "eventstream": (eventstream.FRAMING, b"".join(eventstream.event("e", b"%d" % n * n) for n in range(4)), 4),
}


def recorded(framing: Framing, body: bytes, cuts: list[int], limit: int = ALL) -> tuple[Tape, bytes]:
    """Return a tape that was given a body in these pieces, and what its client was given."""
    tape, said = Tape(framing, limit), b""
    for start, end in pairwise([0, *sorted(cuts), len(body)]):
        said += tape.add(body[start:end])
        tape.shorten(tape.end)
    return tape, said + tape.finish()


def played(tape: Tape, place: int, most: int = 1) -> bytes:
    said = b""
    while place < tape.end:
        data, place = tape.read(place, most)
        said += data
    assert place == tape.end
    return said


@pytest.mark.parametrize("name", STREAMS)
@given(data=st.data())
def test_cut_anywhere_it_is_the_same_tape(name: str, data: st.DataObject) -> None:
    """At any chunking the client is given the same bytes, which lie on the tape, and so many events are counted."""
    framing, body, count = STREAMS[name]
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=12))
    tape, said = recorded(framing, body, cuts)
    assert said == recorded(framing, body, [])[1]
    assert (tape.count, tape.start, tape.end, tape.torn) == (count, 0, len(said), False)
    assert played(tape, 0) == played(tape, 0, 1 << 20) == said
    assert (said == body) is (not framing.takes_lines)


@pytest.mark.parametrize("name", STREAMS)
def test_each_place_follows_its_event(name: str) -> None:
    """What a client had with event n, and what the tape has after it, make the whole, for every n."""
    framing, body, count = STREAMS[name]
    tape, said = recorded(framing, body, [])
    had, seen = b"", 0
    parser = framing.parser()
    frames = parser.feed(said)
    assert tape.after(0) == 0
    for frame in frames:
        had += frame.raw
        if frame.data or frame.name:
            seen += 1
            assert had + played(tape, tape.after(seen) or 0) == said
    assert seen + bool(parser.tail.strip()) == count
    assert played(tape, tape.after(count) or 0) == (b"\n" if name == "array" else b"")


def test_only_ids_are_added_and_ours_stand() -> None:
    """Every event ends with its number, comments have none; an id of the upstream's own is left, and ours follows it."""
    framing, body, _ = STREAMS["sse"]
    tape, said = recorded(framing, body, [])
    assert said == (
        b": hello\n\ndata: a\nid: 1\n\nevent: x\ndata: b\nid: 2\n\n: ping\n\n\n\ndata: c\r\nid: 3\r\n\r\n"
        b"id: 77\ndata: d\nid: 4\n\ndata: [DONE]\nid: 5\n\n"
    )
    assert tape.ids == 5


def last_event_id(body: bytes) -> int | None:
    """Return what a client would come back with: at every blank line, the last `id:` so far (HTML standard, 9.2.6)."""
    said = [line.partition(b":")[2].strip() for line in body.splitlines() if line.partition(b":")[0] == b"id"]
    return int(said[-1]) if said else None


@pytest.mark.parametrize("stray", [b"id: 1\n\n", b"id: abc\n\n", b"id\n\n", b"event: x\nid:9\n\n", b"id: 5\r\n\r\n", b"id: 5\r\r"])
def test_a_clients_last_id_is_always_ours(stray: bytes) -> None:
    """An upstream's `id:` with or without an event, wherever it stands: a client that breaks off there goes on with what it has not had."""
    body = stray + b"data: a\n\n" + stray + b": comment of an id\n\ndata: b\n\n" + stray
    for place in range(len(body)):
        tape, said = recorded(sse.FRAMING, body, [place])
        numbers = (last_event_id(said[:end]) for end in range(len(said)) if said[:end].endswith(b"\n\n"))
        assert [number for number in numbers if number not in {None, 0, 1, 2}] == []
        assert (last_event_id(said), tape.count, tape.ids, said.count(b"id: ") >= tape.ids) == (2, 2, 5, True)
        assert played(tape, tape.after(2) or 0) == with_id(stray, 2)
        assert b": comment of an id\n\n" in said


@pytest.mark.parametrize("ending", [b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n", b"\r\n\n"])
def test_an_id_in_any_line_end(ending: bytes) -> None:
    """An event with its id is one event still, of the same data."""
    [frame] = [frame for frame in sse.Parser().feed(with_id(b"data: x" + ending, 12) + b"data") if frame.raw.strip()]
    assert (frame.data, b"id: 12" in frame.raw) == (b"x", True)


@pytest.mark.parametrize("name", STREAMS)
def test_what_is_dropped_is_known(name: str) -> None:
    """A short tape keeps its latest whole events: what follows a dropped one cannot be had, the rest can, byte for byte."""
    framing, body, count = STREAMS[name]
    tape, said = recorded(framing, body, [], limit=20)
    whole, _ = recorded(framing, body, [])
    assert tape.start > 0
    places = [tape.after(number) for number in range(count + 1)]
    assert places[0] is None
    assert places[-1] is not None
    for number, place in enumerate(places):
        assert place is None or played(tape, place) == played(whole, whole.after(number) or 0)
    kept = places.index(next(place for place in places if place is not None))
    assert None not in places[kept:]
    assert said.endswith(played(tape, tape.start))


def test_memory_does_not_grow() -> None:
    """A hundred thousand events on a tape of 10 kB leave 10 kB, and lists that are no longer than that."""
    tape = Tape(sse.FRAMING, 10_000)
    for number in range(100_000):
        tape.add(b"data: %d\n\n" % number)
        tape.shorten(tape.end)
        assert tape.end - tape.start <= 10_000
    assert len(tape._pieces) < 5_000
    assert tape.after(99_990) is not None
    assert tape.after(5) is None


def test_what_a_client_has_not_had_stays() -> None:
    """Nothing behind the place of a listener is dropped, however much it is."""
    tape, dice = Tape(sse.FRAMING, 100), random.Random(3)
    first = tape.add(b"data: first\n\n")
    place, said = tape.end, b""
    for _ in range(200):
        said += tape.add(b"data: %b\n\n" % (b"x" * dice.randrange(40)))
        tape.shorten(place)
    assert played(tape, place) == said
    assert tape.start <= place <= len(first)


def test_an_event_beyond_reading_tears_the_tape() -> None:
    """What is too large to be read is passed on byte for byte with all that follows it, and the tape says that it is torn."""
    huge = b"data: " + b"x" * (2 << 20)
    tape = Tape(sse.FRAMING, 1 << 10)
    said = tape.add(b"data: a\n\n")
    for start in range(0, len(huge), 50_000):
        said += tape.add(huge[start : start + 50_000])
        tape.shorten(tape.end)
        assert tape.end - tape.start <= 2 << 20
    said += tape.add(b"\n\ndata: b\n\n") + tape.finish()
    assert said == b"data: a\nid: 1\n\n" + huge + b"\n\ndata: b\n\n"
    assert tape.torn
