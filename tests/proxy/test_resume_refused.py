"""Where a broken stream is not resumed it ends as ever: by default, for what nobody can go on with, and where no try is left."""

from typing import Any

import msgspec
import orjson
import pytest

from gateway.core.prompt import Prompt, Text, Turn
from gateway.sim.faults import ErrorEvent, ResetAfter, Stall, Status, Truncate
from gateway.sim.steps import Fin
from gateway.sim.tempers import INSTANT
from tests.rig.broken import delta, dying, healthy, text_of

SPEECH = msgspec.structs.replace(INSTANT, tokens=5)
HELLO = Prompt(model="m", stream=True, turns=(Turn("user", (Text("hello"),)),), max_tokens=50)
RESUME: dict[str, Any] = {"mid_stream": "resume"}
WITHIN = 3.0


def tool() -> bytes:
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a'}}
    return b"data: %b\n\n" % orjson.dumps({"id": "x", "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]})


@pytest.mark.parametrize("fault", [Truncate(after=3), ResetAfter(after=3), ErrorEvent(after=3), Stall(after=3, length=60)])
async def test_the_default_is_the_error(provide: Any, gate: Any, direct: Any, fault: Any) -> None:
    """Without `mid_stream: resume` the client gets what the first has said, then the error, and no second is asked (B4)."""
    first, second = await provide(fault, temper=SPEECH), await provide(temper=SPEECH)
    weir = await gate(first, second, stall={"liveness": 0.4})
    client = await weir.fetch()
    assert client.body.count(b'"content":"') == 4  # the role's and three of text
    assert client.body.rpartition(b"\n\ndata: ")[2].startswith(b'{"error"')
    assert (second.total, client.body.count(b"resumed")) == (0, 0)
    record = await weir.record()
    assert (len(record.attempts), record.seams, record.outcome != "completed") == (1, [], True)


async def test_a_call_that_wants_no_fallback_is_not_resumed(provide: Any, gate: Any) -> None:
    """`x-weir-no-fallback: true` is respected here too (B4)."""
    first, second = await provide(ResetAfter(after=3), temper=SPEECH), await provide(temper=SPEECH)
    weir = await gate(first, second, **RESUME)
    client = await weir.fetch({"x-weir-no-fallback": "true"})
    assert client.body.endswith(b'"code":"connection_reset"}}\n\n')
    assert (second.total, (await weir.record()).outcome) == (0, "upstream_truncated")


OBSTACLES = {
    "half a tool call": lambda make: (make.event("a"), tool()),
    "a refusal": lambda make: (make.event("a"), delta(refusal="no")),
    "nothing said": lambda _: (),
    "reasoning alone": lambda _: (delta(reasoning_content="hm"),),
    "a frame that cannot be read": lambda make: (make.event("a"), b"data: {torn\n\n", make.event("b")),
    "a text beyond what is kept": lambda make: (make.event("x" * 600_000), make.event("x" * 600_000)),
}


@pytest.mark.parametrize("obstacle", OBSTACLES)
async def test_nobody_goes_on_with_anything_but_text(provide: Any, gate: Any, make: Any, obstacle: str) -> None:
    """The error as ever, word for word what came before it, and no second target is asked."""
    frames = OBSTACLES[obstacle](make)
    first, second = await provide(dying(*frames, last=Fin())), await provide(temper=SPEECH)
    weir = await gate(first, second, **RESUME, first_token={"on_slow": "wait"}, retry={"on": []})
    client = await weir.fetch()
    record = await weir.record()
    assert second.total == 0
    if obstacle != "nothing said":
        assert client.body.startswith(make.event() + b"".join(frames))
        assert client.body.endswith(b'"code":"connection_closed"}}\n\n')
    assert (record.outcome, record.error, record.seams) == ("upstream_truncated", "connection_closed", [])


async def test_an_answer_that_had_said_why_it_ended_is_complete(provide: Any, gate: Any, make: Any) -> None:
    """There is nothing left to go on with."""
    first, second = await provide(dying(make.event("a"), make.event(finish="stop"))), await provide(temper=SPEECH)
    weir = await gate(first, second, **RESUME)
    await weir.fetch()
    assert (second.total, (await weir.record()).outcome) == (0, "completed")


@pytest.mark.parametrize(
    "fields", [{"response_format": {"type": "json_object"}}, {"n": 2}, {"logprobs": True}], ids=["json", "two", "logprobs"]
)
async def test_a_call_that_cannot_be_said_anew_is_not_resumed(provide: Any, gate: Any, fields: Any) -> None:
    """JSON would begin anew, and two answers are not one text: the error as ever."""
    first, second = await provide(ResetAfter(after=3), temper=SPEECH), await provide(temper=SPEECH)
    weir = await gate(first, second, **RESUME)
    client = await weir.fetch(**fields)
    assert b'"code":"connection_reset"' in client.body
    assert (second.total, len((await weir.record()).attempts)) == (0, 1)


async def test_an_error_of_the_calls_own_passes_word_for_word(provide: Any, gate: Any, make: Any) -> None:
    """A refused content is no trouble of that upstream: another would refuse it too."""
    error = b'data: {"error":{"message":"no","type":"invalid_request_error","code":"content_policy_violation"}}\n\n'
    first, second = await provide(make.chunked(make.event(), make.event("a"), error)), await provide(temper=SPEECH)
    weir = await gate(first, second, **RESUME)
    client = await weir.fetch()
    assert (client.body, second.total) == (make.event() + make.event("a") + error, 0)
    assert (await weir.record()).outcome == "upstream_error"


@pytest.mark.parametrize("dialects", [("openai", "openai"), ("anthropic", "openai")], ids=["native", "translated"])
async def test_an_error_kept_back_is_told_when_nobody_goes_on(provide: Any, gate: Any, dialects: Any) -> None:
    """The client hears of it once, after the text, whether it is the upstream's own word or said in the client's."""
    first, second = await provide(ErrorEvent(after=3, message="sorry"), temper=SPEECH), await provide(Status(503))
    weir = await gate(first, second, dialects=dialects, **RESUME, retry={"attempts": 2})
    client = await weir.fetch()
    assert (client.body.count(b'"error"'), client.body.count(b"sorry"), b"[DONE]" in client.body) == (1, 1, False)
    assert text_of(client.body)
    record = await weir.record()
    assert (record.outcome, second.total, record.seams) == ("upstream_error", 1, [])
    assert [(attempt.why, attempt.outcome) for attempt in record.attempts] == [("first", "error_event"), ("resume", "status")]
    assert record.bytes == len(client.body)


async def test_whatever_breaks_on_the_way_is_no_worse_than_the_error(
    provide: Any, gate: Any, make: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault of ours while the stream is to be resumed: it ends as it would have, and the log knows."""
    monkeypatch.setattr("gateway.proxy.resume.plan", lambda *_: 1 / 0)
    first, second = await provide(dying(make.event("one "))), await provide(healthy("two"))
    client = await (await gate(first, second, **RESUME)).fetch()
    assert client.body.endswith(b'"code":"connection_reset"}}\n\n')
    assert ("broke what was to resume it" in caplog.text, second.total) == (True, 0)
    caplog.clear()


async def test_a_breaker_that_is_open_is_respected(provide: Any, gate: Any) -> None:
    """A target that is left alone is left alone here too."""
    provider = await provide(ResetAfter(after=3), temper=SPEECH)
    weir = await gate(provider, **RESUME, breaker={"failures": 1})
    client = await weir.fetch()
    assert (provider.total, b'"code":"connection_reset"' in client.body) == (1, True)
    assert (await weir.record()).outcome == "upstream_truncated"


async def test_the_budget_is_respected(provide: Any, gate: Any) -> None:
    """Without a budget for extra tries there are none."""
    first, second = await provide(ResetAfter(after=3), temper=SPEECH), await provide(temper=SPEECH)
    weir = await gate(first, second, **RESUME, retry={"budget": "0%"})
    await weir.fetch()
    assert (second.total, (await weir.record()).outcome) == (0, "upstream_truncated")
