"""The figures of the last quarter of an hour: held against exact ones, leaving with their time, and said to be worse only when they are."""

import random
import statistics
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.buckets import LATENCY_BOUNDS
from gateway.core.owners import Blame
from gateway.core.record import Cadence, Stall, StreamRecord
from gateway.telemetry.account import Account, account
from gateway.telemetry.overview import BOUNDS, MOST_ROUTES, STEP, STEPS, Overview, Slice, worse

MakeRecord = Callable[..., StreamRecord]
FINEST = max(high / low for low, high in pairwise(bound for bound in BOUNDS if LATENCY_BOUNDS[0] <= bound <= 60))


@pytest.fixture
def ended(make_record: MakeRecord) -> Callable[..., Account]:
    """Return accounts of streams that have ended; `ttft` in seconds, other keywords replace fields."""

    def make(ttft: float = 0.3, **changes: object) -> Account:
        return account(make_record(**{"first_token_at": 100.0 + ttft, **changes}))

    return make


@given(st.lists(st.floats(0.02, 60.0), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.95]))
def test_a_quantile_is_true_to_the_width_of_a_bin(times: list[float], q: float) -> None:
    """The value it gives lies in the bin of the exact one: never further off than the ratio of two neighbouring bounds."""
    one = Slice()
    for ttft in times:
        one.add(
            account(
                StreamRecord(
                    stream_id="s",
                    trace_id="t",
                    span_id="p",
                    streamed=True,
                    received_unix=0.0,
                    received_at=100.0,
                    first_token_at=100.0 + ttft,
                )
            )
        )
    exact = sorted(times)[max(0, -(-round(q * len(times) * 1e6) // 10**6) - 1)]
    told = one.quantile(q)
    assert told is not None
    assert exact / FINEST - 1e-6 <= told <= exact * FINEST + 1e-6


def test_nothing_has_no_figures(ended: Callable[..., Account]) -> None:
    """Where nothing ended there is no rate and no quantile, rather than a zero; how many streams ended is a number all the same."""
    total, steps = Overview(0.0).read(100.0)
    assert total.figures(900) == {"streams": 0, "rate": 0.0, "ttft_p50": None, "ttft_p95": None, "stall_rate": None, "abort_rate": None}
    assert len(steps) == STEPS


def test_the_figures_are_those_of_the_streams(ended: Callable[..., Account]) -> None:
    """Stalls among those that spoke, clients that left among all, each stall with its owner, streams by upstream."""
    overview = Overview(0.0)
    times = [0.1 + number / 100 for number in range(100)]
    for ttft in times:
        overview.add(ended(ttft), 50.0)
    stalls = [Stall(at=101.0, length=2.0, blame="client", chunk=1), Stall(at=104.0, length=1.0, blame="upstream", chunk=2)]
    overview.add(ended(0.5, cadence=Cadence(chunks=5, stalls=stalls, stall_count=2, stall_time={"client": 2.0, "upstream": 1.0})), 50.0)
    overview.add(ended(0.5, outcome="client_disconnect"), 50.0)
    overview.add(ended(0.5, outcome="client_stalled"), 50.0)
    overview.add(ended(outcome="rejected", cadence=Cadence(), first_token_at=None), 50.0)
    total, _ = overview.read(60.0)
    figures = total.figures(10.0)
    assert (figures["streams"], figures["rate"]) == (104, 10.4)
    assert figures["ttft_p50"] == pytest.approx(statistics.median(times), rel=FINEST - 1)
    assert figures["stall_rate"] == pytest.approx(1 / 103)
    assert figures["abort_rate"] == pytest.approx(2 / 104)
    assert total.stalls == {"client": 1, "upstream": 1}
    assert sum(total.upstreams.values()) == 104


def test_what_is_older_than_a_quarter_of_an_hour_is_gone(ended: Callable[..., Account]) -> None:
    """Each step holds what ended in its ten seconds, the newest is last, and after 90 steps it leaves; pauses leave their steps empty."""
    overview = Overview(0.0)
    for at in (5.0, 15.0, 15.5, 400.0):
        overview.add(ended(), at)
    assert [step.streams for step in overview.read(19.0)[1]][-2:] == [1, 2]
    total, steps = overview.read(400.0)
    assert [place for place, step in enumerate(steps) if step.streams] == [STEPS - 41, STEPS - 40, STEPS - 1]
    assert total.streams == 4
    assert overview.read(5.0 + STEP * STEPS)[0].streams == 3
    assert overview.read(1e6)[0].streams == 0
    assert [overview.covered(now) for now in (0.0, 30.0, 1e6)] == [1.0, 30.0, 900.0]


def test_routes_are_told_apart_and_are_not_without_number(ended: Callable[..., Account]) -> None:
    """Each route has figures of its own, all together are their sum, and a flood of names costs no memory."""
    overview = Overview(0.0)
    for route in ("chat", "chat", "agents"):
        overview.add(ended(route=route), 1.0)
    assert [overview.read(2.0, route)[0].streams for route in ("chat", "agents", "nobody", None)] == [2, 1, 0, 3]
    for number in range(2 * MOST_ROUTES):
        overview.add(ended(route=f"r{number}"), 1.0)
    assert len(overview._steps[-1][1]) == MOST_ROUTES


def test_what_got_worse_is_named_with_both_figures(ended: Callable[..., Account]) -> None:
    """A p95 that doubled in the last two minutes is told, with what it is and what it was; a share that rose beyond chance is, too."""
    overview = Overview(0.0)
    dice = random.Random(3)
    for second in range(900):
        late = second >= 785
        ttft = dice.uniform(0.2, 0.4) if not late or dice.random() < 0.6 else dice.uniform(2.0, 3.0)
        overview.add(ended(ttft, outcome="client_disconnect" if late and second % 3 == 0 else "completed"), float(second))
    found = worse(overview.read(899.0)[1])
    assert set(found) == {"ttft_p95", "abort_rate"}
    now, was = found["ttft_p95"]
    assert now > 2.0
    assert was < 0.5
    assert found["abort_rate"] == (pytest.approx(1 / 3, abs=0.03), 0.0)


def test_chance_is_no_trend(ended: Callable[..., Account]) -> None:
    """Figures that only vary are never called worse, and of a handful of streams nothing is said."""
    for seed in range(20):
        overview, dice = Overview(0.0), random.Random(seed)
        for second in range(0, 900, 2):
            outcome = "client_disconnect" if dice.random() < 0.1 else "completed"
            overview.add(ended(dice.lognormvariate(-1, 0.1), outcome=outcome), float(second))
        assert "abort_rate" not in worse(overview.read(899.0)[1])
        assert "ttft_p50" not in worse(overview.read(899.0)[1])
    few = Overview(0.0)
    for second in range(0, 900, 50):
        few.add(ended(9.0 if second > 800 else 0.1), float(second))
    assert worse(few.read(899.0)[1]) == {}


@pytest.mark.parametrize(("held", "rate"), [({"client": 2.0}, 0.0), ({"client": 2.0, "gateway": 1.0}, 1.0), ({"upstream": 1.0}, 1.0)])
def test_a_slow_client_is_not_held_against_who_served_it(ended: Callable[..., Account], held: dict[Blame, float], rate: float) -> None:
    """A stream whose every stall was its client's is none that stalled; its stalls are counted by blame all the same."""
    one = Slice()
    stalls = [Stall(at=101.0, length=length, blame=blame, chunk=1) for blame, length in held.items()]
    one.add(ended(0.5, cadence=Cadence(chunks=5, stalls=stalls, stall_count=len(stalls), stall_time=held)))
    assert one.figures(900)["stall_rate"] == rate
    assert one.stalls == dict.fromkeys(held, 1)
