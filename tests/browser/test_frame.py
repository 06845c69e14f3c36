"""What every page of the console has: its address, its name, a way to every other page by the keyboard, and a policy it keeps to."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import STEADY, Visit, Watcher
from tests.browser.picture import seen
from tests.stories.conftest import Weir, eventually

pytestmark = pytest.mark.browser
Ask = Callable[..., "asyncio.Task[Any]"]
Start = Callable[..., Awaitable[Any]]

PAGES = {"/": "Live", "/streams": "Streams", "/routes": "Routes", "/compare": "Compare"}
TOKEN = "a-token-of-the-operator"
ROW = "table.live tbody tr"


@pytest.mark.parametrize("path", PAGES)
async def test_every_page_opens_without_a_complaint(running: Weir, visit: Visit, path: str) -> None:
    """A page that is opened by its address shows its heading, marks its place among the pages, and complains of nothing."""
    page: Page = await visit(running, path)
    await expect(page.locator("nav a[aria-current=page]")).to_have_text(PAGES[path])
    await expect(page.locator("main h1").first).to_have_text(PAGES[path])


async def test_every_page_is_reached_by_the_keyboard(running: Weir, visit: Visit) -> None:
    """Tab and Enter lead from any page to every other, the way into the content comes first, and a page that has come has the
    focus on its heading."""
    page: Page = await visit(running)
    await expect(page.locator("main h1")).to_have_text("Live")
    await page.keyboard.press("Tab")
    await expect(page.locator(":focus")).to_have_text("Skip to content")
    for name, key in (("Streams", "Tab"), ("Routes", "Shift+Tab"), ("Compare", "Shift+Tab"), ("Live", "Shift+Tab")):
        for _ in range(8):
            if await page.locator(":focus").inner_text() == name:
                break
            await page.keyboard.press(key)
        await expect(page.locator(":focus")).to_have_text(name)
        assert await page.locator(":focus").evaluate("link => getComputedStyle(link).outlineStyle") == "solid"
        await page.keyboard.press("Enter")
        await expect(page.locator("main h1").first).to_have_text(name)
        await expect(page).to_have_title(f"{name} · Weir")
        await expect(page.locator("main h1").first).to_be_focused()


async def test_rows_are_walked_and_opened_by_keys(running: Weir, visit: Visit, ask: Ask) -> None:
    """j and k go down and up the rows, Enter opens the stream, / goes to the filter; a row that has the focus stays where it is."""
    for _ in range(3):
        ask(running)
    page: Page = await visit(running)
    rows = page.locator(ROW)
    await expect(rows).to_have_count(3)
    await page.keyboard.press("/")
    await expect(page.get_by_label("route")).to_be_focused()
    await page.keyboard.press("Tab")
    await page.keyboard.press("j")
    await page.keyboard.press("j")
    await expect(rows.nth(1)).to_be_focused()
    await page.keyboard.press("k")
    await expect(rows.nth(0)).to_be_focused()
    stream_id = await rows.nth(0).get_attribute("data-id")
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(f"{running.admin_url}/streams/{stream_id}")


async def test_nothing_but_our_own_files_can_run(running: Weir, visit: Visit, watchers: list[Watcher]) -> None:
    """The policy of every page lets no inline script run, and what tries is seen by these tests."""
    page: Page = await visit(running, forgive=("policy:", "Content Security Policy"))
    reply = await page.request.get("/streams")
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    await page.evaluate("const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.head.append(s)")
    await eventually(lambda: any("policy: script-src" in said for said in watchers[0].complaints), "the breach is told")
    assert await page.evaluate("window.ran") is None


async def test_a_token_is_asked_for_once(weir: Start, provide: Start, visit: Visit, ask: Ask) -> None:
    """Where the admin API wants a token the page asks for it, again after a wrong one, and keeps it for this tab."""
    one = await weir({"steady": await provide(temper=STEADY)}, admin={"token": TOKEN})
    ask(one)
    page: Page = await visit(one, forgive=("401",))
    await page.get_by_label("Admin token").fill("wrong")
    await page.keyboard.press("Enter")
    await expect(page.locator("dialog [role=alert]")).to_have_text("That token was refused.")
    await expect(page.get_by_label("Admin token")).to_have_value("")
    await page.get_by_label("Admin token").fill(TOKEN)
    await page.keyboard.press("Enter")
    await expect(page.locator(f"{ROW} .badge")).to_have_text("streaming")
    assert TOKEN not in page.url
    await page.reload()
    await expect(page.locator(f"{ROW} .badge")).to_have_text("streaming")
    await expect(page.locator("dialog")).to_have_count(0)


async def test_a_token_may_take_its_time(weir: Start, provide: Start, visit: Visit) -> None:
    """A token that is typed more slowly than an answer may come is as good as any."""
    one = await weir({"steady": await provide()}, admin={"token": TOKEN})
    page: Page = await visit(one, forgive=("401",))
    await expect(page.get_by_label("Admin token")).to_be_visible()
    await page.wait_for_timeout(5500)  # longer than the recorder may take for an answer
    await page.get_by_label("Admin token").fill(TOKEN)
    await page.keyboard.press("Enter")
    await expect(page.locator(".empty pre")).to_be_visible()


async def test_the_page_outlives_the_recorder(running: Weir, visit: Visit, ask: Ask) -> None:
    """When the recorder dies the health line says so, and with its successor the running streams are back without a hand."""
    ask(running)
    page: Page = await visit(running, forgive=("ERR_", "Failed to load"))
    await expect(page.locator("#health")).to_contain_text("1 worker")
    await expect(page.locator(f"{ROW} .badge")).to_have_text("streaming")
    old = (await running.ask("/healthz"))["pid"]
    os.kill(old, signal.SIGKILL)

    async def another() -> bool:
        return (await running.ask("/healthz")).get("pid") not in (None, old)

    await eventually(another, "the recorder is back")
    await expect(page.locator("#health")).to_contain_text("1 worker")
    before = (await seen(page.locator(ROW), "flow"))["count"]

    async def moves() -> bool:
        return await page.locator(ROW).count() == 1 and (await seen(page.locator(ROW), "flow"))["count"] > before + 100

    await eventually(moves, "the strip goes on")


async def test_a_recorder_that_stands_still_is_not_taken_for_silence(running: Weir, visit: Visit, ask: Ask) -> None:
    """When nothing is heard the page says so and greys its rows, and both pass once something is heard again."""
    ask(running)
    page: Page = await visit(running, forgive=("ERR_", "Failed to load"))
    await expect(page.locator(f"{ROW} .badge")).to_have_text("streaming")
    recorder = (await running.ask("/healthz"))["pid"]
    os.kill(recorder, signal.SIGSTOP)
    try:
        await expect(page.locator(".bar .note")).to_contain_text("nothing heard for")
        await expect(page.locator(".live-scroll.deaf")).to_have_count(1)
        await expect(page.locator("#health")).to_contain_text("does not answer")
    finally:
        os.kill(recorder, signal.SIGCONT)
    await expect(page.locator(".bar .note")).to_have_text("")
    await expect(page.locator(".live-scroll.deaf")).to_have_count(0)


async def test_whoever_wants_no_motion_sees_none(running: Weir, visit: Visit, ask: Ask) -> None:
    """With reduced motion a strip does not scroll: its first token stays in its place while others are added."""
    page: Page = await visit(running, reduced_motion="reduce")
    ask(running)
    row = page.locator(ROW)

    async def some() -> dict[str, int]:
        found = await seen(row, "flow")
        return found if found["count"] > 100 else {}

    before = await eventually(some, "tokens are drawn")

    async def more() -> dict[str, int]:
        found = await seen(row, "flow")
        return found if found["count"] > before["count"] + 200 else {}

    after = await eventually(more, "more tokens are drawn")
    assert after["first"] == before["first"]


@pytest.mark.parametrize("path", PAGES)
async def test_a_phone_is_wide_enough(running: Weir, visit: Visit, ask: Ask, path: str) -> None:
    """On a phone no page is wider than its window."""
    ask(running)
    page: Page = await visit(running, path, viewport={"width": 390, "height": 800})
    await expect(page.locator("main h1").first).to_have_text(PAGES[path])
    if path == "/":
        await expect(page.locator(f"{ROW} .badge")).to_have_text("streaming")
    assert await page.evaluate("document.documentElement.scrollWidth") <= 390


async def test_light_and_dark_are_the_systems_choice(running: Weir, visit: Visit) -> None:
    """The ground is dark unless the system wants it light."""
    grounds = []
    for scheme in ("dark", "light"):
        page: Page = await visit(running, color_scheme=scheme)
        told = await page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        grounds.append(sum(int(part) for part in told.removeprefix("rgb(").removesuffix(")").split(",")))
    assert grounds[0] < 150
    assert grounds[1] > 600
