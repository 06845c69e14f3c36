"""What one Live page is told: which streams it is shown, each word once, and nothing without bound."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from gateway.config import Config
from gateway.console.page import MOST_ENDED, MOST_STALLED, MOST_WAITING, SWEEP, Page
from gateway.core.messages import Begun, Ended, Heard, Hello, Moved, Pulse, Stalled
from gateway.core.record import StreamRecord
from gateway.telemetry.onlookers import MOST_SHOWN
from gateway.telemetry.recorder import Recorder

MakeRecord = Callable[..., StreamRecord]


@pytest.fixture
def recorder(make_config: Callable[..., Config]) -> Recorder:
    """A recorder that is told by the test itself, of a worker with pid 7."""
    made = Recorder(make_config())
    made.receive(Hello(7))
    return made


@pytest.fixture
def watch(recorder: Recorder) -> Callable[..., Page]:
    """Open a page, of one route or of all."""

    def open_page(route: str | None = None) -> Page:
        page = Page(recorder, route)
        recorder.watch(page)
        return page

    return open_page


@pytest.fixture
def begin(recorder: Recorder, make_record: MakeRecord) -> Callable[..., list[str]]:
    """Begin streams and return their ids; keywords replace fields of their records."""

    def start(count: int, first: int = 0, **changes: Any) -> list[str]:
        records = [make_record(number, ended_at=None, **changes) for number in range(first, first + count)]
        for record in records:
            recorder.receive(Begun(record, "first_token"))
        return [record.stream_id for record in records]

    return start


def pulse(recorder: Recorder) -> None:
    """Let the worker's heart beat, which is when the share is fitted."""
    recorder.receive(Pulse(7, time.monotonic(), 0, 0.0, 0.0, {}, []))


def ids(rows: list[Any]) -> set[str]:
    return {row["id"] for row in rows}


def test_the_first_event_tells_of_everything_and_the_next_of_what_is_new(watch: Any, begin: Any, recorder: Recorder) -> None:
    """A page begins with a reset and all that lives; after that it hears of changes alone, and of nothing when there are none."""
    begin(2)
    page = watch()
    first = page.take(10.0)
    assert first["reset"] is True
    assert (first["now"], first["active"], first["shown"], first["share"]) == (10.0, 2, 2, 1.0)
    assert {(row["id"], row["route"], row["state"]) for row in first["begun"]} == {(f"stream-{n}", "chat", "first_token") for n in (0, 1)}
    assert not page.news
    begin(1, first=2)
    assert page.news
    assert ids(page.take(10.1)["begun"]) == {"stream-2"}
    assert set(page.take(10.2)) == {"now", "active", "shown", "share"}


def test_tokens_are_told_by_columns_of_fifty_milliseconds(watch: Any, begin: Any, recorder: Recorder) -> None:
    """What came in one column is summed and told with the time of its last token; the first answer has its own."""
    [one] = begin(1)
    page = watch()
    page.take(0.0)
    recorder.receive(Heard(one, [100.01, 100.04, 100.06], [1, 2, 1], None))
    recorder.receive(Heard(one, [100.21], [5], 100.205))
    assert page.take(1.0)["tokens"] == [[one, [100.04, 100.06, 100.21], [3, 1, 5], 100.205]]
    recorder.receive(Heard("nobody", [100.3], [1], None))
    assert not page.news


def test_a_past_that_is_told_again_counts_once(watch: Any, begin: Any, recorder: Recorder) -> None:
    """When another page comes the workers tell of the past once more: only what is new of it is passed on."""
    [one] = begin(1)
    page = watch()
    recorder.receive(Heard(one, [100.01, 100.02], [1, 1], None))
    page.take(0.0)
    later = watch()
    recorder.receive(Heard(one, [100.01, 100.02, 100.08], [1, 1, 1], None))
    assert page.take(1.0)["tokens"] == [[one, [100.08], [1], None]]
    assert sum(later.take(1.0)["tokens"][0][2]) == 3
    recorder.receive(Heard(one, [100.02, 100.08], [1, 1], None))
    assert not page.news


def test_a_stream_has_one_word_of_each_kind_in_an_event(watch: Any, begin: Any, recorder: Recorder) -> None:
    """However often it moves between two events, where it is now is told once; one that has come and gone is not told at all."""
    page = watch()
    page.take(0.0)
    [one] = begin(1)
    for state in ("connect", "first_token", "streaming"):
        recorder.receive(Moved(one, state, "fast", 5.0))
    assert [(row["id"], row["state"]) for row in page.take(0.1)["begun"]] == [(one, "streaming")]
    for number in range(20):
        recorder.receive(Moved(one, ("stalled", "streaming")[number % 2], "fast", 6.0 + number))
    assert [row["since"] for row in page.take(0.2)["moved"]] == [25.0]
    [brief] = begin(1, first=1)
    recorder.receive(Heard(brief, [100.0], [1], None))
    recorder.receive(Ended(1, recorder.live.streams[brief].record))
    assert set(page.take(0.3)) & {"begun", "gone", "tokens"} == set()


def test_a_stall_is_told_with_its_owner_even_when_it_is_over(watch: Any, begin: Any, recorder: Recorder) -> None:
    """Since when and by whom; a token in the same tenth of a second changes the state and takes nothing of it away."""
    [one] = begin(1)
    page = watch()
    page.take(0.0)
    recorder.receive(Stalled(one, "client", "streaming", 5.0))
    recorder.receive(Moved(one, "streaming", "fast", 6.5))
    event = page.take(0.1)
    assert event["stalled"] == [{"id": one, "since": 5.0, "blame": "client"}]
    assert event["moved"] == [{"id": one, "state": "streaming", "upstream": "fast", "since": 6.5, "blame": None, "rival": ""}]
    recorder.receive(Stalled(one, "upstream", "streaming", 8.0))
    [row] = watch().take(0.2)["begun"]
    assert (row["state"], row["blame"], row["since"]) == ("stalled", "upstream", 8.0)


def test_who_comes_during_a_race_is_told_of_both(watch: Any, begin: Any, recorder: Recorder) -> None:
    """A row that hedges names the other upstream as well, to those who come in the midst of it, until one of the two has spoken."""
    [one] = begin(1)
    page = watch()
    recorder.receive(Moved(one, "first_token", "slow", 5.0))
    recorder.receive(Moved(one, "hedging", "fast", 6.0))
    recorder.receive(Moved(one, "hedging", "fast", 6.1))
    for each in (page, watch()):
        [row] = each.take(0.1)["begun"]
        assert (row["state"], row["upstream"], row["rival"]) == ("hedging", "fast", "slow")
    recorder.receive(Moved(one, "streaming", "fast", 7.0))
    [row] = page.take(0.2)["moved"]
    assert (row["state"], row["upstream"], row["rival"]) == ("streaming", "fast", "")


def test_the_last_ones_to_end_are_told(watch: Any, begin: Any, recorder: Recorder, make_record: MakeRecord) -> None:
    """With their outcome; of many that end at once the last twenty in full, and all of them as gone."""
    every = begin(50)
    page = watch()
    page.take(0.0)
    for number in range(50):
        recorder.receive(Ended(number + 1, make_record(number, outcome="upstream_error")))
    event = page.take(0.1)
    assert event["gone"] == every
    assert event["outcomes"] == dict.fromkeys(every, "upstream_error")
    assert [row["stream_id"] for row in event["ended"]] == every[-MOST_ENDED:]
    assert event["active"] == event["shown"] == 0


def test_of_too_many_streams_a_fair_share_is_shown_and_said(watch: Any, begin: Any, recorder: Recorder) -> None:
    """With thrice the most it is one in four, the same ones that the workers tell of; with fewer again it is all of them."""
    begin(3 * MOST_SHOWN)
    page = watch()
    event = page.take(0.0)
    assert (event["share"], event["active"], event["shown"]) == (0.25, 3 * MOST_SHOWN, len(event["begun"]))
    watching = recorder.onlookers.watching
    assert ids(event["begun"]) == {each for each in recorder.live.streams if watching.shows(each)}
    for stream_id in list(recorder.live.streams)[100:]:
        recorder.receive(Ended(1, recorder.live.streams[stream_id].record))
    pulse(recorder)
    event = page.take(0.1)
    assert (event["share"], event["reset"], len(event["begun"])) == (1.0, True, 100)


def test_never_more_rows_than_a_page_can_show(watch: Any, begin: Any) -> None:
    """Between two beats the share may be too large for a moment: the page has room for so many and no more."""
    page = watch()
    begin(2 * MOST_SHOWN)
    assert len(page.take(0.0)["begun"]) == MOST_SHOWN


def test_a_stall_is_shown_whatever_the_share(watch: Any, begin: Any, recorder: Recorder) -> None:
    """A stream outside of the share comes in with its stall and leaves with its end; a bounded number of them."""
    every = begin(2 * MOST_SHOWN)
    page = watch()
    shown = ids(page.take(0.0)["begun"])
    others = [each for each in every if each not in shown]
    recorder.receive(Stalled(others[0], "upstream", "streaming", 5.0))
    [row] = page.take(0.1)["begun"]
    assert (row["id"], row["state"], row["blame"]) == (others[0], "stalled", "upstream")
    recorder.receive(Moved(others[0], "streaming", "fast", 6.0))
    assert page.take(0.2)["outcomes"] == {others[0]: None}
    for each in others[: MOST_STALLED + 20]:
        recorder.receive(Stalled(each, "upstream", "streaming", 7.0))
    assert len(page.take(0.3)["begun"]) == MOST_STALLED


def test_stalls_that_find_no_room_are_counted_and_shown_later(watch: Any, begin: Any, recorder: Recorder) -> None:
    """Events say how many streams stall, by owner, shown or not, and how many of them are not shown; one that leaves makes room."""
    every = begin(4 * MOST_SHOWN)
    page = watch()
    shown = ids(page.take(0.0)["begun"])
    others = [each for each in every if each not in shown]
    for each in others[: MOST_STALLED + 20]:
        recorder.receive(Stalled(each, "upstream", "streaming", 7.0))
    event = page.take(5.0)
    assert (event["stalled_by"], event["unshown"]) == ({"upstream": MOST_STALLED + 20}, 20)
    recorder.receive(Moved(others[0], "streaming", "fast", 8.0))
    event = page.take(10.0)
    assert (event["stalled_by"], event["unshown"]) == ({"upstream": MOST_STALLED + 19}, 19)
    assert ids(event["begun"]) == {others[MOST_STALLED]}


def test_a_page_that_comes_later_is_told_of_first_tokens_and_past_stalls(watch: Any, begin: Any, recorder: Recorder) -> None:
    """When a stream first spoke, whoever goes on with it; and its stalls that a strip still shows, with their owner."""
    [one] = begin(1)
    now = time.monotonic()
    recorder.receive(Moved(one, "streaming", "fast", now - 100))
    for since, owner in ((-90.0, "client"), (-20.0, "upstream")):
        recorder.receive(Stalled(one, owner, "streaming", now + since))
        recorder.receive(Moved(one, "streaming", "slow", now + since + 2))
    [row] = watch().take(now)["begun"]
    assert row["first_token_at"] == now - 100
    assert row["stalls"] == [(now - 20, now - 18, "upstream")]


def test_a_page_of_one_route_hears_of_no_other(watch: Any, begin: Any, recorder: Recorder, make_record: MakeRecord) -> None:
    """Neither of its streams nor of their ends; how many live is said of that route alone."""
    begin(3)
    mine = begin(2, first=3, route="agents")
    page = watch("agents")
    event = page.take(5.0)
    assert (ids(event["begun"]), event["active"]) == (set(mine), 2)
    recorder.receive(Ended(1, make_record(0)))
    recorder.receive(Moved("stream-1", "streaming", "fast", 5.0))
    assert not page.news
    recorder.receive(Ended(2, make_record(3, route="agents")))
    event = page.take(7.0)
    assert (event["outcomes"], len(event["ended"]), event["active"]) == ({"stream-3": "completed"}, 1, 1)


def test_a_page_that_takes_nothing_costs_bounded_memory_and_begins_anew(watch: Any, begin: Any, recorder: Recorder) -> None:
    """What waits for it is dropped when it is too much; the next it takes is all that lives then, and nothing of what was dropped."""
    [one] = begin(1)
    page = watch()
    page.take(0.0)
    times = [100.0 + number * 0.001 for number in range(1000)]
    for turn in range(3 * MOST_WAITING // 1000):
        recorder.receive(Heard(one, [at + turn for at in times], [1] * 1000, None))
        begin(1, first=turn + 1)
    assert sum(len(columns) for columns in page._tokens.values()) + len(page._begun) == 0
    event = page.take(1.0)
    assert event["reset"] is True
    assert ids(event["begun"]) == set(recorder.live.streams)
    assert "tokens" not in event
    recorder.receive(Heard(one, [1000.0], [1], None))
    assert len(page.take(1.1)["tokens"]) == 1


def test_a_stream_whose_end_was_lost_leaves_the_page_too(watch: Any, begin: Any, recorder: Recorder) -> None:
    """What the recorder knows no more is gone from the page within seconds."""
    [one, other] = begin(2)
    page = watch()
    page.take(0.0)
    del recorder.live.streams[one]
    assert page.take(SWEEP + 1)["outcomes"] == {one: None}
    assert page.take(2 * SWEEP + 2)["shown"] == 1
    assert other in page._shown
