"""What people think of an answer, joined to the stream it is about: in the store's transaction, one word a stream, the last one."""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Literal

from msgspec import Struct

from gateway.core.record import Outcome

Kind = Literal["fine", "slow", "stalled", "truncated"]
WHOLE: frozenset[Outcome] = frozenset({"completed", "client_disconnect"})
"""Outcomes after which the client has all that it wanted of the answer."""


class Opinion(Struct, frozen=True):
    """One word on one stream: `score` is -1, 0 or 1, `at` unix seconds. `again`: it has been looked for in vain before."""

    stream_id: str
    score: int
    comment: str | None
    at: float
    again: bool = False


class Judged(Struct, frozen=True):
    """A score that is new for its stream, and what the stream was like: what is counted."""

    route: str
    score: int
    kind: Kind


class Answers(Struct):
    """What became of some opinions: those that changed a score, and those whose stream is not stored."""

    judged: list[Judged]
    unknown: list[Opinion]


Keeps = Callable[[str], bool]
"""Tells whether a route of this name keeps content, and so comments."""


def kind(outcome: str, stalled: bool, slow: bool) -> Kind:
    """Say in one word what a stream was like: the worst that can be said of it."""
    if outcome not in WHOLE:
        return "truncated"
    return "stalled" if stalled else "slow" if slow else "fine"


def join(transaction: sqlite3.Connection, opinions: Sequence[Opinion], keeps: Keeps) -> Answers:
    """Write opinions beside the streams they are about. A later word replaces an earlier one, whichever comes first."""
    answers = Answers([], [])
    for opinion in opinions:
        found = transaction.execute(_FIND, (opinion.stream_id,)).fetchone()
        if found is None:
            answers.unknown.append(opinion)
            continue
        route, outcome, stalled, slow, before, at = found
        if at is not None and at > opinion.at:
            continue
        comment = opinion.comment if keeps(route) else None
        transaction.execute(_SAY, (opinion.stream_id, opinion.score, comment, opinion.at))
        if before != opinion.score:
            answers.judged.append(Judged(route, opinion.score, kind(outcome, bool(stalled), bool(slow))))
    return answers


_FIND = (
    "SELECT route, outcome, stalled, slow, feedback.score, feedback.at "
    "FROM streams LEFT JOIN feedback ON feedback.stream_id = streams.stream_id WHERE streams.stream_id = ?"
)
_SAY = "INSERT OR REPLACE INTO feedback (stream_id, score, comment, at) VALUES (?,?,?,?)"
