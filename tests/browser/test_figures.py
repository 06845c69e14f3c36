"""Figures as people read them: enough digits to be true, never an exponent, nothing rounded up that has not passed."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from playwright.async_api import Page

from tests.browser.conftest import Visit

pytestmark = pytest.mark.browser
Start = Callable[..., Awaitable[Any]]
SHOWN = {
    "seconds": {0.0042: "4.2 ms", 0.212: "212 ms", 2.512: "2.51 s", 119.9: "119.9 s", 149: "2 m 29 s", 150: "2 m 30 s", 3599: "59 m 59 s"},
    "age": {0.9: "0 s", 59.9: "59 s", 149.9: "2 m 29 s", 7261: "2 h 1 m"},
    "percent": {0: "0.0 %", 0.0004: "0.04 %", 0.00001: "< 0.01 %", 0.995: "99.5 %", 0.9995: "99.95 %", 0.99999: "> 99.99 %", 1: "100 %"},
    "usd": {0: "$0", 0.0149: "$0.015", 4.5e-7: "< $0.000001", 0.000014: "$0.000014", 0.5: "$0.50", 0.00999: "$0.01", 12.345: "$12.35"},
}  # fmt: skip


async def test_figures(weir: Start, provide: Start, visit: Visit) -> None:
    """Shares near none and all, small sums of money and minutes keep the digits that tell them apart."""
    page: Page = await visit(await weir({"a": await provide()}), "/routes")
    told = (
        "async ([name, values]) => { const format = await import('/static/format.js'); return values.map((value) => format[name](value)); }"
    )
    for name, cases in SHOWN.items():
        assert await page.evaluate(told, [name, list(cases)]) == list(cases.values()), name
