"""Moves the bytes of one answer from its upstream to its client: cut, write, check the water mark, observe."""

import asyncio

from gateway.core.errors import ClientStalled, GatewayError, UpstreamStalled
from gateway.core.messages import Stalled
from gateway.core.record import Stall
from gateway.proxy.plane import Live
from gateway.proxy.reply import HIGH_WATER
from gateway.proxy.trial import Trial
from gateway.proxy.upstream import Connection, Head

LINGER = 2.0
"""Seconds that an upstream may keep a stream open after the end marker or an error: nothing of the answer is still to come."""
FEW = 4096
"""Bytes at the end of an answer that may wait for the turn of the loop in which it is ended, or for a clogged client to catch up."""


class Relay:
    """The sink of a stream that is committed to one upstream.

    `feed` is the hot path: no log, no metric, no wait. Around it, `begin` takes the stream over from its trial, `tick` looks for
    silence now and then, and `finished` waits for the end.
    """

    __slots__ = (
        "_aligned",
        "_chunked",
        "_client",
        "_clogged",
        "_connection",
        "_done",
        "_edit",
        "_edits",
        "_ending",
        "_live",
        "_mark",
        "_observe",
        "_progress_at",
        "_reply",
        "_resumed_at",
        "_silent_since",
        "_told",
        "_trial",
        "_unsent",
        "bytes",
        "cut_off",
        "ended_at",
        "heard_at",
        "killed",
        "reading",
        "tail",
        "unheard",
        "why",
    )

    def __init__(self, live: Live, trial: Trial, sent: int) -> None:
        assert trial.reading is not None
        self._live, self._trial, self._reply, self.reading = live, trial, live.reply, trial.reading
        self._client, self._chunked = live.reply.transport, live.reply.chunked
        self._connection: Connection | None = None
        self._clogged: asyncio.Task[None] | None = None
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._told = False
        self._observe, self._ending, self._aligned = self.reading.eye, self.reading.ending, False
        self._edits, self._mark, self._edit = self.reading.edits, self.reading.mark, self.reading.edit
        self.heard_at = self._resumed_at = self._progress_at = live.plane.clock()
        self.bytes, self._unsent = sent, 0
        self.tail = b""
        self.why: str | None = None
        self._silent_since: float | None = None
        self.ended_at: float | None = None
        self.killed: GatewayError | None = None
        self.cut_off = self.unheard = False

    def feed(self, chunk: bytes, now: float, framed: bytes | None = None) -> None:
        """Pass on every whole event that has come, then look at it; a client that falls behind makes us stop reading."""
        self.heard_at = now
        if self._aligned and chunk.endswith(self._ending):
            whole = chunk
        elif whole := self._align(chunk):
            framed = None
        else:
            return
        if self._edits and self._mark in whole:
            data, framed = self._edit(whole), None
        else:
            data = whole
        client = self._client
        if data and not client.is_closing():
            client.write((framed or b"%x\r\n%b\r\n" % (len(data), data)) if self._chunked else data)
            self.bytes += len(data)
            if client.get_write_buffer_size() > HIGH_WATER and self._clogged is None:
                self._pause(now)
        try:
            self._observe(whole, now)
        except Exception:  # noqa: BLE001  a broken observer may cost us the telemetry of a stream, never the stream
            self._observe = self.reading.go_blind()

    def _align(self, chunk: bytes) -> bytes:
        """Cut a read that does not end where an event ends, or that goes on with one held back: only whole events go out."""
        whole = self.reading.cut(chunk)
        self._aligned = self.reading.aligned
        return whole

    def begin(self) -> None:
        """Take the stream over: what the trial has heard meanwhile goes out, what comes next is pushed here."""
        plane, held = self._live.plane, self._trial.take_held()
        self._live.own("upstream_wait", plane.clock())
        self._reply.write(held)
        self.bytes += len(held)
        self._connection = self._trial.hand_over(self.feed, self)
        if self._trial.ended is not None:
            self.on_end(*self._trial.ended)
        plane.watch.watched.add(self)
        self._live.stop = self.kill
        if self.reading.broken is not None:
            self.kill(self.reading.broken)

    def on_head(self, head: Head, now: float) -> None:
        """An exchange has one head, and the trial has read it."""

    def on_end(self, why: str | None, now: float, last: bytes = b"") -> None:
        """The upstream has ended; `why` is None when its HTTP message was whole.

        A few last words wait for ours: one packet. But a stream that has begun and said nothing yet may say it only now, and its first
        token waits for nothing.
        """
        if self.ended:
            return
        self.why, self.ended_at = why, now
        if whole := self.reading.cut(last) if last else b"":
            self.tail = self.reading.edited(whole)
            if self.reading.is_stream and not self.reading.observer.spoke:
                self._let_go()
            self.reading.observe(whole, now)
        self.tail += self.reading.conclude(why is None, now)
        if len(self.tail) > FEW:
            self._let_go()
        self.bytes += len(self.tail)
        if not self._done.done():
            self._done.set_result(None)

    def _let_go(self) -> None:
        """Write what was to wait."""
        self._reply.write(self.tail)
        self.bytes += len(self.tail)
        self.tail = b""

    @property
    def ended(self) -> bool:
        """True when the upstream has said its last word, or we have closed it."""
        return self.ended_at is not None

    @property
    def whole(self) -> bool:
        """True when nothing of the answer is missing, as far as can be told."""
        return self.reading.whole(self.why)

    async def finished(self) -> None:
        """Wait until the upstream has ended and the client has taken what is buffered for it."""
        await self._done
        if self._clogged is None and not self._reply.gone and self._client.get_write_buffer_size() > HIGH_WATER:
            self._pause(self._live.plane.clock())
        while self._clogged is not None:
            await asyncio.shield(self._clogged)

    def end_with(self, error: GatewayError) -> None:
        """Tell the client what its stream has died of."""
        self._reply.write(self.tail + self.reading.last_words(error, begun=self.bytes > 0))

    def close(self) -> None:
        """Leave the watch, and an upstream that still speaks; may be called twice."""
        self.unheard = self.unheard or self._clogged is not None
        self._live.plane.watch.watched.discard(self)
        self._live.stop = None
        if self._connection is not None and not self.ended:
            self._connection.drop()

    def kill(self, error: GatewayError) -> None:
        """End the stream from our side: the upstream is closed, and `finished` returns.

        A stream whose upstream has ended is left to end by itself, unless its client does not take what is left of it.
        """
        if self.killed is not None:
            return
        if not self.ended:
            self.killed = error
            if self._connection is not None:
                self._connection.drop()
            self.on_end(error.code, self._live.plane.clock())
        elif self._clogged is not None:
            self.killed = error
            self._cut_off()

    def _cut_off(self) -> None:
        """Break the connection to a client that takes nothing: the end of its stream has not reached it, whatever its upstream said."""
        self.cut_off = True
        self._reply.break_off()

    def _pause(self, now: float) -> None:
        """The client takes less than the upstream sends: stop reading, so that the upstream waits and memory does not grow."""
        if self._connection is not None and not self.ended:
            self._connection.pause()
        self._progress_at = now
        self._live.pauses.begin(now)
        self._live.own("client_blocked", now)
        self._clogged = asyncio.get_running_loop().create_task(self._unclog())

    async def _unclog(self) -> None:
        try:
            await self._reply.drained()
        except ConnectionError as gone:  # the client has left: its handler is being cancelled, and there is nothing to resume
            gone.__traceback__ = None  # who keeps the error must not keep the stream
            self.unheard = True
            return
        finally:
            now = self._resumed_at = self._live.plane.clock()
            self._live.pauses.end(now)
            self._live.own("upstream_wait", now)
            self.reading.meter.excuse(now)
            self._clogged = None
        if self._connection is not None and not self.ended:
            self._connection.resume()

    def tick(self, now: float) -> None:
        """Look at the stream from outside: first token heard, stall begun, client or upstream dead, keepalive due."""
        observer = self.reading.observer
        self.reading.meter.bound()
        if self._live.plane.is_watched and self.reading.is_stream:
            answer = self._live.record.first_answer_at or observer.first_answer_at  # whoever began the answer, if it was resumed
            self._live.plane.show(self._live.record.stream_id, self.reading.meter, answer)
        if not self._told and observer.first_token_at is not None:
            self.tell_first_token()
            self._live.move("streaming", self._trial.attempt.upstream, observer.first_token_at)
            if self._live.record.first_token_at is None:  # for a recorder that starts later
                self._live.record.first_token_at = observer.first_token_at
        if self._silent_since is not None and (heard := observer.last_token_at) != self._silent_since:
            self._silent_since = None
            self._live.move("streaming", self._trial.attempt.upstream, heard or now)
        if self.reading.is_stream and (missed := self.reading.meter.missed()) is not None:
            self._tell_missed(missed)
        if self._clogged is not None:
            self._watch_client(now)
        elif (dead := self._dead(now)) is not None:
            self.kill(dead)
        elif self.reading.is_stream:
            if self.reading.meter.overdue(now):
                self._tell_stall(now)
            self._keep_alive(now)

    def _dead(self, now: float) -> UpstreamStalled | None:
        """Say why the upstream is given up, None while it lives. Time in which we did not read is not held against it."""
        stall, observer, lag = self._live.route.stall, self.reading.observer, self._live.plane.lag
        heard_at = max(self.heard_at, self._resumed_at)
        if lag.over(stall.liveness, heard_at, now):
            return UpstreamStalled("the upstream fell silent")
        if not self.reading.is_stream or not self.reading.seen:
            return None
        if lag.over(LINGER, heard_at, now) and (observer.terminated or observer.failure is not None):
            return UpstreamStalled("the upstream said its last word and stayed")
        token_at = observer.last_token_at or self._trial.attempt.sent_at or self.heard_at
        if lag.over(stall.progress, max(token_at, self._resumed_at), now):
            return UpstreamStalled("the upstream sends no more tokens", code="no_progress")
        return None

    def silence(self, now: float) -> float:
        """Return for how long no token has come, in seconds; 0 while it is the client that keeps us from reading."""
        return now - (self.reading.observer.last_token_at or self.heard_at) if self._clogged is None else 0.0

    def _watch_client(self, now: float) -> None:
        """A slow client takes something now and then; one that has taken nothing for `write_timeout` is gone in all but name."""
        if self.reading.is_stream and self.reading.meter.overdue(now):
            self._tell_stall(now)
        if (unsent := self._reply.unsent()) != self._unsent:
            self._unsent, self._progress_at = unsent, now
        elif now - self._progress_at > self._live.route.client.write_timeout:
            self.kill(ClientStalled("the client takes no bytes"))
            self._cut_off()

    def _keep_alive(self, now: float) -> None:
        keepalive = self._live.setup.config.server.keepalive
        quiet = now - max(self.heard_at, self._progress_at)
        if keepalive and quiet > keepalive and self._live.framing.keepalive and not self.reading.inside:
            self._progress_at = now
            if self._reply.keep_alive(self._live.framing.keepalive):
                self._live.count("keepalive")

    def tell_first_token(self) -> None:
        """Let routing know how soon this target spoke."""
        first_token_at, sent_at = self.reading.observer.first_token_at, self._trial.attempt.sent_at
        if not self._told and first_token_at is not None and sent_at is not None:
            self._told = True
            self._trial.ticket.spoke(first_token_at - sent_at, first_token_at)

    def _tell_stall(self, now: float) -> None:
        live, at = self._live, self.reading.observer.last_token_at or now
        self._silent_since = at
        live.state = "stalled"
        live.plane.tell(Stalled(live.record.stream_id, live.blame(at, now), "draining" if live.plane.stopping else "streaming", at))

    def _tell_missed(self, stall: Stall) -> None:
        """Tell of a stall that was over before we looked: this process stood still, most likely."""
        live = self._live
        live.plane.tell(Stalled(live.record.stream_id, stall.blame, "draining" if live.plane.stopping else "streaming", stall.at))
        live.move("streaming", self._trial.attempt.upstream, stall.at + stall.length)
