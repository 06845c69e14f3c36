"""A10: usage that Weir asks for is learned and taken out again, and nothing else is; dialects that always tell are left alone."""

import json
from typing import Any

import pytest

from gateway.sim.faults import InOrder
from tests.faults.scripts import answer, fetch, whole
from tests.faults.tongue import sse
from tests.faults.tongues import FILTER_RESULTS, TONGUES

DIALECTS = pytest.mark.parametrize("dialect", TONGUES)
OPENAI = pytest.mark.parametrize("dialect", ["openai", "azure"])


def asked(provider: Any) -> list[Any]:
    """What each call said about usage."""
    return [json.loads(request.body).get("stream_options") for request in provider.requests]


@DIALECTS
async def test_a_client_that_says_nothing(provide: Any, gate: Any, dialect: str) -> None:
    """Asked for where it must be: the client's bytes are the upstream's less exactly that frame; usage is known in every dialect (A10a)."""
    tongue = TONGUES[dialect]
    provider = await provide(answer(tongue, *tongue.split(tongue.speech("one", "two"))))
    weir = await gate(provider, dialects=[dialect])
    client = await fetch(weir, tongue, stream_options=None)
    record = await weir.record()
    extra = dialect in {"openai", "azure"}
    assert client.body == tongue.spoken("one", "two") + (tongue.finish + tongue.end if extra else tongue.proper)
    assert asked(provider) == [{"include_usage": True} if extra else None]
    assert record.mutations == ({"usage_stripped": 1} if extra else {})
    assert (record.usage.input, record.usage.output) == (5, 3)


@OPENAI
@pytest.mark.parametrize("wish", [True, False])
async def test_a_client_that_says_what_it_wants(provide: Any, gate: Any, dialect: str, wish: bool) -> None:
    """Who spoke about usage is obeyed: the call goes untouched, nothing is cut, and what is not told is unknown, not 0 (A10b A10c)."""
    tongue = TONGUES[dialect]
    said = tongue.spoken("one") + tongue.finish + (tongue.usage if wish else b"") + tongue.end
    provider = await provide(answer(tongue, said))
    weir = await gate(provider, dialects=[dialect])
    client = await fetch(weir, tongue, stream_options={"include_usage": wish})
    record = await weir.record()
    assert (client.body, record.mutations, asked(provider)) == (said, {}, [{"include_usage": wish}])
    assert (record.usage is not None) == wish


@OPENAI
async def test_an_upstream_that_refuses_to_be_asked(provide: Any, gate: Any, dialect: str) -> None:
    """A 400 about stream_options is answered by asking once more without it, and never provoked again (A10d)."""
    tongue = TONGUES[dialect]
    refusal = whole(400, tongue.refused(400, "Unrecognized request argument supplied: stream_options"))
    good = answer(tongue, tongue.spoken("one") + tongue.finish + tongue.end)
    provider = await provide(InOrder([refusal, good, good]))
    weir = await gate(provider, dialects=[dialect])
    for _ in range(2):
        assert (await fetch(weir, tongue, stream_options=None)).status == 200
    assert asked(provider) == [{"include_usage": True}, None, None]
    assert weir.targets()[0].last_error is None


LOOKALIKES = {
    "counts beside a choice": sse(b'{"choices":[{"index":0,"delta":{}}],"usage":{"prompt_tokens":5,"completion_tokens":3}}'),
    "counts beside a token": sse(b'{"choices":[{"index":0,"delta":{"content":"x"}}],"usage":{"prompt_tokens":5,"completion_tokens":3}}'),
    "no counts": sse(b'{"choices":[],"usage":null}'),
    "filter results": FILTER_RESULTS,
    "no choices": sse(b'{"x_groq":{"usage":{"prompt_tokens":5}}}'),
}


@OPENAI
@pytest.mark.parametrize("what", LOOKALIKES)
async def test_what_only_looks_like_usage(provide: Any, gate: Any, dialect: str, what: str) -> None:
    """A chunk that says more than usage, or none, is the client's, whoever asked (A10e A10f)."""
    tongue = TONGUES[dialect]
    said = tongue.spoken("one") + LOOKALIKES[what] + tongue.finish
    provider = await provide(answer(tongue, said + tongue.usage + tongue.end))
    weir = await gate(provider, dialects=[dialect])
    client = await fetch(weir, tongue, stream_options=None)
    assert client.body == said + tongue.end
    assert (await weir.record()).mutations == {"usage_stripped": 1}
