"""What must hold of every dialect for any bytes and any events: it refuses in one way, says only what others can hold, and never fails."""

import json
import math
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec

from gateway.core.call import Call
from gateway.core.errors import Rejected, StreamTruncated
from gateway.core.events import Delta, Event, Failed, Finished, Started, Terminated, ToolOpened, Usage
from gateway.core.prompt import Prompt
from gateway.dialects import DIALECTS
from gateway.dialects.base import Asked, Dialect
from gateway.stream.cadence import CadenceMeter
from gateway.stream.observer import DocumentObserver, Observation, Observer
from tests.wire.fuzz_corpus import ASKED, STAMP, calls
from tests.wire.fuzz_mutation import cuts
from tests.wire.fuzz_wire import Case

WORD = 2**63
MAX_STATE = 4096


def variant(name: str, case: Case, chats: bool = False) -> Call:
    """Return the call whose answer this is; only `chats` are ever answered in another dialect."""
    found = [call for call in calls(name) if call.operation == "chat" or not chats]
    return found[case.pick % len(found)]


def check_reader(name: str, case: Case) -> None:
    """Frames say what a record can hold or raise `DecodeError`; so do documents, and errors are read whatever they are."""
    dialect, call = DIALECTS[name], variant(name, case)
    reader, parser = dialect.reader(call), dialect.framing(call).parser()
    for read in cuts(case.data, case.places):
        for frame in parser.feed(read):
            assert isinstance(dialect.is_usage_frame(frame), bool)
            try:
                events = reader.events(frame)
            except msgspec.DecodeError:
                continue
            for event in events:
                check_event(event)
    _check_state(reader)
    try:
        events = dialect.read_document(call, case.data)
    except msgspec.DecodeError:
        events = ()
    for event in (*events, dialect.read_error(400 + case.pick, case.data)):
        check_event(event)


def check_event(event: Event) -> None:
    """One event is what `core.events` promises, and fits a record."""
    match event:
        case Delta():
            assert isinstance(event.text, str), "a delta without text"
            assert event.text, "a delta of empty text"
            assert _is_index(event.index), f"index {event.index!r}"
        case ToolOpened():
            assert _is_index(event.index), f"index {event.index!r}"
            assert _is_name(event.id, 256), "a tool's id"
            assert _is_name(event.name, 256), "a tool's name"
        case Started():
            assert _is_name(event.id, 256), "an id"
            assert _is_name(event.model, 256), "a model"
            _encodable(event.id or "", event.model or "")
        case Usage():
            for counted in msgspec.structs.astuple(event):
                assert counted is None or (type(counted) is int and 0 <= counted < WORD), f"a count of {counted!r}"
        case Finished():
            assert _is_name(event.reason, 64), "a reason"
            assert event.reason
            _encodable(event.reason)
        case Failed():
            assert isinstance(event.code, str), "a code"
            assert 0 < len(event.code) <= 64, "a code"
            assert isinstance(event.message, str), "a message"
            assert len(event.message) <= 1000, "a message"
            _encodable(event.code, event.message)
        case _:
            assert event == Terminated(), f"no event: {event!r}"


def _is_index(found: Any) -> bool:
    return type(found) is int and abs(found) < WORD


def _is_name(found: Any, most: int) -> bool:
    return found is None or (isinstance(found, str) and 0 < len(found) <= most)


def _encodable(*texts: str) -> None:
    for text in texts:
        assert text.encode("utf-8", "replace").decode() == text, f"no record can hold {text!r}"


def _check_state(reader: Any) -> None:
    for slot in getattr(type(reader), "__slots__", ()):
        kept = getattr(reader, slot)
        if isinstance(kept, dict | list | set | str | bytes | bytearray):
            assert len(kept) <= MAX_STATE, f"{slot} holds {len(kept)}"


def check_prompt(name: str, case: Case) -> None:
    """A request is refused, or every dialect refuses it or says it in JSON that it takes itself."""
    dialect = DIALECTS[name]
    endpoint = dialect.endpoints[case.pick % len(dialect.endpoints)]
    try:
        call = dialect.parse_call(endpoint, case.data, ASKED)
    except Rejected:
        return
    check_call(call)
    dialect.outgoing(call, "other", inject_usage=True)
    dialect.writer(call, STAMP).end()
    try:
        prompt = dialect.read_prompt(call)
    except Rejected:
        return
    assert (prompt.model, prompt.stream) == (call.model, call.stream)
    for target in DIALECTS.values():
        _check_composed(target, prompt)


def check_call(call: Call) -> None:
    """What is read of a request fits a span."""
    for limit in (call.max_tokens, call.seed):
        assert limit is None or (type(limit) is int and abs(limit) < WORD), f"{limit!r} is no integer of 64 bits"
    for degree in (call.temperature, call.top_p):
        assert degree is None or (isinstance(degree, int | float) and math.isfinite(degree)), f"{degree!r} is no number"
    assert isinstance(call.model, str), "a call without a model"
    assert call.model, "a call without a model"
    _encodable(call.model, call.path)
    assert re.fullmatch(r"(/(?!\.\.?(/|$))[!-.0-~]*)+", call.path.partition("?")[0]), f"{call.path!r} is no path"


def _check_composed(target: Dialect, prompt: Prompt) -> None:
    assert all(isinstance(member, str) for member in target.unsaid(prompt)), "unsaid names something that is no name"
    try:
        composed = target.compose(prompt)
    except Rejected:
        return
    check_call(composed)
    strictly(composed.body)
    outgoing = target.outgoing(composed, None, inject_usage=False)
    assert (outgoing.path, outgoing.body) == (composed.path, composed.body), f"{target.name}: what was composed is sent otherwise"
    try:
        taken = reparsed(target, composed)
    except Rejected as refusal:
        if refusal.code not in _NOT_OURS:
            raise AssertionError(f"{target.name} refuses what it composed: {refusal.message}") from refusal
        return
    assert (taken.model, taken.stream) == (prompt.model, prompt.stream), (
        f"{target.name}: it asks for {taken.model!r}, stream {taken.stream}"
    )
    try:
        again = target.read_prompt(taken)
    except Rejected:
        return
    may_leave_out = prompt.choice is not None and prompt.choice.mode == "none"
    assert may_leave_out or len(again.tools) == len(prompt.tools), f"{target.name}: {len(prompt.tools)} tools became {len(again.tools)}"


_NOT_OURS = ("invalid_model", "invalid_json")
"""A model's name that this dialect has no place for, and a depth at which JSON is read or not by what called the reader."""


def strictly(body: bytes) -> Any:
    """Read JSON as the standard has it: UTF-8, no NaN, no half characters; bodies of any depth pass."""
    text = body.decode()
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        return None


def _refuse(constant: str) -> Any:
    raise AssertionError(f"{constant} is no JSON")


def reparsed(target: Dialect, composed: Call) -> Call:
    """Read a composed call as if a client of that dialect had sent it."""
    path, _, query = composed.path.partition("?")
    for endpoint in target.endpoints:
        for template in filter(None, (endpoint.upstream_path, endpoint.path)):
            pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(template))
            if found := re.fullmatch(pattern, path):
                params = {key: unquote(value) for key, value in found.groupdict().items()}
                return target.parse_call(endpoint, composed.body, Asked(params, dict(parse_qsl(query))))
    raise AssertionError(f"{target.name}: no door has the path {composed.path}")


TEXTS = (
    "a", " b", "\n", '"', "\\", "é漢👩‍👩‍👧", "\ud83d", "\ude00", "\x00", "{", "}", '{"a":1}', '{"a":', "x" * 300, "[DONE]", "data: x\n\n",
    "\u2028", "[]", "1", "null", " ", "\r\n\r\n", "event: error\n", "NaN", '{"a":NaN}', '{"a":1e999}', '{"a":"\\ud800"}',
    '{"a":' * 500 + "1" + "}" * 500, "[" * 990, '{"a":' + "9" * 30 + "}", '{"a":' + "9" * 5000 + "}", '{"a":' * 990 + "1" + "}" * 990,
)  # fmt: skip
NAMES = (None, "call_1", "f", "x" * 256, "\ud800", 'q"\n', "é", "a/b c", "call_1", "call_2")
INDEXES = (0, 0, 0, 1, 2, -1, 127, WORD - 1, -5)
COUNTS = (None, 0, 1, 7, 300, WORD - 1)
KINDS = ("text", "reasoning", "refusal", "arguments", "audio")
MEANINGS = ("stop", "length", "tools", "filtered", "other")


def events_of(data: bytes) -> list[Event]:
    """Turn bytes into events, four bytes each: so they can be mutated, cut down and printed like everything else."""
    return [_event(*data[at : at + 4]) for at in range(0, len(data) - 3, 4)]


def _event(kind: int, first: int, second: int, third: int) -> Event:
    name, other, index = NAMES[first % len(NAMES)], NAMES[second % len(NAMES)], INDEXES[third % len(INDEXES)]
    match kind % 16:
        case 0 | 1 | 2 | 3:
            return Delta("text", TEXTS[first % len(TEXTS)], index)
        case 4 | 5 | 6 | 7 | 8:
            return Delta(KINDS[kind % 5], TEXTS[first % len(TEXTS)], index)  # type: ignore[arg-type]
        case 9 | 10:
            return ToolOpened(index, name, other)
        case 11:
            return Started(*(said if said is None or said.isascii() else "é" for said in (name, other)))
        case 12:
            return Usage(*(COUNTS[(first >> place) % len(COUNTS)] for place in range(5)))
        case 13:
            return Finished((other or "stop")[:64] if (other or "").isascii() else "é", MEANINGS[first % len(MEANINGS)])  # type: ignore[arg-type]
        case 14:
            return Failed("overloaded", "busy")
    return Terminated() if first % 4 == 0 else Delta("text", "plain", index)


def check_writer(name: str, case: Case) -> None:
    """Any events can be said, and what is said is read again by the same dialect."""
    dialect, call, events = DIALECTS[name], variant(name, case, chats=True), events_of(case.data)
    edges = [0, *sorted(place % (len(events) + 1) for place in case.places), len(events)]
    writer = dialect.writer(call, STAMP)
    said = b"".join(writer.feed(events[start:end]) for start, end in pairwise(edges))
    fails = case.pick // 16 % 3 == 0
    last = writer.fail(StreamTruncated("it broke")) if fails else writer.end()
    assert (writer.end(), writer.fail(StreamTruncated("late")), writer.feed(events)) == (b"", b"", b""), "it speaks after its end"
    heard = _heard(dialect, call, said + last)
    if fails and last:
        assert any(type(event) is Failed for event in heard), "the error is not read"
    if not fails:
        finish = [event.reason for event in heard if type(event) is Finished]
        assert dialect.complete(any(type(event) is Terminated for event in heard), finish), "the end is no proper end"
    _check_text(events, heard)
    body = dialect.write_document(call, events, STAMP)
    strictly(body)
    for event in dialect.read_document(call, body):
        check_event(event)


def _heard(dialect: Dialect, call: Call, said: bytes) -> Sequence[Event]:
    parser, reader, heard = dialect.framing(call).parser(), dialect.reader(call), list[Event]()
    for frame in parser.feed(said):
        heard += reader.events(frame)
    assert not parser.tail.strip(), f"half an event is left: {parser.tail[:80]!r}"
    assert not parser.skipped, "an event of ours is not read"
    for event in heard:
        check_event(event)
    return heard


def _check_text(events: Sequence[Event], heard: Sequence[Event]) -> None:
    ends = next((at for at, event in enumerate(events) if type(event) is Terminated), len(events))
    told = events[:ends]
    if any(type(event) is Delta and event.kind in {"refusal", "audio"} for event in told):
        return  # not every dialect has a place of its own for these
    text, again = ("".join(event.text for event in spoken if type(event) is Delta and event.kind == "text") for spoken in (told, heard))
    if text.encode("utf-8", "replace").decode() == text:
        assert again == text, "the text is another"


_DEEP = re.compile(rb'(?:\[|\{"a":){700}')
"""Nested so deeply that whether it can be read depends on who calls the reader."""


def check_observer(name: str, case: Case) -> None:
    """An account does not depend on the cuts, and no bytes break it."""
    dialect, call = DIALECTS[name], variant(name, case)
    reads = cuts(case.data, case.places)
    pieces, whole = watched(dialect, call, reads), watched(dialect, call, [case.data])
    differ = {name: (pieces[name], whole[name]) for name in whole if pieces[name] != whole[name]}
    assert not differ or _DEEP.search(case.data), f"the account depends on the cuts: {differ}"
    assert documented(dialect, call, reads) == documented(dialect, call, [case.data])


def watched(dialect: Dialect, call: Call, reads: Sequence[bytes]) -> dict[str, Any]:
    meter = CadenceMeter(1.0)
    observer = Observer(dialect, call, meter)
    for number, read in enumerate(reads):
        observer.feed(read, float(number))
    return {"chunks": meter.report().chunks, **_account(observer)}


def documented(dialect: Dialect, call: Call, reads: Sequence[bytes]) -> dict[str, Any]:
    observer = DocumentObserver(dialect, call)
    for number, read in enumerate(reads):
        observer.feed(read, float(number))
    observer.finish_document(9.0)
    return _account(observer)


def _account(seen: Observation) -> dict[str, Any]:
    names = ("response_id", "model", "usage", "finish", "failure", "terminated", "errors", "complete", "last_kind", "spoke")
    return {name: getattr(seen, name) for name in names}
