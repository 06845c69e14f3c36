"""A set of streams as figures to compare by."""

import json
from collections.abc import Callable

import pytest

from gateway.console.sample import sample
from gateway.core.events import Usage
from gateway.core.record import Cadence, StreamRecord
from gateway.telemetry.account import account

MakeRecord = Callable[..., StreamRecord]
INF = float("inf")


def test_lists_hold_what_is_known(make_record: MakeRecord) -> None:
    """A value that is not known is left out, never taken for 0; what is there ascends."""
    records = [
        make_record(1, first_token_at=None, usage=None, outcome="upstream_error"),
        make_record(2, usage=Usage(30, None)),
        make_record(3, usage=Usage(10, 7)),
    ]
    told = sample([account(record, cost) for record, cost in zip(records, (None, 0.2, 0.1), strict=True)], cut=True)
    assert (told["streams"], told["failed"], told["cut"]) == (3, 1, True)
    assert told["ttft"] == [pytest.approx(0.3), pytest.approx(0.3)]
    assert (told["input_tokens"], told["output_tokens"], told["cost"]) == ([10, 30], [7], [0.1, 0.2])


def test_gaps_are_added_up(make_record: MakeRecord) -> None:
    """The bins of all streams are one histogram, in order, with the open one last; who only held itself up is not stalled."""
    one = make_record(1, cadence=Cadence(chunks=4, gaps=[(0.04, 1), (INF, 2)], stall_count=1, stall_time={"client": 1.5}))
    two = make_record(2, cadence=Cadence(chunks=3, gaps=[(0.02, 3), (0.04, 4)], stall_count=2, stall_time={"client": 1.0, "upstream": 2.0}))
    silent = make_record(3, cadence=Cadence(), outcome="client_disconnect")
    told = sample([account(record) for record in (one, two, silent)], cut=False)
    assert told["gaps"] == [(0.02, 3), (0.04, 5), (INF, 2)]
    assert (told["spoke"], told["stalled"], told["left"]) == (2, 1, 1)
    assert told["stall_time"] == {"client": 2.5, "upstream": 2.0}


def test_nothing_at_all() -> None:
    """A set of no streams has empty lists and no times."""
    told = sample([], cut=False)
    assert json.dumps(told)
    assert (told["streams"], told["from"], told["to"], told["ttft"], told["gaps"]) == (0, None, None, [], [])
