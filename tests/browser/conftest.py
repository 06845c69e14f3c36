"""The console in a real Chromium over a real gateway: every page is watched, and one error, or one request to elsewhere, fails its test.

`visit(weir, "/path")` opens a page; `weir`, `provide` and `client` are those of the stories: the program in processes of its own, with
simulated providers in this one.
"""

import asyncio
import importlib.util
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from gateway.sim.tempers import Temper
from tests.stories.conftest import Answer, Client, Weir, client, eventually_fixture, provide, speech_fixture, weir  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

CHROMIUM = os.environ.get("WEIR_CHROMIUM") or shutil.which("chromium")
SWITCHES = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
PATIENCE = 15_000
"""Milliseconds that a page is given to show what it must: the machine may be busy."""
TOLD = "addEventListener('securitypolicyviolation', (e) => console.error(`policy: ${e.violatedDirective} ${e.blockedURI}`));"
STEADY = Temper(ttft="80ms", gap="40ms", tokens=1500)
"""A minute of steady talk: longer than any test that looks at it."""

# Without the extra `browser` there is nothing to collect here, and `make test-browser` fails for it.
collect_ignore_glob = [] if importlib.util.find_spec("playwright") else ["test_*.py"]


class Watcher:
    """What went wrong on one page: errors and warnings it logged, exceptions, requests that leave its origin.

    `forgiven` holds words; a complaint that has one of them is what the test wanted.
    """

    def __init__(self, page: "Page", origin: str) -> None:
        self.page, self.origin = page, origin
        self.complaints: list[str] = []
        self.forgiven: list[str] = []
        page.on("console", lambda said: self._complain(f"{said.type}: {said.text}") if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self._complain(f"exception: {error}"))
        page.on("request", lambda request: self._complain(f"elsewhere: {request.url}") if self._elsewhere(request.url) else None)

    def _elsewhere(self, url: str) -> bool:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc}" != self.origin

    def _complain(self, text: str) -> None:
        self.complaints.append(text)

    def verdict(self) -> list[str]:
        return [text for text in self.complaints if not any(word in text for word in self.forgiven)]


@pytest.fixture
async def browser() -> "AsyncIterator[Browser]":
    """A Chromium of this test alone."""
    from playwright.async_api import async_playwright, expect  # noqa: PLC0415 - the stories' fixtures are to be had without it

    if CHROMIUM is None:
        pytest.fail("no Chromium: apt-get install chromium, or say where it is in WEIR_CHROMIUM")
    expect.set_options(timeout=PATIENCE)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        await browser.close()


@pytest.fixture
async def watchers() -> AsyncIterator[list[Watcher]]:
    """The watchers of this test's pages, in the order they were opened; none may have a complaint at the end."""
    every: list[Watcher] = []
    yield every
    assert [complaint for watcher in every for complaint in watcher.verdict()] == []


Visit = Callable[..., Awaitable[Any]]


@pytest.fixture
async def visit(browser: "Browser", watchers: list[Watcher]) -> Visit:
    """Open a page of a running Weir in a profile of its own; `forgive` names complaints that are wanted.

    Other keywords are Playwright's for a context: `viewport`, `color_scheme`, `reduced_motion`.
    """

    async def open_page(one: Weir, path: str = "/", forgive: tuple[str, ...] = (), **options: Any) -> "Page":
        told = {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark", "locale": "en-GB", **options}
        context = await browser.new_context(base_url=one.admin_url, **told)
        context.set_default_timeout(PATIENCE)
        await context.add_init_script(TOLD)
        page = await context.new_page()
        watchers.append(Watcher(page, one.admin_url))
        watchers[-1].forgiven.extend(forgive)
        await page.goto(path)
        return page

    return open_page


@pytest.fixture
async def ask(client: Callable[[Weir], Client]) -> AsyncIterator[Callable[..., "asyncio.Task[Answer]"]]:  # noqa: F811 - a fixture's name
    """Ask for one stream, in a task whose result is what the client got; arguments are `Client.ask`'s. What runs at the end is left."""
    asked: list[asyncio.Task[Answer]] = []

    def start(one: Weir, *told: Any, **named: Any) -> "asyncio.Task[Answer]":
        asked.append(asyncio.get_running_loop().create_task(client(one).ask(*told, **named)))
        return asked[-1]

    yield start
    for task in asked:
        task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)


@pytest.fixture
async def running(weir: Callable[..., Awaitable[Weir]], provide: Callable[..., Awaitable[Any]]) -> Weir:  # noqa: F811 - a fixture's name
    """A gateway with one route `chat` to one provider `steady`, whose answers outlast the test."""
    return await weir({"steady": await provide(temper=STEADY)})
