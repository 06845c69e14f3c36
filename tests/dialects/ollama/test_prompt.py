"""Ollama's chat requests as prompts and back: what is said, what is dropped and named, what is refused."""

import contextlib
import json
from collections.abc import Iterator

import pytest

from gateway.core.errors import Rejected
from gateway.core.prompt import Choice, Image, Prompt, Reasoning, Shape, Text, Thought, Tool, ToolResult, ToolUse, Turn
from gateway.dialects.base import Asked, Outgoing
from gateway.dialects.ollama import OLLAMA
from gateway.dialects.ollama.dialect import ENDPOINTS

CHAT, GENERATE, EMBED = ENDPOINTS
PNG, JPEG = "iVBORw0KGgoAAAA", "/9j/4AAQ"
HI = [{"role": "user", "content": "hi"}]
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}}


def call(endpoint=CHAT, **members: object):
    return OLLAMA.parse_call(endpoint, json.dumps({"model": "m", **members}).encode(), Asked())


def prompt(**members: object) -> Prompt:
    return OLLAMA.read_prompt(call(**members))


def turns(*messages: dict) -> tuple[Turn, ...]:
    return prompt(messages=list(messages)).turns


def body(**members: object) -> dict:
    """What compose makes of a prompt."""
    return json.loads(OLLAMA.compose(Prompt(**{"model": "m", "stream": True} | members)).body)


def messages(*said: Turn, **members: object) -> list:
    return body(turns=said, **members)["messages"]


def called(name: str, id_: str | None = None, **arguments: object) -> dict:
    function = {"function": {"name": name, "arguments": arguments}}
    return function if id_ is None else {"id": id_, **function}


FULL = {
    "model": "gpt-oss",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather here?", "images": [PNG]},
        {"role": "assistant", "content": "", "thinking": "call it", "tool_calls": [called("weather", "call_x", city="Köln")]},
        {"role": "tool", "content": "rain", "tool_name": "weather", "tool_call_id": "call_x"},
        {"role": "user", "content": "And?"},
    ],
    "stream": False,
    "tools": [{"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": WEATHER}}],
    "format": {"type": "object"},
    "think": "high",
    "options": {
        "num_predict": 50,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 20,
        "seed": 7,
        "frequency_penalty": 0.1,
        "presence_penalty": 0.2,
        "stop": ["END"],
    },
}


def test_a_full_request_is_read():
    """Everything a chat request can ask has its place in the prompt."""
    assert prompt(**FULL) == Prompt(
        model="gpt-oss",
        stream=False,
        system=("Be brief.",),
        turns=(
            Turn("user", (Image("image/png", PNG), Text("Weather here?"))),
            Turn("assistant", (Thought("call it"), ToolUse("call_x", "weather", '{"city":"Köln"}'))),
            Turn("user", (ToolResult("call_x", "weather", (Text("rain"),)), Text("And?"))),
        ),
        tools=(Tool("weather", "Tells it.", WEATHER),),
        max_tokens=50,
        temperature=0.5,
        top_p=0.9,
        top_k=20,
        seed=7,
        frequency_penalty=0.1,
        presence_penalty=0.2,
        stop=("END",),
        shape=Shape({"type": "object"}),
        reasoning=Reasoning("high"),
    )


def test_what_is_composed_of_what_was_read_asks_the_same():
    """A request that goes through a prompt and back loses nothing that matters, and is ready to be sent."""
    composed = OLLAMA.compose(prompt(**FULL))
    assert json.loads(composed.body) == FULL
    assert OLLAMA.read_prompt(composed) == prompt(**FULL)
    assert OLLAMA.outgoing(composed, None, False) == Outgoing("/api/chat", composed.body)
    assert OLLAMA.parse_call(CHAT, composed.body, Asked()) == composed


def test_a_bare_request_leaves_everything_to_the_model():
    """What is not said is not said on."""
    assert prompt(messages=HI) == Prompt(model="m", stream=True, turns=(Turn("user", (Text("hi"),)),))
    assert json.loads(OLLAMA.compose(prompt(messages=HI)).body) == {"model": "m", "messages": HI, "stream": True}
    assert prompt().turns == ()


@pytest.mark.parametrize(
    ("members", "harmless"),
    [
        ({"keep_alive": "5m"}, ("keep_alive",)),
        ({"keep_alive": None, "truncate": True}, ("truncate",)),
        ({"options": {"num_ctx": 4096, "num_gpu": None}}, ("options.num_ctx",)),
        (
            {"options": {"repeat_penalty": 1.1, "min_p": 0.1, "mirostat": 2}},
            ("options.repeat_penalty", "options.min_p", "options.mirostat"),
        ),
        ({"brand_new": 1, "logprobs": False, "format": "", "think": None}, ("brand_new",)),
    ],
)
def test_what_no_answer_depends_on_is_dropped_and_named(members, harmless):
    """How a machine keeps its model and picks its words, and members nobody knows."""
    read = prompt(messages=HI, **members)
    assert read.harmless == harmless
    assert tuple(OLLAMA.unsaid(read)) == harmless


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"logprobs": True}, "logprobs"),
        ({"messages": [{"role": "user", "images": ["Qk0="]}]}, "messages[].images"),
        ({"messages": [{"role": "system", "content": "x", "images": [PNG]}]}, "messages[].images"),
    ],
)
def test_what_no_other_dialect_can_be_told_is_refused_by_name(members, field):
    """What shapes the answer and cannot be said elsewhere is the caller's to take out."""
    with pytest.raises(Rejected) as caught:
        prompt(**{"messages": HI} | members)
    assert (caught.value.code, caught.value.message) == ("untranslatable", f"`{field}` cannot be expressed in another dialect")


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages"),
        ({"messages": [{"role": "robot"}]}, "messages[].role"),
        ({"messages": [{"role": "user", "content": [1]}]}, "messages[].content"),
        ({"messages": [{"role": "user", "images": "x"}]}, "messages[].images"),
        ({"messages": [{"role": "user", "images": [7]}]}, "messages[].images"),
        ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "messages[].tool_calls[].function.name"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]}, "arguments"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tools": {}}, "tools"),
        ({"format": "yaml"}, "format"),
        ({"think": 1}, "think"),
        ({"think": "hard"}, "think"),
        ({"options": [1]}, "options"),
    ],
)
def test_what_is_not_a_chat_request_is_rejected_by_name(members, field):
    """An upstream would refuse it as well; here nothing else can be done with it."""
    with pytest.raises(Rejected) as caught:
        prompt(**{"messages": HI} | members)
    assert (caught.value.status, caught.value.code) == (400, "invalid_value")
    assert f"`{field}`" in caught.value.message


def test_only_chat_is_translated():
    """Generate and embed have no prompt form."""
    for endpoint in (GENERATE, EMBED):
        with pytest.raises(Rejected, match=endpoint.path):
            OLLAMA.read_prompt(call(endpoint, prompt="x"))


def test_tool_results_find_their_calls():
    """Without ids, results go to the oldest open call of their name, without names to the oldest open one; with ids, to that one."""
    (_, results) = turns(
        {"role": "assistant", "tool_calls": [called("f"), called("g"), called("f"), called("h", "own")]},
        {"role": "tool", "content": "1", "tool_name": "f"},
        {"role": "tool", "content": "2", "tool_call_id": "own"},
        {"role": "tool", "content": "3"},
        {"role": "tool", "content": "4", "tool_name": "f"},
        {"role": "tool", "content": "5", "tool_name": "unasked"},
    )
    assert [(part.id, part.name, part.parts[0].text) for part in results.parts] == [
        ("call_0", "f", "1"),
        ("own", "h", "2"),
        ("call_1", "g", "3"),
        ("call_2", "f", "4"),
        ("call_4", "unasked", "5"),
    ]


def test_two_turns_of_one_role_never_follow_each_other():
    """Consecutive messages of one side are one turn, empty ones none; system messages are gathered wherever they stand."""
    said = [
        {"role": "user", "content": "a"},
        {"role": "user", "content": "b"},
        {"role": "system", "content": "s"},
        {"role": "user", "content": ""},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "d"},
    ]
    read = prompt(messages=said)
    assert read.turns == (Turn("user", (Text("a"), Text("b"), Text("c"))), Turn("assistant", (Text("d"),)))
    assert read.system == ("s",)


@pytest.mark.parametrize(
    ("data", "image"),
    [
        (PNG, Image("image/png", PNG)),
        (JPEG, Image("image/jpeg", JPEG)),
        ("R0lGODlh", Image("image/gif", "R0lGODlh")),
        ("UklGRgAA", Image("image/webp", "UklGRgAA")),
        (f"data:image/png;base64,{PNG}", Image("image/png", PNG)),
    ],
)
def test_an_images_first_bytes_tell_its_type(data, image):
    """Ollama's images have no media type, other dialects' must."""
    assert turns({"role": "user", "images": [data]}) == (Turn("user", (image,)),)


@pytest.mark.parametrize(
    ("said", "reasoning", "composed"),
    [
        (True, Reasoning("medium"), "medium"),
        (False, Reasoning("none"), "low"),
        ("low", Reasoning("low"), "low"),
        ("medium", Reasoning("medium"), "medium"),
        ("high", Reasoning("high"), "high"),
        ("max", Reasoning("max"), "high"),
    ],
)
def test_thinking_is_said_both_ways(said, reasoning, composed):
    """Levels are levels where there are any; elsewhere servers refuse them, and a model thinks or does not."""
    assert prompt(messages=HI, think=said).reasoning == reasoning
    assert body(model="gpt-oss:20b", reasoning=reasoning)["think"] == composed
    assert body(reasoning=reasoning)["think"] is (said is not False)


@pytest.mark.parametrize(
    ("model", "reasoning", "think", "lost"),
    [
        ("qwen3", Reasoning(budget=0), False, False),
        ("qwen3", Reasoning(budget=2000), True, True),
        ("qwen3", Reasoning("minimal"), True, True),
        ("qwen3", Reasoning("medium"), True, False),
        ("qwen3", Reasoning(), True, False),
        ("gpt-oss", Reasoning("minimal"), "low", True),
        ("gpt-oss", Reasoning("none"), "low", True),
        ("gpt-oss", Reasoning("high"), "high", False),
        ("gpt-oss", Reasoning(budget=2000), "medium", True),
        ("gpt-oss", Reasoning(), "medium", False),
    ],
)
def test_what_ollama_has_no_word_for_is_said_nearly(model, reasoning, think, lost):
    """And named where it is less than what was asked."""
    assert body(model=model, reasoning=reasoning)["think"] == think
    said = Prompt(model=model, stream=True, reasoning=reasoning)
    assert OLLAMA.unsaid(said) == (("reasoning",) if lost else ())


def test_a_conversation_of_another_dialect_is_composed():
    """System texts are one message; a turn with several results is as many messages, in their order."""
    said = messages(
        Turn("user", (Text("a"), Image("image/png", PNG), Text("b"))),
        Turn("assistant", (Thought("t", "sig"), Text("c"), ToolUse("i", "f", ""), ToolUse("j", "g", '{"x":[1]}'))),
        Turn("user", (ToolResult("i", "f", (Text("r"), Image("image/png", PNG))), Text("d"), ToolResult("j", "g", (), failed=True))),
        system=("one", "two"),
    )
    assert said == [
        {"role": "system", "content": "one\n\ntwo"},
        {"role": "user", "content": "a\n\nb", "images": [PNG]},
        {
            "role": "assistant",
            "content": "c",
            "thinking": "t",
            "tool_calls": [called("f", "i"), called("g", "j", x=[1])],
        },
        {"role": "tool", "content": "r", "images": [PNG], "tool_name": "f", "tool_call_id": "i"},
        {"role": "user", "content": "d"},
        {"role": "tool", "content": "", "tool_name": "g", "tool_call_id": "j"},
    ]


def test_json_is_asked_for_with_or_without_a_schema():
    """`format` is a word or a schema."""
    assert prompt(messages=HI, format="json").shape == Shape()
    assert body(shape=Shape())["format"] == "json"
    assert body(shape=Shape({"type": "array"}, "n", strict=True))["format"] == {"type": "array"}


def test_a_model_that_may_call_no_tool_is_told_of_none():
    """There is no other way to forbid them here."""
    tool = Tool("f")
    assert "tools" not in body(tools=(tool,), choice=Choice("none"), parallel_tools=False)
    (told,) = body(tools=(tool,), choice=Choice("auto"), parallel_tools=True)["tools"]
    assert told["function"] == {"name": "f", "description": "", "parameters": {"type": "object", "properties": {}}}
    assert "tools" not in body(choice=Choice("auto"), parallel_tools=False)


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"tools": (Tool("f"),), "choice": Choice("required")}, "tool_choice"),
        ({"tools": (Tool("f"),), "choice": Choice("named", "f")}, "tool_choice"),
        ({"tools": (Tool("f"),), "parallel_tools": False}, "parallel_tools"),
        ({"turns": (Turn("user", (Image(url="https://example.com/a.png"),)),)}, "image.url"),
        ({"turns": (Turn("assistant", (ToolUse("i", "f", "[1]"),)),)}, "tool_calls.arguments"),
        ({"turns": (Turn("assistant", (ToolUse("i", "f", '{"a'),)),)}, "tool_calls.arguments"),
    ],
)
def test_what_ollama_cannot_be_told_is_refused_by_name(members, field):
    """What an answer depends on and Ollama has no word for."""
    with pytest.raises(Rejected) as caught:
        body(**members)
    assert (caught.value.code, caught.value.message) == ("untranslatable", f"`{field}` cannot be expressed in the ollama dialect")


def test_what_is_left_out_is_named():
    """A user id, a budget, strictness, signatures, the mark of a failed tool."""
    said = Prompt(
        model="m",
        stream=True,
        turns=(Turn("assistant", (Thought("t", "sig"),)), Turn("user", (ToolResult("i", "f", (), failed=True),))),
        tools=(Tool("f", strict=True),),
        reasoning=Reasoning(budget=100),
        user="u",
        harmless=("metadata",),
    )
    assert OLLAMA.unsaid(said) == ("metadata", "user", "reasoning", "tools.strict", "signature", "tool_result.failed")
    OLLAMA.compose(said)


def test_half_a_character_is_passed_on():
    """A lone surrogate in a request survives as the escape it was."""
    half = OLLAMA.parse_call(CHAT, b'{"model":"m","messages":[{"role":"user","content":"\\ud83d cut"}]}', Asked())
    composed = OLLAMA.compose(OLLAMA.read_prompt(half))
    assert b"\\ud83d cut" in composed.body


ANYTHING = [None, True, 0, -1, 1.5, 2**70, float("nan"), "", "x", "{}", "\ud83d", [], [7], [[]], {}, {"x": 7}, {"text": 7}]


def spoilt(said: object) -> Iterator[object]:
    """Every way to put anything at one place of what is said."""
    yield from ANYTHING
    if isinstance(said, dict):
        for name, value in said.items():
            yield from ({**said, name: other} for other in spoilt(value))
    elif isinstance(said, list):
        for place, value in enumerate(said):
            yield from ([*said[:place], other, *said[place + 1 :]] for other in spoilt(value))


def test_anything_anywhere_is_read_or_rejected():
    """What is read can be composed, and nothing else is ever raised."""
    for said in spoilt(FULL):
        with contextlib.suppress(Rejected):
            read = OLLAMA.read_prompt(OLLAMA.parse_call(CHAT, json.dumps(said).encode(), Asked()))
            assert OLLAMA.unsaid(read) is not None
            OLLAMA.compose(read)
