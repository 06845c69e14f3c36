"""Converse requests as prompts: what is kept, what is left out by name, what is refused."""

import contextlib
import json
from collections.abc import Iterator

import pytest

from gateway.core.call import Call
from gateway.core.errors import Rejected
from gateway.core.prompt import Prompt, Reasoning, Text, ToolResult, Turn
from gateway.dialects.base import Asked
from gateway.dialects.bedrock import BEDROCK

CLAUDE = "us.anthropic.claude-opus-4-20250514-v1:0"
USER = Turn("user", (Text("hi"),))


def converse(body: object, model: str = CLAUDE, stream: bool = True) -> Call:
    endpoint = BEDROCK.endpoints[0 if stream else 1]
    return BEDROCK.parse_call(endpoint, json.dumps(body).encode(), Asked({"id": model}))


def read(**body: object) -> Prompt:
    return BEDROCK.read_prompt(converse({"messages": [{"role": "user", "content": [{"text": "hi"}]}], **body}))


@pytest.mark.parametrize(
    ("body", "member"),
    [
        ({"guardrailConfig": {"guardrailIdentifier": "g"}}, "guardrailConfig"),
        ({"promptVariables": {"a": {"text": "b"}}}, "promptVariables"),
        ({"system": [{"video": {}}]}, "system.video"),
        ({"messages": [{"role": "user", "content": [{"document": {"name": "d"}}]}]}, "messages.content.document"),
        ({"messages": [{"role": "user", "content": [{"image": {"format": "png", "source": {}}}]}]}, "image.source"),
        ({"messages": [{"role": "user", "content": [{}]}]}, "messages.content."),
        ({"messages": [{"role": "tool", "content": []}]}, "messages.role"),
        (
            {"messages": [{"role": "user", "content": [{"toolResult": {"toolUseId": "t", "content": [{"video": {}}]}}]}]},
            "toolResult.content.video",
        ),
        ({"toolConfig": {"tools": [{"systemTool": {"name": "s"}}]}}, "toolConfig.tools.systemTool"),
        ({"additionalModelRequestFields": {"tool_choice": {"type": "none"}}}, "additionalModelRequestFields.tool_choice"),
        (
            {"additionalModelRequestFields": {"tool_choice": {"type": "any", "disable_parallel_tool_use": True}}},
            "additionalModelRequestFields.tool_choice",
        ),
        ({"additionalModelRequestFields": {"output_config": {"format": {}}}}, "additionalModelRequestFields.output_config"),
        ({"additionalModelRequestFields": {"response_format": {"type": "json_object"}}}, "additionalModelRequestFields.response_format"),
        ({"additionalModelRequestFields": {"n": 2}}, "additionalModelRequestFields.n"),
    ],
)
def test_what_no_other_dialect_could_be_told_is_refused_by_name(body, member):
    """The client learns which member it is."""
    with pytest.raises(Rejected, match=f"`{member}`") as raised:
        read(**body)
    assert raised.value.code == "untranslatable"


@pytest.mark.parametrize(
    ("body", "member"),
    [
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "user", "content": "hi"}]}, "messages.content"),
        ({"messages": [{"role": "user", "content": ["hi"]}]}, "messages.content"),
        ({"system": "be brief"}, "system"),
        ({"toolConfig": {"tools": {}}}, "toolConfig.tools"),
    ],
)
def test_what_would_be_passed_over_is_rejected(body, member):
    """Bedrock refuses it too; an answer to what is left would be one to another question."""
    with pytest.raises(Rejected, match=f"`{member}` must be a list") as raised:
        read(**body)
    assert (raised.value.status, raised.value.code) == (400, "invalid_value")


@pytest.mark.parametrize(
    ("fields", "reasoning"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 3000}}, Reasoning(budget=3000)),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "xhigh"}}, Reasoning("xhigh")),
        ({"thinking": {"type": "adaptive"}}, Reasoning()),
        ({"thinking": {"type": "disabled"}}, Reasoning("none")),
        ({"reasoning_effort": "max"}, Reasoning("max")),
        ({"reasoning_config": {"type": "enabled", "budget_tokens": 1024}}, Reasoning(budget=1024)),
        ({"reasoning_effort": "much"}, None),
        ({"n": 1, "stop": []}, None),
    ],
)
def test_every_family_says_how_to_think_in_its_own_way(fields, reasoning):
    """And all of them are understood."""
    assert read(additionalModelRequestFields=fields).reasoning == reasoning


def test_what_is_harmless_is_named():
    """Hints, metadata, and members that are new to us."""
    prompt = read(
        messages=[{"role": "user", "content": [{"text": "hi"}, {"cachePoint": {"type": "default"}}]}],
        requestMetadata={"a": "b"},
        performanceConfig={"latency": "optimized"},
        somethingNew=1,
        guardrailConfig=None,
        additionalModelRequestFields={"anthropic_beta": ["x"], "k": 3},
    )
    named = {"cachePoint", "requestMetadata", "performanceConfig", "somethingNew", "additionalModelRequestFields.anthropic_beta"}
    assert set(prompt.harmless) == named
    assert (prompt.top_k, prompt.turns) == (3, (USER,))


def test_turns_of_one_role_become_one():
    """And what the system says in between is the system's."""
    messages = [
        {"role": "user", "content": [{"text": "a"}]},
        {"role": "system", "content": [{"text": "s"}]},
        {"role": "user", "content": [{"text": "b"}, {"guardContent": {"text": {"text": "c"}}}]},
        {"role": "assistant", "content": [{"text": ""}]},
        {"role": "user", "content": [{"toolResult": {"toolUseId": "t", "content": [{"json": {"a": "ü"}}]}}]},
    ]
    prompt = read(messages=messages, system=[{"text": "first"}])
    assert prompt.system == ("first", "s")
    assert [turn.role for turn in prompt.turns[:1]] == ["user"]
    assert prompt.turns[0].parts[:3] == (Text("a"), Text("b"), Text("c"))
    assert ToolResult("t", "", (Text('{"a":"ü"}'),)) in prompt.turns[-1].parts


FULL = {
    "messages": [
        {"role": "user", "content": [{"text": "hi"}, {"image": {"format": "png", "source": {"bytes": "AAAA"}}}]},
        {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}},
                {"toolUse": {"toolUseId": "t", "name": "f", "input": {"a": 1}}},
                {"citationsContent": {"content": [{"text": "c"}]}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"toolResult": {"toolUseId": "t", "content": [{"json": {}}, {"text": "r"}], "status": "error"}},
                {"guardContent": {"text": {"text": "g"}}},
            ],
        },
    ],
    "system": [{"text": "s"}, {"cachePoint": {"type": "default"}}],
    "inferenceConfig": {"maxTokens": 9, "temperature": 0.5, "topP": 0.9, "stopSequences": ["END"]},
    "toolConfig": {
        "tools": [{"toolSpec": {"name": "f", "description": "d", "inputSchema": {"json": {"type": "object"}}, "strict": True}}],
        "toolChoice": {"tool": {"name": "f"}},
    },
    "outputConfig": {
        "effort": "low",
        "textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"name": "n", "schema": "{}"}}},
    },
    "additionalModelRequestFields": {
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "reasoning_config": {"type": "disabled"},
        "output_config": {"effort": "low"},
        "inferenceConfig": {"topK": 5},
        "top_k": 5,
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    },
    "guardrailConfig": None,
}


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


@pytest.mark.parametrize("model", [CLAUDE, "anthropic.claude-opus-4-7", "us.amazon.nova-2-lite-v1:0", "openai.gpt-oss-20b-1:0"])
def test_anything_anywhere_is_read_or_rejected(model):
    """What is read can be composed, and nothing else is ever raised."""
    for said in spoilt(FULL):
        with contextlib.suppress(Rejected):
            prompt = BEDROCK.read_prompt(BEDROCK.parse_call(BEDROCK.endpoints[0], json.dumps(said).encode(), Asked({"id": model})))
            assert BEDROCK.unsaid(prompt) is not None
            BEDROCK.compose(prompt)


def test_half_a_character_is_read():
    """JavaScript writes one for a string cut in two."""
    body = b'{"messages":[{"role":"user","content":[{"text":"a\\ud83d"}]}]}'
    call = BEDROCK.parse_call(BEDROCK.endpoints[0], body, Asked({"id": "m"}))
    assert call.body == body
    assert BEDROCK.read_prompt(call).turns == (Turn("user", (Text("a\ud83d"),)),)
