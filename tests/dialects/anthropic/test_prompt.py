"""A client's Messages request in no dialect: what is read, what is named and left out, what is refused."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import Rejected
from gateway.core.prompt import Choice, Image, Prompt, Reasoning, Shape, Text, Thought, Tool, ToolResult, ToolUse, Turn
from gateway.dialects.anthropic import ANTHROPIC
from gateway.dialects.anthropic.dialect import ENDPOINTS
from gateway.dialects.base import Asked

MESSAGES, COUNT = ENDPOINTS
HI = {"role": "user", "content": "hi"}


def read(endpoint=MESSAGES, **members: Any) -> Prompt:
    body = {"model": "m", "max_tokens": 9, "messages": [HI], **members}
    return ANTHROPIC.read_prompt(ANTHROPIC.parse_call(endpoint, json.dumps(body).encode(), Asked()))


def user(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


WEATHER = {"name": "weather", "description": "of a city", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
CACHED = {"cache_control": {"type": "ephemeral"}}


def test_everything_that_matters_is_read() -> None:
    """Several turns with pictures, tools and their results, and all that steers an answer."""
    prompt = read(
        system=[{"type": "text", "text": "Be brief.", **CACHED}, {"type": "text", "text": "Be kind."}],
        messages=[
            user(
                {"type": "text", "text": "Where is this?"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}, **CACHED},
                {"type": "image", "source": {"type": "url", "url": "https://example.org/a.jpg"}},
            ),
            assistant(
                {"type": "thinking", "thinking": "A bridge.", "signature": "c2ln"},
                {"type": "redacted_thinking", "data": "eA=="},
                {"type": "text", "text": "Let me look.", "citations": None},
                {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Graz"}},
            ),
            user(
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny"},
                {"type": "text", "text": "And?"},
            ),
        ],
        tools=[{**WEATHER, "strict": True, **CACHED}, {"type": "custom", "name": "now", "input_schema": {"type": "object"}}],
        tool_choice={"type": "tool", "name": "now", "disable_parallel_tool_use": True},
        stop_sequences=["END"],
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        stream=True,
        metadata={"user_id": "u1"},
        thinking={"type": "enabled", "budget_tokens": 2048},
        output_config={"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}},
        service_tier="auto",
    )
    assert prompt == Prompt(
        model="m",
        stream=True,
        system=("Be brief.", "Be kind."),
        turns=(
            Turn("user", (Text("Where is this?"), Image("image/png", "aGk="), Image(url="https://example.org/a.jpg"))),
            Turn(
                "assistant",
                (Thought("A bridge.", "c2ln"), Text("Let me look."), ToolUse("toolu_1", "weather", '{"city":"Graz"}')),
            ),
            Turn("user", (ToolResult("toolu_1", "weather", (Text("sunny"),)), Text("And?"))),
        ),
        tools=(Tool("weather", "of a city", WEATHER["input_schema"], True), Tool("now", "", {"type": "object"})),  # type: ignore[arg-type]
        choice=Choice("named", "now"),
        parallel_tools=False,
        max_tokens=9,
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        stop=("END",),
        shape=Shape({"type": "object"}, strict=True),
        reasoning=Reasoning("low", 2048),
        user="u1",
        harmless=("service_tier", "cache_control", "redacted_thinking"),
    )


def test_little_is_read_as_little() -> None:
    """What is not said is not made up."""
    assert read(stop_sequences=None, tools=None, system=None, temperature=None) == Prompt(
        model="m", stream=False, max_tokens=9, turns=(Turn("user", (Text("hi"),)),)
    )


def test_turns_of_one_role_become_one() -> None:
    """And instructions among them join the others."""
    prompt = read(
        system="One.", messages=[HI, HI, {"role": "system", "content": "Two."}, HI, assistant(), user({"type": "text", "text": ""})]
    )
    assert prompt.turns == (Turn("user", (Text("hi"),) * 3),)
    assert prompt.system == ("One.", "Two.")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("sunny", (Text("sunny"),)),
        ("", ()),
        (None, ()),
        ([{"type": "text", "text": "a"}, {"type": "image", "source": {"type": "url", "url": "u"}}], (Text("a"), Image(url="u"))),
    ],
)
def test_tool_results_have_parts(content: Any, parts: tuple[Any, ...]) -> None:
    """A string, nothing, or a list of what can be seen; a failure is a failure."""
    result = {"type": "tool_result", "tool_use_id": "gone", "content": content, "is_error": True}
    assert read(messages=[user(result)]).turns[0].parts == (ToolResult("gone", "", parts, failed=True),)


@pytest.mark.parametrize(
    ("members", "reasoning", "harmless"),
    [
        ({"thinking": {"type": "disabled"}}, Reasoning("none"), ()),
        ({"thinking": {"type": "enabled", "budget_tokens": 4000}}, Reasoning(None, 4000), ()),
        ({"thinking": {"type": "adaptive"}}, None, ("thinking",)),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "medium"}}, Reasoning("medium"), ()),
        ({"output_config": {"effort": "max"}}, Reasoning("max"), ()),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "xhigh"}}, Reasoning("xhigh"), ()),
        ({"output_config": {"effort": "odd", "task_budget": 5}}, None, ("output_config.effort", "output_config.task_budget")),
        ({"thinking": {"type": "between_tools"}}, None, ("thinking",)),
        ({"thinking": {"type": "enabled"}}, None, ()),
    ],
)
def test_how_much_to_think(members: dict[str, Any], reasoning: Reasoning | None, harmless: tuple[str, ...]) -> None:
    """Words, numbers, or not at all; where the model decides, nothing is said."""
    prompt = read(**members)
    assert (prompt.reasoning, prompt.harmless) == (reasoning, harmless)


@pytest.mark.parametrize(
    ("choice", "mode", "alone"),
    [
        ({"type": "auto"}, Choice("auto"), None),
        ({"type": "any", "disable_parallel_tool_use": False}, Choice("required"), True),
        ({"type": "none"}, Choice("none"), None),
    ],
)
def test_which_tools_to_use(choice: dict[str, Any], mode: Choice, alone: bool | None) -> None:
    """The choice, and whether one call at a time."""
    prompt = read(tools=[WEATHER], tool_choice=choice)
    assert (prompt.choice, prompt.parallel_tools) == (mode, alone)


PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="}}


@pytest.mark.parametrize(
    ("members", "member"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools.web_search_20250305"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools.bash_20250124"),
        ({"messages": [user(PDF)]}, "document.source"),
        ({"messages": [user({"type": "image", "source": {"type": "file", "file_id": "f"}})]}, "image.source"),
        ({"messages": [user({"type": "container_upload", "file_id": "f"})]}, "container_upload"),
        ({"messages": [assistant({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}})]}, "server_tool_use"),
        ({"messages": [user({"type": "tool_result", "tool_use_id": "t", "content": [PDF]})]}, "document.source"),
        ({"messages": [user({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "search_result"}]})]}, "search_result"),
        ({"mcp_servers": [{"type": "url", "url": "u", "name": "n"}]}, "mcp_servers"),
        ({"container": "c1"}, "container"),
        ({"tools": [{"type": []}]}, "tools.[]"),
        ({"output_config": {"format": {"type": "grammar"}}}, "output_config.format"),
        ({"endpoint": COUNT}, "count_tokens"),
    ],
)
def test_what_no_other_dialect_can_be_told_is_refused(members: dict[str, Any], member: str) -> None:
    """By name, and before any upstream is asked."""
    with pytest.raises(Rejected) as rejected:
        read(**members)
    assert (rejected.value.code, rejected.value.message) == ("untranslatable", f"`{member}` cannot be expressed in another dialect")


@pytest.mark.parametrize(
    "members",
    [
        {"messages": None},
        {"messages": "hi"},
        {"messages": [5]},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": []}]},
        {"messages": [{"role": {}, "content": "x"}]},
        {"messages": [user({"type": "text"})]},
        {"messages": [user({"type": "tool_result", "content": "x"})]},
        {"messages": [assistant({"type": "tool_use", "id": 5, "name": "f"})]},
        {"temperature": "hot"},
        {"max_tokens": 1.5},
        {"top_k": -1},
        {"stop_sequences": "END"},
        {"stop_sequences": [5]},
        {"tool_choice": {"type": "some"}},
        {"tool_choice": {"type": "tool"}},
        {"tools": {}},
    ],
)
def test_what_makes_no_sense_is_refused(members: dict[str, Any]) -> None:
    """A translation has to understand what it translates; the upstream could only answer for our mistake."""
    with pytest.raises(Rejected) as rejected:
        read(**members)
    assert (rejected.value.code, rejected.value.status) == ("invalid_request", 400)


@pytest.mark.parametrize("member", [b"7" * 4301, b"[" * 980 + b"]" * 980])
def test_what_only_a_lazy_reader_takes_is_refused(member: bytes) -> None:
    """Numbers of more digits than Python reads, and depths beyond its stack, pass as they are; they cannot be translated."""
    body = b'{"model":"m","max_tokens":1,"messages":[],"x":%b}' % member
    with pytest.raises(Rejected) as rejected:
        ANTHROPIC.read_prompt(ANTHROPIC.parse_call(MESSAGES, body, Asked()))
    assert (rejected.value.code, rejected.value.status) == ("invalid_json", 400)


def test_documents_of_text_are_text() -> None:
    """Their titles and citations are left out, and named."""
    source = {"type": "text", "media_type": "text/plain", "data": "Once."}
    prompt = read(messages=[user({"type": "document", "source": source, "title": "Tale", "citations": {"enabled": True}})])
    assert prompt.turns[0].parts == (Text("Once."),)
    assert prompt.harmless == ("title", "citations")


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["text", "image", "tool_use", "tool_result", "user"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "role", "content", "text", "source", "id", "name", "input", "effort", "format"]), inner, max_size=5
        )
    ),
    max_leaves=12,
)


MEMBERS = ["messages", "system", "tools", "tool_choice", "thinking", "output_config", "metadata", "stop_sequences", "x"]


@settings(max_examples=300, deadline=None)
@given(members=st.dictionaries(st.sampled_from(MEMBERS), JUNK, max_size=5), message=JUNK)
def test_no_request_breaks_the_reading(members: dict[str, Any], message: Any) -> None:
    """Whatever a client sends is read or refused, never anything else."""
    with contextlib.suppress(Rejected):
        read(**{"messages": [{"role": "user", "content": message}], **members})
