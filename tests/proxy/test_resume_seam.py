"""What surrounds the seam of a resumed stream: how it broke, who goes on, clients that leave, counts and limits."""

import asyncio
from typing import Any

import msgspec
import orjson
import pytest

from gateway.core.answer import fold
from gateway.core.continuation import CONTINUE
from gateway.core.errors import Stopped
from gateway.core.prompt import Prompt, Text, Turn
from gateway.dialects import DIALECTS
from gateway.sim.faults import InOrder, JsonReplyToStream, NeverEnding, ResetAfter, Script, Silent, Status, Truncate
from gateway.sim.steps import Pause, Send
from gateway.sim.tempers import INSTANT, Temper
from tests.rig.broken import delta, dying, healthy, text_of
from tests.rig.rounds import judged_in_rounds

SPEECH = msgspec.structs.replace(INSTANT, tokens=5)
HELLO = Prompt(model="m", stream=True, turns=(Turn("user", (Text("hello"),)),), max_tokens=50)
RESUME: dict[str, Any] = {"mid_stream": "resume"}
WITHIN = 3.0


async def test_an_upstream_that_reports_and_hangs_is_left_at_once(provide: Any, gate: Any, make: Any, until: Any) -> None:
    """An error event is the end of its stream, whether the upstream closes it or not."""
    error = b'data: {"error":{"code":"overloaded"}}\n\n'
    first, second = await provide(make.chunked(make.event(), make.event("a"), error, 60)), await provide(temper=SPEECH)
    weir = await gate(first, second, **RESUME)
    client = await weir.fetch()
    await until(lambda: first.requests[0].closed_by == "peer")
    assert (client.complete, client.body.endswith(b"[DONE]\n\n"), b"overloaded" in client.body) == (True, True, False)
    assert (await weir.record()).outcome == "completed"


async def test_an_error_in_the_first_read_of_all(provide: Any, gate: Any, make: Any) -> None:
    """Text and error before the stream is anybody's: it is gone on with, and the upstream that hangs is not waited for."""
    error = b'data: {"error":{"code":"overloaded"}}\n\n'
    first, second = await provide(make.chunked(make.event() + make.event("one ") + error, 60)), await provide(healthy("two"))
    weir = await gate(first, second, **RESUME)
    client = await weir.fetch()
    assert (text_of(client.body), b"overloaded" in client.body) == ("one two", False)
    assert (await weir.record()).attempts[0].outcome == "error_event"


@pytest.mark.parametrize("mine", DIALECTS)
async def test_text_in_the_last_read_of_all(provide: Any, gate: Any, make: Any, mine: str) -> None:
    """What came together with the end of a body that is no end of an answer is delivered before anybody goes on."""
    begun, rest = make.event() + make.event("one "), make.event("two ")
    sized = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(begun + rest)
    first, second = await provide(Script((Send(sized + begun), Pause(0.1), Send(rest)))), await provide(healthy("three"))
    weir = await gate(first, second, dialects=["openai", "openai"], **RESUME)
    call, request = make.call(mine, HELLO)
    client = await (await weir.client()).ask(request).finish()
    assert fold(make.heard(call, client.body)).text == "one two three"
    assert (await weir.record()).seams[0].characters == 8


@pytest.mark.parametrize("mine", DIALECTS)
async def test_an_error_in_the_last_read_of_all(provide: Any, gate: Any, make: Any, mine: str) -> None:
    """Text, error, end marker and the end of the body at once: the text is the client's, the rest is said by the second."""
    body = make.event() + make.event("one ") + b'data: {"error":{"code":"overloaded"}}\n\ndata: [DONE]\n\n'
    sized = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(body)
    first, second = await provide(Script((Send(sized + body),))), await provide(healthy("two"))
    weir = await gate(first, second, dialects=["openai", "openai"], **RESUME)
    call, request = make.call(mine, HELLO)
    client = await (await weir.client()).ask(request).finish()
    answer = fold(make.heard(call, client.body))
    assert (answer.text, answer.failed, answer.finished is not None) == ("one two", None, True)
    record = await weir.record()
    assert (record.outcome, record.attempts[0].outcome, record.seams[0].characters) == ("completed", "error_event", 4)


async def test_half_an_event_is_not_delivered(provide: Any, gate: Any, make: Any) -> None:
    """What was torn counts for nothing: the second is asked to go on from the last whole event, and the client sees no trace of it."""
    first, second = await provide(dying(make.event("one "), make.event("two")[:-5])), await provide(temper=SPEECH)
    weir = await gate(first, second, **RESUME)
    client = await weir.fetch()
    assert orjson.loads(second.requests[0].body)["messages"][1:] == [
        {"role": "assistant", "content": "one "},
        {"role": "user", "content": CONTINUE},
    ]
    assert b"two" not in client.body
    assert (await weir.record()).seams[0].characters == 4


async def test_white_space_at_the_seam_is_said_once(provide: Any, gate: Any, make: Any) -> None:
    """A model that is given its own beginning without the space at its end says that again; the client has it once."""
    first = await provide(dying(make.event("one "), make.event("two\n")))
    line = b'{"model":"m","message":{"role":"assistant","content":%b},"done":%b}\n'
    said = [line % (b'"\\n"', b"false"), line % (b'"\\nthree"', b"false"), line % (b'""', b'true,"done_reason":"stop"')]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
    second = await provide(make.chunked(*said, head=head))
    weir = await gate(first, second, dialects=["openai", "ollama"], **RESUME)
    client = await weir.fetch()
    assert orjson.loads(second.requests[0].body)["messages"][-1] == {"role": "assistant", "content": "one two"}
    assert text_of(client.body) == "one two\n\nthree"


async def test_a_large_call_is_said_anew_in_a_thread(provide: Any, gate: Any, make: Any) -> None:
    """Where no stream waits for it, on its way to whoever goes on."""
    first, second = await provide(dying(make.event("one "))), await provide(healthy("two"))
    weir = await gate(first, second, **RESUME)
    client = await weir.fetch(messages=[{"role": "user", "content": "word " * 80_000}])
    assert text_of(client.body) == "one two"
    assert len(second.requests[0].body) > 400_000


async def test_two_seams(provide: Any, gate: Any, make: Any) -> None:
    """Each goes on with all that came before it; attempts are bounded by `retry.attempts`, whoever is left."""
    first, second = await provide(dying(make.event("one "))), await provide(dying(make.event("two ")))
    third = await provide(healthy("three"))
    weir = await gate(first, second, third, **RESUME)
    client = await weir.fetch()
    record = await weir.record()
    assert [(seam.source, seam.target, seam.chunks) for seam in record.seams] == [("a", "b", 1), ("b", "c", 2)]
    assert (record.outcome, record.mutations["resumed"], record.cadence.chunks) == ("completed", 2, 3)
    assert text_of(client.body) == "one two three"
    assert orjson.loads(third.requests[0].body)["messages"][1]["content"] == "one two "
    assert client.body.count(b"[DONE]") == 1


async def test_all_legs_die(provide: Any, gate: Any) -> None:
    """What was said stays, then one error, and no proper end: the last failure is the stream's."""
    first, second = await provide(ResetAfter(after=2), temper=SPEECH), await provide(Truncate(after=1), temper=SPEECH)
    weir = await gate(first, second, **RESUME, retry={"attempts": 2})
    client = await weir.fetch()
    record = await weir.record()
    assert client.body.endswith(b'"code":"connection_closed"}}\n\n')
    assert (client.body.count(b'"error"'), b"[DONE]" in client.body) == (1, False)
    assert (record.outcome, record.error, len(record.seams)) == ("upstream_truncated", "connection_closed", 1)
    assert [attempt.outcome for attempt in record.attempts] == ["truncated", "truncated"]


async def test_the_only_target_is_asked_again(provide: Any, gate: Any, make: Any) -> None:
    """A broken connection says little of its server: who has failed comes last, not never; and the slot of the first call is free."""
    provider = await provide(InOrder([dying(make.event("one ")), healthy("two")]))
    weir = await gate(provider, **RESUME, upstreams={"a": {"max_streams": 1}})
    client = await weir.fetch()
    record = await weir.record()
    assert (provider.total, record.outcome, record.seams[0].source, record.seams[0].target) == (2, "completed", "a", "a")
    assert text_of(client.body) == "one two"


async def test_a_target_that_refuses_to_go_on_is_passed_over(provide: Any, gate: Any) -> None:
    """Whatever its status: the next may understand what it did not."""
    first, second = await provide(ResetAfter(after=3), temper=SPEECH), await provide(Status(400))
    weir = await gate(first, second, await provide(temper=SPEECH), **RESUME)
    await weir.fetch()
    record = await weir.record()
    assert [(attempt.why, attempt.outcome) for attempt in record.attempts] == [
        ("first", "truncated"),
        ("resume", "status"),
        ("resume", "won"),
    ]
    assert (record.outcome, record.seams[0].target, record.fallback_reason, record.upstream) == ("completed", "c", None, "a")


@judged_in_rounds
async def test_a_slow_continuation_is_left_for_the_next(provide: Any, gate: Any) -> None:
    """The first-token deadline holds for whoever goes on."""
    first, second = await provide(ResetAfter(after=3), temper=SPEECH), await provide(Silent())
    weir = await gate(first, second, await provide(temper=SPEECH), **RESUME, first_token={"timeout": 0.2})
    await weir.fetch()
    record = await weir.record()
    assert [attempt.outcome for attempt in record.attempts] == ["truncated", "slow", "won"]
    assert record.outcome == "completed"


async def test_a_continuation_in_one_piece(provide: Any, gate: Any) -> None:
    """A target that answers with a document instead of a stream goes on all the same."""
    first, second = await provide(ResetAfter(after=3), temper=SPEECH), await provide(JsonReplyToStream(), temper=SPEECH)
    weir = await gate(first, second, **RESUME)
    client = await weir.fetch()
    assert (client.body.count(b"[DONE]"), client.body.count(b'"finish_reason":"stop"')) == (1, 1)
    assert (await weir.record()).outcome == "completed"


COUNTED = delta(content="a")[:-3] + b',"usage":{"prompt_tokens":7,"completion_tokens":20}}\n\n'


async def test_usage_is_that_of_both(provide: Any, gate: Any) -> None:
    """As far as it is known: what a server counts as it goes is added, also in what the client is told."""
    second = await provide(temper=SPEECH)
    weir = await gate(await provide(dying(COUNTED)), second, **RESUME)
    client = await weir.fetch(stream_options={"include_usage": True})
    record = await weir.record()
    told = orjson.loads(client.body.split(b"data: ")[-2])["usage"]
    assert record.usage is not None
    assert (record.usage.input, record.usage.output) == (told["prompt_tokens"], told["completion_tokens"])
    assert (told["prompt_tokens"] > 7, told["completion_tokens"]) == (True, 25)


async def test_the_limit_is_what_is_left(provide: Any, gate: Any) -> None:
    """`max_tokens` shrinks by what all before are known to have spent."""
    second, third = await provide(dying(COUNTED)), await provide(temper=SPEECH)
    weir = await gate(await provide(dying(COUNTED)), second, third, **RESUME)
    await weir.fetch(max_tokens=100)
    assert [orjson.loads(provider.requests[0].body)["max_tokens"] for provider in (second, third)] == [80, 60]


@pytest.mark.parametrize("phase", ["asked", "speaking"])
async def test_a_client_that_leaves_after_the_seam(provide: Any, gate: Any, until: Any, phase: str) -> None:
    """Its second upstream ends with it, within a second; nobody is blamed for that, and nothing is left."""
    first = await provide(ResetAfter(after=3), temper=SPEECH)
    second = await provide(Silent()) if phase == "asked" else await provide(NeverEnding(), Temper(ttft=0, gap="20ms", tokens=5))
    weir = await gate(first, second, **RESUME, first_token={"timeout": 60})
    client = await weir.ask()
    await until(lambda: second.total)
    if phase == "speaking":
        await client.saw(b"resumed on b")
    at = client.reset()
    await until(lambda: second.requests[0].closed_by, "the second upstream's connection is closed", WITHIN)
    record = await weir.record()
    assert (second.requests[0].closed_by, second.requests[0].closed_at - at < WITHIN) == ("peer", True)
    assert (record.outcome, record.error, record.attempts[1].outcome) == (
        "client_disconnect",
        None,
        "cancelled" if phase == "asked" else "won",
    )
    assert {state.upstream: state.last_error for state in weir.targets()} == {"a": "connection_reset", "b": None}
    await until(lambda: weir.in_flight() == 0)


async def test_an_operator_ends_it_while_somebody_is_asked(provide: Any, gate: Any, until: Any) -> None:
    """The client is told in its stream, and the record says who ended it."""
    first, second = await provide(ResetAfter(after=3), temper=SPEECH), await provide(Silent())
    weir = await gate(first, second, **RESUME, first_token={"timeout": 60})
    client = await weir.ask()
    await until(lambda: second.total)
    [live] = weir.plane.live.values()
    live.end_early(Stopped("the gateway is shutting down"))
    await client.finish()
    record = await weir.record()
    assert client.body.endswith(b'"code":"server_shutdown"}}\n\n')
    assert (record.outcome, record.attempts[1].outcome, record.seams) == ("shutdown", "cancelled", [])


@judged_in_rounds
async def test_a_client_that_waits_at_the_seam_is_kept_alive(provide: Any, gate: Any, make: Any) -> None:
    """Comments between events while the second is asked, as long after the last word as ever; the time belongs to the upstreams."""
    first = await provide(dying(make.event("one "), 0.4, make.event("two ")))
    second = await provide(temper=Temper(ttft="700ms", gap=0, tokens=5))
    weir = await gate(first, second, **RESUME, server={"keepalive": 0.3}, stall={"threshold": 0.5})
    client = await weir.fetch()
    record = await weir.record()
    kept_alive = [at for at, piece in client.pieces if piece == b": keepalive\n\n" and at > client.when(b"two ")]
    assert (len(kept_alive) in {1, 2}, kept_alive[0] - client.when(b"two ") > 0.25) == (True, True)
    assert (record.outcome, record.cadence.stall_count, set(record.cadence.stall_time)) == ("completed", 1, {"upstream"})
    assert (record.cadence.stalls[0].chunk, record.seconds["upstream_wait"] > 0.9) == (2, True)


async def test_a_hundred_broken_streams(provide: Any, gate: Any, until: Any, make: Any) -> None:
    """Each is whole in the end, each is accounted for once, and nothing is left under way."""
    first, second = await provide(dying(make.event("one "), 0.6)), await provide(healthy("two"))
    weir = await gate(first, second, **RESUME, retry={"budget": "100%"})
    clients = await asyncio.gather(*(weir.fetch() for _ in range(100)))
    said = sorted(text_of(client.body) for client in clients)
    assert said == ["one two"] * first.total + ["two"] * (100 - first.total)  # the last ones may find the first target left alone
    assert (first.total > 5, {client.body.count(b"[DONE]") for client in clients}) == (True, {1})
    await until(lambda: weir.in_flight() == 0)
    assert {record.outcome for record in weir.book.records} == {"completed"}


async def test_an_array_goes_on(provide: Any, gate: Any, make: Any) -> None:
    """Gemini's other framing: what both have said is one JSON array."""
    first, second = await provide(ResetAfter(after=3), temper=SPEECH), await provide(temper=SPEECH)
    weir = await gate(first, second, dialects=["gemini", "openai"], **RESUME)
    body = orjson.dumps({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]})
    client = await (await weir.client()).ask(make.post(body, "/v1beta/models/m:streamGenerateContent")).finish()
    chunks = orjson.loads(client.body)
    assert [chunk["candidates"][0].get("finishReason") for chunk in chunks[-2:]] == [None, "STOP"]
    assert len({chunk["responseId"] for chunk in chunks}) == 1
    assert (await weir.record()).outcome == "completed"
