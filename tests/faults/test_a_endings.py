"""A1, A2, A17: how a stream ended is told as it was, in every dialect."""

import gzip
from typing import Any

import pytest

from gateway.sim.faults import Script
from gateway.sim.plan import head
from gateway.sim.steps import End, Fin, Hang, Reset, Send, framed
from tests.faults.scripts import CODES, ENDINGS, answer, fetch
from tests.faults.scripts import ask as send
from tests.faults.tongues import TONGUES, response, responses_event

DIALECTS = pytest.mark.parametrize("dialect", TONGUES)


@DIALECTS
@pytest.mark.parametrize("how", ENDINGS)
async def test_a_stream_without_its_end(provide: Any, gate: Any, dialect: str, how: str) -> None:
    """What was said is passed on verbatim, then one error event says how it broke; never an end that was not said (A1a A1b A1d)."""
    tongue = TONGUES[dialect]
    spoken = tongue.spoken("one", "two", "three", "four", "five")
    weir = await gate(await provide(answer(tongue, spoken, 0.02, ENDINGS[how])), dialects=[dialect])
    client = await fetch(weir, tongue)
    before, told = tongue.last_error(client.body)
    record = await weir.record()
    assert before == spoken
    assert tongue.same_code(told, CODES[how])
    assert (client.status, tongue.ended(client.body)) == (200, False)
    assert (record.outcome, record.error, record.status) == ("upstream_truncated", CODES[how], 200)
    assert (record.attempts[0].outcome, record.attempts[0].error) == ("truncated", CODES[how])
    assert weir.targets()[0].last_error == CODES[how]
    await client.finish()


@DIALECTS
@pytest.mark.parametrize("kind", ["", "text/plain", "application/octet-stream"], ids=["none", "text", "bytes"])
async def test_a_stream_that_does_not_say_what_it_is(provide: Any, gate: Any, dialect: str, kind: str) -> None:
    """What was asked for as a stream and is no document is read as one, whatever type a hop gave it: its missing end is told (A1a)."""
    tongue = TONGUES[dialect]
    spoken = tongue.spoken("one")
    named = answer(tongue, spoken, headers={"Content-Type": kind}).steps
    lines = b"" if kind else b"Content-Type: \r\n"
    steps = [Send(step.data.replace(lines, b"")) if isinstance(step, Send) and lines else step for step in named]
    weir = await gate(await provide(Script(tuple(steps))), dialects=[dialect])
    client = await fetch(weir, tongue)
    before, told = tongue.last_error(client.body)
    assert (before, tongue.same_code(told, "stream_truncated")) == (spoken, True)
    assert (await weir.record()).outcome == "upstream_truncated"


@DIALECTS
@pytest.mark.parametrize("how", ENDINGS)
async def test_half_an_event(provide: Any, gate: Any, dialect: str, how: str) -> None:
    """Of an event that was cut in two nothing is sent: the error event follows the last whole one (A1c)."""
    tongue = TONGUES[dialect]
    spoken, torn = tongue.spoken("one"), tongue.token("cut in two")[:-9]
    weir = await gate(await provide(answer(tongue, spoken + torn, 0.02, ENDINGS[how])), dialects=[dialect])
    before, told = tongue.last_error((await fetch(weir, tongue)).body)
    assert before == spoken
    assert tongue.same_code(told, CODES[how])


@pytest.mark.parametrize("dialect", TONGUES)
async def test_half_an_event_that_is_out(provide: Any, gate: Any, dialect: str) -> None:
    """Of an event too large to hold, half is out when the stream breaks: nobody takes it, or the error after it, for a whole one (A1c)."""
    tongue = TONGUES[dialect]
    spoken, torn = tongue.spoken("one"), tongue.token("x" * 200_000)[:-20]
    weir = await gate(await provide(answer(tongue, spoken, torn, 0.02, Fin())), dialects=[dialect])
    client = await fetch(weir, tongue)
    assert client.body.startswith(spoken + torn)
    if dialect == "bedrock":  # inside a message of a stated length there is no room for a word: it stays short of it
        assert client.body == spoken + torn
        await client.gone()
        assert not client.complete, "a reader of bytes alone would take half a message for the end"
    else:
        assert tongue.split(client.body.removeprefix(spoken + torn)) != []
        assert tongue.same_code(tongue.told(tongue.split(client.body)[-1]) or ("none", ""), "connection_closed")
    assert not tongue.ended(spoken)
    assert (await weir.record()).outcome == "upstream_truncated"


@DIALECTS
@pytest.mark.parametrize("how", ENDINGS)
async def test_a_stream_with_its_end(provide: Any, gate: Any, dialect: str, how: str) -> None:
    """When the proper end has come, however the connection ends, the stream is complete and nothing is added (A1d)."""
    tongue = TONGUES[dialect]
    weir = await gate(await provide(answer(tongue, tongue.speech("one", "two"), 0.02, ENDINGS[how])), dialects=[dialect])
    client = await fetch(weir, tongue)
    record = await weir.record()
    assert (client.body, client.complete) == (tongue.speech("one", "two"), True)
    assert (record.outcome, record.error) == ("completed", None)
    assert weir.targets()[0].last_error is None


@pytest.mark.parametrize("dialect", TONGUES)
async def test_a_proper_end_lacks_nothing(provide: Any, gate: Any, dialect: str) -> None:
    """An answer that ended as its dialect ends answers is not marked as one whose end marker is missing (A1f)."""
    tongue = TONGUES[dialect]
    weir = await gate(await provide(answer(tongue, tongue.speech("one"))), dialects=[dialect])
    await fetch(weir, tongue)
    assert (await weir.record()).missing_done is False


@DIALECTS
async def test_a_reason_without_an_end_marker(provide: Any, gate: Any, dialect: str) -> None:
    """A finish reason and no end marker: complete, and marked, where servers are known to leave one out; elsewhere truncated (A1d A1f)."""
    tongue = TONGUES[dialect]
    said = tongue.spoken("one") + tongue.finish
    weir = await gate(await provide(answer(tongue, said)), dialects=[dialect])
    client = await fetch(weir, tongue)
    record = await weir.record()
    if tongue.needs_end:
        before, told = tongue.last_error(client.body)
        assert (before, record.outcome) == (said, "upstream_truncated")
        assert tongue.same_code(told, "stream_truncated")
    else:
        assert (client.body, client.complete) == (said, True)
        assert (record.outcome, record.missing_done) == ("completed", dialect != "gemini")


@DIALECTS
@pytest.mark.parametrize("how", ["fin", "reset"])
async def test_half_a_document(provide: Any, gate: Any, dialect: str, how: str) -> None:
    """An answer in one piece that breaks reaches its client as a body that ends short of its length (A1e)."""
    tongue = TONGUES[dialect]
    body = tongue.document
    half = Script((Send(head(200, {"Content-Type": "application/json"}, len(body)) + body[:-30]), ENDINGS[how]))
    weir = await gate(await provide(half), dialects=[dialect])
    client = await (await send(weir, tongue, stream=False)).gone()
    record = await weir.record()
    assert (client.status, client.complete, client.body) == (200, False, body[:-30])
    assert int(client.headers["content-length"]) == len(body)
    assert record.outcome == "upstream_truncated"


def framed_whole(body: bytes, how: str) -> Script:
    """Return an answer of these bytes in a message that lacks nothing, by its framing."""
    if how == "until the connection closes":
        return Script((Send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" + body), Fin()))
    said = {"Content-Type": "application/json; charset=utf-8"}
    if how == "in chunks":
        return Script((Send(head(200, said)), *framed([Send(body, "body"), End()])))
    packed = gzip.compress(body)
    return Script((Send(head(200, said | {"Content-Encoding": "gzip"}, len(packed)) + packed),))


@DIALECTS
@pytest.mark.parametrize("how", ["until the connection closes", "in chunks", "in gzip"])
async def test_half_a_document_in_a_whole_message(provide: Any, gate: Any, dialect: str, how: str) -> None:
    """A document that does not come to its end has broken, though its message did not: to client, record and target (A1b A1d A1e)."""
    tongue = TONGUES[dialect]
    half = tongue.document[:-20]
    weir = await gate(await provide(framed_whole(half, how)), dialects=[dialect])
    client = await (await send(weir, tongue, stream=False)).gone()
    record = await weir.record()
    assert (client.status, client.complete, client.body) == (200, False, half)
    assert (record.outcome, record.error, record.attempts[0].outcome) == ("upstream_truncated", "stream_truncated", "truncated")
    assert weir.targets()[0].last_error == "stream_truncated"


@DIALECTS
@pytest.mark.parametrize("what", ["overloaded", "limited"])
async def test_an_error_in_a_good_stream(provide: Any, gate: Any, dialect: str, what: str) -> None:
    """An error event after tokens is verbatim and is the outcome; 200 stays the status, and the target has failed (A2a A2c A2d)."""
    tongue = TONGUES[dialect]
    error, code = tongue.errors[what]
    said = tongue.spoken("one", "two", "three") + error
    weir = await gate(await provide(answer(tongue, said)), dialects=[dialect])
    client = await fetch(weir, tongue)
    record = await weir.record()
    assert (client.status, client.body) == (200, said)
    assert (record.outcome, record.error, record.status) == ("upstream_error", code, 200)
    assert (record.attempts[0].outcome, weir.targets()[0].last_error) == ("error_event", code)


@DIALECTS
async def test_an_end_after_an_error(provide: Any, gate: Any, dialect: str) -> None:
    """An end marker that follows an error, as vLLM's [DONE] does, makes no success of it (A2b)."""
    tongue = TONGUES[dialect]
    error, code = tongue.errors["overloaded"]
    said = tongue.spoken("one") + error + tongue.proper
    weir = await gate(await provide(answer(tongue, said)), dialects=[dialect])
    client = await fetch(weir, tongue)
    record = await weir.record()
    assert client.body.startswith(tongue.spoken("one") + error)
    assert said.startswith(client.body)
    assert (record.outcome, record.error) == ("upstream_error", code)


@pytest.mark.parametrize("reason", ["max_output_tokens", "content_filter"])
async def test_an_incomplete_response(provide: Any, gate: Any, reason: str) -> None:
    """`response.incomplete` is an end like any other, and its reason is the finish reason (A2c)."""
    tongue = TONGUES["openai-responses"]
    why = b',"incomplete_details":{"reason":"%b"}' % reason.encode()
    said = tongue.spoken("one") + responses_event("response.incomplete", response(b"incomplete", why))
    weir = await gate(await provide(answer(tongue, said)), dialects=[tongue.name])
    client = await fetch(weir, tongue)
    record = await weir.record()
    assert (client.body, record.outcome, record.finish) == (said, "completed", [reason])


@pytest.mark.parametrize("dialect", ["openai", "azure"])
async def test_an_error_in_a_field_of_its_own(provide: Any, gate: Any, dialect: str) -> None:
    """llama.cpp's old `error:` field is an error too (A2d)."""
    tongue = TONGUES[dialect]
    said = tongue.spoken("one") + b'error: {"code":500,"message":"No","type":"server_error"}\n\n'
    weir = await gate(await provide(answer(tongue, said)), dialects=[dialect])
    client = await fetch(weir, tongue)
    record = await weir.record()
    assert (client.body, record.outcome) == (said, "upstream_error")


async def test_an_array_of_gemini(provide: Any, gate: Any) -> None:
    """Without alt=sse Gemini's stream is a JSON array: an early end is an error as its last element, a proper one is kept (A1a A1d)."""
    tongue = TONGUES["gemini"]
    elements = [sse_data(tongue.token("one")), sse_data(tongue.token("two"))]
    path = tongue.path.partition("?")[0]
    for ended in (False, True):
        parts = [*elements, sse_data(tongue.finish)] if ended else elements
        said = b"[" + b",\r\n".join(parts) + (b"]" if ended else b"")
        script = answer(tongue, said, 0.02, Reset(), headers={"Content-Type": "application/json"})
        weir = await gate(await provide(script), dialects=["gemini"])
        request = tongue.request().replace(tongue.path.encode(), path.encode())
        client = await (await weir.client()).ask(request).finish()
        record = await weir.record()
        assert client.body.startswith(said)
        assert record.outcome == ("completed" if ended else "upstream_truncated")
        assert client.body == said if ended else client.document[2]["error"]["details"][0]["reason"] == "CONNECTION_RESET"


def sse_data(event: bytes) -> bytes:
    return event.removeprefix(b"data: ").rstrip()


@DIALECTS
@pytest.mark.parametrize("leave", ["reset", "close"])
async def test_a_client_that_leaves_at_the_end(provide: Any, gate: Any, dialect: str, leave: str) -> None:
    """A client that goes once it has the proper end has its answer: completed, and the target has done well (A17)."""
    tongue = TONGUES[dialect]
    said = tongue.speech("one")
    weir = await gate(await provide(answer(tongue, said, Hang())), dialects=[dialect])
    client = await send(weir, tongue)
    await client.until(lambda: client.body == said)
    getattr(client, leave)()
    record = await weir.record()
    assert (record.outcome, record.error, weir.targets()[0].last_error) == ("completed", None, None)


@DIALECTS
async def test_a_client_that_leaves_at_the_error(provide: Any, gate: Any, dialect: str) -> None:
    """A client that goes when it reads the upstream's error has left no good stream: the upstream failed (A2a A17)."""
    tongue = TONGUES[dialect]
    error, code = tongue.errors["overloaded"]
    weir = await gate(await provide(answer(tongue, tongue.spoken("one") + error, Hang())), dialects=[dialect])
    client = await send(weir, tongue)
    (await client.saw(error)).reset()
    record = await weir.record()
    assert (record.outcome, record.error) == ("upstream_error", code)
