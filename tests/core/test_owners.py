"""Who owned each moment: the parts always sum to the whole, and a silence is blamed on whoever held most of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.owners import OWNERS, Intervals, Ledger, blame

TURNS = st.lists(st.tuples(st.sampled_from(OWNERS), st.floats(0, 100), st.floats(0, 1)), max_size=30)


@given(turns=TURNS, last=st.floats(0, 100))
def test_the_owners_sum_to_the_whole(turns, last):
    """Whatever the turns and however late the loop, the seconds of all owners are the time that passed, none negative."""
    now, late = 1000.0, 5.0
    ledger = Ledger(now, late)
    for owner, elapsed, lag in turns:
        now, late = now + elapsed, late + lag
        ledger.turn(owner, now, late)
    ledger.turn("gateway", now + last, late)
    assert sum(ledger.seconds.values()) == pytest.approx(now + last - 1000.0)
    assert all(seconds >= 0 for seconds in ledger.seconds.values())


def test_each_span_goes_to_its_owner():
    """A turn closes the span of the owner before it."""
    ledger = Ledger(0.0, owner="queue")
    ledger.turn("connect", 1.0)
    ledger.turn("upstream_wait", 3.0)
    ledger.turn("client_blocked", 6.0)
    ledger.turn("upstream_wait", 10.0)
    ledger.turn("gateway", 15.0)
    assert ledger.seconds == {"queue": 1.0, "connect": 2.0, "upstream_wait": 8.0, "client_blocked": 4.0, "gateway": 0.0, "guard_held": 0.0}
    assert (ledger.owner, ledger.since) == ("gateway", 15.0)


def test_a_late_loop_is_the_gateways_only_where_the_upstream_was_waited_for():
    """Bytes may have lain in the kernel while the loop was late, so that time is not the upstream's; a client's time stays its own."""
    ledger = Ledger(0.0, owner="upstream_wait")
    ledger.turn("client_blocked", 10.0, late=3.0)
    ledger.turn("upstream_wait", 20.0, late=9.0)
    ledger.turn("gateway", 21.0, late=99.0)
    assert (ledger.seconds["upstream_wait"], ledger.seconds["gateway"], ledger.seconds["client_blocked"]) == (7.0, 4.0, 10.0)


def test_time_never_runs_backwards():
    """A turn stamped before the last one takes nothing away."""
    ledger = Ledger(10.0)
    ledger.turn("connect", 5.0)
    ledger.turn("gateway", 12.0)
    assert ledger.seconds["connect"] == 2.0
    assert ledger.seconds["gateway"] == 0.0


def test_intervals_cover_what_lies_within():
    """Only the part of an interval inside the silence counts, one still open included, and one never begun ends nothing."""
    paused = Intervals()
    paused.end(1.0)
    paused.begin(2.0)
    paused.end(4.0)
    paused.add(6.0, 7.0)
    paused.begin(9.0)
    assert paused.within(0.0, 10.0) == 4.0
    assert paused.within(3.0, 6.5) == 1.5
    assert paused.within(4.0, 6.0) == 0.0
    assert paused.within(9.5, 20.0) == 10.5


def test_intervals_keep_only_the_last():
    """Memory is bounded: the oldest are forgotten first."""
    late = Intervals(keep=2)
    for start in range(5):
        late.add(start, start + 0.5)
    assert late.within(0.0, 10.0) == 1.0


@pytest.mark.parametrize(
    ("length", "client", "gateway", "owner"),
    [
        (3.0, 0.0, 0.0, "upstream"),
        (3.0, 1.0, 1.0, "upstream"),
        (3.0, 2.0, 0.0, "client"),
        (3.0, 0.5, 2.0, "gateway"),
        (3.0, 1.4, 1.4, "client"),
        (2.0, 1.0, 0.0, "upstream"),
    ],
)
def test_a_silence_is_blamed_on_whoever_held_most_of_it(length, client, gateway, owner):
    """What nobody else held is the upstream's; in doubt it is the upstream, then the client."""
    assert blame(length, client, gateway) == owner
