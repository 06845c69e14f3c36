"""Many clients at once: so many streams always open (closed loop) or so many begun a second (open loop), and what each of them saw."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
from msgspec import Struct, field

from gateway.sim.witness import AbortAt, Point, StreamResult, Witness

GRACE = 30.0  # seconds that streams still open at the end of a run get to finish
PROMPT = "Describe how water passes a weir, and how its flow is measured without stopping it. " * 3
_BODIES: dict[str, Callable[[str], dict[str, Any]]] = {
    "/chat/completions": lambda prompt: {"messages": [{"role": "user", "content": prompt}]},
    "/completions": lambda prompt: {"prompt": prompt},
    "/embeddings": lambda prompt: {"input": prompt},
}
Seen = Callable[[StreamResult], None]


class Aborts(Struct, frozen=True):
    """Which clients leave early: a share of them, by the seed's choice, each at one of these points, after `tokens` (from, to) chunks."""

    share: float = 0.0
    points: tuple[Point, ...] = ("sent", "headers", "token")
    tokens: tuple[int, int] = (1, 20)

    def choose(self, dice: random.Random) -> AbortAt | None:
        if dice.random() >= self.share:
            return None
        return AbortAt(dice.choice(self.points), dice.randint(*self.tokens))


class Load(Struct, frozen=True, kw_only=True):
    """What to ask, how often, and how the clients behave. The same seed gives the same models and aborts, by ordinal.

    streams    closed loop: streams always open; open loop: the most that may be open, arrivals beyond are counted as skipped
    rate       open loop: streams begun a second; None for the closed loop
    poisson    open loop: arrivals at random instead of evenly spaced
    model      one name, or names with weights
    body       fields of the request body besides model, stream and the prompt, or instead of them
    read_rate  bytes a second that each client reads; None for as fast as they come
    patience   seconds one stream may last before its client gives up ("unfinished")
    """

    host: str
    port: int
    streams: int = 50
    rate: float | None = None
    poisson: bool = False
    model: str | Mapping[str, float] = "sim-small"
    path: str = "/v1/chat/completions"
    prompt: str = PROMPT
    stream: bool = True
    include_usage: bool = True
    body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    aborts: Aborts = Aborts()
    read_rate: float | None = None
    patience: float = 600.0
    seed: int = 0

    async def run(self, seconds: float | None = None, total: int | None = None, seen: Seen | None = None) -> "LoadReport":
        """Drive until `seconds` are over or `total` streams were begun, let the open ones finish, and report. `seen` gets each result."""
        if seconds is None and total is None:
            raise ValueError("a load needs an end: seconds, total or both; see traffic() for one without")
        results: list[StreamResult] = []
        began = time.monotonic()

        def tell(result: StreamResult) -> None:
            results.append(result)
            if seen is not None:
                seen(result)

        crew = _Crew(self, tell)
        await crew.drive(None if seconds is None else began + seconds, total)
        return LoadReport(results=results, seconds=time.monotonic() - began, skipped=crew.skipped)

    def request(self, model: str) -> bytes:
        """Return the whole HTTP request."""
        shape = next(shape for ending, shape in _BODIES.items() if self.path.endswith(ending) or ending == "/embeddings")
        fields: dict[str, Any] = {"model": model} | shape(self.prompt)
        if self.stream:
            fields["stream"] = True
            if self.include_usage:
                fields["stream_options"] = {"include_usage": True}
        body = orjson.dumps(fields | dict(self.body))
        lines = [f"POST {self.path} HTTP/1.1", f"Host: {self.host}:{self.port}", "Content-Type: application/json"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode("latin-1") + body


async def traffic(load: Load, seen: Seen | None = None) -> None:
    """Drive without end, keeping nothing: for a demo. Cancel it to stop; every connection is closed then."""
    await _Crew(load, seen or _nobody).drive(None, None)


def _nobody(result: StreamResult) -> None:
    """Take no notice."""


def quantile(values: Sequence[float], q: float) -> float | None:
    """Return the smallest value that at least the share `q` of them do not exceed; None of nothing."""
    if not values:
        return None
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, max(0, -int(-len(ranked) * q // 1) - 1))]


class LoadReport(Struct, kw_only=True):
    """Every stream of a run, and how long the run took in seconds. `skipped`: arrivals that found all clients busy."""

    results: list[StreamResult]
    seconds: float
    skipped: int = 0

    @property
    def fine(self) -> int:
        return sum(result.fine for result in self.results)

    @property
    def events(self) -> int:
        return sum(result.events for result in self.results)

    @property
    def deltas(self) -> int:
        return sum(result.deltas for result in self.results)

    def ttft(self, q: float) -> float | None:
        """Quantile of the time to the first token, in seconds."""
        return quantile([result.ttft for result in self.results if result.ttft is not None], q)

    def duration(self, q: float) -> float | None:
        """Quantile of the whole, in seconds, of the streams that came whole."""
        return quantile([result.duration for result in self.results if result.fine and result.duration is not None], q)

    def ends(self) -> dict[str, int]:
        """How the streams ended: fine, aborted, error_event, incomplete, status_NNN, or a client's error."""
        return dict(Counter(map(_end, self.results)))

    def summary(self) -> dict[str, Any]:
        """Return the figures, ready for JSON; times in milliseconds."""
        times = {"ttft": self.ttft, "duration": self.duration}
        return {
            "streams": len(self.results),
            "ends": self.ends(),
            "skipped": self.skipped,
            "seconds": round(self.seconds, 3),
            "events": self.events,
            "deltas": self.deltas,
            "bytes": sum(result.bytes for result in self.results),
            "streams_per_second": round(len(self.results) / self.seconds, 2) if self.seconds else 0.0,
            "events_per_second": round(self.events / self.seconds, 2) if self.seconds else 0.0,
        } | {
            f"{name}_ms": {f"p{round(q * 100)}": None if (at := of(q)) is None else round(at * 1000, 3) for q in (0.5, 0.95, 0.99)}
            for name, of in times.items()
        }


def _end(result: StreamResult) -> str:
    if result.aborted is not None:
        return "aborted"
    if result.error is not None:
        return result.error
    if result.status != 200:
        return f"status_{result.status}"
    if result.error_event:
        return "error_event"
    return "fine" if result.complete else "incomplete"


class _Crew:
    """The clients of one run: takes ordinals while there are any, shares idle connections, tells each result once."""

    def __init__(self, load: Load, seen: Seen) -> None:
        self.skipped = 0
        self._load = load
        self._seen = seen
        self._next = self._busy = 0
        self._idle: list[Witness] = []
        self._requests: dict[str, bytes] = {}
        self._until: float | None = None
        self._total: int | None = None

    async def drive(self, until: float | None, total: int | None) -> None:
        self._until, self._total = until, total
        try:
            async with asyncio.TaskGroup() as group:
                if self._load.rate is not None:
                    await self._arrive(group, self._load.rate)
                else:
                    for _ in range(self._load.streams):
                        group.create_task(self._again_and_again())
        finally:
            for witness in self._idle:
                witness.abandon(None)
            await asyncio.sleep(0)  # transports close in the loop's next turn

    def _take(self) -> int | None:
        """Return the next ordinal, or None when the run is over."""
        late = self._until is not None and time.monotonic() >= self._until
        if late or (self._total is not None and self._next >= self._total):
            return None
        self._next += 1
        return self._next - 1

    async def _again_and_again(self) -> None:
        while (ordinal := self._take()) is not None:
            result = await self._one(ordinal)
            if result.error == "connect":
                await asyncio.sleep(0.05)  # nobody listens: do not spin

    async def _arrive(self, group: asyncio.TaskGroup, rate: float) -> None:
        dice = random.Random(f"{self._load.seed}/arrivals")  # noqa: S311 - a load must be repeatable
        due = time.monotonic()
        while True:
            due += dice.expovariate(rate) if self._load.poisson else 1.0 / rate
            if self._until is not None and due >= self._until:
                return
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            ordinal = self._take()
            if ordinal is None:
                return
            if self._busy >= self._load.streams:
                self.skipped += 1
            else:
                self._busy += 1
                group.create_task(self._one_of_many(ordinal))

    async def _one_of_many(self, ordinal: int) -> None:
        try:
            await self._one(ordinal)
        finally:
            self._busy -= 1

    async def _one(self, ordinal: int) -> StreamResult:
        """Ask once, on an idle connection if there is one; an idle one that proves closed is replaced by a new one."""
        dice = random.Random(f"{self._load.seed}/{ordinal}")  # noqa: S311
        result = StreamResult(ordinal=ordinal, model=self._model(dice), started_at=time.monotonic())
        abort = self._load.aborts.choose(dice)
        while await self._attempt(result, abort):
            result.error = None
        self._seen(result)
        return result

    async def _attempt(self, result: StreamResult, abort: AbortAt | None) -> bool:
        """Try on one connection; say whether to try again, because it was an old one that closed without a byte of answer."""
        witness = await self._connection(result)
        if witness is None:
            return False
        try:
            async with asyncio.timeout_at(self._deadline()):
                await witness.ask(self._request(result.model), result, self._load.stream, abort)
        except TimeoutError:
            witness.abandon("unfinished")
        except BaseException:
            witness.abandon("unfinished")
            raise
        if witness.open:
            self._idle.append(witness)
        return result.error == "closed" and result.bytes == 0 and witness.used > 1

    async def _connection(self, result: StreamResult) -> Witness | None:
        while self._idle:
            if (witness := self._idle.pop()).open:
                return witness
        witness = Witness(self._load.read_rate)
        try:
            await witness.connect(self._load.host, self._load.port)
        except OSError:
            result.error, result.duration = "connect", time.monotonic() - result.started_at
            return None
        return witness

    def _deadline(self) -> float:
        """Return when to give up on a stream begun now, in the loop's time."""
        now = time.monotonic()
        left = self._load.patience if self._until is None else min(self._load.patience, self._until + GRACE - now)
        return asyncio.get_running_loop().time() + left

    def _model(self, dice: random.Random) -> str:
        model = self._load.model
        return model if isinstance(model, str) else dice.choices(list(model), weights=list(model.values()))[0]

    def _request(self, model: str) -> bytes:
        if model not in self._requests:
            self._requests[model] = self._load.request(model)
        return self._requests[model]
