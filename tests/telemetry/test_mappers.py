"""Vendors' own attributes: what each says of a stream, that nothing is said that is not known, and that none of it is content."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway.config import parse
from gateway.core.events import Usage
from gateway.core.record import StreamRecord
from gateway.telemetry.account import account
from gateway.telemetry.mappers import MAPPERS, mapped
from gateway.telemetry.spans import SPAN_ATTRIBUTES, resource, span

MakeRecord = Callable[..., StreamRecord]
USAGE = Usage(input=100, output=40, cached=30, cache_write=10, reasoning=15)
ASKED = {"usage": USAGE, "session_id": "s-1", "prompt_name": "greet", "prompt_version": "3", "tags": {"team": "red", "app": "web"}}


def said(record: StreamRecord, *mappers: Any, cost: float | None = 0.25) -> dict[str, Any]:
    """Return what these mappers add to the span of a record."""
    attributes = dict(span(account(record, cost), resource(), (*SPAN_ATTRIBUTES, *mapped(mappers))).attributes or {})
    plain = {row.name for row in SPAN_ATTRIBUTES}
    return {name: value for name, value in attributes.items() if name not in plain}


def test_langfuse(make_record: MakeRecord) -> None:
    """A generation with the moment of its first token, disjoint buckets of tokens, its cost, and the prompt it came from."""
    record = make_record(received_unix=1_700_000_000.0, parent_id=None, **ASKED)
    told = said(record, "langfuse")
    usage = json.loads(told.pop("langfuse.observation.usage_details"))
    assert usage == {"input": 60, "input_cached_tokens": 30, "input_cache_creation": 10, "output": 25, "output_reasoning_tokens": 15}
    assert sum(usage.values()) == 140
    assert told == {
        "langfuse.observation.type": "generation",
        "langfuse.observation.completion_start_time": "2023-11-14T22:13:20.300Z",
        "langfuse.observation.model.parameters": '{"temperature":0.5}',
        "langfuse.observation.cost_details": '{"total":0.25}',
        "langfuse.observation.prompt.name": "greet",
        "langfuse.observation.prompt.version": 3,
        "langfuse.trace.name": "chat",
        "langfuse.trace.tags": ("app:web", "team:red"),
    }


def test_langfuse_leaves_a_callers_trace_its_name(make_record: MakeRecord) -> None:
    """Trace attributes would replace those of the caller's own spans."""
    assert not [name for name in said(make_record(**ASKED), "langfuse") if name.startswith("langfuse.trace.")]


@pytest.mark.parametrize(
    ("changes", "level", "status"),
    [
        ({}, None, None),
        ({"outcome": "upstream_truncated", "error": "stream_truncated"}, "ERROR", "upstream_truncated: stream_truncated"),
        ({"outcome": "client_disconnect"}, "WARNING", "client_disconnect"),
        ({"fallback_reason": "slow_first_token"}, "WARNING", None),
    ],
)
def test_langfuse_levels(make_record: MakeRecord, changes: dict[str, Any], level: str | None, status: str | None) -> None:
    """ERROR is what is ERROR on the span, WARNING what else one would look at."""
    told = said(make_record(**changes), "langfuse")
    assert (told.get("langfuse.observation.level"), told.get("langfuse.observation.status_message")) == (level, status)


def test_a_prompt_version_that_is_no_number_is_not_langfuses(make_record: MakeRecord) -> None:
    """Its versions are numbers; anything else stays in `weir.prompt.version` alone."""
    assert "langfuse.observation.prompt.version" not in said(make_record(prompt_version="v3"), "langfuse")


def test_openinference(make_record: MakeRecord) -> None:
    """An LLM span with both models, the provider in its words, and every count of tokens."""
    assert said(make_record(asked_model="gpt-4o", **ASKED), "openinference") == {
        "openinference.span.kind": "LLM",
        "llm.provider": "openai",
        "llm.system": "openai",
        "llm.model_name": "gpt-4o-mini",
        "llm.request.model_name": "gpt-4o",
        "llm.response.model_name": "gpt-4o-mini",
        "llm.invocation_parameters": '{"temperature":0.5}',
        "llm.token_count.prompt": 100,
        "llm.token_count.completion": 40,
        "llm.token_count.total": 140,
        "llm.token_count.prompt_details.cache_read": 30,
        "llm.token_count.prompt_details.cache_write": 10,
        "llm.token_count.completion_details.reasoning": 15,
        "llm.cost.total": 0.25,
        "llm.finish_reason": "stop",
        "llm.prompt_template.version": "3",
        "tag.tags": ("app:web", "team:red"),
        "metadata": '{"team":"red","app":"web"}',
    }


@pytest.mark.parametrize(
    ("provider", "host", "system"),
    [("aws.bedrock", "aws", None), ("azure.ai.openai", "azure", "openai"), ("gcp.gemini", "google", None), ("ollama", "ollama", None)],
)
def test_openinference_names_providers_its_own_way(make_record: MakeRecord, provider: str, host: str, system: str | None) -> None:
    """Host and maker are told apart, the maker only where the provider has but one."""
    record = make_record()
    record.attempts[0].provider = provider
    told = said(record, "openinference")
    assert (told["llm.provider"], told.get("llm.system")) == (host, system)


def test_respan(make_record: MakeRecord) -> None:
    """A chat log with its customer, session and tokens under the names of its pages and of its SDK."""
    assert said(make_record(tenant="team-a", **ASKED), "respan") == {
        "respan.entity.log_type": "chat",
        "respan.customer_params.customer_identifier": "team-a",
        "respan.customer.identifier": "team-a",
        "respan.sessions.session_identifier": "s-1",
        "respan.threads.thread_identifier": "s-1",
        "respan.thread.id": "s-1",
        "respan.metadata": '{"team":"red","app":"web"}',
        "gen_ai.usage.prompt_tokens": 100,
        "gen_ai.usage.completion_tokens": 40,
        "gen_ai.usage.total_tokens": 140,
        "gen_ai.usage.cache_read_input_tokens": 30,
        "gen_ai.usage.cache_creation_input_tokens": 10,
        "llm.usage.reasoning_tokens": 15,
        "llm.is_streaming": True,
    }


def test_promptlayer(make_record: MakeRecord) -> None:
    """The template that the call came from; the rest it reads from `gen_ai.*`."""
    assert said(make_record(**ASKED), "promptlayer") == {"promptlayer.prompt.name": "greet", "promptlayer.prompt.version": "3"}


def test_futureagi(make_record: MakeRecord) -> None:
    """An LLM span with total tokens, cost, conversation and template."""
    assert said(make_record(**ASKED), "futureagi") == {
        "gen_ai.span.kind": "LLM",
        "gen_ai.request.parameters": '{"temperature":0.5}',
        "gen_ai.usage.total_tokens": 140,
        "gen_ai.usage.cache_read_tokens": 30,
        "gen_ai.usage.cache_write_tokens": 10,
        "gen_ai.usage.output_tokens.reasoning": 15,
        "gen_ai.cost.total": 0.25,
        "gen_ai.conversation.id": "s-1",
        "gen_ai.prompt.template.name": "greet",
        "gen_ai.prompt.template.version": "3",
        "tag.tags": ("app:web", "team:red"),
        "metadata": '{"team":"red","app":"web"}',
    }


def test_embeddings_are_no_generations(make_record: MakeRecord) -> None:
    """Each vendor's word for them, and the model under its own name."""
    told = said(make_record(operation="embeddings", streamed=False), *MAPPERS)
    words = ("langfuse.observation.type", "openinference.span.kind", "respan.entity.log_type", "gen_ai.span.kind", "embedding.model_name")
    assert [told[word] for word in words] == ["embedding", "EMBEDDING", "embedding", "EMBEDDING", "gpt-4o-mini"]
    assert "llm.model_name" not in told


@pytest.mark.parametrize("name", MAPPERS)
def test_nothing_unknown_is_said(make_record: MakeRecord, name: Any) -> None:
    """A call turned away before anything was known of it has no counts, no empty texts and no empty objects."""
    bare = StreamRecord(stream_id="s", trace_id="1" * 32, span_id="2" * 16, received_unix=1.7e9, received_at=1.0, ended_at=1.1)
    told = said(bare, name, cost=None)
    assert not [value for value in told.values() if value in ("", "{}", ())]
    assert not [key for key in told if "token" in key or "cost" in key or "model" in key]


@pytest.mark.parametrize("name", MAPPERS)
def test_no_mapper_replaces_what_is_there(name: Any) -> None:
    """An attribute has one meaning: no vendor's table holds a name of ours."""
    assert not {row.name for row in MAPPERS[name]} & {row.name for row in SPAN_ATTRIBUTES}
    assert len({row.name for row in MAPPERS[name]}) == len(MAPPERS[name])


def test_of_a_name_twice_the_first_counts() -> None:
    """Two mappers that share a name do not fight over it."""
    names = [row.name for row in mapped(("openinference", "futureagi"))]
    assert len(names) == len(set(names))
    assert {"tag.tags", "metadata"} <= set(names)


def test_the_configuration_knows_them_all() -> None:
    """Each may be named in routes.yaml, and none is on unless it is."""
    text = "upstreams: {a: {base_url: 'http://127.0.0.1:1/v1'}}\nroutes: [{name: r, match: {models: ['*']}, targets: [{upstream: a}]}]\n"
    assert parse(text).telemetry.mappers == ()
    assert parse(f"{text}telemetry: {{mappers: [{', '.join(MAPPERS)}]}}").telemetry.mappers == tuple(MAPPERS)
