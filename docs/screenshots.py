"""Takes the pictures of the console that the documentation shows: `make screenshots`. A lively gateway runs for a minute first.

Needs the extra `browser` and Debian's Chromium. What is asked, stalls and breaks off is drawn by fixed seeds, so that pictures taken anew
look like those before.
"""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import orjson
from playwright.async_api import Browser, Page, async_playwright

from gateway.sim.faults import Always, Chance, FirstOf, Script, Stall, Truncate
from gateway.sim.load import Aborts, Load, traffic
from gateway.sim.provider import Provider
from gateway.sim.steps import End, Pause, Send, framed
from gateway.sim.tempers import Temper

IMAGES = Path(__file__).parent / "img"
CHROMIUM = os.environ.get("WEIR_CHROMIUM") or shutil.which("chromium")
SIZE = {"width": 1360, "height": 880}
WARMING_UP = 75.0
"""Seconds of traffic before the first picture: the history needs something in it, and the Live page a whole strip."""

PROVIDERS: dict[str, tuple[Temper, Any]] = {
    "openai-main": (
        Temper(ttft="lognormal 240ms 700ms", gap="lognormal 28ms 90ms", tokens="uniform 150 900"),
        FirstOf((Chance(0.16, Stall(after=90, length=4.5)), Chance(0.05, Stall(after=240, length=9)), Chance(0.05, Truncate(after=120)))),
    ),
    "local-llama": (
        Temper(ttft="lognormal 60ms 160ms", gap="uniform 14ms 30ms", tokens="uniform 200 900"),
        Chance(0.03, Truncate(after=60)),
    ),
    "thinker": (
        Temper(ttft="lognormal 600ms 1400ms", gap="lognormal 26ms 60ms", tokens="uniform 150 500", reasoning="uniform 100 350"),
        Chance(0.10, Stall(after=160, length=3.5)),
    ),
    "crowded": (Temper(ttft="lognormal 1700ms 3s", gap="lognormal 60ms 180ms", tokens="uniform 100 300"), Chance(0.1, Stall(30, 6))),
}
MODELS = {"gpt-4o-mini": 5.0, "claude-agent": 2.5, "summaries": 1.0}


def config(urls: dict[str, str]) -> dict[str, Any]:
    """Return the routes.yaml of the gateway that is shown."""

    def route(name: str, model: str, targets: list[str], **more: Any) -> dict[str, Any]:
        ranked = [{"upstream": target, "priority": rank} for rank, target in enumerate(targets)]
        return {"name": name, "match": {"models": [model]}, "targets": ranked, "stall": {"threshold": "1s"}, "slo": {"ttft": "1s"}, **more}

    hedged = {"policy": "priority", "first_token": {"timeout": "1s", "on_slow": "hedge", "hedge_limit": "100%"}}
    return {
        "version": 1,
        "server": {"port": 0, "drain": "1s", "workers": 2},
        "admin": {"port": 0},
        "upstreams": {name: {"base_url": url} for name, url in urls.items()},
        "routes": [
            route("chat", "gpt-4o-mini", ["openai-main", "local-llama"]),
            route("agents", "claude-agent", ["thinker"], first_token={"timeout": "10s", "on_slow": "wait"}),
            route("batch", "summaries", ["crowded", "openai-main"], **hedged),
            route("exports", "exports", ["exports"]),
        ],
        "telemetry": {"store": {"path": "weir.db"}, "access_log": "off"},
    }


def exports() -> Script:
    """Return answers in large pieces: a client that reads them slowly makes its gateway wait."""
    piece = b'data: {"id":"e","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % (b"x" * 60_000)
    steps = [step for _ in range(1500) for step in (Send(piece, "token"), Pause(0.02))]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    return Script((Send(head), *framed([*steps, End()])))


@contextlib.asynccontextmanager
async def weir(folder: Path) -> AsyncIterator[tuple[str, str]]:
    """Run a gateway over the providers; yields its addresses, data plane first."""
    providers = {name: Provider(temper, faults, seed=7, name=name) for name, (temper, faults) in PROVIDERS.items()}
    providers["exports"] = Provider(Temper(), Always(exports()), seed=7, name="exports")
    for provider in providers.values():
        await provider.start()
    (folder / "routes.yaml").write_bytes(orjson.dumps(config({name: provider.base_url for name, provider in providers.items()})))
    command = (sys.executable, "-m", "gateway", "serve", "-c", "routes.yaml")
    program = await asyncio.create_subprocess_exec(*command, cwd=folder, stdout=asyncio.subprocess.PIPE, start_new_session=True)
    try:
        assert program.stdout is not None
        found: list[str] = []
        async with asyncio.timeout(20):
            while len(found) < 2:
                found += re.findall(r"http://127\.0\.0\.1:\d+", (await program.stdout.readline()).decode())
        yield found[0], found[1]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGTERM)
        await program.wait()
        for provider in providers.values():
            await provider.close()


async def agents(url: str) -> None:
    """Be an agent, again and again: three steps of one trace, the second asked twice at once."""
    async with httpx.AsyncClient(base_url=url, timeout=120, trust_env=False) as http:
        for number in range(1, 1000):
            trace, root = f"{number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128:032x}", f"{number:016x}"

            async def step(span: str, parent: str, trace: str = trace) -> None:
                asked = {"model": "claude-agent", "stream": True, "max_tokens": 90, "messages": [{"role": "user", "content": "plan"}]}
                headers = {"traceparent": f"00-{trace}-{parent}-01", "x-weir-tag-step": span, "x-weir-session-id": "s1"}
                async with http.stream("POST", "/v1/chat/completions", json=asked, headers=headers) as reply:
                    async for _ in reply.aiter_raw():
                        pass

            await step("plan", root)
            await asyncio.gather(step("search", root), step("read", root))
            await step("answer", root)


async def lazy(address: tuple[str, int]) -> None:
    """Be a client on a slow line: it takes a little, then nothing for a while."""
    loop = asyncio.get_running_loop()
    body = b'{"model": "exports", "stream": true, "messages": []}'
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    while True:
        with socket.socket() as sock:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            await loop.sock_connect(sock, address)
            await loop.sock_sendall(sock, head + body)
            for _ in range(8):
                async with asyncio.timeout(60):
                    taken = 0
                    while taken < 6_000_000:
                        taken += len(got := await loop.sock_recv(sock, 65536))
                        if not got:
                            break
                await asyncio.sleep(3.5)


async def picture(page: Page, name: str) -> None:
    """Take a picture of what the window shows."""
    await page.screenshot(path=IMAGES / f"{name}.png")
    sys.stdout.write(f"{name}.png {(IMAGES / f'{name}.png').stat().st_size // 1024} KiB\n")


async def settled(page: Page) -> None:
    """Let a page load what it shows."""
    await page.wait_for_load_state("load")
    await page.wait_for_selector("main h1", state="attached")
    await page.wait_for_timeout(2500)


async def telling(admin: str) -> dict[str, str]:
    """Return paths of pages about single streams that have much to tell: one with a stall, one trace of several streams."""
    async with httpx.AsyncClient(base_url=admin, timeout=10, trust_env=False) as http:
        rows = (await http.get("/api/streams", params={"limit": "1000"})).json()["streams"]
    ended = [row for row in rows if row["state"] == "ended" and row["chunks"]]
    stalled = max(ended, key=lambda row: (set(row["stall_time"]) == {"upstream"}, row["attempts"] > 1, row["chunks"]))
    steps = [row["trace_id"] for row in ended if row["tags"].get("step")]
    whole = next(trace for trace in steps if steps.count(trace) == 4)
    return {"stream": f"/streams/{stalled['stream_id']}", "trace": f"/traces/{whole}"}


async def shoot(browser: Browser, admin: str) -> None:
    """Take all pictures: every page dark, the Live page also light and as on a phone."""
    dark = await browser.new_context(base_url=admin, viewport=SIZE, color_scheme="dark", locale="en-GB")
    live = await dark.new_page()
    await live.goto("/")
    light = await (await browser.new_context(base_url=admin, viewport=SIZE, color_scheme="light", locale="en-GB")).new_page()
    await light.goto("/")
    phone = {"viewport": {"width": 390, "height": 800}, "color_scheme": "dark", "device_scale_factor": 2}
    small = await (await browser.new_context(base_url=admin, locale="en-GB", **phone)).new_page()
    await small.goto("/")
    await asyncio.sleep(35)
    await picture(live, "live")
    await picture(light, "live-light")
    await picture(small, "live-phone")
    for page in (live, light, small):
        await page.close()
    pages = {"streams": "/streams", **await telling(admin), "routes": "/routes", "compare": "/compare"}
    for name, path in pages.items():
        page = await dark.new_page()
        await page.goto(path)
        await settled(page)
        await picture(page, name)
        await page.close()


async def main() -> None:
    """Run the gateway, its providers and its callers, and take the pictures."""
    with tempfile.TemporaryDirectory(prefix="weir-screenshots-") as folder:
        async with weir(Path(folder)) as (url, admin), asyncio.TaskGroup() as group:
            host, port = url.removeprefix("http://").split(":")
            crowd = Load(host=host, port=int(port), rate=1.3, poisson=True, streams=40, model=MODELS, aborts=Aborts(share=0.06), seed=4)
            callers = [group.create_task(each) for each in (traffic(crowd), agents(url), lazy((host, int(port))))]
            await asyncio.sleep(WARMING_UP)
            async with async_playwright() as playwright:
                browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
                await shoot(browser, admin)
                await browser.close()
            for caller in callers:
                caller.cancel()


if __name__ == "__main__":
    asyncio.run(main())
