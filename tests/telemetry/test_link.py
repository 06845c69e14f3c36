"""The worker's end of the bridge, over real socketpairs."""

import asyncio
import os
import socket
from collections.abc import Callable

import msgspec
import pytest

from gateway.core.messages import Ack, Begun, Ended, FromWorker, Hello, Moved
from gateway.core.record import StreamRecord
from gateway.proxy.headers import MAX_TAG, MAX_TAGS
from gateway.stream.cadence import MAX_STALLS, MOST_TICKS, CadenceMeter
from gateway.telemetry import link as module
from gateway.telemetry.link import LARGEST, DirectLink, SocketLink

Pair = tuple[socket.socket, socket.socket]
MakeRecord = Callable[..., StreamRecord]
DECODER = msgspec.msgpack.Decoder(list[FromWorker])


def packets(sock: socket.socket) -> list[bytes]:
    """Read every packet that waits."""
    sock.setblocking(False)
    found = []
    while True:
        try:
            found.append(sock.recv(1 << 20))
        except BlockingIOError:
            return found


def messages(sock: socket.socket) -> list[FromWorker]:
    return [message for packet in packets(sock) for message in DECODER.decode(packet)]


async def gather(sock: socket.socket, wanted: int) -> list[FromWorker]:
    """Read until `wanted` messages have come."""
    found: list[FromWorker] = []
    async with asyncio.timeout(5):
        while len(found) < wanted:
            found += messages(sock)
            await asyncio.sleep(0.005)
    return found


async def test_one_window_is_one_packet(pair: Pair, make_record: MakeRecord) -> None:
    """Messages of one flush window travel together, and arrive as they were sent, Hello first."""
    link = SocketLink(pair[0], lambda: ())
    link.start()
    for number in range(5):
        link.send(Begun(make_record(number)))
        link.send(Ended(0, make_record(number)))
    await link.close()
    arrived = packets(pair[1])
    assert len(arrived) == 1
    decoded = DECODER.decode(arrived[0])
    assert decoded[0] == Hello(os.getpid())
    assert [message.record.stream_id for message in decoded if isinstance(message, Begun)] == [f"stream-{n}" for n in range(5)]
    assert [message.seq for message in decoded if isinstance(message, Ended)] == [1, 2, 3, 4, 5]
    assert not any(link.dropped.values())


async def test_packets_stay_small(pair: Pair, make_record: MakeRecord) -> None:
    """No packet reaches 100 KiB, however much is sent at once; a single message too big for that is dropped and counted."""
    link = SocketLink(pair[0], lambda: ())
    link.start()
    for number in range(500):
        link.send(Begun(make_record(number, tags={"x": "y" * 5000})))
    link.send(Begun(make_record(tags={"x": "y" * 100_000})))
    sizes: list[int] = []
    async with asyncio.timeout(5):
        while sum(sizes) < 500 * 5000:
            sizes += [len(packet) for packet in packets(pair[1])]
            await asyncio.sleep(0.001)
    assert max(sizes) < 100 * 1024
    assert link.dropped["begun"] == 1
    await link.close(0.01)


async def test_a_reader_that_never_reads_costs_bounded_memory(pair: Pair, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bounds messages are dropped by kind and the oldest ends go first; what is not counted arrives once somebody reads."""
    monkeypatch.setattr(module, "PENDING", 200_000)
    monkeypatch.setattr(module, "KEPT_COUNT", 300)
    link = SocketLink(pair[0], lambda: ())
    link.start()
    for number in range(3000):
        link.send(Moved(f"stream-{number}" * 20, "streaming", "fast", 1.0))
        link.send(Ended(0, make_record(number)))
        if number % 100 == 0:
            await asyncio.sleep(0)
    assert link.dropped["moved"] > 0
    assert 2600 < link.dropped["ended"] <= 2700  # a packet that could not leave holds a few more
    found: list[FromWorker] = []
    kept = {f"stream-{number}" for number in range(2700, 3000)}
    async with asyncio.timeout(5):
        while kept:
            found += await gather(pair[1], 1)
            kept -= {message.record.stream_id for message in found if isinstance(message, Ended)}
    assert sum(isinstance(message, Moved) for message in found) == 3000 - link.dropped["moved"]
    await link.close()


async def test_a_new_recorder_is_told_everything_again(pair: Pair, make_record: MakeRecord) -> None:
    """On the recorder's Hello: Hello, every live stream, every end not acknowledged; an acknowledged one never again."""
    link = SocketLink(pair[0], lambda: [Begun(make_record(77))])
    link.start()
    for number in range(4):
        link.send(Ended(0, make_record(number)))
    first = await gather(pair[1], 6)
    assert [type(message) for message in first] == [Hello, Begun, Ended, Ended, Ended, Ended]
    pair[1].send(msgspec.msgpack.encode(Ack(os.getpid(), 2)))
    pair[1].send(msgspec.msgpack.encode(Hello(1)))
    again = await gather(pair[1], 4)
    assert [type(message) for message in again] == [Hello, Begun, Ended, Ended]
    assert [message.seq for message in again if isinstance(message, Ended)] == [3, 4]
    await link.close()


async def test_a_dead_workers_ack_is_not_ours(pair: Pair, make_record: MakeRecord) -> None:
    """An acknowledgement that waited in the kernel for a predecessor frees nothing, and garbage is ignored."""
    pair[1].send(msgspec.msgpack.encode(Ack(os.getpid() + 1, 1000)))
    pair[1].send(b"\xc1nonsense")
    link = SocketLink(pair[0], lambda: ())
    link.start()
    link.send(Ended(0, make_record()))
    await gather(pair[1], 2)
    pair[1].send(msgspec.msgpack.encode(Hello(1)))
    again = await gather(pair[1], 2)
    assert isinstance(again[1], Ended)
    await link.close()


async def test_send_never_raises(pair: Pair, make_record: MakeRecord) -> None:
    """What cannot be encoded, and what comes when nobody can hear it any more, is counted."""
    link = SocketLink(pair[0], lambda: ())
    link.send(Begun(make_record(tags={"x": object()})))
    assert link.dropped["begun"] == 1
    link.start()
    pair[1].close()
    for _ in range(3):
        link.send(Ended(0, make_record()))
        await asyncio.sleep(0.03)
    assert link.dropped["ended"] == 3
    await link.close()
    await link.close()


async def test_close_is_bounded(pair: Pair, make_record: MakeRecord) -> None:
    """A recorder that does not read does not keep a worker from ending."""
    link = SocketLink(pair[0], lambda: ())
    link.start()
    for number in range(2000):
        link.send(Begun(make_record(number)))
    async with asyncio.timeout(5):
        await link.close(0.1)


def test_direct_link_counts_a_recorder_that_raises(make_record: MakeRecord) -> None:
    """A fault of an in-process recorder stays with the recorder."""

    def receive(message: FromWorker) -> None:
        raise RuntimeError("no")

    link = DirectLink(receive)
    link.send(Begun(make_record()))
    assert link.dropped["begun"] == 1


@pytest.mark.parametrize(("step", "tokens", "whole"), [(2, 3, True), (7, 300, False)])
async def test_the_longest_record_is_told(pair: Pair, make_record: MakeRecord, step: int, tokens: int, whole: bool) -> None:
    """The end of a stream with all a caller may add to it fits a message; one of hours, of reads of hundreds, without its tokens' times."""
    meter = CadenceMeter(1.0)
    for number in range(MOST_TICKS + 100):
        meter.arrive(100.0 + step * number, tokens)
    wide = "\U0001f600" * (MAX_TAG - 1)
    record = make_record(
        tags={wide + chr(65 + number): wide + "x" for number in range(MAX_TAGS)}, prompt_name=wide, prompt_version=wide, session_id=wide,
        cadence=meter.report(),
    )  # fmt: skip
    record.attempts *= 8
    assert (len(record.cadence.ticks), len(record.cadence.counts), len(record.cadence.stalls)) == (MOST_TICKS, MOST_TICKS, MAX_STALLS)
    assert (len(msgspec.msgpack.encode(Ended(1 << 40, record))) < LARGEST) is whole
    link = SocketLink(pair[0], lambda: ())
    link.start()
    link.send(Ended(0, record))
    await link.close()
    (told,) = [message.record for message in messages(pair[1]) if isinstance(message, Ended)]
    assert (told.tags, told.cadence.chunks) == (record.tags, tokens * (MOST_TICKS + 100))
    assert told.cadence.ticks == (record.cadence.ticks if whole else [])
    assert not any(link.dropped.values())
