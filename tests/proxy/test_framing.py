"""An upstream's chunked body: whatever its chunks and wherever reads are cut, the sink gets the body, and `framed` is true to it."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.config import Upstream
from gateway.proxy.upstream import Connection, Head, Pool

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Wire:
    """A transport that is written to and never full."""

    def write(self, data: bytes) -> None: ...
    def abort(self) -> None: ...
    def resume_reading(self) -> None: ...
    def is_closing(self) -> bool:
        return False


class Ear:
    def __init__(self) -> None:
        self.head: Head | None = None
        self.ends: list[str | None] = []
        self.body = b""
        self.framed = 0

    def on_head(self, head: Head, now: float) -> None:  # noqa: ARG002 - the shape of a listener
        self.head = head

    def on_end(self, why: str | None, now: float, last: bytes = b"") -> None:  # noqa: ARG002 - the shape of a listener
        self.body += last
        self.ends.append(why)

    def sink(self, chunk: bytes, now: float, framed: bytes | None = None) -> None:  # noqa: ARG002 - the shape of a sink
        self.body += chunk
        if framed is not None:
            self.framed += 1
            assert framed == b"%x\r\n%b\r\n" % (len(chunk), chunk)


def hear(reads: list[bytes], exchanges: int = 1) -> Ear:
    pool = Pool("a", Upstream(base_url="http://127.0.0.1:1"), lambda: 1.0)
    connection, wire, ear = Connection(pool, lambda: 1.0), Wire(), Ear()
    connection.connection_made(wire)  # type: ignore[arg-type]
    for _ in range(exchanges):
        connection.start([b""], ear.sink, ear)
        for read in reads:
            connection.data_received(read)
    return ear


def chunk(body: bytes, form: str = "%x", extension: bytes = b"") -> bytes:
    return (form % len(body)).encode() + extension + b"\r\n" + body + b"\r\n"


def cut(data: bytes, places: list[int]) -> list[bytes]:
    stops = sorted({place % len(data) for place in places} - {0})
    return [data[start:stop] for start, stop in zip([0, *stops], [*stops, len(data)], strict=True)]


BODIES = st.lists(
    st.one_of(st.binary(min_size=1, max_size=40), st.sampled_from([chunk(b"abc"), b"0\r\n\r\n", b"\r\n", b"3\r\n"])), max_size=8
)
FORMS = st.tuples(st.sampled_from(["%x", "%X", "%04x"]), st.sampled_from([b"", b";a=b"]))


@given(BODIES, FORMS, st.sampled_from([b"", b"X-Sum: 1\r\n"]), st.lists(st.integers(0, 500), max_size=12))
def test_any_chunks_at_any_cut(bodies: list[bytes], form: Any, trailer: bytes, places: list[int]) -> None:
    """Bodies that look like chunks, odd size lines, extensions and trailers included."""
    data = HEAD + b"".join(chunk(body, *form) for body in bodies) + b"0\r\n" + trailer + b"\r\n"
    ear = hear(cut(data, places), exchanges=2)
    assert (ear.body, ear.ends) == (b"".join(bodies) * 2, [None, None])


@given(BODIES)
def test_a_chunk_a_read(bodies: list[bytes]) -> None:
    """The usual stream: each read is one chunk, and after the first it is passed on in the framing it came in."""
    ear = hear([HEAD, *(chunk(body) for body in bodies), b"0\r\n\r\n"])
    assert (ear.body, ear.ends, ear.framed) == (b"".join(bodies), [None], max(0, len(bodies) - 1))


def test_large_chunks_are_parsed() -> None:
    """A chunk beyond what is known by its length is a chunk like any other."""
    ear = hear([HEAD, chunk(b"a"), chunk(b"b" * 100_000), chunk(b"c"), b"0\r\n\r\n"])
    assert (ear.body, ear.ends, ear.framed) == (b"a" + b"b" * 100_000 + b"c", [None], 1)


def test_a_chunk_after_a_broken_one_is_no_chunk() -> None:
    """Inside a chunk, bytes that look like one are payload."""
    inner = chunk(b"hello")
    ear = hear([HEAD, chunk(b"a"), b"%x\r\n" % len(inner), inner, b"\r\n", b"0\r\n\r\n"])
    assert (ear.body, ear.ends, ear.framed) == (b"a" + inner, [None], 0)
