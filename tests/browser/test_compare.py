"""The page of comparisons: equal sets are noise, different ones are not, and what makes them incomparable is said."""

from collections.abc import Awaitable, Callable
from math import erfc, sqrt
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.async_api import Page, expect

from gateway.sim.tempers import Temper
from tests.browser.conftest import Visit
from tests.stories.conftest import Client, Weir

pytestmark = pytest.mark.browser
Start = Callable[..., Awaitable[Any]]
Clients = Callable[[Weir], Client]
EACH = 40
"""Twice as many as there must be: of an answer that a busy machine reads all at once no gap is known."""


def compared(a: str, b: str) -> str:
    return f"/compare?{urlencode({'a': a, 'b': b})}"


@pytest.fixture
async def two(weir: Start, provide: Start, client: Clients) -> Weir:
    """A gateway that has sent as many streams to a quick and terse provider as to a slow and talkative one."""
    quick = await provide(temper=Temper(ttft="10ms", gap="10ms", tokens=10))
    slow = await provide(temper=Temper(ttft="150ms", gap="40ms", tokens=30))
    one: Weir = await weir({"quick": quick, "slow": slow}, route={"policy": "round-robin", "stall": {"threshold": "10s"}})
    await client(one).many(2 * EACH, 16)
    await one.told(2 * EACH)
    return one


async def test_equal_sets_are_noise(two: Weir, visit: Visit) -> None:
    """The same set on both sides is no difference, in either sentence and in no row of the table."""
    page: Page = await visit(two, compared("upstream:slow", "upstream:slow"))
    await expect(page.locator("[data-verdict]")).to_have_count(2)
    assert [await each.get_attribute("data-verdict") for each in await page.locator("[data-verdict]").all()] == ["noise", "noise"]
    await expect(page.locator("[data-verdict]").first).to_contain_text(f"Mann-Whitney, two-sided, p = 1.00, n = {EACH} and {EACH}")
    await expect(page.locator("[data-warning]")).to_have_count(0)
    assert await page.get_by_text(", more than noise").count() == 0


async def test_different_sets_differ(two: Weir, visit: Visit) -> None:
    """Who speaks sooner and faster is named, with medians, the test and the sizes; that answers differ in length is warned of."""
    page: Page = await visit(two, compared("upstream:slow,since:1h", "upstream:quick,since:1h"))
    await expect(page.locator("[data-verdict]")).to_have_count(2)
    assert [await each.get_attribute("data-verdict") for each in await page.locator("[data-verdict]").all()] == ["B", "B"]
    await expect(page.locator("[data-verdict]").first).to_contain_text("B speaks sooner")
    await expect(page.locator("[data-warning=output_tokens]")).to_contain_text("median 30 against 10 tokens")
    await expect(page.locator(".uplot canvas")).to_have_count(2)
    await expect(page.locator(".compared tr", has_text="TTFT, median")).to_contain_text("more than noise")
    await expect(page.locator(".compared tr", has_text="stalled")).to_contain_text(f"0 of {EACH}")
    await expect(page.locator(".side").first).to_contain_text(f"{EACH} streams")


async def test_a_view_is_an_address(two: Weir, visit: Visit) -> None:
    """What is chosen goes into the address, and the address brings it back."""
    page: Page = await visit(two, compared("upstream:slow,since:1h", "upstream:quick,since:1h"))
    await page.locator(".side").last.locator("select").first.select_option("slow")
    await expect(page.locator("[data-verdict=noise]")).to_have_count(2)
    address = page.url
    again: Page = await visit(two, address.removeprefix(two.admin_url))
    await expect(again.locator(".side").last.locator("select").first).to_have_value("slow")
    await expect(again.locator("[data-verdict=noise]")).to_have_count(2)
    await page.locator(".side").last.get_by_role("button", name="Not by upstream").click()
    await expect(page.locator(".side").last).to_contain_text(f"{2 * EACH} streams")


async def test_few_streams_say_nothing(weir: Start, provide: Start, client: Clients, visit: Visit) -> None:
    """Below the number from which a test says something it is said that there are too few; of none, that there are none."""
    one = await weir({"a": await provide()})
    page: Page = await visit(one, compared("upstream:a", "upstream:a"))
    await expect(page.locator(".verdict")).to_contain_text("There is nothing to compare: no stream fits A or B.")
    await client(one).many(3, 1)
    await one.told(3)
    await page.reload()
    await expect(page.locator("[data-verdict=few]").first).to_contain_text("Too few streams to tell of time to first token: n = 3 and 3")


def mann_whitney(ones: list[float], others: list[float]) -> tuple[float, float]:
    """The test as its definition has it: every pair compared, ties counted half, the normal approximation with both corrections."""
    pairs = len(ones) * len(others)
    wins = sum((one < other) + 0.5 * (one == other) for one in ones for other in others)
    every = ones + others
    n = len(every)
    ties = sum(each**3 - each for value in set(every) if (each := every.count(value)))
    spread = sqrt(pairs / 12 * (n + 1 - ties / (n * (n - 1))))
    return wins / pairs, erfc(max(0.0, abs(wins - pairs / 2) - 0.5) / spread / sqrt(2))


@pytest.mark.parametrize(
    ("ones", "others"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 8], [5, 6, 7, 8, 9, 10, 11, 12, 13]),
        ([1, 1, 1, 2, 2, 5], [1, 2, 2, 2, 3]),
        ([0.1 * k for k in range(40)], [0.1 * k + 0.05 for k in range(30)]),
        ([3, 3, 3, 3], [1, 1, 1, 9]),
    ],
)
async def test_the_test_is_the_test(ones: list[float], others: list[float], running: Weir, visit: Visit) -> None:
    """Mann and Whitney's figures are those of the definition."""
    page: Page = await visit(running, "/routes")
    reckon = "async ([ones, others]) => { const s = await import('/static/statistics.js'); return s.mannWhitney(ones, others); }"
    told = await page.evaluate(reckon, [ones, others])
    share, p = mann_whitney(ones, others)
    assert told == {"share": pytest.approx(share), "p": pytest.approx(p, abs=1e-6)}


async def test_intervals_and_quantiles(running: Weir, visit: Visit) -> None:
    """Wilson's intervals are those of the tables, and a quantile is a value of its list."""
    page: Page = await visit(running, "/routes")
    reckon = """async () => {
      const s = await import("/static/statistics.js");
      const bins = [[0.1, 5], [0.2, 4], [null, 1]];
      return [s.wilson(3, 3), s.wilson(0, 10), s.wilson(0, 0), s.quantile([1, 2, 3, 4], 0.5), s.quantile([], 0.5), s.histogramSteps(bins),
        s.histogramQuantile(bins, 0.9), s.histogramQuantile(bins, 0.95), s.proportions(5, 100, 5, 100), s.proportions(1, 100, 20, 100)];
    }"""
    three, none, empty, middle, nothing, steps, ninety, above, same, apart = await page.evaluate(reckon)
    assert three == [pytest.approx(0.4385, abs=1e-4), 1]
    assert none == [0, pytest.approx(0.2775, abs=1e-4)]
    assert (empty, middle, nothing) == ([None, None], 2, None)
    assert steps == [[0.1, 0.5], [0.2, pytest.approx(0.9)]]
    assert (ninety, above) == (0.2, None)
    assert same == pytest.approx(1)
    assert apart < 0.001
