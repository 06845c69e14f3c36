"""One attempt at one target: dial, send, listen. It holds what it hears until it is handed over to a relay or dropped."""

import asyncio
from collections.abc import Callable
from math import inf
from typing import Literal

from gateway.config import Stall, Target
from gateway.core.errors import (
    ConnectFailed,
    ErrorEvent,
    GatewayError,
    RedirectRefused,
    StreamTruncated,
    UpstreamError,
    blames_upstream,
    word,
)
from gateway.core.record import Attempt, AttemptOutcome, State, Why
from gateway.proxy.dial import connect_failed
from gateway.proxy.errand import Errand, request_for
from gateway.proxy.headers import retry_after
from gateway.proxy.inflate import Inflated, opened
from gateway.proxy.plane import Live
from gateway.proxy.reading import Reading
from gateway.proxy.signing import SigningError
from gateway.proxy.translation import MAX_DOCUMENT
from gateway.proxy.upstream import Connection, Head, Listener, Sink

HOLD_BYTES = 64 * 1024
HOLD_CHUNKS = 64

Phase = Literal["queue", "connect", "upstream_wait"]


class Trial:
    """Settles exactly once: `failure` is None when it spoke, else what went wrong. `tell` is called at every step it takes.

    `hold` says that another target could still be chosen: then it settles at the first token; otherwise at the first bytes.
    """

    def __init__(self, live: Live, target: Target, errand: Errand, why: Why, tell: Callable[["Trial"], None]) -> None:
        self.live, self.target, self.errand, self._tell = live, target, errand, tell
        self.model = target.model or live.call.model
        self.key = (target.upstream, self.model)
        self.pool = live.setup.pools[target.upstream]
        upstream, origin = self.pool.config, self.pool.origin
        self.attempt = Attempt(upstream=target.upstream, model=self.model, why=why, dialed_at=live.plane.clock())
        self.attempt.provider, self.attempt.address, self.attempt.port = upstream.provider or "", origin.host, origin.port
        self.phase: Phase = "queue"
        self.hold = True
        self.deadline = 0.0
        self.overdue = self.settled = self.without_usage = False
        self.failure: GatewayError | None = None
        self.head: Head | None = None
        self.reading: Reading | None = None
        self.held: list[bytes] = []
        self.ended: tuple[str | None, float] | None = None
        self._held_bytes = 0
        self._heard_at = self.attempt.dialed_at
        self._connection: Connection | None = None
        self._dialing: asyncio.Task[None] | None = None
        self._inflated: Inflated | None = None
        self._slot = self._closed = False

    def start(self, now: float) -> None:
        """Take a slot and a connection: at once when both are at hand, else in a task of its own."""
        live = self.live
        self.ticket = live.health.begin(self.key, live.route.breaker, now)
        self._slot = self.pool.slots.take()
        idle = self.pool.take_idle() if self._slot and self.pool.is_ready else None
        if idle is not None:
            self._send(idle)
        else:
            live.move(self._where("connect" if self._slot else "queue"), self.attempt.upstream, now)
            self._dialing = asyncio.get_running_loop().create_task(self._dial())
            self._enter("connect" if self._slot else "queue")

    async def _dial(self) -> None:
        try:
            if not self._slot:
                await self.pool.slots.wait()
                self._slot = True
                if self.pool.is_ready and (idle := self.pool.take_idle()) is not None:
                    self._send(idle)
                    return
                self._enter("connect")
            await self.pool.make_ready()
            self._send(await self.pool.connect())
        except SigningError as error:
            self.fail(ConnectFailed(f"upstream {self.pool.name}: {error}", code="signing_failed"), "connect_error")
        except Exception as error:  # noqa: BLE001  whatever a dial raises, the race must hear of it
            self.fail(error if isinstance(error, ConnectFailed) else connect_failed(error, self.pool.name), "connect_error")

    def _where(self, state: State) -> State:
        """Name the state that an onlooker sees: while two trials race, that they do says more than how far the second has come."""
        return "hedging" if self.attempt.why == "hedge" else state

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self._tell(self)

    def _send(self, connection: Connection) -> None:
        self._connection = connection
        now = self._heard_at = self.live.plane.clock()
        self.attempt.sent_at = now
        connection.start(request_for(self.live, self.errand, self.pool), self.listen, self)
        self.reading = Reading(self.live, self.errand)
        self.live.move(self._where("first_token"), self.attempt.upstream, now)
        self._enter("upstream_wait")

    def on_head(self, head: Head, now: float) -> None:
        if (plain := opened(head)) is not None and self._connection is not None:
            head, self._inflated = plain, Inflated(self.listen, self, self._connection.drop)
            self._connection.sink, self._connection.listener = self._inflated, self._inflated
            self.live.count("decompressed")
        self.head, self._heard_at = head, now
        self.attempt.status, self.attempt.headers_at = head.status, now
        assert self.reading is not None
        self.reading.begin(head)
        if 300 <= head.status < 400:
            name = self.attempt.upstream
            self.fail(RedirectRefused(f"upstream {name} answered {head.status}: a redirect is not followed"), "status")
            return
        if head.status < 400 and not self.reading.is_stream and not self.errand.translated:
            self._settle(None, "won", now)

    def listen(self, chunk: bytes, now: float, framed: bytes | None = None) -> None:  # noqa: ARG002 - what is held is framed anew
        """The sink of a trial: observe and hold, until it is clear what this answer is."""
        assert self.reading is not None
        self._heard_at = now
        self._held_bytes += len(chunk)
        if self.reading.doubted and not (chunk := self._decided(chunk, now)):
            return
        if whole := self.reading.cut(chunk):
            self.held.append(whole)
            self.reading.observe(whole, now)
        if not self.settled:
            self._judge(now)
        if self._held_bytes > HOLD_BYTES and not self._gathers and self._connection is not None and self.ended is None:
            self._connection.pause()  # whoever takes over resumes it

    def _decided(self, chunk: bytes, now: float) -> bytes:
        """Hold an answer that may be a stream or a document until its first line has told; return it then, and nothing before."""
        assert self.reading is not None
        self.held.append(chunk)
        if not self.reading.find_out(chunk, last=self._full or self.ended is not None):
            return b""
        first = b"".join(self.held)
        self.held.clear()
        if not self.reading.is_stream and not self.errand.translated and (self.ended is None or self.ended[0] is None):
            self._settle(None, "won", now)
        return first

    @property
    def _full(self) -> bool:
        return self._held_bytes > HOLD_BYTES or len(self.held) > HOLD_CHUNKS

    @property
    def _gathers(self) -> bool:
        """True when an answer must be whole before any of it can be said: a document for a client of another dialect."""
        assert self.reading is not None
        return self.errand.translated and not self.reading.is_stream

    def _judge(self, now: float) -> None:
        assert self.head is not None
        assert self.reading is not None
        observer, full = self.reading.observer, self._full
        if self.head.status >= 400:
            if full:
                self._answer_status(now)
        elif self._gathers:
            if self._held_bytes > MAX_DOCUMENT:
                name = self.attempt.upstream
                self.fail(UpstreamError(f"upstream {name} said too much to be translated", code="answer_too_large"), "error_event")
        elif observer.failure is not None and not observer.spoke:
            code = word(observer.failure.code, ErrorEvent.code)
            self.fail(ErrorEvent(f"upstream {self.attempt.upstream} reported {code}", code=code), "error_event")
        elif observer.spoke or observer.complete or full or not self.reading.seen or (self.held and not self.hold):
            self._settle(None, "won", now)

    def on_end(self, why: str | None, now: float, last: bytes = b"") -> None:
        self.ended = (why, now)
        if last or (self.reading is not None and self.reading.doubted):
            self.listen(last, now)
        if self.settled:
            return
        if why == "stale":
            self.ended, self.attempt.redialed = None, True
            self._dialing = asyncio.get_running_loop().create_task(self._dial())
            self._enter("connect")
        elif self.head is not None and self.head.status >= 400:
            self._answer_status(now)
        elif self.head is not None and self._gathers and why is None:
            self._translate(now)
        else:
            code = why or "stream_truncated"
            self.fail(StreamTruncated(f"upstream {self.attempt.upstream} ended before its first token", code=code), "truncated")

    def _translate(self, now: float) -> None:
        """Say a whole answer in the client's dialect; one that cannot be read, or says that it failed, is no answer."""
        assert self.reading is not None
        assert self.reading.translation is not None
        try:
            self.held = [self.reading.translation.document(b"".join(self.held))]
        except UpstreamError as failure:
            self.fail(failure, "truncated" if failure.outcome == StreamTruncated.outcome else "error_event")
        else:
            self._settle(None, "won", now)

    def _answer_status(self, now: float) -> None:
        """The upstream answered with an error status: a failure for the race, and an answer for the client if none is better."""
        assert self.head is not None
        status, name = self.head.status, self.attempt.upstream
        body = self._without_key(b"".join(self.held))
        if self.errand.asks_usage and self.errand.dialect.refuses_usage(status, body):
            self.pool.refuses_usage = self.without_usage = True
        readable = self.errand.translated and self.reading is not None and self.reading.readable
        said = self.errand.dialect.read_error(status, body).message if readable else ""
        failure = UpstreamError(
            said or f"upstream {name} answered {status}", code=str(status), status=status, retry_after=retry_after(self.head.headers)
        )
        self.attempt.error = str(status)
        if blames_upstream(status):
            self.ticket.failed(now, str(status), failure.retry_after)
        self._settle(failure, "status", now)

    def _without_key(self, body: bytes) -> bytes:
        """Strike our own credential out of an error that repeats it ("invalid key: ..."); the body keeps its length."""
        key = self.pool.config.api_key
        if key is not None and (said := key.get_secret_value().encode()) in body:
            body = body.replace(said, b"*" * len(said))
            self.held = [body]
            self.live.count("key_struck_out")
        return body

    def fail(self, failure: GatewayError, outcome: AttemptOutcome) -> None:
        """Give up on this target; its connection goes."""
        now = self.live.plane.clock()
        self.attempt.error = failure.code
        if outcome != "slow" and blames_upstream(failure.status):
            self.ticket.failed(now, failure.code)
        self.head = None
        self.close()
        self._settle(failure, outcome, now)

    def _settle(self, failure: GatewayError | None, outcome: AttemptOutcome, now: float) -> None:
        if self.settled:
            return
        self.settled, self.failure, self.attempt.outcome = True, failure, outcome
        if failure is not None:
            self.attempt.ended_at = now
        self._tell(self)

    def hold_back(self, hold: bool) -> None:
        """Hold, or hold no longer: with no other target left, what was heard so far is the answer."""
        self.hold = hold
        doubted = self.reading is not None and self.reading.doubted
        if not hold and not self.settled and self.held and self.head is not None and not doubted:
            self._judge(self.live.plane.clock())

    def lifeline(self, stall: Stall) -> float:
        """When this trial will be given up for dead: no byte for `liveness`, or no token for `progress`; in our own queue it cannot die.

        An answer in one piece may take as long as it takes to begin; only its client can end it before.
        """
        now, lag = self.live.plane.clock(), self.live.plane.lag
        if self.phase == "queue":
            return now + stall.liveness
        silent = lag.enough(stall.liveness, self._heard_at, now)
        if not self.live.call.stream:
            return silent if self._held_bytes else inf
        return min(silent, lag.enough(stall.progress, self.attempt.sent_at or self.attempt.dialed_at, now))

    def dead(self, stall: Stall, now: float) -> str | None:
        """The code of what it died of, or None while it lives."""
        if self.lifeline(stall) > now:
            return None
        return "upstream_silent" if self.live.plane.lag.enough(stall.liveness, self._heard_at, now) <= now else "no_progress"

    def take_held(self) -> bytes:
        """Return what was held, as the client gets it."""
        assert self.reading is not None
        held = self.reading.edited(b"".join(self.held))
        self.held.clear()
        return held

    def hand_over(self, sink: Sink, listener: Listener) -> Connection | None:
        """Give the connection's next bytes and its end to a relay. None when the response has already ended (see `ended`)."""
        if self.ended is not None:
            return None
        connection, self._connection = self._connection, None
        assert connection is not None
        if (inflated := self._inflated) is not None:
            inflated.sink, inflated.listener = sink, listener
        else:
            connection.sink, connection.listener = sink, listener
        connection.resume()
        return connection

    def drop(self, outcome: AttemptOutcome) -> None:
        """Leave a race that another trial has won, or that its client has left."""
        if not self.settled:
            self.attempt.outcome, self.attempt.ended_at, self.settled = outcome, self.live.plane.clock(), True
        self.close()

    def close(self) -> None:
        """Give back slot and connection; may be called twice."""
        if self._closed:
            return
        self._closed = True
        if self._dialing is not None and self._dialing is not asyncio.current_task():
            self._dialing.cancel()
        if self._connection is not None and self.ended is None:
            self._connection.drop()
        if self._slot:
            self.pool.slots.give()
        self.record_times()
        self._inflated = None
        if self.reading is not None:
            self.reading.let_go()
        self.ticket.end(self.live.plane.clock())

    def record_times(self) -> None:
        """Write into the attempt what the observer has seen so far."""
        if self.reading is not None:
            self.attempt.first_event_at = self.reading.observer.first_event_at
            self.attempt.first_token_at = self.reading.observer.first_token_at
