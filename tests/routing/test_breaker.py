"""The breaker of one target."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import Breaker
from gateway.routing.breaker import Circuit

SETTINGS = Breaker(failures=5, window=30, open=15)


def call(circuit, now, failed, late=0.0):
    probe = circuit.admit(now)
    era = circuit.era
    if failed:
        circuit.failed(era, probe, now + late)
    else:
        circuit.succeeded(era, now + late)
    if probe:
        circuit.release(era)


def opened(now=0.0):
    circuit = Circuit(SETTINGS)
    for _ in range(5):
        call(circuit, now, failed=True)
    assert circuit.state(now) == "open"
    return circuit


def test_five_failures_in_a_row_open_it():
    """Four failures do not open it, the fifth does."""
    circuit = Circuit(SETTINGS)
    for _ in range(10):
        call(circuit, 0.0, failed=False)
    for number in range(5):
        assert circuit.state(1.0) == "closed", number
        call(circuit, 1.0, failed=True)
    assert circuit.state(1.0) == "open"
    assert not circuit.usable(15.9)
    assert circuit.usable(16.0)


def test_more_than_half_of_the_window_opens_it():
    """Three failures of five open it though never two came in a row; half of the calls do not."""
    circuit = Circuit(SETTINGS)
    for failed in (True, False, True, False):
        call(circuit, 0.0, failed)
    assert circuit.state(0.0) == "closed"
    call(circuit, 0.0, failed=True)
    assert circuit.state(0.0) == "open"


def test_old_failures_are_forgotten():
    """Failures older than the window do not count towards the ratio."""
    circuit = Circuit(SETTINGS)
    for failed in (True, False, True, False):
        call(circuit, 0.0, failed)
    call(circuit, 40.0, failed=True)
    assert circuit.state(40.0) == "closed"


def test_one_probe_at_a_time_and_two_successes_close():
    """Half open lets one call in, the next only when that is over, and closes at the second success."""
    circuit = opened()
    assert circuit.state(15.0) == "half_open"
    assert circuit.admit(15.0)
    assert not circuit.usable(15.0)
    assert not circuit.admit(15.0)
    circuit.succeeded(circuit.era, 16.0)
    circuit.release(circuit.era)
    assert circuit.state(16.0) == "half_open"
    call(circuit, 16.0, failed=False)
    assert circuit.state(16.0) == "closed"
    assert circuit.since(17.0) == 16.0


def test_failed_probes_double_the_time_up_to_a_minute():
    """15 s, 30 s, 60 s, 60 s."""
    circuit, now, waits = opened(), 0.0, []
    for _ in range(4):
        waits.append(circuit.opens_at(now) - now)
        now = circuit.opens_at(now)
        call(circuit, now, failed=True)
    assert waits == [15.0, 30.0, 60.0, 60.0]


def test_a_longer_configured_time_is_kept():
    """`open: 2m` is not cut down to a minute, and does not double."""
    circuit = Circuit(Breaker(failures=1, open=120))
    call(circuit, 0.0, failed=True)
    assert circuit.opens_at(0.0) == 120.0
    call(circuit, 120.0, failed=True)
    assert circuit.opens_at(120.0) == 240.0


def test_relapse_doubles_and_a_calm_window_resets():
    """Opening again within a window of having closed doubles the time; later it starts from the configured one."""
    for pause, wait in ((1.0, 30.0), (31.0, 15.0)):
        circuit = opened()
        call(circuit, 15.0, failed=False)
        call(circuit, 15.0, failed=False)
        for _ in range(5):
            call(circuit, 15.0 + pause, failed=True)
        assert circuit.opens_at(15.0 + pause) == 15.0 + pause + wait


def test_neutral_probe_frees_its_place():
    """A probe that ends without a verdict leaves it half open, and another is admitted."""
    circuit = opened()
    assert circuit.admit(15.0)
    circuit.release(circuit.era)
    assert circuit.state(15.0) == "half_open"
    assert circuit.admit(15.0)


def test_calls_from_before_the_opening_are_not_heard():
    """A call that began before it opened neither closes it, nor opens it again, nor frees the probe's place."""
    circuit = Circuit(SETTINGS)
    old = circuit.era
    for _ in range(5):
        call(circuit, 0.0, failed=True)
    assert circuit.admit(15.0)
    for _ in range(3):
        circuit.succeeded(old, 15.0)
    circuit.failed(old, True, 15.0)
    circuit.release(old)
    assert circuit.state(15.0) == "half_open"
    assert not circuit.usable(15.0)


def test_exempt_call_that_works_counts_towards_closing():
    """The last target is called though open: its successes close the breaker, its failures do not lengthen the wait."""
    circuit = opened()
    call(circuit, 3.0, failed=True)
    assert circuit.opens_at(3.0) == 15.0
    call(circuit, 4.0, failed=False)
    call(circuit, 5.0, failed=False)
    assert circuit.state(5.0) == "closed"


@pytest.mark.parametrize(("asked", "held"), [(20.0, 20.0), (3600.0, 60.0), (float("inf"), 60.0)])
def test_retry_after_keeps_calls_away(asked, held):
    """A closed breaker lets no call through while a Retry-After runs, and that is at most a minute."""
    circuit = Circuit(SETTINGS)
    circuit.hold(asked, 100.0)
    assert not circuit.usable(100.0 + held - 0.1)
    assert circuit.usable(100.0 + held)
    assert circuit.state(100.0) == "closed"


def test_shorter_retry_after_does_not_shorten():
    """Of several Retry-After the one that ends last holds."""
    circuit = Circuit(SETTINGS)
    circuit.hold(20.0, 0.0)
    circuit.hold(1.0, 0.0)
    assert not circuit.usable(19.0)


def test_says_why():
    """The reason for not being usable is in words, and empty when it is usable."""
    circuit = opened()
    assert "open for another 15.0 s" in circuit.why_not(0.0)
    assert circuit.why_not(15.0) == ""
    circuit.admit(15.0)
    assert "probe" in circuit.why_not(15.0)
    circuit.hold(9.0, 15.0)
    assert "Retry-After" in circuit.why_not(15.0)


def test_settings_of_another_route_keep_the_state():
    """A second route's settings do not close an open breaker, nor wipe the counts."""
    circuit = Circuit(SETTINGS)
    for _ in range(4):
        call(circuit, 0.0, failed=True)
    circuit.configure(Breaker(failures=5, window=10, open=5))
    call(circuit, 0.0, failed=True)
    assert circuit.opens_at(0.0) == 5.0


def say(circuit, word, era, probe, now):
    if word == "failed":
        circuit.failed(era, probe, now)
    elif word == "succeeded":
        circuit.succeeded(era, now)
    if probe:
        circuit.release(era)


words = st.lists(st.tuples(st.sampled_from(["admit", "failed", "succeeded", "release", "hold"]), st.floats(0, 20), st.integers(0, 9)))


@given(words)
def test_never_two_probes_and_always_a_way_back(history):
    """Whatever is said in whatever order: no second probe while one runs, and every state lets a call through in the end."""
    circuit, now, calls = Circuit(SETTINGS), 0.0, []
    for word, gap, pick in history:
        now += gap
        if word == "admit":
            probe = circuit.admit(now)
            assert not (probe and (circuit.era, True) in calls)
            calls.append((circuit.era, probe))
        elif word == "hold":
            circuit.hold(pick, now)
        elif calls:
            say(circuit, word, *calls.pop(pick % len(calls)), now)
    for era, probe in calls:
        say(circuit, "release", era, probe, now)
    assert circuit.usable(circuit.opens_at(now))
