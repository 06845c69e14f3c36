"""The Live page with more streams than anybody can look at: a fair share of them is shown, it says so, and every stall is there."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from playwright.async_api import Page, expect

from gateway.sim.faults import Every, Stall
from gateway.sim.load import Load, traffic
from gateway.sim.tempers import Temper
from tests.browser.conftest import Visit
from tests.browser.picture import image
from tests.stories.conftest import eventually

pytestmark = pytest.mark.browser
Start = Callable[..., Awaitable[Any]]

MANY = 560


async def test_of_too_many_streams_half_are_shown_and_every_stall(weir: Start, provide: Start, visit: Visit) -> None:
    """Above 500 the page says which share it shows, still draws, and rows of stalled streams come on top of the share."""
    temper = Temper(ttft="100ms", gap="400ms", tokens=400)
    provider = await provide(temper=temper, faults=Every(40, Stall(after=3, length=300.0)))
    # A slow machine makes no stall of its own, and sees every one of the provider's.
    patient = {"stall": {"threshold": "5s", "liveness": "300s", "progress": "300s"}}
    one = await weir({"steady": provider}, route=patient, upstreams={"steady": {"base_url": provider.base_url, "max_streams": 2 * MANY}})
    host, port = one.address
    crowd = asyncio.get_running_loop().create_task(traffic(Load(host=host, port=port, streams=MANY)))
    try:
        page: Page = await visit(one)
        await expect(page.locator(".bar .note")).to_contain_text("one stream in 2 is shown, and every stall")
        await expect(page.locator(".bar h2")).to_contain_text(f"{MANY} active")
        stalled = page.locator("table.live tbody tr .badge.by-upstream")
        await expect(stalled).to_have_count(MANY // 40)
        rows = page.locator("table.live tbody tr")

        async def many() -> bool:
            return await rows.count() > MANY // 3

        await eventually(many, "a fair share is shown")
        top = rows.first
        before = await image(top)

        async def moves() -> bool:
            return await image(top) != before

        await eventually(moves, "strips move")
        assert await rows.count() < MANY * 0.66
        await expect(page.locator("p[role=status]")).to_contain_text(f"{MANY // 40} streams are stalled")
    finally:
        crowd.cancel()
        await asyncio.gather(crowd, return_exceptions=True)
