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
from gateway.console.sample import sample
from gateway.console.targets import route_view, survey
from gateway.console.views import View, detail, feedback, live_detail, live_summary, step, summary
from gateway.console.words import WordsApi
from gateway.control import Outcome
from gateway.telemetry.account import Account, account
from gateway.telemetry.live import SILENT, LiveStream
from gateway.telemetry.overview import STEP, worse
from gateway.telemetry.prometheus import render
from gateway.telemetry.query import MOST, Cursor, Query
from gateway.telemetry.recorder import Recorder
from gateway.telemetry.store import MOST_STEPS, Kept, StoreUnreadable

INDEX = {
    "/metrics": "metrics for Prometheus, OpenMetrics with exemplars when asked for",
    "/healthz": "health of workers and recorder",
    "/api/streams": "streams, live first: route= outcome= upstream= model= prompt= prompt_version= session= tag.NAME= stalled= slow= "
    "feedback= since= until= limit= cursor=",
    "/api/streams/{stream_id}": "one stream's whole record",
    "/api/streams/{stream_id}/content": "what was asked and said, where its route keeps that",
    "/api/streams/{stream_id}/text": "what a running stream says, as server-sent events",
    "/api/live": "what goes on, as server-sent events",
    "/api/overview": "figures of the last 15 minutes, in steps of 10 s: route=",
    "/api/routes": "routes, their targets and what the workers think of them",
    "/api/traces/{trace_id}": "all streams of one trace",
    "/api/sample": "ended streams as one set of figures, to compare with another: the parameters of /api/streams",
    "/api/links": "the links of admin.links, as templates",
    "/api/streams/{stream_id}/abort": "POST: end a live stream",
    "/api/reload": "POST: read the configuration file again",
}


STORED_WITHIN = 20
"""Tenths of a second that a stream which has just ended may take until it is stored."""
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
        silent = not workers or any(now - worker.heard_at > SILENT for worker in recorder.live.workers.values())
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
        return {"bytes": store.size, "max_bytes": store.max_size, "oldest": store.reach(_clock())}

    async def streams(self, request: web.Request) -> web.Response:
        today = _clock()
        query = read_query(request.query, today)
        now = time.monotonic()
        live = self._live(query) if query.lets_live(today) else []
        rows: list[View] = [self._live_summary(stream, now) for stream in live[: query.limit]]
        if len(live) > query.limit:
            last = live[query.limit - 1].record
            return answer({"streams": rows, "next": Cursor(True, last.received_at, last.stream_id).text(), "now": _clock()})
        room = query.limit - len(rows)
        ended = await self._ended(query, room + 1)
        rows += [self._summary(kept) for kept in ended[:room]]
        return answer({"streams": rows, "next": _next(ended, room), "now": _clock()})

    async def stream(self, request: web.Request) -> web.Response:
        stream_id = request.match_info["stream_id"]
        if live := self._recorder.live.streams.get(stream_id):
            said = self._recorder.feedback.waiting(stream_id)
            view = live_detail(live, account(live.record), time.monotonic())
            return answer({**view, "feedback": feedback(said), "now": _clock()})
        kept = await self._kept(stream_id)
        if kept is None:
            return answer({"error": "no such stream is live or stored"}, 404)
        view = {**detail(self._recorder.price(kept.record)), "state": "ended", "ended": kept.ended, "cost_usd": kept.cost}
        return answer({**view, "feedback": feedback(kept.feedback), "now": _clock()})

    async def _kept(self, stream_id: str) -> Kept | None:
        """One ended stream. One that has ended this moment is waited for: the store writes in batches."""
        store = self._recorder.store
        for _ in range(STORED_WITHIN):
            kept = await asyncio.to_thread(store.one, stream_id) if store is not None else None
            if kept is not None or store is None or not self._recorder.was_told(stream_id):
                return kept
            await asyncio.sleep(0.1)
        return None

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

    async def routes(self, request: web.Request) -> web.Response:
        recorder, now = self._recorder, time.monotonic()
        what = survey(recorder.live.targets(now), recorder.lately, now)
        reload = {"config_hash": recorder.config_hash, "configured": now - recorder.configured_at, "reload_error": recorder.reload_error}
        routes = recorder.config.routes
        views = [route_view(route, what, routes) for route in routes]
        return answer({**reload, "base_url": _base_url(recorder, request), "now": _clock(), "routes": views})

    async def links(self, _: web.Request) -> web.Response:
        return answer({"links": self._recorder.config.admin.links})

    async def sample(self, request: web.Request) -> web.Response:
        query = read_query(request.query, _clock())
        limit = query.limit if "limit" in request.query else MOST
        kept = await self._ended(query, limit + 1)
        told = [self._account(each) for each in kept[:limit]]
        return answer(await asyncio.to_thread(sample, told, len(kept) > limit))

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
        total = await asyncio.to_thread(store.total, trace_id) if store is not None and len(ended) == MOST_STEPS else None
        rows = [step(self._account(kept), kept.ended) for kept in ended]
        live = [stream for stream in self._recorder.live.streams.values() if stream.record.trace_id == trace_id]
        running = [self._live_summary(stream, now) for stream in live]
        rows += running
        if not rows:
            return answer({"error": "no stream of this trace is live or stored"}, 404)
        if total is not None and total.streams > len(ended):
            sums = {"cost_usd": total.cost, "input_tokens": total.input_tokens, "output_tokens": total.output_tokens}
            told, count = [sums, *running], total.streams + len(running)
        else:
            told, count = rows, len(rows)
        totals = {"streams": count} | {name: _sum(told, name) for name in ("cost_usd", "input_tokens", "output_tokens")}
        return answer({"trace_id": trace_id, "streams": rows, "cut": count > len(rows), "total": totals, "now": _clock()})

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

    def _account(self, kept: Kept) -> Account:
        return account(kept.record, kept.cost, self._recorder.objective(kept.record.route))

    def _summary(self, kept: Kept) -> View:
        return summary(self._account(kept), kept.ended, kept.feedback)


def admin_app(recorder: Recorder, ask: Ask | None = None) -> web.Application:
    """Return the admin listener's application over a recorder; `ask` is who can reload, if anybody."""
    api = Api(recorder, ask)
    app = web.Application(middlewares=[_polite(Guard(lambda: recorder.config))])
    add_pages(app)
    app.router.add_get("/api", api.index)
    app.router.add_get("/api/overview", api.overview)
    app.router.add_get("/api/live", LiveFeed(recorder).serve, allow_head=False)
    app.router.add_get("/metrics", api.metrics)
    app.router.add_get("/healthz", api.health)
    app.router.add_get("/api/streams", api.streams)
    app.router.add_get("/api/streams/{stream_id}", api.stream)
    words = WordsApi(recorder)
    app.router.add_get("/api/streams/{stream_id}/content", words.content)
    app.router.add_get("/api/streams/{stream_id}/text", words.text, allow_head=False)
    app.router.add_post("/api/streams/{stream_id}/abort", api.abort)
    app.router.add_post("/api/reload", api.reload)
    app.router.add_get("/api/routes", api.routes)
    app.router.add_get("/api/traces/{trace_id}", api.trace)
    app.router.add_get("/api/sample", api.sample)
    app.router.add_get("/api/links", api.links)
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


def _clock() -> float:
    """Return unix seconds: an age in `since` is counted back from it, and pages tell by it how long ago something was."""
    return time.time()  # noqa: TID251 - by the calendar, as what is stored


def _base_url(recorder: Recorder, request: web.Request) -> str | None:
    """Return where apps reach the gateway, for who reached this page by `request`; None where it was left to the system to find a port."""
    server = recorder.config.server
    host = request.url.host if server.host in ("0.0.0.0", "::") else server.host  # noqa: S104 - compared, not bound
    named = f"[{host}]" if host and ":" in host else host
    return f"http://{named}:{server.port}" if server.port else None


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
