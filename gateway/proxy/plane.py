"""What all streams of one worker share, and what one live stream carries along its way."""

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Callable, Mapping
from math import inf
from typing import TYPE_CHECKING

from gateway.config import Config, Route
from gateway.core.call import Call
from gateway.core.errors import GatewayError, Rejected
from gateway.core.messages import Begun, Ended, FromWorker, Heard, Moved, Watching
from gateway.core.owners import Blame, Intervals, Ledger, Owner, blame
from gateway.core.prompt import Prompt
from gateway.core.record import State, StreamRecord
from gateway.dialects.base import Dialect
from gateway.proxy.headers import answer_headers
from gateway.proxy.neighbours import Neighbours
from gateway.proxy.reply import STREAM_HEADERS, Reply
from gateway.proxy.setup import Setup
from gateway.proxy.shelf import Shelf
from gateway.proxy.upstream import Pool
from gateway.proxy.watch import LoopLag, Watch
from gateway.proxy.words import Follower, Words
from gateway.routing.health import Health, size_class
from gateway.stream.cadence import CadenceMeter
from gateway.wire.framing import Framing

if TYPE_CHECKING:
    from gateway.proxy.taped import Taped  # it knows of streams, and they of it

MAX_MODEL = 256
"""Bytes of a model's name: longer than any provider's."""
MOST_SHOWN = 500
"""Streams of one worker of whose tokens an onlooker is told."""
MOST_ARRIVALS = 400
"""Arrivals of one stream that are told at once: what an onlooker who has just come hears of its past."""


class Plane:
    """One worker's data plane: the setup that new calls begin with, the watch, and the way to tell the recorder.

    `tell` never waits and never raises. `clock` is monotonic seconds, `dice` uniform in [0, 1), `neighbours` the workers that
    share its port, among whom it is `number`.
    """

    def __init__(
        self,
        config: Config,
        tell: Callable[[FromWorker], None],
        clock: Callable[[], float] = time.monotonic,
        dice: Callable[[], float] = random.random,
        neighbours: Neighbours | None = None,
    ) -> None:
        self.tell, self.clock, self.dice = tell, clock, dice
        self.setup = Setup(config, clock)
        self.retired: list[Pool] = []
        self.lag = LoopLag(clock)
        self.watch = Watch(clock)
        self.live: dict[str, Live] = {}
        self.arriving: set[Live] = set()
        self.shelf: Shelf[Taped] = Shelf()
        self.neighbours, self.number = neighbours, neighbours.number if neighbours is not None else 0
        self.pid = os.getpid()
        self.stopping = self.retiring = self.is_watched = False
        self._watching = Watching(False)
        self.shown: dict[str, float] = {}
        self.followers: dict[str, Follower] = {}
        self._empty: asyncio.Future[None] | None = None

    def start(self) -> None:
        self.lag.start()
        self.watch.start()

    def close(self) -> None:
        self.lag.stop()
        self.watch.stop()
        self.shelf.close()
        for pool in (*self.pools.values(), *self.retired):
            pool.close()

    @property
    def config(self) -> Config:
        """The newest configuration; a call that is under way has its own in `Live.setup`."""
        return self.setup.config

    @property
    def pools(self) -> Mapping[str, Pool]:
        return self.setup.pools

    @property
    def health(self) -> Health:
        return self.setup.health

    def swap(self, config: Config) -> None:
        """Carry new calls by another configuration; those under way end by the one they began with.

        The pools of upstreams that are no more, or not the same, serve their last streams and go.
        """
        self.enter(Setup(config, self.clock, self.setup))

    def enter(self, setup: Setup) -> None:
        """The same with a setup that was made after the present one, in a thread perhaps."""
        old, self.setup = self.setup, setup
        setup.inherit(old)
        for name, pool in old.pools.items():
            if self.setup.pools.get(name) is not pool:
                pool.retire()
                self.retired.append(pool)

    def sweep(self, now: float) -> None:
        """Close connections that have been idle too long, and forget retired pools that nobody uses any more."""
        for pool in self.pools.values():
            pool.sweep(now)
        if self.retired:
            self.retired = [pool for pool in self.retired if not pool.empty]

    async def emptied(self, seconds: float) -> None:
        """Wait until no stream lives and no call is on its way in, at most `seconds`."""
        if self.live or self.arriving:
            self._empty = asyncio.get_running_loop().create_future()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty, seconds)

    def left(self, live: "Live") -> None:
        """A stream has ended."""
        self.live.pop(live.record.stream_id, None)
        self.shown.pop(live.record.stream_id, None)
        if (follower := self._leave(live.record.stream_id)) is not None:
            follower.finish()
        self.arriving.discard(live)
        if not self.live and not self.arriving and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)

    def watched(self, watching: Watching) -> None:
        """Somebody has come to look on, and is told of each stream what is known of its past; or another share of them is to be shown,
        or nobody looks on any more."""
        self.shown.clear()
        self._watching, self.is_watched = watching, watching.on

    def show(self, stream_id: str, meter: CadenceMeter, answer: float | None) -> None:
        """Tell whoever looks on of a stream's latest tokens, if it is one of those that are shown."""
        after = self.shown.get(stream_id)
        if after is None:
            if len(self.shown) >= MOST_SHOWN or not self._watching.shows(stream_id):
                return
            after = self.shown[stream_id] = -inf
        times, many = meter.since(after, MOST_ARRIVALS)
        if times:
            self.shown[stream_id] = times[-1]
            self.tell(Heard(stream_id, times, many, answer))

    def follow(self, stream_id: str, on: bool) -> None:
        """Tell what a live stream says, from its beginning, or no longer; only of one whose words are kept."""
        self._leave(stream_id)
        live = self.live.get(stream_id)
        if on and live is not None and live.words is not None and live.record.content:
            follower = self.followers[stream_id] = Follower(stream_id, live.words, self.tell)
            self.watch.watched.add(follower)
            follower.tick(self.clock())

    def _leave(self, stream_id: str) -> Follower | None:
        """Let go of who tells what a stream says."""
        if (follower := self.followers.pop(stream_id, None)) is not None:
            self.watch.watched.discard(follower)
        return follower

    def oldest_gap(self, now: float) -> float:
        """Return the longest silence, in seconds, that a relayed stream is in at this moment."""
        return max((watched.silence(now) for watched in self.watch.watched), default=0.0)


class Live:
    """One stream while it lives: its record, its ledger of owners, its client; told to the recorder as it goes."""

    __slots__ = (
        "_last_sign",
        "_prompt",
        "_told",
        "call",
        "dialect",
        "framing",
        "headers",
        "health",
        "ledger",
        "pauses",
        "plane",
        "record",
        "reply",
        "resumes",
        "route",
        "setup",
        "state",
        "stop",
        "stopped",
        "task",
        "words",
    )

    def __init__(self, plane: Plane, record: StreamRecord, reply: Reply, dialect: Dialect) -> None:
        self.plane, self.record, self.reply, self.dialect = plane, record, reply, dialect
        self.setup = plane.setup
        self.call: Call
        self.framing: Framing
        self.route: Route
        self.headers: list[tuple[str, str]] = []
        self.health: Health
        self.ledger = Ledger(record.received_at, plane.lag.late(record.received_at), "client_blocked")
        self.pauses = Intervals()
        self.state: State = "queue"
        self.stop: Callable[[GatewayError], None] | None = None
        self.stopped: GatewayError | None = None
        self.resumes = False
        self.words: Words | None = None
        self._told = False
        self._prompt: Prompt | None = None
        self._last_sign = record.received_at
        self.task = asyncio.current_task()
        plane.arriving.add(self)

    def find_route(self, model: str, headers: Mapping[str, str]) -> Route | None:
        """Return the route of the call by the newest configuration, which is the call's own from here on.

        Raises Rejected for a name of a model that is none: it would be kept, and told with every heartbeat.
        """
        if len(model.encode("utf-8", "surrogatepass")) > MAX_MODEL:
            raise Rejected(f"the model's name is longer than {MAX_MODEL} bytes", code="invalid_model")
        self.setup = self.plane.setup
        return self.setup.route_for(model, self.dialect.name, headers)

    def begin(self, call: Call, route: Route, headers: list[tuple[str, str]]) -> None:
        """The call is known and routed, `headers` is what an upstream may see of it: from here on it is live."""
        self.call, self.route, self.headers = call, route, headers
        self.health = self.setup.health.sized(size_class(route.prompt_sizes, len(call.body)))
        self.framing = self.dialect.framing(call)
        self.plane.live[self.record.stream_id] = self
        self.plane.arriving.discard(self)

    def prompt(self) -> Prompt:
        """Return the call in no dialect, for targets of another one; raises `core.errors.Rejected` for what only its own can say."""
        if self._prompt is None:
            if self.call.operation != "chat":
                raise Rejected(f"a target of another dialect cannot serve {self.call.operation}", code="untranslatable")
            self._prompt = self.dialect.read_prompt(self.call)
        return self._prompt

    def count(self, kind: str) -> None:
        """Count a deliberate change to the client's bytes."""
        self.record.mutations[kind] = self.record.mutations.get(kind, 0) + 1

    def keepalive_due(self) -> float | None:
        """When a client that still waits for its first byte should hear that it is not forgotten; None is never."""
        keepalive = self.setup.config.server.keepalive
        return self._last_sign + keepalive if keepalive and self.call.stream and self.framing.keepalive else None

    def heard(self, now: float) -> None:
        """The client has been sent something."""
        self._last_sign = now

    def keep_waiting(self, now: float) -> None:
        """Open the answer early, and say that we are alive. Another target may still be chosen; a status can no longer be."""
        if not self.reply.opened:
            self.reply.open(200, {"Content-Type": self.framing.media_type, **STREAM_HEADERS, **answer_headers(self.record)})
        self._last_sign = now
        if self.reply.keep_alive(self.framing.keepalive):
            self.count("keepalive")

    def own(self, owner: Owner, now: float) -> None:
        """From `now` on, the time is `owner`'s."""
        if owner != self.ledger.owner:
            self.ledger.turn(owner, now, self.plane.lag.late(now))

    def blame(self, start: float, end: float) -> Blame:
        """Name who held most of a silence: our client while it took no bytes, our loop while it was late, else the upstream."""
        return blame(end - start, self.pauses.within(start, end), self.plane.lag.within(start, end))

    def move(self, state: State, upstream: str, now: float) -> None:
        """Say where the stream is now. The first word, once the first target is being asked, tells its record and counts the call."""
        self.state = state = "draining" if self.plane.stopping else state
        if self._told:
            self.plane.tell(Moved(self.record.stream_id, state, upstream, now))
            return
        self._told = True
        self.plane.tell(Begun(self.record, state))
        self.setup.retries[self.route.name].called(now)
        self.setup.hedges[self.route.name].called(now)

    def drain(self, now: float) -> None:
        """The worker takes no new calls, and waits for this one."""
        if self._told:
            self.move("draining", self.record.upstream, now)

    def end_early(self, why: GatewayError) -> None:
        """End this stream from our side, in whatever phase it is: the client is told, the outcome is `why`'s."""
        self.stopped = why
        if self.stop is not None:
            self.stop(why)
        elif self.task is not None:
            self.task.cancel()

    def settle(self, now: float) -> None:
        """Close the record: the one place where a stream ends for telemetry. Called exactly once."""
        record = self.record
        self.ledger.turn("gateway", now, self.plane.lag.late(now))
        record.ended_at, record.seconds = now, {owner: seconds for owner, seconds in self.ledger.seconds.items() if seconds}
        said = self.words.settle(record) if self.words is not None else None
        self.plane.left(self)
        self.plane.tell(Ended(0, record))  # the link numbers it
        if said is not None:
            self.plane.tell(said)
