"""Future AGI: the names of its fi-instrumentation-otel 1.1, which builds on `gen_ai.*` and adds to it."""

from gateway.telemetry.mappers import asked
from gateway.telemetry.spans import Attribute

FUTUREAGI = (
    Attribute("gen_ai.span.kind", "LLM or EMBEDDING", asked.kind("LLM", "EMBEDDING")),
    Attribute("gen_ai.request.parameters", "JSON: how it was asked", asked.parameters),
    Attribute("gen_ai.usage.total_tokens", "input and output together", asked.total_tokens),
    Attribute("gen_ai.usage.cache_read_tokens", "as the provider said", asked.usage("cached")),
    Attribute("gen_ai.usage.cache_write_tokens", "as the provider said", asked.usage("cache_write")),
    Attribute("gen_ai.usage.output_tokens.reasoning", "as the provider said", asked.usage("reasoning")),
    Attribute("gen_ai.cost.total", "USD, by public list prices", lambda a: a.cost),
    Attribute("gen_ai.conversation.id", "from x-weir-session-id", lambda a: a.record.session_id),
    Attribute("gen_ai.prompt.template.name", "from x-weir-prompt-name", lambda a: a.record.prompt_name),
    Attribute("gen_ai.prompt.template.version", "from x-weir-prompt-version", lambda a: a.record.prompt_version),
    Attribute("tag.tags", "x-weir-tag-* as name:value", asked.tags),
    Attribute("metadata", "JSON: x-weir-tag-*", asked.metadata),
)
