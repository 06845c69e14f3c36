"""Walks one stream through its life: read, route, race, relay, settle. Every path out of here closes one record exactly once."""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable

from aiohttp import web

from gateway.config import Route, Target
from gateway.core.call import Call
from gateway.core.errors import GatewayError, ModelNotFound, NoTarget, ShuttingDown, UpstreamError
from gateway.core.record import StreamRecord
from gateway.dialects.base import Asked, Dialect, Endpoint
from gateway.logs import blunder
from gateway.proxy.attempts import Race
from gateway.proxy.body import read_body
from gateway.proxy.doors import JSON, Params
from gateway.proxy.farewell import Farewell
from gateway.proxy.headers import answer_headers, forwarded, left_out, returned, server_timing, still_true, tags, told, trace_context
from gateway.proxy.plane import Live, Plane
from gateway.proxy.rejoin import holder, stream_id
from gateway.proxy.relay import Relay
from gateway.proxy.reply import STREAM_HEADERS, Reply
from gateway.proxy.resume import Legs, relayed
from gateway.proxy.taped import Taped
from gateway.proxy.trial import Trial
from gateway.proxy.verdict import client_left
from gateway.proxy.words import Words
from gateway.routing.policy import plan

log = logging.getLogger("weir.proxy")

NOTHING = Asked()


class Handler:
    """Serves one endpoint of one dialect."""

    def __init__(self, plane: Plane, dialect: Dialect, endpoint: Endpoint) -> None:
        self._plane, self._dialect, self._endpoint = plane, dialect, endpoint

    async def __call__(self, request: web.BaseRequest, params: Params) -> web.StreamResponse:
        """Carry one call. The record opens guilty, and whatever happens below, it is settled once."""
        reply = Reply(request)
        live = Live(self._plane, open_record(request, self._plane, self._plane.clock()), reply, self._dialect)
        await self._account(live, self._serve(request, params, live))
        if isinstance(live.reply, Taped):  # the stream has a life of its own: this connection listens to it
            await live.reply.play_first()
        return reply.response

    async def _account(self, live: Live, work: Awaitable[None]) -> None:
        """Do the work of a stream, and settle its record; one that has gone on tape meanwhile is settled where it is carried on."""
        try:
            await work
        except GatewayError as error:
            error.__traceback__ = None  # it leads through frames that hold the error: a cycle that would keep the stream
            await refuse(live, error)
        except asyncio.CancelledError:
            if live.stopped is None:
                client_left(live.record)
                raise
            await refuse(live, live.stopped)
        except ConnectionError as gone:
            gone.__traceback__ = None
            client_left(live.record)  # it left while we wrote its headers or its last chunk
        except Exception as error:  # noqa: BLE001  whatever it is, the client is answered and the record settled
            log.error("stream %s broke the gateway: %s", live.record.stream_id, blunder(error))
            await refuse(live, GatewayError("the gateway failed to carry this call"))
        finally:
            if live.task is asyncio.current_task():
                live.settle(self._plane.clock())

    async def _serve(self, request: web.BaseRequest, params: Params, live: Live) -> None:
        order = await self._admit(request, params, live)
        if drains(live, request):
            taped = Taped(live, holder(request))
            live.reply, live.stop = taped, noted
            live.task = taped.task = asyncio.get_running_loop().create_task(self._carry_on_tape(live, taped, order))
        else:
            await self._carry(live, order)

    async def _carry_on_tape(self, live: Live, taped: Taped, order: list[Target]) -> None:
        """Carry a stream that may outlive its client, in a task of its own."""
        live.stop = None
        try:
            await self._account(live, taped.to_its_end(self._carry(live, order)))
        finally:
            taped.conclude()

    async def _admit(self, request: web.BaseRequest, params: Params, live: Live) -> list[Target]:
        """Read and route a call; return its targets in order."""
        plane, record = self._plane, live.record
        if plane.stopping:
            raise ShuttingDown("the gateway is shutting down")
        body = await read_body(request, plane.config.server.body_timeout)
        live.own("gateway", plane.clock())
        call = self._dialect.parse_call(self._endpoint, body, asked(request, params))
        route = live.find_route(call.model, request.headers)
        describe(record, call, route)
        if route is None:
            raise ModelNotFound(f"no route serves the model {call.model[:200]!r}")
        live.begin(call, route, forwarded(request.headers))
        if route.content != "off":
            live.words = await Words.of(route, body, record)
        now = record.admitted_at = plane.clock()
        order = plan(route, call.model, live.health, now, plane.dice)
        heed_retry_after(live, order[0], call.model, now)
        if request.headers.get("x-weir-no-fallback", "").lower() == "true":
            del order[1:]
        else:
            live.resumes = route.mid_stream == "resume" and call.stream and call.operation == "chat"
        return order

    async def _carry(self, live: Live, order: list[Target]) -> None:
        if live.stopped is not None:
            raise live.stopped
        trial = await Race(live, order).winner()
        try:
            await self._relay(live, trial)
        finally:
            trial.close()

    async def _relay(self, live: Live, trial: Trial) -> None:
        """Commit to the trial that spoke, and pass its answer on until it ends."""
        live.own("gateway", self._plane.clock())
        sent = commit(live, trial)
        relay, failure = await (Legs(live).relay(trial, sent) if live.resumes else relayed(live, trial, sent))
        await finish(live, relay, failure)


def noted(why: GatewayError) -> None:
    """A stream is ended whose task has not begun: one that is cancelled then never does, so that nobody would settle its record.

    `Live.stopped` says why, and the task looks there first.
    """


def drains(live: Live, request: web.BaseRequest) -> bool:
    """Tell whether a stream goes on when its client has gone: its call says so, or else its route."""
    said = request.headers.get("x-weir-on-disconnect", "").lower()
    return live.call.stream and (said if said in {"cancel", "drain"} else live.route.client.on_disconnect) == "drain"


def commit(live: Live, trial: Trial) -> int:
    """Send status, headers and what was held, and say how many bytes that was: from here on no other target can be chosen."""
    record, reply, head, now = live.record, live.reply, trial.head, live.plane.clock()
    assert head is not None
    assert trial.reading is not None
    streams = trial.reading.is_stream or (trial.errand.translated and live.call.stream)
    record.committed_at = record.first_write_at = now
    record.first_byte_at = trial.attempt.headers_at
    record.first_token_at = trial.reading.observer.first_token_at
    if reply.opened:  # a keepalive has promised an event stream: whatever else came can only be told as an error in it
        if not streams:
            raise trial.failure or UpstreamError(f"upstream {record.upstream} answered with no stream", code="not_a_stream")
        live.reply.write(first := held(trial))
        return len(first)
    first = held(trial)
    headers = {**answer_headers(record), "Server-Timing": server_timing(record, live.ledger.seconds["queue"])}
    if trial.errand.translated:
        live.count("translated")
        for _ in trial.errand.dropped:
            live.count("member_dropped")
        media_type = live.framing.media_type if streams else "application/json"
        headers = {**still_true(head.headers), "Content-Type": media_type, **headers, **left_out(trial.errand.dropped)}
        length = None if streams else len(first)
    else:
        headers = {**returned(head.headers), **headers}
        stated = "" if trial.reading.is_stream else head.headers.get("content-length", "")
        length = int(stated) if stated.isascii() and stated.isdigit() else None
    reply.open(head.status, {**headers, **STREAM_HEADERS} if streams else headers, length, first)
    return len(first)


def held(trial: Trial) -> bytes:
    """Return what a trial has held back, as the client gets it; raises what a translation of it has died of."""
    first = trial.take_held()
    assert trial.reading is not None
    if trial.reading.broken is not None:
        raise trial.reading.broken
    return first


async def finish(live: Live, relay: Relay, failure: GatewayError | None) -> None:
    """End the client's answer as what it was: whole, or in an error that its dialect can tell."""
    if failure is None:
        await say_farewell(live, live.reply.close(relay.tail))
    elif relay.reading.is_stream:
        relay.end_with(failure)
        if failure.hangs_up:
            live.reply.hang_up_after()
        visibly = live.route.client.on_failure == "cut" or relay.reading.torn
        await say_farewell(live, live.reply.cut() if visibly else live.reply.close())
    else:
        live.reply.break_off()


async def say_farewell(live: Live, ending: Awaitable[None]) -> None:
    """Wait until the client has taken its answer. One that does not take it all has not got a whole one, whatever its upstream said."""
    record, farewell = live.record, Farewell(live.plane, live.reply, live.route.client.write_timeout)
    live.stop = farewell.kill
    try:
        await farewell.over(ending)
    except (ConnectionError, asyncio.CancelledError):
        cause = farewell.cause
        if record.outcome == "completed":
            record.outcome, record.error = (cause.outcome, cause.code) if cause is not None else ("client_disconnect", None)
        if cause is None:
            raise
    finally:
        live.stop = None


async def refuse(live: Live, error: GatewayError) -> None:
    """Answer with an error: as a status while nothing has been sent, else as the last event."""
    record, reply = live.record, live.reply
    record.outcome, record.error = error.outcome, error.code
    if reply.gone:
        return
    if reply.opened:
        reply.write(live.dialect.error_event(error, live.call, begun=False))
        if error.hangs_up:
            reply.hang_up_after()
        await Farewell(live.plane, reply).over(reply.close())
        return
    headers = {**JSON, **answer_headers(record)}
    if error.retry_after is not None:
        headers["Retry-After"] = str(int(error.retry_after + 0.999))
    if error.hangs_up:
        headers["Connection"] = "close"
    await Farewell(live.plane, reply).over(reply.send(error.status, headers, live.dialect.error_body(error)))
    record.status = error.status


def heed_retry_after(live: Live, first: Target, model: str, now: float) -> None:
    """Pass on an upstream's Retry-After while every target of the route has one: asking earlier would only prolong it."""
    if (wait := live.health.held((first.upstream, first.model or model), now)) > 0:
        raise NoTarget("every target of this route has asked for a pause", code="rate_limited", status=429, retry_after=wait)


def asked(request: web.BaseRequest, params: Params) -> Asked:
    """Return what the request line said beside the door."""
    query = dict(request.query.items()) if request.query_string else {}  # of a repeated name the last stands
    return Asked(params, query) if params or query else NOTHING


def open_record(request: web.BaseRequest, plane: Plane, now: float) -> StreamRecord:
    """Open a stream's record from the head of its request; its trace is the caller's if the caller is in one."""
    ids, caller = os.urandom(40).hex(), trace_context(request.headers)
    retries = request.headers.get("x-stainless-retry-count", "")
    return StreamRecord(
        stream_id=stream_id(ids, plane.number),
        trace_id=caller.trace_id if caller else ids[32:64],
        span_id=ids[64:80],
        parent_id=caller.parent_id if caller else None,
        sampled=caller.sampled if caller else True,
        tracestate=caller.state if caller else None,
        worker=plane.pid,
        received_unix=time.time(),  # noqa: TID251  the one place where a stream is tied to the wall clock
        received_at=now,
        tags=tags(request.headers),
        prompt_name=bounded(request.headers.get("x-weir-prompt-name")),
        prompt_version=bounded(request.headers.get("x-weir-prompt-version")),
        session_id=bounded(request.headers.get("x-weir-session-id")),
        client_retry=int(retries) if retries.isascii() and retries.isdigit() and len(retries) < 4 else None,
    )


def bounded(value: str | None) -> str | None:
    """Return what a caller says about its call, at most 128 characters of it."""
    return told(value) if value else None


def describe(record: StreamRecord, call: Call, route: Route | None) -> None:
    """Write what was asked into the record."""
    record.dialect, record.operation, record.asked_model, record.streamed = call.dialect, call.operation, call.model[:256], call.stream
    record.temperature, record.top_p, record.max_tokens, record.seed = call.temperature, call.top_p, call.max_tokens, call.seed
    record.route = route.name if route else ""
    if call.prompt_name is not None and record.prompt_name is None:  # what the headers say comes first
        record.prompt_name, record.prompt_version = told(call.prompt_name), record.prompt_version or bounded(call.prompt_version)
