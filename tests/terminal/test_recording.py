"""Records read as what can be played: moments, words, and what is no recording."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from gateway.console.views import detail
from gateway.core.record import Cadence, StreamRecord
from gateway.telemetry.account import account
from gateway.terminal.recording import Arrival, NotARecording, read

MakeRecord = Callable[..., StreamRecord]


@pytest.fixture
def view(make_record: MakeRecord) -> Callable[..., Any]:
    """Return the API's JSON of a record that spoke at 300 ms, 320 ms and, with three tokens, at 1.3 s."""

    def make(**changes: Any) -> Any:
        plain = make_record(1)
        cadence = Cadence(chunks=5, arrivals=3, ticks=[0, 200, 9800], counts=[(2, 3)], gaps=[(0.02, 1), (float("inf"), 1)])
        last, ended = plain.received_at + 1.3, plain.received_at + 1.5
        answer = changes.pop("answer", 0.3)
        fields = {"cadence": cadence, "first_answer_at": plain.received_at + answer, "last_token_at": last, "ended_at": ended}
        record = make_record(1, **{"received_at": plain.received_at, "first_token_at": plain.received_at + 0.3, **fields, **changes})
        return orjson.loads(orjson.dumps(detail(account(record))))

    return make


def moments(arrivals: list[Arrival]) -> list[tuple[float, int]]:
    return [(round(arrival.at, 4), arrival.tokens) for arrival in arrivals]


def test_ticks_are_moments(view: Callable[..., Any]) -> None:
    """Each arrival has its time since the request and its number of tokens; infinity in a histogram is no hindrance."""
    found = read(view())
    assert moments(found.arrivals) == [(0.3, 1), (0.32, 1), (1.3, 3)]
    assert (round(found.ended, 4), found.captured, found.kept) == (1.5, False, 3)
    assert {arrival.kind for arrival in found.arrivals} == {"text"}


def test_what_was_not_kept_is_spread_evenly(view: Callable[..., Any]) -> None:
    """A stream longer than what is kept goes on evenly to its last token, and says how much of it is known."""
    cadence = Cadence(chunks=6, arrivals=6, ticks=[0, 2000], counts=[])
    found = read(view(cadence=cadence))
    assert moments(found.arrivals) == [(0.3, 1), (0.5, 1), (0.7, 1), (0.9, 1), (1.1, 1), (1.3, 1)]
    assert found.kept == 2


def test_text_lies_where_it_came(view: Callable[..., Any]) -> None:
    """Cuts say how much had come by each arrival; what was thought first is no text."""
    found = read(view(), {"text": "Hello, weir", "reasoning": "", "cuts": [5, 5, 11], "tools": []})
    assert [arrival.text for arrival in found.arrivals] == ["Hello", None, ", weir"]
    called = read(view(), {"text": "Hello", "cuts": [5, 5, 5], "tools": [{"id": "a", "name": "b", "arguments": "{}"}]})
    assert [(arrival.kind, arrival.text) for arrival in called.arrivals] == [("text", "Hello"), ("tool", None), ("tool", None)]
    refused = read(view(), {"text": "", "refusal": "no no!", "cuts": [0, 0, 0]})
    assert [arrival.text for arrival in refused.arrivals] == ["no", " n", "o!"]
    thought = read(view(answer=1.3), {"text": "weir", "reasoning": "hmmm", "cuts": [0, 0, 4]})
    assert [(arrival.kind, arrival.text) for arrival in thought.arrivals] == [("reasoning", "hm"), ("reasoning", "mm"), ("text", "weir")]


@pytest.mark.parametrize("cuts", [[], [99, 1, -5], ["x", 3], [2]], ids=repr)
def test_no_text_is_lost_for_odd_cuts(view: Callable[..., Any], cuts: list[Any]) -> None:
    """Whatever the cuts, the parts make the whole."""
    found = read(view(), {"text": "Hello, weir", "cuts": cuts})
    assert "".join(arrival.text or "" for arrival in found.arrivals) == "Hello, weir"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "no record of a stream"),
        ({"streams": []}, "take what /api/streams/ID answers"),
        ({"stream_id": 5}, "Expected `str`"),
        ({"stream_id": "a"}, "missing required field"),
    ],
    ids=["list", "list-of-streams", "wrong-type", "parts-missing"],
)
def test_what_is_no_record(given: Any, words: str) -> None:
    """A mistaken file is told so, with what is wrong with it."""
    with pytest.raises(NotARecording, match=words):
        read(given)


def test_what_cannot_be_played(view: Callable[..., Any]) -> None:
    """A stream that goes on has no end to play, a realtime session no cadence."""
    with pytest.raises(NotARecording, match="has not ended yet"):
        read(view(ended_at=None))
    with pytest.raises(NotARecording, match="realtime"):
        read(view(operation="realtime"))
