"""How a simulated provider speaks when all is well: when its first token comes, how steadily the rest follow, how much it says."""

import math
import random
import re
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Literal

from msgspec import Struct

UNITS = {"": 1.0, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "B": 1.0, "KiB": 1024.0, "MiB": 1024.0**2}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)([A-Za-z]*)")
_Z95 = 1.6448536269514722  # how many sigmas of a normal distribution lie below its 95th percentile


def quantity(text: str) -> float | int:
    """Return "200ms" as 0.2, "2m" as 120, "8MiB" as 8388608, "40" as 40: seconds, bytes or a plain number. Raises ValueError."""
    match = _QUANTITY.fullmatch(text.strip())
    if match is None or match[2] not in UNITS:
        raise ValueError(f'"{text}" is not a number, a duration such as 200ms, 2s, 5m, or a size such as 8MiB')
    value = float(match[1]) * UNITS[match[2]]
    return int(value) if value.is_integer() else value


class Fixed(Struct, frozen=True):
    """Always the same value."""

    value: float

    def draw(self, dice: random.Random) -> float:  # noqa: ARG002 - one shape for all distributions
        return self.value


class Uniform(Struct, frozen=True):
    """Any value between two, each as likely."""

    low: float
    high: float

    def draw(self, dice: random.Random) -> float:
        return dice.uniform(self.low, self.high)


class Lognormal(Struct, frozen=True):
    """Half of the values below `median`, one in twenty above `p95`: the shape that latencies of real providers have."""

    median: float
    p95: float

    def __post_init__(self) -> None:
        if not 0 < self.median <= self.p95:
            raise ValueError(f"a lognormal needs 0 < median <= p95, not {self.median} and {self.p95}")

    def draw(self, dice: random.Random) -> float:
        return self.median * math.exp(dice.gauss(0.0, math.log(self.p95 / self.median) / _Z95))


Distribution = Fixed | Uniform | Lognormal
Spec = Distribution | str | float
"""A distribution, its short form ("200ms", "uniform 10ms 30ms", "lognormal 200ms 800ms"), or a plain number (seconds, tokens)."""

_FORMS: dict[str, tuple[Callable[..., Distribution], int]] = {"fixed": (Fixed, 1), "uniform": (Uniform, 2), "lognormal": (Lognormal, 2)}


@lru_cache(maxsize=1024)
def distribution(spec: Spec) -> Distribution:
    """Return what a short form means. Raises ValueError with the forms that there are."""
    if isinstance(spec, (int, float)):
        return Fixed(float(spec))
    if not isinstance(spec, str):
        return spec
    words = spec.split()
    if len(words) == 1:
        return Fixed(float(quantity(words[0])))
    form, count = _FORMS.get(words[0] if words else "", (None, 0))
    if form is None or len(words) != count + 1:
        raise ValueError(f'"{spec}" is not a distribution: use "200ms", "uniform 10ms 30ms" or "lognormal MEDIAN P95"')
    return form(*(float(quantity(word)) for word in words[1:]))


class Pace(Struct, frozen=True):
    """One answer's draw of a temper. Seconds from the request received, except `gap`, which gives each next silence."""

    headers: float
    role: float
    first: float
    gap: Callable[[], float]
    tokens: int
    reasoning: int
    cached: int = 0


class Temper(Struct, frozen=True):
    """How a provider speaks. Times in seconds or short forms, counts in tokens.

    ttft              from request received to the first token
    gap               silence between two chunks (between two bursts, with `burst`)
    tokens            length of an answer, reasoning not included; a request's `max_tokens` caps it
    tokens_per_chunk  as vLLM does under load: a chunk is not a token
    headers           from request received to the status line
    role_delay        from the status line to the role chunk
    reasoning         tokens of `reasoning_content` before the answer
    burst             chunks sent in one write, as a buffering hop would
    queueing          what every stream already open adds to `ttft`: a provider that slows down when it is crowded
    cached            tokens of the input that the provider says it had in its cache
    speech            what the tokens are: words, words of 2 to 4 byte characters, or the arguments of one tool call or of two
    """

    ttft: Spec = "200ms"
    gap: Spec = "20ms"
    tokens: Spec = 60
    tokens_per_chunk: int = 1
    headers: Spec = 0
    role_delay: Spec = 0
    reasoning: Spec = 0
    burst: int = 1
    queueing: Spec = 0
    cached: Spec = 0
    speech: Literal["words", "multibyte", "tool", "tools"] = "words"

    def __post_init__(self) -> None:
        for name in ("ttft", "gap", "tokens", "headers", "role_delay", "reasoning", "queueing", "cached"):
            try:
                distribution(getattr(self, name))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        if self.tokens_per_chunk < 1 or self.burst < 1:
            raise ValueError("tokens_per_chunk and burst are at least 1")

    def draw(self, dice: random.Random, in_flight: int = 0) -> Pace:
        """Return one answer's pace, with `in_flight` other streams open."""
        headers = distribution(self.headers).draw(dice)
        crowd = distribution(self.queueing).draw(dice) * in_flight if self.queueing else 0.0
        return Pace(
            headers=headers,
            role=headers + distribution(self.role_delay).draw(dice),
            first=distribution(self.ttft).draw(dice) + crowd,
            gap=partial(distribution(self.gap).draw, dice),
            tokens=round(distribution(self.tokens).draw(dice)),
            reasoning=round(distribution(self.reasoning).draw(dice)),
            cached=round(distribution(self.cached).draw(dice)) if self.cached else 0,
        )


INSTANT = Temper(ttft=0, gap=0, tokens=20)
FAST = Temper(ttft="lognormal 60ms 140ms", gap="uniform 5ms 12ms", tokens="uniform 40 160")
STEADY = Temper(ttft="lognormal 250ms 600ms", gap="lognormal 18ms 35ms", tokens="uniform 40 160", role_delay="5ms")
SLOW = Temper(ttft="lognormal 2500ms 6s", gap="lognormal 60ms 220ms", tokens="uniform 40 160")
THINKER = Temper(ttft="lognormal 700ms 1500ms", gap="uniform 10ms 25ms", tokens="uniform 40 120", reasoning="uniform 60 200")
BURSTY = Temper(ttft="lognormal 400ms 900ms", gap="uniform 400ms 1200ms", tokens="uniform 60 200", burst=24)

PRESETS = {"instant": INSTANT, "fast": FAST, "steady": STEADY, "slow": SLOW, "thinker": THINKER, "bursty": BURSTY}
