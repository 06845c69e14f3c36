"""What was said, on the page of its stream: read while it is said, played at its own speed, the seam marked; nothing where it is off."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from playwright.async_api import Page, expect

from gateway.sim.faults import Always, Truncate
from gateway.sim.tempers import INSTANT, Temper
from tests.browser.conftest import Visit
from tests.browser.test_stream import RANKED, answered
from tests.rig.broken import delta, text_of
from tests.rig.held import Held
from tests.rig.makers import Makers
from tests.stories.conftest import Client, Weir, eventually

pytestmark = pytest.mark.browser
Start = Callable[..., Awaitable[Any]]
Clients = Callable[[Weir], Client]
Ask = Callable[..., "asyncio.Task[Any]"]

TOLD = "[...document.querySelectorAll('.text > .said > span:not(.unsaid):not(.seam-mark)')].map((each) => each.textContent).join('')"
SAID = ".text > .said"


def spoken(*pieces: bytes, gap: float) -> Any:
    """An answer of these pieces, so far apart."""
    return Always(
        Makers.chunked(
            Makers.event(), *(each for piece in pieces for each in (piece, gap)), Makers.event(finish="stop"), b"data: [DONE]\n\n"
        )
    )


# What the answer looked like at every change, noted in the page: a test that asks again and again sees what the machine has time for.
LISTEN = f"""() => {{
  const said = document.querySelector('.text > .said');
  globalThis.heard = {{ began: performance.now(), seen: [], heights: [] }};
  new MutationObserver(() => {{
    heard.seen.push({TOLD});
    if (!heard.heights.includes(said.offsetHeight)) heard.heights.push(said.offsetHeight);
  }}).observe(said, {{ childList: true, characterData: true, subtree: true }});
}}"""


async def test_a_running_answer_is_read_as_it_comes(weir: Start, provide: Start, visit: Visit, ask: Ask) -> None:
    """Its text grows on the page while it runs, reasoning folded beside it; when it has ended the page shows the whole, and the prompt."""
    held = Held(first=delta(reasoning_content="let me see "))
    one = await weir({"a": await provide(temper=INSTANT, faults=Always(held.script))}, route={"content": "full"})
    asking = ask(one)

    async def running() -> Any:
        return [row["stream_id"] for row in await one.streams() if row["state"] == "streaming"]

    [stream_id] = await eventually(running, "the stream runs")
    page: Page = await visit(one, f"/streams/{stream_id}")
    await expect(page.locator(SAID)).to_contain_text("w10 ")
    before = await page.locator(SAID).inner_text()
    await expect(page.locator(SAID)).to_contain_text(f"w{before.count('w') + 10} ")  # it grows
    await expect(page.locator(".text details", has_text="let me see")).to_have_count(1)
    assert not asking.done()
    held.release()
    body = (await asking).body
    assert [body] == [b"".join(frames) for frames in held.runs]
    await expect(page.get_by_text("The whole request")).to_have_count(1)
    assert await page.evaluate(TOLD) == text_of(body)
    await page.get_by_text("Prompt", exact=True).click()
    await expect(page.locator(".turn")).to_contain_text("hello")


async def test_an_answer_is_played_at_its_own_speed(weir: Start, provide: Start, client: Clients, visit: Visit) -> None:
    """Played, it begins with nothing and comes in order, in about the time it took; the page does not grow meanwhile."""
    words = [f"word{number} " for number in range(40)]
    script = spoken(*(delta(content=word) for word in words), gap=0.08)
    one = await weir({"a": await provide(temper=INSTANT, faults=script)}, route={"content": "full"})
    stream_id, record = await answered(one, client)
    page: Page = await visit(one, f"/streams/{stream_id}")
    await expect(page.locator(SAID)).to_contain_text("word39")
    height = await page.locator(SAID).evaluate("(said) => said.offsetHeight")
    await page.evaluate(LISTEN)
    await page.locator(".text").get_by_role("button", name="▷ play").click()
    await expect(page.locator(".text").get_by_role("button", name="▷ play")).to_be_visible()
    began, seen, ended = await page.evaluate("() => [heard.began, heard.seen, performance.now()]")
    assert seen[0] == ""
    assert seen == sorted(seen, key=len)
    assert all("".join(words).startswith(text) for text in seen)
    assert seen[-1] == "".join(words) == await page.evaluate(TOLD)
    assert await page.evaluate("heard.heights") == [height]
    assert (ended - began) / 1000 > 0.8 * (record["offsets"]["last_token"] - record["offsets"]["first_token"])


async def test_the_seam_is_marked(weir: Start, provide: Start, client: Clients, visit: Visit) -> None:
    """Where another upstream went on with the answer it is named, between what each of them said; nothing said is markup."""
    brief = Temper(ttft="20ms", gap="10ms", tokens=12)
    second = spoken(delta(content="<b>bold</b> "), delta(content="end"), gap=0.02)
    providers = {"a": await provide(temper=brief, faults=Always(Truncate(after=5))), "b": await provide(temper=INSTANT, faults=second)}
    one = await weir(providers, route={"content": "full", "mid_stream": "resume", "policy": "priority", "targets": RANKED})
    stream_id, record = await answered(one, client)
    [seam] = record["seams"]
    page: Page = await visit(one, f"/streams/{stream_id}")
    await expect(page.locator(".seam-mark")).to_have_text("⟂ b")
    when = await page.evaluate("async (offset) => (await import('/static/format.js')).seconds(offset)", seam["offset"])
    await expect(page.locator(".seam-mark")).to_have_attribute("title", f"a failed ({seam['why']}); b went on at {when}")
    first = await page.locator(f"{SAID} > span").first.inner_text()
    assert len(first) <= seam["characters"]
    await expect(page.locator(SAID)).to_contain_text("<b>bold</b> end")
    await expect(page.locator(f"{SAID} b")).to_have_count(0)


async def test_where_it_is_off_there_is_nothing(weir: Start, provide: Start, client: Clients, visit: Visit) -> None:
    """A page of a stream whose words are not kept has no room for them, and asks for none."""
    one = await weir({"a": await provide(temper=INSTANT)})
    stream_id, _ = await answered(one, client)
    page: Page = await visit(one, f"/streams/{stream_id}")
    await expect(page.get_by_text("The whole record")).to_be_visible()
    await expect(page.locator(".text")).to_have_count(0)
