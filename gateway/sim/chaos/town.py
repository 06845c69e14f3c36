"""The town that chaos comes to: five providers of different temper, what goes wrong with each, and the configurations in front of them."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson
from msgspec import Struct

from gateway.dialects import DIALECTS
from gateway.sim import faults
from gateway.sim.chaos.ledger import Booked, Ledger
from gateway.sim.faults import HEALTHY, Fault, Turn
from gateway.sim.tempers import Temper

Draw = Callable[[random.Random], Fault]

DEADLY: tuple[Draw, ...] = (
    lambda _: faults.Silent(),
    lambda _: faults.Refuse(),
    lambda dice: faults.ResetAfter(dice.randint(0, 30)),
    lambda dice: faults.Truncate(dice.randint(0, 30), dice.choice((0, 0, 9)), dice.random() < 0.5),
    lambda dice: faults.Status(dice.choice((400, 401, 429, 500, 503)), dice.choice((None, None, 1.0))),
    lambda dice: faults.Status(dice.choice((429, 500, 503))),
    lambda dice: faults.ErrorEvent(dice.randint(0, 20), then_done=dice.random() < 0.3, first=dice.random() < 0.3),
    lambda dice: faults.PingStorm(0.2, dice.randint(0, 10)),
    lambda dice: faults.Stall(dice.randint(0, 20), 6.0, dice.choice((0, 7))),
    lambda _: faults.NeverEnding(),
)
"""No answer comes of these, or none without an end that somebody else must put to it."""
ODD: tuple[Draw, ...] = (
    lambda dice: faults.SlowFirstToken(dice.uniform(0.5, 3), dice.choice((None, 0.3)), dice.random() < 0.5),
    lambda dice: faults.Stall(dice.randint(0, 20), dice.uniform(0.5, 2.5), dice.choice((0, 7))),
    lambda _: faults.MissingDone(),
    lambda dice: faults.GarbageFrame(dice.randint(1, 10)),
    lambda _: faults.SplitUtf8(),
    lambda dice: faults.PingStorm(0.1, dice.randint(0, 10), dice.uniform(0.5, 2)),
    lambda dice: faults.Burst(20, dice.uniform(0.3, 2)),
    lambda dice: faults.HugeEvent(dice.choice((70_000, 300_000, 1_500_000)), write=dice.choice((0, 8192))),
    lambda _: faults.EmptyChunks(),
    lambda _: faults.FilterChunks(),
    lambda _: faults.RefuseUsage(),
    lambda _: faults.OneByteWrites(),
    lambda _: faults.GzipAnyway(),
    lambda _: faults.JsonReplyToStream(),
)
"""A whole answer comes of these, in an odd way."""


class Roulette(Struct, frozen=True):
    """Any answer may go wrong: a share of them dies, a share is odd; which ones, and how, is the seed's choice."""

    deadly: float
    odd: float

    def pick(self, turn: Turn) -> Fault:
        chance = turn.dice.random()
        if chance < self.deadly:
            return turn.dice.choice(DEADLY)(turn.dice)
        return turn.dice.choice(ODD)(turn.dice) if chance < self.deadly + self.odd else HEALTHY


_TOKENS = "uniform 8 70"
HOUSES: Mapping[str, tuple[Temper, Roulette]] = {
    "calm": (Temper(ttft="lognormal 120ms 500ms", gap="uniform 30ms 110ms", tokens=_TOKENS), Roulette(0.02, 0.03)),
    "odd": (Temper(ttft="lognormal 150ms 600ms", gap="uniform 30ms 110ms", tokens=_TOKENS, speech="multibyte"), Roulette(0.05, 0.6)),
    "frail": (Temper(ttft="lognormal 150ms 800ms", gap="uniform 30ms 110ms", tokens=_TOKENS), Roulette(0.3, 0.1)),
    "slow": (Temper(ttft="lognormal 500ms 2500ms", gap="uniform 60ms 160ms", tokens=_TOKENS, reasoning=6), Roulette(0.1, 0.2)),
    "bursty": (Temper(ttft="lognormal 150ms 600ms", gap="uniform 100ms 300ms", tokens=_TOKENS, burst=5), Roulette(0.1, 0.2)),
}
LANES = ("native", "mixed", "cross")
"""Targets of the client's own dialect, of its own and another, of others only."""
POLICIES = ("least-latency", "priority", "round-robin", "weighted")
ON_SLOW = ("fallback", "hedge", "wait")


def providers(ledger: Ledger, seed: int) -> list[Booked]:
    """Return the providers, not yet listening."""
    return [
        Booked(ledger, temper=temper, faults=roulette, seed=seed * 100 + number, name=name)
        for number, (name, (temper, roulette)) in enumerate(HOUSES.items())
    ]


def models() -> list[tuple[str, str]]:
    """Return what clients ask for: (dialect, model). Answers in one's own dialect are asked for most."""
    return [(dialect, f"{lane}-{dialect}") for dialect in DIALECTS for lane in ("native", *LANES)]


def config(houses: Sequence[Booked], ports: Mapping[str, int], folder: str, workers: int, edition: int) -> bytes:
    """Return routes.yaml (JSON is YAML). Editions differ in policies, in the order of targets and in patience; all of them are valid."""
    upstreams = {
        f"{house.name}-{dialect}": {"dialect": dialect, "base_url": house.url(dialect), "api_key": "k", "max_streams": 2000}
        for house in houses
        for dialect in DIALECTS
    }
    return orjson.dumps(
        {
            "version": 1,
            "server": {"host": "127.0.0.1", "port": ports["data"], "workers": workers, "drain": "60s", "keepalive": "0s"},
            "admin": {"host": "127.0.0.1", "port": ports["admin"]},
            "upstreams": upstreams,
            "routes": list(_routes([house.name for house in houses], edition)),
            "telemetry": {
                "otlp": {"endpoint": f"http://127.0.0.1:{ports['collector']}"},
                "store": {"path": f"{folder}/weir.db"},
                "access_log": f"{folder}/access.log",
            },
        },
        option=orjson.OPT_INDENT_2,
    )


def broken(sound: bytes, edition: int) -> bytes:
    """Return a configuration that no gateway may take."""
    return sound[: len(sound) // 2] if edition % 2 else sound.replace(b'"routes"', b'"routs"', 1)


def _routes(houses: list[str], edition: int) -> Iterator[dict[str, Any]]:
    names = list(DIALECTS)
    for number, (dialect, lane) in enumerate((dialect, lane) for dialect in names for lane in LANES):
        turn = number + edition
        others = [names[(names.index(dialect) + step) % len(names)] for step in (2, 3, 5)]
        spoken = {"native": [dialect] * 3, "mixed": [dialect, *others[:2]], "cross": others}[lane]
        chosen = [houses[(turn + step) % len(houses)] for step in range(3)]
        yield {
            "name": f"{lane}-{dialect}",
            "match": {"models": [f"{lane}-{dialect}"]},
            "policy": POLICIES[turn % len(POLICIES)],
            "targets": [{"upstream": f"{house}-{tongue}"} for house, tongue in zip(chosen, spoken, strict=True)],
            "first_token": {"timeout": f"{1 + turn % 3}s", "on_slow": ON_SLOW[turn % len(ON_SLOW)], "hedge_limit": "50%"},
            "stall": {"threshold": "700ms", "liveness": "4s", "progress": "7s"},
            "client": {"write_timeout": "20s"},
            "breaker": {"failures": 5 if turn % 3 == 0 else 1000},
            "retry": {"attempts": 1 + turn % 3, "budget": "50%"},
            "usage": "inject" if turn % 2 else "leave",
        }
