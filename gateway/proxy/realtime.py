"""`GET /v1/realtime`: voice and text over one WebSocket. The upstream is asked first, the client accepted when it has agreed."""

import asyncio
import logging
import re
from collections.abc import Mapping
from urllib.parse import urlencode

from aiohttp import web

from gateway.config import Route, Target
from gateway.core.call import Call
from gateway.core.errors import ConnectFailed, GatewayError, ModelNotFound, NoTarget, Rejected, ShuttingDown, blames_upstream
from gateway.core.record import Attempt, Why
from gateway.dialects import DIALECTS
from gateway.logs import blunder
from gateway.proxy.doors import JSON, Params
from gateway.proxy.handler import describe, heed_retry_after, open_record
from gateway.proxy.headers import answer_headers, forwarded, returned
from gateway.proxy.plane import Live, Plane
from gateway.proxy.realtime_dial import CLOSING_SECONDS, SWITCHING, Line, Opening, Refused, open_line
from gateway.proxy.realtime_session import Session
from gateway.proxy.reply import HIGH_WATER, SERVER, Reply
from gateway.proxy.verdict import client_left
from gateway.routing.health import Ticket
from gateway.routing.policy import plan
from gateway.stream.turns import TurnMeter
from gateway.stream.voice import VoiceObserver

log = logging.getLogger("weir.proxy")

PATH = "/v1/realtime"
DIALECT = "openai"
VERSION = "13"
PROTOCOL = "realtime"
PROTOCOLS = ("openai-beta.", "openai-organization.", "openai-project.", "openai-agents-sdk.")
"""Beginnings of the subprotocols that an upstream may see, besides `realtime`. An allow-list: browsers send their key as one of them."""
QUERY = ("intent", "call_id")
"""What of the query an upstream may see, besides the model."""
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")


class Realtime:
    """Serves realtime sessions."""

    def __init__(self, plane: Plane) -> None:
        self._plane, self._dialect = plane, DIALECTS[DIALECT]

    async def __call__(self, request: web.BaseRequest, params: Params) -> web.StreamResponse:  # noqa: ARG002 - the path has no names in it
        """Carry one session. As with any call, its record opens guilty and is settled once."""
        reply = Reply(request)
        live = Live(self._plane, open_record(request, self._plane, self._plane.clock()), reply, self._dialect)
        live.record.dialect, live.record.operation, live.record.streamed = DIALECT, "realtime", True
        try:
            return await self._carry(request, live)
        except GatewayError as error:
            await self._refuse(live, error)
        except asyncio.CancelledError:
            if live.stopped is None:
                client_left(live.record)
                raise
            await self._refuse(live, live.stopped)
        except ConnectionError:
            client_left(live.record)
        except Exception as error:  # noqa: BLE001  whatever it is, the client is answered and the record settled
            log.error("stream %s broke the gateway: %s", live.record.stream_id, blunder(error))
            await self._refuse(live, GatewayError("the gateway failed to carry this session"))
        finally:
            live.settle(self._plane.clock())
        return reply.response

    async def _carry(self, request: web.BaseRequest, live: Live) -> web.StreamResponse:
        plane, record = self._plane, live.record
        live.own("gateway", plane.clock())
        if plane.stopping:
            raise ShuttingDown("the gateway is shutting down")
        check_upgrade(request.headers)
        model = request.query.get("model", "")
        if not model:
            raise Rejected("a realtime session needs its model in the query: `?model=`", code="invalid_model")
        call = Call(dialect=DIALECT, operation="realtime", path="/realtime", model=model, body=b"", stream=True)
        route = live.find_route(model, request.headers)
        describe(record, call, route)
        if route is None:
            raise ModelNotFound(f"no route serves the model {model[:200]!r}")
        route = speaking(live, route)
        live.begin(call, route, forwarded(request.headers))
        now = record.admitted_at = plane.clock()
        order = plan(route, model, live.health, now, plane.dice)
        heed_retry_after(live, order[0], model, now)
        if request.headers.get("x-weir-no-fallback", "").lower() == "true":
            del order[1:]
        return await self._serve(request, live, order)

    async def _serve(self, request: web.BaseRequest, live: Live, order: list[Target]) -> web.StreamResponse:
        """Ask the targets in turn; the first that agrees gets the client."""
        failure: GatewayError = NoTarget(f"route {live.route.name} has no target")
        for place, target in enumerate(order[: live.route.retry.attempts]):
            bid = Bid(live, target, "fallback" if place else "first")
            try:
                line = await bid.line(opening(request, live, bid))
                return await self._relay(request, live, bid, line)
            except GatewayError as error:
                bid.failed(error)
                failure = error
                if not retryable(live.route, error):
                    break
                live.record.fallback_reason = live.record.fallback_reason or error.code
            finally:
                bid.close()
        live.record.fallback_reason = live.record.fallback_reason if len(live.record.attempts) > 1 else None
        raise failure

    async def _relay(self, request: web.BaseRequest, live: Live, bid: "Bid", line: Line) -> web.StreamResponse:
        """Accept the client, and pass messages both ways until the session ends."""
        record, now = live.record, self._plane.clock()
        record.winner = len(record.attempts) - 1
        meter = TurnMeter(live.route.stall.threshold, live.setup.gap_bounds, live.blame)
        client = self._acceptance(request, line.ws.protocol)
        client.headers.update({**returned(line.headers), **answer_headers(record), "Server": SERVER})
        try:
            await client.prepare(upgrading(request, chosen(request, line.ws.protocol)))
            record.committed_at = record.first_write_at = record.first_byte_at = now
            record.status = SWITCHING
            live.move("streaming", bid.attempt.upstream, now)
            await Session(live, client, line, VoiceObserver(meter, live.setup.latency_bounds), bid.ticket).run()
        except Exception as error:
            if client.prepared:  # there is nobody left who could be answered with a status
                log.error("stream %s broke the gateway: %s", record.stream_id, blunder(error))
                live.reply.break_off()
                return client
            raise
        finally:
            if not line.ws.closed:
                await line.close(1001, b"the client was not accepted")
        return client

    def _acceptance(self, request: web.BaseRequest, protocol: str | None) -> "web.WebSocketResponse[bool]":
        return web.WebSocketResponse(
            timeout=CLOSING_SECONDS,
            autoclose=False,
            autoping=False,
            protocols=[name for name in [chosen(request, protocol)] if name],
            compress=False,
            max_msg_size=self._plane.config.server.max_body,
            writer_limit=HIGH_WATER,
            decode_text=False,
        )

    async def _refuse(self, live: Live, error: GatewayError) -> None:
        """Answer with a status: an upstream's own answer, word for word, when it was one."""
        record, reply = live.record, live.reply
        if record.status == SWITCHING:  # the session has said itself how it ended
            reply.break_off()
            return
        record.outcome, record.error = error.outcome, error.code
        if reply.gone:
            return
        headers, body = {**JSON, **answer_headers(record)}, self._dialect.error_body(error)
        if isinstance(error, Refused) and error.body is not None:
            headers, body = {**returned(error.headers), **answer_headers(record)}, error.body
        if error.retry_after is not None:
            headers["Retry-After"] = str(int(error.retry_after + 0.999))
        if error.status == 426:
            headers |= {"Upgrade": "websocket", "Sec-WebSocket-Version": VERSION}
        headers["Connection"] = "close"  # aiohttp reads nothing more as HTTP once an upgrade has been asked for
        await reply.send(error.status, headers, body)
        record.status = error.status


def speaking(live: Live, route: Route) -> Route:
    """Return a route with those of its targets that speak this protocol."""
    able = tuple(target for target in route.targets if live.setup.pools[target.upstream].config.dialect == DIALECT)
    if not able:
        raise Rejected(f"no target of the route {route.name} can speak in real time", code="untranslatable")
    return route if len(able) == len(route.targets) else route.model_copy(update={"targets": able})


class Bid:
    """One attempt to open a session at one target: slot, ticket, and what is told of it."""

    def __init__(self, live: Live, target: Target, why: Why) -> None:
        self._live, self.pool = live, live.setup.pools[target.upstream]
        self.model = target.model or live.call.model
        now = live.plane.clock()
        upstream, origin = self.pool.config, self.pool.origin
        self.attempt = Attempt(upstream=target.upstream, model=self.model, why=why, dialed_at=now, provider=upstream.provider)
        self.attempt.address, self.attempt.port = origin.host, origin.port
        live.record.attempts.append(self.attempt)
        self.ticket: Ticket = live.health.begin((target.upstream, self.model), live.route.breaker, now)
        self._slot = False

    async def line(self, opening: Opening) -> Line:
        """Take a slot, dial and shake hands; a full upstream is waited for no longer than a connection would be."""
        live, name = self._live, self.attempt.upstream
        if not (free := self.pool.slots.take()):
            live.move("queue", name, live.plane.clock())
            live.own("queue", live.plane.clock())
            try:
                async with asyncio.timeout(self.pool.config.connect_timeout):
                    await self.pool.slots.wait()
            except TimeoutError:
                raise Full(f"upstream {name} has no room for another session") from None
        self._slot = True
        now = live.plane.clock()
        live.move("connect", name, now if free else live.plane.clock())
        live.own("connect", now)
        line = await open_line(self.pool, opening, self._connected)
        now = self.attempt.headers_at = live.plane.clock()
        self.attempt.status, self.attempt.outcome = SWITCHING, "won"
        self.ticket.spoke(now - (self.attempt.sent_at or self.attempt.dialed_at), now)
        live.own("gateway", now)
        return line

    def _connected(self) -> None:
        self.attempt.sent_at = now = self._live.plane.clock()
        self._live.own("upstream_wait", now)

    def failed(self, error: GatewayError) -> None:
        """Note why there is no session here, and whether that says something about the upstream."""
        attempt, now = self.attempt, self._live.plane.clock()
        attempt.outcome, attempt.error = "connect_error", error.code
        if isinstance(error, Refused):
            attempt.outcome, attempt.status = "status", int(error.code)
        if not isinstance(error, Full) and (attempt.outcome == "connect_error" or at_fault(error)):
            self.ticket.failed(now, error.code, error.retry_after)
        attempt.ended_at = now

    def close(self) -> None:
        """Give back slot and ticket."""
        now = self._live.plane.clock()
        if self._slot:
            self.pool.slots.give()
            self._slot = False
        if self.attempt.ended_at is None:
            self.attempt.ended_at = now
        self.ticket.end(now)


class Full(ConnectFailed):
    """All sessions that an upstream may carry are taken: no fault of its own."""

    status = 503
    code = "no_slot"


def at_fault(error: GatewayError) -> bool:
    """Tell whether an upstream's refusal says that something is wrong with it, or with our key to it."""
    status = int(error.code)
    return status < 400 or blames_upstream(status)


def retryable(route: Route, error: GatewayError) -> bool:
    """Tell whether the next target may be asked after this failure."""
    if isinstance(error, ConnectFailed):
        return "connect" in route.retry.on
    if not isinstance(error, Refused):
        return False
    status = int(error.code)
    return ("status_429" in route.retry.on and status == 429) or ("status_5xx" in route.retry.on and (status >= 500 or status < 400))


def check_upgrade(headers: Mapping[str, str]) -> None:
    """Raise what is wrong with a request that should begin a WebSocket (RFC 6455, 4.2.1); nothing has been asked of an upstream yet."""
    tokens = {token.strip().lower() for token in headers.get("Connection", "").split(",")}
    if headers.get("Upgrade", "").strip().lower() != "websocket" or "upgrade" not in tokens:
        raise Rejected(f"{PATH} takes WebSockets only", code="upgrade_required", status=426)
    if headers.get("Sec-WebSocket-Version", "").strip() != VERSION:
        raise Rejected(f"this gateway speaks version {VERSION} of the WebSocket protocol", code="upgrade_required", status=426)
    if _KEY.fullmatch(headers.get("Sec-WebSocket-Key", "").strip()) is None:
        raise Rejected("the WebSocket handshake has no valid key", code="bad_handshake")


def offered(request: web.BaseRequest) -> list[str]:
    """Return the subprotocols a client offered that may be spoken of."""
    names = [name.strip() for value in request.headers.getall("Sec-WebSocket-Protocol", []) for name in value.split(",")]
    return [name for name in names if name == PROTOCOL or name.startswith(PROTOCOLS)]


def chosen(request: web.BaseRequest, protocol: str | None) -> str | None:
    """Return the subprotocol to answer with: the upstream's choice, else ours: a browser that offered some hangs up when none is taken."""
    return protocol or (PROTOCOL if PROTOCOL in offered(request) else None)


def upgrading(request: web.BaseRequest, protocol: str | None) -> web.BaseRequest:
    """Return a handshake with nothing in it that is not needed: aiohttp logs subprotocols that it does not take, keys among them."""
    kept = {name: request.headers[name].strip() for name in ("Upgrade", "Connection", "Sec-WebSocket-Version", "Sec-WebSocket-Key")}
    return request.clone(headers=kept | ({"Sec-WebSocket-Protocol": protocol} if protocol else {}))


def opening(request: web.BaseRequest, live: Live, bid: Bid) -> Opening:
    """Return what an upstream is asked: its own model and credentials, and of the client's words those that are no secrets."""
    upstream, record = bid.pool.config, live.record
    query = {"model": bid.model} | {name: request.query[name] for name in QUERY if name in request.query}
    headers = [header for header in live.headers if header[0].lower() not in bid.pool.added and header[1].isascii()]
    headers += upstream.headers.items()
    if upstream.api_key is not None:
        headers += live.dialect.credential(upstream.api_key.get_secret_value()).items()
    if upstream.trace:
        headers.append(("traceparent", f"00-{record.trace_id}-{record.span_id}-{record.sampled:02x}"))
        if record.tracestate:
            headers.append(("tracestate", record.tracestate))
    return Opening("/realtime?" + urlencode(query), headers, offered(request), live.setup.config.server.max_body)
