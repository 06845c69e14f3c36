"""A1e, A7, A8, A14, A15: what a client is promised by status and headers, and when each byte reaches it, in every dialect."""

import gzip
import itertools
from typing import Any

import pytest

from gateway.sim.steps import Hang
from tests.faults.everywhere import in_every_dialect
from tests.faults.scripts import CODES, ENDINGS, answer, ask, fetch, whole
from tests.faults.tongue import Tongue
from tests.faults.tongues import TONGUES
from tests.rig.rounds import judged_in_rounds

DIALECTS = pytest.mark.parametrize("dialect", TONGUES)


@DIALECTS
@pytest.mark.parametrize("how", ENDINGS)
async def test_a_failed_stream_may_end_visibly_cut(provide: Any, gate: Any, dialect: str, how: str) -> None:
    """With `client.on_failure: cut` a broken stream's body has no proper end after its error event: who reads bytes alone sees it (A1e)."""
    tongue = TONGUES[dialect]
    spoken = tongue.spoken("one")
    weir = await gate(await provide(answer(tongue, spoken, 0.02, ENDINGS[how])), dialects=[dialect], client={"on_failure": "cut"})
    client = await (await ask(weir, tongue)).gone()
    before, told = tongue.last_error(client.body)
    assert (before, client.complete, client.raw.endswith(b"0\r\n\r\n")) == (spoken, False, False)
    assert tongue.same_code(told, CODES[how])
    assert (await weir.record()).outcome == "upstream_truncated"


@DIALECTS
async def test_nobody_is_asked_to_compress(provide: Any, gate: Any, dialect: str) -> None:
    """Whatever encodings a client takes, the upstream is asked for none (A7a)."""
    tongue = TONGUES[dialect]
    provider = await provide(answer(tongue, tongue.speech("one")))
    weir = await gate(provider, dialects=[dialect])
    client = await fetch(weir, tongue, headers={"Accept-Encoding": "gzip, br, zstd"})
    assert provider.requests[0].headers["accept-encoding"] == "identity"
    assert "content-encoding" not in client.headers


@DIALECTS
async def test_an_encoding_nobody_knows(provide: Any, gate: Any, dialect: str) -> None:
    """An answer in an encoding that Weir cannot open is relayed untouched and marked as unread (A7c)."""
    tongue = TONGUES[dialect]
    packed = gzip.compress(tongue.speech("one"))
    script = answer(tongue, packed[:30], 0.05, packed[30:], headers={"Content-Encoding": "br"})
    weir = await gate(await provide(script), dialects=[dialect])
    client = await fetch(weir, tongue)
    record = await weir.record()
    assert (client.status, client.body, client.headers["content-encoding"]) == (200, packed, "br")
    assert (record.outcome, record.parser_errors, record.ttft) == ("completed", {"unparsed_encoding": 1}, None)


@DIALECTS
async def test_nothing_on_the_way_may_gather_events(provide: Any, gate: Any, dialect: str) -> None:
    """A stream tells every hop not to buffer, cache or pack it, and states no length (A8a)."""
    tongue = TONGUES[dialect]
    weir = await gate(await provide(answer(tongue, tongue.speech("one"))), dialects=[dialect])
    client = await fetch(weir, tongue)
    assert client.headers["x-accel-buffering"] == "no"
    assert client.headers["cache-control"] == "no-cache, no-transform"
    assert not {"content-length", "content-encoding"} & client.headers.keys()
    assert client.headers["content-type"].startswith(tongue.media_type)


@DIALECTS
@judged_in_rounds
async def test_each_event_goes_out_as_it_comes(provide: Any, gate: Any, dialect: str) -> None:
    """Every event reaches the client long before the next has left the upstream (A8b)."""
    tongue = TONGUES[dialect]
    frames = [tongue.token(f"token {number}") for number in range(8)]
    script = answer(tongue, tongue.spoken(), *(piece for frame in frames for piece in (frame, 0.05)), tongue.proper)
    provider = await provide(script)
    weir = await gate(provider, dialects=[dialect])
    client = await fetch(weir, tongue)
    times = [client.when(frame) for frame in frames]
    late = sorted(later - sooner for sooner, later in itertools.pairwise(times))
    assert late[len(late) // 2] > 0.03, "the gaps of the upstream are the client's"
    said = [at for at, _ in provider.requests[0].sent][-len(frames) - 1 : -1]
    delays = sorted(got - sent for got, sent in zip(times, said, strict=True))
    assert delays[len(delays) // 2] < 0.02


async def test_a_hop_that_gathers_is_told_apart(provide: Any, gate: Any) -> None:
    """Twenty tokens in one read after more than two seconds are a burst that the upstream made, in the account of every dialect (A8c)."""

    async def story(tongue: Tongue) -> None:
        said = tongue.spoken("one"), b"".join(tongue.token(f"{number}") for number in range(20)) + tongue.proper
        weir = await gate(await provide(answer(tongue, said[0], 2.1, said[1])), dialects=[tongue.name])
        assert (await fetch(weir, tongue)).body == said[0] + said[1]
        cadence = (await weir.record()).cadence
        assert (cadence.burst, cadence.chunks, cadence.arrivals) == (True, 21, 2)

    await in_every_dialect(story)


@DIALECTS
async def test_a_call_that_is_too_large(provide: Any, gate: Any, dialect: str) -> None:
    """Above `server.max_body` the answer is 413 in the caller's dialect, before any upstream is called (A14)."""
    tongue = TONGUES[dialect]
    provider = await provide()
    weir = await gate(provider, dialects=[dialect], server={"max_body": 4096})
    client = await fetch(weir, tongue, x="x" * 5000)
    record = await weir.record()
    assert (client.status, client.headers["content-type"], provider.total) == (413, "application/json", 0)
    assert set(client.document) <= {"error", "type", "message", "__type"}
    assert (record.outcome, record.error) == ("rejected", "request_too_large")


@DIALECTS
async def test_a_call_with_a_picture(provide: Any, gate: Any, dialect: str) -> None:
    """By default a call of many megabytes is carried, byte for byte (A14)."""
    tongue = TONGUES[dialect]
    provider = await provide(answer(tongue, tongue.speech("one")))
    weir = await gate(provider, dialects=[dialect])
    client = await (await ask(weir, tongue, x="x" * 19_000_000)).finish(30.0)
    assert client.status == 200
    assert len(provider.requests[0].body) > 19_000_000
    assert tongue.request(x="x" * 19_000_000).endswith(provider.requests[0].body)


@DIALECTS
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "document"])
async def test_an_error_status_is_the_clients(provide: Any, gate: Any, dialect: str, stream: bool) -> None:
    """429 with nobody to turn to: status, body, type and Retry-After as they came, whatever was asked for (A15a)."""
    tongue = TONGUES[dialect]
    body = tongue.refused(429, "Look,  slower")
    provider = await provide(whole(429, body, {"Retry-After": "7", "x-more": "1"}))
    weir = await gate(provider, dialects=[dialect])
    client = await fetch(weir, tongue, stream)
    record = await weir.record()
    assert (client.status, client.body, provider.total) == (429, body, 1)
    assert (client.headers["retry-after"], client.headers["content-type"]) == ("7", "application/json")
    assert (record.outcome, record.error, record.status) == ("upstream_error", "429", 429)


STATUSES = {
    "openai": (502, 429),
    "openai-responses": (502, 429),
    "anthropic": (503, 429),
    "gemini": (503, 429),
    "bedrock": (503, 429),
    "ollama": (502, 502),  # it says a sentence, and nothing that means one thing
    "azure": (502, 429),
}


@DIALECTS
@pytest.mark.parametrize("what", ["overloaded", "limited"])
@pytest.mark.parametrize("early", [False, True], ids=["alone", "after its preamble"])
async def test_an_error_as_first_event(provide: Any, gate: Any, dialect: str, what: str, early: bool) -> None:
    """While nothing is committed an error event is an error status, the one it would have had, in the caller's dialect (A15b)."""
    tongue = TONGUES[dialect]
    error, code = tongue.errors[what]
    weir = await gate(await provide(answer(tongue, (b"".join(tongue.preamble) if early else b"") + error, Hang())), dialects=[dialect])
    client = await fetch(weir, tongue)
    record = await weir.record()
    assert client.status == STATUSES[dialect][what == "limited"]
    assert client.headers["content-type"] == "application/json"
    assert client.document
    assert (record.outcome, record.error, record.attempts[0].outcome) == ("upstream_error", code, "error_event")


@DIALECTS
async def test_a_document_for_a_stream(provide: Any, gate: Any, dialect: str) -> None:
    """JSON in answer to a call for a stream is passed on as JSON, and counts in no time to first token (A15c)."""
    tongue = TONGUES[dialect]
    weir = await gate(await provide(whole(200, tongue.document)), dialects=[dialect])
    client = await fetch(weir, tongue)
    record = await weir.record()
    assert (client.status, client.body, client.headers["content-type"]) == (200, tongue.document, "application/json")
    assert (record.outcome, record.ttft, record.cadence.chunks, record.usage.output) == ("completed", None, 0, 3)
