"""What the benchmark measures, one coroutine each: memory of open streams, added TTFT, CPU of steady streams, short streams per second."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from math import ceil
from typing import Protocol

from msgspec import Struct

from gateway.sim.caller import Address, Caller, Tally, ask, connect, drive, hold
from gateway.sim.lanes import Lane
from gateway.sim.load import quantile
from gateway.sim.processes import cpu_seconds, rss_bytes
from gateway.sim.report import Memory, Paced, Short, Ttft, middle

WARM = 20
SETTLE = 2.0
"""Seconds after a measure in which processes that work behind the stream (Weir's recorder) may finish what belongs to it."""
SHORT_TOKENS = 5
SHORT_STREAMS = 50
PROBE_TOKENS = 3
IN_A_ROW = 20
SILENCE = 600.0


class BenchOptions(Struct, frozen=True, kw_only=True):
    """What to measure. `rate` is events/s over all `streams`; `seconds` is one slot of a lane, of which there are `rounds`.

    With `against` a gateway that is already running is measured instead of the lanes, with its own upstreams, `model` and `key`;
    `direct` is its upstream's address, if what it adds is to be shown, and `pid` its process, if its CPU and memory are.
    """

    streams: int = 200
    rate: float = 10_000.0
    tokens: int = 100
    seconds: float = 5.0
    rounds: int = 3
    probes: int = 2000
    idle: int = 500
    lanes: tuple[str, ...] = ("direct", "nginx", "naive", "weir")
    measures: tuple[str, ...] = ("memory", "ttft", "paced", "short")
    against: str | None = None
    direct: str | None = None
    pid: int | None = None
    model: str = "bench"
    key: str = ""

    def __post_init__(self) -> None:
        if min(self.streams, self.rate, self.tokens, self.seconds, self.rounds, self.probes, self.idle) <= 0:
            raise ValueError("streams, rate, tokens, seconds, rounds, probes and idle must be above 0")

    @property
    def gap(self) -> float:
        """Seconds between two events of one stream."""
        return self.streams / self.rate


class Become(Protocol):
    """Sets how the provider speaks from now on: seconds and tokens."""

    def __call__(self, *, ttft: float, gap: float, tokens: int) -> None: ...


class Course(Struct, frozen=True):
    """What every measure is given. `scripted` says that each stream has the same number of events, so that a lost one shows."""

    lanes: list[Lane]
    options: BenchOptions
    become: Become
    say: Callable[[str], None]
    address: Callable[[Lane, BenchOptions], Address]
    scripted: bool

    def addresses(self) -> list[tuple[Lane, Address]]:
        return [(lane, self.address(lane, self.options)) for lane in self.lanes]

    def turns(self, rounds: int) -> Iterator[tuple[int, Lane, Address]]:
        """Yield every lane once a round, each round beginning with another one: what drifts on the machine drifts for all."""
        pairs = self.addresses()
        for number in range(rounds):
            turn = number % len(pairs)
            for lane, address in pairs[turn:] + pairs[:turn]:
                yield number, lane, address


class Slot(Struct, frozen=True):
    """One lane's turn: the whole tally, and what happened in the steady part of it."""

    tally: Tally
    events: int
    streams: int
    seconds: float
    cpu: float


class Account:
    """CPU of one lane's processes over a measure: the relay's by slot, the others' from the first slot to after the last."""

    def __init__(self, lane: Lane) -> None:
        self.known = lane.pid is not None
        self.relay = lane.relay()
        self.others = [pid for pid in lane.everything() if pid not in self.relay]
        self._before = cpu_seconds(self.others, children=False)
        self.slots: list[Slot] = []

    def per(self, count: Callable[[Slot], int]) -> tuple[float | None, float | None]:
        """Return microseconds per event or stream: the relay's median over the slots, and that with the others' share added."""
        if not self.known:
            return None, None
        relay = middle([slot.cpu / count(slot) * 1e6 for slot in self.slots if count(slot)])
        total = sum(count(slot) for slot in self.slots)
        if relay is None or not total:
            return None, None
        return relay, relay + (cpu_seconds(self.others, children=False) - self._before) / total * 1e6

    def tally(self) -> Tally:
        whole = Tally()
        for slot in self.slots:
            whole.add(slot.tally)
        return whole


async def slot(address: Address, account: Account, streams: int, seconds: float, spread: float) -> Slot:
    """Run one lane's turn: `spread` seconds to fill, `seconds` that count, then the end of what is still open."""
    tally = Tally()
    clock = asyncio.get_running_loop().time
    async with asyncio.TaskGroup() as group:
        group.create_task(drive(address, tally, streams, seconds + spread, spread))
        await asyncio.sleep(spread)
        start, events, ended, cpu = clock(), tally.events, tally.streams, cpu_seconds(account.relay, children=False)
        await asyncio.sleep(seconds)
        cpu = cpu_seconds(account.relay, children=False) - cpu
        return Slot(tally, tally.events - events, tally.streams - ended, clock() - start, cpu)


async def _slots(course: Course, title: str, streams: int, spread: float) -> dict[str, Account]:
    accounts = {lane.name: Account(lane) for lane in course.lanes}
    for number, lane, address in course.turns(course.options.rounds):
        course.say(f"{title}: round {number + 1} of {course.options.rounds}, {lane.name}")
        account = accounts[lane.name]
        account.slots.append(await slot(address, account, streams, course.options.seconds, spread))
    if any(account.others for account in accounts.values()):
        await asyncio.sleep(SETTLE)
    return accounts


async def paced(course: Course) -> dict[str, Struct]:
    """Steady streams at a fixed rate of events: CPU per event, what was lost, how even the gaps came."""
    options = course.options
    course.become(ttft=0, gap=options.gap, tokens=options.tokens)
    accounts = await _slots(course, "steady streams", options.streams, options.gap * options.tokens)
    expected = _expected(accounts) if course.scripted else 0
    found: dict[str, Struct] = {}
    for name, account in accounts.items():
        tally, (relay, everything) = account.tally(), account.per(lambda slot: slot.events)
        found[name] = Paced(
            streams=tally.streams,
            events=tally.events,
            broken=tally.broken,
            lost=sum(max(0, expected - events) * streams for events, streams in tally.counts.items()),
            events_per_second=middle([slot.events / slot.seconds for slot in account.slots]) or 0.0,
            cpu_relay=relay,
            cpu_all=everything,
            gap_p50=_ms(quantile(tally.gaps, 0.5)),
            gap_p99=_ms(quantile(tally.gaps, 0.99)),
            error=tally.first_error,
        )
    return found


def _expected(accounts: dict[str, Account]) -> int:
    """Return the number of events that a whole stream has: what most streams of all lanes had."""
    counts: Counter[int] = Counter()
    for account in accounts.values():
        counts.update(account.tally().counts)
    return counts.most_common(1)[0][0] if counts else 0


async def short(course: Course) -> dict[str, Struct]:
    """Streams of a few events, each asked for when the one before ended: how many a second, at what CPU."""
    course.become(ttft=0, gap=0, tokens=SHORT_TOKENS)
    accounts = await _slots(course, "short streams", min(SHORT_STREAMS, course.options.streams), 0.2)
    found: dict[str, Struct] = {}
    for name, account in accounts.items():
        tally, (relay, everything) = account.tally(), account.per(lambda slot: slot.streams)
        rate = middle([slot.streams / slot.seconds for slot in account.slots]) or 0.0
        found[name] = Short(
            streams=tally.streams,
            broken=tally.broken,
            streams_per_second=rate,
            cpu_relay=relay,
            cpu_all=everything,
            error=tally.first_error,
        )
    return found


async def ttft(course: Course) -> dict[str, Struct]:
    """One stream at a time on a connection kept alive, a provider that answers at once: what each lane adds to the first token.

    A lane is asked some times in a row, then the next: as one that works, not one that three others have just driven out of the caches.
    """
    course.become(ttft=0, gap=0, tokens=PROBE_TOKENS)
    probes = course.options.probes
    tallies = {lane.name: Tally() for lane in course.lanes}
    callers: dict[str, Caller] = {}
    course.say(f"first token: {probes} streams a lane, one at a time")
    for number, lane, address in course.turns(1 + ceil(probes / IN_A_ROW)):  # the first turn only warms up
        for _ in range(min(IN_A_ROW, probes - IN_A_ROW * max(0, number - 1))):
            caller = callers.get(lane.name)
            if caller is None or caller.lost:
                caller = callers[lane.name] = await connect(address, tallies[lane.name])
            caller.tally = tallies[lane.name] if number else Tally()
            await ask(caller)
    for caller in callers.values():
        caller.transport.abort()
    base = tallies.get("direct")
    return {name: _first_tokens(tally, base if tally is not base else None) for name, tally in tallies.items()}


def _first_tokens(tally: Tally, base: Tally | None) -> Ttft:
    figures = {name: _ms(quantile(tally.ttft, q)) for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))}
    added: dict[str, float | None] = {}
    if base is not None:
        for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
            ours, theirs = figures[name], _ms(quantile(base.ttft, q))
            added[f"added_{name}"] = None if ours is None or theirs is None else ours - theirs
    return Ttft(asked=tally.streams + tally.broken, broken=tally.broken, error=tally.first_error, **figures, **added)


async def memory(course: Course) -> dict[str, Struct]:
    """Open streams that have spoken once and then say nothing: what one more of them costs in resident memory."""
    course.become(ttft=0, gap=SILENCE, tokens=2)
    found: dict[str, Struct] = {}
    for lane, address in course.addresses():
        if lane.pid is None:
            continue
        course.say(f"memory: {course.options.idle} open streams, {lane.name}")
        async with hold(address, WARM):
            groups = lane.relay(), lane.everything()
            before = [_resident(group) for group in groups]
            async with hold(address, course.options.idle) as tally:
                await asyncio.sleep(SETTLE / 2)
                grown = [_resident(group) - base for group, base in zip(groups, before, strict=True)]
        opened = course.options.idle - tally.broken
        each = [bytes_ / opened / 1024 if opened else None for bytes_ in grown]
        found[lane.name] = Memory(streams=opened, broken=tally.broken, kib_per_stream=each[0], kib_all=each[1], error=tally.first_error)
    return found


def _resident(pids: list[int]) -> int:
    return sum(rss_bytes(pid) for pid in pids)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


MEASURES: dict[str, Callable[[Course], Awaitable[dict[str, Struct]]]] = {"memory": memory, "ttft": ttft, "paced": paced, "short": short}
"""By name, in the order in which they run: memory first, on processes that have not yet grown for anything else."""
