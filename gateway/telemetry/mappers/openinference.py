"""OpenInference (Arize, Phoenix): the names of its semantic conventions 0.1.42, https://arize-ai.github.io/openinference/spec/."""

from collections.abc import Callable

from gateway.telemetry.account import Account
from gateway.telemetry.mappers import asked
from gateway.telemetry.spans import Attribute, Value

PROVIDERS = {"gcp.gemini": "google", "gcp.vertex_ai": "google", "aws.bedrock": "aws", "azure.ai.openai": "azure"}
"""Its words for who hosts a model, where they are not those of `gen_ai.provider.name`."""
SYSTEMS = {"openai": "openai", "azure.ai.openai": "openai", "anthropic": "anthropic", "gcp.vertex_ai": "vertexai"}
"""Its words for whose product answers, as far as the provider tells."""


def _provider(words: Callable[[str], str | None]) -> Callable[[Account], str | None]:
    return lambda account: words(served.provider) or None if (served := account.record.served) else None


def _generated(read: Callable[[Account], Value | None]) -> Callable[[Account], Value | None]:
    return lambda account: None if account.record.operation == "embeddings" else read(account)


OPENINFERENCE = (
    Attribute("openinference.span.kind", "LLM or EMBEDDING", asked.kind("LLM", "EMBEDDING")),
    Attribute("llm.provider", "who hosts the model", _provider(lambda name: PROVIDERS.get(name, name))),
    Attribute("llm.system", "whose product answers, as far as the provider tells", _provider(SYSTEMS.get)),
    Attribute("llm.model_name", "the model that answered, or was asked for", _generated(asked.model)),
    Attribute("llm.request.model_name", "the model the client asked for", _generated(lambda a: a.record.asked_model or None)),
    Attribute("llm.response.model_name", "the model the provider says answered", _generated(lambda a: a.record.served_model)),
    Attribute("embedding.model_name", "the model, of embeddings",
              lambda a: asked.model(a) if a.record.operation == "embeddings" else None),
    Attribute("llm.invocation_parameters", "JSON: how it was asked", asked.parameters),
    Attribute("llm.token_count.prompt", "as the provider said", asked.usage("input")),
    Attribute("llm.token_count.completion", "as the provider said", asked.usage("output")),
    Attribute("llm.token_count.total", "both together", asked.total_tokens),
    Attribute("llm.token_count.prompt_details.cache_read", "as the provider said", asked.usage("cached")),
    Attribute("llm.token_count.prompt_details.cache_write", "as the provider said", asked.usage("cache_write")),
    Attribute("llm.token_count.completion_details.reasoning", "as the provider said", asked.usage("reasoning")),
    Attribute("llm.cost.total", "USD, by public list prices", lambda a: a.cost),
    Attribute("llm.finish_reason", "of the first choice, the provider's word", lambda a: a.record.finish[0] if a.record.finish else None),
    Attribute("llm.prompt_template.version", "from x-weir-prompt-version", lambda a: a.record.prompt_version),
    Attribute("tag.tags", "x-weir-tag-* as name:value", asked.tags),
    Attribute("metadata", "JSON: x-weir-tag-*", asked.metadata),
)  # fmt: skip
