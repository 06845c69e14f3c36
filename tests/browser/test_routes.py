"""The page of routes: what is believed of targets, what was met there, and where the next request goes and why."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from playwright.async_api import Page, expect

from gateway.sim.faults import Always, Status
from gateway.sim.tempers import Temper
from tests.browser.conftest import Visit
from tests.stories.conftest import Client, Weir, eventually

pytestmark = pytest.mark.browser
Start = Callable[..., Awaitable[Any]]
Clients = Callable[[Weir], Client]
RANKED = [{"upstream": "broken", "priority": 0}, {"upstream": "sound", "priority": 1}]


async def test_a_breaker_that_opens(weir: Start, provide: Start, client: Clients, visit: Visit) -> None:
    """After its failures a target's breaker is shown open, last in the order with the reason; its last error leads to the stream."""
    broken, sound = await provide(faults=Always(Status(500))), await provide(temper=Temper(ttft="20ms", gap="5ms", tokens=5))
    route = {"targets": RANKED, "policy": "priority", "breaker": {"failures": 3, "open": "60s"}}
    one = await weir({"broken": broken, "sound": sound}, route=route)
    page: Page = await visit(one, "/routes")
    await expect(page.locator(".targets tbody tr")).to_have_count(2)
    await expect(page.locator(".targets tbody tr").first).to_contain_text("never asked yet")
    await client(one).many(6, 1)
    row = page.locator("tr[data-upstream=broken]")
    await expect(row).to_have_attribute("data-breaker", "open")
    await expect(page.locator("tr[data-upstream=sound]")).to_have_attribute("data-breaker", "closed")
    await expect(page.locator("tr[data-upstream=sound]")).to_contain_text("100 %")
    await expect(page.locator(".why summary")).to_have_text(re.compile("Next request: sound · why"))
    await page.locator(".why summary").click()
    await expect(page.locator(".why tr.refused")).to_contain_text(re.compile(r"broken.*breaker open for another \d+"))
    terms = page.locator(".why tr").first.locator(".terms")
    await expect(terms).to_contain_text(re.compile(r"first token in [\d.]+ m?s . 1\.00 calls waiting . 1\.00 failing lately = "))
    await row.locator("td a").click()
    await expect(page.locator(".lane.loser").first).to_contain_text("broken")


async def test_what_is_looked_at_stays(weir: Start, provide: Start, client: Clients, visit: Visit) -> None:
    """When the page draws itself anew, what was unfolded stays so, and the focus stays where it was."""
    one = await weir({"a": await provide()})
    await client(one).ask()
    page: Page = await visit(one, "/routes")
    await page.locator(".why summary").click()
    await expect(page.locator(".why")).to_have_attribute("open", "")
    await page.evaluate("document.querySelector('.why').id = 'drawn-before'")
    await expect(page.locator("#drawn-before")).to_have_count(0)
    await expect(page.locator(".why")).to_have_attribute("open", "")
    assert await page.evaluate("document.activeElement.tagName") == "SUMMARY"


async def test_a_click_is_not_lost(weir: Start, provide: Start, client: Clients, visit: Visit) -> None:
    """However long a button is held down, by the pointer or by the space bar, what is drawn meanwhile does not take its click away."""
    one = await weir({"a": await provide()})
    for model in ("one", "two"):
        await client(one).ask(model)
    page: Page = await visit(one, "/routes")
    await expect(page.locator(".targets tbody tr")).to_have_count(1)
    await page.locator(".why summary").focus()  # from where a button that is pressed takes the focus
    await page.get_by_role("button", name="+ 1 models").hover()
    for count, down, up in ((2, page.mouse.down(), page.mouse.up()), (1, page.keyboard.down(" "), page.keyboard.up(" "))):
        async with page.expect_response("**/api/routes"):
            await down
        await page.evaluate("() => new Promise((later) => setTimeout(later, 300))")  # time to draw what has come
        await up
        await expect(page.locator(".targets tbody tr")).to_have_count(count)
        await page.evaluate("document.querySelector('.why').id = 'drawn-before'")
        await expect(page.locator("#drawn-before")).to_have_count(0)


async def test_a_target_of_many_models(weir: Start, provide: Start, client: Clients, visit: Visit) -> None:
    """A target has one row, the others of its models unfold below, eight at most; the longest name leaves the figures in the card."""
    one = await weir({"a": await provide()})
    for model in ("plain", "plain", "m" * 180, "l\u202eeft", *(f"made-up-{number}" for number in range(8))):
        await client(one).ask(model)
    page: Page = await visit(one, "/routes")
    rows = page.locator(".targets tbody tr")
    await expect(rows).to_have_count(1)
    await expect(rows).to_contain_text("plain")
    await expect(page.locator(".why summary")).to_have_text(re.compile("Next request for plain: a · why"))
    await page.get_by_role("button", name="+ 10 models").click()
    await expect(rows).to_have_count(9)
    await expect(rows.last).to_contain_text("and 3 less used models")
    assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    wide = await page.locator(".targets").evaluate("(e) => e.scrollWidth - e.closest('.scroll').clientWidth")
    assert wide <= 0
    turned = "async () => (await import('/static/dom.js')).named('l\u202eeft').outerHTML"
    assert await page.evaluate(turned) == "<bdi>l␦eft</bdi>"


async def test_a_failed_question_does_not_end_the_page(weir: Start, provide: Start, visit: Visit) -> None:
    """While the gateway cannot be asked, the last figures stay with their time beside them; then they move on."""
    one = await weir({"a": await provide()})
    page: Page = await visit(one, "/routes", forgive=("Failed to load resource",))
    await expect(page.locator(".targets tbody tr")).to_have_count(1)
    await page.route("**/api/routes", lambda route: route.abort())
    await expect(page.locator(".stale")).to_contain_text("trying again")
    await expect(page.locator(".targets tbody tr")).to_have_count(1)
    await page.unroute("**/api/routes")
    await expect(page.locator(".stale")).to_be_hidden()


async def test_an_answer_that_does_not_come_does_not_end_the_page(weir: Start, provide: Start, visit: Visit) -> None:
    """A gateway that takes too long for an answer is one that cannot be asked just now."""
    one = await weir({"a": await provide()})
    page: Page = await visit(one, "/routes", forgive=("Failed to load resource",))
    await expect(page.locator(".targets tbody tr")).to_have_count(1)
    await page.route("**/api/routes", lambda _: None)
    await expect(page.locator(".stale")).to_contain_text("the recorder does not answer")
    await expect(page.locator(".targets tbody tr")).to_have_count(1)
    await page.unroute("**/api/routes")
    await expect(page.locator(".stale")).to_be_hidden()


async def test_a_refused_reload_is_told(weir: Start, provide: Start, visit: Visit, tmp_path: Any) -> None:
    """The configuration that runs stays shown by its hash; why the newer one is not taken on stands above the cards."""
    one = await weir({"a": await provide()})
    page: Page = await visit(one, "/routes")
    shown = (await one.ask("/healthz"))["config_hash"][:12]
    await expect(page.locator("main code").first).to_have_text(shown)
    (file,) = tmp_path.glob("weir-*/routes.yaml")
    file.write_text(file.read_text().replace('"version":1', '"version":1,"upstraems":{}'))
    await eventually(lambda: told(one), "the reload is refused")
    await expect(page.locator(".banner")).to_contain_text("upstraems")
    await expect(page.locator("main code").first).to_have_text(shown)


async def told(weir: Weir) -> Any:
    return (await weir.ask("/api/routes")).get("reload_error")
