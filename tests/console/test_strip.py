"""A stream's tokens as a strip of columns."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.console.strip import COLUMNS, TICK, strip
from gateway.core.record import Cadence, Seam, Stall, StreamRecord

MakeRecord = Callable[..., StreamRecord]


def record(cadence: Cadence, first_token_at: float | None = 10.5, **changes: object) -> StreamRecord:
    fields: dict[str, object] = {"stream_id": "s", "trace_id": "t", "span_id": "p", "received_unix": 0.0, "received_at": 10.0}
    return StreamRecord(**{**fields, **changes}, first_token_at=first_token_at, cadence=cadence)  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.integers(0, 40_000), st.integers(1, 9)), min_size=1, max_size=300))
def test_every_token_is_in_its_column(arrivals: list[tuple[int, int]]) -> None:
    """No token is lost, the last column ends where the last token came, and there are never more columns than fit."""
    ticks = [0, *(step for step, _ in arrivals[1:])]
    counts = [(place, many) for place, (_, many) in enumerate(arrivals) if many != 1]
    told = strip(record(Cadence(ticks=ticks, counts=counts, arrivals=len(ticks))))
    assert told is not None
    assert sum(told["columns"]) == sum(many for _, many in arrivals)
    assert len(told["columns"]) <= COLUMNS + 1
    assert told["columns"][-1] > 0
    assert (len(told["columns"]) - 1) * told["step"] <= sum(ticks) * TICK + 1e-9


def test_what_stands_on_it() -> None:
    """Stalls and seams at their offsets from the request, the first token and the first answer too."""
    stall = Stall(at=11.0, length=2.0, blame="client", chunk=3)
    seam = Seam(at=12.5, chunks=9, characters=40, source="a", target="b", why="truncated")
    told = strip(record(Cadence(ticks=[0, 5000, 20_000], arrivals=3, stalls=[stall]), seams=[seam], first_answer_at=11.0))
    assert told is not None
    assert (told["first"], told["answer"]) == (pytest.approx(0.5), pytest.approx(1.0))
    assert told["stalls"] == [[pytest.approx(1.0), 2.0, "client"]]
    assert told["seams"] == [pytest.approx(2.5)]


def test_what_is_not_kept_is_said() -> None:
    """Of a stream with more arrivals than are kept the strip says that it is not whole; of one without tokens there is none."""
    told = strip(record(Cadence(ticks=[0, 10], arrivals=5000)))
    assert told is not None
    assert told["whole"] is False
    assert strip(record(Cadence())) is None
    assert strip(record(Cadence(), first_token_at=None)) is None
