"""The admin API over a real listener."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import ClientSession
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from gateway.config import Config
from gateway.core.messages import Begun, Ended, Feedback, Hello, Pulse, Stalled, TargetState
from gateway.core.record import Cadence, StreamRecord
from gateway.telemetry.recorder import TAKEN_ON_WITHIN, Recorder

Serve = Callable[..., Awaitable[tuple[Recorder, ClientSession]]]
MakeRecord = Callable[..., StreamRecord]


async def get(session: ClientSession, path: str, status: int = 200, **headers: str) -> Any:
    async with session.get(path, headers=headers) as response:
        assert response.status == status, await response.text()
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "Access-Control-Allow-Origin" not in response.headers
        return await response.json()


async def stored(recorder: Recorder, count: int) -> None:
    """Wait until the store has committed `count` streams."""
    assert recorder.store is not None
    async with asyncio.timeout(5):
        while len(await asyncio.to_thread(recorder.store.newest_ids, 1000)) < count:  # noqa: ASYNC110 - it is a file
            await asyncio.sleep(0.02)


async def test_streams_live_first_then_newest(serve: Serve, make_record: MakeRecord) -> None:
    """Paging through by any limit gives every stream once: live ones first, then ended ones from the newest on."""
    recorder, session = await serve()
    for number in range(1, 8):
        recorder.receive(Ended(number, make_record(number)))
    for number in (8, 9):
        recorder.receive(Begun(make_record(number, ended_at=None), "first_token"))
    await stored(recorder, 7)
    expected = [f"stream-{number}" for number in (8, 9, 7, 6, 5, 4, 3, 2, 1)]
    for limit in (1, 2, 3, 9, 100):
        found: list[str] = []
        cursor = ""
        for _ in range(20):
            page = await get(session, f"/api/streams?limit={limit}&cursor={cursor}")
            assert len(page["streams"]) <= limit
            found += [row["stream_id"] for row in page["streams"]]
            cursor = page["next"]
            if cursor is None:
                break
        assert found == expected
    assert page["streams"][0]["state"] == "first_token"
    assert page["streams"][0]["age"] > 0


async def test_filters(serve: Serve, make_record: MakeRecord) -> None:
    """Each filter narrows both halves; an outcome is a thing of ended streams only."""
    recorder, session = await serve()
    recorder.receive(Ended(1, make_record(1)))
    recorder.receive(Ended(2, make_record(2, outcome="upstream_error", first_token_at=None)))
    recorder.receive(Begun(make_record(3, ended_at=None)))
    recorder.receive(Stalled("stream-3", "upstream", "streaming", time.monotonic()))
    await stored(recorder, 2)

    async def names(query: str) -> set[str]:
        return {row["stream_id"] for row in (await get(session, f"/api/streams?{query}"))["streams"]}

    assert await names("") == {"stream-1", "stream-2", "stream-3"}
    assert await names("outcome=upstream_error") == {"stream-2"}
    assert await names("outcome=upstream_error,completed") == {"stream-1", "stream-2"}
    assert await names("stalled=true") == {"stream-3"}
    assert await names("slow=true") == {"stream-1"}
    assert await names("slow=1s") == set()
    assert await names("route=other") == set()
    assert await names("upstream=fast&model=tiny") == {"stream-1", "stream-2", "stream-3"}
    assert await names("since=1h") == {"stream-1", "stream-2", "stream-3"}


async def test_dimensions_filter_both_halves(serve: Serve, make_record: MakeRecord) -> None:
    """Prompt, version, session, tags, score and time, of ended and of live streams alike; all must hold."""
    recorder, session = await serve()
    named = {"prompt_name": "greet, loudly", "session_id": "s&1"}
    for number in (1, 2):
        recorder.receive(Ended(number, make_record(number, prompt_version=str(number), tags={"env": "prod", "n": str(number)}, **named)))
    recorder.receive(Begun(make_record(3, ended_at=None, prompt_version="1", tags={"env": "prod", "n": "3"}, **named)))
    recorder.receive(Begun(make_record(4, ended_at=None)))
    recorder.receive(Feedback("stream-3", -1))
    await stored(recorder, 2)
    recorder.receive(Feedback("stream-2", 1))
    await until_said(session, "stream-2")

    async def names(query: str) -> str:
        rows = (await get(session, f"/api/streams?{query}"))["streams"]
        return "".join(sorted(row["stream_id"].removeprefix("stream-") for row in rows))

    assert await names("prompt=greet,%20loudly") == "123"
    assert await names("prompt=greet") == ""
    assert await names("prompt=greet,%20loudly&prompt_version=1") == "13"
    assert await names("prompt_version=1&prompt_version=2") == "123"
    assert await names("session=s%261&model=tiny") == "123"
    assert await names("tag.env=prod") == "123"
    assert await names("tag.ENV=prod&tag.n=2") == "2"
    assert await names("tag.n=1&tag.n=2") == ""
    assert await names("tag.env=prod&tag.n=3&session=s%261") == "3"
    assert await names("feedback=-1") == "3"
    assert await names("feedback=-1,1") == "23"
    assert await names("feedback=0") == ""
    assert await names("since=1h") == "1234"
    assert await names("since=1h&until=1s") == "12"
    assert await names("until=1h") == ""
    assert await names("since=1h&until=99999999999") == "1234"
    rows = {row["stream_id"]: row for row in (await get(session, "/api/streams"))["streams"]}
    assert [rows[f"stream-{number}"]["score"] for number in (1, 2, 3, 4)] == [None, 1, -1, None]
    assert [rows["stream-2"][name] for name in ("prompt", "prompt_version", "session")] == ["greet, loudly", "2", "s&1"]
    assert (await get(session, "/api/streams/stream-2"))["feedback"]["score"] == 1
    live = (await get(session, "/api/streams/stream-3"))["feedback"]
    assert (live["score"], live["comment"], abs(live["at"] - now_unix()) < 60) == (-1, None, True)
    assert (await get(session, "/api/streams/stream-1"))["feedback"] is None
    assert (await get(session, "/api/streams/stream-4"))["feedback"] is None


def now_unix() -> float:
    return datetime.now(UTC).timestamp()


async def until_said(session: ClientSession, stream_id: str) -> None:
    async with asyncio.timeout(5):
        while (await get(session, f"/api/streams/{stream_id}"))["feedback"] is None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_pages_of_one_tag(serve: Serve, make_record: MakeRecord) -> None:
    """Paging through what a tag leads to gives every stream once, live ones too."""
    recorder, session = await serve()
    for number in range(1, 8):
        recorder.receive(Ended(number, make_record(number, tags={"env": "prod" if number % 2 else "test"})))
    for number in (9, 11):
        recorder.receive(Begun(make_record(number, ended_at=None, tags={"env": "prod"})))
    await stored(recorder, 7)
    for limit in (1, 2, 3, 100):
        found, cursor = [], ""
        while cursor is not None:
            page = await get(session, f"/api/streams?tag.env=prod&limit={limit}&cursor={cursor}")
            found += [row["stream_id"] for row in page["streams"]]
            cursor = page["next"]
        assert found == [f"stream-{number}" for number in (9, 11, 7, 5, 3, 1)]


async def test_the_size_of_the_store(serve: Serve, make_record: MakeRecord) -> None:
    """/healthz and /metrics say how large it is, how large it may be, and how far back it reaches."""
    recorder, session = await serve()
    store = (await get(session, "/healthz"))["store"]
    assert (store["oldest"], store["bytes"] > 0, store["max_bytes"]) == (None, True, 1 << 30)
    recorder.receive(Ended(1, make_record(1, received_unix=now_unix() - 1000)))
    await stored(recorder, 1)
    async with asyncio.timeout(5):
        while (store := (await get(session, "/healthz"))["store"])["oldest"] is None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert 998 < store["oldest"] < 1100
    async with session.get("/metrics") as response:
        samples = dict(line.split(" ") for line in (await response.text()).splitlines() if line.startswith("weir_store_"))
    assert float(samples["weir_store_bytes"]) >= store["bytes"] > 20_000
    assert 998 < float(samples["weir_store_oldest_seconds"]) < 1100


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=x",
        "limit=99999",
        "cursor=x",
        "since=never",
        "since=nan",
        "slow=x",
        "stalled=2",
        "wat=1",
        "feedback=2",
        "feedback=-1,x",
        "until=x",
        "&".join(f"tag.n={n}" for n in range(17)),
    ],
)
async def test_a_bad_query_is_told_so(query: str, serve: Serve) -> None:
    """400 with the reason, as JSON."""
    _, session = await serve()
    assert "error" in await get(session, f"/api/streams?{query}", 400)


async def test_one_stream(serve: Serve, make_record: MakeRecord) -> None:
    """The whole record with cadence, offsets and derived durations, whether it ended or not; infinity is null."""
    recorder, session = await serve()
    recorder.receive(Ended(1, make_record(1)))
    recorder.receive(Begun(make_record(2, ended_at=None)))
    await stored(recorder, 1)
    view = await get(session, "/api/streams/stream-1")
    assert view["cadence"]["gaps"] == [[0.02, 3], [None, 1]]
    assert view["derived"]["ttft"] == pytest.approx(0.3)
    assert view["derived"]["slow"] is True
    assert view["offsets"]["ended"] == pytest.approx(1)
    assert view["attempts"][0]["offsets"]["sent"] == pytest.approx(0.1)
    live = await get(session, "/api/streams/stream-2")
    assert live["ended_at"] is None
    assert live["outcome"] is None
    assert live["age"] >= 0
    assert "error" in await get(session, "/api/streams/nobody", 404)


async def test_a_stream_that_ends_is_never_gone(serve: Serve, make_record: MakeRecord) -> None:
    """Between its end and its row in the store a stream is waited for; without a store there is nothing to wait for."""
    recorder, session = await serve()
    for number in range(1, 4):
        recorder.receive(Ended(number, make_record(number)))
        assert (await get(session, f"/api/streams/stream-{number}"))["state"] == "ended"
    recorder.store = None
    recorder.receive(Ended(4, make_record(4)))
    assert "error" in await get(session, "/api/streams/stream-4", 404)


async def test_a_trace(serve: Serve, make_record: MakeRecord) -> None:
    """All streams of one trace, live and ended, with their totals."""
    recorder, session = await serve()
    for number in (1, 4):
        recorder.receive(Ended(number, make_record(number)))
    recorder.receive(Begun(make_record(7, ended_at=None)))
    await stored(recorder, 2)
    view = await get(session, f"/api/traces/{1:032x}")
    assert [row["stream_id"] for row in view["streams"]] == ["stream-1", "stream-4", "stream-7"]
    assert view["total"]["output_tokens"] == 15
    assert [row.get("strip") for row in view["streams"]] == [None, None, None]
    assert "error" in await get(session, "/api/traces/ff", 404)


async def test_a_step_of_a_trace_has_its_strip(serve: Serve, make_record: MakeRecord) -> None:
    """Its tokens by column, and when its request was sent."""
    recorder, session = await serve()
    recorder.receive(Ended(1, make_record(1, cadence=Cadence(chunks=3, arrivals=3, ticks=[0, 1000, 1000]))))
    await stored(recorder, 1)
    (step,) = (await get(session, f"/api/traces/{1:032x}"))["streams"]
    assert sum(step["strip"]["columns"]) == 3
    assert (step["sent"], step["strip"]["first"]) == (pytest.approx(0.1), pytest.approx(0.3))


async def test_a_sample(serve: Serve, make_record: MakeRecord) -> None:
    """The figures of what a query finds, whichever its filters; more than the limit are cut, and it says so."""
    recorder, session = await serve()
    for number in range(1, 5):
        recorder.receive(Ended(number, make_record(number, asked_model="tiny" if number % 2 else "large")))
    recorder.receive(Begun(make_record(9, ended_at=None)))
    await stored(recorder, 4)
    whole = await get(session, "/api/sample")
    assert (whole["streams"], whole["cut"], whole["gaps"]) == (4, False, [[0.02, 12], [None, 4]])
    assert (await get(session, "/api/sample?model=tiny"))["output_tokens"] == [5, 5]
    cut = await get(session, "/api/sample?limit=3")
    assert (cut["streams"], cut["cut"], cut["to"]) == (3, True, whole["to"])
    assert "error" in await get(session, "/api/sample?wat=1", 400)


async def test_links(serve: Serve) -> None:
    """What is configured, as it is written; nothing without."""
    recorder, session = await serve()
    assert await get(session, "/api/links") == {"links": {}}
    links = {"Jaeger": "http://127.0.0.1:16686/trace/{trace_id}"}
    admin = Config.model_validate({"admin": {"links": links}}).admin
    recorder.configure(recorder.config.model_copy(update={"admin": admin}))
    assert await get(session, "/api/links") == {"links": links}


async def test_when_the_configuration_was_taken_on(serve: Serve) -> None:
    """The page of routes says since when its configuration holds, and why a newer one does not."""
    recorder, session = await serve()
    recorder.configured_at -= 100
    recorder.reload_failed("routes.yaml:3:1: no")
    view = await get(session, "/api/routes")
    assert view["config_hash"] == recorder.config.hash
    assert view["configured"] >= 100
    assert view["reload_error"] == "routes.yaml:3:1: no"


async def test_routes(serve: Serve) -> None:
    """Targets with what each worker thinks of them, merged: mean score, summed streams, worst breaker."""
    recorder, session = await serve()
    now = time.monotonic()
    for slot, (score, breaker) in enumerate(((0.2, "closed"), (0.4, "open"))):
        state = TargetState("fast", "tiny", 0.1, score, 2, breaker, now, "status_500")
        recorder.receive(Pulse(slot + 1, now, 0, 0.0, 0.0, {}, [state]), slot)
    (route,) = (await get(session, "/api/routes"))["routes"]
    (seen,) = route["targets"][0]["seen"]
    assert (seen["score"], seen["in_flight"], seen["breaker"], seen["last_error"]) == (pytest.approx(0.3), 4, "open", "status_500")
    assert [worker["worker"] for worker in seen["workers"]] == [0, 1]


async def test_health(serve: Serve) -> None:
    """Workers with pid, age and streams; losses; the config's hash; degraded once a worker falls silent."""
    recorder, session = await serve(token="s3cret")
    recorder.receive(Hello(7), 0)
    recorder.receive(Pulse(7, time.monotonic(), 3, 0.001, 0.0, {"begun": 2}, []), 0)
    view = await get(session, "/healthz")
    assert view["status"] == "ok"
    assert view["workers"][0]["pid"] == 7
    assert view["workers"][0]["streams"] == 3
    assert view["config_hash"] == recorder.config.hash
    assert view["last_reload_error"] is None
    assert view["dropped"]["begun"] == 2
    assert view["recorder_lag"] >= 0
    recorder.reload_failed("routes.yaml:3:1: no")
    recorder.live.workers[0].heard_at -= 60
    view = await get(session, "/healthz")
    assert (view["status"], view["last_reload_error"]) == ("degraded", "routes.yaml:3:1: no")


async def test_metrics(serve: Serve, make_record: MakeRecord) -> None:
    """Text for a browser, OpenMetrics with exemplars for who asks for it."""
    recorder, session = await serve()
    recorder.receive(Ended(1, make_record(1)))
    async with session.get("/metrics") as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert "weir_streams_total{" in await response.text()
    async with session.get("/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"}) as response:
        text = await response.text()
    assert any(s.exemplar for family in text_string_to_metric_families(text) for s in family.samples)


async def test_the_index_and_what_is_not_there(serve: Serve) -> None:
    """`/api` says what there is; an unknown path or method is refused as JSON."""
    _, session = await serve()
    assert "/metrics" in (await get(session, "/api"))["paths"]
    assert "error" in await get(session, "/nowhere", 404)
    async with session.post("/api/streams") as response:
        assert response.status == 405
        assert "error" in await response.json()


async def test_a_token_is_asked_for(serve: Serve) -> None:
    """With a token set, every fact but /healthz needs it, the pages that ask for it do not, and any Host will do."""
    _, session = await serve(token="s3cret")
    for path in ("/api", "/metrics", "/api/streams", "/api/routes", "/nowhere"):
        async with session.get(path) as response:
            assert response.status == 401
            assert response.headers["WWW-Authenticate"] == "Bearer"
        async with session.get(path, headers={"Authorization": "Bearer s3crets"}) as response:
            assert response.status == 401
    for path in ("/", "/streams/a-stream", "/static/app.js"):
        async with session.get(path) as response:
            assert response.status == 200
    await get(session, "/healthz")
    await get(session, "/api/routes", Authorization="Bearer s3cret", Host="weir.example")
    await get(session, "/api/routes", 401, Authorization="Bearer s3cr\u00e9t")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8081", "[::1]:8081", "LOCALHOST"])
async def test_this_machines_names_are_served(host: str, serve: Serve) -> None:
    """Without a token the loopback's own names are let in, at any port."""
    _, session = await serve()
    await get(session, "/api/routes", Host=host)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8081", "evil@evil", "[::1", ""])
async def test_a_rebound_name_is_refused(host: str, serve: Serve) -> None:
    """A page elsewhere that rebinds its name to this machine cannot read: its Host gives it away."""
    _, session = await serve()
    async with session.get("/api/routes", headers={"Host": host}) as response:
        assert response.status in (400, 403)


JSON = {"Content-Type": "application/json"}


async def test_a_change_must_be_asked_for_as_json(serve: Serve) -> None:
    """Whatever a form on another page can send is refused before it does anything; with a token, so is who has none."""
    _, session = await serve()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonp"):
        for path in ("/api/reload", "/api/streams/x/abort"):
            async with session.post(path, data=b"{}", headers={"Content-Type": kind}) as response:
                assert (response.status, "application/json" in (await response.json())["error"]) == (415, True)
    async with session.options("/api/reload", headers={"Origin": "https://evil.example"}) as response:
        assert response.status == 405
        assert "Access-Control-Allow-Origin" not in response.headers
    _, session = await serve("sesame")
    async with session.post("/api/reload", headers=JSON) as response:
        assert response.status == 401


async def test_nobody_to_ask(serve: Serve) -> None:
    """A recorder without a supervisor can reload nothing, and a stream that does not live can be ended by nobody."""
    _, session = await serve()
    async with session.post("/api/reload", headers=JSON) as response:
        assert response.status == 409
    async with session.post("/api/streams/nobody/abort", headers=JSON) as response:
        assert response.status == 404


async def test_a_new_token_holds_at_once(serve: Serve, make_config: Any) -> None:
    """After a reload the old token opens nothing any more."""
    recorder, session = await serve("old")
    recorder.configure(make_config("new"))
    for token, status in (("old", 401), ("new", 200)):
        async with session.get("/api/routes", headers={"Authorization": f"Bearer {token}"}) as response:
            assert response.status == status


async def test_health_tells_what_each_worker_runs(serve: Serve) -> None:
    """A worker that goes on with another configuration some seconds after a reload makes it degraded."""
    recorder, session = await serve()
    recorder.receive(Hello(7))
    recorder.receive(Pulse(7, time.monotonic(), 0, 0.0, 0.0, {}, [], "0123456789ab", "retiring"))
    health = await get(session, "/healthz")
    assert health["status"] == "ok"
    assert [(worker["config_hash"], worker["state"]) for worker in health["workers"]] == [("0123456789ab", "retiring")]
    recorder.configured_at -= TAKEN_ON_WITHIN
    assert (await get(session, "/healthz"))["status"] == "degraded"
