"""One realtime session that both sides have agreed to: its messages pass both ways until one side ends it, and the other learns why."""

import asyncio
from collections.abc import Callable
from typing import Any, Literal, Protocol, cast

import aiohttp
from aiohttp import WSMsgType, web
from msgspec import Struct

from gateway.core.errors import ClientStalled, GatewayError, StreamTruncated, UpstreamError, UpstreamStalled
from gateway.core.messages import Stalled
from gateway.core.record import Attempt, Outcome
from gateway.proxy.plane import Live
from gateway.proxy.realtime_dial import CLOSING_SECONDS, Line
from gateway.proxy.reply import HIGH_WATER
from gateway.routing.health import Ticket
from gateway.stream.voice import VoiceObserver

NORMAL = frozenset({1000, 1001, 1005})
"""Codes of a session that was over: done, going away, and none given."""
UNSENDABLE = frozenset({1004, 1005, 1006, 1015})
"""Codes that no close frame may carry (RFC 6455, 7.4.1)."""
UPSTREAMS_FAULT = frozenset({1011, 1012, 1013, 1014})
"""Codes by which an upstream speaks of itself; any other is about the session, and no target is worse for it."""
NONE_GIVEN, GOING_AWAY, BAD_GATEWAY, INTERNAL = 1005, 1001, 1014, 1011
MAX_REASON = 123
LAST_WORDS = 0.1
"""Seconds in which what a client said last is still read when its connection has gone."""
PASSED_ON = frozenset({WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG})

Side = Literal["client", "upstream", "gateway"]


class Socket(Protocol):
    """What aiohttp's two WebSockets have in common."""

    async def receive(self) -> Any: ...
    async def send_frame(self, message: bytes, opcode: WSMsgType) -> None: ...


class End(Struct, frozen=True):
    """How a session ended: who ended it, the code and reason it said (None is a connection that was lost), or what was wrong."""

    by: Side
    code: int | None = None
    reason: str = ""
    error: GatewayError | None = None


class Lane:
    """One direction of a session."""

    __slots__ = ("_progress_at", "_unsent", "by", "bytes", "look", "messages", "sending", "sink", "source", "unsent")

    def __init__(self, by: Side, source: Socket, sink: Socket, look: Callable[[bytes, float], None], unsent: Callable[[], int]) -> None:
        self.by, self.source, self.sink, self.look, self.unsent = by, source, sink, look, unsent
        self.messages = self.bytes = 0
        self.sending = False
        self._unsent = -1
        self._progress_at = 0.0

    def stuck(self, now: float) -> float:
        """Return for how many seconds the receiver has taken nothing although something waits for it."""
        unsent = self.unsent() if self.sending else -1
        if unsent != self._unsent or not self.sending:
            self._unsent, self._progress_at = unsent, now
        return now - self._progress_at


class Session:
    """The relay of one session. A slow side keeps the other from being read, so that no more than a few messages wait anywhere."""

    def __init__(self, live: Live, client: "web.WebSocketResponse[bool]", line: Line, observer: VoiceObserver, ticket: Ticket) -> None:
        self._live, self._client, self._line, self.observer, self._ticket = live, client, line, observer, ticket
        self._clock = live.plane.clock
        self._seen = True
        self._heard_at = self._clock()
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.end: End | None = None
        upstream = cast("Socket", line.ws)
        self._inward = Lane("client", client, upstream, observer.sent, line.transport.get_write_buffer_size)
        self._outward = Lane("upstream", upstream, client, observer.came, live.reply.unsent)

    async def run(self) -> None:
        """Pass messages both ways until the session ends, and close both sides."""
        loop = asyncio.get_running_loop()
        inward, outward = loop.create_task(self._pump(self._inward)), loop.create_task(self._pump(self._outward))
        self._live.stop = self.kill
        self._live.plane.watch.watched.add(self)
        try:
            await self._done
        except asyncio.CancelledError:
            await asyncio.wait({inward}, timeout=LAST_WORDS)  # the close frame may have come with the end of the connection
            self._finish(End("client"))
            raise
        finally:
            self._live.plane.watch.watched.discard(self)
            self._live.stop = None
            self._judge()
            closing = loop.create_task(self._close(inward, outward))
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError:  # the client's connection has gone, as it may: the upstream hears the close all the same
                await closing
                raise
            finally:
                self._line.transport.abort()

    async def _pump(self, lane: Lane) -> None:
        """Pass on what one side says, until it ends or the other can no longer be told. Written first, observed afterwards."""
        while self.end is None:
            message = await lane.source.receive()
            now, kind = self._clock(), message.type
            if lane.by == "upstream":
                self._heard_at = now
            if kind not in PASSED_ON:
                self._finish(_end(lane.by, message))
                return
            lane.sending = True
            try:
                await lane.sink.send_frame(message.data, kind)
            except ConnectionError:
                self._finish(End("upstream" if lane.by == "client" else "client"))
                return
            finally:
                lane.sending = False
            if kind in {WSMsgType.TEXT, WSMsgType.BINARY}:
                lane.messages += 1
                lane.bytes += len(message.data)
                if kind is WSMsgType.TEXT and self._seen:
                    self._observe(lane, message.data, now)

    def _observe(self, lane: Lane, message: bytes, now: float) -> None:
        try:
            lane.look(message, now)
        except Exception:  # noqa: BLE001  a broken observer may cost us the telemetry of a session, never the session
            self._seen = False
            self.observer.errors["observer"] = 1
        if lane.by == "upstream" and (late := self._clock()) - now > 0.001:
            self._live.pauses.add(now, late)  # so long the client took nothing
        self._own(now)

    def _own(self, now: float) -> None:
        """While an answer is owed the time is the upstream's; otherwise it is the user's, and so it is while the client takes nothing."""
        self._live.own("upstream_wait" if self.observer.answering and not self._outward.sending else "client_blocked", now)

    def _finish(self, end: End) -> None:
        if self.end is None:
            self.end = end
            if not self._done.done():
                self._done.set_result(None)

    def kill(self, error: GatewayError) -> None:
        """End the session from our side."""
        self._finish(End("gateway", error=error))

    def tick(self, now: float) -> None:
        """Look at the session from outside: a client that takes nothing, an upstream that has died, a stall that has begun."""
        stall, observer, plane = self._live.route.stall, self.observer, self._live.plane
        observer.meter.bound()
        if plane.is_watched:
            plane.show(self._live.record.stream_id, observer.meter, self._live.record.received_at)
        if self._outward.stuck(now) > self._live.route.client.write_timeout:
            self.kill(ClientStalled("the client takes no bytes"))
        elif self._inward.stuck(now) > stall.liveness:
            self.kill(UpstreamStalled("the upstream takes no bytes"))
        elif self._answers and plane.lag.over(stall.liveness, self._heard_at, now):
            self.kill(UpstreamStalled("the upstream fell silent in the middle of an answer"))
        elif self._answers and observer.meter.overdue(now):
            at = observer.meter.last_at or now
            plane.tell(Stalled(self._live.record.stream_id, self._live.blame(at, now), "streaming", at))
        self._own(now)

    def silence(self, now: float) -> float:
        """Return for how long nothing has come of an answer that runs, in seconds; between answers nothing is silent."""
        return now - self._heard_at if self._answers else 0.0

    @property
    def _answers(self) -> bool:
        return self._seen and self.observer.running and not self._outward.sending

    async def _close(self, inward: "asyncio.Task[None]", outward: "asyncio.Task[None]") -> None:
        """Tell each side why the session ends, as far as it does not know."""
        assert self.end is not None
        inward.cancel()
        if self._outward.sending:
            outward.cancel()  # in `receive` it is left alone: aiohttp would forget to wait for the upstream's close frame
        await asyncio.wait({inward})
        (client_code, client_reason), (upstream_code, upstream_reason) = farewells(self.end)
        await asyncio.gather(self._close_client(client_code, client_reason), self._line.close(upstream_code, upstream_reason))
        outward.cancel()
        await asyncio.wait({outward})

    async def _close_client(self, code: int, reason: bytes) -> None:
        transport, said = self._live.reply.transport, False
        try:
            if not isinstance(self.end and self.end.error, ClientStalled):
                async with asyncio.timeout(CLOSING_SECONDS + 0.1):
                    await self._client.close(code=code, message=reason)
                    said = True
        except TimeoutError:
            pass
        finally:
            if not said or transport.get_write_buffer_size() > HIGH_WATER:
                transport.abort()

    def _judge(self) -> None:
        """Say in the record, and to the target's health, how the session ended."""
        assert self.end is not None
        record, observer, now = self._live.record, self.observer, self._clock()
        attempt, end = record.attempts[-1], self.end
        record.outcome, record.error = verdict(end, self._seen and observer.running)
        judge(self._ticket, attempt, end, record.outcome, record.error, now)
        attempt.ended_at = now
        record.bytes = self._outward.bytes
        try:
            self._note(now)
        except Exception:  # noqa: BLE001  as in `_observe`
            observer.errors["observer"] = 1
        record.parser_errors.update(observer.errors)

    def _note(self, now: float) -> None:
        """Copy into the record what was seen."""
        assert self.end is not None
        record, observer = self._live.record, self.observer
        voice = record.voice = observer.report(now)
        voice.closed_by, voice.close_code = self.end.by, self.end.code
        voice.messages_in, voice.bytes_in = self._inward.messages, self._inward.bytes
        voice.messages_out = self._outward.messages
        record.response_id, record.served_model, record.usage = observer.session_id, observer.model, observer.usage
        record.finish, record.cadence = list(observer.finish), observer.meter.report()


def _end(by: Side, message: Any) -> End:
    """Return what a message that is no message says about the end of its sender."""
    if message.type is WSMsgType.CLOSE:
        return End(by, message.data or NONE_GIVEN, message.extra or "")
    if message.type is WSMsgType.ERROR and isinstance(message.data, aiohttp.WebSocketError):
        large = message.data.code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
        error = UpstreamError(f"the {by} broke the protocol", code="message_too_big" if large else "protocol_error")
        return End(by, error=error)
    return End(by)


def verdict(end: End, running: bool) -> tuple[Outcome, str | None]:
    """Return outcome and error code of a session; `running` says that an answer had begun and was not over."""
    if end.by == "gateway":
        error = end.error or GatewayError("the session was ended")
        return error.outcome, error.code
    if end.by == "client":
        if end.code in NORMAL:
            return "completed", None
        return "client_disconnect", f"close_{end.code}" if end.code else end.error.code if end.error else None
    if end.error is not None:
        return "upstream_error", end.error.code
    if end.code is None or (end.code in NORMAL and running):
        return StreamTruncated.outcome, "connection_lost" if end.code is None else StreamTruncated.code
    return ("completed", None) if end.code in NORMAL else ("upstream_error", f"close_{end.code}")


def judge(ticket: Ticket, attempt: Attempt, end: End, outcome: Outcome, code: str | None, now: float) -> None:
    """Tell a target's health what its session says about it."""
    if outcome == "completed":
        ticket.succeeded(now)
    elif outcome == "upstream_error":
        attempt.outcome, attempt.error = "error_event", code
        if end.error is not None or end.code in UPSTREAMS_FAULT:
            ticket.failed(now, code or outcome)
    elif outcome in {"upstream_truncated", "upstream_stalled"}:
        attempt.outcome, attempt.error = "truncated" if outcome == "upstream_truncated" else "stalled", code
        ticket.failed(now, code or outcome)


def farewells(end: End) -> tuple[tuple[int, bytes], tuple[int, bytes]]:
    """Return close code and reason for the client, and for the upstream. What one side said the other is told, where it may be said."""
    if end.code is not None:
        said = sendable(end.code), end.reason.encode()[:MAX_REASON]
        return said, said
    if end.by == "gateway" and end.error is not None and not isinstance(end.error, UpstreamError):
        told = GOING_AWAY, end.error.message.encode()[:MAX_REASON]
        return told, told
    if end.by == "client":
        return (GOING_AWAY, b""), (GOING_AWAY, b"the client has gone")
    reason = end.error.message if end.error is not None else "the upstream has gone"
    return (BAD_GATEWAY, reason.encode()[:MAX_REASON]), (GOING_AWAY, b"the gateway ends the session")


def sendable(code: int) -> int:
    """Return the code that a close frame may carry in place of this one."""
    if code == NONE_GIVEN:
        return 1000
    return code if (1000 <= code < 1015 and code not in UNSENDABLE) or 3000 <= code < 5000 else INTERNAL
