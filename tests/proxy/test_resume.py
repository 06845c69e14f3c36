"""`mid_stream: resume`: when an upstream dies in the middle of its text, another goes on, and the client reads one message."""

from typing import Any

import msgspec
import openai
import pytest

from gateway.core.continuation import CONTINUE
from gateway.core.events import Delta, Event, Failed, Finished, Started, Terminated
from gateway.core.prompt import Prompt, Text, Turn
from gateway.dialects import DIALECTS
from gateway.sim.faults import ErrorEvent, ResetAfter, Stall, Truncate
from gateway.sim.tempers import INSTANT
from tests.rig.rounds import judged_in_rounds

HELLO = Prompt(model="m", stream=True, system=("Be brief.",), turns=(Turn("user", (Text("hello"),)),), max_tokens=50)
SPEECH = msgspec.structs.replace(INSTANT, tokens=5)
FAULTS = {
    "fin": (Truncate(after=3, terminator=True), "truncated", "stream_truncated"),
    "cut": (Truncate(after=3, cut=12), "truncated", "connection_closed"),
    "rst": (ResetAfter(after=3), "truncated", "connection_reset"),
    "error": (ErrorEvent(after=3), "error_event", None),
    "stall": (Stall(after=3, length=60), "stalled", "upstream_silent"),
}
OTHERS = {"openai": "anthropic", "azure": "ollama", "anthropic": "gemini"}
LEGS = [
    (mine, first, second)
    for mine in DIALECTS
    for first, second in ((mine, mine), (mine, OTHERS.get(mine, "openai")), (OTHERS.get(mine, "openai"), mine))
]
PATIENCE: dict[str, Any] = {"mid_stream": "resume", "stall": {"liveness": 0.4, "threshold": 0.2}}


async def ask(weir: Any, make: Any, dialect: str, prompt: Prompt = HELLO, headers: Any = None) -> tuple[Any, Any]:
    """Send a prompt as a client of a dialect; return the call and the client when the answer is over."""
    call, request = make.call(dialect, prompt, headers)
    return call, await (await weir.client()).ask(request).finish()


async def pieces(make: Any, direct: Any, provider: Any, dialect: str) -> list[str]:
    """Return the pieces of text that a provider says to a client of its own dialect."""
    call, request = make.call(dialect, HELLO)
    events = make.heard(call, (await direct(provider, request=request)).body)
    return [event.text for event in events if isinstance(event, Delta)]


def asked(provider: Any, dialect: str) -> Prompt:
    """Return what a provider was asked last, in no dialect."""
    request = provider.requests[-1]
    spoken = DIALECTS[dialect]
    for endpoint in spoken.endpoints:
        if endpoint.operation == "chat":
            return spoken.read_prompt(msgspec.structs.replace(spoken.compose(HELLO), body=request.body))
    raise AssertionError(dialect)


def said(prompt: Prompt, role: str) -> list[str]:
    return ["".join(part.text for part in turn.parts if isinstance(part, Text)) for turn in prompt.turns if turn.role == role]


def one_message(events: list[Event]) -> None:
    """A message is announced once, ends once, and reports no failure."""
    assert not [event for event in events if isinstance(event, Failed)]
    assert len([event for event in events if isinstance(event, Finished)]) == 1
    assert len({event.id for event in events if isinstance(event, Started)}) <= 1
    assert len([event for event in events if isinstance(event, Terminated)]) <= 1


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("legs", LEGS, ids="-".join)
@judged_in_rounds
async def test_the_text_goes_on_elsewhere(provide: Any, gate: Any, direct: Any, make: Any, legs: tuple[str, str, str], fault: str) -> None:
    """What the first said and what the second said, each once, are one answer; the record tells both, and the seam between them."""
    (mine, first, second), (script, outcome, error) = legs, FAULTS[fault]
    dying, other = await provide(script, temper=SPEECH), await provide(temper=SPEECH)
    weir = await gate(dying, other, dialects=[first, second], **PATIENCE)
    call, client = await ask(weir, make, mine)
    assert (client.status, client.complete, client.headers["x-weir-upstream"]) == (200, True, "a")
    spoken = await pieces(make, direct, await provide(temper=SPEECH), first)
    rest = await pieces(make, direct, await provide(temper=SPEECH), second)
    told = "".join(spoken[:3])
    events = make.heard(call, client.body)
    one_message(events)
    assert "".join(event.text for event in events if isinstance(event, Delta)) == told + "".join(rest)
    prompt = asked(other, second)
    assert [text.rstrip() for text in said(prompt, "assistant")] == [told.rstrip()]
    assert said(prompt, "user") == (["hello"] if second == "ollama" else ["hello", CONTINUE])
    assert client.body.count(b": weir resumed on b\n\n") == (1 if DIALECTS[mine].framing(call).takes_lines else 0)
    record = await weir.record()
    assert (record.outcome, record.error, record.upstream, record.mutations["resumed"]) == ("completed", None, "a", 1)
    assert [(attempt.why, attempt.outcome) for attempt in record.attempts] == [("first", outcome), ("resume", "won")]
    assert record.attempts[0].error == error or error is None
    [seam] = record.seams
    assert (seam.source, seam.target, seam.why) == ("a", "b", record.attempts[0].error)
    assert (seam.chunks, seam.characters, record.cadence.chunks) == (3, len(told), 8)
    assert record.usage is not None
    assert record.cadence.stall_count == (1 if fault == "stall" else 0)
    assert set(record.cadence.stall_time) <= {"upstream"}
    assert {state.upstream: state.last_error for state in weir.targets()} == {"a": record.attempts[0].error, "b": None}


def sdk(weir: Any) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{weir.port}/v1", api_key="sk-test", max_retries=0)


@pytest.mark.parametrize("second", ["openai", "anthropic"])
async def test_openais_sdk_puts_one_chat_message_together(provide: Any, gate: Any, second: str) -> None:
    """Its own accumulator takes the stream for one message of one id, whoever goes on."""
    first = await provide(ResetAfter(after=3), temper=SPEECH)
    weir = await gate(first, await provide(temper=SPEECH), dialects=["openai", second], **PATIENCE)
    async with sdk(weir) as client, client.chat.completions.stream(model="m", messages=[{"role": "user", "content": "hello"}]) as stream:
        pieces = [event.delta async for event in stream if event.type == "content.delta" and event.delta]
        final = await stream.get_final_completion()
    assert (len(pieces), final.choices[0].message.content, final.choices[0].finish_reason) == (8, "".join(pieces), "stop")


@pytest.mark.parametrize("second", ["openai-responses", "openai"])
async def test_openais_sdk_puts_one_response_together(provide: Any, gate: Any, second: str) -> None:
    """One item, numbers without a gap, and an end that repeats the text of both."""
    first = await provide(ResetAfter(after=3), temper=SPEECH)
    weir = await gate(first, await provide(temper=SPEECH), dialects=["openai-responses", second], **PATIENCE)
    async with sdk(weir) as client, client.responses.stream(model="m", input="hello") as stream:
        events = [event async for event in stream]
        final = await stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events].count("response.output_item.added") == 1
    assert final.output_text == "".join(event.delta for event in events if event.type == "response.output_text.delta") != ""
    assert final.status == "completed"
