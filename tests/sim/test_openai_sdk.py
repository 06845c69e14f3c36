"""The official SDK straight against the provider: what the gateway's clients will be is what the provider must please."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import openai
import pytest

from gateway.sim.faults import Always, ErrorEvent, Fault, ResetAfter, Script, SplitUtf8, Status, Truncate
from gateway.sim.steps import Fin, Send
from gateway.sim.tempers import INSTANT, Temper

Fixture = Callable[..., Any]
MESSAGES: Any = [{"role": "user", "content": "How high is the water?"}]


@pytest.fixture
async def client(serve: Fixture) -> AsyncIterator[Fixture]:
    """An SDK client of a provider with this temper and fault."""
    opened: list[openai.AsyncOpenAI] = []

    async def connect(fault: Fault | None = None, temper: Temper = INSTANT) -> openai.AsyncOpenAI:
        provider = await serve(temper, *([Always(fault)] if fault else []))
        opened.append(openai.AsyncOpenAI(base_url=provider.base_url, api_key="sk-sim", max_retries=0))
        return opened[-1]

    yield connect
    for one in opened:
        await one.close()


async def chunks(sdk: openai.AsyncOpenAI, **options: Any) -> list[Any]:
    stream = await sdk.chat.completions.create(model="sim-small", messages=MESSAGES, stream=True, **options)
    return [chunk async for chunk in stream]


async def test_streamed_text_and_usage(client: Fixture) -> None:
    """The text joins up and the usage says how many tokens it was."""
    got = await chunks(await client(), stream_options={"include_usage": True})
    text = [chunk.choices[0].delta.content for chunk in got if chunk.choices and chunk.choices[0].delta.content]
    assert len(text) == 20
    assert (got[-1].choices, got[-1].usage.completion_tokens) == ([], 20)
    assert [chunk.choices[0].finish_reason for chunk in got if chunk.choices][-1] == "stop"


async def test_no_usage_unless_asked(client: Fixture) -> None:
    """Without include_usage no chunk lacks choices and none has usage."""
    got = await chunks(await client())
    assert all(chunk.choices and chunk.usage is None for chunk in got)


async def test_whole_answers(client: Fixture) -> None:
    """Chat, completions, embeddings and models as documents."""
    sdk = await client()
    chat = await sdk.chat.completions.create(model="sim-small", messages=MESSAGES, max_tokens=4)
    assert (chat.choices[0].finish_reason, chat.usage.completion_tokens) == ("length", 4)
    assert (await sdk.completions.create(model="sim-small", prompt="The weir")).choices[0].text
    embeddings = await sdk.embeddings.create(model="sim-small", input=["a", "b"], dimensions=5)
    assert [len(row.embedding) for row in embeddings.data] == [5, 5]
    assert [model.id async for model in sdk.models.list()] == ["sim-small", "sim-large"]


async def test_tool_calls_and_reasoning(client: Fixture) -> None:
    """A tool call arrives in pieces; reasoning comes before the answer."""
    got = await chunks(await client(temper=Temper(ttft=0, gap=0, tokens=9, reasoning=2, speech="tool")))
    deltas = [chunk.choices[0].delta for chunk in got]
    calls = [delta.tool_calls[0] for delta in deltas if delta.tool_calls]
    assert (calls[0].function.name, len(calls)) == ("measure_flow", 9)
    assert sum(bool(getattr(delta, "reasoning_content", None)) for delta in deltas) == 2


@pytest.mark.parametrize(
    ("code", "error"),
    [(429, openai.RateLimitError), (500, openai.InternalServerError), (400, openai.BadRequestError), (401, openai.AuthenticationError)],
)
async def test_statuses_are_the_sdks_errors(client: Fixture, code: int, error: type[Exception]) -> None:
    """A status of the provider is the SDK's own error class."""
    with pytest.raises(error):
        await chunks(await client(Status(code, retry_after=1)))


async def test_an_error_event_is_an_api_error(client: Fixture) -> None:
    """An error in a stream of status 200 reaches the caller."""
    with pytest.raises(openai.APIError, match="Busy"):
        await chunks(await client(ErrorEvent(after=2, code="overloaded", message="Busy.")))


async def test_a_clean_fin_too_early_looks_like_success(client: Fixture) -> None:
    """The reason why a gateway must say it: with the body's end said, the SDK takes a truncated stream for a whole one."""
    got = await chunks(await client(Truncate(after=3, terminator=True)))
    assert all(chunk.choices[0].finish_reason is None for chunk in got)


@pytest.mark.parametrize("fault", [Truncate(after=3), ResetAfter(after=3), Script((Send(b"HTTP/1.1 200 OK\r\n"), Fin()))])
async def test_a_broken_connection_is_an_error(client: Fixture, fault: Fault) -> None:
    """Without the body's end, or with RST, the SDK's transport raises."""
    with pytest.raises(openai.APIConnectionError):
        await chunks(await client(fault))


async def test_split_utf8_is_still_text(client: Fixture) -> None:
    """Multi-byte characters cut at every byte come out whole."""
    got = await chunks(await client(SplitUtf8()))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in got)
    assert len(text) > 20
    assert "\ufffd" not in text
