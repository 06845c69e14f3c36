"""What a caller is told of its own call's times, and what of them the gateway answers for."""

from typing import Any

import msgspec
import pytest

from gateway.core.prompt import Prompt, Text, Turn
from gateway.dialects import DIALECTS
from gateway.sim.faults import Status
from gateway.sim.tempers import INSTANT

HELLO = Prompt(model="m", stream=True, turns=(Turn("user", (Text("hello"),)),), max_tokens=50)
SLOW = msgspec.structs.replace(INSTANT, ttft=0.1, tokens=3)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_caller_learns_its_times_at_the_commit(provide: Any, gate: Any, make: Any, dialect: str, stream: bool) -> None:
    """Every answer says how many attempts it took and when the first byte came; what the upstream took is none of our overhead (D12)."""
    weir = await gate(await provide(Status(503)), await provide(temper=SLOW), dialects=[dialect, dialect])
    _, request = make.call(dialect, msgspec.structs.replace(HELLO, stream=stream))
    client = await (await weir.client()).ask(request).finish()
    record = await weir.record()
    assert (client.status, client.headers["x-weir-attempts"], client.headers["x-weir-upstream"]) == (200, "2", "b")
    timing = dict(part.split(";dur=") for part in client.headers["server-timing"].split(", "))
    assert float(timing["ttfb"]) == pytest.approx((record.first_byte_at - record.received_at) * 1000, abs=0.1)
    late = weir.plane.lag.late(weir.plane.clock())  # on a busy machine: silence while our loop was late is laid on us
    assert record.seconds["upstream_wait"] > 0.09 - late
    assert record.seconds["gateway"] < record.duration - 0.09 + late
    assert sum(record.seconds.values()) == pytest.approx(record.duration, abs=0.001)
