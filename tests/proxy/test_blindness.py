"""Law 2: an observer that fails makes us blind; the stream goes on, byte for byte, through every path."""

from typing import Any

import pytest

from gateway.dialects.openai.dialect import OpenAI
from gateway.dialects.openai.reader import ChunkReader
from gateway.sim.faults import HEALTHY, InOrder, Stall
from gateway.sim.tempers import Temper
from gateway.stream.observer import Observer
from tests.rig.rounds import judged_in_rounds

DONE = b"data: [DONE]\n\n"


class Broken(Exception):
    """What nobody expects."""


@pytest.fixture
def broken_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every event, and every answer in one piece, makes the dialect's reader raise (E4)."""

    def events(self: Any, frame: Any) -> Any:
        raise Broken

    monkeypatch.setattr(ChunkReader, "events", events)
    monkeypatch.setattr(ChunkReader, "document", events)


@pytest.mark.parametrize("spare", [False, True], ids=["", "with a fallback"])
@judged_in_rounds
async def test_a_reader_that_raises(provide: Any, gate: Any, direct: Any, broken_reader: None, spare: bool) -> None:
    """The client's bytes are the upstream's, at once and from the first target, and the blindness is counted (E4)."""
    slow = Temper(ttft=0, gap="50ms", tokens=8)
    provider, other = await provide(temper=slow), await provide()
    weir = await gate(provider, *([other] if spare else []), first_token={"timeout": 0.3}, usage="leave")
    client = await weir.fetch()
    record = await weir.record()
    assert client.body == (await direct(await provide(temper=slow))).body
    assert len(client.pieces) >= 7
    assert (client.headers["x-weir-upstream"], other.total) == ("a", 0)
    assert (record.outcome, record.parser_errors, record.ttft) == ("completed", {"observer": 1}, None)


async def test_blind_progress_is_not_judged(provide: Any, gate: Any, broken_reader: None) -> None:
    """A stream we cannot read is not given up for want of tokens we cannot see; silence still ends it."""
    steady = Temper(ttft=0, gap="100ms", tokens=12)
    weir = await gate(await provide(InOrder([HEALTHY, Stall(after=2, length=30)]), steady), stall={"progress": 0.4, "liveness": 0.6})
    client = await weir.fetch()
    assert client.body.endswith(DONE)
    assert (await weir.record()).outcome == "completed"
    client = await weir.fetch()
    assert client.body.endswith(b'"code":"upstream_silent"}}\n\n')


async def test_a_reader_that_raises_at_documents(provide: Any, gate: Any, direct: Any, broken_reader: None) -> None:
    """A whole answer is passed on unread."""
    weir = await gate(await provide())
    client = await weir.fetch(stream=False)
    record = await weir.record()
    assert client.body == (await direct(await provide(), stream=False)).body
    assert (record.outcome, record.usage, record.parser_errors) == ("completed", None, {"observer": 1})


async def test_it_may_fail_later(provide: Any, gate: Any, direct: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Failing in the middle of a stream changes nothing for its client either; what was seen before is kept."""
    feeds = 0
    feed = Observer.feed

    def failing(self: Observer, data: bytes, now: float) -> None:
        nonlocal feeds
        feeds += 1
        if feeds == 4:
            raise Broken
        feed(self, data, now)

    monkeypatch.setattr(Observer, "feed", failing)
    slow = Temper(ttft=0, gap="30ms", tokens=8)
    weir = await gate(await provide(temper=slow), usage="leave")
    client = await weir.fetch()
    record = await weir.record()
    assert client.body == (await direct(await provide(temper=slow))).body
    assert (record.outcome, record.parser_errors, feeds) == ("completed", {"observer": 1}, 4)
    assert record.ttft is not None


async def test_the_usage_frame_stays_when_we_cannot_tell(
    provide: Any, gate: Any, monkeypatch: pytest.MonkeyPatch, broken_reader: None
) -> None:
    """Blind, we strip nothing: a frame too many harms nobody as much as one too few."""
    weir = await gate(await provide(temper=Temper(ttft=0, gap="20ms", tokens=3)))
    client = await weir.fetch()
    assert b'"choices":[],"usage"' in client.body
    assert (await weir.record()).mutations == {}


async def test_a_judgement_that_fails(provide: Any, gate: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Even what should never raise may: a bug in the path itself is a 500 of ours, one record, and a line in the log."""

    def outgoing(*_: Any) -> bytes:
        raise Broken("secret")

    monkeypatch.setattr(OpenAI, "outgoing", outgoing)
    weir = await gate(await provide())
    client = await weir.fetch()
    record = await weir.record()
    assert client.status == 500
    assert b"secret" not in client.body
    assert (record.outcome, record.attempts) == ("gateway_error", [])
    [line] = [logged.getMessage() for logged in caplog.records]
    assert line.startswith(f"stream {record.stream_id} broke the gateway: Broken at test_blindness.py:")
    assert "secret" not in caplog.text
    caplog.clear()
