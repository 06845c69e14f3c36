"""The fuzz program: every parser, reader, writer and translation against spoilt input, for as long as you like.

    python -m tests.wire.fuzz --seconds 600 --parser sse

What breaks a law is cut down to what is needed for it, printed as a Python literal, and ends the run with 1. See docs/fuzzing.md.
"""

import argparse
import ast
import json
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import NamedTuple

from gateway.dialects import DIALECTS
from tests.wire import fuzz_corpus, fuzz_dialects, fuzz_mutation, fuzz_requests, fuzz_wire, fuzz_work
from tests.wire.fuzz_mutation import some_places, spoil_bytes
from tests.wire.fuzz_wire import Case

SLOW = 2.0
"""CPU seconds that no single case may need."""
WORK_SHARE = 0.15
"""Of the time, what is spent on how work grows."""


class Target(NamedTuple):
    """Something to fuzz: what makes an input, what must hold of it, and what measures its work."""

    make: Callable[[Random], bytes]
    check: Callable[[Case], None]
    work: Callable[[Random], None]


class TooSlow(AssertionError):
    """A case took longer than any may."""


def _cutters(rng: Random) -> bytes:
    return fuzz_corpus.some_bytes(rng.choice(tuple(fuzz_wire.CUTTERS)), rng)


def _streams(name: str, rng: Random) -> bytes:
    if rng.random() < 0.15:
        return fuzz_corpus.some_document(name, rng)
    kinds = {fuzz_corpus.FRAMINGS[DIALECTS[name].framing(call).media_type] for call in fuzz_corpus.calls(name)}
    return fuzz_corpus.some_stream(name, rng.choice(sorted(kinds)), rng)


def _events(rng: Random) -> bytes:
    data = bytes(rng.randrange(256) for _ in range(4 * rng.randrange(1, 24)))
    return spoil_bytes(data, rng, (data,)) if rng.random() < 0.2 else data


def _requests(rng: Random) -> bytes:
    return fuzz_requests.some_request(rng.choice(("openai", "openai", "azure", "anthropic", "ollama")), rng)


def _targets() -> dict[str, Target]:
    found: dict[str, Target] = {}
    for kind in fuzz_wire.PARSERS:
        work = partial(fuzz_work.framing_work, kind)
        found[kind] = Target(partial(fuzz_corpus.some_bytes, kind), partial(fuzz_wire.check_parser, kind), work)
    found["cutters"] = Target(_cutters, fuzz_wire.check_cutters, fuzz_work.cutters_work)
    found["document"] = Target(_requests, fuzz_wire.check_document, fuzz_work.document_work)
    for name in DIALECTS:
        streams, work = partial(_streams, name), partial(fuzz_work.reader_work, name)
        found[f"reader:{name}"] = Target(streams, partial(fuzz_dialects.check_reader, name), work)
        found[f"observer:{name}"] = Target(streams, partial(fuzz_dialects.check_observer, name), work)
        found[f"writer:{name}"] = Target(_events, partial(fuzz_dialects.check_writer, name), partial(fuzz_work.writer_work, name))
        requests = partial(fuzz_requests.some_request, name)
        found[f"prompt:{name}"] = Target(requests, partial(fuzz_dialects.check_prompt, name), partial(fuzz_work.prompt_work, name))
    return found


TARGETS = _targets()


def some_case(target: Target, rng: Random) -> Case:
    data = target.make(rng)
    return Case(data, some_places(data, rng), rng.randrange(96))


def broken(target: Target, case: Case) -> BaseException | None:
    """Check one case; return what it broke."""
    started = time.process_time()
    try:
        target.check(case)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
        return error
    taken = time.process_time() - started
    return TooSlow(f"{taken:.1f} s of CPU") if taken > SLOW else None


_SHARED = ("lenient.py", "document.py")
"""Files that everybody calls: what is at fault is, as a rule, who called them."""


def kind_of(error: BaseException) -> str:
    """Return what tells two findings apart: the kind of error, and the line of the gateway or of the law where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/gateway/" in frame.filename and Path(frame.filename).name not in _SHARED] or frames
    place = f"{Path(ours[-1].filename).parent.name}/{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""
    law = frames[-1].lineno if frames and isinstance(error, AssertionError) else ""
    return f"{type(error).__name__} {place} {law}"


def smallest(target: Target, case: Case, error: BaseException, seconds: float = 20.0) -> Case:
    """Delete what is not needed for the same finding: cuts first, then bytes, in ever smaller pieces."""
    kind, until = kind_of(error), time.monotonic() + seconds

    def same(tried: Case) -> bool:
        found = broken(target, tried)
        return found is not None and kind_of(found) == kind

    if case.places and same(case._replace(places=())):
        case = case._replace(places=())
    for place in case.places:
        fewer = tuple(other for other in case.places if other != place)
        if same(case._replace(places=fewer)):
            case = case._replace(places=fewer)
    for pick in range(case.pick):
        if same(case._replace(pick=pick)):
            case = case._replace(pick=pick)
            break
    case = _fewer_members(case, same)
    size = max(1, len(case.data) // 2)
    while time.monotonic() < until:
        before, case = case, _fewer_bytes(case, size, same, until)
        if size == 1 and case == before:
            break
        size = max(1, size // 2)
    return case


def _fewer_bytes(case: Case, size: int, same: Callable[[Case], bool], until: float) -> Case:
    at = 0
    while at < len(case.data) and time.monotonic() < until:
        tried = _without(case, at, min(size, len(case.data) - at))
        if same(tried):
            case = tried
        else:
            at += size
    return case


def _without(case: Case, at: int, size: int) -> Case:
    """Delete some bytes; the reads end where they did."""
    places = tuple(place if place <= at else max(at, place - size) for place in case.places)
    return case._replace(data=case.data[:at] + case.data[at + size :], places=places)


def _fewer_members(case: Case, same: Callable[[Case], bool]) -> Case:
    """Delete members and items of a body that is JSON: bytes alone would leave the skeletons of what is not needed."""
    try:
        tree = json.loads(case.data)
        tried = case._replace(data=json.dumps(tree, separators=(",", ":")).encode())
    except (ValueError, RecursionError):
        return case
    if not same(tried):
        return case
    case, at = tried, 0
    while at < len(places := list(fuzz_mutation.places(tree))):
        holder, key = places[at]
        removed = holder.pop(key)
        tried = case._replace(data=json.dumps(tree, separators=(",", ":")).encode())
        if same(tried):
            case = tried
            continue
        if isinstance(holder, list):
            holder.insert(key, removed)
        else:
            holder[key] = removed
            tree = json.loads(case.data)  # the order as it was
        at += 1
    return case


def fuzz(name: str, seed: int, until: Callable[[int], bool], report: Callable[[str, str], bool], measure: bool = True) -> int:
    """Check cases until told to stop; `report` takes what tells a finding from others, and its account, and says whether to go on."""
    target, cases, spent = TARGETS[name], 0, 0.0
    rng, other = Random(f"{name} {seed}"), Random(f"{name} {seed} work")  # how often work is measured depends on the machine
    started = time.process_time()
    known: set[str] = set()
    while not until(cases):
        case = some_case(target, rng)
        cases += 1
        if (error := broken(target, case)) is not None and kind_of(error) not in known:
            known.add(kind_of(error))
            small = smallest(target, case, error)
            told = "".join(traceback.format_exception(broken(target, small) or error)[-4:])
            if not report(kind_of(error), f"{told}--parser {name} --case {tuple(small)!r}"):
                return cases
        if measure and spent < WORK_SHARE * (time.process_time() - started):
            before = time.process_time()
            try:
                target.work(other)
            except fuzz_work.TooMuchWork as error:
                if not report(f"TooMuchWork {name}", str(error)):
                    return cases
            spent += time.process_time() - before
    return cases


def _over(end: float, cases: int) -> bool:
    return time.monotonic() >= end


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=float, default=600.0, help="for each parser")
    arguments.add_argument("--parser", action="append", choices=tuple(TARGETS), metavar="NAME", help=f"one of {', '.join(TARGETS)}; all")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--keep-going", action="store_true", help="print every finding once instead of ending with the first")
    arguments.add_argument("--case", help="check this one case, as a finding prints it")
    asked = arguments.parse_args()
    findings = 0

    def report(kind: str, told: str) -> bool:
        nonlocal findings
        findings += 1
        print(f"FINDING {kind}\n{told}\n", flush=True)  # noqa: T201
        return bool(asked.keep_going)

    for name in asked.parser or TARGETS:
        if asked.case:
            TARGETS[name].check(Case(*ast.literal_eval(asked.case)))
            continue
        began = time.monotonic()
        cases = fuzz(name, asked.seed, partial(_over, began + asked.seconds), report)
        print(f"{name}: {cases} cases in {time.monotonic() - began:.0f} s, seed {asked.seed}, findings so far {findings}", flush=True)  # noqa: T201
        if findings and not asked.keep_going:
            break
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
