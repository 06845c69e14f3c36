"""The clients: so many streams always open, each with a plan drawn from the seed, each judged as soon as it is over."""

import asyncio
import hashlib
import random
import time
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from gateway.sim.chaos.asking import asking, request
from gateway.sim.chaos.judge import Match, ending, match
from gateway.sim.chaos.ledger import Ledger
from gateway.sim.chaos.visitor import Manner, Point, Visitor

Verdict = Literal["whole", "error event", "error status", "broken", "left", "lost"]
"""What a client got: all of it; an error in its stream; an error instead of it; a body that visibly ends too early; what it wanted of
it before it left on purpose; or, which must never be, something that it cannot tell from an answer, or nothing at all."""
LONGEST = 30.0
"""Seconds after which a client has had enough of an answer that still speaks."""
SILENCE = 25.0
"""Seconds of silence in a stream after which it counts as forgotten."""
MOST = 6 * 1024 * 1024
"""Bytes after which a client has had enough."""


class Plan(Struct, frozen=True):
    """What one client will do."""

    ordinal: int
    dialect: str
    model: str
    stream: bool
    silent: bool
    keep: bool
    pause: float
    manner: Manner


class Seen(Struct, kw_only=True):
    """What one client saw. Times are monotonic seconds, which every process of a machine shares.

    `faults` is what went wrong with the answers given to its call until then, `reused` that its connection had carried a call before.
    """

    tag: str
    plan: Plan
    verdict: Verdict
    how: str
    match: Match
    status: int
    stream_id: str
    upstream: str
    streamed: bool
    reused: bool
    faults: list[str]
    size: int
    digest: str
    dialed_at: float
    started_at: float
    ended_at: float


def plan(seed: int, ordinal: int, models: Sequence[tuple[str, str]]) -> Plan:
    """Draw what a client will do; `models` is [(dialect, model)]."""
    dice = random.Random(f"{seed}/client/{ordinal}")  # noqa: S311 - chaos must be repeatable
    dialect, model = dice.choice(models)
    leave, rate = dice.random(), 12_000.0 if dice.random() < 0.06 else None
    point: Point = "sent" if leave < 0.02 else "headers" if leave < 0.04 else "body" if leave < 0.16 else ""
    manner = Manner(point, dice.randint(1, 12_000), rate)
    stream, silent, keep = dice.random() < 0.92, dice.random() < 0.5, rate is None and dice.random() < 0.5
    return Plan(ordinal, dialect, model, stream, silent and dialect in {"openai", "azure"}, keep, dice.uniform(0, 0.6), manner)


class Crowd:
    """Keeps `streams` clients busy until `stop`; `seen` grows by one for each call made, `open` counts those under way."""

    def __init__(self, port: int, ledger: Ledger, models: Sequence[tuple[str, str]], streams: int, seed: int) -> None:
        self.seen: list[Seen] = []
        self.open = self.refused = self.stale = 0
        self._port, self._ledger, self._models = port, ledger, models
        self._streams, self._seed = streams, seed
        self._next = 0
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Return when the clients were told to stop and the last of them has its answer."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._streams):
                group.create_task(self._be(number))

    def stop(self) -> None:
        self._stopped.set()

    async def _be(self, number: int) -> None:
        """Be one client after the other."""
        await asyncio.sleep(number / self._streams * 2)  # not all in the first millisecond
        visitor: Visitor | None = None
        while not self._stopped.is_set():
            todo = plan(self._seed, self._next, self._models)
            self._next += 1
            visitor = await self._visit(todo, visitor if todo.manner.read_rate is None else None)
            await asyncio.sleep(todo.pause)
        if visitor is not None:
            visitor.close()

    async def _visit(self, todo: Plan, visitor: Visitor | None) -> Visitor | None:
        """Ask once; a kept connection that turns out to be closed is replaced, as every HTTP client does. Returns what can be used on."""
        self.open += 1
        try:
            for attempt in range(20):
                if visitor is None or not visitor.open:
                    visitor = await self._connect(todo)
                if visitor is None:
                    await asyncio.sleep(0.1)
                    continue
                if await self._ask(todo, visitor, f"chaos-{todo.ordinal:06}-{attempt}"):
                    break
            return self._kept(todo, visitor)
        finally:
            self.open -= 1

    @staticmethod
    def _kept(todo: Plan, visitor: Visitor | None) -> Visitor | None:
        if visitor is not None and not todo.keep:
            visitor.close()
        return visitor if visitor is not None and visitor.open else None

    async def _connect(self, todo: Plan) -> Visitor | None:
        visitor = Visitor(todo.manner)
        try:
            await visitor.connect("127.0.0.1", self._port)
        except OSError:
            self.refused += 1
            return None
        return visitor

    async def _ask(self, todo: Plan, visitor: Visitor, tag: str) -> bool:
        """Ask and judge; False when a kept connection was closed before it said a word, and the call may be made again."""
        call = asking(todo.dialect, f"{tag}: how does water pass a weir?", model=todo.model, stream=todo.stream)
        started = time.monotonic()
        over = visitor.ask(request(call, tag, silent_about_usage=todo.silent), todo.manner)
        forgotten = await self._watch(todo, visitor, over, started)
        heard = visitor.heard()
        end = ending(call, heard) if heard.status == 200 else "torn"
        verdict, how = _verdict(visitor, end, forgotten)
        upstream = visitor.headers.get("x-weir-upstream", "")
        answers = [answer for answer in self._ledger.of(tag) if f"{answer.provider}-{answer.dialect}" == upstream]
        compared = match(call, heard, answers, end) if heard.status == 200 and verdict != "lost" else ""
        self._ledger.judged(tag)
        self.seen.append(
            Seen(
                tag=tag,
                plan=todo,
                verdict=verdict,
                how=how,
                match=compared,
                status=heard.status,
                stream_id=visitor.headers.get("x-weir-stream-id", ""),
                upstream=upstream,
                streamed=todo.stream and not heard.encoding and heard.media_type != "application/json",
                reused=visitor.used > 1,
                faults=[answer.request.fault for answer in self._ledger.of(tag)],
                size=len(heard.body),
                digest=hashlib.sha256(heard.body).hexdigest(),
                dialed_at=visitor.dialed_at,
                started_at=started,
                ended_at=visitor.ended_at,
            )
        )
        stale = verdict == "broken" and not heard.status and visitor.used > 1
        self.stale += stale
        return not stale

    @staticmethod
    async def _watch(todo: Plan, visitor: Visitor, over: asyncio.Future[None], started: float) -> bool:
        """Wait for the end; leave what goes on for too long. True when a stream was forgotten: neither word nor end."""
        while not over.done():
            await asyncio.wait((over,), timeout=0.5)
            now = time.monotonic()
            quiet, long = now - visitor.heard_at > SILENCE, now - started > LONGEST
            if over.done():
                break
            if len(visitor.body) > MOST or long or quiet:
                visitor.leave()
                return quiet and todo.stream  # a whole answer may take as long as it takes: it is its client who decides
        return False


def _verdict(visitor: Visitor, end: str, forgotten: bool) -> tuple[Verdict, str]:
    if forgotten:
        return "lost", "silent and never ended"
    if visitor.left:
        return "left", visitor.manner.leave or "enough"
    if not visitor.proper:
        return ("error event", "then broken") if end == "error" else ("broken", visitor.failed)
    if visitor.status != 200:
        return "error status", str(visitor.status)
    if end == "torn":
        return "lost", "ended properly without its end"
    return ("whole", "") if end == "whole" else ("error event", "")
