"""A stream's tokens as a strip: a few hundred columns of equal time, so that a thousand streams of one trace fit one answer."""

from itertools import accumulate
from typing import Any

from gateway.core.record import StreamRecord

COLUMNS = 200
TICK = 1e-4
"""Seconds of one of a cadence's `ticks`."""


def strip(record: StreamRecord) -> dict[str, Any] | None:
    """Return tokens by column from the first token on, `step` seconds each, with stalls and seams; None of a stream without tokens.

    Offsets are seconds since the request was received; what came before `answer` was reasoning. `whole` is whether every arrival is in
    it: of a very long stream only the first ones are kept.
    """
    cadence = record.cadence
    if record.first_token_at is None or not cadence.ticks:
        return None
    at = [ticks * TICK for ticks in accumulate(cadence.ticks)]
    step = max(at[-1] / COLUMNS, TICK)
    many = dict(cadence.counts)
    columns = [0] * (min(COLUMNS, int(at[-1] / step)) + 1)
    for place, offset in enumerate(at):
        columns[min(len(columns) - 1, int(offset / step))] += many.get(place, 1)
    return {
        "first": round(record.first_token_at - record.received_at, 6),
        "answer": None if record.first_answer_at is None else round(record.first_answer_at - record.received_at, 6),
        "step": step,
        "columns": columns,
        "whole": cadence.arrivals <= len(at),
        "stalls": [[round(stall.at - record.received_at, 6), stall.length, stall.blame] for stall in cadence.stalls],
        "seams": [round(seam.at - record.received_at, 6) for seam in record.seams],
    }
