"""The Live page over a running gateway: strips that move as tokens come, stalls with their owner, what ends, and what one can do there."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from playwright.async_api import Dialog, Page, expect

from gateway.sim.faults import Always, Script
from gateway.sim.steps import End, Pause, Send, framed
from gateway.sim.tempers import Temper
from tests.browser.conftest import STEADY, Visit
from tests.browser.picture import image, seconds, seen
from tests.rig.held import Held
from tests.stories.conftest import HEAD, Weir, _frame, eventually, routes

pytestmark = pytest.mark.browser
Ask = Callable[..., "asyncio.Task[Any]"]
Start = Callable[..., Awaitable[Any]]

ROW = "table.live tbody tr"
PATIENT = {"stall": {"liveness": "300s", "progress": "300s"}}
"""Silences of an upstream outlast the test that looks at them."""
TRIES = 4
"""How often a stream is looked at: a machine that is busy with something else may hold one up itself, and then that is what is told."""
LISTEN = """() => {
  globalThis.heard = {};
  const rows = document.querySelector("table.live tbody");
  const note = () => {
    for (const row of rows.children) {
      const [told, state] = [(heard[row.dataset.id] ??= []), row.querySelector(".state").textContent];
      if (told.at(-1)?.[0] !== state) told.push([state, row.querySelector(".last").textContent]);
    }
  };
  new MutationObserver(note).observe(rows, { childList: true, characterData: true, subtree: true });
}"""
"""What the state of each stream was called, and the age of its last token then, noted in the page at every change."""


async def test_a_running_stream_is_drawn_as_its_tokens_arrive(running: Weir, visit: Visit, ask: Ask) -> None:
    """A stream that is asked for while the page is open gets a row, and its strip fills with every token."""
    page: Page = await visit(running)
    ask(running)
    row = page.locator(ROW)
    await expect(row.locator(".badge")).to_have_text("streaming")
    await expect(row.locator(".upstream")).to_have_text("steady")
    before = (await seen(row, "flow"))["count"]

    async def grown() -> bool:
        return (await seen(row, "flow"))["count"] > before + 200

    await eventually(grown, "the strip fills")
    await eventually(lambda: _speaks(row), "its last token is young")


async def test_a_page_that_comes_later_is_told_of_the_past(running: Weir, visit: Visit, ask: Ask) -> None:
    """A stream that runs already has the tokens of its past on a page that is opened now, on a second one too."""
    begun = asyncio.Event()
    ask(running, began=begun.set)
    await begun.wait()
    first: Page = await visit(running)

    async def drawn(page: Page) -> int:
        return (await seen(page.locator(ROW), "flow"))["count"] if await page.locator(ROW).count() else 0

    await eventually(lambda: drawn(first), "the first page draws the stream")
    second: Page = await visit(running)
    await expect(second.locator(ROW)).to_have_count(1)

    async def alike() -> bool:
        one, other = await asyncio.gather(drawn(first), drawn(second))
        return one > 500 and abs(one - other) < 0.15 * one

    await eventually(alike, "both pages show as much")


async def first_stall(page: Page, known: dict[str, tuple[str, float]]) -> str:
    """Wait until a stream that is not among the known ones is called stalled, add what it was called and the age of its last token
    at that moment, and return its id."""

    async def told() -> Any:
        for stream_id, words in (await page.evaluate("heard")).items():
            stalls = [(state, seconds(age)) for state, age in words if state.startswith("stalled")]
            if stalls and stream_id not in known:
                known[stream_id] = stalls[0]
                return stream_id
        return None

    return str(await eventually(told, "a stream is called stalled"))


async def test_a_stall_of_the_upstream_shows_within_two_seconds(weir: Start, provide: Start, visit: Visit, ask: Ask) -> None:
    """A silence above the threshold is marked U before it is two seconds old, hatched, and over with the next token."""
    held = Held(quiet_after=20)
    one = await weir({"steady": await provide(faults=Always(held.script))}, route=PATIENT)
    page: Page = await visit(one)
    await expect(page.locator(".empty pre")).to_be_visible()
    await page.evaluate(LISTEN)
    stalls: dict[str, tuple[str, float]] = {}
    for _ in range(TRIES):
        ask(one)
        stream_id = await first_stall(page, stalls)
        state, since = stalls[stream_id]
        if state == "stalled U" and 0.9 < since < 2.0:
            break
    else:
        pytest.fail(f"not once in time, and the upstream's: {stalls}")
    row = page.locator(f"{ROW}[data-id='{stream_id}']")
    await expect(row.locator(".state")).to_have_text("stalled U")
    await eventually(lambda: _some(row, "upstream"), "the silence is hatched")
    held.quiet_after = None
    await expect(row.locator(".badge")).to_have_text("streaming")
    await eventually(lambda: _speaks(row), "the age of the last token starts anew")
    assert await _some(row, "upstream")


async def test_a_client_that_does_not_read_is_the_owner_of_its_stall(weir: Start, provide: Start, visit: Visit) -> None:
    """While a client takes nothing its stream is stalled by C, and by nobody else."""
    steps = [step for _ in range(200) for step in (Send(_frame("x" * 100_000), "token"), Pause(0.01))]
    one: Weir = await weir({"eager": await provide(faults=Always(Script((Send(HEAD), *framed([*steps, End()])))))})
    page: Page = await visit(one)
    await expect(page.locator(".empty pre")).to_be_visible()
    await page.evaluate(LISTEN)
    stalls: dict[str, tuple[str, float]] = {}
    for _ in range(TRIES):
        with lazy_client(one):
            stream_id = await first_stall(page, stalls)
            if stalls[stream_id][0] == "stalled C":
                row = page.locator(f"{ROW}[data-id='{stream_id}']")
                await eventually(lambda row=row: _some(row, "client"), "the silence is hatched in the client's colour")
                await expect(row.locator(".state")).to_have_text("stalled C")
                assert not await _some(row, "upstream")
                break
    else:
        pytest.fail(f"not once the client's: {stalls}")
    await expect(page.locator("table.ended .badge").first).to_have_text("client disconnect")


@contextmanager
def lazy_client(one: Weir) -> Iterator[None]:
    """Ask for a stream and take nothing of it."""
    with socket.socket() as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.connect(one.address)
        body = b'{"model": "m", "stream": true, "messages": []}'
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        lazy.send(head + body)
        yield


async def test_a_stream_that_ends_is_told_with_its_outcome(weir: Start, provide: Start, visit: Visit, ask: Ask) -> None:
    """What ends leaves the running ones and is the first of the ended, with outcome, tokens and time to first token."""
    one = await weir({"short": await provide(temper=Temper(ttft="50ms", gap="20ms", tokens=30))})
    page: Page = await visit(one)
    await expect(page.locator(".empty pre")).to_be_visible()  # it is told of what goes on from now on
    assert (await ask(one)).status == 200
    ended = page.locator("table.ended tbody tr")
    await expect(ended.locator(".badge")).to_have_text("completed")
    assert seconds(await ended.locator("td").nth(4).inner_text()) >= 0.05
    await expect(ended.locator("td").nth(5)).to_have_text("30")
    await expect(page.locator(ROW)).to_have_count(0)
    await ended.click()
    await expect(page).to_have_url(f"{one.admin_url}/streams/{(await one.told(1))[0]['stream_id']}")


async def test_an_operator_stops_a_stream(running: Weir, visit: Visit, ask: Ask) -> None:
    """The button asks once; then the stream ends as `operator_abort`, and its client is told by an error event."""
    page: Page = await visit(running)
    questions: list[str] = []
    reads: list[None] = []

    async def reply(dialog: Dialog) -> None:
        questions.append(dialog.message)
        await (dialog.accept() if len(questions) == 2 else dialog.dismiss())

    page.on("dialog", reply)
    asked = ask(running, began=lambda: reads.append(None))
    stop = page.get_by_role("button", name="Stop stream")
    await stop.click()
    await eventually(lambda: len(questions) == 1, "it is asked whether this one is meant")
    had = len(reads)
    await eventually(lambda: len(reads) > had + 20, "tokens go on")
    await expect(page.locator(ROW).locator(".badge")).to_have_text("streaming")
    await stop.click()
    await expect(page.locator("table.ended .badge")).to_have_text("operator abort")
    assert b'"error"' in (await asked).body
    assert len(questions) == 2


async def test_a_pause_holds_the_picture_and_not_the_stream(running: Weir, visit: Visit, ask: Ask) -> None:
    """A paused page changes nothing while tokens go on; resumed, it shows what has come meanwhile."""
    page: Page = await visit(running)
    reads: list[None] = []
    ask(running, began=lambda: reads.append(None))
    row = page.locator(ROW)
    await expect(row.locator(".badge")).to_have_text("streaming")
    button = page.get_by_role("button", name="pause")
    await button.click()
    held, had = await image(row), len(reads)
    await expect(page.get_by_role("button", name="resume")).to_have_attribute("aria-pressed", "true")
    await expect(page.locator(".bar .note")).to_contain_text("paused at")
    await eventually(lambda: len(reads) > had + 20, "tokens go on")
    assert await image(row) == held
    await page.keyboard.press("p")

    async def moves() -> bool:
        return await image(row) != held

    await eventually(moves, "the picture goes on")


async def test_a_route_is_chosen_by_the_address(weir: Start, provide: Start, visit: Visit, ask: Ask, tmp_path: Path) -> None:
    """`/?route=` shows one route's streams alone, the control changes the address, and the browser's back goes back."""
    config = routes({"steady": (await provide(temper=STEADY)).base_url})
    config["routes"] = [{**config["routes"][0], "name": name, "match": {"models": [name]}} for name in ("chat", "agents")]
    (tmp_path / "routes.yaml").write_bytes(orjson.dumps(config))
    one = await weir(command=["serve", "-c", str(tmp_path / "routes.yaml")])
    ask(one, "chat")
    ask(one, "agents")
    page: Page = await visit(one, "/?route=agents")
    await expect(page.locator(f"{ROW} .route")).to_have_text(["agents"])
    await expect(page.get_by_label("route")).to_have_value("agents")
    await page.get_by_label("route").select_option("chat")
    await expect(page).to_have_url(f"{one.admin_url}/?route=chat")
    await expect(page.locator(f"{ROW} .route")).to_have_text(["chat"])
    await page.go_back()
    await expect(page.locator(f"{ROW} .route")).to_have_text(["agents"])


async def test_two_upstreams_that_race_are_told(weir: Start, provide: Start, visit: Visit, ask: Ask) -> None:
    """While a hedge runs the row names both upstreams, also to who comes in the midst of it, and then the one that spoke first."""
    held = Held(quiet_after=0)
    late, later = await provide(temper=Temper(ttft="300s")), await provide(faults=Always(held.script))
    route = {**PATIENT, "policy": "priority", "first_token": {"timeout": "200ms", "on_slow": "hedge", "hedge_limit": "100%"}}
    route["targets"] = [{"upstream": "late", "priority": 0}, {"upstream": "later", "priority": 1}]
    one = await weir({"late": late, "later": later}, route=route)
    page: Page = await visit(one)
    ask(one)
    row = page.locator(ROW)
    await expect(row.locator(".badge")).to_have_text("hedging")
    await expect(row.locator(".upstream")).to_have_text("late → later")
    await page.reload()
    await expect(row.locator(".upstream")).to_have_text("late → later")
    held.quiet_after = None
    await expect(row.locator(".badge")).to_have_text("streaming")
    await expect(row.locator(".upstream")).to_have_text("later")


async def test_a_quiet_gateway_says_how_to_make_a_stream(running: Weir, visit: Visit) -> None:
    """With nothing to show the page shows the line that makes the first stream appear."""
    page: Page = await visit(running)
    await expect(page.locator(".empty")).to_contain_text("curl -N")


async def test_the_tiles_say_what_the_api_says(weir: Start, provide: Start, visit: Visit, ask: Ask) -> None:
    """The figures on top are those of /api/overview."""
    provider = await provide(temper=Temper(ttft="120ms", gap=0, tokens=5))
    one = await weir({"short": provider}, route={"stall": {"threshold": "30s"}})
    await asyncio.gather(*(ask(one) for _ in range(10)))
    await one.told(10)
    page: Page = await visit(one)
    figure = page.locator('.tile[data-figure="ttft_p50"] .figure')

    async def alike() -> bool:
        told = (await one.ask("/api/overview"))["total"]["ttft_p50"]
        assert told > 0.1
        return bool(
            await figure.inner_text() == await page.evaluate("async (told) => (await import('/static/format.js')).seconds(told)", told)
        )

    await eventually(alike, "the page and the API say the same")
    await expect(page.locator('.tile[data-figure="stall_rate"] .figure')).to_have_text("0.0 %")


async def _speaks(row: Any) -> bool:
    return seconds(await row.locator(".last").inner_text()) < 0.9


async def _some(row: Any, shade: str) -> bool:
    return (await seen(row, shade))["count"] > 20
