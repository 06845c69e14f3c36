"""Langfuse: the names of its Python SDK 5.0 and of https://langfuse.com/integrations/native/opentelemetry (property mapping).

It reads `gen_ai.*` itself; these are what that cannot say: the moment of the first token, the split of usage, cost, level, prompt.
A trace is named and tagged only where it begins here: on a caller's trace that is the caller's to do.
"""

from datetime import UTC, datetime

from gateway.telemetry.account import ERROR_OUTCOMES, Account
from gateway.telemetry.mappers import asked
from gateway.telemetry.spans import Attribute


def _first_token(account: Account) -> str | None:
    record = account.record
    if record.first_token_at is None or not record.streamed:
        return None
    at = datetime.fromtimestamp(record.unix_ns(record.first_token_at) / 1e9, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _usage(account: Account) -> str | None:
    """Langfuse's buckets are disjoint: what was cached is not input too, nor is reasoning output."""
    usage = account.record.usage
    if usage is None:
        return None
    fresh = None if usage.input is None else max(0, usage.input - (usage.cached or 0) - (usage.cache_write or 0))
    spoken = None if usage.output is None else max(0, usage.output - (usage.reasoning or 0))
    return asked.written(
        {
            "input": fresh,
            "input_cached_tokens": usage.cached,
            "input_cache_creation": usage.cache_write,
            "output": spoken,
            "output_reasoning_tokens": usage.reasoning,
        }
    )


def _level(account: Account) -> str | None:
    record = account.record
    if record.outcome in ERROR_OUTCOMES:
        return "ERROR"
    return "WARNING" if record.outcome != "completed" or record.stalled or record.fallback_reason else None


def _status(account: Account) -> str | None:
    record = account.record
    return None if record.outcome == "completed" else f"{record.outcome}: {record.error}" if record.error else record.outcome


def _prompt_version(account: Account) -> int | None:
    version = account.record.prompt_version
    return int(version) if version and version.isascii() and version.isdigit() and len(version) < 10 else None


LANGFUSE = (
    Attribute("langfuse.observation.type", "generation or embedding", asked.kind("generation", "embedding")),
    Attribute("langfuse.observation.completion_start_time", "when the first token came, ISO 8601", _first_token),
    Attribute("langfuse.observation.model.parameters", "JSON: how it was asked", asked.parameters),
    Attribute("langfuse.observation.usage_details", "JSON: tokens in disjoint buckets", _usage),
    Attribute("langfuse.observation.cost_details", "JSON: total in USD", lambda a: asked.written({"total": a.cost})),
    Attribute("langfuse.observation.level", "ERROR, or WARNING for what did not complete, stalled or fell back", _level),
    Attribute("langfuse.observation.status_message", "outcome and error code, unless it completed", _status),
    Attribute("langfuse.observation.prompt.name", "from x-weir-prompt-name", lambda a: a.record.prompt_name),
    Attribute("langfuse.observation.prompt.version", "from x-weir-prompt-version, when it is a number", _prompt_version),
    Attribute("langfuse.trace.name", "the route, where the trace begins here",
              lambda a: a.record.route or None if a.record.parent_id is None else None),
    Attribute("langfuse.trace.tags", "x-weir-tag-* as name:value, where the trace begins here",
              lambda a: asked.tags(a) if a.record.parent_id is None else None),
)  # fmt: skip
