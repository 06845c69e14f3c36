"""Cost: list prices for known models, nothing for anything else."""

from collections.abc import Callable

import pytest
from msgspec import structs

from gateway.core.events import Usage
from gateway.core.record import Seam, StreamRecord, Voice
from gateway.telemetry.cost import Prices

MakeRecord = Callable[..., StreamRecord]


@pytest.fixture(scope="module")
def prices() -> Prices:
    return Prices()


def test_a_known_model_costs(prices: Prices, make_record: MakeRecord) -> None:
    """Input and output are priced; cached input is cheaper."""
    plain = prices.of(make_record(usage=Usage(1_000_000, 1_000_000)))
    cached = prices.of(make_record(usage=Usage(1_000_000, 1_000_000, cached=500_000)))
    assert plain == pytest.approx(0.75)
    assert cached is not None
    assert 0 < cached < 0.75


def test_unknown_is_not_free(prices: Prices, make_record: MakeRecord) -> None:
    """No price, no usage, half a usage, a contradiction, no attempt: no cost, rather than 0 (D4)."""
    unknown = make_record(asked_model="nobody-1b", served_model="nobody-1b")
    unknown.attempts[0].model = "nobody-1b"
    assert prices.of(unknown) is None
    assert prices.of(make_record(usage=None)) is None
    assert prices.of(make_record(usage=Usage(10, None))) is None
    assert prices.of(make_record(usage=Usage(10, 5, cached=11))) is None
    assert prices.of(make_record(attempts=[])) is None


def test_an_answer_of_two_models_has_no_one_price(prices: Prices, make_record: MakeRecord) -> None:
    """Where a stream was resumed on another model nobody knows which tokens cost what; on the same model it is as ever."""
    record = make_record(usage=Usage(1000, 1000))
    record.attempts.append(structs.replace(record.attempts[0], upstream="slow", why="resume"))
    record.seams.append(Seam(at=101.0, chunks=3, characters=12, source="fast", target="slow", why="connection_reset"))
    assert prices.of(record) is not None
    record.attempts[1].model = "gpt-4o"
    assert prices.of(record) is None


def test_sound_costs_more_than_text(prices: Prices, make_record: MakeRecord) -> None:
    """A realtime session is priced by what of its tokens was audio."""
    session = make_record(usage=Usage(1000, 1000), served_model="gpt-realtime", operation="realtime")
    as_text = prices.of(session)
    session.voice = Voice(audio_input=900, audio_output=900)
    as_sound = prices.of(session)
    assert as_text is not None
    assert as_sound is not None
    assert as_sound > 2 * as_text
