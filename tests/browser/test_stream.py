"""The page of one stream: hops that add up, attempts as lanes, its cadence, its replay, links to elsewhere, and a stop."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any

import pytest
from playwright.async_api import Locator, Page, expect

from gateway.sim.faults import Always, InOrder, SlowFirstToken, Stall, Truncate
from gateway.sim.tempers import Temper
from tests.browser.conftest import Visit
from tests.stories.conftest import Client, Weir, eventually

pytestmark = pytest.mark.browser
Start = Callable[..., Awaitable[Any]]
Clients = Callable[[Weir], Client]
Ask = Callable[..., "asyncio.Task[Any]"]

BRIEF = Temper(ttft="120ms", gap="20ms", tokens=30)
RANKED = [{"upstream": "a", "priority": 0}, {"upstream": "b", "priority": 1}]


def seconds(text: str) -> float:
    """Read "212.4 ms" or "4.8120 s" as seconds."""
    number, unit = text.split()
    return float(number) * {"ms": 0.001, "s": 1.0}[unit]


def columns(record: Any, since: float = 0.0, until: float = inf) -> dict[str, int]:
    """In how many of a lane's 400 columns there were tokens, by their kind: all of a read are in one, and a busy machine reads late."""
    at, width, places = record["offsets"]["first_token"], record["derived"]["duration"] / 400, set()
    for tick in record["cadence"]["ticks"]:
        at += tick * 1e-4
        if since <= at < until:
            places.add(min(399, int(at / width)))
    answer = record["offsets"]["first_answer"] if record["offsets"]["first_answer"] > record["offsets"]["first_token"] else 0.0
    reasoning = sum(place * width + width <= answer for place in places)
    return {"reasoning": reasoning, "answer": len(places) - reasoning}


async def drawn(bars: Locator) -> int:
    """How many columns a path draws."""
    return (await bars.get_attribute("d") or "").count("M")


async def answered(weir: Weir, client: Clients, **headers: str) -> tuple[str, Any]:
    """Ask for one stream to its end; returns its id and its record."""
    stream_id = (await client(weir).ask(**headers)).headers["x-weir-stream-id"]

    async def stored() -> Any:
        record = await weir.ask(f"/api/streams/{stream_id}")
        return record if record.get("state") == "ended" else None

    return stream_id, await eventually(stored, "the stream is stored")


async def test_the_hops_add_up_to_the_span(weir: Start, provide: Start, client: Clients, visit: Visit) -> None:
    """What is shown of each owner sums to what is shown as the sum, to the last digit, and that is the API's duration within 1 ms."""
    one = await weir(
        {"a": await provide(temper=BRIEF, faults=Always(Stall(after=10, length=2.5)))}, route={"stall": {"threshold": "200ms"}}
    )
    stream_id, record = await answered(one, client)
    page: Page = await visit(one, f"/streams/{stream_id}")
    await expect(page.locator("[data-owner]")).to_have_count(5)
    shown = {await each.get_attribute("data-owner"): seconds(await each.inner_text()) for each in await page.locator("[data-owner]").all()}
    total = seconds(await page.locator("[data-sum]").inner_text())
    assert sum(shown.values()) == pytest.approx(total, abs=1e-9)
    assert total == pytest.approx(record["derived"]["duration"], abs=0.001)
    assert {name: value for name, value in shown.items() if abs(value - record["seconds"].get(str(name), 0.0)) > 0.0001} == {}
    assert shown["upstream_wait"] > 0.5 * (total - shown["gateway"])  # a busy machine's lateness is the gateway's
    begins = await page.locator(".ledger .track").evaluate_all("(all) => all.map((e) => e.querySelector('.piece')?.style.left ?? '0%')")
    assert set(begins) == {"0%"}  # shares, not moments
    await expect(page.locator(".verdict")).to_contain_text(
        re.compile(r"was silence: [\d.]+ m?s before the first token and [\d.]+ m?s in \d+ stalls?, held by")
    )


async def test_a_stall_is_shown_with_its_owner(weir: Start, provide: Start, client: Clients, visit: Visit) -> None:
    """The stall is hatched where it was, on the line of hops, the lane and the plot; the list says whose it was, how long and where."""
    one = await weir({"a": await provide(temper=BRIEF, faults=Always(Stall(after=10, length=4)))}, route={"stall": {"threshold": "2s"}})
    stream_id, record = await answered(one, client)
    stalls = record["cadence"]["stalls"]
    [(number, stall)] = [(number, stall) for number, stall in enumerate(stalls) if stall["chunk"] == 10]  # the others are a busy machine's
    assert stall["blame"] == "upstream"
    page: Page = await visit(one, f"/streams/{stream_id}")
    for where in (".hops .lines:not(.ledger) .stall", ".lanes .stall", ".stalls tbody tr"):
        await expect(page.locator(where)).to_have_count(len(stalls))
    await expect(page.locator(".ledger .stall.hatch-upstream")).to_have_count(1)
    await expect(page.locator(".hops .lines:not(.ledger) .stall").nth(number)).to_have_class(re.compile("hatch-upstream"))
    await expect(page.locator(".lanes .stall").nth(number)).to_have_class(re.compile("hatch-upstream"))
    told = page.locator(".stalls tbody tr").nth(number)
    await expect(told).to_contain_text("upstream")
    await expect(told).to_contain_text("after chunk 10")
    place = await page.locator(".lanes .stall").nth(number).evaluate("(e) => [parseFloat(e.style.left), parseFloat(e.style.width)]")
    assert place == [pytest.approx(100 * at / record["derived"]["duration"], abs=0.1) for at in (stall["offset"], stall["length"])]
    await expect(page.locator(".cadence canvas")).to_be_visible()
    for kind in ("sum", "rate", "gaps"):
        await page.locator(f"[data-plot={kind}]").click()
        await expect(page.locator(f"[data-plot={kind}]")).to_have_attribute("aria-pressed", "true")
        await expect(page.locator(".cadence .uplot")).to_have_count(1)


async def test_a_hedge_has_two_lanes(weir: Start, provide: Start, client: Clients, visit: Visit) -> None:
    """Loser and winner stand side by side on one axis, each with how it ended; only the winner's tokens are drawn."""
    slow, fast = await provide(temper=BRIEF, faults=Always(SlowFirstToken(delay=5))), await provide(temper=BRIEF)
    hedge = {"targets": RANKED, "policy": "priority", "first_token": {"timeout": "200ms", "on_slow": "hedge", "hedge_limit": "100%"}}
    one = await weir({"a": slow, "b": fast}, route=hedge)
    stream_id, record = await answered(one, client)
    page: Page = await visit(one, f"/streams/{stream_id}")
    loser, winner = page.locator(".lane.loser"), page.locator(".lane.winner")
    await expect(loser).to_have_count(1)
    await expect(loser).to_contain_text("hedge lost")
    await expect(loser.locator(".bars")).to_have_count(0)
    await expect(winner).to_contain_text("won")
    await expect(winner).to_contain_text("hedge")
    assert await drawn(winner.locator(".bars path.answer")) == columns(record)["answer"] > 0
    first, second = await loser.locator(".piece").first.bounding_box(), await winner.locator(".piece").first.bounding_box()
    assert first is not None
    assert second is not None
    assert first["x"] < second["x"]


async def test_the_seam_of_a_resumed_answer_is_marked(weir: Start, provide: Start, client: Clients, visit: Visit) -> None:
    """Where another upstream went on is marked on the line of hops and on its lane, and told in words; both lanes have their tokens."""
    broken = await provide(temper=BRIEF, faults=Always(Truncate(after=12)))
    one = await weir(
        {"a": broken, "b": await provide(temper=BRIEF)}, route={"targets": RANKED, "policy": "priority", "mid_stream": "resume"}
    )
    stream_id, record = await answered(one, client)
    [seam] = record["seams"]
    page: Page = await visit(one, f"/streams/{stream_id}")
    await expect(page.locator(".hops .mark.seam")).to_have_count(1)
    await expect(page.locator(".lanes .mark.seam")).to_have_count(1)
    await expect(page.get_by_text("Resumed: at")).to_be_visible()
    second = record["attempts"][1]["offsets"]["first_token"] - 0.001
    each = [columns(record, until=seam["offset"])["answer"], columns(record, since=second)["answer"]]
    assert [await drawn(bars) for bars in await page.locator(".lane .bars path.answer").all()] == each
    assert min(each) > 0


async def test_reasoning_is_told_from_the_answer(weir: Start, provide: Start, client: Clients, visit: Visit) -> None:
    """Tokens before the first answer are drawn apart from those after."""
    thinks = Always(Stall(after=20, length=2.0))  # so long that however late they are read, the two are not read at once
    one = await weir({"a": await provide(temper=Temper(ttft="20ms", gap="15ms", tokens=20, reasoning=20), faults=thinks)})
    stream_id, record = await answered(one, client)
    page: Page = await visit(one, f"/streams/{stream_id}")
    expected = columns(record)
    assert {kind: await drawn(page.locator(f".lane .bars path.{kind}")) for kind in expected} == expected
    assert min(expected.values()) > 0
    await expect(page.locator(".hops .legend")).to_contain_text("reasoning")


# Of every frame of a replay its moment and the clock that it showed, noted in the page: how late anybody looks at it is of no account.
NOTE = """() => {
  globalThis.noted = [];
  const told = document.querySelector('.replay .told');
  new MutationObserver(() => noted.push([document.timeline.currentTime / 1000, told.querySelector('.clock').textContent]))
    .observe(told, { childList: true });
}"""


async def test_a_replay_runs_at_its_speed(weir: Start, provide: Start, client: Clients, visit: Visit) -> None:
    """Played at twice its speed it takes half its time, and at its end every token has been there; the command stands beside it."""
    one = await weir({"a": await provide(temper=Temper(ttft="300ms", gap="50ms", tokens=60))})
    stream_id, record = await answered(one, client)
    page: Page = await visit(one, f"/streams/{stream_id}")
    play = page.locator(".replay .primary")
    await page.get_by_role("button", name="Replay").click()
    await page.locator(".replay select").select_option("16")
    await expect(play).to_have_text("▷ play")
    await page.locator(".replay select").select_option("2")
    await page.evaluate(NOTE)
    frames: list[tuple[float, float]] = []
    for _ in range(3):
        await page.evaluate("noted.length = 0")
        await play.click()
        await expect(play).to_have_text("▷ play")
        frames = [(at, seconds(clock)) for at, clock in await page.evaluate("noted")]
        if len(frames) > 10:  # a page that stood still meanwhile has shown too little to be judged by
            break
    (began, first), (ended, last) = frames[1], frames[-2]  # the first is where it was put, and the last is no more than the end
    assert (last - first) / (ended - began) == pytest.approx(2, rel=0.2)
    assert frames[0][1] == 0
    assert frames[-1][1] == pytest.approx(record["derived"]["duration"], abs=0.01)
    many = dict(record["cadence"]["counts"])
    blocks = sum(min(many.get(place, 1), 40) for place in range(len(record["cadence"]["ticks"])))  # a read has 40 at most
    await expect(page.locator(".replay .told")).to_contain_text(f"{record['cadence']['chunks']} tokens")
    await expect(page.locator(".replay .screen i")).to_have_count(blocks)
    await expect(page.locator(".replay .command")).to_contain_text("weir replay")
    await page.locator(".replay input[type=range]").fill("0")
    await expect(page.locator(".replay .told")).to_contain_text("waiting")
    await expect(page.locator(".replay .screen i")).to_have_count(0)


async def test_links_lead_to_the_configured_tools(weir: Start, provide: Start, client: Clients, visit: Visit) -> None:
    """Each template is a button with this stream's values in it, encoded; one that needs what is not known here is left out."""
    links = {
        "Jaeger": "http://jaeger.example/trace/{trace_id}?uiFind={span_id}",
        "Grafana": "https://grafana.example/d/x?var-route={route}&var-upstream={upstream}&from={from_ms}&to={to_ms}",
    }
    one = await weir({"a": await provide(temper=BRIEF)}, admin={"links": links}, route={"name": "chat.v2"})
    stream_id, record = await answered(one, client)
    page: Page = await visit(one, f"/streams/{stream_id}")
    jaeger = page.get_by_role("link", name="Jaeger")
    await expect(jaeger).to_have_attribute("href", f"http://jaeger.example/trace/{record['trace_id']}?uiFind={record['span_id']}")
    await expect(jaeger).to_have_attribute("rel", re.compile("noopener"))
    href = await page.get_by_role("link", name="Grafana").get_attribute("href") or ""
    found = re.fullmatch(r"https://grafana\.example/d/x\?var-route=chat\.v2&var-upstream=a&from=(\d+)&to=(\d+)", href)
    assert found is not None
    assert int(found[1]) / 1000 < record["received_unix"] < record["ended"] < int(found[2]) / 1000
    await page.goto("/routes")
    await expect(page.locator(".route")).to_be_visible()
    await expect(page.get_by_role("link", name="Jaeger")).to_have_count(0)


async def test_a_template_cannot_lead_out_of_its_place(weir: Start, provide: Start, visit: Visit) -> None:
    """Whatever a stream is called, it fills its place and nothing else; only web pages are led to."""
    one = await weir({"a": await provide()})
    page: Page = await visit(one, "/routes")
    filled = "async ([template, known]) => (await import('/static/links.js')).filled(template, known)"
    evil = '../?x=1&y=#"><script>'
    assert await page.evaluate(filled, ["http://t.example/{route}/x", {"route": evil}]) == (
        "http://t.example/..%2F%3Fx%3D1%26y%3D%23%22%3E%3Cscript%3E/x"
    )
    assert await page.evaluate(filled, ["http://t.example/{route}", {"upstream": "a"}]) is None
    assert await page.evaluate(filled, ["javascript:alert('{route}')", {"route": "chat"}]) is None


async def test_a_running_stream_is_stopped_here(running: Weir, visit: Visit, ask: Ask) -> None:
    """A running stream is shown with its strip and a stop that asks once; stopped, the page becomes that of an ended one."""
    task = ask(running)
    rows = await eventually(running.streams, "the stream runs")
    page: Page = await visit(running, f"/streams/{rows[0]['stream_id']}")
    await expect(page.locator("canvas.strip")).to_be_visible()
    await expect(page.locator(".heading .badge")).to_have_text("streaming")
    await expect(page.get_by_text(re.compile(r"last token (< )?\d+ ms ago"))).to_be_visible()
    asked: list[str] = []
    which = re.compile(rf"Stop stream {rows[0]['stream_id'][:8]}( of \S+ at \S+, \d+ s old)?\? Its client")

    def is_whole() -> bool:
        """What is known of the stream is asked for within a second; of a gateway that is too busy to say it only its id is told."""
        found = which.match(asked[-1]) if asked else None
        return found is not None and found[1] is not None

    async def reply(dialog: Any) -> None:
        asked.append(dialog.message)
        await (dialog.accept() if is_whole() else dialog.dismiss())

    page.on("dialog", reply)
    for clicks in range(1, 5):
        await page.get_by_role("button", name="Stop").click()
        await eventually(lambda clicks=clicks: len(asked) >= clicks, "it asks")
        if is_whole():
            break
    await expect(page.locator(".heading .badge")).to_have_text("operator abort")
    await expect(page.locator("[data-sum]")).to_be_visible()
    assert len(asked) == clicks
    assert all(which.match(question) for question in asked)
    assert b'"error"' in (await task).body


async def test_what_is_not_there_is_said(running: Weir, visit: Visit) -> None:
    """An id that nobody knows is told so, with a way to those that are there."""
    page: Page = await visit(running, "/streams/nobody", forgive=("404",))
    await expect(page.locator("main [role=alert]")).to_contain_text("No stream nobody is running or stored")
    await page.get_by_role("link", name="See the streams that are there").click()
    await expect(page.locator("main h1")).to_have_text("Streams")


async def test_a_stream_that_no_upstream_answered(weir: Start, provide: Start, client: Clients, visit: Visit) -> None:
    """Without a token there is no cadence, but its hops, its attempts and their errors are there all the same."""
    one = await weir({"a": await provide(faults=InOrder([Truncate(after=0)], repeat=True))})
    stream_id, record = await answered(one, client)
    page: Page = await visit(one, f"/streams/{stream_id}")
    await expect(page.locator(".heading .badge").first).to_have_text(record["outcome"].replace("_", " "))
    await expect(page.locator(".cadence")).to_contain_text("No token came")
    await expect(page.locator(".lane")).to_have_count(len(record["attempts"]))
    await expect(page.locator("[data-sum]")).to_be_visible()
