"""What least-latency promises, played out: fake clock, seeded dice, several seeds each. The figures are in docs/routing.md."""

import pytest

SEEDS = range(1, 6)
RATES = (5, 20, 100)


def fixed(reply, ttft, length=0.0, fails=False):
    return lambda _now, _load, _rng: reply(ttft, length, fails)


def slow_between(reply, since, until, fast=0.2, slow=3.0):
    return lambda now, _load, _rng: reply(slow if since <= now < until else fast)


@pytest.mark.parametrize("rate", RATES)
def test_slow_target_loses_its_traffic(world, reply, rate):
    """A target that goes from 200 ms to 3 s keeps under 6 % of the calls from five seconds later, and under 20 % after two."""
    for seed in SEEDS:
        servers = {"a": slow_between(reply, 30, 99), "b": fixed(reply, 0.3)}
        run = world(servers, seed).arrivals(rate, 60).run()
        assert run.share("a", 10, 30) > 0.5
        assert run.share("a", 32, 37) <= 0.2
        assert run.share("a", 35, 60) <= 0.06


@pytest.mark.parametrize("rate", RATES)
def test_recovered_target_regains_traffic(world, reply, rate):
    """A target slow for 30 s and healthy again has at least 30 % of the calls within 60 s (C2c)."""
    for seed in SEEDS:
        servers = {"a": slow_between(reply, 30, 60), "b": fixed(reply, 0.2)}
        run = world(servers, seed).arrivals(rate, 120).run()
        assert run.share("a", 40, 60) <= 0.06
        assert any(run.share("a", at, at + 5) >= 0.3 for at in range(60, 115))
        assert run.share("a", 110, 120) >= 0.3


@pytest.mark.parametrize("length", [0.0, 1.0, 5.0])
def test_equal_targets_share_without_flip_flop(world, reply, length):
    """Two targets of 100 ms + 50 ms x in-flight under 50 clients stay within 35-65 % in every five seconds (C2a)."""

    def server(now, load, rng):
        return reply(0.1 + 0.05 * load, length)

    for seed in SEEDS:
        run = world({"a": server, "b": server}, seed, deadline=60.0).clients(50, 60).run()
        for start in range(0, 60, 5):
            if any(start <= at < start + 5 for at, _ in run.firsts):
                assert 0.35 <= run.share("a", start, start + 5) <= 0.65


@pytest.mark.parametrize("rate", RATES)
def test_outliers_do_not_banish(world, reply, rate):
    """Two equal targets with lognormal times (p95 five times the median) each keep 35-65 % of the calls of a minute."""

    def server(now, load, rng):
        return reply(0.3 * rng.lognormvariate(0, 1.0))

    for seed in SEEDS:
        run = world({"a": server, "b": server}, seed, deadline=10.0).arrivals(rate, 70).run()
        assert 0.35 <= run.share("a", 10, 70) <= 0.65


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("ttft", [0.1, 0.5, 2.0])
def test_new_target_is_tried_at_once_and_not_flooded(world, reply, rate, ttft):
    """A third target added to a route is called within a second, and gets at most twice its fair share while it is new (C2b)."""
    firsts, chosen = 0, 0
    for seed in range(1, 9):
        run = world({"a": fixed(reply, 0.5), "b": fixed(reply, 0.5), "c": fixed(reply, ttft)}, seed, deadline=5.0)
        run.route_to("a", "b")
        run.at(20, lambda run=run: run.route_to("a", "b", "c"))
        run.arrivals(rate, 30).run()
        calls = [(at, name) for at, name in run.firsts if at >= 20]
        assert next(at for at, name in calls if name == "c") < 21
        firsts += len([at for at, _ in calls if at < 25])
        chosen += len([at for at, name in calls if at < 25 and name == "c"])
    assert chosen / firsts <= 2 / 3 + 0.03


@pytest.mark.parametrize("rate", RATES)
def test_failing_fast_is_not_being_fast(world, reply, rate):
    """A target that fails in 5 ms gets no more than the exploring share beside one that answers in 500 ms (C3)."""
    for seed in SEEDS:
        run = world({"a": fixed(reply, 0.005, fails=True), "b": fixed(reply, 0.5)}, seed).arrivals(rate, 60).run()
        assert run.share("a", 10, 60) <= 0.02
        assert run.health.estimate(("a", "m"), run.now) == 0.25


@pytest.mark.parametrize("rate", [0.5, 2])
@pytest.mark.parametrize("lengths", [(0.0, 0.0), (5.0, 0.05)])
def test_faster_target_gets_the_traffic(world, reply, rate, lengths):
    """At low concurrency 200 ms beats 400 ms for at least 85 % of the calls, however long either one's answers are (C1)."""
    for seed in SEEDS:
        servers = {"a": fixed(reply, 0.2, lengths[0]), "b": fixed(reply, 0.4, lengths[1])}
        run = world(servers, seed).arrivals(rate, 30 + 200 / rate).run()
        assert run.share("a", 30, run.now + 1) >= 0.85


def test_sequential_calls_prefer_the_faster_target(world, reply):
    """One client after the other: 200 ms beats 400 ms for at least 95 % of 200 calls (C1)."""
    for seed in SEEDS:
        run = world({"a": fixed(reply, 0.2), "b": fixed(reply, 0.4)}, seed).clients(1, 50).run()
        assert run.share("a", 5, 50) >= 0.94


@pytest.mark.parametrize("rate", [0.2, 1])
def test_stale_target_is_revisited(world, reply, rate):
    """With little traffic a target once slow is tried again within five minutes of getting better, and then wins (C2c)."""
    for seed in SEEDS:
        servers = {"a": slow_between(reply, 100, 130), "b": fixed(reply, 0.35)}
        run = world(servers, seed, deadline=10.0).arrivals(rate, 1500).run()
        assert min(at for at, name in run.firsts if name == "a" and at > 130) < 430
        assert run.share("a", 800, 1500) >= 0.75


@pytest.mark.parametrize("rate", RATES)
def test_exploring_stays_cheap(world, reply, rate):
    """A target too slow for good costs no more than 4 % of the calls, and is never given up altogether."""
    for seed in SEEDS:
        run = world({"a": fixed(reply, 3.0), "b": fixed(reply, 0.2)}, seed).arrivals(rate, 130).run()
        assert 0 < run.share("a", 10, 130) <= 0.04


def test_every_call_is_accounted_for(world, reply):
    """After a run with failures, slow calls and fallbacks no call is left in flight, and nothing went below zero."""
    servers = {
        "a": lambda _now, _load, rng: reply(rng.uniform(0.1, 4), rng.uniform(0, 3), rng.random() < 0.3),
        "b": lambda _now, _load, rng: reply(rng.uniform(0.1, 3), 0, rng.random() < 0.2),
        "c": fixed(reply, 0.5),
    }
    run = world(servers).arrivals(50, 60).run()
    assert [state.in_flight for state in run.health.snapshot(run.now)] == [0, 0, 0]
    assert all(run.health.target((name, "m")).waiting == 0 for name in servers)
