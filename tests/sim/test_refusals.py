"""How each provider refuses a call, as its dialect reads it."""

import orjson
import pytest

from gateway.dialects import DIALECTS
from gateway.sim.refusals import REFUSALS

WORDS = {
    "openai": ("rate_limit_exceeded", "invalid_api_key"),
    "openai-responses": ("rate_limit_exceeded", "invalid_api_key"),
    "azure": ("429", "401"),
    "anthropic": ("rate_limit_error", "authentication_error"),
    "gemini": ("RESOURCE_EXHAUSTED", "UNAUTHENTICATED"),
    "gemini-array": ("RESOURCE_EXHAUSTED", "UNAUTHENTICATED"),
    "bedrock": ("ThrottlingException", "AccessDeniedException"),
    "ollama": ("upstream_error", "upstream_error"),
}


@pytest.mark.parametrize("tongue", REFUSALS)
def test_every_dialect_reads_its_own_refusals(tongue: str) -> None:
    """Code and message come out as the provider meant them."""
    dialect = DIALECTS[tongue.removesuffix("-array")]
    for status, word in zip((429, 401), WORDS[tongue], strict=True):
        failed = dialect.read_error(status, REFUSALS[tongue](status, "Simulated.", None)[0])
        assert (failed.code, failed.message) == (word, "Simulated.")


def test_every_dialect_has_a_refusal() -> None:
    """No dialect of the registry is without."""
    assert set(DIALECTS) <= set(REFUSALS)


def test_how_long_to_stay_away() -> None:
    """Some say it once more in words of their own, beside Retry-After."""
    assert REFUSALS["azure"](429, "", 1.5)[1] == {"retry-after-ms": "1500"}
    details = orjson.loads(REFUSALS["gemini"](429, "", 7)[0])["error"]["details"]
    assert details[0]["retryDelay"] == "7s"
    assert REFUSALS["bedrock"](429, "", 7)[1]["x-amzn-ErrorType"].startswith("ThrottlingException")
