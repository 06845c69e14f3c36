"""Prompts as Converse requests: what is said in which family's words, what is left out by name, what is refused."""

import json

import pytest
from msgspec.structs import replace

from gateway.core.errors import Rejected
from gateway.core.prompt import BUDGETS, Choice, Image, Prompt, Reasoning, Shape, Text, Thought, Tool, ToolResult, ToolUse, Turn
from gateway.dialects.bedrock import BEDROCK

CLAUDE, NEW_CLAUDE = "us.anthropic.claude-opus-4-20250514-v1:0", "eu.anthropic.claude-opus-4-7"
NOVA, GPT = "us.amazon.nova-2-lite-v1:0", "openai.gpt-oss-120b-1:0"
TOOL = Tool("tide", "When", {"type": "object", "properties": {"at": {"type": "integer"}}}, strict=True)
USER = Turn("user", (Text("hi"),))
PROMPT = Prompt(
    model=CLAUDE,
    stream=True,
    system=("Be brief.", "Be kind."),
    turns=(
        Turn("user", (Text("When?"), Image("image/jpeg", data="AAAA"))),
        Turn("assistant", (Thought("hm", "c2ln"), Text("Let me see"), ToolUse("t1", "tide", '{"at":7,"big":12345678901234567890123}'))),
        Turn("user", (ToolResult("t1", "tide", (Text("six"), Image("image/png", url="s3://bucket/a.png")), failed=True), Text("?"))),
    ),
    tools=(TOOL,),
    choice=Choice("auto"),
    max_tokens=9000,
    stop=("END",),
    shape=Shape({"type": "object"}, "tides"),
    reasoning=Reasoning(budget=2048),
)


def composed(**said: object) -> dict:
    return json.loads(BEDROCK.compose(Prompt(**{"model": CLAUDE, "stream": True, "turns": (USER,), **said})).body)


@pytest.mark.parametrize(
    "prompt",
    [
        PROMPT,
        replace(PROMPT, model=NEW_CLAUDE, reasoning=Reasoning("max"), turns=(USER,)),
        replace(PROMPT, model=NEW_CLAUDE, reasoning=Reasoning()),
        replace(PROMPT, choice=Choice("named", "tide"), reasoning=None, temperature=0.2, top_k=40),
        replace(PROMPT, choice=Choice("named", "tide"), reasoning=None, top_p=0.5),
        replace(
            PROMPT,
            model=NOVA,
            stream=False,
            turns=(USER,),
            reasoning=Reasoning("low"),
            choice=Choice("required"),
            top_k=9,
            temperature=0.5,
            top_p=0.9,
        ),
        replace(PROMPT, model=GPT, turns=(USER,), reasoning=Reasoning("high")),
        replace(PROMPT, model="openai.gpt-6", turns=(USER,), reasoning=Reasoning("high")),
        replace(PROMPT, choice=None, parallel_tools=False, reasoning=None),
        Prompt(model="m", stream=False, turns=(USER,)),
    ],
)
def test_what_is_composed_reads_as_what_was_meant(prompt):
    """Every member that matters comes back from our own words."""
    call = BEDROCK.compose(prompt)
    assert BEDROCK.read_prompt(call) == prompt
    assert BEDROCK.unsaid(prompt) == ()
    out = BEDROCK.outgoing(call, None, False)
    assert (out.path, out.body) == (call.path, call.body)


def test_a_prompt_is_said_as_converse_says_it():
    """Every member by its name."""
    assert json.loads(BEDROCK.compose(PROMPT).body) == {
        "messages": [
            {"role": "user", "content": [{"text": "When?"}, {"image": {"format": "jpeg", "source": {"bytes": "AAAA"}}}]},
            {
                "role": "assistant",
                "content": [
                    {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "c2ln"}}},
                    {"text": "Let me see"},
                    {"toolUse": {"toolUseId": "t1", "name": "tide", "input": {"at": 7, "big": 12345678901234567890123}}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "toolResult": {
                            "toolUseId": "t1",
                            "content": [
                                {"text": "six"},
                                {"image": {"format": "png", "source": {"s3Location": {"uri": "s3://bucket/a.png"}}}},
                            ],
                            "status": "error",
                        }
                    },
                    {"text": "?"},
                ],
            },
        ],
        "system": [{"text": "Be brief."}, {"text": "Be kind."}],
        "inferenceConfig": {"maxTokens": 9000, "stopSequences": ["END"]},
        "toolConfig": {
            "tools": [{"toolSpec": {"name": "tide", "description": "When", "inputSchema": {"json": TOOL.parameters}, "strict": True}}],
            "toolChoice": {"auto": {}},
        },
        "outputConfig": {
            "textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"name": "tides", "schema": '{"type":"object"}'}}}
        },
        "additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 2048}},
    }


@pytest.mark.parametrize(
    ("model", "reasoning", "extra"),
    [
        (CLAUDE, Reasoning("medium"), {"thinking": {"type": "enabled", "budget_tokens": BUDGETS["medium"]}}),
        (CLAUDE, Reasoning("minimal"), {"thinking": {"type": "enabled", "budget_tokens": 1024}}),
        (CLAUDE, Reasoning("max"), {"thinking": {"type": "enabled", "budget_tokens": 31_999}}),
        (CLAUDE, Reasoning(), None),
        (GPT, Reasoning(), {"reasoning_effort": "medium"}),
        (CLAUDE, Reasoning("none"), None),
        (CLAUDE, Reasoning(budget=0), None),
        (NEW_CLAUDE, Reasoning(budget=2048), {"thinking": {"type": "adaptive", "display": "summarized"}}),
        (GPT, Reasoning("minimal"), {"reasoning_effort": "low"}),
        (GPT, Reasoning(budget=4000), {"reasoning_effort": "medium"}),
        ("us.openai.gpt-6", Reasoning("xhigh"), {"reasoning": {"effort": "high"}}),
        ("amazon.nova-lite-v1:0", Reasoning("low"), None),
        (NOVA, Reasoning(budget=40_000), {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}}),
    ],
)
def test_every_family_is_told_to_think_in_its_own_way(model, reasoning, extra):
    """Converse has no word for it but the effort, and that only for models that are told to think."""
    assert composed(model=model, reasoning=reasoning).get("additionalModelRequestFields") == extra


@pytest.mark.parametrize(
    ("model", "reasoning", "effort"),
    [
        (NEW_CLAUDE, Reasoning("minimal"), "low"),
        (NEW_CLAUDE, Reasoning("xhigh"), "xhigh"),
        (NEW_CLAUDE, Reasoning(budget=2048), "medium"),
        ("anthropic.claude-sonnet-4-6", Reasoning("xhigh"), "high"),
        ("anthropic.claude-sonnet-4-6", Reasoning("max"), "max"),
        ("anthropic.claude-opus-5-20270101-v1:0", Reasoning("low"), "low"),
        (NEW_CLAUDE, Reasoning(), None),
    ],
)
def test_newer_claudes_take_an_effort(model, reasoning, effort):
    """They decide for themselves how much to think, and refuse budgets."""
    said = composed(model=model, reasoning=reasoning)
    assert said["additionalModelRequestFields"] == {"thinking": {"type": "adaptive", "display": "summarized"}}
    assert said.get("outputConfig") == ({"effort": effort} if effort else None)


@pytest.mark.parametrize(
    "said",
    [
        {"tools": (TOOL,), "choice": Choice("required")},
        {"turns": (USER, Turn("assistant", (ToolUse("t", "f", "{}"),)), Turn("user", (ToolResult("t", "f", ()),))), "tools": (TOOL,)},
    ],
)
def test_thinking_gives_way_to_what_it_is_refused_next_to(said):
    """A tool that must be called, and results for an answer whose thoughts another model had."""
    prompt = Prompt(**{"model": CLAUDE, "stream": True, "turns": (USER,), "reasoning": Reasoning("low"), **said})
    assert "additionalModelRequestFields" not in json.loads(BEDROCK.compose(prompt).body)
    assert "reasoning" in BEDROCK.unsaid(prompt)


@pytest.mark.parametrize(
    ("said", "inference", "unsaid"),
    [
        ({"model": NOVA, "temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "topP": 0.9}, ()),
        ({"model": NOVA, "temperature": 1.7}, {"temperature": 1.0}, ("temperature",)),
        ({"model": CLAUDE, "temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5}, ("top_p",)),
        ({"model": CLAUDE, "top_p": 0.9}, {"topP": 0.9}, ()),
        ({"model": CLAUDE, "temperature": 0.5, "reasoning": Reasoning("low")}, None, ("temperature",)),
        ({"model": NEW_CLAUDE, "temperature": 0.0, "top_p": 0.9, "top_k": 3}, None, ("temperature", "top_p", "top_k")),
    ],
)
def test_sampling_is_said_as_far_as_the_model_takes_it(said, inference, unsaid):
    """Converse's temperatures end at 1; Claude takes one setting (litellm#15070), none while it thinks, and none since 4.7."""
    prompt = Prompt(stream=True, turns=(USER,), **said)
    assert json.loads(BEDROCK.compose(prompt).body).get("inferenceConfig") == inference
    assert BEDROCK.unsaid(prompt) == unsaid


def test_blank_text_is_left_out():
    """It is refused wherever it stands: before a tool call, as a result, as an instruction."""
    turns = (
        USER,
        Turn("assistant", (Text("\n\n"), ToolUse("t", "tide", ""))),
        Turn("user", (ToolResult("t", "tide", (Text(" "),)), Text(""))),
    )
    said = composed(turns=turns, tools=(TOOL,), system=(" ", ""))
    assert "system" not in said
    assert [list(block) for message in said["messages"][1:] for block in message["content"]] == [["toolUse"], ["toolResult"]]
    assert said["messages"][2]["content"][0]["toolResult"]["content"] == []


def test_nova_thinks_hardest_only_where_nothing_else_is_set():
    """Its highest effort is refused next to a limit or a temperature."""
    said = composed(model=NOVA, reasoning=Reasoning("high"), max_tokens=100)
    assert said["additionalModelRequestFields"]["reasoningConfig"]["maxReasoningEffort"] == "medium"


def test_a_choice_among_the_likeliest_is_said_where_it_is_known():
    """Claude, Nova and Mistral have a word for it; next to thinking it is refused."""
    assert composed(top_k=5)["additionalModelRequestFields"] == {"top_k": 5}
    assert composed(model="mistral.m", top_k=5)["additionalModelRequestFields"] == {"top_k": 5}
    for said in ({"model": "meta.llama"}, {"model": CLAUDE, "reasoning": Reasoning("low")}):
        prompt = Prompt(stream=True, turns=(USER,), top_k=5, **said)
        assert BEDROCK.unsaid(prompt) == ("top_k",)
        assert b"top_k" not in BEDROCK.compose(prompt).body


@pytest.mark.parametrize("said", [{}, {"tools": (TOOL,), "choice": Choice("none")}])
def test_past_calls_are_told_in_words_where_no_tools_are_offered(said):
    """As what they are they would be refused (pentagi#160), and no tools is the only way to forbid them."""
    turns = (
        USER,
        Turn("assistant", (ToolUse("t", "tide", '{"at":7}'),)),
        Turn("user", (ToolResult("t", "tide", (Text("six"), Image("image/png", data="AAAA"))), ToolResult("u", "", (), failed=True))),
    )
    told = composed(turns=turns, **said)
    assert "toolConfig" not in told
    assert told["messages"][1:] == [
        {"role": "assistant", "content": [{"text": '[called tide with {"at":7}]'}]},
        {
            "role": "user",
            "content": [
                {"text": "[tide answered]"},
                {"text": "six"},
                {"image": {"format": "png", "source": {"bytes": "AAAA"}}},
                {"text": "[the tool failed]"},
            ],
        },
    ]


def test_calls_are_named_as_bedrock_takes_it_and_answered_first():
    """Other providers' ids have other characters and lengths; nothing may stand between a call and its result."""
    name = "functions.tide:0/" + "x" * 80
    turns = (USER, Turn("assistant", (ToolUse(name, "tide", ""),)), Turn("user", (Text("so?"), ToolResult(name, "tide", (Text("six"),)))))
    (_, call, result) = composed(turns=turns, tools=(TOOL,))["messages"]
    assert [next(iter(block)) for block in result["content"]] == ["toolResult", "text"]
    used = call["content"][0]["toolUse"]
    assert used["toolUseId"] == result["content"][0]["toolResult"]["toolUseId"] == "x" * 64
    assert used["input"] == {}
    (_, call) = composed(turns=(USER, Turn("assistant", (ToolUse("a.b:0", "tide", ""),))), tools=(TOOL,))["messages"]
    assert call["content"][0]["toolUse"]["toolUseId"] == "a_b_0"


def test_parameters_are_always_an_object():
    """A schema without a type is refused."""
    (tool,) = composed(tools=(Tool("f", parameters={"properties": {"a": {}}}),))["toolConfig"]["tools"]
    assert tool["toolSpec"]["inputSchema"]["json"] == {"type": "object", "properties": {"a": {}}}


def test_thinking_fits_into_the_answer_or_is_left_out():
    """Anthropic's budget counts among the tokens of the answer, and has a least."""
    assert composed(reasoning=Reasoning("high"), max_tokens=2000)["additionalModelRequestFields"]["thinking"]["budget_tokens"] == 1999
    small = Prompt(model=CLAUDE, stream=True, turns=(USER,), reasoning=Reasoning("high"), max_tokens=500)
    assert "additionalModelRequestFields" not in json.loads(BEDROCK.compose(small).body)
    assert BEDROCK.unsaid(small) == ("reasoning",)


def test_what_an_answer_can_do_without_is_left_out_by_name():
    """Seeds, users, thoughts that nobody vouches for, and thinking where a model cannot be told."""
    turns = (USER, Turn("assistant", (Thought("hm"),)), Turn("user", (Text("more"),)))
    prompt = Prompt(
        model="meta.llama",
        stream=True,
        turns=turns,
        seed=1,
        user="u",
        frequency_penalty=0.5,
        presence_penalty=-1.0,
        reasoning=Reasoning("low"),
        harmless=("metadata",),
    )
    left_out = ("seed", "frequency_penalty", "presence_penalty", "user", "reasoning", "thought")
    assert BEDROCK.unsaid(prompt) == ("metadata", *left_out)
    assert json.loads(BEDROCK.compose(prompt).body) == {"messages": [{"role": "user", "content": [{"text": "hi"}, {"text": "more"}]}]}


@pytest.mark.parametrize(
    ("said", "member"),
    [
        ({"shape": Shape()}, "shape"),
        ({"turns": (Turn("user", (Image("image/png", url="https://x/a.png"),)),)}, "image.url"),
        ({"turns": (Turn("user", (Image("image/tiff", data="AAAA"),)),)}, "image.media_type"),
        ({"tools": (TOOL,), "turns": (Turn("assistant", (ToolUse("t", "f", "[1]"),)),)}, "arguments"),
        ({"tools": (TOOL,), "turns": (Turn("assistant", (ToolUse("t", "f", "{"),)),)}, "arguments"),
        ({"tools": (TOOL,), "parallel_tools": False, "model": NOVA}, "parallel_tools"),
        ({"tools": (TOOL,), "parallel_tools": False, "choice": Choice("required")}, "parallel_tools"),
        ({"choice": Choice("required")}, "choice"),
        ({"stop": ("\n",)}, "stop"),
    ],
)
def test_what_an_answer_depends_on_is_refused_by_name(said, member):
    """Better no answer than one to another question."""
    with pytest.raises(Rejected, match=f"`{member}` cannot be expressed in the bedrock dialect") as raised:
        composed(**said)
    assert raised.value.code == "untranslatable"


def test_half_a_character_is_passed_on():
    """A lone surrogate survives as the escape it was."""
    assert composed(system=("\ud83d",))["system"] == [{"text": "\ud83d"}]


@pytest.mark.parametrize("said", [{"frequency_penalty": 0.0}, {"parallel_tools": False}, {"tools": (TOOL,), "choice": Choice("none")}])
def test_what_changes_nothing_is_not_said(said):
    """A penalty of nothing, tools one at a time where there are none, tools that must not be called."""
    assert composed(**said) == {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}
