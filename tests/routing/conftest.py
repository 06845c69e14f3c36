"""A small world for routing: servers that are functions, clients that arrive by chance, one fake clock, one seeded dice."""

import heapq
import random
from collections.abc import Callable
from itertools import count
from typing import NamedTuple

import pytest

from gateway.config import Route, Target
from gateway.routing.health import Health
from gateway.routing.policy import plan


class Reply(NamedTuple):
    """What a server does with one call: seconds to its first token (or failure), seconds of streaming after it."""

    ttft: float
    length: float = 0.0
    fails: bool = False


Server = Callable[[float, int, random.Random], Reply]
"""(now, other calls in flight there, dice) -> what happens to a call."""


class World:
    """Runs one route over `servers`; `firsts` is every (time, upstream) that was a call's first choice."""

    def __init__(self, servers: dict[str, Server], seed: int = 1, deadline: float = 2.0, policy: str = "least-latency") -> None:
        self.servers = servers
        self.health = Health()
        self.rng = random.Random(seed)
        self.deadline = deadline
        self.now = 0.0
        self.firsts: list[tuple[float, str]] = []
        self.load = dict.fromkeys(servers, 0)
        self._policy = policy
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self.route_to(*servers)

    def route_to(self, *upstreams: str) -> None:
        self.route = Route(name="r", policy=self._policy, targets=tuple(Target(upstream=name) for name in upstreams))

    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), what))

    def arrivals(self, rate: float, until: float) -> "World":
        """Let clients arrive at random, `rate` a second."""

        def arrive() -> None:
            self.call()
            following = self.now + self.rng.expovariate(rate)
            if following < until:
                self.at(following, arrive)

        self.at(self.rng.expovariate(rate), arrive)
        return self

    def clients(self, number: int, until: float) -> "World":
        """Let `number` clients call again and again, each one call at a time."""

        def again() -> None:
            if self.now < until:
                self.call(again)

        for _ in range(number):
            self.at(0.0, again)
        return self

    def run(self) -> "World":
        while self._events:
            self.now, _, what = heapq.heappop(self._events)
            what()
        return self

    def call(self, done: Callable[[], None] = lambda: None) -> None:
        order = [target.upstream for target in plan(self.route, "m", self.health, self.now, self.rng.random)]
        self.firsts.append((self.now, order[0]))
        self._attempt(order, done)

    def share(self, upstream: str, since: float, until: float) -> float:
        chosen = [name for at, name in self.firsts if since <= at < until]
        return chosen.count(upstream) / len(chosen)

    def _attempt(self, order: list[str], done: Callable[[], None]) -> None:
        name, *rest = order
        ticket = self.health.begin((name, "m"), self.route.breaker, self.now)
        reply = self.servers[name](self.now, self.load[name], self.rng)
        self.load[name] += 1

        def over(next_one: bool) -> None:
            self.load[name] -= 1
            ticket.end(self.now)
            if next_one and rest:
                self._attempt(rest, done)
            else:
                done()

        def fail() -> None:
            ticket.failed(self.now, "status_500")
            over(next_one=True)

        def give_up() -> None:
            ticket.slow(self.deadline, self.now)
            over(next_one=True)

        def speak() -> None:
            ticket.spoke(reply.ttft, self.now)
            self.at(self.now + reply.length, finish)

        def finish() -> None:
            ticket.succeeded(self.now)
            over(next_one=False)

        if rest and reply.ttft > self.deadline:
            self.at(self.now + self.deadline, give_up)
        else:
            self.at(self.now + reply.ttft, fail if reply.fails else speak)


@pytest.fixture
def world() -> type[World]:
    return World


@pytest.fixture
def reply() -> type[Reply]:
    return Reply
