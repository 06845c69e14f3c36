"""What the families of models behind Converse take beside what all do: how to sample, how to think, one tool at a time.

Which family a model is of, its id tells; the ARN of a profile of one's own does not, and then nothing of this is said. Sources: the
Bedrock user guide on Claude's extended and adaptive thinking; the Nova 2 user guide, "Extended thinking"; inspect_ai#3767, #5301.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.core.prompt import Prompt, Reasoning, Thought, ToolResult, Turn

CLAUDE = "anthropic."
_NOVA, _NOVA_2, _MISTRAL, _OPENAI, _GPT_OSS = "amazon.nova", "amazon.nova-2", "mistral.", "openai.", "gpt-oss"
_VERSION = re.compile(r"claude-[a-z]+-(\d{1,2})(?!\d)(?:[-.](\d{1,2})(?!\d))?")  # "claude-opus-4-20250514" is 4, not 4.20250514
_OLDEST = re.compile(r"claude-(?:instant|v?[123](?!\d))")  # the version came before the name until 3.5
_ADAPTIVE, _NEWEST = (4, 6), (4, 7)
_LEAST_BUDGET = 1024  # Anthropic's own least
_MOST_BUDGET = 31_999  # where no limit is said: what fits into the smallest of the limits that models which think have
_THREE: Mapping[str, str] = {"minimal": "low", "xhigh": "high", "max": "high"}


def sampling(prompt: Prompt) -> dict[str, float]:
    """Return the temperature and `topP` to say. Temperatures end at 1 in Converse; Claude takes one of the two, none while it thinks,
    and none at all since its version 4.7."""
    is_claude = CLAUDE in prompt.model
    if is_claude and (_version(prompt.model) >= _NEWEST or thinking(prompt)):
        return {}
    if prompt.temperature is None:
        return {} if prompt.top_p is None else {"topP": prompt.top_p}
    said = {"temperature": min(prompt.temperature, 1.0)}
    return said if is_claude or prompt.top_p is None else said | {"topP": prompt.top_p}


def top_k(prompt: Prompt) -> dict[str, Any]:
    """Return the fields that say from how many tokens to choose, none where the family has no word for it."""
    if prompt.top_k is None:
        return {}
    if _NOVA in prompt.model:
        return {"inferenceConfig": {"topK": prompt.top_k}}
    is_taken = _MISTRAL in prompt.model or (CLAUDE in prompt.model and _version(prompt.model) < _NEWEST and not thinking(prompt))
    return {"top_k": prompt.top_k} if is_taken else {}


def thinking(prompt: Prompt) -> dict[str, Any]:
    """Return the fields that say how much to think, none for a model that cannot be told, or not next to the rest."""
    said, model = prompt.reasoning, prompt.model
    if said is None or said.tokens == 0:
        return {}
    if CLAUDE in model:
        return _claude(prompt, said)
    word = _THREE.get(said.word or "medium", said.word or "medium")
    if _GPT_OSS in model:
        return {"reasoning_effort": word}
    if _OPENAI in model:
        return {"reasoning": {"effort": word}}
    if _NOVA_2 not in model:
        return {}
    if word == "high" and any(value is not None for value in (prompt.max_tokens, prompt.temperature, prompt.top_p)):
        word = "medium"  # the highest is refused next to any of these
    return {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": word}}


def effort(prompt: Prompt) -> str | None:
    """Return the effort that Converse itself has a word for: newer Claudes are told so."""
    said = prompt.reasoning.word if prompt.reasoning is not None else None
    if said is None or thinking(prompt).get("thinking", {}).get("type") != "adaptive":
        return None
    return {"minimal": "low", "xhigh": "xhigh" if _version(prompt.model) >= _NEWEST else "high"}.get(said, said)


def one_at_a_time(prompt: Prompt) -> dict[str, Any] | None:
    """Return the fields that keep a model from calling several tools at once, None for one that cannot be kept from it.

    Claude can, but not next to a forced choice (litellm#36536); without `type` the choice is refused (litellm#34347).
    """
    is_open = prompt.choice is None or prompt.choice.mode == "auto"
    return {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}} if CLAUDE in prompt.model and is_open else None


def prefills(prompt: Prompt) -> bool:
    """Tell whether a model goes on with a last turn of its own: Claude does before 4.6, but not while it thinks or must call a tool."""
    forced = prompt.choice is not None and prompt.choice.mode in {"required", "named"}
    if CLAUDE not in prompt.model or forced or thinking(prompt):
        return False
    return _OLDEST.search(prompt.model) is not None or (0, 0) < _version(prompt.model) < _ADAPTIVE


def _claude(prompt: Prompt, said: Reasoning) -> dict[str, Any]:
    """Tell Claude: newer ones decide for themselves, older ones take a budget. Where a tool must be called it does not think."""
    if prompt.tools and prompt.choice is not None and prompt.choice.mode in {"required", "named"}:
        return {}
    if _version(prompt.model) >= _ADAPTIVE:
        return {"thinking": {"type": "adaptive", "display": "summarized"}}  # the newest show nothing of it unless they are told to
    limit = _MOST_BUDGET if prompt.max_tokens is None else prompt.max_tokens - 1  # it counts among the tokens of the answer
    budget = min(max(said.tokens or 0, _LEAST_BUDGET), limit)
    if said.tokens is None or budget < _LEAST_BUDGET or _lost_its_thoughts(prompt.turns):
        return {}
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


def _version(model: str) -> tuple[int, int]:
    """Return a Claude's version, (0, 0) for those whose names have it elsewhere: all are of the first three."""
    found = _VERSION.search(model)
    return (int(found[1]), int(found[2] or 0)) if found else (0, 0)


def _lost_its_thoughts(turns: Sequence[Turn]) -> bool:
    """Tell whether tool results continue an answer whose signed thinking is not there: with a budget that is refused."""
    if len(turns) < 2 or not any(isinstance(part, ToolResult) for part in turns[-1].parts):
        return False
    return not any(isinstance(part, Thought) and part.signature for part in turns[-2].parts)
