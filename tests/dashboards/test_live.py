"""Every query of every dashboard and every rule, asked of a real Prometheus that scrapes the real program in trouble."""

import asyncio
import contextlib
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import orjson
import pytest
import yaml
from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

from dashboards.promql import metrics, selectors
from gateway.sim.faults import ByModel, ErrorEvent, Every, FirstOf, GarbageFrame, HugeEvent, SlowFirstToken, Stall, Status, Truncate
from gateway.sim.load import Aborts, Load, traffic
from gateway.sim.tempers import Temper
from tests.dashboards.conftest import SOUND

Fixture = Callable[..., Any]
FOLDER = Path(__file__).parents[2] / "dashboards"
PATIENCE = 60.0
VARIABLES = {"$__rate_interval": "15s", "$__range": "1m", "$job": ".*", "$route": ".*", "$upstream": ".*", "$model": ".*", "$tenant": ".*"}
"""What Grafana puts for its variables when everything is chosen."""
QUICK = Temper(ttft="20ms", gap="5ms", tokens=30)
EAST = FirstOf(
    (
        ByModel({"late": SlowFirstToken(delay=1.0), "big": HugeEvent(size=8 << 20), "cut": Truncate(after=8)}),
        Every(5, Stall(after=3, length=0.8)),
        Every(7, Truncate()),
        Every(11, ErrorEvent()),
        Every(13, SlowFirstToken(delay=1.0)),
        Every(17, GarbageFrame()),
    )
)


class Asked(Struct):
    """One query as Grafana sends it, where it stands, and the legend of its series."""

    place: str
    expression: str
    legend: str


def panel_queries() -> Iterator[Asked]:
    """Yield the query of every target and of every variable."""
    for page in sorted(FOLDER.glob("*.json")):
        board = json.loads(page.read_text())
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                legend = "" if target["legendFormat"] == "__auto" else target["legendFormat"]
                yield Asked(f"{page.name}: {panel['title']}", substituted(target["expr"]), legend)
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                series, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"]).groups()  # type: ignore[union-attr]
                yield Asked(f"{page.name}: ${variable['name']}", substituted(f"group by ({label}) ({series})"), f"{{{{{label}}}}}")


def substituted(expression: str) -> str:
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    assert "$" not in expression
    return expression


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]


def rule_selectors() -> Iterator[Asked]:
    """Yield what the rules read, each selector once, without what they do with it: an alert has no series on a good day."""
    for text in sorted({text for rule in rules() for _, _, text in selectors(rule["expr"])}):
        yield Asked("alerts.yaml", f"last_over_time({text}[1m])", "")


def configuration(**providers: Any) -> dict[str, Any]:
    """Routes that fall back, hedge, resume, have a broken first target, large answers, and voice."""
    chat = {"first_token": {"timeout": "400ms"}, "stall": {"threshold": "300ms"}, "slo": {"ttft": "250ms"}, "policy": "priority"}

    def route(name: str, *targets: str, **parts: Any) -> dict[str, Any]:
        ranked = [{"upstream": target, "priority": rank} for rank, target in enumerate(targets)]
        return {"name": name, "match": {"models": [parts.pop("model")]}, "targets": ranked, **chat, **parts}

    hedge = {"timeout": "50ms", "on_slow": "hedge", "hedge_limit": "100%"}
    return {
        "version": 1,
        "server": {"port": 0, "drain": "1s"},
        "admin": {"port": 0},
        "upstreams": {name: {"base_url": provider.base_url} for name, provider in providers.items()},
        "routes": [
            route("chat", "east", "west", model="gpt-4o-mini", retry={"budget": "100%"}),
            route("hedged", "east", "west", model="late", first_token=hedge),
            route("spare", "down", "west", model="spare", breaker={"failures": 3, "open": "60s"}),
            route("large", "east", model="big"),
            route("resumed", "east", "west", model="cut", mid_stream="resume"),
            route("voice", "speaker", model="voice"),
        ],
        "telemetry": {"store": {"path": "weir.db"}, "access_log": "off"},
    }


@contextlib.asynccontextmanager
async def callers(host: str, port: int) -> AsyncIterator[None]:
    """Clients of every kind: some leave, some repeat, some read slowly, some ask for no usage or for a model nobody serves."""
    on: dict[str, Any] = {"host": host, "port": port, "streams": 20}
    loads = [
        Load(model="gpt-4o-mini", rate=10, aborts=Aborts(share=0.1, points=("token",)), **on),
        Load(model="gpt-4o-mini", rate=2, headers={"x-stainless-retry-count": "1"}, **on),
        Load(model="gpt-4o-mini", rate=2, include_usage=False, body={"stream_options": {"include_usage": False}}, **on),
        Load(model="gpt-4o-mini", rate=2, include_usage=False, **on),
        Load(model="late", rate=2, **on),
        Load(model="spare", rate=4, **on),
        Load(model="cut", rate=2, **on),
        Load(model="nobody-serves-this", rate=1, **on),
        Load(model="big", rate=0.2, read_rate=400_000, **on),
    ]
    loop, url = asyncio.get_running_loop(), f"http://{host}:{port}/v1"
    tasks = [
        *(loop.create_task(traffic(load)) for load in loads),
        *map(loop.create_task, (talk(f"{url}/realtime?model=voice"), come_back(url))),
    ]
    try:
        yield
        assert not [task for task in tasks if task.done()], "a load ended by itself"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def talk(url: str) -> None:
    """Hold one short realtime session after the other; one that a worker's death ends is followed by another."""
    async with aiohttp.ClientSession() as session:
        while True:
            with contextlib.suppress(aiohttp.ClientError, ConnectionError, TypeError):  # TypeError: it was closed instead of answered
                async with session.ws_connect(url) as ws:
                    await ws.send_json({"type": "input_audio_buffer.append", "audio": SOUND})
                    await ws.send_json({"type": "response.create"})
                    while (await ws.receive_json(timeout=10))["type"] != "response.done":
                        pass
            await asyncio.sleep(0.2)


async def come_back(url: str) -> None:
    """Leave a stream after its first bytes and come back for the rest, over and over."""
    asked = {"model": "gpt-4o-mini", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
    async with aiohttp.ClientSession() as session:
        while True:
            with contextlib.suppress(aiohttp.ClientError, ConnectionError):
                async with session.post(f"{url}/chat/completions", json=asked, headers={"x-weir-on-disconnect": "drain"}) as left:
                    await left.content.readany()
                    left.close()
                async with session.get(f"{url}/streams/{left.headers['x-weir-stream-id']}") as rest:
                    await rest.read()
            await asyncio.sleep(0.2)


async def stopped_and_killed(gateway: Any, eventually: Fixture) -> None:
    """Let the worker stand still for a second, which is our fault, and then kill it under its streams, which is too."""
    [worker] = await gateway.workers()

    async def spoken() -> bool:
        return bool((await gateway.scrape()).sum("weir_ttft_seconds_count") > 20)

    async def blamed() -> bool:
        os.kill(worker, signal.SIGSTOP)
        await asyncio.sleep(1.0)
        os.kill(worker, signal.SIGCONT)
        await asyncio.sleep(0.5)
        return bool((await gateway.scrape()).sum("weir_stalls_total", blame="gateway") > 0)

    await eventually(spoken, "streams flow")
    await eventually(blamed, "a stall is laid on the gateway")
    os.kill(worker, signal.SIGKILL)

    async def another() -> bool:
        scrape = await gateway.scrape()
        return worker not in await gateway.workers() and scrape.sum("weir_streams_total", outcome="gateway_error") > 0

    await eventually(another, "another worker serves, and the streams of the first are told as gateway_error")


async def test_every_query_has_something_to_show(
    weir: Fixture, provide: Fixture, speaker: Any, prometheus: Fixture, eventually: Fixture, tmp_path: Path
) -> None:
    """No panel says "No data", no legend an empty name, no rule fails or reads a series that cannot be, exemplars lead to traces (G2)."""
    east = await provide(temper=QUICK, faults=EAST, seed=1)
    west, down = await provide(temper=QUICK, seed=2), await provide(faults=ByModel({"*": Status(503)}))
    (tmp_path / "routes.yaml").write_bytes(orjson.dumps(configuration(east=east, west=west, down=down, speaker=speaker)))
    gateway = await weir(command=["serve", "-c", str(tmp_path / "routes.yaml")])
    server = await prometheus(gateway.admin_url.removeprefix("http://"))
    async with callers(*gateway.address):
        await stopped_and_killed(gateway, eventually)

        left = [*panel_queries(), *rule_selectors()]

        async def all_there() -> bool:
            left[:] = [asked for asked in left if not await shows(server, asked)]
            return not left

        with contextlib.suppress(pytest.fail.Exception):
            await eventually(all_there, "every query has data", PATIENCE)
        assert [f"{asked.place}: {asked.expression}" for asked in left] == []
        await nothing_wrong(server)
        await every_metric_exists(gateway.admin_url)


async def shows(server: Any, asked: Asked) -> bool:
    """Say whether a query has series now, and all of them the labels that its legend names."""
    found = await server.query(asked.expression)
    named = set(re.findall(r"{{(\w+)}}", asked.legend))
    return bool(found) and all(named <= set(series["metric"]) for series in found)


async def nothing_wrong(server: Any) -> None:
    """Every rule is evaluated without an error, and exemplars of first tokens name traces."""
    told = [rule for group in (await server.ask("rules"))["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in told} == {rule.get("record") or rule["alert"] for rule in rules()}
    assert [(rule["name"], rule.get("lastError")) for rule in told if rule["health"] != "ok"] == []
    [series, *_] = await server.ask("query_exemplars", query="weir_ttft_seconds_bucket", start="0", end="9999999999")
    assert re.fullmatch("[0-9a-f]{32}", series["exemplars"][0]["labels"]["trace_id"])


async def every_metric_exists(admin_url: str) -> None:
    """Whatever PromQL names is on /metrics."""
    async with httpx.AsyncClient(trust_env=False) as client:
        families = text_string_to_metric_families((await client.get(f"{admin_url}/metrics")).text)
    shown = {sample.name for family in families for sample in family.samples}
    expressions = [*(asked.expression for asked in panel_queries()), *(rule["expr"] for rule in rules())]
    assert {name for text in expressions for name in metrics(text) if ":" not in name} - shown == set()
