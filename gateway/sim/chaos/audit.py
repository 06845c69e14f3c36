"""All books compared: what clients saw, what providers said, what was stored, and the spans and counts that were told of it.

A finding is something that nothing can excuse. What a killed process took with it is excused, and counted, only where the moment fits:
see the constants, each of which is the longest time that the thing named waits in the process that died.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct, field

from gateway.core.record import StreamRecord
from gateway.sim.chaos.collector import Told
from gateway.sim.chaos.crowd import Seen, Verdict
from gateway.sim.chaos.ledger import Ledger
from gateway.sim.chaos.mayhem import Deeds, Kill, Scrape

LINK = 1.0
"""Seconds that a worker's words may wait in it: 20 ms, and how late its loop may be on a crowded machine."""
COMMIT = 1.0
"""Seconds from a record told to its row committed: 0.2, and the disk's time."""
SPANS = 4.0
"""Seconds from a stream's end to its span received: 1 s in the batch, up to 2 s until a dead worker is known to be dead, the way."""
SOON = 0.1
_HELD = 64 * 1024  # bytes of half an event that the gateway holds back; of a larger one, half is out
_MUTE = frozenset({"refuse", "reset"})
"""Faults that can close a kept connection without a byte of answer, after which a call may be made again on a new one, unrecorded."""
_FAILED = frozenset({"upstream_error", "upstream_truncated", "upstream_stalled", "shutdown"})
_REFUSED = _FAILED | {"rejected", "first_token_timeout"}
AGREE: Mapping[Verdict, frozenset[str]] = {
    "whole": frozenset({"completed"}),
    "error event": _FAILED | {"untranslatable_answer"},
    "error status": _REFUSED | {"untranslatable_answer"},
    "broken": frozenset({"worker_died", "client_stalled"}),
    "left": _REFUSED | {"client_disconnect", "client_stalled", "completed", "worker_died", "untranslatable_answer"},
    "lost": frozenset(),
}
"""By what a client saw, what its record may say: an outcome, or for gateway_error the error itself, as it needs a good one."""


class Finding(Struct, frozen=True):
    """Two books that disagree, and nothing excuses it."""

    kind: str
    tag: str
    text: str


class Books(Struct, kw_only=True):
    """Everything that was written down in one run."""

    seen: Sequence[Seen]
    ledger: Ledger
    records: Sequence[StreamRecord]
    spans: Mapping[str, Sequence[Told]]
    deeds: Deeds
    last: Scrape


class Audit(Struct, kw_only=True):
    """The result: what was found, what was excused and why, and the sums."""

    findings: list[Finding] = field(default_factory=list)
    excused: Counter[str] = field(default_factory=Counter)
    stored: dict[str, int] = field(default_factory=dict)
    counted: dict[str, int] = field(default_factory=dict)
    count_slack: int = 0
    spans: int = 0
    spans_twice: int = 0


def audit(books: Books) -> Audit:
    """Compare every book with every other."""
    found = Audit()
    by_tag: dict[str, list[StreamRecord]] = {}
    for record in books.records:
        by_tag.setdefault(record.tags.get("chaos", ""), []).append(record)
    for seen in books.seen:
        _one(books, found, seen, by_tag.pop(seen.tag, []))
    for tag, records in by_tag.items():
        found.findings.append(Finding("record of nobody", tag, f"{len(records)} records, {records[0].outcome}"))
    _spans(books, found)
    _counts(books, found)
    return found


def _one(books: Books, found: Audit, seen: Seen, records: list[StreamRecord]) -> None:
    """Compare one client's view with the record of its stream and with its provider's page."""
    if seen.verdict == "lost":
        found.findings.append(Finding("lost", seen.tag, f"{seen.plan.model} via {seen.upstream or '-'}: {seen.how}"))
    if seen.match == "altered":
        found.findings.append(Finding("altered", seen.tag, f"{seen.verdict}, {seen.plan.model} via {seen.upstream}, {seen.size} bytes"))
    if len(records) > 1:
        found.findings.append(Finding("two records", seen.tag, ", ".join(record.outcome for record in records)))
    elif not records:
        _unrecorded(books, found, seen)
    else:
        found.findings += [Finding(kind, seen.tag, text) for kind, text in _disagree(books, found, seen, records[0])]


def _unrecorded(books: Books, found: Audit, seen: Seen) -> None:
    kills = [kill for kill in books.deeds.of("worker") if seen.dialed_at - SOON <= kill.at <= seen.ended_at + LINK]
    if seen.verdict == "left" and seen.how == "sent" and not seen.status:
        found.excused["left before it was heard"] += 1
    elif seen.verdict == "broken" and not seen.status and seen.reused:
        found.excused["kept connection was closed meanwhile, and the call made again"] += 1
    elif any(kill.at - seen.started_at < LINK or not seen.status for kill in kills):
        found.excused["worker killed before it had told of the stream"] += 1
    elif any(_both(books.deeds, kill) for kill in kills):
        found.excused["worker and recorder killed together"] += 1
    else:
        found.findings.append(Finding("no record", seen.tag, f"{seen.verdict} {seen.how}, status {seen.status}"))


def _both(deeds: Deeds, kill: Kill) -> bool:
    """Say whether nobody was left who knew what the worker was doing when it was killed."""
    return any(other.at - COMMIT <= kill.at <= other.back_at + LINK for other in deeds.of("recorder"))


def _disagree(books: Books, found: Audit, seen: Seen, record: StreamRecord) -> Iterator[tuple[str, str]]:
    said = record.error or "" if record.outcome == "gateway_error" else record.outcome
    what = f"{seen.verdict} {seen.how} ({seen.plan.model} via {seen.upstream or '-'}), recorded as {record.outcome} {record.error or ''}"
    allowed = AGREE[seen.verdict] | (_FAILED if seen.verdict == "broken" and _speechless(seen) else frozenset())
    deaths = [kill.at for kill in books.deeds.of("worker") if kill.pid == record.worker]
    if said == "worker_died" and not deaths:
        yield "death of a living worker", what
    elif said not in allowed and seen.verdict != "lost":
        if said == "worker_died" and any(seen.started_at <= death < seen.ended_at + LINK for death in deaths):
            found.excused["worker killed before it had told of the end"] += 1
        else:
            yield "outcome", what
    elif seen.verdict == "whole" and record.bytes != seen.size:
        yield "bytes", f"{seen.size} arrived, {record.bytes} recorded ({seen.plan.model} via {seen.upstream})"
    if seen.verdict == "whole" and record.outcome == "completed" and record.upstream != seen.upstream:
        yield "upstream", f"{seen.upstream} told to the client, {record.upstream} recorded"
    if seen.stream_id and seen.stream_id != record.stream_id:
        yield "stream id", f"{seen.stream_id} told to the client, {record.stream_id} recorded"
    if record.error == "worker_died":
        return  # its record is as old as the stream's first attempt
    asked = [answer for answer in books.ledger.of(seen.tag) if not (answer.request.fault in _MUTE and not answer.request.tokens_sent)]
    if len(asked) > len(record.attempts):
        yield "attempts", f"providers were asked {len(asked)} times, {len(record.attempts)} attempts recorded"


def _speechless(seen: Seen) -> bool:
    """Say whether the gateway can tell of a failure only by breaking off: in a document, or after half an event that has a length."""
    return not seen.streamed or (seen.plan.dialect == "bedrock" and seen.size > _HELD)


def _spans(books: Books, found: Audit) -> None:
    """Every record has its span, with the same outcome; one told again has the same id."""
    known = {record.stream_id for record in books.records}
    found.spans = sum(map(len, books.spans.values()))
    for record in books.records:
        told = books.spans.get(record.stream_id, ())
        tag = record.tags.get("chaos", "")
        if not told:
            ended = record.ended_at or record.received_at
            if any(ended - SOON <= kill.at <= ended + SPANS for kill in books.deeds.of("recorder")):
                found.excused["span waiting in the recorder that was killed"] += 1
            else:
                found.findings.append(Finding("no span", tag, f"{record.outcome}, ended at {ended:.3f}"))
            continue
        found.spans_twice += len(told) - 1
        if {span.outcome for span in told} != {record.outcome} or {span.span_id for span in told} != {record.span_id}:
            found.findings.append(Finding("span", tag, f"{record.outcome} recorded, told as {told}"))
    for stream_id in books.spans.keys() - known:
        if any(_both(books.deeds, kill) for kill in books.deeds.of("worker")):
            found.excused["row lost with worker and recorder, its span told"] += 1
        else:
            found.findings.append(Finding("span of nobody", stream_id, f"{books.spans[stream_id]}"))


def _counts(books: Books, found: Audit) -> None:
    """The last words of every recorder add up to the records, but for those told around the moments of the kills."""
    sums: Counter[str] = Counter()
    for scrape in (*books.deeds.last_words, books.last):
        sums.update({outcome: round(count) for outcome, count in scrape.outcomes.items()})
    stored: Counter[str] = Counter(record.outcome for record in books.records)
    found.stored, found.counted = dict(stored), {outcome: count for outcome, count in sums.items() if count}
    slack: Counter[str] = Counter(record.outcome for record in books.records if _uncertain(books.deeds, record))
    found.count_slack = sum(slack.values())
    for outcome in stored.keys() | sums.keys():
        if abs(sums[outcome] - stored[outcome]) > slack[outcome]:
            text = f"{sums[outcome]} counted, {stored[outcome]} stored, {slack[outcome]} told around kills"
            found.findings.append(Finding("counts", outcome, text))


def _uncertain(deeds: Deeds, record: StreamRecord) -> bool:
    """Say whether a record was told so near to a recorder's death that it may be counted by none (after the last scrape) or by two
    (counted, but not yet stored)."""
    ended = record.ended_at or record.received_at
    early = 2.0 if record.error == "worker_died" else 0.0  # told when its worker is known to be dead
    pairs = zip(deeds.last_words, deeds.of("recorder"), strict=False)
    return any(scrape.at - COMMIT - early <= ended <= kill.at + SOON for scrape, kill in pairs)
