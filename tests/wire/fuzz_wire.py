"""What must hold of every framing for any bytes at any cut: nothing is lost, nothing depends on the reads, nothing is torn unsaid."""

import json
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from gateway.core.errors import Rejected
from gateway.dialects.openai import OPENAI
from gateway.wire import document, eventstream, jsonarray, ndjson, sse
from gateway.wire.framing import Cutter, Frame, Framing, Parser
from tests.wire.fuzz_corpus import ASKED
from tests.wire.fuzz_mutation import cuts


class Case(NamedTuple):
    """One input: the bytes, where its reads end, and a number that chooses among whatever else varies."""

    data: bytes
    places: tuple[int, ...] = ()
    pick: int = 0


Said = list[tuple[bytes, str]]

LIMITS = (1 << 20, 1 << 20, 1, 13, 40, 200)
SLACK = {"sse": 3, "ndjson": 0, "jsonarray": 1, "eventstream": 0}
"""Bytes beyond the limit that may be held: line ends, or a backslash, whose other half has not come."""
MODULES: dict[str, Any] = {"sse": sse, "ndjson": ndjson, "jsonarray": jsonarray, "eventstream": eventstream}
PARSERS: dict[str, Callable[[int], Parser]] = {name: module.Parser for name, module in MODULES.items()}
CUTTERS: dict[str, Callable[[int], Cutter]] = {name: module.Cutter for name, module in MODULES.items()}
FRAMINGS: dict[str, Framing] = {name: module.FRAMING for name, module in MODULES.items()}


def parse(kind: str, reads: Sequence[bytes], limit: int = 1 << 24) -> tuple[list[Frame], Parser]:
    """Return all frames; whatever is fed comes out again, and no more is held than may be."""
    parser, frames, most = PARSERS[kind](limit), list[Frame](), max(limit, 12) + SLACK[kind]
    for read in reads:
        frames += parser.feed(read)
        assert len(parser.tail) <= most, f"{len(parser.tail)} bytes are held, the limit is {limit}"
        assert not (parser.at_boundary and parser.tail), "it stands at a boundary and holds a tail"
    out = b"".join(frame.raw for frame in frames) + parser.tail
    assert out == b"".join(reads), "the frames and the tail are not the input"
    return frames, parser


def spoken(frames: Sequence[Frame]) -> Said:
    return [(frame.data, frame.name) for frame in frames if frame.data or frame.name]


def check_parser(kind: str, case: Case) -> None:
    """The law of one parser."""
    limit = LIMITS[case.pick % len(LIMITS)]
    reads = cuts(case.data, case.places)
    whole, parser = parse(kind, [case.data], limit)
    pieces, other = parse(kind, reads, limit)
    for frame in (*whole, *pieces):
        assert not frame.data or len(frame.raw) <= max(limit, 12), "a frame over the limit was read"
    if kind != "sse" or limit > len(case.data) or not _size_depends_on_reads(case.data, (parser, other)):
        assert spoken(pieces) == spoken(whole), "the frames depend on the cuts"
        assert other.skipped == parser.skipped, f"skipped {parser.skipped} as a whole, {other.skipped} in pieces"
    if limit == LIMITS[0] > len(case.data):
        _REFERENCES[kind](case.data, whole, parser)


def _size_depends_on_reads(data: bytes, parsers: Sequence[Parser]) -> bool:
    """Tell whether the size of an event depends on when its last LF comes; then so does whether it is too large."""
    return b"\r\r\n" in data or any(parser.tail.endswith(b"\n\r") for parser in parsers)


def _sse_reference(data: bytes, frames: list[Frame], parser: Parser) -> None:
    if parser.tail.endswith(b"\n\r"):  # we wait for a LF; the standard has dispatched already
        frames, data = [*frames, *parser.feed(b"\n")], data + b"\n"
    assert spoken(frames) == list(standard(data)), "the standard dispatches other events"
    assert parser.skipped == 0


def standard(stream: bytes) -> Iterator[tuple[bytes, str]]:
    """Yield what the standard dispatches, line by line as it is written there (HTML, 9.2.6), unnamed events of empty data aside."""
    data: list[bytes] = []
    name = b""
    for line in re.split(rb"\r\n|\r|\n", stream.removeprefix(sse.BOM))[:-1]:
        if not line:
            if data and (any(data) or len(data) > 1 or name):
                yield b"\n".join(data), name.decode("utf-8", "replace")
            data, name = [], b""
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")


def _ndjson_reference(data: bytes, frames: list[Frame], parser: Parser) -> None:
    lines = data.split(b"\n")
    assert [frame.data for frame in frames] == [line.strip(b" \t\r\n") for line in lines[:-1]], "the lines are others"
    assert parser.tail == lines[-1]
    assert parser.skipped == 0


def _jsonarray_reference(data: bytes, frames: list[Frame], parser: Parser) -> None:
    found = loads(data)
    if isinstance(found, list):
        elements = [element for element in found if isinstance(element, dict | list)]
        assert repr([loads(frame.data) for frame in frames[:-1]]) == repr(elements), "the elements are others"
        assert frames[-1].data == jsonarray.END
        assert not parser.tail.strip()
    elif isinstance(found, dict):
        assert repr([loads(frame.data) for frame in frames]) == repr([found]), "the object is no element"
    assert parser.skipped == 0


def _eventstream_reference(data: bytes, frames: list[Frame], parser: Parser) -> None:
    """Every frame that says something has both checksums right, and none that has was passed over."""
    good, bad, large, at = list[bytes](), 0, False, 0
    while len(data) - at >= 12:
        total, headers, crc = struct.unpack_from(">III", data, at)
        if zlib.crc32(data[at : at + 8]) != crc or not 16 + headers <= total or headers > 128 << 10 or total > headers + 16 + (24 << 20):
            bad += 1
            break
        large = total > LIMITS[0]
        if len(data) - at < total:
            break
        message = data[at : at + total]
        if zlib.crc32(message[:-4]) == int.from_bytes(message[-4:]) and eventstream.read_headers(message[12 : 12 + headers]) is not None:
            good.append(message)
        else:
            bad += 1
        at += total
    read = [frame for frame in frames if frame.data or frame.name]
    assert all(frame.raw in good for frame in read), "a message with a wrong checksum was read"
    payloads = [(raw, raw[12 + int.from_bytes(raw[4:8]) : -4]) for raw in good]
    said = {frame.raw: frame for frame in frames}
    for raw, payload in payloads:
        assert raw in said, "a whole message is no frame"
        assert said[raw].data == payload or said[raw].name.startswith("error:"), "the payload is another"
    assert parser.skipped == bad + large


_REFERENCES: dict[str, Callable[[bytes, list[Frame], Parser], None]] = {
    "sse": _sse_reference, "ndjson": _ndjson_reference, "jsonarray": _jsonarray_reference, "eventstream": _eventstream_reference,
}  # fmt: skip
OURS = {"sse": b"data: OURS\n\n", "ndjson": b'{"OURS":1}\n', "jsonarray": b"\r\n", "eventstream": eventstream.event("OURS", b"")}
_OUR_FRAME = {"sse": (b"OURS", ""), "ndjson": (b'{"OURS":1}', ""), "eventstream": (b"", "OURS")}


def check_cutter(kind: str, case: Case) -> None:
    """Whatever is said while a cutter is not `inside` leaves every event as it was; and nothing but the limit is ever held."""
    limit = LIMITS[case.pick // 4 % len(LIMITS)] if case.pick // 4 else 0
    data = b"\n" + case.data if kind == "sse" else case.data  # a mark at the start stops being one once we have spoken first
    cutter, framing, ours = CUTTERS[kind](limit), FRAMINGS[kind], 0
    reads = cuts(data, case.places)
    said, out, torn = b"", b"", 0
    for read in reads:
        whole = cutter.aligned and bool(framing.ending) and read.endswith(framing.ending)
        let_out = cutter.push(read)
        out, said = out + let_out, said + let_out
        assert len(cutter.tail) <= max(limit, 12) + SLACK[kind], f"{len(cutter.tail)} bytes are held, the limit is {limit}"
        assert not whole or (let_out == read and cutter.aligned), "a read that ends with the framing's ending did not pass as it is"
        assert not (cutter.inside and cutter.aligned)
        if cutter.inside:
            torn += 1
            if torn < 4:
                _check_ending(kind, said)
        else:
            said, ours = said + OURS[kind], ours + 1
    assert out + cutter.tail == data, "what came out and what is held are not the input"
    seen = spoken(parse(kind, [said + cutter.tail])[0])
    if kind in _OUR_FRAME:
        assert seen.count(_OUR_FRAME[kind]) == ours, f"{seen.count(_OUR_FRAME[kind])} of {ours} words of ours are read"
    theirs = [event for event in seen if event != _OUR_FRAME.get(kind)]
    assert theirs == spoken(parse(kind, [data])[0]), "a word of ours tore an event"


def _check_ending(kind: str, said: bytes) -> None:
    """The framing's ending closes what was torn, so that a last word can be read."""
    if ending := FRAMINGS[kind].ending:
        assert spoken(parse(kind, [said + ending + OURS[kind]])[0])[-1:] == [_OUR_FRAME[kind]], "after the ending nothing of ours is read"


def check_cutters(case: Case) -> None:
    check_cutter(("sse", "ndjson", "jsonarray", "eventstream")[case.pick % 4], case)


_MISSING: Any = object()
_KEYS = ("model", "a", "stream_options", "messages", "metadata", "include_usage")


def check_document(case: Case) -> None:
    """A body that was accepted can be edited, and nothing but what was asked for changes."""
    body = case.data
    if (pairs := top_members(body)) is not None:
        for key in _KEYS:
            _check_members(body, key, pairs)
    try:
        call = OPENAI.parse_call(OPENAI.endpoints[case.pick % 3], body, ASKED)
    except Rejected:
        return
    edited = OPENAI.outgoing(call, "other", inject_usage=True).body
    if pairs is None:
        return
    after = top_members(edited)
    assert after is not None, "what was JSON is none any more"
    kept = [(key, "other" if key == "model" and call.model != "other" else value) for key, value in pairs if key != "stream_options"]
    assert repr([pair for pair in after if pair[0] != "stream_options"]) == repr(kept), "another member has changed"
    if OPENAI.injects_usage(call):
        assert dict(dict(after)["stream_options"])["include_usage"] is True, "usage was not asked for"
    else:
        assert repr(_options(after)) == repr(_options(pairs)), "the client's own word was changed"


def _options(members: list[tuple[str, Any]]) -> list[Any]:
    return [value for key, value in members if key == "stream_options"]


def _check_members(body: bytes, key: str, pairs: list[tuple[str, Any]]) -> None:
    spans = document.find_members(body, key)
    values = [value for name, value in pairs if name == key]
    assert repr([_value(body[start:end]) for start, end in spans]) == repr(values), f"`{key}` is found elsewhere"
    assert document.edit_member(body, key, lambda value: value) == body
    inserted = top_members(document.insert_member(body, "a", b"[1]"))
    assert repr(inserted) == repr([("a", [1]), *pairs]), "an insertion changes more"
    if spans:
        replaced = top_members(document.replace_member(body, key, b"null"))
        assert repr(replaced) == repr([(name, None if name == key else value) for name, value in pairs]), "a replacement changes more"


def top_members(body: bytes) -> list[tuple[str, Any]] | None:
    """Return the members of an object in order, the same key twice included; None for what is no JSON object, or too deep to compare."""
    try:
        found = json.loads(body.decode(), object_pairs_hook=_Pairs)
        repr([[[[[[[[[[found]]]]]]]]]])
    except (ValueError, RecursionError):
        return None
    return list(found) if isinstance(found, _Pairs) else None


def _value(data: bytes) -> Any:
    found = top_members(b'{"":' + data + b"}")
    return found[0][1] if found else _MISSING


class _Pairs(list[Any]):
    """The members of an object in order, told from an array; every inner object too."""


def loads(data: bytes) -> Any:
    """Read any JSON; something that equals nothing when it is none."""
    try:
        return json.loads(data.decode())
    except (ValueError, RecursionError):
        return _MISSING
