"""An end that the gateway itself makes, told in every dialect: by a shutdown, and by an operator."""

from typing import Any

import pytest

from gateway.core.events import Failed, Terminated
from gateway.core.messages import Abort
from gateway.core.prompt import Prompt, Text, Turn
from gateway.dialects import DIALECTS
from gateway.sim.faults import NeverEnding, Silent
from gateway.sim.tempers import Temper

PROMPT = Prompt(model="m", turns=[Turn("user", [Text("hello")])], max_tokens=50, stream=True)
CODES = {"shutdown": "server_shutdown", "operator_abort": "operator_abort"}


async def end(weir: Any, cause: str) -> None:
    """End the only stream of a worker."""
    if cause == "shutdown":
        await weir.worker.drain(0.05)
    else:
        weir.worker.obey(Abort(next(iter(weir.plane.live))))


@pytest.mark.parametrize("cause", CODES)
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_running_stream_ends_in_an_error_of_its_dialect(
    provide: Any, gate: Any, make: Any, until: Any, dialect: str, cause: str
) -> None:
    """Readable to its end, the last thing said is the failure, and no sign of a good end stands anywhere (B9)."""
    provider = await provide(NeverEnding(), Temper(ttft=0, gap="5ms", tokens=5))
    weir = await gate(provider, dialects=[dialect])
    call, request = make.call(dialect, PROMPT)
    client = (await weir.client()).ask(request)
    await client.until(lambda: len(client.pieces) > 3)
    await end(weir, cause)
    await client.finish()
    events = make.heard(call, client.body)
    assert isinstance(events[-1], Failed)
    assert not any(isinstance(event, Terminated) for event in events)
    record = await weir.record()
    assert (record.outcome, record.error, client.complete) == (cause, CODES[cause], True)
    await until(lambda: provider.requests[0].closed_by == "peer")
    assert weir.targets()[0].last_error is None


@pytest.mark.parametrize("cause", CODES)
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_before_the_first_byte_it_is_a_status(provide: Any, gate: Any, make: Any, until: Any, dialect: str, cause: str) -> None:
    """A shutdown is a 503, to be asked again elsewhere; an abort has a status that no SDK asks again after: not 408, 409, 429, 5xx."""
    provider = await provide(Silent())
    weir = await gate(provider, dialects=[dialect])
    _, request = make.call(dialect, PROMPT)
    client = (await weir.client()).ask(request)
    await until(lambda: provider.total)
    await end(weir, cause)
    await client.finish()
    assert client.status == (503 if cause == "shutdown" else 403)
    assert DIALECTS[dialect].read_error(client.status, client.body).message
    assert (await weir.record()).outcome == cause
