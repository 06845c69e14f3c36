"""`routes[].content`: what was asked and said is told once, when the stream has ended, in every dialect; and to nobody where it is off."""

import json
from typing import Any

import msgspec
import pytest

from gateway.core.content import MAX_ANSWER, MAX_PROMPT, Content, drawn
from gateway.core.messages import Ended, Follow, Said, Spoke
from gateway.sim.faults import ErrorEvent, ResetAfter, Status
from gateway.sim.tempers import INSTANT
from tests.faults.scripts import answer, ask, fetch, whole
from tests.faults.tongues import TONGUES
from tests.rig.broken import delta, dying, healthy, text_of
from tests.rig.client import wait_until

DIALECTS = pytest.mark.parametrize("dialect", TONGUES)
IN_ONE_PIECE = {"gemini", "ollama"}
"""Dialects whose tool calls come whole: the tongue's second piece is a second call."""
EVEN, ODD = "0" * 31 + "1", "f" * 32
"""Traces that no sample below 100% has in it, and that every one above 0% has."""


def contents(weir: Any) -> list[Content]:
    """Return everything that was told of what was said."""
    return [msgspec.msgpack.decode(message.data, type=Content) for message in weir.book.of(Said)]


async def content(weir: Any, number: int = 1) -> Content:
    """Return what the `number`-th stream said, once it is told."""
    await wait_until(lambda: len(weir.book.of(Said)) >= number, "what was said is told")
    return contents(weir)[number - 1]


@DIALECTS
async def test_a_stream_is_put_together(provide: Any, gate: Any, dialect: str) -> None:
    """Text, reasoning and tool calls are what the provider said, the prompt is what the client sent, and the cuts are in step (F5)."""
    tongue = TONGUES[dialect]
    said = [tongue.reasoning("Let me see."), 0.03, tongue.token("Al"), 0.03, tongue.token("pha 😀"), tongue.tool]
    script = answer(tongue, *tongue.preamble, *said, tongue.arguments('{"at":"home"}'), tongue.proper)
    weir = await gate(await provide(script), dialects=[dialect], content="full")
    client = await fetch(weir, tongue)
    record, kept = await weir.record(), await content(weir)
    assert (client.status, record.outcome, record.content) == (200, "completed", True)
    assert (kept.text, kept.reasoning, kept.refusal, kept.cut) == ("Alpha 😀", "Let me see.", "", False)
    assert {tool.name for tool in kept.tools} == {"look"}
    arguments = json.loads(kept.tools[-1].arguments)
    assert (arguments["at"] if dialect in IN_ONE_PIECE else kept.tools[-1].arguments) == '{"at":"home"}'
    assert len(kept.tools) == (2 if dialect in IN_ONE_PIECE else 1)
    assert json.loads(kept.prompt) == {name: value for name, value in tongue.body.items() if value is not None}
    assert len(kept.cuts) == len(record.cadence.ticks) >= 3
    assert kept.cuts == sorted(kept.cuts)
    assert (kept.cuts[0], kept.cuts[-1]) == (0, 7)
    assert weir.book.messages.index(weir.book.of(Ended)[0]) < weir.book.messages.index(weir.book.of(Said)[0])


@DIALECTS
async def test_an_answer_in_one_piece(provide: Any, gate: Any, dialect: str) -> None:
    """What a document says is kept like what a stream says; it has no cuts, since it came at once."""
    tongue = TONGUES[dialect]
    weir = await gate(await provide(whole(200, tongue.document)), dialects=[dialect], content="full")
    assert (await fetch(weir, tongue, stream=False)).status == 200
    kept = await content(weir)
    assert (kept.text, kept.cuts, kept.cut) == ("hi", [], False)


@DIALECTS
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_translated_answer(provide: Any, gate: Any, dialect: str, stream: bool) -> None:
    """Whatever the upstream speaks, the words are its words, and the prompt is in the client's dialect."""
    tongue = TONGUES[dialect]
    other = TONGUES["openai" if dialect not in {"openai", "azure"} else "anthropic"]
    script = answer(other, *other.split(other.speech("alpha ", "beta"))) if stream else whole(200, other.document)
    weir = await gate(await provide(script), dialects=[other.name], content="full")
    await fetch(weir, tongue, stream)
    kept = await content(weir)
    assert kept.text == ("alpha beta" if stream else "hi")
    assert b"hello" in kept.prompt


@DIALECTS
async def test_nothing_is_kept_where_it_is_off(provide: Any, gate: Any, dialect: str) -> None:
    """By default no word of a stream is told, and its record says so (F5)."""
    weir = await gate(await provide(), dialects=[dialect])
    await fetch(weir, TONGUES[dialect])
    await fetch(weir, TONGUES[dialect], stream=False)
    records = [await weir.record(1), await weir.record(2)]
    assert [record.content for record in records] == [False, False]
    assert weir.book.of(Said) == []
    assert all(live.words is None for live in weir.plane.live.values())


def trace(trace_id: str) -> dict[str, str]:
    return {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}


async def test_a_sample_is_of_traces(provide: Any, gate: Any) -> None:
    """`sampled` keeps every stream of a trace that is drawn and none of another; who draws is the trace id alone."""
    weir = await gate(await provide(), content="sampled", content_share="10%")
    for trace_id in (EVEN, ODD, EVEN, ODD):
        await weir.fetch(trace(trace_id))
    await wait_until(lambda: len(weir.book.records) == 4, "four streams have ended")
    assert [record.content for record in weir.book.records] == [False, True, False, True]
    assert {message.stream_id for message in weir.book.of(Said)} == {record.stream_id for record in weir.book.records if record.content}
    shares = [sum(drawn(f"{number * 0x9E3779B97F4A7C15 % 2**128:032x}", share) for number in range(4000)) for share in (0.0, 0.1, 1.0)]
    assert shares[0] == 0
    assert 300 < shares[1] < 500
    assert shares[2] == 4000


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [(ResetAfter(after=2), "upstream_truncated"), (ErrorEvent(after=2), "upstream_error"), (Status(503), "upstream_error")],
)
async def test_what_went_wrong_is_in_every_sample(provide: Any, gate: Any, fault: Any, outcome: str) -> None:
    """A stream that failed is kept although its trace was not drawn: with what it had said until then."""
    weir = await gate(await provide(fault), content="sampled", content_share="0%", retry={"attempts": 1})
    client = await weir.fetch(trace(EVEN))
    record, kept = await weir.record(), await content(weir)
    assert (record.outcome, record.content) == (outcome, True)
    assert kept.text == (text_of(client.body) if client.status == 200 else "")
    assert b"hello" in kept.prompt


async def test_a_stall_is_in_every_sample(provide: Any, gate: Any, make: Any) -> None:
    """So is one that was completed, but fell silent on its way."""
    script = make.chunked(make.event(), make.event("a"), 0.3, make.event("b"), make.event(finish="stop"), b"data: [DONE]\n\n")
    weir = await gate(await provide(script), content="sampled", content_share="0%", stall={"threshold": "100ms"})
    await weir.fetch(trace(EVEN))
    record, kept = await weir.record(), await content(weir)
    assert (record.outcome, record.stalled, kept.text) == ("completed", True, "ab")


async def test_a_loser_has_no_words(provide: Any, gate: Any, make: Any) -> None:
    """Of a race only what the client got is kept, never what a loser had said."""
    slow = await provide(make.chunked(make.event(), 0.4, make.event("loser"), make.event(finish="stop"), b"data: [DONE]\n\n"))
    weir = await gate(
        slow, await provide(healthy("winner")), content="full", first_token={"timeout": "50ms", "on_slow": "hedge", "hedge_limit": "100%"}
    )
    client = await weir.fetch()
    kept = await content(weir)
    assert (kept.text, text_of(client.body)) == ("winner", "winner")
    assert len((await weir.record()).attempts) == 2


@pytest.mark.parametrize(
    ("first", "second"), [("openai", "openai"), ("openai", "anthropic"), ("anthropic", "openai"), ("gemini", "ollama")]
)
@pytest.mark.parametrize("fault", [ResetAfter(after=3), ErrorEvent(after=3)], ids=["reset", "error"])
async def test_a_resumed_stream_is_one_text(provide: Any, gate: Any, make: Any, first: str, second: str, fault: Any) -> None:
    """What is kept is what the client got of all upstreams together; the seam is where the record has it, and the cuts go on in step."""
    speech = msgspec.structs.replace(INSTANT, tokens=5)
    providers = await provide(fault, temper=speech), await provide(temper=speech)
    patience = {"mid_stream": "resume", "stall": {"liveness": 0.4}}
    weir = await gate(*providers, dialects=[first, second], content="full", **patience)
    client = await weir.fetch(max_tokens=50)
    record, kept = await weir.record(), await content(weir)
    assert record.mutations["resumed"] == 1
    assert kept.text == text_of(client.body)
    assert kept.seams == [record.seams[0].characters]
    assert 0 < kept.seams[0] < len(kept.text)
    assert len(kept.cuts) == len(record.cadence.ticks)
    assert kept.cuts == sorted(kept.cuts)
    assert kept.cuts[-1] == len(kept.text)


async def test_white_space_at_a_seam_is_kept_once(provide: Any, gate: Any) -> None:
    """A model that says the blank again that the client has is not written down twice, and its first thoughts are not either."""
    dead = await provide(dying(delta(content="one "), 0.05))
    again = TONGUES["anthropic"]
    script = answer(again, *again.preamble, again.reasoning("hm"), again.token(" "), again.token("two"), again.proper)
    weir = await gate(dead, await provide(script), dialects=["openai", "anthropic"], content="full", mid_stream="resume")
    client = await weir.fetch(model="claude-3-haiku-20240307", max_tokens=50)
    kept = await content(weir)
    assert (text_of(client.body), kept.text, kept.reasoning, kept.seams) == ("one two", "one two", "", [4])


async def test_a_client_that_leaves_is_told_of_too(provide: Any, gate: Any, make: Any) -> None:
    """Of a stream that its client has left, what had come until then is kept."""
    weir = await gate(await provide(make.chunked(make.event(), make.event("half"), 30.0)), content="full")
    client = await weir.ask()
    await client.saw(b"half")
    client.close()
    kept = await content(weir)
    assert (kept.text, (await weir.record()).outcome) == ("half", "client_disconnect")


async def test_a_long_answer_is_cut(provide: Any, gate: Any, make: Any) -> None:
    """Beyond MAX_ANSWER nothing more is kept, and that is said; the client has all of it."""
    piece = "ä" * 8000
    count = MAX_ANSWER // len(piece.encode()) + 5
    script = make.chunked(make.event(), *[make.event(piece)] * count, make.event(finish="stop"), b"data: [DONE]\n\n")
    weir = await gate(await provide(script), content="full")
    client = await weir.fetch()
    kept = await content(weir)
    assert text_of(client.body) == piece * count
    assert kept.cut
    assert len(kept.text.encode()) <= MAX_ANSWER
    assert kept.text == piece * (MAX_ANSWER // len(piece.encode()))


async def test_a_long_prompt_is_cut_and_a_picture_is_not_kept(provide: Any, gate: Any) -> None:
    """A large body loses its pictures first, and is cut where it is still too long."""
    weir = await gate(await provide(), content="full")
    picture = "iVBORw0KGgo" * 100_000
    await weir.fetch(
        messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}}]}]
    )
    light = await content(weir)
    assert not light.prompt_cut
    [message] = json.loads(light.prompt)["messages"]
    assert message["content"][0]["image_url"]["url"].startswith("data:image/png;base64,[base64: 825000 bytes, sha256 ")
    await weir.fetch(messages=[{"role": "user", "content": "long text. " * 40_000}])
    cut = await content(weir, 2)
    assert (cut.prompt_cut, len(cut.prompt)) == (True, MAX_PROMPT)


async def test_a_running_stream_is_read_along(provide: Any, gate: Any, make: Any) -> None:
    """From the moment somebody asks, everything said so far and all that comes is told, piece by piece, before the stream's end."""
    script = make.chunked(
        make.event(),
        delta(reasoning_content="why"),
        make.event("one "),
        0.6,
        make.event("two"),
        make.event(finish="stop"),
        b"data: [DONE]\n\n",
    )
    weir = await gate(await provide(script), content="full")
    client = await weir.ask()
    await client.saw(b"one ")
    [stream_id] = weir.plane.live
    assert weir.book.of(Spoke) == []
    weir.worker.obey(Follow(stream_id, on=True))
    assert [(piece.kind, piece.at, piece.text) for piece in weir.book.of(Spoke)] == [("reasoning", 0, "why"), ("text", 0, "one ")]
    await client.finish()
    await weir.record()
    assert weir.book.of(Spoke)[2:] == [Spoke(stream_id, "text", 4, "two")]
    assert weir.book.messages.index(weir.book.of(Spoke)[-1]) < weir.book.messages.index(weir.book.of(Ended)[0])
    assert (weir.plane.followers, weir.plane.watch.watched) == ({}, set())


async def test_nobody_reads_along_where_nothing_is_kept(provide: Any, gate: Any, make: Any) -> None:
    """A route that is off, or a stream that is not in the sample, is told to no reader; nor is one after the reader has left."""
    for number, (share, told) in enumerate((("0%", False), ("100%", True))):
        script = make.chunked(make.event(), make.event("one "), 0.6, make.event("two"), make.event(finish="stop"), b"data: [DONE]\n\n")
        weir = await gate(await provide(script), content="sampled", content_share=share)
        client = await weir.ask()
        await client.saw(b"one ")
        [stream_id] = weir.plane.live
        weir.worker.obey(Follow(stream_id, on=True))
        weir.worker.obey(Follow(stream_id, on=False))
        weir.worker.obey(Follow("of nobody", on=True))
        await client.finish()
        assert [piece.text for piece in weir.book.of(Spoke)] == (["one "] if told else []), number


async def test_a_tape_keeps_words_as_well(provide: Any, gate: Any) -> None:
    """A stream that goes on without its client is kept whole."""
    tongue = TONGUES["openai"]
    script = answer(tongue, *tongue.preamble, tongue.token("one "), 0.2, tongue.token("two"), tongue.proper)
    weir = await gate(await provide(script), content="full", client={"on_disconnect": "drain", "drain": "400ms"})
    client = await ask(weir, tongue)
    await client.saw(b"one ")
    client.close()
    assert (await content(weir)).text == "one two"
