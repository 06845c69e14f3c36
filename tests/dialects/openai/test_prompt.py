"""Requests said in no dialect and said again: what is carried over, what is dropped and named, what is refused."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.call import Call
from gateway.core.errors import Rejected
from gateway.core.prompt import Choice, Image, Prompt, Reasoning, Shape, Text, Thought, Tool, ToolResult, ToolUse, Turn
from gateway.dialects.base import Asked, Outgoing
from gateway.dialects.openai import OPENAI

USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "level", "description": "of the river", "parameters": {"type": "object"}, "strict": True}}
CALLED = {"id": "t1", "type": "function", "function": {"name": "level", "arguments": '{"at":"weir"}'}}


def call(body: bytes | None = None, endpoint: int = 0, **members: object) -> Call:
    said = body if body is not None else json.dumps({"model": "m", "messages": [USER], **members}).encode()
    return OPENAI.parse_call(OPENAI.endpoints[endpoint], said, Asked())


def read(**members: object) -> Prompt:
    return OPENAI.read_prompt(call(**members))


def refused(**members: object) -> str:
    with pytest.raises(Rejected) as caught:
        read(**members)
    assert (caught.value.status, caught.value.code) == (400, "untranslatable")
    return caught.value.message.split("`")[1]


def composed(prompt: Prompt) -> dict:
    made = OPENAI.compose(prompt)
    assert OPENAI.outgoing(made, None, False) == OPENAI.outgoing(made, None, True) == Outgoing(made.path, made.body)
    assert OPENAI.parse_call(OPENAI.endpoints[0], made.body, Asked()) == made
    return json.loads(made.body)


def said(*parts: object, **members: object) -> dict:
    """What is composed of one turn of a user."""
    return composed(Prompt(model="m", stream=False, turns=(Turn("user", parts),), **members))


EVERYTHING = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "How high?"}, {"type": "image_url", "image_url": {"url": "https://h/a.png"}}],
        },
        {"role": "assistant", "content": "Let me see.", "tool_calls": [CALLED, {**CALLED, "id": "t2"}]},
        {"role": "tool", "tool_call_id": "t1", "content": "3 m"},
        {"role": "tool", "tool_call_id": "t2", "content": "4 m"},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}]},
    ],
    "tools": [TOOL],
    "tool_choice": "required",
    "parallel_tool_calls": False,
    "max_tokens": 9,
    "temperature": 0.5,
    "top_p": 0.9,
    "seed": 7,
    "frequency_penalty": 0.1,
    "presence_penalty": 0.2,
    "user": "u",
    "stop": ["a", "b"],
    "reasoning_effort": "low",
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True}},
    "stream": True,
    "stream_options": {"include_usage": True},
}


def test_everything_that_matters_is_read():
    """Each member in its place, tool results in the user's turn, under the name of their tool."""
    assert read(**EVERYTHING) == Prompt(
        model="m",
        stream=True,
        system=("Be brief.",),
        turns=(
            Turn("user", (Text("How high?"), Image(url="https://h/a.png"))),
            Turn("assistant", (Text("Let me see."), *(ToolUse(name, "level", '{"at":"weir"}') for name in ("t1", "t2")))),
            Turn(
                "user",
                (
                    *(ToolResult("t1", "level", (Text("3 m"),)), ToolResult("t2", "level", (Text("4 m"),))),
                    Image(media_type="image/png", data="QUJD"),
                ),
            ),
        ),
        tools=(Tool("level", "of the river", {"type": "object"}, strict=True),),
        choice=Choice("required"),
        parallel_tools=False,
        max_tokens=9,
        temperature=0.5,
        top_p=0.9,
        seed=7,
        frequency_penalty=0.1,
        presence_penalty=0.2,
        stop=("a", "b"),
        shape=Shape({"type": "object"}, "n", strict=True),
        reasoning=Reasoning("low"),
        user="u",
    )


def test_what_is_read_is_said_again():
    """A request that is read and composed asks the same: member by member, what came."""
    assert composed(read(**EVERYTHING)) == {"model": "m", **EVERYTHING}


@pytest.mark.parametrize(
    ("messages", "turns"),
    [
        ([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}], [Turn("user", (Text("a"), Text("b")))]),
        ([{"role": "user", "content": ""}, {"role": "assistant", "content": None}], []),
        ([{"role": "assistant", "refusal": "no", "content": None}], [Turn("assistant", (Text("no"),))]),
        ([{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}], [Turn("assistant", (Text("no"),))]),
        ([{"role": "assistant", "reasoning_content": "hm", "content": "a"}], [Turn("assistant", (Thought("hm"), Text("a")))]),
        (
            [{"role": "assistant", "tool_calls": [{"id": "t", "function": {"name": "f", "arguments": " "}}]}],
            [Turn("assistant", (ToolUse("t", "f", "{}"),))],
        ),
        ([{"role": "tool", "tool_call_id": "t", "name": "f", "content": "x"}], [Turn("user", (ToolResult("t", "f", (Text("x"),)),))]),
    ],
)
def test_turns_are_gathered(messages, turns):
    """Two turns of one role never follow each other, and empty text is no part of one."""
    assert list(read(messages=messages).turns) == turns


def test_the_system_is_heard_first():
    """Whatever the system says, under either of its names and wherever it stands, goes before all turns."""
    system = [{"role": "system", "content": "a"}, USER, {"role": "developer", "content": [{"type": "text", "text": "b"}]}]
    prompt = read(messages=system)
    assert (prompt.system, len(prompt.turns)) == (("a", "b"), 1)
    assert composed(prompt)["messages"] == [{"role": "system", "content": "a\n\nb"}, USER]


@pytest.mark.parametrize(
    ("members", "name"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "v", "format": "wav"}}, "audio"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"function_call": {"name": "f"}}, "function_call"),
        ({"web_search_options": {"a": 1}}, "web_search_options"),
        ({"moderation": {"mode": "block"}}, "moderation"),
        ({"response_format": {"type": "grammar"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"guided_json": {"type": "object"}}, "guided_json"),
        ({"stop_token_ids": [1]}, "stop_token_ids"),
        ({"grammar": "root ::= x"}, "grammar"),
        ({"messages": [{"role": "assistant", "audio": {"id": "a"}}]}, "messages.audio"),
        ({"messages": [{"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}]}, "messages.function_call"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tools": [{"type": "custom", "custom": {"name": "c"}}]}, "tools.custom"),
        ({"reasoning_effort": "gigantic"}, "reasoning_effort"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]}, "messages.content.input_audio"),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}, "messages.content.file"),
        ({"messages": [{"role": "user", "content": [{"no": "type"}]}]}, "messages.content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:text,x"}}]}]},
            "messages.content.image_url.url",
        ),
        (
            {"messages": [{"role": "system", "content": [{"type": "image_url", "image_url": {"url": "https://h"}}]}]},
            "messages.content",
        ),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "t", "type": "custom"}]}]}, "messages.tool_calls.custom"),
        ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages.role"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.role"),
    ],
)
def test_what_no_other_dialect_could_be_told_is_refused_by_its_name(members, name):
    """An answer would be another without it: the client is told which member stands in the way."""
    assert refused(**members) == name


def test_what_asks_for_nothing_is_not_refused():
    """Defaults and empty values, said aloud."""
    assert read(stop="") == read(stop=[""]) == read(messages=[{**USER, "audio": None, "function_call": None}]) == read()
    prompt = read(n=1, logprobs=False, top_logprobs=0, logit_bias={}, modalities=["text"], audio=None, functions=None, tools=[], stop=None)
    assert prompt == read()
    assert not prompt.harmless


def test_what_no_answer_depends_on_is_dropped_and_named():
    """Cache hints, ids, tiers and unknown members, also within messages, parts and tools."""
    part = {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}
    image = {"type": "image_url", "image_url": {"url": "https://h", "detail": "low"}}
    prompt = read(
        messages=[{"role": "user", "name": "ann", "content": [part, image]}],
        tools=[{**TOOL, "cache_control": {}, "x": 1}],
        store=True,
        metadata={"a": "b"},
        service_tier="flex",
        prompt_cache_key="k",
        min_p=0.1,
    )
    names = {"store", "metadata", "service_tier", "prompt_cache_key", "min_p", "tools.x"}
    assert set(prompt.harmless) == names | {"messages.name", "messages.content.cache_control", "messages.content.image_url.detail"}
    assert OPENAI.unsaid(prompt) == prompt.harmless


@pytest.mark.parametrize(
    "members",
    [
        {"temperature": "hot"},
        {"messages": "hi"},
        {"messages": None},
        {"messages": [7]},
        {"messages": [{"content": "x"}]},
        {"messages": [{"role": "user", "content": 7}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}]},
        {"tools": "none"},
        {"tools": [{"type": "function", "function": {}}]},
        {"stop": 7},
    ],
)
def test_what_is_no_chat_request_is_refused(members):
    """Nobody else checks what we read: a wrong type is told with its place."""
    with pytest.raises(Rejected) as caught:
        read(**members)
    assert (caught.value.status, caught.value.code) == (400, "invalid_request")


@pytest.mark.parametrize("endpoint", [1, 2])
def test_only_chat_is_translated(endpoint):
    """Completions and embeddings exist in this family only."""
    with pytest.raises(Rejected) as caught:
        OPENAI.read_prompt(call(b'{"model":"m","prompt":"x","input":"x"}', endpoint))
    assert caught.value.code == "untranslatable"


@pytest.mark.parametrize("member", ["seed", "max_tokens", "max_completion_tokens", "top_k"])
def test_a_number_beyond_64_bits_is_refused(member):
    """No other dialect has a place for it, and no span holds it."""
    asked = call(**{member: 10**19})
    assert (asked.seed, asked.max_tokens) == (None, None)
    with pytest.raises(Rejected, match=member) as caught:
        OPENAI.read_prompt(asked)
    assert (caught.value.status, caught.value.code) == (400, "invalid_request")
    assert read(**{member: 2**63 - 1})


def test_half_an_emoji_is_read():
    """It becomes a question mark: other dialects need not be able to say it."""
    prompt = OPENAI.read_prompt(call(b'{"model":"m","messages":[{"role":"user","content":"\\ud83d cut"}]}'))
    assert prompt.turns == (Turn("user", (Text("? cut"),)),)


@pytest.mark.parametrize(
    ("choice", "asked"),
    [("auto", Choice("auto")), ("none", Choice("none")), ({"type": "function", "function": {"name": "f"}}, Choice("named", "f"))],
)
def test_every_choice_of_tools_is_carried_over(choice, asked):
    """As a word or by name."""
    prompt = read(tools=[TOOL], tool_choice=choice)
    assert prompt.choice == asked
    assert composed(prompt)["tool_choice"] == choice


@pytest.mark.parametrize(
    ("asked", "shape"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, Shape()),
        ({"type": "json_object", "schema": {"type": "object"}}, Shape({"type": "object"})),
        ({"type": "json_schema", "json_schema": {}}, Shape()),
    ],
)
def test_every_shape_is_read(asked, shape):
    """Text is no shape; JSON may have a schema."""
    assert read(response_format=asked).shape == shape


@pytest.mark.parametrize(
    ("reasoning", "word"),
    [
        (Reasoning("minimal"), "minimal"),
        (Reasoning(budget=0), "none"),
        (Reasoning(budget=1024), "low"),
        (Reasoning(budget=8000), "medium"),
        (Reasoning(budget=20000), "high"),
        (Reasoning(budget=32000), "xhigh"),
        (Reasoning(budget=2**40), "xhigh"),
        (Reasoning("max"), "xhigh"),
        (Reasoning("low", 32000), "low"),
        (Reasoning(), None),
    ],
)
def test_a_budget_is_said_as_a_word(reasoning, word):
    """Tokens of thinking have no member here; an effort comes nearest."""
    assert said(Text("hi"), reasoning=reasoning).get("reasoning_effort") == word


@pytest.mark.parametrize(
    ("model", "name"),
    [
        *((model, "max_tokens") for model in ("gpt-4o", "llama-3", "o-model", "mistral/o-3")),
        *((model, "max_completion_tokens") for model in ("o3-mini", "gpt-5.1", "openai/o1")),
    ],
)
def test_the_limit_has_the_name_its_model_takes(model, name):
    """OpenAI's reasoning models refuse the old name, many other servers the new one."""
    made = json.loads(OPENAI.compose(Prompt(model=model, stream=False, max_tokens=5)).body)
    assert made[name] == 5
    assert len({"max_tokens", "max_completion_tokens"} & made.keys()) == 1


def test_tools_answer_before_the_user_speaks():
    """A message for each result, of text; pictures in results follow in the user's own message."""
    shown = ToolResult("t", "f", (Text("a"), Image(url="https://h"), Text("b")), failed=True)
    assert said(Text("and?"), shown)["messages"] == [
        {"role": "tool", "tool_call_id": "t", "content": "a\nb"},
        {"role": "user", "content": [{"type": "text", "text": "and?"}, {"type": "image_url", "image_url": {"url": "https://h"}}]},
    ]


def test_what_is_left_out_is_named():
    """Thoughts of earlier answers, the mark of a failed tool, and a member that is not OpenAI's."""
    turns = (Turn("assistant", (Thought("hm"), ToolUse("t", "f", "{}"))), Turn("user", (ToolResult("t", "f", (), failed=True),)))
    prompt = Prompt(model="m", stream=False, turns=turns, top_k=4, harmless=("x",))
    assert OPENAI.unsaid(prompt) == ("x", "top_k", "thought", "tool_result.failed")
    assert "top_k" not in composed(prompt)
    assert composed(prompt)["messages"] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "t", "content": ""},
    ]


def test_an_assistant_shows_no_pictures():
    """There is no way to say it, and it is not for us to leave it out."""
    with pytest.raises(Rejected, match="`image`"):
        OPENAI.compose(Prompt(model="m", stream=False, turns=(Turn("assistant", (Image(url="https://h"),)),)))


def test_tools_are_chosen_only_where_there_are_any():
    """OpenAI refuses a choice of no tools."""
    assert said(Text("hi"), choice=Choice("none"), parallel_tools=True).keys() == {"model", "messages"}


def test_half_an_emoji_is_said():
    """A prompt from elsewhere may hold one: it goes out as the escape it was."""
    assert said(Text("\ud83d"))["messages"] == [{"role": "user", "content": "\ud83d"}]


WORDS = (
    *("role", "content", "type", "text", "tool_calls", "function", "name", "id", "image_url", "url", "tool_call_id", "arguments"),
    *("json_schema", "schema", "user", "assistant", "tool", "system", "refusal"),
)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=500, deadline=None)
@given(messages=st.one_of(ANY, st.lists(st.fixed_dictionaries({"role": st.sampled_from(WORDS), "content": ANY}))), member=ANY)
def test_any_request_is_a_prompt_or_refused(messages, member):
    """Nothing else is raised, and every prompt can be said again."""
    for name in ("tools", "tool_choice", "response_format", "stop", "x"):
        try:
            prompt = read(messages=messages, **{name: member})
        except Rejected:
            continue
        again = OPENAI.read_prompt(OPENAI.compose(prompt))
        assert (again.tools, again.shape, again.stop) == (prompt.tools, prompt.shape, prompt.stop)


def test_allowed_tools_are_the_only_ones():
    """A choice among some tools is said by leaving out the others."""
    other = {"type": "function", "function": {"name": "other"}}
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "level"}}]}
    prompt = read(tools=[TOOL, other], tool_choice={"type": "allowed_tools", "allowed_tools": allowed})
    assert (prompt.choice, [tool.name for tool in prompt.tools]) == (Choice("required"), ["level"])


@pytest.mark.parametrize("choice", [Choice("required"), Choice("named", "f")])
def test_a_choice_among_no_tools_is_refused(choice):
    """Nothing could be called; a choice that asks for nothing is left out, since servers refuse it."""
    with pytest.raises(Rejected, match="`tool_choice`"):
        said(Text("hi"), choice=choice)
    assert "tool_choice" not in said(Text("hi"), choice=Choice("auto"))


def test_an_address_may_stand_for_its_picture():
    """As Mistral has it."""
    part = {"type": "image_url", "image_url": "https://h/a.png"}
    assert read(messages=[{"role": "user", "content": [part]}]).turns == (Turn("user", (Image(url="https://h/a.png"),)),)


def test_what_only_another_provider_can_check_is_named():
    """The signature of a call is proof to who made it, and no member here."""
    turn = Turn("assistant", (ToolUse("t", "f", "{}", signature="s"),))
    assert OPENAI.unsaid(Prompt(model="m", stream=False, turns=(turn,))) == ("signature",)
