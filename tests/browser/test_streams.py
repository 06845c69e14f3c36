"""The page of the history: filters that live in the address, an order, a plot to drag a box in, keys, and what it says when it is empty."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from playwright.async_api import Page, expect

from gateway.sim.faults import Every, Truncate
from gateway.sim.tempers import Temper
from tests.browser.conftest import Visit
from tests.stories.conftest import Client, Weir, eventually

pytestmark = pytest.mark.browser
Start = Callable[..., Awaitable[Any]]
Clients = Callable[[Weir], Client]
ROW = "table.streams tbody tr[tabindex]"


@pytest.fixture
async def history(weir: Start, provide: Start, client: Clients) -> Weir:
    """A gateway that has served 12 streams: half by a quick provider, half by a slow one that breaks every second off; one has a tag."""
    quick = await provide(temper=Temper(ttft="10ms", gap="1ms", tokens=4))
    slow = await provide(temper=Temper(ttft="120ms", gap="1ms", tokens=8), faults=Every(2, Truncate(after=3)))
    one: Weir = await weir({"quick": quick, "slow": slow}, route={"policy": "round-robin"})
    await client(one).many(11, 2)
    await client(one).ask(
        **{"x-weir-tag-team": "blue", "x-weir-session-id": "s-7", "x-weir-prompt-name": "plan", "x-weir-prompt-version": "3"}
    )
    await one.told(12)
    return one


async def column(page: Page, key: str) -> list[str]:
    return [await cell.inner_text() for cell in await page.locator(f"{ROW} td.c-{key}").all()]


async def test_filters_live_in_the_address(history: Weir, visit: Visit) -> None:
    """A filter that is chosen narrows the table and goes into the address; the address opened anew shows the same."""
    page: Page = await visit(history, "/streams")
    await expect(page.locator(ROW)).to_have_count(12)
    await page.get_by_label("upstream", exact=True).select_option("slow")
    await expect(page.locator(ROW)).to_have_count(6)
    await page.get_by_label("outcome", exact=True).select_option("upstream_truncated")
    await expect(page.locator(ROW)).to_have_count(3)
    await expect(page).to_have_url(re.compile(r"/streams\?upstream=slow&outcome=upstream_truncated$"))
    again: Page = await visit(history, page.url.removeprefix(history.admin_url))
    await expect(again.locator(ROW)).to_have_count(3)
    await expect(again.get_by_label("upstream", exact=True)).to_have_value("slow")
    await page.go_back()
    await expect(page.locator(ROW)).to_have_count(6)


async def test_the_order_is_in_the_address_too(history: Weir, visit: Visit) -> None:
    """A click on a head sorts, a second the other way; a sorted view opened by its address is sorted, what is unknown last."""
    page: Page = await visit(history, "/streams?sort=-ttft")
    await expect(page.locator(ROW)).to_have_count(12)
    rows = {row["stream_id"]: row["ttft"] for row in await history.streams()}

    async def shown() -> list[float | None]:
        names = [await each.get_attribute("title") for each in await page.locator(f"{ROW} button.id").all()]
        return [rows[str(name).split(":")[0]] for name in names]

    assert await shown() == sorted(rows.values(), reverse=True)
    await expect(page.locator("th", has_text="TTFT")).to_have_attribute("aria-sort", "descending")
    await page.locator("th", has_text="TTFT").get_by_role("button").click()
    await expect(page).to_have_url(re.compile("sort=ttft$"))
    assert await shown() == sorted(rows.values())


async def test_what_is_shown_can_be_searched(history: Weir, visit: Visit) -> None:
    """The slash goes to the search; it narrows what is shown without asking anew, tags included."""
    page: Page = await visit(history, "/streams")
    await expect(page.locator(ROW)).to_have_count(12)
    await page.keyboard.press("/")
    await page.keyboard.type("blue")
    await expect(page.locator(ROW)).to_have_count(1)
    await expect(page.locator(ROW)).to_contain_text("team=blue")
    await expect(page.locator(ROW)).to_contain_text("plan @ 3")
    await page.get_by_role("searchbox").fill("null")  # a field that holds nothing is no find
    await expect(page.locator(ROW)).to_have_count(0)
    await page.get_by_role("searchbox").fill("upstream truncated")
    await expect(page.locator(ROW)).to_have_count(3)


async def test_the_head_stays_in_sight(history: Weir, visit: Visit) -> None:
    """However far a long list is scrolled, the names of its columns are at the top, below the frame's own head."""
    page: Page = await visit(history, "/streams", viewport={"width": 1400, "height": 500})
    await expect(page.locator(ROW)).to_have_count(12)
    await page.locator(ROW).last.scroll_into_view_if_needed()
    head, frame = await page.locator("table.streams th").first.bounding_box(), await page.locator("header").bounding_box()
    assert head is not None
    assert frame is not None
    assert head["y"] == pytest.approx(frame["y"] + frame["height"], abs=6)


async def test_keys_move_and_open(history: Weir, visit: Visit) -> None:
    """j and k walk the rows, enter opens the one in focus."""
    page: Page = await visit(history, "/streams")
    await expect(page.locator(ROW)).to_have_count(12)
    for key in "jjk":
        await page.keyboard.press(key)
    await expect(page.locator(ROW).first).to_be_focused()
    await page.keyboard.press("j")
    name = await page.locator(ROW).nth(1).locator("button.id").get_attribute("title") or ""
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(f"{history.admin_url}/streams/{name.split(':')[0]}")


async def test_what_is_typed_is_asked_for(history: Weir, visit: Visit) -> None:
    """Tags, sessions, prompts and a least time to first token are asked of the whole history; each is a pill that takes itself away."""
    page: Page = await visit(history, "/streams")
    await expect(page.locator(ROW)).to_have_count(12)
    await page.get_by_role("button", name="team=blue").click()
    await expect(page).to_have_url(re.compile(r"tag\.team=blue"))
    await expect(page.locator(ROW)).to_have_count(1)
    await page.locator(".pills .pill").click()
    await expect(page.locator(ROW)).to_have_count(12)
    await page.locator(".more summary").click()
    for name, value in {"prompt": "plan", "prompt_version": "3", "session": "s-7"}.items():
        await page.locator(f".more [name={name}]").fill(value)
    await page.get_by_role("button", name="Filter").click()
    await expect(page.locator(ROW)).to_have_count(1)
    await expect(page.locator(".pills .pill")).to_have_count(3)
    await page.get_by_role("link", name="take all away").click()
    await expect(page.locator(ROW)).to_have_count(12)


FIND_POINTS = """() => {
  const over = document.querySelector(".u-over"), tip = document.querySelector(".tip"), box = over.getBoundingClientRect();
  const found = [];
  for (let y = box.top + 2; y < box.bottom; y += 4)
    for (let x = box.left + 2; x < box.right; x += 4) {
      over.dispatchEvent(new MouseEvent("mousemove", { clientX: x, clientY: y }));
      if (!tip.hidden) found.push([x, y]);
    }
  over.dispatchEvent(new MouseEvent("mouseleave"));
  return found;
}"""
"""Where on the plot points are, wherever their times have put them, from top to bottom; the pointer itself has not been there yet."""


async def test_a_box_in_the_plot_is_a_filter(history: Weir, visit: Visit) -> None:
    """A box dragged around the slowest leaves what is in it; the address holds their times, and a pill takes each away."""
    page: Page = await visit(history, "/streams")
    await expect(page.locator(ROW)).to_have_count(12)
    over = await page.locator(".u-over").bounding_box()
    assert over is not None
    heights = [y for _, y in await page.evaluate(FIND_POINTS)]
    await page.mouse.move(over["x"] + 1, over["y"] + 1)
    await page.mouse.down()
    await page.mouse.move(over["x"] + over["width"] - 1, (min(heights) + max(heights)) / 2, steps=8)
    await page.mouse.up()
    await expect(page).to_have_url(re.compile(r"since=[\d.]+&until=[\d.]+&slow=\d+ms&most=[\d.]+"))
    since, until, slow, most = (float(value) for value in re.findall(r"=([\d.]+)", page.url))
    inside = [row for row in await history.streams() if since <= row["ended"] <= until and slow / 1000 <= row["ttft"] <= most]
    assert 0 < len(inside) < 12
    below = [row for row in await history.streams() if since <= row["ended"] <= until and row["ttft"] < slow / 1000]
    assert len(below) + len(inside) > 8, "the box was as wide as the plot"
    await expect(page.locator(ROW)).to_have_count(len(inside))
    assert set(await column(page, "upstream")) == {row["upstream"] for row in inside}
    await expect(page.locator(".pills .pill")).to_have_count(2)


async def test_a_point_tells_and_opens(history: Weir, visit: Visit) -> None:
    """The pointer on a point says which stream it is, and a click opens it."""
    page: Page = await visit(history, "/streams?upstream=slow&outcome=upstream_truncated&sort=ended")
    await expect(page.locator(ROW)).to_have_count(3)
    [place, *_] = await page.evaluate(FIND_POINTS)
    await expect(page.locator(".tip")).to_be_hidden()
    await page.mouse.move(*place)
    await expect(page.locator(".tip")).to_contain_text("slow · upstream truncated")
    await page.mouse.down()
    await page.mouse.up()
    await expect(page.locator(".lanes")).to_be_visible()


async def test_an_id_copies_itself_whole(history: Weir, visit: Visit) -> None:
    """A short id copies the whole one and does not open its row; a relative time has the absolute one as its title."""
    page: Page = await visit(history, "/streams")
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    name = page.locator(f"{ROW} button.id").first
    await expect(name).to_have_text(re.compile("^[0-9a-f]{8}$"))
    await name.click()
    whole = str(await name.get_attribute("title")).split(":")[0]

    async def copied() -> bool:
        return bool(await page.evaluate("navigator.clipboard.readText()") == whole)

    await eventually(copied, "the id is copied")
    await expect(page).to_have_url(f"{history.admin_url}/streams")
    await expect(page.locator(f"{ROW} .when").first).to_have_text(re.compile(r"^\d+ s ago$"))
    await expect(page.locator(f"{ROW} .when").first).to_have_attribute("title", re.compile(r"^\d\d:\d\d:\d\d"))


async def test_an_empty_page_teaches(weir: Start, provide: Start, visit: Visit) -> None:
    """With no stream at all it says how to make the first; with filters that nothing fits, how to be rid of them."""
    one = await weir({"a": await provide()})
    page: Page = await visit(one, "/streams")
    await expect(page.locator(".empty pre")).to_contain_text("curl -N http://HOST:PORT/v1/chat/completions")  # a port that the system chose
    await page.goto("/streams?outcome=completed")
    await page.get_by_role("link", name="Take the filters away").click()
    await expect(page).to_have_url(f"{one.admin_url}/streams")


@pytest.mark.parametrize("path", ["/streams", "/routes", "/compare?a=upstream:quick&b=upstream:slow", "STREAM", "TRACE"])
async def test_every_page_fits_a_phone(history: Weir, visit: Visit, path: str) -> None:
    """On a narrow screen a page scrolls down and never sideways; what is wide scrolls in its own frame."""
    (row, *_) = await history.streams()
    path = {"STREAM": f"/streams/{row['stream_id']}", "TRACE": f"/traces/{row['trace_id']}"}.get(path, path)
    page: Page = await visit(history, path, viewport={"width": 390, "height": 800})
    await expect(page.locator("main h1").first).to_be_visible()
    await expect(page.locator("main .panel").first).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
