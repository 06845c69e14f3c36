"""What an upstream sends without an end, outside of any body, is given up before it costs anything."""

from typing import Any

import pytest

from gateway.sim.faults import Script
from gateway.sim.steps import Hang, Send

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
BEGUN = {"head": b"HTTP/1.1 200 OK\r\nX-Endless: ", "trailer": CHUNKED + b'f\r\ndata: {"a":1}\n\n\r\n0\r\nX-Endless: '}


@pytest.mark.parametrize("begun", BEGUN)
async def test_a_header_without_an_end(provide: Any, gate: Any, begun: str) -> None:
    """The parser would keep it, and copy it with every read, for as long as it comes: it is no HTTP (E1)."""
    flood = [Send(b"a" * 16_384) for _ in range(64)]
    weir = await gate(await provide(Script((Send(BEGUN[begun]), *flood, Hang()))), retry={"attempts": 1})
    client = await weir.fetch()
    record = await weir.record()
    assert (record.error, b"bad_response" in client.body) == ("bad_response", True)
