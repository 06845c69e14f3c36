"""Feedback in the recorder: before its stream is told, while it lives, long after, and for streams that nobody knows."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Config
from gateway.core.messages import Begun, Ended, Feedback
from gateway.core.record import Cadence, StreamRecord
from gateway.telemetry import feedback, store
from gateway.telemetry.opinions import kind
from gateway.telemetry.recorder import Recorder

MakeConfig = Callable[..., Config]
MakeRecord = Callable[..., StreamRecord]


@pytest.fixture(params=["stored", "not stored"])
async def recorder(request: Any, make_config: MakeConfig, tmp_path: Path) -> Any:
    """A recorder with a store, and one without."""
    made = Recorder(make_config(store=str(tmp_path / "weir.db") if request.param == "stored" else "off"))
    await made.start()
    yield made
    await made.close()


@pytest.fixture
async def stored(make_config: MakeConfig, tmp_path: Path) -> Any:
    """A recorder with a store, whose one route keeps content."""
    config = make_config(store=str(tmp_path / "weir.db"))
    made = Recorder(config.model_copy(update={"routes": (config.routes[0].model_copy(update={"content": "full"}),)}))
    await made.start()
    yield made
    await made.close()


def counts(recorder: Recorder) -> dict[tuple[str, ...], float]:
    return next(dict(family.values) for family in recorder.collect() if family.instrument.name == "weir_feedback_total")


def lost(recorder: Recorder) -> int:
    return recorder.dropped()["feedback"]


async def counted(recorder: Recorder, count: int) -> dict[tuple[str, ...], float]:
    """Wait until so much feedback is counted."""
    async with asyncio.timeout(10):
        while sum(counts(recorder).values()) < count:  # noqa: ASYNC110 - there is nothing in the recorder to wait on, and should not be
            await asyncio.sleep(0.01)
    return counts(recorder)


async def settled(recorder: Recorder) -> None:
    """Wait until the store has nothing more to write, and what it has to say has been heard."""
    if recorder.store is not None:
        done = asyncio.Event()
        before = recorder.store._done
        recorder.store._done = lambda receipts: (before(receipts), recorder._in_loop(lambda _: done.set(), None))[0]
        recorder.store.put(None, None)
        await asyncio.wait_for(done.wait(), 10)
        recorder.store._done = before


async def kept(recorder: Recorder, number: int) -> Any:
    assert recorder.store is not None
    one = await asyncio.to_thread(recorder.store.one, f"stream-{number}")
    return one and one.feedback


async def test_before_its_record_and_after_it(recorder: Recorder, make_record: MakeRecord) -> None:
    """Said in the same moment, before the end is told, or after it: counted once, with what the stream was like."""
    recorder.receive(Feedback("stream-1", -1))
    recorder.receive(Ended(1, make_record(1)))
    recorder.receive(Ended(2, make_record(2)))
    recorder.receive(Feedback("stream-2", 1))
    assert await counted(recorder, 2) == {("chat", "-1", "fine"): 1, ("chat", "1", "fine"): 1}
    await settled(recorder)
    recorder.receive(Feedback("stream-1", 0))
    assert (await counted(recorder, 3))["chat", "0", "fine"] == 1
    assert lost(recorder) == 0


async def test_a_stream_that_ends_while_it_is_looked_for(stored: Recorder, make_record: MakeRecord) -> None:
    """The store has looked in vain, and before that is heard the end is told: it is looked for again, and not waited for."""
    batches = stored.store.batches  # type: ignore[union-attr]
    stored.receive(Feedback("stream-1", 1))
    due = time.monotonic() + 10
    while batches.waiting or batches._writing:  # the loop hears nothing meanwhile
        assert time.monotonic() < due
    stored.receive(Ended(1, make_record(1)))
    assert await counted(stored, 1) == {("chat", "1", "fine"): 1}
    assert (lost(stored), stored.feedback.waiting("stream-1")) == (0, None)


async def test_a_live_stream_is_judged_by_its_end(recorder: Recorder, make_record: MakeRecord) -> None:
    """What is said while it runs is counted when it ends, the last word only, and can be read until then."""
    recorder.receive(Begun(make_record(1, ended_at=None)))
    recorder.receive(Feedback("stream-1", 1))
    recorder.receive(Feedback("stream-1", -1))
    waiting = recorder.feedback.waiting("stream-1")
    assert (waiting.score if waiting else None, counts(recorder)) == (-1, {})
    recorder.receive(Ended(1, make_record(1, outcome="upstream_truncated")))
    assert await counted(recorder, 1) == {("chat", "-1", "truncated"): 1}
    assert recorder.feedback.waiting("stream-1") is None


async def test_a_change_is_counted_and_a_repetition_is_not(recorder: Recorder, make_record: MakeRecord) -> None:
    """The counter moves when a stream's score is new or another one."""
    recorder.receive(Ended(1, make_record(1)))
    for score in (-1, -1, -1, 1, 1, -1):
        recorder.receive(Feedback("stream-1", score))
    assert await counted(recorder, 3) == {("chat", "-1", "fine"): 2, ("chat", "1", "fine"): 1}
    await settled(recorder)
    assert sum(counts(recorder).values()) == 3


async def test_the_last_word_stands(stored: Recorder, make_record: MakeRecord) -> None:
    """Score and comment of the last call replace those before, also when that has none; an older one that comes late changes nothing."""
    stored.receive(Ended(1, make_record(1)))
    for score, comment in ((1, "good"), (-1, "bad")):
        stored.receive(Feedback("stream-1", score, comment))
    await counted(stored, 2)
    last = await kept(stored, 1)
    assert (last.score, last.comment) == (-1, "bad")
    assert stored.store is not None
    stored.store.say(feedback.Opinion("stream-1", 1, "late", last.at - 1))
    await settled(stored)
    assert await kept(stored, 1) == last
    stored.receive(Feedback("stream-1", 0))
    await counted(stored, 3)
    assert ((await kept(stored, 1)).score, (await kept(stored, 1)).comment) == (0, None)


async def test_a_comment_is_kept_where_content_is(stored: Recorder, make_record: MakeRecord, tmp_path: Path) -> None:
    """On another route, or one that is configured no more, nothing of it is ever in the file, whenever it was said."""
    secret = "what I told it in confidence"
    stored.receive(Feedback("stream-1", -1, secret))
    stored.receive(Begun(make_record(2, ended_at=None, route="other")))
    stored.receive(Feedback("stream-2", -1, secret))
    waiting = stored.feedback.waiting("stream-2")
    assert waiting is not None
    assert waiting.comment is None
    for number, route in ((1, "other"), (2, "other"), (3, "chat")):
        stored.receive(Ended(number, make_record(number, route=route)))
    stored.receive(Feedback("stream-3", -1, "said on purpose"))
    await counted(stored, 3)
    assert [(await kept(stored, number)).comment for number in (1, 2, 3)] == [None, None, "said on purpose"]
    await stored.close()
    written = b"".join([path.read_bytes() for path in tmp_path.glob("weir.db*")])  # noqa: ASYNC240
    assert (secret.encode() in written, b"said on purpose" in written) == (False, True)


async def test_what_is_known_outlives_the_recorder(make_config: MakeConfig, make_record: MakeRecord, tmp_path: Path) -> None:
    """The next recorder joins feedback to streams of the one before, and does not count the same score again."""
    config = make_config(store=str(tmp_path / "weir.db"))
    first = Recorder(config)
    await first.start()
    first.receive(Ended(1, make_record(1)))
    first.receive(Feedback("stream-1", -1))
    await counted(first, 1)
    await first.close()
    second = Recorder(config)
    await second.start()
    for score in (-1, 1):
        second.receive(Feedback("stream-1", score))
    assert await counted(second, 1) == {("chat", "1", "fine"): 1}
    await second.close()


async def test_nobody_knows_the_stream(recorder: Recorder, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for, for some minutes, and then lost and counted; a stream that lives is waited for as long as it does."""
    recorder.receive(Feedback("nobody", 1))
    recorder.receive(Begun(make_record(1, ended_at=None)))
    recorder.receive(Feedback("stream-1", 1))
    await settled(recorder)
    assert (lost(recorder), recorder.feedback.waiting("nobody") is not None) == (0, True)
    monkeypatch.setattr(feedback, "PATIENCE", 0.0)
    recorder.receive(Feedback("stream-1", -1))
    assert (lost(recorder), recorder.feedback.waiting("nobody"), recorder.feedback.waiting("stream-1") is not None) == (1, None, True)
    recorder.receive(Ended(1, make_record(1)))
    assert await counted(recorder, 1) == {("chat", "-1", "fine"): 1}


async def test_what_waits_is_bounded(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """In number and in what it says; the oldest go, and are counted."""
    monkeypatch.setattr(feedback, "MOST_WAITING", 10)
    for number in range(25):
        recorder.receive(Feedback(f"nobody-{number}", 1, "x" * 100))
    await settled(recorder)
    assert (lost(recorder), [recorder.feedback.waiting(f"nobody-{n}") is None for n in (14, 15)]) == (15, [True, False])
    monkeypatch.setattr(feedback, "MOST_SAID", 500)
    recorder.receive(Feedback("nobody-24", -1, "y" * 100))
    await settled(recorder)
    assert (lost(recorder), [recorder.feedback.waiting(f"nobody-{n}") is None for n in (19, 20, 24)]) == (20, [True, False, False])


async def test_a_stream_whose_row_was_lost(stored: Recorder, make_record: MakeRecord) -> None:
    """It was told and is not in the store: its feedback is looked for once more, and then lost and counted."""
    stored._told["stream-1"] = None
    stored.receive(Feedback("stream-1", 1))
    async with asyncio.timeout(10):
        while not lost(stored):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert (lost(stored), counts(stored), stored.feedback.waiting("stream-1")) == (1, {}, None)


async def test_streams_come_first(stored: Recorder, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of feedback cannot take the room in which streams wait to be stored."""
    monkeypatch.setattr(store, "QUEUE", 20)
    for number in range(100):  # in one turn of the loop: the writer has hardly begun
        stored.receive(Feedback(f"nobody-{number}", 1))
    stored.receive(Ended(1, make_record(1)))
    assert lost(stored) > 0
    await settled(stored)
    assert (await kept(stored, 1), stored.dropped()["row"]) == (None, 0)
    assert await asyncio.to_thread(stored.store.one, "stream-1") is not None  # type: ignore[union-attr]


KINDS = {
    ("completed", False, False): "fine",
    ("client_disconnect", False, False): "fine",
    ("completed", False, True): "slow",
    ("completed", True, True): "stalled",
    ("client_disconnect", True, False): "stalled",
    ("upstream_truncated", True, True): "truncated",
    ("rejected", False, False): "truncated",
    ("client_stalled", False, False): "truncated",
}


@pytest.mark.parametrize("case", KINDS)
def test_what_a_stream_was_like(case: tuple[str, bool, bool]) -> None:
    """The worst that can be said of it, in one of four words."""
    assert kind(*case) == KINDS[case]


async def test_the_stream_is_judged_by_its_record(recorder: Recorder, make_record: MakeRecord) -> None:
    """Slow by its route's objective, stalled by its cadence; an unknown route is no label."""
    recorder.receive(Ended(1, make_record(1, first_token_at=101.0)))
    recorder.receive(Ended(2, make_record(2, cadence=Cadence(chunks=5, stall_count=1, stall_time={"upstream": 2.0}))))
    recorder.receive(Ended(3, make_record(3, route="made up")))
    for number in (1, 2, 3):
        recorder.receive(Feedback(f"stream-{number}", -1))
    assert await counted(recorder, 3) == {("chat", "-1", "slow"): 1, ("chat", "-1", "stalled"): 1, ("unmatched", "-1", "fine"): 1}


async def test_made_up_ids_do_not_push_out_what_is_said_of_running_streams(
    recorder: Recorder, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where too much waits, feedback on streams that nobody knows goes before that on streams which live, however old that is."""
    monkeypatch.setattr(feedback, "MOST_WAITING", 5)
    recorder.receive(Begun(make_record(1, ended_at=None)))
    recorder.receive(Feedback("stream-1", -1))
    for number in range(20):
        recorder.receive(Feedback(f"nobody-{number}", 1))
    await settled(recorder)
    assert (lost(recorder), recorder.feedback.waiting("stream-1") is not None) == (16, True)


async def test_what_waits_when_the_recorder_closes_is_counted(recorder: Recorder, make_record: MakeRecord) -> None:
    """Nobody who comes after it knows of it."""
    recorder.receive(Begun(make_record(1, ended_at=None)))
    recorder.receive(Feedback("stream-1", -1))
    recorder.receive(Feedback("nobody", -1))
    await settled(recorder)
    assert lost(recorder) == 0
    await recorder.close()
    assert lost(recorder) == 2
