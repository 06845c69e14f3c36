"""How a stream ended is told as it was: by the dialect's own end, an error event, or a broken body; never by silence."""

import asyncio
from typing import Any

import openai
import orjson
import pytest

from gateway.core.prompt import Prompt, Text, Turn
from gateway.sim.faults import ErrorEvent, MissingDone, ResetAfter, Script, Status, Truncate
from gateway.sim.plan import head
from gateway.sim.steps import End, Fin, Hang, Reset, Send, framed
from gateway.sim.tempers import Temper
from gateway.wire import eventstream

DONE = b"data: [DONE]\n\n"
STEPS = {"reset": Reset(), "fin": Fin(), "clean": End()}
CODES = {"reset": "connection_reset", "fin": "connection_closed", "clean": "stream_truncated"}


def last_error(body: bytes) -> tuple[bytes, dict[str, Any]]:
    """Split off the last event, which must be an error event, and return what came before it and the error."""
    assert body.endswith(b"\n\n")
    before, mark, last = body.removesuffix(b"\n\n").rpartition(b"data: ")
    assert mark
    return before, orjson.loads(last)["error"]


@pytest.mark.parametrize("how", STEPS)
async def test_a_truncated_stream_ends_in_an_error(provide: Any, gate: Any, make: Any, how: str) -> None:
    """Role, five tokens and no end: the bytes, then one error event whose code says how it broke, never a [DONE] (A1a A1b)."""
    spoken = make.event() + b"".join(make.event(f"t{n}") for n in range(5))
    weir = await gate(await provide(make.chunked(spoken, 0.01, STEPS[how])))
    client = await weir.fetch()
    before, error = last_error(client.body)
    record = await weir.record()
    assert before == spoken
    assert (error["type"], error["code"]) == ("upstream_error", CODES[how])
    assert (client.status, client.complete, b"[DONE]" in client.body) == (200, True, False)
    assert (record.outcome, record.error, record.status) == ("upstream_truncated", CODES[how], 200)
    assert (record.attempts[0].outcome, record.attempts[0].error) == ("truncated", CODES[how])
    assert client.headers["x-weir-stream-id"] == record.stream_id


@pytest.mark.parametrize("how", STEPS)
async def test_half_an_event_is_dropped(provide: Any, gate: Any, make: Any, how: str) -> None:
    """The error event follows the last whole event: what nobody could have read is not sent (A1c)."""
    spoken = make.event() + make.event("one")
    weir = await gate(await provide(make.chunked(spoken + b'data: {"cho', 0.01, STEPS[how])))
    before, error = last_error((await weir.fetch()).body)
    assert (before, error["code"]) == (spoken, CODES[how])


@pytest.mark.parametrize("how", STEPS)
async def test_a_body_that_is_visibly_cut(provide: Any, gate: Any, make: Any, how: str) -> None:
    """With `on_failure: cut` the error event is the last there is: no last chunk, so that whoever counts bytes sees it too (A1e)."""
    weir = await gate(await provide(make.chunked(make.event("one"), 0.01, STEPS[how])), client={"on_failure": "cut"})
    client = await (await weir.ask()).gone()
    before, error = last_error(client.body)
    assert (before, error["code"], client.complete, client.ended) == (make.event("one"), CODES[how], False, "fin")
    assert (await weir.record()).outcome == "upstream_truncated"


async def test_half_an_event_that_is_out_already_is_closed_first(provide: Any, gate: Any, make: Any) -> None:
    """Of an event too large to hold, half is out when the stream breaks: a blank line ends it before the error event (A1c)."""
    torn = b'data: {"choices":[{"delta":{"content":"' + b"x" * 200_000
    weir = await gate(await provide(make.chunked(make.event("one"), torn, 0.01, Fin())))
    client = await weir.fetch()
    before, error = last_error(client.body)
    assert before == make.event("one") + torn + b"\n\n"
    assert error["code"] == "connection_closed"


@pytest.mark.parametrize("how", STEPS)
async def test_half_an_event_that_nothing_can_close_breaks_the_body(provide: Any, gate: Any, make: Any, how: str) -> None:
    """Bedrock's events have lengths: no word can follow half of one that is out, so the body ends without its last chunk (A1c)."""
    spoken = eventstream.event("contentBlockDelta", b'{"contentBlockIndex":0,"delta":{"text":"one"}}')
    torn = eventstream.event("contentBlockDelta", orjson.dumps({"contentBlockIndex": 0, "delta": {"text": "x" * 200_000}}))[:150_000]
    script = make.chunked(spoken, torn, 0.01, STEPS[how], head=head(200, {"Content-Type": "application/vnd.amazon.eventstream"}))
    weir = await gate(await provide(script), dialects=["bedrock"])
    prompt = Prompt(model="m", stream=True, turns=(Turn("user", (Text("hello"),)),))
    client = await (await weir.client()).ask(make.call("bedrock", prompt)[1]).finish()
    assert (client.status, client.body, client.complete) == (200, spoken + torn, False)
    await client.gone()
    record = await weir.record()
    assert (record.outcome, record.error) == ("upstream_truncated", CODES[how])


async def test_the_openai_sdk_sees_the_truncation(provide: Any, gate: Any) -> None:
    """The SDK, which takes a FIN for success, raises on what we say instead (A1c)."""
    weir = await gate(await provide(Truncate(after=2, cut=9)))

    def read() -> list[str]:
        texts = []
        with openai.OpenAI(base_url=f"http://127.0.0.1:{weir.port}/v1", api_key="k", max_retries=0) as sdk:
            stream = sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], stream=True)
            with pytest.raises(openai.APIError, match="before its end"):
                texts += [chunk.choices[0].delta.content or "" for chunk in stream]
        return texts

    await asyncio.to_thread(read)
    assert (await weir.record()).outcome == "upstream_truncated"


@pytest.mark.parametrize("how", STEPS)
@pytest.mark.parametrize("ending", ["[DONE]", "finish"])
async def test_nothing_follows_a_proper_end(provide: Any, gate: Any, make: Any, how: str, ending: str) -> None:
    """When the terminal marker or a finish reason has come, however the connection ends, nothing is added (A1d A1f)."""
    spoken = make.event("one") + (DONE if ending == "[DONE]" else make.event(finish="stop"))
    weir = await gate(await provide(make.chunked(spoken, 0.01, STEPS[how])))
    client = await weir.fetch()
    record = await weir.record()
    assert (client.body, client.complete) == (spoken, True)
    assert (record.outcome, record.error, record.missing_done) == ("completed", None, ending == "finish")


async def test_a_missing_done_is_noted(provide: Any, gate: Any) -> None:
    """Several servers leave [DONE] out: completed, and marked (A1f)."""
    weir = await gate(await provide(MissingDone()))
    client = await weir.fetch()
    record = await weir.record()
    assert b"[DONE]" not in client.body
    assert (record.outcome, record.missing_done, record.finish) == ("completed", True, ["stop"])


@pytest.mark.parametrize("ending", [b"data: [DONE]\n", b"data: [DONE]", b"data:[DONE]\r\n"])
async def test_an_end_marker_without_its_blank_line(provide: Any, gate: Any, make: Any, ending: bytes) -> None:
    """llama.cpp's [DONE] without a blank line is an end like any other, and is passed on."""
    spoken = make.event("one") + ending
    weir = await gate(await provide(make.chunked(spoken)))
    client = await weir.fetch()
    assert (client.body, client.complete) == (spoken, True)
    assert (await weir.record()).outcome == "completed"


async def test_an_end_marker_ends_a_stream_that_stays_open(provide: Any, gate: Any, make: Any) -> None:
    """An upstream that says [DONE] and then keeps the body open for ever has completed: no error is put after its end."""
    spoken = make.event("one") + make.event(finish="stop") + DONE
    weir = await gate(await provide(make.chunked(spoken, Hang())), stall={"liveness": 0.3})
    client = await weir.fetch()
    assert client.body == spoken
    assert (await weir.record()).outcome == "completed"


@pytest.mark.parametrize("then_done", [False, True], ids=["", "then [DONE]"])
async def test_an_error_in_a_good_stream(provide: Any, gate: Any, direct: Any, then_done: bool) -> None:
    """An error event after tokens is verbatim and is the outcome, whatever [DONE] follows; the target has failed (A2a A2b)."""
    fault = ErrorEvent(after=2, code="overloaded_error", then_done=then_done)
    weir = await gate(await provide(fault), usage="leave")
    client = await weir.fetch()
    record = await weir.record()
    [state] = weir.targets()
    assert client.body == (await direct(await provide(fault))).body
    assert (record.outcome, record.error, record.status) == ("upstream_error", "overloaded_error", 200)
    assert (record.attempts[0].outcome, state.last_error) == ("error_event", "overloaded_error")


async def test_a_client_that_leaves_at_the_error_event(provide: Any, gate: Any, make: Any) -> None:
    """SDKs hang up as soon as they read an error: it was the upstream that failed, not the client that left (A2)."""
    spoken = make.event("one") + b'data: {"error":{"message":"no","code":"server_error"}}\n\n'
    weir = await gate(await provide(make.chunked(spoken, Hang())))
    client = await (await weir.ask()).saw(b"server_error")
    client.reset()
    record = await weir.record()
    assert (record.outcome, record.error, record.attempts[0].outcome) == ("upstream_error", "server_error", "error_event")


async def test_an_error_status_is_the_clients_answer(provide: Any, gate: Any) -> None:
    """429 with nobody to turn to and a wait too long to hold a connection for: status, body and Retry-After as they came (A15a)."""
    provider = await provide(Status(429, retry_after=7, body='{"error": {"message":"slow  down"}}', headers={"x-ratelimit-limit": "9"}))
    weir = await gate(provider)
    client = await weir.fetch()
    record = await weir.record()
    assert (client.status, client.body, provider.total) == (429, b'{"error": {"message":"slow  down"}}', 1)
    told = {name: client.headers[name] for name in ("retry-after", "content-type", "x-ratelimit-limit", "x-weir-upstream")}
    assert told == {"retry-after": "7", "content-type": "application/json", "x-ratelimit-limit": "9", "x-weir-upstream": "a"}
    assert (record.outcome, record.error, record.status, record.parser_errors) == ("upstream_error", "429", 429, {})


FIRST_WORDS = {"rate_limit_exceeded": 429, "overloaded_error": 503, "invalid_request_error": 400, "timeout": 504, "server_error": 502}


@pytest.mark.parametrize("code", FIRST_WORDS)
async def test_an_error_as_first_event_is_a_status(provide: Any, gate: Any, make: Any, code: str) -> None:
    """While nothing is committed, an error event becomes the status it would have had, with the upstream's code (A15b)."""
    weir = await gate(await provide(make.chunked(b'data: {"error":{"message":"no","code":"%b"}}\n\n' % code.encode())))
    client = await weir.fetch()
    [state] = weir.targets()
    assert (client.status, client.document["error"]["code"]) == (FIRST_WORDS[code], code)
    assert (await weir.record()).outcome == "upstream_error"
    assert (state.last_error is None) == (code == "invalid_request_error")  # what is wrong with the call says nothing of the target


async def test_a_document_where_a_stream_was_asked_for(provide: Any, gate: Any) -> None:
    """JSON in answer to a stream request is passed on as JSON and counts in no time to first token (A15c)."""
    body = b'{"id":"c","model":"said","choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3}}'
    weir = await gate(await provide(Script((Send(head(200, {"Content-Type": "application/json"}, len(body)) + body),))))
    client = await weir.fetch()
    record = await weir.record()
    assert (client.body, client.headers["content-type"]) == (body, "application/json")
    assert (record.outcome, record.ttft, record.cadence.chunks, record.usage.input) == ("completed", None, 0, 3)


@pytest.mark.parametrize("fault", [ResetAfter(after=1), Truncate(after=1)], ids=["reset", "fin"])
async def test_half_a_document_is_visibly_half(provide: Any, gate: Any, fault: Any) -> None:
    """A document that breaks in the middle reaches the client as a body that ends short of its length (A1e)."""
    weir = await gate(await provide(fault, Temper(ttft=0, gap=0, tokens=1)))
    client = await (await weir.ask(stream=False)).gone()
    record = await weir.record()
    assert (client.status, client.complete) == (200, False)
    assert 0 < len(client.body) < int(client.headers["content-length"])
    assert (record.outcome, record.parser_errors) == ("upstream_truncated", {})


async def test_a_client_that_leaves_after_the_end_has_its_answer(provide: Any, gate: Any, make: Any) -> None:
    """Leaving at [DONE] is how SDKs read a stream: completed, and the target has done well (A17)."""
    spoken = make.event("one") + DONE
    for leave in ("reset", "close"):
        weir = await gate(await provide(make.chunked(spoken, Hang())))
        client = await (await weir.ask()).saw(DONE)
        getattr(client, leave)()
        record = await weir.record()
        assert (record.outcome, record.error) == ("completed", None)


async def test_what_is_no_http_is_an_error(provide: Any, gate: Any, make: Any) -> None:
    """Garbage for a head is a 502, garbage in the chunks an error event; both say bad_response."""
    weir = await gate(await provide(Script((Send(b"HELLO\r\n\r\n"), Fin()))), retry={"attempts": 1})
    assert ((await weir.fetch()).status, (await weir.record()).error) == (502, "bad_response")
    steps = framed([Send(head(200, {"Content-Type": "text/event-stream"}), "head"), Send(make.event("one"), "body")])
    weir = await gate(await provide(Script((*steps, *make.chunked(0.02).steps[1:2], Send(b"zz\r\nrubbish"), Hang()))))
    before, error = last_error((await weir.fetch()).body)
    assert (before, error["code"]) == (make.event("one"), "bad_response")


@pytest.mark.parametrize("length", [None, 500])
async def test_an_error_answer_that_breaks_off(provide: Any, gate: Any, length: int | None) -> None:
    """What the upstream said of its error is passed on, and ends visibly short, as it came (A1e A15a)."""
    said = b'{"error":{"message":"n'
    begin = Send(head(400, {"Content-Type": "application/json"}, length) + (said if length else b"16\r\n%b\r\n" % said))
    weir = await gate(await provide(Script((begin, Fin()))))
    client = await (await weir.ask()).gone()
    record = await weir.record()
    assert (client.status, client.body, client.complete) == (400, said, False)
    assert (record.outcome, record.status) == ("upstream_error", 400)


async def test_a_huge_event_excuses_only_an_end_that_it_may_have_been(provide: Any, gate: Any, make: Any) -> None:
    """What could not be read may have been the end; when more has come since, it was not (A1d A12)."""
    huge = b"data: " + b"x" * (2 << 20) + b"\n\n"
    for pieces, outcome in (((make.event("a"), huge), "completed"), ((make.event("a"), huge, make.event("b")), "upstream_truncated")):
        weir = await gate(await provide(make.chunked(*pieces)))
        await weir.fetch()
        assert (await weir.record()).outcome == outcome


STOP, GEMINI_STEPS = b',"finishReason":"STOP"', {**STEPS, "silence": Hang()}


def said_by_gemini(text: bytes, finish: bytes = b"") -> bytes:
    chunk = b'{"candidates":[{"content":{"parts":[{"text":"%b"}],"role":"model"}%b}],"responseId":"r","modelVersion":"m"}'
    return b"data: %b\r\n\r\n" % (chunk % (text, finish))


@pytest.mark.parametrize("how", GEMINI_STEPS)
@pytest.mark.parametrize("last", [STOP, b""], ids=["and at the end", "and not at the end"])
async def test_a_reason_to_end_in_every_chunk(provide: Any, gate: Any, make: Any, how: str, last: bytes) -> None:
    """Older models say STOP before each pause: an answer that went on after one is over when its message is too, not before (A1d A1f)."""
    spoken = said_by_gemini(b"one", STOP) + said_by_gemini(b"two", STOP) + said_by_gemini(b"three", last)
    script = make.chunked(spoken, 0.01, GEMINI_STEPS[how])
    weir = await gate(await provide(script), dialects=["gemini"], stall={"liveness": 0.4, "threshold": 0.2})
    prompt = Prompt(model="m", stream=True, turns=(Turn("user", (Text("hello"),)),))
    client = await (await weir.client()).ask(make.call("gemini", prompt)[1]).finish()
    record = await weir.record()
    assert client.body.startswith(spoken)
    if how == "clean" and last:
        assert (record.outcome, client.body == spoken, record.finish) == ("completed", True, ["STOP"])
    else:
        assert (record.outcome, client.body == spoken) == ("upstream_stalled" if how == "silence" else "upstream_truncated", False)


async def test_a_client_that_leaves_at_a_reason_that_was_taken_back(provide: Any, gate: Any, make: Any) -> None:
    """It has not had its answer: nobody could know that this STOP was the last (A17)."""
    spoken = said_by_gemini(b"one", STOP) + said_by_gemini(b"two", STOP)
    weir = await gate(await provide(make.chunked(spoken, Hang())), dialects=["gemini"])
    prompt = Prompt(model="m", stream=True, turns=(Turn("user", (Text("hello"),)),))
    client = await (await weir.client()).ask(make.call("gemini", prompt)[1]).saw(spoken)
    client.reset()
    assert (await weir.record()).outcome == "client_disconnect"


async def test_several_answers_in_one_are_complete_when_all_are(provide: Any, gate: Any, make: Any) -> None:
    """The first of two choices has said why it ended, the other not: cut in the middle (A1d A1f)."""
    second = make.event("b").replace(b'"index":0', b'"index":1')
    ended = make.event(finish="stop").replace(b'"index":0', b'"index":1')
    for pieces, outcome in (((second,), "upstream_truncated"), ((second, ended), "completed")):
        weir = await gate(await provide(make.chunked(make.event("a"), make.event(finish="stop"), *pieces)))
        await weir.fetch(n=2)
        assert (await weir.record()).outcome == outcome
