"""A request in no dialect as a Messages call: what it asks for, what it does without, what it refuses."""

import json
from typing import Any

import pytest

from gateway.core.errors import Rejected
from gateway.core.prompt import Choice, Image, Prompt, Reasoning, Shape, Text, Thought, Tool, ToolResult, ToolUse, Turn
from gateway.dialects.anthropic import ANTHROPIC, compose
from gateway.dialects.base import Asked, Outgoing

HI = (Turn("user", (Text("hi"),)),)
WEATHER = Tool("weather", "of a city", {"type": "object", "properties": {}})


def prompted(**members: Any) -> Prompt:
    return Prompt(**{"model": "m", "stream": False, "turns": HI, **members})


def composed(**members: Any) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(ANTHROPIC.compose(prompted(**members)).body)
    return said


RICH = Prompt(
    model="m",
    stream=True,
    system=("Be brief.", "Be kind."),
    turns=(
        Turn("user", (Text("Where?"), Image("image/png", "aGk="), Image(url="https://example.org/a.jpg"))),
        Turn("assistant", (Thought("A bridge.", "c2ln"), Text("Wait."), ToolUse("toolu_1", "weather", '{"city":"Graz"}'))),
        Turn("user", (ToolResult("toolu_1", "weather", (Text("sunny"), Image(url="u")), failed=True), Text("And?"))),
    ),
    tools=(WEATHER, Tool("now", "", {"type": "object"}, strict=True)),
    choice=Choice("named", "now"),
    parallel_tools=False,
    max_tokens=9000,
    temperature=0.5,
    top_k=40,
    stop=("END",),
    shape=Shape({"type": "object"}, strict=True),
    reasoning=Reasoning("none"),
    user="u1",
)


def test_what_is_composed_is_read_as_the_same() -> None:
    """Nothing that matters is lost between the two."""
    call = ANTHROPIC.compose(RICH)
    assert ANTHROPIC.read_prompt(call) == RICH
    assert ANTHROPIC.unsaid(RICH) == ()
    (chat, _) = ANTHROPIC.endpoints
    assert ANTHROPIC.parse_call(chat, call.body, Asked()) == call


def test_a_composed_call_goes_out_as_it_is() -> None:
    """Its path and body are ready; the version goes with it as a header."""
    call = ANTHROPIC.compose(RICH)
    assert ANTHROPIC.outgoing(call, None, inject_usage=False) == Outgoing("/v1/messages", call.body, (("anthropic-version", "2023-06-01"),))


def test_little_is_said_in_few_words() -> None:
    """But for the limit, which the API wants from everybody."""
    assert composed() == {"model": "m", "max_tokens": 4096, "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}
    assert composed(stream=True)["stream"] is True
    assert composed(temperature=0.0)["temperature"] == 0.0
    assert composed(max_tokens=0)["max_tokens"] == 0


def test_instructions_alone_are_the_user_s() -> None:
    """The API wants at least one message."""
    said = composed(system=("Say hi.",), turns=())
    assert (said["messages"], "system" in said) == ([{"role": "user", "content": [{"type": "text", "text": "Say hi."}]}], False)


def test_results_come_first_and_nothing_is_empty() -> None:
    """The API refuses text between a call and its result, and text of nothing but white space."""
    said = composed(
        turns=(
            Turn("user", (Text("a"),)),
            Turn("assistant", (Text(""), Text(" \n"), Thought("unsigned"))),
            Turn("user", (Text("b"), ToolResult("call 1/é", "f", ()))),
            Turn("assistant", (ToolUse("call 1/é", "f", ""),)),
        ),
        system=("", "\n"),
    )
    assert said["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "a"},
                {"type": "tool_result", "tool_use_id": "call_1__"},
                {"type": "text", "text": "b"},
            ],
        },
        {"role": "assistant", "content": [{"type": "tool_use", "id": "call_1__", "name": "f", "input": {}}]},
    ]
    assert "system" not in said


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({}, None),
        ({"choice": Choice("auto")}, {"type": "auto"}),
        ({"choice": Choice("required"), "parallel_tools": True}, {"type": "any"}),
        ({"choice": Choice("none"), "parallel_tools": False}, {"type": "none"}),
        ({"parallel_tools": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"parallel_tools": False, "tools": ()}, None),
        ({"choice": Choice("auto"), "tools": ()}, None),
    ],
)
def test_which_tools_to_use(members: dict[str, Any], said: Any) -> None:
    """One at a time is a part of the choice here, and neither is said without tools."""
    assert composed(**{"tools": (WEATHER,), **members}).get("tool_choice") == said


CONTINUED = (*HI, Turn("assistant", (ToolUse("t", "f", "{}"),)), Turn("user", (ToolResult("t", "f", (Text("x"),)),)))


ADAPTIVE = {"type": "adaptive", "display": "summarized"}
LEFT_OUT = (None, None, 4096)


@pytest.mark.parametrize(
    ("members", "thinking", "effort", "limit"),
    [
        ({"reasoning": Reasoning()}, None, None, 4096),
        ({"reasoning": Reasoning("none")}, {"type": "disabled"}, None, 4096),
        ({"reasoning": Reasoning(None, 0)}, {"type": "disabled"}, None, 4096),
        ({"reasoning": Reasoning("minimal")}, {"type": "enabled", "budget_tokens": 1024}, None, 5120),
        ({"reasoning": Reasoning("medium"), "max_tokens": 9000}, {"type": "enabled", "budget_tokens": 8192}, None, 9000),
        ({"reasoning": Reasoning("max")}, {"type": "enabled", "budget_tokens": 31999}, None, 32_000),
        ({"reasoning": Reasoning(None, 5000)}, {"type": "enabled", "budget_tokens": 5000}, None, 9096),
        ({"reasoning": Reasoning(None, 5)}, {"type": "enabled", "budget_tokens": 1024}, None, 5120),
        ({"reasoning": Reasoning(None, 5000), "max_tokens": 3000}, {"type": "enabled", "budget_tokens": 2999}, None, 3000),
        ({"reasoning": Reasoning(None, 5000), "max_tokens": 1024}, None, None, 1024),
        ({"reasoning": Reasoning("low", 5000), "max_tokens": 9000, "turns": CONTINUED}, None, None, 9000),
        ({"reasoning": Reasoning("low"), "turns": CONTINUED}, None, None, 4096),
        ({"reasoning": Reasoning("low"), "choice": Choice("required"), "tools": (WEATHER,)}, None, None, 4096),
        ({"model": "claude-opus-4-7", "reasoning": Reasoning("minimal")}, ADAPTIVE, "low", 4608),
        ({"model": "claude-opus-4-6", "reasoning": Reasoning("xhigh"), "max_tokens": 50}, ADAPTIVE, "high", 50),
        ({"model": "claude-sonnet-5", "reasoning": Reasoning("max")}, ADAPTIVE, "max", 64_000),
        ({"model": "claude-opus-5", "reasoning": Reasoning(None, 5000), "turns": CONTINUED}, ADAPTIVE, "medium", 9096),
        ({"model": "claude-opus-5", "reasoning": Reasoning("high"), "choice": Choice("named", "weather"), "tools": (WEATHER,)}, *LEFT_OUT),
        ({"model": "claude-opus-5", "reasoning": Reasoning("none")}, {"type": "disabled"}, None, 4096),
    ],
)
def test_how_much_to_think(members: dict[str, Any], thinking: Any, effort: str | None, limit: int) -> None:
    """Newer Claudes take an effort, all others a budget that fits; where the API would refuse either it is left out, and named."""
    said = composed(**members)
    assert (said.get("thinking"), said.get("output_config", {}).get("effort"), said["max_tokens"]) == (thinking, effort, limit)
    left_out = thinking is None and bool(members["reasoning"].tokens)
    assert ANTHROPIC.unsaid(prompted(**members)) == (("reasoning",) if left_out else ())


@pytest.mark.parametrize(
    ("model", "version"),
    [
        ("claude-3-7-sonnet-20250219", (0, 0)),
        ("claude-sonnet-4-20250514", (4, 0)),
        ("claude-haiku-4-5-20251001", (4, 5)),
        ("claude-opus-4-0", (4, 0)),
        ("eu.anthropic.claude-opus-4-6-v1", (4, 6)),
        ("anthropic/claude-opus-4.8", (4, 8)),
        ("claude-opus-5", (5, 0)),
        ("claude-fable-5-1", (5, 1)),
        ("glm-4.6", (0, 0)),
    ],
)
def test_a_claude_s_version_is_in_its_name(model: str, version: tuple[int, int]) -> None:
    """Before or after a date, with a hyphen or a dot, wherever it is served."""
    assert compose._version(model) == version


@pytest.mark.parametrize(
    ("members", "sampling", "left_out"),
    [
        ({"temperature": 0.5, "top_p": 0.9, "top_k": 3}, {"temperature": 0.5, "top_k": 3}, ("top_p",)),
        ({"top_p": 0.9}, {"top_p": 0.9}, ()),
        ({"temperature": 1.7}, {"temperature": 1.0}, ("temperature",)),
        ({"temperature": 0.5, "top_k": 3, "reasoning": Reasoning("low")}, {}, ("temperature", "top_k")),
        ({"temperature": 0.5, "reasoning": Reasoning("none")}, {"temperature": 0.5}, ()),
        ({"temperature": 1.0, "top_p": 1.0, "model": "claude-opus-4-7"}, {}, ("temperature", "top_p")),
        ({"temperature": 0.0, "model": "claude-sonnet-4-6"}, {"temperature": 0.0}, ()),
    ],
)
def test_how_to_sample(members: dict[str, Any], sampling: dict[str, Any], left_out: tuple[str, ...]) -> None:
    """What the API would refuse beside the rest is left out, and named."""
    said = composed(**members)
    assert {member: said[member] for member in ("temperature", "top_p", "top_k") if member in said} == sampling
    assert ANTHROPIC.unsaid(prompted(**members)) == left_out
    call = ANTHROPIC.compose(prompted(**members))
    assert (call.temperature, call.top_p) == (sampling.get("temperature"), sampling.get("top_p"))


def test_what_is_left_out_is_named() -> None:
    """What the client's dialect named before, seeds, and reasoning that nobody signed."""
    prompt = prompted(harmless=("store", "seed"), seed=5, turns=(*HI, Turn("assistant", (Thought("hm"), Text("ok")))))
    assert ANTHROPIC.unsaid(prompt) == ("store", "seed", "thought")
    assert "seed" not in json.loads(ANTHROPIC.compose(prompt).body)
    assert ANTHROPIC.unsaid(prompted(frequency_penalty=0.0, parallel_tools=True)) == ()
    assert ANTHROPIC.unsaid(prompted(frequency_penalty=0.5, presence_penalty=-1.0)) == ("frequency_penalty", "presence_penalty")


@pytest.mark.parametrize(
    ("members", "member"),
    [
        ({"stop": ("END", "\n")}, "stop"),
        ({"shape": Shape()}, "shape"),
        ({"choice": Choice("required")}, "choice"),
        ({"turns": (Turn("user", (Image(data="aGk="),)),)}, "image"),
        ({"turns": (Turn("assistant", (ToolUse("t", "f", '{"cut'),)),)}, "arguments"),
        ({"turns": (Turn("assistant", (ToolUse("t", "f", "[1]"),)),)}, "arguments"),
        ({"turns": (Turn("assistant", (ToolUse("t", "f", '{"x":NaN}'),)),)}, "arguments"),
    ],
)
def test_what_cannot_be_said_is_refused(members: dict[str, Any], member: str) -> None:
    """By name: an answer that depends on it would be another answer."""
    with pytest.raises(Rejected) as rejected:
        ANTHROPIC.compose(prompted(**members))
    assert rejected.value.code == "untranslatable"
    assert rejected.value.message == f"`{member}` cannot be expressed in the anthropic dialect"


def test_half_an_emoji_is_carried_on() -> None:
    """As the escape that it came as, in text and in arguments."""
    turns = (Turn("user", (Text("\ud83d"),)), Turn("assistant", (ToolUse("t", "f", '{"x":"\\ud83d"}'),)))
    body = ANTHROPIC.compose(prompted(turns=turns)).body
    assert body.count(b"\\ud83d") == 2
    assert json.loads(body)["messages"][1]["content"][0]["input"] == {"x": "\ud83d"}


def test_tools_have_a_schema_of_an_object() -> None:
    """Also those that take nothing."""
    said = composed(tools=(Tool("a"), Tool("b", "does", {"properties": {"x": {}}}, strict=False)))
    assert said["tools"] == [
        {"name": "a", "input_schema": {"type": "object", "properties": {}}},
        {"name": "b", "description": "does", "input_schema": {"type": "object", "properties": {"x": {}}}, "strict": False},
    ]
