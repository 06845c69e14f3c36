"""Real streams through the real gateway into real backends, and what those say of them when they are asked over their own APIs."""

import asyncio
from collections.abc import Callable
from typing import Any

import openai
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import format_span_id, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gateway.sim.faults import ByModel, Stall, Truncate
from gateway.sim.tempers import Temper
from tests.backends import reading
from tests.backends.programs import Running
from tests.backends.reading import Seen

pytestmark = pytest.mark.backends
Fixture = Callable[..., Any]
READERS = {"phoenix": reading.phoenix, "rotel": reading.phoenix, "jaeger": reading.jaeger}
PATHS = [(name, protocol) for name in READERS for protocol in ("http", "grpc")]
FAULTS = ByModel({"stalling": Stall(after=5, length=3.0), "broken": Truncate(after=6)})
TEMPER = Temper(ttft="150ms", gap="5ms", tokens=30, cached=3)
ROUTE = {"stall": {"threshold": "2s"}, "retry": {"attempts": 1}}
"""No busy machine is silent for so long, nor holds half of the silence that is longer."""
PATIENCE = 60.0
"""Seconds until a backend shows what it was sent."""
OWNERS = ("queue", "connect", "upstream_wait", "gateway", "client_blocked", "guard_held")


class Agent:
    """A caller with a trace of its own: each step is a span that it sends to the backend itself, and one stream."""

    def __init__(self, backend: Running, url: str) -> None:
        self._provider = TracerProvider(resource=Resource({"service.name": "agent"}))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{backend.http}/v1/traces")))
        self._openai = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0)

    async def step(self, model: str, **headers: str) -> tuple[str, str, bool]:
        """Ask for one stream; return the ids of trace and step, and whether the answer was whole."""
        step = self._provider.get_tracer("agent").start_span(f"step {model}")
        TraceContextTextMapPropagator().inject(headers, set_span_in_context(step))
        whole = True
        try:
            asked = {"model": model, "messages": [{"role": "user", "content": "hello"}], "stream": True, "extra_headers": headers}
            async for _ in await self._openai.chat.completions.create(**asked):  # type: ignore[call-overload]
                pass
        except openai.APIError:
            whole = False
        step.end()
        return format_trace_id(step.context.trace_id), format_span_id(step.context.span_id), whole

    async def close(self) -> None:
        await self._openai.close()
        await asyncio.to_thread(self._provider.shutdown)


def ours_of(spans: list[Seen], step: str) -> Seen:
    """Return the gateway's span of a trace that holds it and the caller's."""
    assert {span.span_id for span in spans} > {step}
    [ours] = [span for span in spans if span.span_id != step]
    assert ours.parent_id == step
    return ours


@pytest.mark.parametrize(("name", "protocol"), PATHS)
async def test_a_backend_gives_back_what_happened(
    name: str, protocol: str, backend: Fixture, weir: Fixture, provide: Fixture, eventually: Fixture
) -> None:
    """Parent, times, usage, finish reason, events with blame, and the error of the stream that broke, over HTTP and over gRPC."""
    there: Running = backend(name)
    provider = await provide(temper=TEMPER, faults=FAULTS)
    otlp = {"endpoint": there.http if protocol == "http" else there.grpc, "protocol": protocol}
    gateway = await weir({"sim": provider}, route=ROUTE, telemetry={"otlp": otlp})
    agent = Agent(there, gateway.url)
    steps = {model: await agent.step(model) for model in ("good", "stalling", "broken")}
    await agent.close()
    assert {model: whole for model, (_, _, whole) in steps.items()} == {"good": True, "stalling": True, "broken": False}
    spans = {}
    for model, (trace, step, _) in steps.items():

        async def told(trace: str = trace) -> list[Seen]:
            found = await asyncio.to_thread(READERS[name], there.api, trace)
            return found if len(found) == 2 else []

        spans[model] = ours_of(await eventually(told, f"{name} gives back both spans of {model}", PATIENCE), step)
        assert (spans[model].name, spans[model].trace_id) == (f"chat {model}", trace)
    good(spans["good"])
    stalling(spans["stalling"])
    broken(spans["broken"])
    assert (await gateway.scrape()).sum("weir_telemetry_dropped_total") == 0


def good(span: Seen) -> None:
    """Everything that a good stream tells."""
    said = span.attributes
    assert not span.error
    assert "error.type" not in said
    assert (said["weir.outcome"], said["weir.route"], said["weir.upstream"]) == ("completed", "chat", "sim")
    assert 0.15 <= said["gen_ai.server.time_to_first_token"] <= said["weir.ttft"] < span.seconds
    assert said["gen_ai.response.time_to_first_chunk"] <= said["gen_ai.server.time_to_first_token"]
    assert (said["gen_ai.usage.output_tokens"], said["weir.chunks"]) == (30, 30)
    assert said["gen_ai.usage.input_tokens"] > said["gen_ai.usage.cache_read.input_tokens"] == 3
    assert list(said["gen_ai.response.finish_reasons"]) == ["stop"]
    assert sum(said.get(f"weir.duration.{owner}", 0.0) for owner in OWNERS) == pytest.approx(span.seconds, abs=0.002)
    assert [event for event, _ in span.events] == ["attempt", "stream.start", "First Token Stream Event", "stream.end"]
    assert span.events[0][1] == {"upstream": "sim", "why": "first", "outcome": "won"}


def stalling(span: Seen) -> None:
    """The silence, where it was, and whose it was."""
    [stall] = [told for event, told in span.events if event == "stall"]
    assert (stall["blame"], stall["chunk"]) == ("upstream", 5)
    assert stall["length"] > 2.9
    assert (span.attributes["weir.stalls"], span.attributes["weir.stall.blame"]) == (1, "upstream")
    assert not span.error


def broken(span: Seen) -> None:
    """The status that alerts look at, though the caller had had 200."""
    said = span.attributes
    assert span.error
    assert (said["weir.outcome"], said["http.response.status_code"], said["weir.chunks"]) == ("upstream_truncated", 200, 6)
    assert said["error.type"]
    assert "gen_ai.usage.output_tokens" not in said
    assert span.events[-1] == ("stream.end", {"outcome": "upstream_truncated"})


async def test_phoenix_shows_a_mapped_span_as_its_own(backend: Fixture, weir: Fixture, provide: Fixture, eventually: Fixture) -> None:
    """With the mapper a stream is an LLM span there: model and tokens under its own names, and the caller's tags to filter by."""
    there: Running = backend("phoenix")
    gateway = await weir({"sim": await provide(temper=TEMPER)}, telemetry={"otlp": {"endpoint": there.http}, "mappers": ["openinference"]})
    agent = Agent(there, gateway.url)
    trace, step, _ = await agent.step("good", **{"x-weir-tag-team": "red"})
    await agent.close()

    async def told() -> list[Seen]:
        found = await asyncio.to_thread(reading.phoenix, there.api, trace)
        return found if len(found) == 2 else []

    ours = ours_of(await eventually(told, "Phoenix gives back both spans", PATIENCE), step)
    said = ours.attributes
    assert (ours.kind, said["tag.tags"], said["metadata.team"]) == ("LLM", ["team:red"], "red")
    assert (said["llm.request.model_name"], said["llm.provider"], said["llm.finish_reason"]) == ("good", "openai", "stop")
    assert said["llm.token_count.total"] == said["llm.token_count.prompt"] + said["llm.token_count.completion"]
    assert said["llm.token_count.prompt_details.cache_read"] == 3


async def test_what_is_sampled_is_what_is_there(backend: Fixture, weir: Fixture, provide: Fixture, eventually: Fixture) -> None:
    """Of traces that begin here a backend has those that failed, and says why; of a caller's it has what the caller keeps."""
    there: Running = backend("phoenix")
    sampling = {"baseline": "0%", "always": ["error"]}
    provider = await provide(temper=TEMPER, faults=FAULTS)
    gateway = await weir({"sim": provider}, route=ROUTE, telemetry={"otlp": {"endpoint": there.http}, "sampling": sampling})
    own = openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="k", max_retries=0)
    for model in ("good", "broken", "good", "broken"):
        try:
            messages: Any = [{"role": "user", "content": "hello"}]
            async for _ in await own.chat.completions.create(model=model, messages=messages, stream=True):
                pass
        except openai.APIError:
            assert model == "broken"
    await own.close()
    agent = Agent(there, gateway.url)
    trace, step, _ = await agent.step("good")
    await agent.close()
    rows = {row["trace_id"]: row["outcome"] for row in await gateway.told(5)}

    async def told() -> dict[str, list[Seen]]:
        found = {one: await asyncio.to_thread(reading.phoenix, there.api, one) for one in rows}
        return found if sum(map(len, found.values())) == 4 else {}

    found = await eventually(told, "two failures, and the caller's span with ours", PATIENCE)
    assert ours_of(found.pop(trace), step).attributes["weir.sampling.reason"] == "parent"
    assert {one for one, spans in found.items() if spans} == {one for one, outcome in rows.items() if outcome != "completed"}
    assert {span.attributes["weir.sampling.reason"] for spans in found.values() for span in spans} == {"error"}


async def test_the_tail_sampler_of_deploy_keeps_the_same(backend: Fixture, weir: Fixture, provide: Fixture, eventually: Fixture) -> None:
    """A real collector with the shipped configuration keeps of whole traces those where a stream erred or stalled, and no others."""
    there: Running = backend("otelcol")
    provider = await provide(temper=TEMPER, faults=FAULTS)
    gateway = await weir({"sim": provider}, route=ROUTE, telemetry={"otlp": {"endpoint": there.http}})
    agent = Agent(there, gateway.url)
    steps = [(model, await agent.step(model)) for model in ("good", "stalling", "good", "broken")]
    await agent.close()
    traces = {trace: model for model, (trace, _, _) in steps}

    async def told() -> set[str]:
        found = {one: await asyncio.to_thread(reading.jaeger, there.api, one) for one in traces}
        kept = {traces[one] for one, spans in found.items() if len(spans) == 2}
        return kept if {"stalling", "broken"} <= kept else set()

    assert await eventually(told, "the traces worth looking at", PATIENCE) == {"stalling", "broken"}
    await gateway.told(4)
    assert not [one for one, model in traces.items() if model == "good" and reading.jaeger(there.api, one)]
