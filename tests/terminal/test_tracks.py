"""What a live feed tells, as tracks and as strips of blocks."""

from typing import Any

from gateway.terminal.tracks import Track, Tracks


def tracks(*events: dict[str, Any], now: float = 100.0) -> Tracks:
    """Return what these events make, by a clock that stands still."""
    found = Tracks(lambda: 5.0)
    for event in events:
        found.take({"now": now, "active": 1, "shown": 1, **event})
    return found


def begun(stream_id: str = "a", received: float = 90.0, **changes: Any) -> dict[str, Any]:
    fields = {"route": "chat", "upstream": "fast", "model": "tiny", "state": "first_token", "blame": None, "since": received}
    return {"id": stream_id, "received": received, **fields, **changes}


def drawn(track: Track, now: float, width: int = 30) -> str:
    return "".join(character for character, _ in track.strip(now, width))


def test_a_strip_shows_waiting_tokens_and_silence() -> None:
    """Nothing before the request, dots until the first token, bars as high as there are tokens, hatching for a stall until now."""
    found = tracks(
        {"begun": [begun(received=80.0)]},
        {"tokens": [["a", [85.05, 86.05, 86.15], [1, 8, 8], 85.05]]},
        {"stalled": [{"id": "a", "since": 86.15, "blame": "upstream"}]},
    )
    track = found.streams["a"]
    assert drawn(track, 100.0) == " " * 10 + "·" * 5 + "▁▅" + "▨" * 13
    assert (track.state, track.blame) == ("stalled", "upstream")
    owners = {shows for character, shows in track.strip(100.0, 30) if character == "▨"}
    assert owners == {"upstream"}


def test_a_stall_is_over_with_the_next_token() -> None:
    """The hatching ends where the token came, and the stream streams again."""
    found = tracks(
        {"begun": [begun(received=90.0)], "tokens": [["a", [91.05], [1]]]},
        {"stalled": [{"id": "a", "since": 91.05, "blame": "client"}]},
        {"tokens": [["a", [95.05, 99.05], [1, 1]]]},
    )
    assert drawn(found.streams["a"], 100.0, 30)[20:] == "·▁▨▨▨▁   ▁"
    assert (found.streams["a"].state, found.streams["a"].blame) == ("streaming", None)


def test_the_longest_silence_comes_first() -> None:
    """Silence is counted from the last token, from the stall's beginning where we came later, or from the request."""
    found = tracks(
        {"begun": [begun("a", 95.0), begun("b", 90.0, state="stalled", since=92.0, blame="gateway"), begun("c", 80.0)]},
        {"tokens": [["c", [99.5], [1]]]},
    )
    assert [track.id for track in found.longest_silent()] == ["b", "a", "c"]
    assert [round(track.silence(found.now), 3) for track in found.longest_silent()] == [8.0, 5.0, 0.5]


def test_a_reset_forgets_and_what_is_gone_goes() -> None:
    """A feed that begins anew tells everything again; an ended stream is no track; what is told of unknown ones is nothing."""
    found = tracks({"begun": [begun("a"), begun("b")]}, {"gone": ["a"], "tokens": [["x", [1.0], [1]]], "moved": [{"id": "x"}]})
    assert list(found.streams) == ["b"]
    found.take({"now": 101.0, "active": 1, "shown": 1, "reset": True, "begun": [begun("c")]})
    assert list(found.streams) == ["c"]


def test_a_long_stream_keeps_thirty_seconds() -> None:
    """However many tokens come, what is kept of a stream is bounded."""
    found = tracks({"begun": [begun(received=0.0)]})
    times = [place / 20 for place in range(20_000)]
    found.streams["a"].heard(times, [1] * len(times))
    assert len(found.streams["a"].columns) <= 305
