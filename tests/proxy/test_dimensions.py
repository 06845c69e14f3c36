"""What callers say about their calls, in headers or in a body that refers to a stored prompt: kept in the record, shown to no upstream."""

import json  # orjson writes no half emoji
from typing import Any

import pytest

NAMED = {
    "x-weir-prompt-name": "greet",
    "X-Weir-Prompt-Version": "7",
    "x-weir-session-id": "s-1",
    "x-weir-tag-env": "prod",
    "X-Weir-Tag-Team": "a",
}


async def test_headers_are_kept_and_not_passed_on(provide: Any, gate: Any) -> None:
    """Prompt, version, session and tags of any call, in any case; the upstream sees none of them."""
    provider = await provide()
    weir = await gate(provider)
    await weir.fetch(NAMED)
    record = await weir.record()
    assert (record.prompt_name, record.prompt_version, record.session_id) == ("greet", "7", "s-1")
    assert record.tags == {"env": "prod", "team": "a"}
    assert not [name for name in provider.requests[0].headers if name.lower().startswith("x-weir")]


async def test_they_are_bounded(provide: Any, gate: Any) -> None:
    """128 characters each and 16 tags; what is empty is not there; bytes that are no text become text."""
    weir = await gate(await provide())
    tags = {f"x-weir-tag-t{number}": "y" * 500 for number in range(40)}
    await weir.fetch({"x-weir-prompt-name": "x" * 5000, "x-weir-prompt-version": "", "x-weir-session-id": "\xff\xfe", **tags})
    record = await weir.record()
    assert (record.prompt_name, record.prompt_version) == ("x" * 128, None)
    assert record.session_id is not None
    assert record.session_id.encode()
    assert record.tags == {f"t{number}": "y" * 128 for number in range(16)}


async def test_a_refused_call_has_them_too(provide: Any, gate: Any) -> None:
    """They are read from the head: who sends bad calls can be found."""
    weir = await gate(await provide(), match={"models": ["only"]})
    await weir.fetch(NAMED, model="other")
    record = await weir.record()
    assert (record.outcome, record.session_id, record.tags["team"]) == ("rejected", "s-1", "a")


STORED: dict[str, tuple[Any, dict[str, str], tuple[str | None, str | None]]] = {
    "as it is": ({"id": "pmpt_1", "version": "2"}, {}, ("pmpt_1", "2")),
    "no version": ({"id": "pmpt_1", "variables": {"a": "b"}}, {}, ("pmpt_1", None)),
    "too long": ({"id": "p" * 500, "version": "v" * 500}, {}, ("p" * 128, "v" * 128)),
    "a header comes first": ({"id": "pmpt_1", "version": "2"}, {"x-weir-prompt-name": "mine"}, ("mine", None)),
    "a version by header": ({"id": "pmpt_1", "version": "2"}, {"x-weir-prompt-version": "9"}, ("pmpt_1", "9")),
    "odd types": ({"id": 7, "version": ["2"]}, {}, (None, None)),
    "half an emoji": ({"id": "a\ud83d"}, {}, ("a?", None)),
    "no object": ("pmpt_1", {}, (None, None)),
    "none": (None, {}, (None, None)),
}


@pytest.mark.parametrize("case", STORED)
async def test_a_stored_prompt_names_itself(provide: Any, gate: Any, make: Any, case: str) -> None:
    """A Responses call with `prompt: {id, version}` needs no header; whatever stands there, the call is carried."""
    prompt, headers, expected = STORED[case]
    provider = await provide()
    weir = await gate(provider, dialects=["openai-responses"])
    body = json.dumps({"model": "m", "input": "hello", "stream": True} | ({} if prompt is None else {"prompt": prompt})).encode()
    client = await (await weir.client()).ask(make.post(body, "/v1/responses", headers)).finish()
    record = await weir.record()
    assert (client.status, record.prompt_name, record.prompt_version) == (200, *expected)
    assert provider.requests[0].body == body
