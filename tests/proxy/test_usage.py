"""Usage that we ask for: the upstream is asked, we learn it, and the client's stream is as if nobody had asked."""

import asyncio
from typing import Any

import orjson
import pytest

from gateway.core.events import Usage
from gateway.sim.faults import InOrder, OneByteWrites, Status
from gateway.sim.provider import Provider

DONE = b"data: [DONE]\n\n"
USAGE = b'data: {"id":"x","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}\n\n'
FILTER = b'data: {"id":"","choices":[],"prompt_filter_results":[{"prompt_index":0}]}\n\n'
NULLS = b'data: {"id":"x","choices":[],"usage":null}\n\n'
CONTINUOUS = b'data: {"choices":[{"index":0,"delta":{}}],"usage":{"prompt_tokens":5,"completion_tokens":2}}\n\n'
REFUSAL = '{"error":{"message":"Unrecognized request argument supplied: stream_options","type":"invalid_request_error"}}'


def asked(provider: Provider) -> list[Any]:
    """What each call said about usage."""
    return [orjson.loads(request.body).get("stream_options") for request in provider.requests]


async def test_usage_is_asked_for_and_its_frame_taken_out(provide: Any, gate: Any, direct: Any) -> None:
    """A silent client gets the upstream's bytes less exactly the frame our asking brought; usage is recorded (A10a)."""
    provider = await provide()
    weir = await gate(provider)
    client = await weir.fetch()
    straight = await direct(await provide(), stream_options={"include_usage": True})
    frames = [frame + b"\n\n" for frame in straight.body.split(b"\n\n")[:-1]]
    record = await weir.record()
    assert asked(provider) == [{"include_usage": True}]
    assert b'"choices":[],' in frames[-2]
    assert client.body == b"".join(frames[:-2] + frames[-1:])
    assert (record.mutations, record.usage.output) == ({"usage_stripped": 1}, 3)


async def test_the_call_is_edited_in_place(provide: Any, gate: Any, make: Any) -> None:
    """Of the client's body only the model and the asking change; every other byte is the client's own (A6)."""
    provider = await provide()
    weir = await gate(provider, targets=[{"upstream": "a", "model": "other"}])
    odd = b'{ "model" : "m",\n"x":1e2, "x":null, "u":"\\u00e9", "stream":true, "stream_options" : {"include_obfuscation":false}, "n": 100 }'
    await (await weir.client()).ask(make.post(odd)).finish()
    sent = provider.requests[0].body
    for piece in (b'{ "model" : "other",\n"x":1e2, "x":null, "u":"\\u00e9", "stream":true, "stream_options" : {', b'}, "n": 100 }'):
        assert piece in sent
    assert orjson.loads(sent)["stream_options"] == {"include_obfuscation": False, "include_usage": True}


@pytest.mark.parametrize(
    ("fields", "route"),
    [
        ({"stream_options": {"include_usage": False}}, {}),
        ({"stream_options": {"include_usage": True}}, {}),
        ({}, {"usage": "leave"}),
        ({"stream": False}, {}),
    ],
    ids=["client says no", "client says yes", "route says leave", "document"],
)
async def test_a_call_that_is_not_ours_to_edit(provide: Any, gate: Any, direct: Any, make: Any, fields: Any, route: Any) -> None:
    """Who spoke about usage is obeyed: the call is untouched, nothing is stripped, unknown usage is absent, not 0 (A10b A10c)."""
    provider, twin = await provide(), await provide()
    weir = await gate(provider, **route)
    client = await weir.fetch(**fields)
    record = await weir.record()
    assert provider.requests[0].body == make.request(**fields).partition(b"\r\n\r\n")[2]
    assert client.body == (await direct(twin, **fields)).body
    assert record.mutations == {}
    told = fields.get("stream_options", {}).get("include_usage") or fields.get("stream") is False
    assert (record.usage is not None) == told


async def test_frames_that_are_more_than_ours_stay(provide: Any, gate: Any, make: Any) -> None:
    """Azure's filter results, a null usage and counts on a choice are the client's, whoever asked (A10e A10f)."""
    body = [FILTER, make.event(), make.event("hi"), NULLS, CONTINUOUS, make.event(finish="stop"), USAGE, DONE]
    weir = await gate(await provide(make.chunked(*body)))
    client = await weir.fetch()
    record = await weir.record()
    assert client.body == b"".join(body).replace(USAGE, b"")
    assert record.mutations == {"usage_stripped": 1}
    assert record.usage == Usage(input=5, output=2)


async def test_usage_cut_anywhere(provide: Any, gate: Any, make: Any) -> None:
    """However the reads fall, the frame is found and nothing else goes (A4 A10a)."""
    before, after = make.event("hi") + make.event(finish="stop"), DONE
    body = before + USAGE + after
    scripts = [make.chunked(body[:cut], 0.002, body[cut:]) for cut in range(len(before) - 2, len(body) - len(after) + 3)]
    provider = await provide(InOrder([*scripts, make.chunked(body)]))
    weir = await gate(provider)
    for start in range(0, len(scripts) + 1, 40):
        for client in await asyncio.gather(*(weir.fetch() for _ in range(start, min(start + 40, len(scripts) + 1)))):
            assert client.body == before + after
    assert {record.usage for record in weir.book.records} == {Usage(input=5, output=2)}


async def test_usage_of_one_byte_writes(provide: Any, gate: Any) -> None:
    """The slowest cut of all strips the same frame."""
    weir = await gate(await provide(OneByteWrites()))
    client = await weir.fetch()
    assert b'"choices":[]' not in client.body
    assert client.body.endswith(DONE)
    assert (await weir.record()).mutations == {"usage_stripped": 1}


async def test_an_upstream_that_refuses_the_question_is_asked_again_without_it(provide: Any, gate: Any) -> None:
    """A 400 about stream_options is retried once on the same upstream, and never provoked again (A10d)."""
    provider, spare = await provide(InOrder([Status(400, body=REFUSAL)])), await provide()
    weir = await gate(provider, spare)
    for _ in range(2):
        client = await weir.fetch()
        assert (client.status, client.headers["x-weir-upstream"]) == (200, "a")
    assert asked(provider) == [{"include_usage": True}, None, None]
    assert spare.total == 0
    first, second = weir.book.records
    assert [attempt.why for attempt in first.attempts] == ["first", "retry"]
    assert (first.outcome, first.usage, len(second.attempts)) == ("completed", None, 1)


async def test_a_400_about_usage_that_the_client_asked_for_is_the_clients(provide: Any, gate: Any) -> None:
    """What the client wrote is the client's to mend: no retry, the answer word for word."""
    provider = await provide(InOrder([Status(400, body=REFUSAL)]))
    weir = await gate(provider)
    client = await weir.fetch(stream_options={"include_usage": True})
    assert (client.status, client.body.decode(), provider.total) == (400, REFUSAL, 1)
    assert (await weir.record()).outcome == "upstream_error"
