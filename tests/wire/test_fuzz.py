"""A few hundred spoilt inputs for everything that the fuzz program knows, the same ones every time: what it asks for holds always."""

import pytest

from tests.wire import fuzz, fuzz_wire, fuzz_work
from tests.wire.fuzz_mutation import EVERY_BYTE, cuts
from tests.wire.fuzz_wire import Case

CASES = 250


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_spoilt_input_breaks_no_law(name):
    """What a longer run has found is a case of its own, in the tests of the file that was at fault."""
    found: list[str] = []

    def report(kind: str, told: str) -> bool:
        found.append(told)
        return False

    fuzz.fuzz(name, 0, lambda cases: cases >= CASES, report, measure=False)
    assert found == []


def test_a_finding_is_cut_down_to_what_it_needs():
    """A parser that trips over one byte is told with that byte alone, and no cuts."""

    def trips(case: Case) -> None:
        assert b"!" not in case.data, "it trips"

    target = fuzz.TARGETS["sse"]._replace(check=trips)
    case = Case(b'{"a": [1, 2, "x!y"], "b": {"c": "!"}}', (3, 9), 17)
    error = fuzz.broken(target, case)
    assert error is not None
    assert fuzz.smallest(target, case, error) == Case(b"!", (), 0)


def test_the_laws_can_be_broken(monkeypatch):
    """A parser that loses a byte, or that reads otherwise when it is cut, does not pass."""

    class Loses(fuzz_wire.sse.Parser):
        def feed(self, chunk: bytes):
            return super().feed(chunk.replace(b"b", b""))

    class Trims(fuzz_wire.ndjson.Parser):
        def feed(self, chunk: bytes):
            return [fuzz_wire.Frame(frame.raw, frame.data if len(chunk) > 1 else b"x", "") for frame in super().feed(chunk)]

    monkeypatch.setitem(fuzz_wire.PARSERS, "sse", Loses)
    monkeypatch.setitem(fuzz_wire.PARSERS, "ndjson", Trims)
    with pytest.raises(AssertionError, match="are not the input"):
        fuzz_wire.check_parser("sse", Case(b"data: b\n\n"))
    with pytest.raises(AssertionError, match="depend on the cuts"):
        fuzz_wire.check_parser("ndjson", Case(b"{}\n", EVERY_BYTE))


def test_work_that_grows_with_the_square_is_found(monkeypatch):
    """Eight times the input and sixty-four times the work is told with its times; eight times is not."""
    monkeypatch.setattr(fuzz_work, "_seconds", lambda work: work())
    fuzz_work.measure("line", lambda count: lambda: count / 1000, 1)
    with pytest.raises(fuzz_work.TooMuchWork, match=r"square: 16 blocks 25\.6 ms, 32 blocks 102\.4 ms"):
        fuzz_work.measure("square", lambda count: lambda: count * count / 10_000, 1)


def test_cuts_lose_nothing():
    """Whatever the places, the reads are the input."""
    data = b"0123456789"
    for places in ((), (3,), (3, 3, 99), EVERY_BYTE):
        assert b"".join(cuts(data, places)) == data
