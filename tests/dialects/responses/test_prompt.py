"""Requests of the Responses API said in no dialect and back: everything that matters is kept, the rest is named or refused."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.call import Call
from gateway.core.errors import Rejected
from gateway.core.prompt import Choice, Image, Prompt, Reasoning, Shape, Text, Thought, Tool, ToolResult, ToolUse, Turn
from gateway.dialects.base import Asked
from gateway.dialects.responses import RESPONSES

FUNCTION = {"type": "function", "name": "f", "description": "does", "parameters": {"type": "object"}, "strict": True}
SERVERS_OWN = ("web_search", "file_search", "code_interpreter", "mcp", "computer_use_preview", "image_generation", "custom", "shell")
PIXEL = "data:image/png;base64,iVBORw0="


def call(**members: object) -> Call:
    body = json.dumps({"model": "m", "input": "hi", **members}).encode()
    return RESPONSES.parse_call(RESPONSES.endpoints[0], body, Asked())


def prompt(**members: object) -> Prompt:
    return RESPONSES.read_prompt(call(**members))


def composed(**members: object) -> dict:
    return json.loads(RESPONSES.compose(Prompt(**{"model": "m", "stream": False, **members})).body)


TALK = [
    {"role": "developer", "content": "be brief"},
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "look"}, {"type": "input_image", "image_url": PIXEL}]},
    {"role": "user", "content": [{"type": "input_image", "image_url": "https://x.test/a.jpg", "detail": "high"}]},
    {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "gAAA"},
    {"type": "message", "id": "msg", "role": "assistant", "status": "completed", "content": [{"type": "output_text", "text": "I call"}]},
    {"type": "function_call", "id": "fc", "call_id": "c1", "name": "f", "arguments": '{"a":1}'},
    {"type": "function_call", "call_id": "c2", "name": "g", "arguments": ""},
    {"type": "function_call_output", "call_id": "c2", "output": "two"},
    {
        "type": "function_call_output",
        "call_id": "c1",
        "output": [{"type": "input_text", "text": "one"}, {"type": "input_image", "image_url": PIXEL}],
    },
    {"role": "user", "content": "and?"},
]
PICTURE = Image(media_type="image/png", data="iVBORw0=")
TURNS = (
    Turn("user", (Text("look"), PICTURE, Image(url="https://x.test/a.jpg"))),
    Turn("assistant", (Thought("hm", "gAAA"), Text("I call"), ToolUse("c1", "f", '{"a":1}'), ToolUse("c2", "g", "{}"))),
    Turn("user", (ToolResult("c2", "g", (Text("two"),)), ToolResult("c1", "f", (Text("one"), PICTURE)), Text("and?"))),
)


def test_a_talk_becomes_turns():
    """Messages, pictures, calls and results of one side in a row are one turn; system messages stand apart."""
    found = prompt(input=TALK, instructions="be kind")
    assert found.system == ("be kind", "be brief")
    assert found.turns == TURNS
    assert found.harmless == ("input_image.detail",)


def test_a_talk_composed_is_the_same_talk():
    """Reading what was composed gives what was composed from, but for the reasoning."""
    found = prompt(input=TALK, instructions="be kind", stream=True)
    again = RESPONSES.read_prompt(RESPONSES.compose(found))
    silent = [msgspec.structs.replace(turn, parts=tuple(part for part in turn.parts if type(part) is not Thought)) for turn in TURNS]
    assert again.turns == tuple(silent)
    assert again.system == ("be kind\n\nbe brief",)
    assert again.stream
    assert list(RESPONSES.unsaid(found)) == ["input_image.detail", "thought"]


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"temperature": 0.5, "top_p": 0.9, "max_output_tokens": 64}, {"temperature": 0.5, "top_p": 0.9, "max_tokens": 64}),
        ({"parallel_tool_calls": False, "user": "u"}, {"parallel_tools": False, "user": "u"}),
        ({"tools": [FUNCTION]}, {"tools": (Tool("f", "does", {"type": "object"}, True),)}),
        ({"tools": [{"type": "function", "name": "f", "parameters": None, "strict": False}]}, {"tools": (Tool("f", strict=False),)}),
        ({"tools": [FUNCTION], "tool_choice": "required"}, {"choice": Choice("required")}),
        ({"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "f"}}, {"choice": Choice("named", "f")}),
        ({"text": {"format": {"type": "text"}}}, {"shape": None}),
        ({"text": {"format": {"type": "json_object"}}}, {"shape": Shape()}),
        (
            {"text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}}},
            {"shape": Shape({"type": "object"}, "n", True)},
        ),
        ({"reasoning": {"effort": "low"}}, {"reasoning": Reasoning("low")}),
        ({"reasoning": {"effort": None}}, {"reasoning": None}),
    ],
)
def test_settings_are_kept_both_ways(members, said):
    """What a request sets is in the prompt, and in the request composed from it."""
    found = prompt(**members)
    assert {field: getattr(found, field) for field in said} == said
    again = RESPONSES.read_prompt(RESPONSES.compose(found))
    empty = {"type": "object", "properties": {}}
    tools = tuple(msgspec.structs.replace(tool, parameters=tool.parameters or empty) for tool in found.tools)
    assert again == msgspec.structs.replace(found, tools=tools)


def test_what_other_servers_of_this_dialect_take_is_read():
    """vLLM knows members that OpenAI does not."""
    found = prompt(stop="END", seed=7, top_k=40, frequency_penalty=0.1, presence_penalty=-1, reasoning={"effort": "xhigh"})
    assert (found.stop, found.seed, found.top_k, found.frequency_penalty, found.presence_penalty) == (("END",), 7, 40, 0.1, -1)
    assert found.reasoning == Reasoning("xhigh")


def test_allowed_tools_are_the_only_ones():
    """A choice among some tools is said by leaving out the others."""
    tools = [FUNCTION, {**FUNCTION, "name": "g"}]
    found = prompt(tools=tools, tool_choice={"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "g"}]})
    assert [tool.name for tool in found.tools] == ["g"]
    assert found.choice == Choice("required")


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"previous_response_id": "resp_1"}, "`previous_response_id`"),
        ({"conversation": {"id": "conv"}}, "`conversation`"),
        ({"logit_bias": {"5": 1}}, "`logit_bias`"),
        ({"background": True}, "`background`"),
        ({"prompt": {"id": "pmpt"}}, "`prompt`"),
        ({"context_management": [{"type": "compaction"}]}, "`context_management`"),
        ({"top_logprobs": 2}, "`top_logprobs`"),
        ({"include": ["message.output_text.logprobs"]}, "`include`"),
        ({"n": 2}, "`n`"),
        *[
            ({"tools": [FUNCTION, {"type": kind}]}, f"`tools[1] of type {kind}`")
            for kind in (
                "web_search",
                "file_search",
                "code_interpreter",
                "mcp",
                "computer_use_preview",
                "image_generation",
                "custom",
                "shell",
            )
        ],
        ({"tools": [5]}, "`tools[0] of type None`"),
        ({"tool_choice": {"type": "web_search"}}, "`tool_choice`"),
        ({"tool_choice": "any"}, "`tool_choice`"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "`input[0] of type item_reference`"),
        ({"input": [{"id": "x"}]}, "`input[0] of type item_reference`"),
        ({"input": [{"type": "web_search_call", "id": "x"}]}, "`input[0] of type web_search_call`"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}, "`input[0].content[0] of type input_file`"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}, "`input[0].content[0].file_id`"),
        ({"input": [{"role": "system", "content": [{"type": "input_image", "image_url": PIXEL}]}]}, "`input[0].content`"),
        ({"text": {"format": {"type": "grammar"}}}, "`text.format`"),
        ({"reasoning": {"effort": "huge"}}, "`reasoning.effort`"),
    ],
)
def test_what_no_other_dialect_could_be_told_is_refused_by_name(members, named):
    """State, server-side tools, files and log probabilities stay with upstreams of this dialect."""
    with pytest.raises(Rejected) as caught:
        prompt(**members)
    assert caught.value.code == "untranslatable"
    assert caught.value.message == f"{named} cannot be expressed in another dialect"


@pytest.mark.parametrize(
    "members",
    [
        {"input": None},
        {"input": {"role": "user"}},
        {"input": ["hi"]},
        {"input": [{"role": "tool", "content": "x"}]},
        {"input": [{"role": "user", "content": 5}]},
        {"input": [{"type": "function_call", "name": "f"}]},
        {"input": [{"type": "function_call_output", "call_id": "gone", "output": "x"}]},
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:image/svg+xml,<svg/>"}]}]},
        {"tools": {}},
        {"tools": [{"type": "function"}]},
        {"temperature": "hot"},
        {"max_output_tokens": 1.5},
        {"parallel_tool_calls": "no"},
        {"stop": [1]},
    ],
)
def test_what_means_nothing_is_invalid(members):
    """A member of a wrong type is refused as such: upstreams of this dialect would refuse it too."""
    with pytest.raises(Rejected) as caught:
        prompt(**members)
    assert caught.value.code == "invalid_value"


def test_what_no_answer_depends_on_is_named():
    """Members that ask for nothing are not even named."""
    found = prompt(
        store=True, metadata={"a": "b"}, prompt_cache_key="k", truncation=None, background=False, previous_response_id=None, new_one=1,
        text={"verbosity": "low"}, reasoning={"effort": "low", "summary": "auto"}, include=["reasoning.encrypted_content"],
    )  # fmt: skip
    assert found.harmless == ("store", "metadata", "prompt_cache_key", "new_one", "text.verbosity", "reasoning.summary")


def test_what_this_dialect_cannot_say_is_refused_by_name():
    """An answer that does not stop where it was told to is wrong."""
    with pytest.raises(Rejected) as caught:
        composed(stop=("x",))
    assert caught.value.message == "`stop` cannot be expressed in the openai-responses dialect"
    assert "stop" not in composed(stop=())


@pytest.mark.parametrize("field", ["seed", "top_k", "frequency_penalty", "presence_penalty"])
def test_how_to_pick_words_is_left_out_and_named(field):
    """OpenAI refuses members it does not know; the answer is an answer without them."""
    asked = Prompt(model="m", stream=True, **{field: 1})
    assert field not in json.loads(RESPONSES.compose(asked).body)
    assert RESPONSES.unsaid(asked) == (field,)


def test_what_only_another_provider_can_check_is_named():
    """The signature of a call is proof to who made it, and no member here."""
    turn = Turn("assistant", (ToolUse("t", "f", "{}", signature="s"),))
    assert RESPONSES.unsaid(Prompt(model="m", stream=False, turns=(turn,))) == ("signature",)


def test_what_is_composed_is_sent_unchanged():
    """The call is of this dialect, its path and body are ready, nothing is stored, and nobody asks for usage."""
    made = RESPONSES.compose(Prompt(model="m", stream=True, turns=(Turn("user", (Text("hi"),)),), max_tokens=9, seed=1))
    sent = RESPONSES.outgoing(made, None, False)
    assert (sent.path, sent.body, made.dialect, made.stream, made.max_tokens) == ("/responses", made.body, "openai-responses", True, 9)
    assert json.loads(sent.body) == {
        "model": "m",
        "input": [{"type": "message", "role": "user", "content": "hi"}],
        "stream": True,
        "store": False,
        "max_output_tokens": 9,
    }
    assert list(RESPONSES.unsaid(Prompt(model="m", stream=True, seed=1, harmless=("a",)))) == ["a", "seed"]


def test_functions_are_strict_only_when_asked():
    """A silent `strict` means true to this API and false to every other."""
    assert composed(tools=(Tool("f"),))["tools"] == [
        {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}, "strict": False}
    ]


@pytest.mark.parametrize(
    ("budget", "effort"), [(0, "none"), (1024, "low"), (8000, "medium"), (20_000, "high"), (32_000, "xhigh"), (2**40, "xhigh")]
)
def test_a_budget_of_reasoning_is_said_as_a_word(budget, effort):
    """This API counts no reasoning tokens before they are made."""
    assert composed(reasoning=Reasoning(budget=budget))["reasoning"] == {"effort": effort}
    assert "reasoning" not in composed(reasoning=Reasoning())
    assert composed(reasoning=Reasoning("max"))["reasoning"] == {"effort": "xhigh"}


@pytest.mark.parametrize(
    "members",
    [
        {"instructions": [{"role": "user", "content": "x"}]},
        {"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": {"a": 1}}]},
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": 7}]}]},
        {"input": [{"role": "user", "content": [{"type": "input_text"}]}]},
    ],
)
def test_what_cannot_be_read_is_not_passed_over(members):
    """An answer to half of a request would be a wrong one."""
    with pytest.raises(Rejected) as caught:
        prompt(**members)
    assert caught.value.code == "invalid_value"


def test_a_choice_among_no_tools_is_not_sent():
    """This API takes it for an error; what must be called and is not there is refused."""
    assert "tool_choice" not in composed(choice=Choice("auto"))
    for choice in (Choice("required"), Choice("named", "f")):
        with pytest.raises(Rejected, match="`tool_choice`"):
            composed(choice=choice)


def test_what_the_assistant_said_is_plain_text():
    """Servers differ on the parts of an answer that is sent back; what a user said in pieces stays in pieces."""
    turns = (Turn("user", (Text("a"), Text("b"))), Turn("assistant", (Text("c"), Thought("hm"), Text("d"))))
    assert composed(turns=turns)["input"] == [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text} for text in "ab"]},
        {"type": "message", "role": "assistant", "content": "cd"},
    ]


@pytest.mark.parametrize("said", ["", [], [{"role": "user", "content": ""}], [{"role": "assistant", "content": []}]])
def test_empty_text_says_nothing(said):
    """No turn is empty: several dialects refuse one."""
    assert prompt(input=said).turns == ()


def test_an_empty_stop_stops_nothing():
    """Nor does it keep the call from a server that knows no stops."""
    assert prompt(stop="").stop == prompt(stop=["", ""]).stop == ()


@pytest.mark.parametrize("url", ["data:image/png,x", "data:;base64,QUJD", "data:image/png;base64", "DATA:,x"])
def test_a_picture_of_no_known_kind_is_refused(url):
    """Other dialects must be told its media type, and want base64."""
    with pytest.raises(Rejected):
        prompt(input=[{"role": "user", "content": [{"type": "input_image", "image_url": url}]}])


def test_a_picture_of_the_assistant_is_refused():
    """Only users show pictures here."""
    with pytest.raises(Rejected):
        composed(turns=(Turn("assistant", (Image(url="https://x.test"),)),))


@pytest.mark.parametrize("leaf", ["NaN", "-Infinity", "1e999", "[" * 2000 + "]" * 2000])
@pytest.mark.parametrize("text", ["hi", "\\ud83d"])
def test_what_others_cannot_parse_is_refused(leaf, text):
    """Python reads more than JSON, and what it reads it would write again."""
    body = f'{{"model":"m","input":"{text}","tools":[{{"type":"function","name":"f","parameters":{{"a":{leaf}}}}}]}}'.encode()
    with pytest.raises(Rejected) as caught:
        RESPONSES.read_prompt(RESPONSES.parse_call(RESPONSES.endpoints[0], body, Asked()))
    assert caught.value.code == "invalid_json"


def test_half_an_emoji_survives():
    """JavaScript cuts strings anywhere; the escape goes on as it came."""
    body = b'{"model":"m","input":"cut \\ud83d"}'
    asked = RESPONSES.parse_call(RESPONSES.endpoints[0], body, Asked())
    assert b"cut \\ud83d" in RESPONSES.compose(RESPONSES.read_prompt(asked)).body


WORDS = (
    *(
        "input",
        "tools",
        "tool_choice",
        "text",
        "reasoning",
        "include",
        "stop",
        "n",
        "type",
        "role",
        "content",
        "image_url",
        "detail",
        "mode",
    ),
    *(
        "call_id",
        "name",
        "arguments",
        "output",
        "format",
        "effort",
        "summary",
        "parameters",
        "schema",
        "temperature",
        "instructions",
        "mode",
    ),
)
VALUES = ["message", "function", "function_call", "function_call_output", "user", "assistant", "input_image", "input_text", "allowed_tools"]
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.sampled_from(VALUES), st.just("\ud83d")),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(WORDS), inner, max_size=5)),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(members=st.dictionaries(st.sampled_from(WORDS), JSON, max_size=6))
def test_no_request_whatever_raises_anything_else(members):
    """Any body is a prompt that can be composed again, or a refusal."""
    try:
        RESPONSES.compose(prompt(**members))
    except Rejected:
        return
