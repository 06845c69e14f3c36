"""The story of `weir demo`: a first minute with Weir, a provider killed under its streams, and a clean end."""

import asyncio
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import openai
import pytest
from msgspec import Struct

Fixture = Callable[..., Any]
TRIES = 6
ASK: dict[str, Any] = {"model": "weir-demo", "messages": [{"role": "user", "content": "How high is the water?"}]}


class Seen(Struct):
    """One stream through the SDK: who served it, when each token came, how it ended."""

    upstream: str = ""
    times: list[float] = []
    finished: bool = False
    error: openai.APIError | None = None


@pytest.fixture
async def demo(weir: Fixture) -> Any:
    """A demo on free ports."""
    return await weir(command=["demo", "--minutes", "2", "--port", "0", "--admin-port", "0"])


@pytest.fixture
async def sdk(demo: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    """The official SDK, at the base_url that the demo prints."""
    base_url = re.search(r"base_url +(http\S+)", demo.out)
    assert base_url
    async with openai.AsyncOpenAI(base_url=base_url[1], api_key="any", max_retries=0) as client:
        yield client


async def listen(sdk: openai.AsyncOpenAI, seen: Seen) -> Seen:
    """Take one stream as an application does."""
    try:
        raw = await sdk.chat.completions.with_raw_response.create(stream=True, **ASK)
        seen.upstream = raw.headers["x-weir-upstream"]
        async for chunk in raw.parse():
            choice = chunk.choices[0]
            if choice.delta.content or getattr(choice.delta, "reasoning_content", None):
                seen.times.append(time.monotonic())
            seen.finished = seen.finished or choice.finish_reason is not None
    except openai.APIError as error:
        seen.error = error
    return seen


async def test_streams_come_token_by_token(demo: Any, sdk: openai.AsyncOpenAI) -> None:
    """The SDK gets tokens as they are made, spread over the stream's life, not all at its end."""
    heard: list[list[float]] = []
    while len(heard) < TRIES:  # a busy machine may hand us a whole stream at once, and one in a hundred breaks by design
        times = (await listen(sdk, Seen())).times
        if len(times) >= 20 and times[-1] - times[0] > 0.1 and len({round(at, 3) for at in times}) >= 10:
            return
        heard.append(times)
    raise AssertionError(heard)


async def test_a_killed_provider_costs_its_open_streams_and_no_other(demo: Any, sdk: openai.AsyncOpenAI, eventually: Fixture) -> None:
    """Its streams end in an error and never as if they were whole; new ones succeed elsewhere; SIGTERM ends everything, children too."""
    victim = "quick"
    pid = int(re.search(rf"kill -9 (\d+) +# sim-{victim}", demo.out)[1])  # type: ignore[index]
    every: list[Seen] = []
    over = asyncio.Event()

    async def calling() -> None:
        while not over.is_set():
            every.append(Seen())
            await listen(sdk, every[-1])

    def open_there() -> list[Seen]:
        return [seen for seen in every if seen.upstream == victim and seen.times and not seen.finished and not seen.error]

    async def stopped() -> list[Seen]:
        """Let the victim stand still, and return the streams that it has not said to their end: whatever it had said has come."""
        if any(len(seen.times) < 5 for seen in open_there()):
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(1.0)
            if found := open_there():
                return found
            os.kill(pid, signal.SIGCONT)
        return []

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(calling())
        open_streams = await eventually(stopped, "some are open on the victim")
        os.kill(pid, signal.SIGKILL)
        over.set()
    assert all(seen.finished != (seen.error is not None) for seen in every)  # whole, or an error; never neither
    assert any(seen.error is not None for seen in open_streams)
    after = await asyncio.gather(*(listen(sdk, Seen()) for _ in range(8)))
    assert victim not in {seen.upstream for seen in after}
    assert sum(seen.finished for seen in after) >= 5  # the demo's providers break one stream in a hundred by design
    before = demo.living()
    assert len(before) >= 6  # supervisor, recorder, worker, two providers, callers
    assert await demo.stop() == 0
    assert demo.living() == []


async def test_the_demo_ends_by_itself(weir: Fixture) -> None:
    """With --minutes nobody has to end it."""
    demo = await weir(command=["demo", "--minutes", "0.05", "--port", "0", "--admin-port", "0"])
    assert await demo.leave(30) == 0
    assert demo.living() == []
