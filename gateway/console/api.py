"""The admin API: metrics, health, streams live and ended, routes, traces; everything but /metrics is JSON."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from gateway import __version__
from gateway.console.answers import HEADERS, answer
from gateway.console.asked import BadQuery, read_query
from gateway.console.guard import Guard
from gateway.console.livefeed import LiveFeed
from gateway.console.pages import add_pages
from gateway.console.views import View, detail, feedback, live_detail, live_summary, route_view, summary
from gateway.control import Outcome
from gateway.telemetry.account import account
from gateway.telemetry.live import SILENT, LiveStream
from gateway.telemetry.overview import STEP, worse
from gateway.telemetry.prometheus import render
from gateway.telemetry.query import Cursor, Query
from gateway.telemetry.recorder import Recorder
from gateway.telemetry.store import Kept, StoreUnreadable

INDEX = {
    "/metrics": "metrics for Prometheus, OpenMetrics with exemplars when asked for",
    "/healthz": "health of workers and recorder",
    "/api/streams": "streams, live first: route= outcome= upstream= model= prompt= prompt_version= session= tag.NAME= stalled= slow= "
    "feedback= since= until= limit= cursor=",
    "/api/streams/{stream_id}": "one stream's whole record",
    "/api/live": "what goes on, as server-sent events",
    "/api/overview": "figures of the last 15 minutes, in steps of 10 s: route=",
    "/api/routes": "routes, their targets and what the workers think of them",
    "/api/traces/{trace_id}": "all streams of one trace",
    "/api/streams/{stream_id}/abort": "POST: end a live stream",
    "/api/reload": "POST: read the configuration file again",
}


Ask = Callable[[], Awaitable[Outcome | None]]
"""Asks for a reload, and returns what became of it; None when nobody has said so in time."""


class Api:
    """The handlers. Each reads the recorder; those of POST ask others for a change and make none here."""

    def __init__(self, recorder: Recorder, ask: Ask | None) -> None:
        self._recorder, self._ask = recorder, ask

    async def index(self, _: web.Request) -> web.Response:
        return answer({"weir": __version__, "paths": INDEX})

    async def metrics(self, request: web.Request) -> web.Response:
        families = self._recorder.collect()
        body, content_type = await asyncio.to_thread(render, families, request.headers.get("Accept", ""))
        return web.Response(body=body, headers={**HEADERS, "Content-Type": content_type})

    async def health(self, _: web.Request) -> web.Response:
        recorder, now = self._recorder, time.monotonic()
        workers = [
            {
                "worker": worker.slot,
                "pid": worker.pid,
                "age": round(now - worker.heard_at, 3),
                "streams": worker.pulse.streams if worker.pulse else 0,
                "loop_lag": worker.pulse.loop_lag if worker.pulse else None,
                "state": worker.pulse.state if worker.pulse else None,
                "config_hash": worker.pulse.config if worker.pulse else None,
            }
            for worker in sorted(recorder.live.workers.values(), key=lambda worker: worker.slot)
        ]
        silent = any(now - worker.heard_at > SILENT for worker in recorder.live.workers.values())
        return answer(
            {
                "status": "degraded" if silent or recorder.lagging(now) else "ok",
                "version": __version__,
                "pid": os.getpid(),
                "workers": workers,
                "streams": len(recorder.live.streams),
                "recorder_lag": recorder.lag(),
                "config_hash": recorder.config_hash,
                "last_reload_error": recorder.reload_error,
                "dropped": recorder.dropped(),
                "store": self._store(),
            }
        )

    def _store(self) -> View | None:
        """How large the store is, how large it may be, and how many seconds it reaches back."""
        store = self._recorder.store
        if store is None:
            return None
        return {"bytes": store.size, "max_bytes": store.max_size, "oldest": store.reach(time.time())}  # noqa: TID251 - it keeps calendar times

    async def streams(self, request: web.Request) -> web.Response:
        today = time.time()  # noqa: TID251 - `since` and `until` may be ages by the calendar
        query = read_query(request.query, today)
        now = time.monotonic()
        live = self._live(query) if query.lets_live(today) else []
        rows: list[View] = [self._live_summary(stream, now) for stream in live[: query.limit]]
        if len(live) > query.limit:
            last = live[query.limit - 1].record
            return answer({"streams": rows, "next": Cursor(True, last.received_at, last.stream_id).text()})
        room = query.limit - len(rows)
        ended = await self._ended(query, room + 1)
        rows += [self._summary(kept) for kept in ended[:room]]
        return answer({"streams": rows, "next": _next(ended, room)})

    async def stream(self, request: web.Request) -> web.Response:
        stream_id = request.match_info["stream_id"]
        if live := self._recorder.live.streams.get(stream_id):
            said = self._recorder.feedback.waiting(stream_id)
            return answer({**live_detail(live, account(live.record), time.monotonic()), "feedback": feedback(said)})
        store = self._recorder.store
        kept = await asyncio.to_thread(store.one, stream_id) if store is not None else None
        if kept is None:
            return answer({"error": "no such stream is live or stored"}, 404)
        view = {**detail(self._recorder.price(kept.record)), "state": "ended", "ended": kept.ended, "cost_usd": kept.cost}
        return answer({**view, "feedback": feedback(kept.feedback)})

    async def abort(self, request: web.Request) -> web.Response:
        stream_id = request.match_info["stream_id"]
        if not self._recorder.abort(stream_id):
            return answer({"error": "no such stream is live"}, 404)
        return answer({"stream_id": stream_id, "asked": "abort"}, 202)

    async def reload(self, _: web.Request) -> web.Response:
        if self._ask is None:
            return answer({"error": "there is nobody here who could reload"}, 409)
        outcome = await self._ask()
        if outcome is None:
            return answer({"asked": "reload"}, 202)
        if outcome.problems:
            status = 422 if outcome.possible else 409
            return answer({"error": outcome.error, "problems": outcome.problems, "config_hash": outcome.hash}, status)
        return answer({"config_hash": outcome.hash, "changed": outcome.changed})

    async def routes(self, _: web.Request) -> web.Response:
        recorder, now = self._recorder, time.monotonic()
        targets = recorder.live.targets(now)
        views = [route_view(route, targets, self._shares(route.name, now), now) for route in recorder.config.routes]
        return answer({"config_hash": recorder.config_hash, "routes": views})

    def _shares(self, route: str, now: float) -> dict[str, float]:
        """Return which share of a route's streams of the last 15 minutes each upstream had."""
        total, _ = self._recorder.overview.read(now, route)
        return {upstream: count / total.streams for upstream, count in total.upstreams.items()} if total.streams else {}

    async def overview(self, request: web.Request) -> web.Response:
        recorder, now = self._recorder, time.monotonic()
        route = request.query.get("route")
        total, steps = recorder.overview.read(now, route)
        known = {recorder.objective(route)} if route else {each.slo.ttft for each in recorder.config.routes}
        covered = recorder.overview.covered(now)
        figures = {**total.figures(covered), "stalls_by": total.stalls}
        points = [step.figures(STEP) for step in steps]
        objective = known.pop() if len(known) == 1 else None  # routes with objectives of their own have no common line
        about = {"step": STEP, "covered": covered, "objective": objective, "worse": worse(steps)}
        return answer({**about, "total": figures, "points": points})

    async def trace(self, request: web.Request) -> web.Response:
        trace_id, now = request.match_info["trace_id"].lower(), time.monotonic()
        store = self._recorder.store
        ended = await asyncio.to_thread(store.trace, trace_id) if store is not None else []
        rows = [self._summary(kept) for kept in ended]
        live = [stream for stream in self._recorder.live.streams.values() if stream.record.trace_id == trace_id]
        rows += [self._live_summary(stream, now) for stream in live]
        if not rows:
            return answer({"error": "no stream of this trace is live or stored"}, 404)
        totals = {name: _sum(rows, name) for name in ("cost_usd", "input_tokens", "output_tokens")}
        return answer({"trace_id": trace_id, "streams": rows, "total": totals})

    def _live(self, query: Query) -> list[LiveStream]:
        """Live streams that answer a query, longest first, from its cursor on."""
        if query.cursor is not None and not query.cursor.live:
            return []
        past = (query.cursor.at, query.cursor.stream_id) if query.cursor is not None else (float("-inf"), "")
        found = [
            stream
            for stream in self._recorder.live.streams.values()
            if query.admits_live(stream.record, stream.upstream, _is_stalled(stream), self._score(stream)) and _place(stream) > past
        ]
        return sorted(found, key=_place)

    async def _ended(self, query: Query, limit: int) -> list[Kept]:
        store = self._recorder.store
        if store is None:
            return []
        cursor = query.cursor if query.cursor is not None and not query.cursor.live else None
        return await asyncio.to_thread(store.find, msgspec.structs.replace(query, limit=max(1, limit), cursor=cursor))

    def _score(self, stream: LiveStream) -> int | None:
        said = self._recorder.feedback.waiting(stream.record.stream_id)
        return None if said is None else said.score

    def _live_summary(self, stream: LiveStream, now: float) -> View:
        return live_summary(stream, account(stream.record), now, self._recorder.feedback.waiting(stream.record.stream_id))

    def _summary(self, kept: Kept) -> View:
        objective = self._recorder.objective(kept.record.route)
        return summary(account(kept.record, kept.cost, objective), kept.ended, kept.feedback)


def admin_app(recorder: Recorder, ask: Ask | None = None) -> web.Application:
    """Return the admin listener's application over a recorder; `ask` is who can reload, if anybody."""
    api = Api(recorder, ask)
    app = web.Application(middlewares=[_polite(Guard(lambda: recorder.config))])
    add_pages(app)
    app.router.add_get("/api", api.index)
    app.router.add_get("/api/overview", api.overview)
    app.router.add_get("/api/live", LiveFeed(recorder).serve)
    app.router.add_get("/metrics", api.metrics)
    app.router.add_get("/healthz", api.health)
    app.router.add_get("/api/streams", api.streams)
    app.router.add_get("/api/streams/{stream_id}", api.stream)
    app.router.add_post("/api/streams/{stream_id}/abort", api.abort)
    app.router.add_post("/api/reload", api.reload)
    app.router.add_get("/api/routes", api.routes)
    app.router.add_get("/api/traces/{trace_id}", api.trace)
    return app


def _polite(guard: Guard) -> Callable[..., Awaitable[web.StreamResponse]]:
    @web.middleware
    async def polite(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
        if refusal := guard.check(request):
            return refusal
        try:
            return await handler(request)
        except BadQuery as error:
            return answer({"error": str(error)}, 400)
        except StoreUnreadable:
            return answer({"error": "the store cannot be read just now"}, 503)
        except web.HTTPException as error:
            return answer({"error": error.reason}, error.status)

    return polite


def _is_stalled(stream: LiveStream) -> bool:
    return bool(stream.announced) or stream.state == "stalled"


def _place(stream: LiveStream) -> tuple[float, str]:
    return stream.record.received_at, stream.record.stream_id


def _next(ended: list[Kept], room: int) -> str | None:
    if len(ended) <= room:
        return None
    if not room:  # the live ones filled the page exactly: ended ones begin the next
        return Cursor(False, float("inf"), "").text()
    last = ended[room - 1]
    return Cursor(False, last.ended, last.record.stream_id).text()


def _sum(rows: list[View], name: str) -> Any:
    known = [row[name] for row in rows if row[name] is not None]
    return sum(known) if known else None
