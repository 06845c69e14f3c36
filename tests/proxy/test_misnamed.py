"""Answers that are not what their Content-Type says: documents with parameters, lines called JSON, and JSON of more than one document."""

from typing import Any

import orjson
import pytest

from gateway.core.prompt import Prompt, Text, Turn
from gateway.sim.faults import Script
from gateway.sim.plan import head
from gateway.sim.steps import Fin, Hang, Reset, Send

HELLO = Prompt(model="m", stream=True, turns=(Turn("user", (Text("hello"),)),), max_tokens=50)
LINES = [
    b'{"model":"said","message":{"role":"assistant","content":"one"},"done":false}\n',
    b'{"model":"said","message":{"role":"assistant","content":"two"},"done":false}\n',
    b'{"model":"said","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","eval_count":2}\n',
]
WHOLE = LINES[-1].rstrip().replace(b'""', b'"hi"')
NAMES = ["application/json", "application/json; charset=utf-8", "application/jsonl", "application/json-seq", "application/x-ndjson; v=1"]


async def heard(weir: Any, make: Any, dialect: str = "ollama") -> Any:
    """Return the client of one streamed call, when its answer is over."""
    return await (await weir.client()).ask(make.call(dialect, HELLO)[1]).finish()


def called(name: str) -> bytes:
    return head(200, {"Content-Type": name})


@pytest.mark.parametrize("name", NAMES)
async def test_lines_are_a_stream_whatever_they_are_called(provide: Any, gate: Any, make: Any, name: str) -> None:
    """They pass verbatim and are read: a first token, every token, and their end; cut in the middle they are truncated (A1a A15c)."""
    weir = await gate(await provide(make.chunked(*LINES, head=called(name))), dialects=["ollama"])
    client = await heard(weir, make)
    record = await weir.record()
    assert (client.body, client.complete, client.headers["content-type"]) == (b"".join(LINES), True, name)
    assert (record.outcome, record.finish, record.cadence.chunks, record.usage.output) == ("completed", ["stop"], 2, 2)
    assert record.ttft is not None
    weir = await gate(await provide(make.chunked(*LINES[:2], head=called(name))), dialects=["ollama"])
    client = await heard(weir, make)
    record = await weir.record()
    assert client.body.startswith(b"".join(LINES[:2]) + b'{"error":')
    assert (record.outcome, record.error) == ("upstream_truncated", "stream_truncated")
    assert weir.targets()[0].last_error == "stream_truncated"


@pytest.mark.parametrize("cut", range(1, len(LINES[0]), 7))
async def test_the_first_line_may_come_in_pieces(provide: Any, gate: Any, make: Any, cut: int) -> None:
    """Nothing is decided, and nothing sent, before it is there."""
    pieces = (LINES[0][:cut], 0.01, LINES[0][cut:], 0.01, *LINES[1:])
    weir = await gate(await provide(make.chunked(*pieces, head=called("application/json"))), dialects=["ollama"])
    client = await heard(weir, make)
    assert client.body == b"".join(LINES)
    assert client.pieces[0][1].startswith(LINES[0])
    assert (await weir.record()).cadence.chunks == 2


@pytest.mark.parametrize("client", ["openai", "anthropic"])
async def test_misnamed_lines_are_translated(provide: Any, gate: Any, make: Any, client: str) -> None:
    """A client of another dialect hears the stream as any other."""
    weir = await gate(await provide(make.chunked(*LINES, head=called("application/json"))), dialects=["ollama"])
    call, request = make.call(client, HELLO)
    answer = await (await weir.client()).ask(request).finish()
    assert [event.text for event in make.heard(call, answer.body) if hasattr(event, "kind")] == ["one", "two"]
    assert (await weir.record()).outcome == "completed"


DOCUMENTS = {
    "on one line": WHOLE,
    "with a line end": WHOLE + b"\n",
    "over several lines": orjson.dumps(orjson.loads(WHOLE), option=orjson.OPT_INDENT_2),
    "as large as no line": WHOLE.replace(b"hi", b"x" * 100_000),
}


@pytest.mark.parametrize("shape", DOCUMENTS)
async def test_a_document_is_one_still(provide: Any, gate: Any, make: Any, shape: str) -> None:
    """What is all of the answer in one piece passes as that, with its length, and counts in no time to first token (A15c)."""
    body = DOCUMENTS[shape]
    answer = Script((Send(head(200, {"Content-Type": "application/json"}, len(body)) + body),))
    weir = await gate(await provide(answer), await provide(), dialects=["ollama", "ollama"])
    client = await heard(weir, make)
    record = await weir.record()
    assert (client.body, client.headers["content-length"]) == (body, str(len(body)))
    assert (record.outcome, record.ttft, record.upstream, record.usage.output) == ("completed", None, "a", 2)


@pytest.mark.parametrize("ending", [Fin(), Reset()], ids=["fin", "reset"])
async def test_half_a_line_that_nobody_has_heard_is_made_good(provide: Any, gate: Any, make: Any, ending: Any) -> None:
    """While it is open what an answer is, nothing has been sent: another target may still give it."""
    half = Script((Send(head(200, {"Content-Type": "application/json"}, 999) + LINES[0][:40]), ending))
    weir = await gate(await provide(half), await provide(make.chunked(*LINES, head=called(NAMES[-1]))), dialects=["ollama", "ollama"])
    client = await heard(weir, make)
    record = await weir.record()
    assert (client.status, client.body) == (200, b"".join(LINES))
    assert [attempt.outcome for attempt in record.attempts] == ["truncated", "won"]


async def test_events_that_are_called_json(provide: Any, gate: Any, make: Any) -> None:
    """Server-sent events are known by their first block, as lines are."""
    spoken = make.event("one")
    weir = await gate(await provide(make.chunked(spoken, head=called("application/json"))))
    client = await weir.fetch()
    assert client.body.startswith(spoken + b'data: {"error":')
    assert (await weir.record()).outcome == "upstream_truncated"


async def test_a_document_that_no_line_could_be_is_passed_on_at_once(provide: Any, gate: Any) -> None:
    """Where events do not look like JSON the first byte tells: nothing of a document waits for its end."""
    begun = b'{"choices":[{"message":{"content":"x'
    weir = await gate(await provide(Script((Send(head(200, {"Content-Type": "application/json"}, 999) + begun), Hang()))))
    client = await (await weir.ask()).saw(begun)
    client.reset()
    assert (await weir.record()).outcome == "client_disconnect"


ODD = {
    "numbers that JSON has not": (b'{"choices":[{"message":{"content":"hi"},"logprob":-Infinity}]}', "application/json"),
    "more than one": (b'{"choices":[]}{"choices":[]}', "application/json"),
    "a comma too many": (b'{"choices":[],}', "application/json"),
    "a byte order mark": (b'\xef\xbb\xbf{"choices":[]}', "application/json"),
    "lines": (b'{"choices":[', "application/jsonl"),
    "text": (b"half a sen", "text/plain"),
    "nothing": (b"", ""),
}


@pytest.mark.parametrize("which", ODD)
async def test_what_is_odd_is_not_cut(provide: Any, gate: Any, which: str) -> None:
    """A whole message whose document ends, however badly it is written, is completed; and so is what is not called JSON."""
    body, name = ODD[which]
    weir = await gate(await provide(Script((Send(head(200, {"Content-Type": name}, len(body)) + body),))))
    client = await weir.fetch(stream=False)
    assert (client.body, client.complete, (await weir.record()).outcome) == (body, True, "completed")


@pytest.mark.parametrize("body", [b"", b"   ", b"<html>log in</html>"], ids=["empty", "blank", "html"])
async def test_no_document_at_all(provide: Any, gate: Any, body: bytes) -> None:
    """An answer called JSON in which no document comes to an end is no success of its target (A1d)."""
    weir = await gate(await provide(Script((Send(head(200, {"Content-Type": "application/json"}, len(body)) + body),))))
    await (await weir.ask(stream=False)).finish()
    assert (await weir.record()).outcome == "upstream_truncated"
    assert weir.targets()[0].last_error == "stream_truncated"


@pytest.mark.parametrize("on_disconnect", ["cancel", "drain"])
async def test_half_a_document_where_a_stream_was_asked_for(provide: Any, gate: Any, make: Any, on_disconnect: str) -> None:
    """It is half an answer there too, on tape or not, and ends visibly short (A1e A15c)."""
    half = b'{"choices":[{"message":{"content":"half a sen'
    weir = await gate(await provide(make.chunked(half, head=called("application/json"))), client={"on_disconnect": on_disconnect})
    client = await (await weir.ask()).gone()
    assert (client.status, client.body, client.complete) == (200, half, False)
    assert (await weir.record()).outcome == "upstream_truncated"


async def test_a_document_too_large_to_be_read_is_taken_at_its_word(provide: Any, gate: Any, make: Any) -> None:
    """Of more than is read nobody knows whether it ends: its message was whole (A1d)."""
    weir = await gate(await provide(make.chunked(b'{"choices":[' + b" " * (5 << 20), head=called("application/json"))))
    client = await weir.fetch(stream=False)
    record = await weir.record()
    assert (client.complete, record.outcome, record.parser_errors) == (True, "completed", {"oversize": 1})
