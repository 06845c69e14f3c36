"""docs/dialects.md says what the dialects do: its doors, its tables of members and its words for why an answer ended are compared with
the code."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct, structs

from gateway.core.call import Call
from gateway.core.errors import Rejected, UpstreamError
from gateway.core.events import Delta, Finished, Meaning, Started, ToolOpened
from gateway.core.prompt import BUDGETS, Choice, Image, Prompt, Reasoning, Shape, Text, Thought, Tool, ToolResult, ToolUse, Turn
from gateway.dialects import DIALECTS
from gateway.dialects.anthropic import reader as anthropic
from gateway.dialects.base import Asked, Dialect, Stamp
from gateway.dialects.bedrock import reader as bedrock
from gateway.dialects.gemini import reader as gemini
from gateway.dialects.ollama import words
from gateway.dialects.openai import reader as openai
from gateway.dialects.responses import documents as responses
from gateway.proxy import headers

PAGE = (Path(__file__).parents[2] / "docs" / "dialects.md").read_text()
TARGETS = ("openai", "openai-responses", "anthropic", "gemini", "bedrock", "ollama")
MODELS = {
    "openai": "gpt-4.1",
    "openai-responses": "gpt-4.1",
    "anthropic": "claude-sonnet-4-5",
    "gemini": "gemini-2.5-flash",
    "bedrock": "anthropic.claude-sonnet-4-5-20250929-v1:0",
    "ollama": "qwen3:8b",
}
"""What the table of members takes each target to be asked for."""


def table(heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, row by row, its head first."""
    below = re.split(r"\n#+ ", PAGE.partition(f"# {heading}\n")[2])[0].partition("\n|")[2].partition("\n\n")[0]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in below.splitlines()]
    assert all(len(row) == len(head) for row in rows), heading
    return [head, *rows]


def names(cell: str) -> list[str]:
    """Return what stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


USER = Turn("user", (Text("What is the depth of the harbour?"),))
TOOL = Tool("depth", "Tells how deep it is.", {"type": "object", "properties": {"at": {"type": "string"}}})
USE = ToolUse("call_1", "depth", '{"at":"harbour"}')
PNG = Image(media_type="image/png", data="iVBORw0KGgo=")
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"depth": {"type": "number"}}}


def prompt(*turns: Turn, **said: Any) -> Prompt:
    return Prompt(**{"model": "m", "stream": True, "turns": turns or (USER,), **said})


def tooled(**said: Any) -> Prompt:
    return prompt(tools=(TOOL,), **said)


def answered(use: ToolUse = USE, *thoughts: Thought, **result: Any) -> Prompt:
    """A prompt in which a tool was called, and its result came back."""
    said = {"id": "call_1", "name": "depth", "parts": (Text("12"),), **result}
    return prompt(USER, Turn("assistant", (*thoughts, use)), Turn("user", (ToolResult(**said),)), tools=(TOOL,))


class Member(Struct, frozen=True):
    """What a prompt can say, and the same prompt without it."""

    said: Prompt
    without: Prompt = prompt()


CHOSEN = {mode: Member(tooled(choice=Choice(mode)), tooled()) for mode in ("none", "required")}
MEMBERS: Mapping[str, Member] = {
    "system": Member(prompt(system=("Be brief.",))),
    "image, base64": Member(prompt(Turn("user", (*USER.parts, PNG)))),
    "image, URL": Member(prompt(Turn("user", (*USER.parts, Image(url="https://weir.example/a.png"))))),
    "tools": Member(tooled()),
    "tool `strict`": Member(prompt(tools=(structs.replace(TOOL, strict=True),)), tooled()),
    "tool choice: none": CHOSEN["none"],
    "tool choice: any": CHOSEN["required"],
    "tool choice: one by name": Member(tooled(choice=Choice("named", "depth")), tooled()),
    "one tool at a time": Member(tooled(parallel_tools=False), tooled()),
    "tool result: image": Member(answered(parts=(Text("12"), PNG)), answered()),
    "tool result: failed": Member(answered(failed=True), answered()),
    "stop sequences": Member(prompt(stop=("END",))),
    "temperature": Member(prompt(temperature=0.5)),
    "`top_p`": Member(prompt(top_p=0.5)),
    "`top_k`": Member(prompt(top_k=40)),
    "seed": Member(prompt(seed=7)),
    "frequency penalty": Member(prompt(frequency_penalty=0.5)),
    "presence penalty": Member(prompt(presence_penalty=0.5)),
    "token limit": Member(prompt(max_tokens=20_000)),
    "JSON mode": Member(prompt(shape=Shape())),
    "JSON schema": Member(prompt(shape=Shape(SCHEMA))),
    "reasoning: effort": Member(prompt(reasoning=Reasoning("high"))),
    "reasoning: budget": Member(prompt(reasoning=Reasoning(budget=2048))),
    "reasoning: none": Member(prompt(reasoning=Reasoning("none"))),
    "earlier reasoning": Member(answered(USE, Thought("It is tidal.")), answered()),
    "earlier reasoning, signed": Member(answered(USE, Thought("It is tidal.", "c2ln")), answered()),
    "signed tool call": Member(answered(structs.replace(USE, signature="c2ln")), answered()),
    "user id": Member(prompt(user="u1")),
}


def chat(part: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}, part]}]}


PDF = {"mime": "application/pdf", "data": "JVBERi0="}
UNSAID: Mapping[str, Mapping[str, dict[str, Any]]] = {
    "more than one answer": {
        "openai": {"n": 2},
        "openai-responses": {"n": 2},
        "gemini": {"generationConfig": {"candidateCount": 2}},
    },
    "log probabilities": {
        "openai": {"logprobs": True},
        "openai-responses": {"top_logprobs": 3},
        "gemini": {"generationConfig": {"responseLogprobs": True}},
        "ollama": {"logprobs": True},
    },
    "bias of tokens": {"openai": {"logit_bias": {"50256": -100}}},
    "spoken answer": {
        "openai": {"modalities": ["text", "audio"]},
        "gemini": {"generationConfig": {"responseModalities": ["AUDIO"]}},
    },
    "file": {
        "openai": chat({"type": "file", "file": {"file_data": PDF["data"]}}),
        "openai-responses": {"input": [{"role": "user", "content": [{"type": "input_file", "file_data": PDF["data"]}]}]},
        "anthropic": chat({"type": "document", "source": {"type": "base64", "media_type": PDF["mime"], "data": PDF["data"]}}),
        "gemini": {"contents": [{"parts": [{"inlineData": {"mimeType": PDF["mime"], "data": PDF["data"]}}]}]},
        "bedrock": {"messages": [{"role": "user", "content": [{"document": {"format": "pdf", "name": "a", "source": {}}}]}]},
    },
    "conversation kept by the provider": {
        "openai-responses": {"previous_response_id": "resp_1"},
        "anthropic": {"container": "container_1"},
        "gemini": {"cachedContent": "cachedContents/1"},
        "bedrock": {"promptVariables": {"a": {"text": "b"}}},
    },
    "tool that the provider runs": {
        "openai": {"web_search_options": {"search_context_size": "low"}},
        "openai-responses": {"tools": [{"type": "web_search"}]},
        "anthropic": {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        "gemini": {"tools": [{"googleSearch": {}}]},
        "bedrock": {"toolConfig": {"tools": [{"systemTool": {"name": "nova_grounding"}}]}},
    },
    "guard of the provider's": {
        "openai": {"moderation": {"model": "m"}},
        "openai-responses": {"moderation": {"model": "m"}},
        "gemini": {"safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]},
        "bedrock": {"guardrailConfig": {"guardrailIdentifier": "g"}},
    },
    "constraint of one server": {"openai": {"guided_regex": "[0-9]+"}},
    "keeping the answer": {"openai": {"store": True}, "openai-responses": {"store": True}},
    "metadata": {
        "openai": {"metadata": {"a": "b"}},
        "openai-responses": {"metadata": {"a": "b"}},
        "anthropic": {"metadata": {"team": "b"}},
        "gemini": {"labels": {"a": "b"}},
        "bedrock": {"requestMetadata": {"a": "b"}},
    },
    "cache hint": {
        "openai": {"prompt_cache_key": "k"},
        "openai-responses": {"prompt_cache_key": "k"},
        "anthropic": {"cache_control": {"type": "ephemeral"}},
        "bedrock": {"system": [{"text": "Be brief."}, {"cachePoint": {"type": "default"}}]},
        "ollama": {"keep_alive": "5m"},
    },
    "service tier": {
        "openai": {"service_tier": "flex"},
        "openai-responses": {"service_tier": "flex"},
        "anthropic": {"service_tier": "auto"},
        "gemini": {"serviceTier": "flex"},
        "bedrock": {"serviceTier": {"type": "flex"}},
    },
    "`min_p`": {"openai": {"min_p": 0.1}, "openai-responses": {"min_p": 0.1}, "ollama": {"options": {"min_p": 0.1}}},
    "repeat penalty": {
        "openai": {"repetition_penalty": 1.1},
        "openai-responses": {"repetition_penalty": 1.1},
        "ollama": {"options": {"repeat_penalty": 1.1}},
    },
    "reasoning that others cannot read": {
        "anthropic": {
            "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "x"}]}]
        },
        "gemini": {"contents": [{"parts": [{"text": "hi"}]}, {"role": "model", "parts": [{"text": "ho", "thoughtSignature": "c2ln"}]}]},
    },
    "anything unknown": {client: {"brand_new": 1} for client in TARGETS},
}
"""What a client may ask and no prompt can say, each in the words of some clients."""
ASKING: Mapping[str, dict[str, Any]] = {
    "openai": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    "openai-responses": {"model": "m", "input": "hi"},
    "anthropic": {"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}]},
    "gemini": {"contents": [{"parts": [{"text": "hi"}]}]},
    "bedrock": {"messages": [{"role": "user", "content": [{"text": "hi"}]}]},
    "ollama": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
}


def called_by(client: str, body: dict[str, Any], **query: str) -> Call:
    """Return a client's call at the first door of its dialect."""
    dialect, asked = DIALECTS[client], Asked({"model": "m", "id": "m", "deployment": "m"}, query)
    return dialect.parse_call(dialect.endpoints[0], json.dumps(body).encode(), asked)


def read(client: str, body: dict[str, Any]) -> Prompt:
    return DIALECTS[client].read_prompt(called_by(client, body))


def places(said: Any, at: str = "") -> Iterator[tuple[str, str]]:
    """Yield every member of a document by its path, with its value as text; lists are passed through."""
    if isinstance(said, dict):
        for name, value in said.items():
            place = f"{at}.{name}".lstrip(".")
            yield place, json.dumps(value)
            yield from places(value, place)
    if isinstance(said, list):
        for item in said:
            yield from places(item, at)


def body(dialect: Dialect, said: Prompt) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for place, value in places(json.loads(dialect.compose(said).body)):
        found.setdefault(place, []).append(value)
    return found


def verdict(target: str, model: str, member: Member, place: str | None) -> str:
    """Say what becomes of a member as the page would, if it may be found at `place`."""
    dialect, said, without = DIALECTS[target], structs.replace(member.said, model=model), structs.replace(member.without, model=model)
    try:
        told = body(dialect, said)
    except Rejected as refusal:
        return "refused" if (refusal.code, f" in the {target} dialect" in refusal.message) == ("untranslatable", True) else refusal.message
    untold, named = body(dialect, without), set(dialect.unsaid(said)) - set(dialect.unsaid(without))
    if told == untold:
        return "dropped" if named else "default"
    if place is not None and place in untold and place not in told:
        return f"as no `{place}`"
    assert place is not None, sorted(told)
    assert told[place] != untold.get(place), place
    return f"weakened, as `{place}`" if named else f"as `{place}`"


MORE: Mapping[str, Member] = {
    **MEMBERS,
    "temperature above 1": Member(prompt(temperature=1.5)),
    "`top_p` beside temperature": Member(prompt(temperature=0.5, top_p=0.5), prompt(temperature=0.5)),
    "temperature beside reasoning": Member(prompt(reasoning=Reasoning("high"), temperature=0.5), prompt(reasoning=Reasoning("high"))),
    "reasoning beside a demanded tool": Member(
        tooled(choice=Choice("required"), reasoning=Reasoning("high")), tooled(choice=Choice("required"))
    ),
}
(_, *COLUMNS), *ROWS = table("Members")


def place_in(cell: str) -> str | None:
    return next(iter(names(cell)), None)


def test_the_table_of_members_has_every_member_and_no_other() -> None:
    """A row for each, and a column for each target."""
    assert [row[0] for row in ROWS] == list(MEMBERS)
    assert [name.strip("`") for name in COLUMNS] == list(TARGETS)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_what_becomes_of_a_member_is_what_the_page_says(row: list[str], target: str) -> None:
    """Composed with and without it, a call differs where the page says it does, or is refused, or leaves the member out and names it."""
    cell = row[1 + TARGETS.index(target)]
    assert cell == verdict(target, MODELS[target], MEMBERS[row[0]], place_in(cell))


@pytest.mark.parametrize("row", table("Where the model decides")[1:], ids=" ".join)
def test_what_a_model_decides_is_what_the_page_says(row: list[str]) -> None:
    """Each of the models named is told what the row says."""
    member, target, models, cell = row
    for model in names(models):
        assert cell == verdict(target.strip("`"), model, MORE[member], place_in(cell)), model


def test_the_numbers_below_the_tables_are_those_of_the_code() -> None:
    """The limit that Anthropic is told of, the stops that Gemini takes, what an effort is worth."""
    assert "4096" in PAGE
    assert DIALECTS["anthropic"].compose(prompt()).max_tokens == 4096
    assert DIALECTS["gemini"].compose(prompt(stop=("x",) * 5)).body
    with pytest.raises(Rejected, match="`stop` cannot be expressed in the gemini dialect"):
        DIALECTS["gemini"].compose(prompt(stop=("x",) * 6))
    assert ", ".join(f"{word} {tokens}" for word, tokens in BUDGETS.items() if tokens) + " tokens" in PAGE


def test_azure_is_told_as_openai_is_but_for_the_limit() -> None:
    """The page has no column for it."""
    said = [(DIALECTS["azure"].compose(member.said), DIALECTS["openai"].compose(member.said)) for member in MEMBERS.values()]
    assert all(azure.body.replace(b"max_completion_tokens", b"max_tokens") == openai.body for azure, openai in said)
    assert any(azure.body != openai.body for azure, openai in said)


(_, *CLIENTS), *ASKED = table("What only some clients can ask")


def test_the_table_of_what_only_some_can_ask_has_every_row() -> None:
    """A row for each, and a column for each dialect of clients."""
    assert [row[0] for row in ASKED] == list(UNSAID)
    assert [name.strip("`") for name in CLIENTS] == list(TARGETS)


@pytest.mark.parametrize("client", TARGETS)
@pytest.mark.parametrize("row", ASKED, ids=lambda row: row[0])
def test_what_no_prompt_can_say_is_refused_or_dropped_as_the_page_says(row: list[str], client: str) -> None:
    """By the name that the client is told."""
    said = UNSAID[row[0]].get(client)
    assert row[1 + TARGETS.index(client)] == ("" if said is None else outcome(client, {**ASKING[client], **said}))


def outcome(client: str, asked: dict[str, Any]) -> str:
    """Say what a client is told, as the page would."""
    try:
        left_out = read(client, asked).harmless
    except Rejected as refusal:
        return f"{'refused' if refusal.code == 'untranslatable' else refusal.code}, {refusal.message.partition(' cannot')[0]}"
    return ", ".join(["dropped", *(f"`{name}`" for name in left_out)])


MEANINGS: tuple[Meaning, ...] = ("stop", "length", "tools", "filtered", "other")
WORDS: Mapping[str, Mapping[str, Meaning]] = {
    "openai": openai.MEANINGS,
    "openai-responses": responses.MEANINGS,
    "anthropic": anthropic.MEANINGS,
    "gemini": gemini.MEANINGS,
    "bedrock": bedrock.MEANINGS,
    "ollama": {word: words.meaning(word, called=False) for word in ("stop", "length", "content_filter")},
}
"""What upstreams of each dialect say when an answer ends."""


@pytest.mark.parametrize("target", TARGETS)
def test_why_an_answer_ended_is_read_as_the_page_says(target: str) -> None:
    """Every word of every dialect stands in the row of its meaning."""
    head, *rows = table("Why an answer ended")
    found = {word: row[0] for row in rows for word in names(row[head.index(f"`{target}`")])}
    assert found == dict(WORDS[target])


@pytest.mark.parametrize("client", TARGETS)
@pytest.mark.parametrize("meaning", MEANINGS)
def test_an_end_is_said_as_the_page_says(meaning: Meaning, client: str) -> None:
    """Documents are written from events that end in a word of nobody's."""
    head, *rows = table("How an end is said")
    (cell,) = (row[head.index(f"`{client}`")] for row in rows if row[0] == meaning)
    called = [ToolOpened(0, "call_1", "depth"), Delta("arguments", "{}", 0)] if meaning == "tools" else []
    events = [Started("a", "m"), Delta("text", "hi"), *called, Finished("nobody's", meaning)]
    assert ending(client, events) == (names(cell) or ["nobody's"])


def ending(client: str, events: list[Any]) -> list[str]:
    dialect = DIALECTS[client]
    written = json.loads(dialect.write_document(called_by(client, ASKING[client]), events, Stamp("0" * 32, 0)))
    at = {
        "openai": ("choices.finish_reason",),
        "openai-responses": ("status", "incomplete_details.reason"),
        "anthropic": ("stop_reason",),
        "gemini": ("candidates.finishReason",),
        "bedrock": ("stopReason",),
        "ollama": ("done_reason",),
    }
    found = dict(reversed(list(places(written))))
    return [json.loads(found[place]) for place in at[client] if place in found]


DOORS = {row[0].strip("`"): row[1:] for row in table("Doors")[1:]}


@pytest.mark.parametrize("name", DIALECTS)
def test_the_doors_and_credentials_are_those_of_the_page(name: str) -> None:
    """Every door that takes a POST, what is asked besides, and the header that carries an upstream's key."""
    dialect = DIALECTS[name]
    doors, besides, _, credential = DOORS[name]
    assert names(doors) == [endpoint.path for endpoint in dialect.endpoints if endpoint.method == "POST"]
    assert names(besides) == [*dialect.models_paths, *dialect.facts]
    assert names(credential) == [f"{header}: {key}".replace(" k", "").removesuffix(":") for header, key in dialect.credential("k").items()]


def test_the_framings_are_those_of_the_page() -> None:
    """Media type and keepalive of every dialect's streams, Gemini's two among them."""
    rows = {name: row for row in table("Streams")[1:] for name in (names(row[0]) if "gemini" not in row[0] else [row[0]])}
    calls = {name: (name, called_by(name, ASKING.get(name, ASKING["openai"]))) for name in DIALECTS if name != "gemini"}
    calls["`gemini` without"] = "gemini", called_by("gemini", ASKING["gemini"])
    calls["`gemini` with `?alt=sse`"] = "gemini", called_by("gemini", ASKING["gemini"], alt="sse")
    assert set(calls) == set(rows)
    for row, (name, call) in calls.items():
        framing, (_, media_type, keepalive, *_) = DIALECTS[name].framing(call), rows[row]
        assert names(media_type) == [framing.media_type]
        said = framing.keepalive.decode().split("\n")[0].strip()
        assert names(keepalive) == ([said] if said else [])
        assert (keepalive == "none") == (not framing.keepalive)


def test_what_ends_a_stream_in_an_error_is_not_its_end() -> None:
    """No dialect's error closes a stream as an answer would."""
    for name, dialect in DIALECTS.items():
        said = dialect.error_event(UpstreamError("no"), called_by(name, ASKING.get(name, ASKING["openai"])), begun=True)
        assert b"[DONE]" not in said
        assert b"message_stop" not in said
        assert b"no" in said


def test_the_headers_that_cross_are_those_of_the_page() -> None:
    """Those sent upstream, those kept by a translated call, and those kept by a translated answer."""
    forwarded, kept, returned = re.split(
        r" A\s+translated call |; a translated answer ", PAGE.partition("**Headers.**")[2].partition("`anthropic-version`")[0]
    )
    assert set(names(forwarded)) == {*headers.FORWARDED, *headers.FORWARDED_PREFIXES}
    assert set(names(kept)) == {name for name, _ in headers.translatable([(name, "") for name in names(forwarded)])}
    assert set(names(returned)) == headers.RETURNED_TRANSLATED
