"""What a stream cost by public list prices, from the data that genai-prices brings along; nothing is fetched, nothing guessed."""

from collections.abc import Mapping
from types import ModuleType

from gateway.core.record import StreamRecord

_PROVIDERS = {
    "aws.bedrock": "aws",
    "azure.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "mistral_ai": "mistral",
    "x_ai": "x-ai",
}
"""`gen_ai.provider.name` values whose name differs in genai-prices; the others are the same in both."""
_REMEMBERED = 1024


class Prices:
    """Knows what tokens cost. A model without a known price has no cost, and neither has a stream without usage."""

    def __init__(self) -> None:
        self._prices: ModuleType | None = None
        self._unpriced: dict[tuple[str, str], None] = {}

    def load(self) -> None:
        """Read the price data, which takes a good part of a second: call it in a thread, before the first stream ends."""
        import genai_prices  # noqa: PLC0415 - too slow to import for everybody who imports this package

        self._prices = genai_prices
        self._price("openai", "gpt-4o-mini", {"input_tokens": 1, "output_tokens": 1})

    def of(self, record: StreamRecord) -> float | None:
        """Return the cost of a stream in USD, or None when its usage or its price is not known."""
        served, usage = record.served, record.usage
        if served is None or usage is None or usage.input is None or usage.output is None or _mixed(record):
            return None
        provider = _PROVIDERS.get(served.provider, served.provider)
        models = dict.fromkeys(name for name in (record.served_model, served.model, record.asked_model) if name)
        counts: dict[str, int | None] = {"input_tokens": usage.input, "output_tokens": usage.output}
        counts |= {"cache_read_tokens": usage.cached, "cache_write_tokens": usage.cache_write}
        if (voice := record.voice) is not None:
            counts |= {"input_audio_tokens": voice.audio_input, "output_audio_tokens": voice.audio_output}
            counts["cache_audio_read_tokens"] = voice.audio_cached
        return next((cost for model in models if (cost := self._price(provider, model, counts)) is not None), None)

    def _price(self, provider: str, model: str, counts: Mapping[str, int | None]) -> float | None:
        if self._prices is None:
            self.load()
        if (provider, model) in self._unpriced or self._prices is None:
            return None
        try:
            said = self._prices.Usage(**{name: count for name, count in counts.items() if count is not None})
            return float(self._prices.calc_price(said, model, provider_id=provider).total_price)
        except LookupError:
            if len(self._unpriced) < _REMEMBERED:
                self._unpriced[provider, model] = None
            return None
        except ValueError:  # counts that contradict each other, such as more cached than there were
            return None


def _mixed(record: StreamRecord) -> bool:
    """Tell whether different models have had a part in the answer: then its tokens have no one price."""
    named = {name for seam in record.seams for name in (seam.source, seam.target)}
    return len({(attempt.provider, attempt.model) for attempt in record.attempts if attempt.upstream in named}) > 1
