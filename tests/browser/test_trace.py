"""The page of a trace: its steps nested on one axis, the one that kept the user waiting, and the sums."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from playwright.async_api import Page, expect

from gateway.sim.faults import ByModel, SlowFirstToken
from gateway.sim.tempers import Temper
from tests.browser.conftest import Visit
from tests.stories.conftest import Client, Weir, eventually

pytestmark = pytest.mark.browser
Start = Callable[..., Awaitable[Any]]
Clients = Callable[[Weir], Client]
TRACE, ROOT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


async def step(weir: Weir, client: Clients, parent: str, model: str = "m") -> Any:
    """Ask for one step of the trace below a span; returns its record."""
    answer = await client(weir).ask(model, traceparent=f"00-{TRACE}-{parent}-01")

    async def stored() -> Any:
        record = await weir.ask(f"/api/streams/{answer.headers['x-weir-stream-id']}")
        return record if record.get("state") == "ended" else None

    return await eventually(stored, "the step is stored")


@pytest.fixture
async def agent(weir: Start, provide: Start) -> Weir:
    """A gateway whose model `slow` thinks for seconds before it speaks."""
    faults = ByModel({"slow": SlowFirstToken(delay=4.0)})
    started: Weir = await weir({"a": await provide(temper=Temper(ttft="20ms", gap="10ms", tokens=20), faults=faults, models=("m", "slow"))})
    return started


async def test_the_steps_of_a_trace(agent: Weir, client: Clients, visit: Visit) -> None:
    """Steps stand below their parent on one axis, each with its strip; the slow one is named; sums are the API's."""
    plan = await step(agent, client, ROOT)
    search, slow = await asyncio.gather(step(agent, client, plan["span_id"]), step(agent, client, plan["span_id"], "slow"))
    answer = await step(agent, client, ROOT)
    page: Page = await visit(agent, f"/traces/{TRACE}")
    steps = page.locator(".step")
    await expect(steps).to_have_count(4)
    told = [(await each.get_attribute("data-stream"), await each.get_attribute("data-depth")) for each in await steps.all()]
    assert set(told) == {(each["stream_id"], depth) for each, depth in ((plan, "0"), (search, "1"), (slow, "1"), (answer, "0"))}
    assert [depth for _, depth in told] == ["0", "1", "1", "0"]
    await expect(page.locator(".step.most")).to_have_attribute("data-stream", slow["stream_id"])
    await expect(page.locator(".verdict")).to_contain_text("(slow at a) kept the user waiting longest")
    told_by_api = await agent.ask(f"/api/traces/{TRACE}")
    spoken = {each["stream_id"]: sum(map(bool, each["strip"]["columns"])) for each in told_by_api["streams"]}
    for each in await steps.all():
        drawn = await each.locator(".bars path.answer").get_attribute("d") or ""
        assert drawn.count("M") == spoken.pop(await each.get_attribute("data-stream")) > 0
    assert spoken == {}
    await expect(page.locator(".totals")).to_contain_text(f"tokens out{told_by_api['total']['output_tokens']}")
    await page.locator(".step.most a").click()
    await expect(page).to_have_url(f"{agent.admin_url}/streams/{slow['stream_id']}")


async def test_time_between_steps_is_nobodys(agent: Weir, client: Clients, visit: Visit) -> None:
    """When the agent itself was busy between two steps, no step is blamed for it."""
    await step(agent, client, ROOT)
    await asyncio.sleep(1.0)  # the agent works
    await step(agent, client, ROOT)
    page: Page = await visit(agent, f"/traces/{TRACE}")
    await expect(page.locator(".verdict")).to_contain_text("nothing was asked of any model")


async def test_spans_that_name_each_other(agent: Weir, visit: Visit) -> None:
    """A circle of parents loses no step; a step that ran beside a longer one, and was not waited for, is not blamed."""
    page: Page = await visit(agent, "/")
    reckon = """async (streams) => {
      const trace = await import("/static/trace.js");
      const { step, waited, idle } = trace.longest(streams, 0);
      return [trace.nested(streams).map(({ step }) => step.span_id).sort(), step.span_id, waited, idle];
    }"""
    streams = [
        {"span_id": "x", "parent_id": "y", "received": 0, "duration": 4},
        {"span_id": "y", "parent_id": "x", "received": 1, "duration": 2.5},
        {"span_id": "z", "parent_id": "z", "received": 7, "duration": 1},
    ]
    assert await page.evaluate(reckon, streams) == [["x", "y", "z"], "x", 4, 3]
    times = {"p": (0, 1), "q": (1, 7), "r": (5, 6), "s": (7, 8)}
    beside = [{"span_id": name, "received": start, "duration": end - start} for name, (start, end) in times.items()]
    assert (await page.evaluate(reckon, beside))[1:] == ["q", 6, 0]
    spoke = {"p": (0, 55, 1.0, 0.5), "q": (55, 59, 3.5, 0.0)}
    talkative = [
        {"span_id": name, "received": start, "duration": end - start, "ttft": ttft, "stall_seconds": stalled}
        for name, (start, end, ttft, stalled) in spoke.items()
    ]
    assert (await page.evaluate(reckon, talkative))[1:] == ["q", 3.5, 0]  # who speaks for a minute keeps nobody waiting


async def test_a_trace_nobody_knows(agent: Weir, visit: Visit) -> None:
    """It is said that there is none."""
    page: Page = await visit(agent, "/traces/ff", forgive=("404",))
    await expect(page.locator("main [role=alert]")).to_contain_text("no stream of this trace")
