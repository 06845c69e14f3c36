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
    seen = await listen(sdk, Seen())
    assert len(seen.times) >= 20
    assert seen.times[-1] - seen.times[0] > 0.1
    assert len({round(at, 3) for at in seen.times}) >= 10


async def test_a_killed_provider_costs_its_open_streams_and_no_other(demo: Any, sdk: openai.AsyncOpenAI, eventually: Fixture) -> None:
    """Its streams end in an error and never as if they were whole; new ones succeed elsewhere; SIGTERM ends everything, children too."""
    victim = "quick"
    pid = int(re.search(rf"kill -9 (\d+) +# sim-{victim}", demo.out)[1])  # type: ignore[index]
    every = [Seen() for _ in range(16)]
    async with asyncio.TaskGroup() as group:
        for seen in every:
            group.create_task(listen(sdk, seen))
        await eventually(lambda: all(seen.times or seen.error for seen in every), "all speak")
        open_there = [seen for seen in every if seen.upstream == victim and not seen.finished]
        assert open_there, "none was open on the victim"
        os.kill(pid, signal.SIGKILL)
    assert all(seen.finished != (seen.error is not None) for seen in every)  # whole, or an error; never neither
    assert any(seen.error is not None for seen in open_there)
    assert all(isinstance(seen.error, openai.APIError) for seen in open_there if not seen.finished)
    after = await asyncio.gather(*(listen(sdk, Seen()) for _ in range(8)))
    assert victim not in {seen.upstream for seen in after}
    assert sum(seen.finished for seen in after) >= 5  # the demo's providers break one stream in a hundred by design
    before = demo.living()
    assert len(before) >= 6  # supervisor, recorder, worker, two providers, callers
    started = time.monotonic()
    assert await demo.stop(10) == 0
    assert time.monotonic() - started < 10
    assert demo.living() == []


async def test_the_demo_ends_by_itself(weir: Fixture) -> None:
    """With --minutes nobody has to end it."""
    demo = await weir(command=["demo", "--minutes", "0.05", "--port", "0", "--admin-port", "0"])
    assert await demo.leave(20) == 0
    assert demo.living() == []
