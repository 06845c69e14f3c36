"""How much work inputs cost that are made of one nasty block, again and again: eight times as much must cost eight times as much."""

import gc
import json
import statistics
import time
from collections.abc import Callable
from random import Random
from typing import Any

import msgspec

from gateway.core.errors import Rejected
from gateway.dialects import DIALECTS
from gateway.stream.cadence import CadenceMeter
from gateway.stream.observer import Observer
from gateway.wire import document
from tests.wire.fuzz_corpus import ASKED, FRAMINGS, STAMP, WORST, calls, rejected, seeds, some_bytes, some_stream, spoilt
from tests.wire.fuzz_dialects import events_of
from tests.wire.fuzz_mutation import TOKENS
from tests.wire.fuzz_requests import some_tree
from tests.wire.fuzz_wire import CUTTERS, PARSERS

Thunk = Callable[[], object]
Grow = Callable[[int], Thunk]
"""Makes the work of an input of so many blocks; what makes the input is no part of the work."""

READS = (1 << 20, 64, 4096)
_ENOUGH, _MOST = 0.004, 1 << 22
SUSPICIOUS, GUILTY = 20.0, 2.8
"""Times the work of eight times the input (linear is 8, quadratic 64), and of the last doubling (2 and 4)."""


class TooMuchWork(AssertionError):
    """The work grows faster than the input."""


def measure(what: str, grow: Grow, block: int) -> None:
    """Raise when the work is not linear. `block` is the size of one block in bytes."""
    count = 16
    while _seconds(grow(count)) < _ENOUGH:
        count *= 2
        if count * (block + 1) * 8 > _MOST:
            return  # too little to measure
    if _seconds(grow(8 * count)) < SUSPICIOUS * _seconds(grow(count)):
        return
    sizes = [count, 2 * count, 4 * count, 8 * count]
    times = [statistics.median(_seconds(grow(size)) for _ in range(5)) for size in sizes]
    if times[3] > SUSPICIOUS * times[0] and times[3] > GUILTY * times[2]:
        told = ", ".join(f"{size} blocks {seconds * 1000:.1f} ms" for size, seconds in zip(sizes, times, strict=True))
        raise TooMuchWork(f"{what}: {told}")


def _seconds(work: Thunk) -> float:
    gc.collect(0)
    gc.disable()
    try:
        started = time.process_time()
        work()
        return time.process_time() - started
    finally:
        gc.enable()


def _feeding(make: Callable[[], Callable[[bytes], object]], before: bytes, block: bytes, size: int) -> Grow:
    def grow(count: int) -> Thunk:
        data = before + block * count
        reads = [data[at : at + size] for at in range(0, len(data), size)]
        take = make()
        return lambda: [take(read) for read in reads]

    return grow


def _block(kind: str, rng: Random, stream: bytes) -> tuple[bytes, bytes]:
    """Return a beginning and a short block to repeat after it."""
    if rng.random() < 0.5:
        block = b"".join(rng.choice(TOKENS) for _ in range(rng.randrange(1, 4)))
    else:
        start = rng.randrange(len(stream) + 1)
        block = stream[start : start + rng.choice((1, 2, 5, 17, 60, 200))]
    before = rng.choice((b"", stream[: rng.randrange(200)], rng.choice(WORST[kind])[: rng.randrange(60)]))
    return before, block or b"\n"


def framing_work(kind: str, rng: Random) -> None:
    """Measure a parser, within its limit and beyond it."""
    before, block = _block(kind, rng, some_bytes(kind, rng))
    size, limit = rng.choice(READS), rng.choice((1 << 24, 1 << 12))
    grow = _feeding(lambda: PARSERS[kind](limit).feed, before, block, size)
    measure(f"{kind}.Parser({limit}), {before!r} + {block!r} * n in reads of {size}", grow, len(block))


def cutters_work(rng: Random) -> None:
    kind = rng.choice(tuple(CUTTERS))
    before, block = _block(kind, rng, some_bytes(kind, rng))
    size, limit = rng.choice(READS), rng.choice((1 << 24, 1 << 12))
    grow = _feeding(lambda: CUTTERS[kind](limit).push, before, block, size)
    measure(f"{kind}.Cutter({limit}), {before!r} + {block!r} * n in reads of {size}", grow, len(block))


def document_work(rng: Random) -> None:
    """Measure the edits of a body that is made of many members, strings, brackets or escapes."""
    block = rng.choice(
        ('"a":1,', '"model":"x",', '"\\u006d":[{}],', '"b":"' + "x" * 70 + '",', '"c":"\\\\\\"",', '"stream_options":{"a":1},')
    )
    inner = rng.choice(('"x",', "[],", '{"model":1},', '"\\u0061\\"",', "1.5 ,", '"' + "y" * 90 + '",'))

    def grow(count: int) -> Thunk:
        body = ("{" + block * count + '"deep":[' + inner * count + '0],"model":"m"}').encode()
        return lambda: (
            document.replace_member(body, "model", b'"n"'),
            document.edit_member(body, "a", bytes),
            document.find_members(body, "zz"),
        )

    measure(f"document edits of {block!r} * n and {inner!r} * n", grow, len(block) + len(inner))


def reader_work(name: str, rng: Random) -> None:
    """Measure parser, reader and account of a stream that says one thing again and again."""
    call = rng.choice(calls(name))
    dialect = DIALECTS[name]
    kind = FRAMINGS[dialect.framing(call).media_type]
    before, block = _block(kind, rng, some_stream(name, kind, rng))
    size = rng.choice(READS)
    observed = _feeding(lambda: _observing(name, call), before, block, size)
    measure(f"{name} {call.path} observed, {before!r} + {block!r} * n in reads of {size}", observed, len(block))
    payload = spoilt(rng.choice(rng.choice(seeds(name)))[1], rng)
    grow = _documents(name, call, payload)
    measure(f"{name} {call.path} read_document of [{payload!r} * n]", grow, len(payload))


def _observing(name: str, call: Any) -> Callable[[bytes], object]:
    observer = Observer(DIALECTS[name], call, CadenceMeter(1.0))
    return lambda read: observer.feed(read, 0.0)


def _documents(name: str, call: Any, payload: bytes) -> Grow:
    def grow(count: int) -> Thunk:
        body = b"[" + b",".join([payload] * count) + b"]"
        return lambda: _decoded(lambda: DIALECTS[name].read_document(call, body))

    return grow


def _decoded(work: Thunk) -> None:
    try:
        work()
    except msgspec.DecodeError:
        return


def writer_work(name: str, rng: Random) -> None:
    """Measure a writer that is told the same few events again and again, one at a time."""
    call, dialect = rng.choice(calls(name)), DIALECTS[name]
    block = bytes(rng.randrange(256) for _ in range(4 * rng.randrange(1, 4)))

    def grow(count: int) -> Thunk:
        writer, events = dialect.writer(call, STAMP), events_of(block * count)
        return lambda: ([writer.feed([event]) for event in events], writer.end(), dialect.write_document(call, events, STAMP))

    measure(f"{name} {call.path} writer of {events_of(block)!r} * n"[:2000], grow, 100 * len(block))


def prompt_work(name: str, rng: Random) -> None:
    """Measure the translation of a request in which one list is long."""
    tree = some_tree(name, rng)
    lists = [found for found in _lists(tree) if found]
    if not lists:
        return
    item = rng.choice(rng.choice(lists))
    text, mark = json.dumps(item), "@here"
    for found in lists:
        if item in found:
            found[found.index(item)] = mark
            break
    body = json.dumps(tree)
    endpoint = DIALECTS[name].endpoints[0]

    def grow(count: int) -> Thunk:
        long = body.replace(f'"{mark}"', ",".join([text] * count)).encode()
        return lambda: rejected(lambda: _translated(name, endpoint, long))

    measure(f"{name} translated, {text} * n in {body}", grow, len(text))


def _translated(name: str, endpoint: Any, body: bytes) -> None:
    prompt = DIALECTS[name].read_prompt(DIALECTS[name].parse_call(endpoint, body, ASKED))
    for target in DIALECTS.values():
        target.unsaid(prompt)
        try:
            target.compose(prompt)
        except Rejected:
            continue


def _lists(tree: Any) -> list[list[Any]]:
    inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return [*([tree] if isinstance(tree, list) else []), *(found for value in inner for found in _lists(value))]
