"""Respan (formerly Keywords AI): the keys of its OTLP page, https://www.respan.ai/docs/integrations/opentelemetry, and of its SDK 2.9.

The two call customer and thread differently; each is given its own.
"""

from gateway.telemetry.account import Account
from gateway.telemetry.mappers import asked
from gateway.telemetry.spans import Attribute


def _type(account: Account) -> str | None:
    return {"chat": "chat", "text_completion": "text", "embeddings": "embedding"}.get(account.record.operation)


RESPAN = (
    Attribute("respan.entity.log_type", "chat, text or embedding", _type),
    Attribute("respan.customer_params.customer_identifier", "the tenant", lambda a: a.record.tenant or None),
    Attribute("respan.customer.identifier", "the tenant", lambda a: a.record.tenant or None),
    Attribute("respan.sessions.session_identifier", "from x-weir-session-id", lambda a: a.record.session_id),
    Attribute("respan.threads.thread_identifier", "from x-weir-session-id", lambda a: a.record.session_id),
    Attribute("respan.thread.id", "from x-weir-session-id", lambda a: a.record.session_id),
    Attribute("respan.metadata", "JSON: x-weir-tag-*", asked.metadata),
    Attribute("gen_ai.usage.prompt_tokens", "as the provider said", asked.usage("input")),
    Attribute("gen_ai.usage.completion_tokens", "as the provider said", asked.usage("output")),
    Attribute("gen_ai.usage.total_tokens", "both together", asked.total_tokens),
    Attribute("gen_ai.usage.cache_read_input_tokens", "as the provider said", asked.usage("cached")),
    Attribute("gen_ai.usage.cache_creation_input_tokens", "as the provider said", asked.usage("cache_write")),
    Attribute("llm.usage.reasoning_tokens", "as the provider said", asked.usage("reasoning")),
    Attribute("llm.is_streaming", "whether a stream was asked for", lambda a: a.record.streamed),
)
