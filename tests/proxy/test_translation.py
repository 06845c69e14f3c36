"""A client speaks its own dialect, whatever its target speaks: answers, errors, truncation and fallback across dialects."""

import itertools
from typing import Any

import msgspec
import orjson
import pytest

from gateway.core.answer import fold
from gateway.core.events import Delta, Failed, Finished
from gateway.core.prompt import Image, Prompt, Shape, Text, Tool, Turn
from gateway.dialects import DIALECTS
from gateway.dialects.ollama.writer import LineWriter
from gateway.sim.faults import ErrorEvent, JsonReplyToStream, MissingDone, SlowFirstToken, Status, Truncate
from gateway.sim.plan import head
from gateway.sim.tempers import INSTANT
from tests.rig.rounds import judged_in_rounds

PAIRS = [(mine, theirs) for mine, theirs in itertools.product(DIALECTS, repeat=2) if DIALECTS[mine].family != DIALECTS[theirs].family]
HELLO = Prompt(model="m", stream=True, system=("Be brief.",), turns=(Turn("user", (Text("hello"),)),), max_tokens=50)
WHOLE = msgspec.structs.replace(HELLO, stream=False)
SPEECH = msgspec.structs.replace(INSTANT, tokens=5)
CALLS = msgspec.structs.replace(INSTANT, tokens=12, speech="tools")
TOOLS = msgspec.structs.replace(
    HELLO,
    tools=(
        Tool("get_weather", "Says the weather", {"type": "object", "properties": {"city": {"type": "string"}}}),
        Tool("get_time", "Says the time", {"type": "object", "properties": {"city": {"type": "string"}}}),
    ),
)


async def ask(weir: Any, make: Any, dialect: str, prompt: Prompt = HELLO, headers: Any = None) -> tuple[Any, Any]:
    """Send a prompt as a client of a dialect; return the call and the client when the answer is over."""
    call, request = make.call(dialect, prompt, headers)
    client = await (await weir.client()).ask(request).finish()
    return call, client


async def spoken(make: Any, direct: Any, provider: Any, dialect: str, prompt: Prompt) -> Any:
    """Return what a provider says to a client of its own dialect."""
    call, request = make.call(dialect, prompt)
    return fold(make.heard(call, (await direct(provider, request=request)).body))


@pytest.mark.parametrize("prompt", [HELLO, WHOLE], ids=["streamed", "whole"])
@pytest.mark.parametrize("pair", PAIRS)
async def test_an_answer_says_the_same_in_every_dialect(
    provide: Any, gate: Any, direct: Any, make: Any, pair: tuple[str, str], prompt: Prompt
) -> None:
    """Text, counts and the reason for its end arrive; the record says that it was translated and how fast it was."""
    mine, theirs = pair
    provider = await provide(temper=SPEECH)
    weir = await gate(provider, dialects=[theirs])
    call, client = await ask(weir, make, mine, prompt)
    assert (client.status, client.complete) == (200, True)
    expected = await spoken(make, direct, await provide(temper=SPEECH), theirs, prompt)
    answer = fold(make.heard(call, client.body))
    assert answer.text == expected.text != ""
    assert answer.finished is not None
    assert answer.finished.meaning == "stop"
    record = await weir.record()
    assert (record.outcome, record.mutations["translated"], record.dialect) == ("completed", 1, mine)
    assert record.usage is not None
    assert answer.usage is not None or mine == "openai"  # OpenAI's streams tell usage only to who asks for it
    if prompt.stream:
        assert record.cadence.chunks == 5
        assert client.headers["content-type"].startswith(DIALECTS[mine].framing(call).media_type)
        assert record.first_token_at is not None
    else:
        assert client.headers["content-type"] == "application/json"


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("pair", PAIRS)
async def test_tool_calls_arrive_whole(provide: Any, gate: Any, direct: Any, make: Any, pair: tuple[str, str], stream: bool) -> None:
    """Two calls at once keep names, order and arguments, and the answer says that it waits for their results."""
    mine, theirs = pair
    prompt = msgspec.structs.replace(TOOLS, stream=stream)
    weir = await gate(await provide(temper=CALLS), dialects=[theirs])
    call, client = await ask(weir, make, mine, prompt)
    expected = await spoken(make, direct, await provide(temper=CALLS), theirs, prompt)
    answer = fold(make.heard(call, client.body))
    said = [(tool.name, orjson.loads(tool.arguments or "{}")) for tool in answer.tools]
    assert said == [(tool.name, orjson.loads(tool.arguments or "{}")) for tool in expected.tools]
    assert len(said) == 2
    assert answer.finished is not None
    assert answer.finished.meaning == "tools"


@pytest.mark.parametrize(("mine", "theirs"), PAIRS)
async def test_an_error_status_is_told_in_the_clients_words(provide: Any, gate: Any, make: Any, mine: str, theirs: str) -> None:
    """The upstream's status and message, in an error body of the client's dialect."""
    weir = await gate(await provide(Status(400)), dialects=[theirs])
    _, client = await ask(weir, make, mine)
    assert client.status == 400
    said = DIALECTS[mine].read_error(400, client.body)
    assert said.message
    record = await weir.record()
    assert (record.outcome, record.attempts[0].outcome) == ("upstream_error", "status")


@pytest.mark.parametrize(("mine", "theirs"), PAIRS)
async def test_an_error_in_a_stream_is_an_error_in_the_clients_stream(provide: Any, gate: Any, make: Any, mine: str, theirs: str) -> None:
    """What came before it stays; then the client's dialect says that it failed, and no proper end follows."""
    weir = await gate(await provide(ErrorEvent(after=2), temper=SPEECH), dialects=[theirs])
    call, client = await ask(weir, make, mine)
    events = make.heard(call, client.body)
    assert any(isinstance(event, Failed) for event in events)
    assert [event for event in events if isinstance(event, Delta)]
    assert not [event for event in events if isinstance(event, Finished)]
    record = await weir.record()
    assert record.outcome == "upstream_error"


@pytest.mark.parametrize(("mine", "theirs"), PAIRS)
async def test_a_torn_stream_is_no_answer(provide: Any, gate: Any, make: Any, mine: str, theirs: str) -> None:
    """An upstream that stops in the middle is told as such: no finish, an error as the last word."""
    weir = await gate(await provide(Truncate(after=2), temper=SPEECH), dialects=[theirs])
    call, client = await ask(weir, make, mine)
    events = make.heard(call, client.body)
    assert any(isinstance(event, Failed) for event in events)
    assert not [event for event in events if isinstance(event, Finished)]
    assert (await weir.record()).outcome == "upstream_truncated"


async def test_a_missing_end_marker_is_made_up_for(provide: Any, gate: Any, make: Any) -> None:
    """An answer that has finished is complete where its dialect says so, and the client's own end marker follows."""
    weir = await gate(await provide(MissingDone(), temper=SPEECH), dialects=["openai"])
    call, client = await ask(weir, make, "anthropic")
    assert client.body.endswith(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')
    assert (await weir.record()).outcome == "completed"
    assert call.stream


@pytest.mark.parametrize("theirs", ["openai", "anthropic", "gemini"])
async def test_a_document_instead_of_a_stream_is_streamed(provide: Any, gate: Any, make: Any, theirs: str) -> None:
    """A client that wants a stream gets one, though its upstream answered in one piece."""
    weir = await gate(await provide(JsonReplyToStream(), temper=SPEECH), dialects=[theirs])
    call, client = await ask(weir, make, "ollama")
    assert client.headers["content-type"] == "application/x-ndjson"
    assert fold(make.heard(call, client.body)).text
    assert (await weir.record()).outcome == "completed"


@pytest.mark.parametrize("mine", DIALECTS)
@judged_in_rounds
async def test_a_slow_first_token_moves_through_three_dialects(provide: Any, gate: Any, direct: Any, make: Any, mine: str) -> None:
    """OpenAI is slow, Anthropic is slow, Ollama answers: the client hears one answer in its own dialect."""
    slow = SlowFirstToken(delay=30)
    last = await provide(temper=SPEECH)
    providers = [await provide(slow), await provide(slow), last]
    weir = await gate(*providers, dialects=["openai", "anthropic", "ollama"], first_token={"timeout": 0.2})
    call, client = await ask(weir, make, mine)
    assert client.headers["x-weir-upstream"] == "c"
    assert fold(make.heard(call, client.body)).text == (await spoken(make, direct, await provide(temper=SPEECH), "ollama", HELLO)).text
    record = await weir.record()
    assert [attempt.outcome for attempt in record.attempts] == ["slow", "slow", "won"]
    assert (record.outcome, record.fallback_reason) == ("completed", "slow_first_token")


async def test_what_a_target_cannot_be_told_goes_to_the_next(provide: Any, gate: Any, make: Any) -> None:
    """A picture by its address cannot be told to Ollama: the second target gets the call, and nothing is held against the first."""
    prompt = msgspec.structs.replace(HELLO, turns=(Turn("user", (Text("what is it?"), Image(url="https://example.com/a.png"))),))
    first, second = await provide(), await provide()
    weir = await gate(first, second, dialects=["ollama", "anthropic"])
    _, client = await ask(weir, make, "openai", prompt)
    assert (client.status, client.headers["x-weir-upstream"], first.total) == (200, "b", 0)
    assert len((await weir.record()).attempts) == 1


async def test_what_no_target_can_be_told_is_refused_by_name(provide: Any, gate: Any, make: Any) -> None:
    """400, with the member, before anybody is asked."""
    prompt = msgspec.structs.replace(HELLO, turns=(Turn("user", (Image(url="https://example.com/a.png"),)),))
    provider = await provide()
    weir = await gate(provider, dialects=["ollama"])
    _, client = await ask(weir, make, "anthropic", prompt)
    assert (client.status, provider.total) == (400, 0)
    assert client.document["type"] == "error"
    assert "image" in client.document["error"]["message"]
    record = await weir.record()
    assert (record.outcome, record.error) == ("rejected", "untranslatable")


async def test_embeddings_are_not_translated(provide: Any, gate: Any, make: Any) -> None:
    """Vectors of another model are no answer to the same question."""
    weir = await gate(await provide(), dialects=["ollama"])
    client = await (await weir.client()).ask(make.request(path="/v1/embeddings", input="x", stream=None, messages=None)).finish()
    assert client.status == 400
    assert "embeddings" in client.document["error"]["message"]


async def test_what_is_left_out_is_counted_and_named(provide: Any, gate: Any, make: Any) -> None:
    """A seed means nothing to Anthropic: the call is carried without it."""
    weir = await gate(await provide(), dialects=["anthropic"])
    _, client = await ask(weir, make, "openai", msgspec.structs.replace(HELLO, seed=7))
    assert client.status == 200
    assert "seed" in client.headers["x-weir-dropped"]
    assert (await weir.record()).mutations["member_dropped"] >= 1


async def test_a_schema_for_the_answer_reaches_the_upstream(provide: Any, gate: Any, make: Any) -> None:
    """As that dialect says it."""
    provider = await provide()
    weir = await gate(provider, dialects=["ollama"])
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    await ask(weir, make, "openai", msgspec.structs.replace(HELLO, shape=Shape(schema)))
    assert orjson.loads(provider.requests[-1].body)["format"] == schema


async def test_headers_of_one_dialect_stay_in_it(provide: Any, gate: Any, make: Any) -> None:
    """The upstream gets its own key, version and type; what only the client's dialect knows is not passed on, nor is its key."""
    provider = await provide()
    weir = await gate(provider, dialects=["anthropic"], upstreams={"a": {"api_key": "sk-ours"}})
    theirs = {"Authorization": "Bearer sk-theirs", "OpenAI-Organization": "org", "X-Stainless-Lang": "python", "X-Request-Id": "r1"}
    await ask(weir, make, "openai", headers=theirs)
    got = provider.requests[-1].headers
    assert got["x-api-key"] == "sk-ours"
    assert got["anthropic-version"]
    assert got["content-type"] == "application/json"
    assert got["x-request-id"] == "r1"
    assert not {"authorization", "openai-organization", "x-stainless-lang"} & set(got)
    assert b"sk-theirs" not in provider.requests[-1].body


async def test_a_clients_own_version_header_wins(provide: Any, gate: Any, make: Any) -> None:
    """Between client and upstream of one dialect the defaults of ours are only that, and each header goes once."""
    provider = await provide()
    weir = await gate(provider, dialects=["anthropic"])
    await ask(weir, make, "anthropic", headers={"anthropic-version": "2099-01-01"})
    assert provider.requests[-1].headers["anthropic-version"] == "2099-01-01"


@judged_in_rounds
async def test_a_waiting_client_hears_its_own_keepalive(provide: Any, gate: Any, make: Any) -> None:
    """Anthropic's ping, though the upstream speaks OpenAI; then the answer."""
    weir = await gate(await provide(SlowFirstToken(delay=0.5, role_first=False)), dialects=["openai"], server={"keepalive": 0.1})
    call, client = await ask(weir, make, "anthropic")
    assert client.body.startswith(b'event: ping\ndata: {"type":"ping"}\n\n')
    assert fold(make.heard(call, client.body)).text


HOLES = {
    "torn": (b'data: {"choices":[{"delta":{"content":"lo\n\n', "upstream_error", "unreadable_event"),
    "huge": (b"data: %b\n\n" % (b"x" * (2 << 20)), "gateway_error", "untranslatable_answer"),
}
"""A piece, and whose fault it is that it cannot be said: the upstream's, or our limit's."""


@pytest.mark.parametrize("mine", ["anthropic", "gemini", "ollama", "bedrock", "openai-responses"])
@pytest.mark.parametrize("hole", HOLES)
async def test_an_answer_with_a_hole_is_no_success(provide: Any, gate: Any, make: Any, caplog: Any, mine: str, hole: str) -> None:
    """A piece that cannot be said ends the stream as an error, though the upstream's own end came in the same read."""
    piece, outcome, error = HOLES[hole]
    upstream = await provide(make.chunked(make.event(), make.event("a"), piece + make.event(finish="stop") + b"data: [DONE]\n\n"))
    weir = await gate(upstream, dialects=["openai"])
    call, client = await ask(weir, make, mine)
    events = make.heard(call, client.body)
    assert any(isinstance(event, Failed) for event in events)
    assert not [event for event in events if isinstance(event, Finished)]
    record = await weir.record()
    assert (record.outcome, record.error) == (outcome, error)
    caplog.clear()


@pytest.mark.parametrize("body", [b"{}", b'{"detail":"Not Found"}', b"<html>", b""])
async def test_a_document_that_says_nothing_is_no_answer(provide: Any, gate: Any, make: Any, body: bytes) -> None:
    """The next target is asked."""
    first = await provide(make.chunked(body, head=head(200, {"Content-Type": "application/json"})))
    weir = await gate(first, await provide(temper=SPEECH), dialects=["anthropic", "anthropic"])
    call, client = await ask(weir, make, "openai", WHOLE)
    assert client.headers["x-weir-upstream"] == "b"
    assert fold(make.heard(call, client.body)).text
    assert (await weir.record()).attempts[0].outcome == "error_event"


async def test_an_error_page_has_a_message_all_the_same(provide: Any, gate: Any, make: Any) -> None:
    """A proxy's HTML in front of the upstream says at least who answered what."""
    page = b"<html>bad gateway</html>"
    weir = await gate(await provide(make.chunked(page, head=head(400, {"Content-Type": "text/html"}))), dialects=["anthropic"])
    _, client = await ask(weir, make, "openai")
    assert client.document["error"]["message"]


@pytest.mark.parametrize("name", ["..", ".", "a/../b"])
@pytest.mark.parametrize("theirs", ["azure", "bedrock", "gemini"])
async def test_a_models_name_leads_nowhere_else(provide: Any, gate: Any, make: Any, theirs: str, name: str) -> None:
    """Where the model is in the path, a name that would be another path is refused before anybody is asked."""
    provider = await provide()
    weir = await gate(provider, dialects=[theirs])
    _, client = await ask(weir, make, "openai", msgspec.structs.replace(HELLO, model=name))
    assert (client.status, provider.total) == (400, 0)


async def test_a_large_call_is_translated_where_no_stream_waits(provide: Any, gate: Any, make: Any) -> None:
    """Beyond 256 KiB in a thread, once; the answer is like any other's."""
    turns = tuple(Turn("user" if number % 2 else "assistant", (Text("word " * 40),)) for number in range(1, 2000))
    provider = await provide(temper=SPEECH)
    weir = await gate(provider, dialects=["anthropic"])
    call, client = await ask(weir, make, "openai", msgspec.structs.replace(HELLO, turns=turns))
    assert fold(make.heard(call, client.body)).text
    assert len(orjson.loads(provider.requests[-1].body)["messages"]) == len(turns)


@pytest.mark.parametrize("where", ["compose", "feed", "end", "document"])
async def test_a_translator_that_breaks_leaks_nothing(
    provide: Any, gate: Any, make: Any, caplog: Any, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Whatever it raises: the client is told, the record says whose fault it was, and every slot is given back."""

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("secret")

    owner, name = {
        "compose": (type(DIALECTS["anthropic"]), "compose"),
        "feed": (LineWriter, "feed"),
        "end": (LineWriter, "end"),
        "document": (type(DIALECTS["ollama"]), "write_document"),
    }[where]
    call, request = make.call("ollama", WHOLE if where == "document" else HELLO)
    monkeypatch.setattr(owner, name, broken)
    weir = await gate(await provide(Status(503)), await provide(temper=SPEECH), dialects=["openai", "anthropic"])
    client = await (await weir.client()).ask(request).finish()
    record = await weir.record()
    assert record.outcome != "completed"
    assert b"secret" not in client.raw
    assert not any("secret" in line.getMessage() for line in caplog.records)
    assert call.model == "m"
    caplog.clear()


async def test_a_picture_larger_than_an_event_is_still_an_answer(provide: Any, gate: Any, make: Any) -> None:
    """What is too large to be read is passed on all the same, and its stream is not called torn."""
    huge = b'data: {"candidates":[{"content":{"parts":[{"text":"' + b"x" * (17 << 20) + b'"}]},"finishReason":"STOP"}]}\r\n\r\n'
    weir = await gate(await provide(make.chunked(huge)), dialects=["gemini"])
    _, client = await ask(weir, make, "gemini")
    assert client.body == huge
    assert (await weir.record()).outcome == "completed"
