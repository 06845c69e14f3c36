"""A stream's memory goes with its last reference: a cycle would wait for the collector, which looks at old objects once in millions."""

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from gateway.core.prompt import Prompt, Text, Turn
from gateway.core.record import StreamRecord
from gateway.proxy.plane import Live
from gateway.proxy.reading import Reading
from gateway.proxy.relay import Relay
from gateway.proxy.trial import Trial
from gateway.sim.faults import (
    HEALTHY,
    ErrorEvent,
    Fault,
    GarbageFrame,
    GzipAnyway,
    JsonReplyToStream,
    NeverEnding,
    Refuse,
    ResetAfter,
    Silent,
    SlowFirstToken,
    Status,
    Truncate,
)

KINDS = (Live, Reading, Relay, Trial, StreamRecord)
HELLO = Prompt(model="m", stream=True, turns=(Turn("user", (Text("hello"),)),), max_tokens=50)
ENDS = (
    *(HEALTHY, ErrorEvent(after=1), ErrorEvent(first=True), GarbageFrame(1), GzipAnyway(), JsonReplyToStream()),
    *(Refuse(), ResetAfter(1), Silent(), SlowFirstToken(delay=1.0), Status(400), Status(500), Truncate(1), Truncate(1, terminator=True)),
)


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """Nothing is collected while a test runs."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def left() -> list[str]:
    """Name what is left of any stream; a record that the book keeps is none of it."""
    return [type(thing).__name__ for thing in gc.get_objects() if type(thing) in KINDS]


async def forgotten(weir: Any) -> None:
    """Wait until nothing of any stream is left."""
    weir.book.messages.clear()
    for _ in range(200):
        if not left():
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"left behind: {left()}")


@pytest.mark.parametrize("dialects", [("openai",), ("anthropic",), ("openai", "anthropic")], ids="-".join)
@pytest.mark.parametrize("fault", ENDS, ids=lambda fault: fault.kind)
async def test_nothing_is_left_of_a_stream(provide: Any, gate: Any, make: Any, caplog: Any, fault: Fault, dialects: Any) -> None:
    """However it ended, in its own dialect or another one, after one attempt or two."""
    providers = [await provide(fault), await provide()][: len(dialects)]
    patience = {"first_token": {"timeout": 0.2}, "stall": {"liveness": 0.6}, "retry": {"attempts": 2}}
    weir = await gate(*providers, dialects=dialects, **patience)
    for stream in (True, False):
        if isinstance(fault, Silent) and not stream:
            continue  # a whole answer may take as long as it takes
        _, request = make.call("openai", msgspec.structs.replace(HELLO, stream=stream))
        client = await (await weir.client()).ask(request).finish()
        client.close()
    await weir.record()
    caplog.clear()
    await forgotten(weir)


@pytest.mark.parametrize("dialects", [("openai", "openai"), ("openai", "anthropic"), ("anthropic", "openai")], ids="-".join)
@pytest.mark.parametrize("fault", [HEALTHY, Truncate(1), ErrorEvent(after=1)], ids=lambda fault: fault.kind)
async def test_nothing_is_left_of_a_stream_that_another_target_went_on_with(
    provide: Any, gate: Any, make: Any, fault: Fault, dialects: Any
) -> None:
    """Nor of one that might have been gone on with."""
    weir = await gate(await provide(fault), await provide(), dialects=dialects, mid_stream="resume")
    client = await (await weir.client()).ask(make.call("openai", HELLO)[1]).finish()
    client.close()
    record = await weir.record()
    assert [attempt.why for attempt in record.attempts] == (["first"] if fault == HEALTHY else ["first", "resume"])
    del record
    await forgotten(weir)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("theirs", ["openai", "anthropic"])
async def test_nothing_is_left_of_a_stream_whose_client_went(provide: Any, gate: Any, make: Any, theirs: str, stream: bool) -> None:
    """In the middle of an answer, or while it was still waited for."""
    weir = await gate(await provide(NeverEnding() if stream else Silent()), dialects=[theirs])
    _, request = make.call("openai", msgspec.structs.replace(HELLO, stream=stream))
    client = (await weir.client()).ask(request)
    if stream:
        await client.until(lambda: len(client.body) > 2000)
    else:
        await asyncio.sleep(0.1)
    client.reset()
    await weir.record()
    await forgotten(weir)
