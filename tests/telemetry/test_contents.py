"""The words of streams on their way from worker to store: in parts, within bounds, without keys, and gone with their streams."""

import asyncio
import socket
import sqlite3
import zlib
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from gateway.core.answer import ToolCall
from gateway.core.content import Content
from gateway.core.messages import Begun, Ended, FromWorker, Hello, Said, Spoke
from gateway.core.record import StreamRecord
from gateway.telemetry import link as module
from gateway.telemetry import parcels
from gateway.telemetry.account import account
from gateway.telemetry.contents import Contents, Room, packed, unpacked
from gateway.telemetry.link import SocketLink
from gateway.telemetry.parcels import Unpacking
from gateway.telemetry.schema import forget_oldest
from gateway.telemetry.store import Receipt, Store

MakeRecord = Callable[..., StreamRecord]
Pair = tuple[socket.socket, socket.socket]
DECODER = msgspec.msgpack.Decoder(list[FromWorker])
KEY = "sk-" + "abcdefgh1234" * 2


def said(number: int = 1, **fields: Any) -> Said:
    content = Content(**{"prompt": b'{"messages":[{"role":"user","content":"hi"}]}', "text": "hello", **fields})
    return Said(f"stream-{number}", msgspec.msgpack.encode(content))


def read(message: Said) -> Any:
    return orjson.loads(unpacked(packed(message)))


async def drain(sock: socket.socket, enough: Callable[[list[FromWorker]], bool]) -> list[FromWorker]:
    """Read packets until there is enough, each of them small."""
    sock.setblocking(False)
    found: list[FromWorker] = []
    async with asyncio.timeout(10):
        while not enough(found):
            try:
                packet = sock.recv(1 << 20)
            except BlockingIOError:
                await asyncio.sleep(0.002)
                continue
            assert len(packet) < 100 * 1024
            found += DECODER.decode(packet)
    return found


async def test_words_travel_in_parts_behind_everything_else(pair: Pair, make_record: MakeRecord) -> None:
    """What fits no packet is cut and put together again; it comes after every record, also those told later."""
    link, lost = SocketLink(pair[0], lambda: ()), list[tuple[str, int]]()
    big, small = said(1, text="long " * 200_000), said(2)
    link.start()
    for message in (Ended(0, make_record(1)), big, Begun(make_record(3)), small, Ended(0, make_record(2))):
        link.send(message)
    found = await drain(pair[1], lambda found: Said("stream-2", small.data) in found)
    kinds = [type(message) for message in found]
    assert kinds[:4] == [Hello, Begun, Ended, Ended]
    assert set(kinds[4:]) == {Said}
    unpacking = Unpacking(lambda kind, count: lost.append((kind, count)))
    wholes = [whole for part in found if isinstance(part, Said) and (whole := unpacking.take(part, 0)) is not None]
    assert [(whole.stream_id, whole.data) for whole in wholes] == [(big.stream_id, big.data), (small.stream_id, small.data)]
    assert (lost, link.dropped["said"]) == ([], 0)
    await link.close()


async def test_words_that_find_no_room_cost_nothing_else(pair: Pair, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past their bound whole streams' words are dropped and counted, and no other message is for their sake."""
    monkeypatch.setattr(parcels, "WAITING", 300_000)
    monkeypatch.setattr(module.Parcels.__init__, "__defaults__", (300_000,))
    link = SocketLink(pair[0], lambda: ())
    link.start()
    for number in range(100):
        link.send(Ended(0, make_record(number)))
        link.send(said(number, text="word " * 10_000))
    assert 0 < link.dropped.pop("said") < 100
    assert not any(link.dropped.values())
    found = await drain(pair[1], lambda found: sum(isinstance(message, Ended) for message in found) == 100)
    assert len(found) >= 101
    await link.close(0.1)


async def test_words_outlive_a_recorder_that_was_not_listening(pair: Pair, make_record: MakeRecord) -> None:
    """What waits in a worker while its recorder is replaced is told to the new one, behind the records it is told again."""
    link = SocketLink(pair[0], lambda: ())
    link.start()
    big = said(1, text="long " * 100_000)
    link.send(Ended(0, make_record(1)))
    link.send(big)
    await asyncio.sleep(0)  # the socket is full long before the words are through
    await drain(pair[1], lambda found: any(isinstance(message, Said) for message in found))
    pair[1].send(msgspec.msgpack.encode(Hello(1)))
    found = await drain(pair[1], lambda found: any(isinstance(message, Said) and message.last for message in found))
    assert Hello in [type(message) for message in found]
    await link.close()


@pytest.mark.parametrize("hole", range(4))
def test_a_whole_with_a_hole_is_lost(hole: int) -> None:
    """Words of which a part never came are nobody's, counted once, and the next ones are whole; slots do not mix."""
    lost = list[int]()
    unpacking = Unpacking(lambda _, count: lost.append(count))
    parts = [Said("a", b"%d" % number, number, number == 3) for number in range(4)]
    assert unpacking.take(Said("z", b"z", 0, last=False), 7) is None
    assert [unpacking.take(part, 0) for part in parts if part.part != hole] == [None] * 3
    assert unpacking.take(Said("b", b"b"), 0) == Said("b", b"b")
    assert sum(lost) == 1
    assert unpacking.take(Said("z", b"y", 1, last=True), 7) == Said("z", b"zy")


def test_keys_are_struck_out_of_all_of_it() -> None:
    """Prompt, text, reasoning, refusal and tool calls are stored without keys; cuts and seams are where the same words are."""
    prompt = orjson.dumps({"messages": [{"content": f"use\n{KEY} please"}]})
    tools = [ToolCall("1", "look", f'{{"key":"{KEY}"}}')]
    text = f"Take {KEY} and go"
    kept = read(
        said(prompt=prompt, text=text, reasoning=KEY, refusal=f"no {KEY}", tools=tools, cuts=[5, 20, len(text)], seams=[text.index("and")])
    )
    assert KEY not in str(kept)
    assert kept["prompt"] == {"messages": [{"content": "use\n[redacted] please"}]}
    assert (kept["text"], kept["reasoning"], kept["refusal"]) == ("Take [redacted] and go", "[redacted]", "no [redacted]")
    assert kept["tools"] == [{"id": "1", "name": "look", "arguments": '{"key":"[redacted]"}'}]
    assert (kept["cuts"], kept["seams"]) == ([5, 15, len(kept["text"])], [kept["text"].index("and")])


@pytest.mark.parametrize("prompt", [b"no json", b'{"a":', b"\xff\xfe", b'{"a":1}{', b'{"a":NaN}'])
def test_a_body_that_is_no_json_is_kept_as_text(prompt: bytes) -> None:
    """What a client sent is kept as what it was, and an answer of the API is valid in any case."""
    assert read(said(prompt=prompt))["prompt"] == prompt.decode("utf-8", "replace")
    assert read(said(prompt=b'{"a":1}', prompt_cut=True))["prompt"] == '{"a":1}'


def test_a_deep_prompt_is_kept() -> None:
    """Depth costs nothing: a body is not written anew."""
    prompt = b'{"a":' + b"[" * 900 + b"]" * 900 + b"}"
    assert b'"prompt":' + prompt in unpacked(packed(said(prompt=prompt)))


@pytest.fixture
def store(tmp_path: Path) -> Any:
    opened = Store(str(tmp_path / "weir.db"), 3600.0, lambda _: None)
    yield opened
    opened.close(5.0)


def put(store: Store, record: StreamRecord) -> None:
    store.put(account(record), Receipt(0, 1, 1))


def test_words_are_stored_with_their_stream_and_go_with_it(store: Store, make_record: MakeRecord) -> None:
    """They are in a table of their own; who forgets a stream forgets its words; words without a stream are not kept."""
    for number in (1, 2):
        put(store, make_record(number, ended_at=102.0 + number))
        store.keep(said(number, text=f"text {number}"))
    store.keep(said(3))
    store.start()
    store.close(5.0)
    assert orjson.loads(store.content("stream-1") or b"")["text"] == "text 1"
    assert store.content("stream-3") is None
    with sqlite3.connect(store.path) as connection:
        rows = connection.execute("SELECT stream_id, content FROM contents").fetchall()
        assert [stream_id for stream_id, _ in rows] == ["stream-1", "stream-2"]
        assert b"text 1" in zlib.decompress(rows[0][1])
        assert not [row for row in connection.execute("SELECT * FROM streams") if "text 1" in str(row)]
        assert forget_oldest(connection, inf, 1) == 1
    assert store.content("stream-1") is None
    assert store.content("stream-2") is not None


def test_words_go_with_the_retention(tmp_path: Path, make_record: MakeRecord) -> None:
    """What is too old to be kept takes its words along."""
    old = make_record(1, received_unix=1_000_000.0)
    for records in ([old], [make_record(2)]):
        store = Store(str(tmp_path / "weir.db"), 3600.0 if records != [old] else 1e10, lambda _: None)
        for record in records:
            put(store, record)
            store.keep(said(int(record.stream_id[-1])))
        store.start()
        store.close(5.0)
    with sqlite3.connect(tmp_path / "weir.db") as connection:
        assert connection.execute("SELECT stream_id FROM contents").fetchall() == [("stream-2",)]


def test_words_wait_within_bounds() -> None:
    """The recorder holds so many bytes of words for its store's thread and no more; the rest is dropped and counted."""
    room, lost, kept = Room(1000), list[str](), list[Said]()

    def keep(whole: Said) -> bool:
        if not room.take(len(whole.data)):
            return False
        kept.append(whole)
        return True

    contents = Contents(keep, lambda kind, _: lost.append(kind))
    for number in range(4):
        contents.said(Said(f"stream-{number}", b"x" * 400), 0)
    assert (len(kept), lost) == (2, ["said", "said"])
    room.give(400)
    contents.said(Said("stream-9", b"x" * 400), 0)
    assert (len(kept), len(lost)) == (3, 2)


def test_words_that_cannot_be_read_stop_nothing(store: Store, make_record: MakeRecord) -> None:
    """A message of another shape costs itself alone."""
    put(store, make_record(1))
    store.keep(Said("stream-1", b"\xc1"))
    store.keep(said(1))
    store.start()
    store.close(5.0)
    assert store.content("stream-1") is not None
    assert Spoke("s", "text", 0, "x").kind == "text"
