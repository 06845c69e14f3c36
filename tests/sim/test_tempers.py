"""How a simulated provider speaks."""

import random
import statistics

import pytest

from gateway.sim.tempers import PRESETS, Fixed, Lognormal, Temper, Uniform, distribution, quantity


@pytest.mark.parametrize(
    ("text", "value"), [("200ms", 0.2), ("2s", 2), ("1.5s", 1.5), ("5m", 300), ("40", 40), ("8MiB", 8388608), ("150us", 150e-6)]
)
def test_quantity_reads_durations_sizes_and_numbers(text: str, value: float) -> None:
    """A short form means seconds, bytes or a plain number, and is an int when it can be one."""
    assert quantity(text) == pytest.approx(value)
    assert isinstance(quantity(text), int) == float(value).is_integer()


@pytest.mark.parametrize("text", ["", "fast", "2 s", "-1s", "3h", "1e3"])
def test_quantity_refuses_the_rest(text: str) -> None:
    """What is no quantity is named in the error."""
    with pytest.raises(ValueError, match="not a number"):
        quantity(text)


@pytest.mark.parametrize(
    ("spec", "meant"),
    [
        ("200ms", Fixed(0.2)),
        (3, Fixed(3.0)),
        ("fixed 2s", Fixed(2.0)),
        ("uniform 10ms 30ms", Uniform(0.01, 0.03)),
        ("lognormal 200ms 800ms", Lognormal(0.2, 0.8)),
        (Uniform(1, 2), Uniform(1, 2)),
    ],
)
def test_distribution_reads_short_forms(spec: object, meant: object) -> None:
    """Every form names its distribution."""
    assert distribution(spec) == meant  # type: ignore[arg-type]


@pytest.mark.parametrize("spec", ["", "uniform 10ms", "normal 1 2", "lognormal 0 1", "lognormal 800ms 200ms", "uniform a b"])
def test_distribution_refuses_the_rest(spec: str) -> None:
    """A form that means nothing is an error, not a default."""
    with pytest.raises(ValueError):
        distribution(spec)


def test_lognormal_has_the_median_and_p95_it_was_asked_for() -> None:
    """Half of the draws lie below the median and one in twenty above the p95."""
    dice = random.Random(1)
    draws = sorted(Lognormal(0.2, 0.8).draw(dice) for _ in range(20_000))
    assert statistics.median(draws) == pytest.approx(0.2, rel=0.05)
    assert draws[int(len(draws) * 0.95)] == pytest.approx(0.8, rel=0.08)


def test_queueing_adds_to_the_first_token_only() -> None:
    """With `queueing`, every stream already open makes the first token later, and nothing else."""
    temper = Temper(ttft="100ms", gap="7ms", queueing="50ms")
    alone, crowded = temper.draw(random.Random(1), 0), temper.draw(random.Random(1), 4)
    assert (alone.first, crowded.first) == (pytest.approx(0.1), pytest.approx(0.3))
    assert alone.gap() == crowded.gap() == pytest.approx(0.007)


def test_the_same_dice_give_the_same_pace() -> None:
    """A pace depends on the dice alone, its later gaps included."""

    def drawn(seed: int) -> list[float]:
        pace = PRESETS["steady"].draw(random.Random(seed))
        return [pace.first, pace.tokens, *(pace.gap() for _ in range(20))]

    assert drawn(3) == drawn(3)
    assert drawn(3) != drawn(4)


@pytest.mark.parametrize("wrong", [{"ttft": "soon"}, {"gap": "uniform 1"}, {"burst": 0}, {"cached": "some"}, {"tokens_per_chunk": 0}])
def test_a_wrong_temper_is_refused_when_made(wrong: dict[str, object]) -> None:
    """A mistake shows where the temper is written, not at the first request."""
    with pytest.raises(ValueError):
        Temper(**wrong)  # type: ignore[arg-type]
