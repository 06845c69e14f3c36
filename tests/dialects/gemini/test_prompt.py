"""Gemini requests, said in no dialect and back: what is kept, what is dropped by name, and what is refused."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.call import Call
from gateway.core.errors import Rejected
from gateway.core.prompt import Choice, Image, Prompt, Reasoning, Shape, Text, Thought, Tool, ToolResult, ToolUse, Turn
from gateway.dialects.gemini import GEMINI


def call(body: object, model: str = "gemini-2.5-flash") -> Call:
    path = f"/v1beta/models/{model}:streamGenerateContent?alt=sse"
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Call(dialect="gemini", operation="chat", path=path, model=model, body=data, stream=True)


def read(body: object) -> Prompt:
    return GEMINI.read_prompt(call(body))


def composed(**members: object) -> dict:
    return json.loads(GEMINI.compose(Prompt(**{"model": "gemini-2.5-flash", "stream": True, **members})).body)


SCHEMA = {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]}
FULL = {
    "systemInstruction": {"parts": [{"text": "Be brief."}, {"text": "Be kind."}]},
    "contents": [
        {"role": "user", "parts": [{"text": "What is this?"}, {"inlineData": {"mimeType": "image/png", "data": "iVBO"}}]},
        {"role": "user", "parts": [{"fileData": {"mimeType": "image/jpeg", "fileUri": "https://pictures.test/a.jpg"}}]},
        {
            "role": "model",
            "parts": [
                {"text": "Let me look.", "thought": True},
                {"text": "Looking."},
                {"functionCall": {"id": "f-1", "name": "look", "args": {"at": "sky"}}},
                {"functionCall": {"id": "f-2", "name": "wait", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "f-1", "name": "look", "response": {"color": "blue"}}},
                {"functionResponse": {"id": "f-2", "name": "wait", "response": {"error": "no time"}}},
            ],
        },
    ],
    "tools": [
        {"functionDeclarations": [{"name": "look", "description": "Looks.", "parametersJsonSchema": SCHEMA}]},
        {"functionDeclarations": [{"name": "wait"}]},
    ],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["look"]}},
    "generationConfig": {
        "temperature": 0.5,
        "topP": 0.9,
        "topK": 40,
        "maxOutputTokens": 256,
        "seed": 7,
        "presencePenalty": 0.1,
        "frequencyPenalty": 0.2,
        "stopSequences": ["END"],
        "candidateCount": 1,
        "responseMimeType": "application/json",
        "responseJsonSchema": SCHEMA,
        "thinkingConfig": {"includeThoughts": True, "thinkingBudget": 1024},
    },
    "safetySettings": [],
    "labels": {"team": "a"},
}
PROMPT = Prompt(
    model="gemini-2.5-flash",
    stream=True,
    system=("Be brief.", "Be kind."),
    turns=(
        Turn("user", (Text("What is this?"), Image("image/png", "iVBO"), Image("image/jpeg", url="https://pictures.test/a.jpg"))),
        Turn(
            "assistant",
            (Thought("Let me look."), Text("Looking."), ToolUse("f-1", "look", '{"at":"sky"}'), ToolUse("f-2", "wait", "{}")),
        ),
        Turn("user", (ToolResult("f-1", "look", (Text('{"color":"blue"}'),)), ToolResult("f-2", "wait", (Text("no time"),), True))),
    ),
    tools=(Tool("look", "Looks.", SCHEMA), Tool("wait")),
    choice=Choice("named", "look"),
    max_tokens=256,
    temperature=0.5,
    top_p=0.9,
    top_k=40,
    seed=7,
    frequency_penalty=0.2,
    presence_penalty=0.1,
    stop=("END",),
    shape=Shape(SCHEMA),
    reasoning=Reasoning(budget=1024),
    harmless=("safetySettings", "labels"),
)


def test_everything_a_request_says_is_kept():
    """Turns merged, pictures, calls and results, tools, sampling, shape and thinking; what is dropped is named."""
    assert read(FULL) == PROMPT
    assert GEMINI.unsaid(PROMPT) == PROMPT.harmless


def test_snake_case_says_the_same():
    """Proto3 JSON takes either."""
    snake = {
        "system_instruction": {"parts": {"text": "s"}},
        "contents": {"parts": [{"inline_data": {"mime_type": "image/png", "data": "-_8"}}]},
        "generation_config": {"max_output_tokens": 5, "response_mime_type": "application/json", "response_json_schema": SCHEMA},
        "tool_config": {"function_calling_config": {"mode": "none"}},
        "tools": {"function_declarations": {"name": "f"}},
    }
    said = read(snake)
    assert (said.system, said.turns, said.max_tokens) == (("s",), (Turn("user", (Image("image/png", "+/8="),)),), 5)
    assert (said.shape, said.choice, said.tools) == (Shape(SCHEMA), Choice("none"), (Tool("f"),))
    assert said.harmless == ()


def test_composing_what_was_read_says_the_same_again():
    """A round through no dialect keeps everything that matters."""
    again = GEMINI.compose(PROMPT)
    assert GEMINI.read_prompt(again) == msgspec.structs.replace(PROMPT, harmless=())
    assert again.path == "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
    assert (again.max_tokens, again.temperature, again.top_p, again.seed, again.stream) == (256, 0.5, 0.9, 7, True)
    out = GEMINI.outgoing(again, None, False)
    assert (out.path, out.body) == (again.path, again.body)
    assert GEMINI.compose(Prompt(model="m", stream=False)).path == "/v1beta/models/m:generateContent"


def test_calls_without_ids_get_them_and_results_find_theirs():
    """Gemini matches by name and order: the first result of a tool is for its first call that waits."""
    called = [{"functionCall": {"name": name, "args": {}}} for name in ("a", "b", "a")]
    answered = [{"functionResponse": {"name": name, "response": {"output": name}}} for name in ("a", "a", "b", "c")]
    said = read({"contents": [{"role": "model", "parts": called}, {"role": "function", "parts": answered}]})
    assert [part.id for part in said.turns[0].parts] == ["call_1", "call_2", "call_3"]
    assert [(part.id, part.name) for part in said.turns[1].parts] == [("call_1", "a"), ("call_3", "a"), ("call_2", "b"), ("call_4", "c")]


def test_results_are_what_tools_said():
    """A lone output, result or error is the text; any other object is text as a whole; pictures stand by it."""
    responses = [{"output": "o"}, {"result": 3}, {"error": "e"}, {"output": "o", "more": 1}, {}]
    parts = [{"functionResponse": {"id": str(i), "name": "f", "response": said}} for i, said in enumerate(responses)]
    parts.append({"functionResponse": {"id": "p", "name": "f", "parts": [{"inlineData": {"mimeType": "image/png", "data": "AA"}}]}})
    said = read({"contents": [{"role": "user", "parts": parts}]}).turns[0].parts
    assert [(part.parts[0].text, part.failed) for part in said] == [
        ("o", False), ("3", False), ("e", True), ('{"output":"o","more":1}', False), ("{}", False), ("{}", False),
    ]  # fmt: skip
    assert said[-1].parts[1:] == (Image("image/png", "AA=="),)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"cachedContent": "cachedContents/1"}, "cachedContent"),
        ({"generationConfig": {"candidateCount": 2}}, "generationConfig.candidateCount"),
        ({"generationConfig": {"responseLogprobs": True}}, "generationConfig.responseLogprobs"),
        ({"generationConfig": {"responseModalities": ["TEXT", "IMAGE"]}}, "generationConfig.responseModalities"),
        ({"generationConfig": {"speechConfig": {}}}, "generationConfig.speechConfig"),
        ({"generationConfig": {"responseMimeType": "text/x.enum"}}, "generationConfig.responseMimeType"),
        ({"tools": [{"googleSearch": {}}]}, "tools.googleSearch"),
        ({"tools": [{"code_execution": {}}]}, "tools.codeExecution"),
        ({"contents": [{"role": "system", "parts": []}]}, "contents.role"),
        ({"contents": [{"role": ["x"], "parts": []}]}, "contents.role"),
        ({"contents": [{"parts": [{"executableCode": {"code": "1"}}]}]}, "contents.parts.executableCode"),
        ({"contents": [{"parts": [{"inlineData": {"mimeType": "audio/wav", "data": "AA"}}]}]}, "contents.parts.inlineData"),
        ({"contents": [{"parts": [{"fileData": {"mimeType": "application/pdf", "fileUri": "https://a/b"}}]}]}, "contents.parts.fileData"),
        ({"contents": [{"parts": [{"fileData": {"mimeType": "image/png", "fileUri": "gs://a/b"}}]}]}, "contents.parts.fileData"),
        (
            {"contents": [{"parts": [{"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/a"}}]}]},
            "contents.parts.fileData",
        ),
        ({"contents": [{"parts": [{"fileData": {"fileUri": "https://www.youtube.com/watch?v=a"}}]}]}, "contents.parts.fileData"),
        ({"systemInstruction": {"parts": [{"inlineData": {}}]}}, "systemInstruction.parts"),
        (
            {"toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["a", "b"]}}},
            "toolConfig.functionCallingConfig.allowedFunctionNames",
        ),
    ],
)
def test_what_no_other_dialect_can_be_told_is_refused_by_name(body, field):
    """What an answer depends on is not dropped."""
    with pytest.raises(Rejected) as refused:
        read(body)
    assert refused.value.code == "untranslatable"
    assert f"`{field}`" in refused.value.message


@pytest.mark.parametrize(
    ("body", "harmless"),
    [
        ({"serviceTier": "flex"}, "serviceTier"),
        ({"generationConfig": {"mediaResolution": "LOW"}}, "generationConfig.mediaResolution"),
        ({"contents": [{"parts": [{"text": "a", "thoughtSignature": "c2ln"}]}]}, "contents.parts.thoughtSignature"),
        ({"tools": [{"functionDeclarations": [{"name": "f", "response": {}}]}]}, "tools.functionDeclarations.response"),
        ({"never_heard_of": 1}, "neverHeardOf"),
    ],
)
def test_what_no_answer_depends_on_is_dropped_by_name(body, harmless):
    """Unknown members too."""
    assert read(body).harmless == (harmless,)


@pytest.mark.parametrize(
    ("thinking", "reasoning"),
    [
        ({"thinkingBudget": 0}, Reasoning(effort="none")),
        ({"thinkingBudget": -1}, None),
        ({"thinkingBudget": 512}, Reasoning(budget=512)),
        ({"thinkingLevel": "low"}, Reasoning(effort="low")),
        ({"thinkingLevel": "MINIMAL"}, Reasoning(effort="minimal")),
        ({"thinkingLevel": "MEDIUM"}, Reasoning(effort="medium")),
        ({"thinkingLevel": "XHIGH"}, Reasoning(effort="xhigh")),
        ({}, None),
    ],
)
def test_thinking_is_an_effort_or_a_budget(thinking, reasoning):
    """No thinking is an effort too; what is left to the model is not said."""
    assert read({"generationConfig": {"thinkingConfig": thinking}}).reasoning == reasoning


@pytest.mark.parametrize(
    ("reasoning", "model", "thinking"),
    [
        (Reasoning(effort="none"), "gemini-2.5-flash", {"includeThoughts": False, "thinkingBudget": 0}),
        (Reasoning(effort="medium"), "gemini-2.5-pro", {"includeThoughts": True, "thinkingBudget": 8192}),
        (Reasoning(effort="medium"), "gemini-3-flash-preview", {"includeThoughts": True, "thinkingLevel": "medium"}),
        (Reasoning(effort="none"), "gemini-3-flash-preview", {"includeThoughts": False, "thinkingLevel": "minimal"}),
        (Reasoning(effort="minimal"), "models/gemini-3.1-pro", {"includeThoughts": True, "thinkingLevel": "low"}),
        (Reasoning(effort="max"), "gemini-3-pro", {"includeThoughts": True, "thinkingLevel": "high"}),
        (Reasoning(effort="xhigh"), "gemini-2.5-flash", {"includeThoughts": True, "thinkingBudget": 24_576}),
        (Reasoning(effort="high", budget=99), "gemini-2.5-pro", {"includeThoughts": True, "thinkingBudget": 128}),
        (Reasoning(budget=99), "gemini-3-pro", {"includeThoughts": True, "thinkingLevel": "low"}),
        (Reasoning(budget=9000), "gemini-3.5-flash", {"includeThoughts": True, "thinkingLevel": "high"}),
        (Reasoning(effort="none"), "gemini-2.5-pro", {"includeThoughts": False, "thinkingBudget": 128}),
        (Reasoning(effort="none"), "gemini-2.5-flash-lite", {"includeThoughts": False, "thinkingBudget": 0}),
        (Reasoning(budget=5), "gemini-2.5-flash-lite", {"includeThoughts": True, "thinkingBudget": 512}),
    ],
)
def test_effort_is_said_as_the_model_takes_it(reasoning, model, thinking):
    """Tokens for Gemini 2.5, within its bounds; levels from 3 on; nothing before 2.5."""
    assert composed(model=model, reasoning=reasoning)["generationConfig"] == {"thinkingConfig": thinking}


def test_foreign_tool_calls_are_signed_for_gemini_3():
    """It answers 400 to a call without a thought signature; the first of each turn carries Google's stand-in."""
    turns = (Turn("assistant", (Text("a"), ToolUse("1", "f", '{"x":1}'), ToolUse("2", "f", "torn"))),)
    (content,) = composed(model="gemini-3-pro-preview", turns=turns)["contents"]
    assert content["parts"] == [
        {"text": "a"},
        {"functionCall": {"id": "1", "name": "f", "args": {"x": 1}}, "thoughtSignature": "skip_thought_signature_validator"},
        {"functionCall": {"id": "2", "name": "f", "args": {}}},
    ]
    assert "thoughtSignature" not in json.dumps(composed(turns=turns))
    assert "thoughtSignature" in json.dumps(composed(turns=turns, model="gemini-flash-latest"))


def test_signatures_of_calls_go_both_ways():
    """Gemini's own come back with their calls; one on any other part is not kept."""
    called = {"functionCall": {"id": "1", "name": "f", "args": {}}, "thoughtSignature": "c2ln"}
    said = read({"contents": [{"role": "model", "parts": [called, {"text": "a", "thought_signature": "eA=="}]}]})
    assert said.turns[0].parts == (ToolUse("1", "f", "{}", "c2ln"), Text("a"))
    assert said.harmless == ("contents.parts.thoughtSignature",)
    turns = (Turn("assistant", (ToolUse("0", "f", "{}"), *said.turns[0].parts)),)
    parts = composed(model="gemini-3-pro-preview", turns=turns)["contents"][0]["parts"]
    assert [part.get("thoughtSignature") for part in parts] == [None, "c2ln", None]


def test_an_answer_kept_chunk_by_chunk_is_put_together():
    """Clients keep one content for each chunk of a stream, the last one empty; what a user says stays in its parts."""
    chunks = [
        {"text": "Hm", "thought": True},
        {"text": ".", "thought": True},
        {"text": "Hel"},
        {"text": "lo\n"},
        {"text": "\n"},
        {"text": ""},
    ]
    contents = [{"role": "model", "parts": [part]} for part in chunks]
    said = read({"contents": [{"parts": [{"text": "a"}, {"text": "b"}]}, *contents]})
    assert said.turns == (Turn("user", (Text("a"), Text("b"))), Turn("assistant", (Thought("Hm."), Text("Hello\n\n"))))


def test_results_and_pictures_of_other_dialects_are_said():
    """Names come from the calls, plain text is an output, data URLs and suffixes tell what a picture is; nothing empty is said."""
    turns = (
        Turn("user", (Text(""),)),
        Turn("assistant", (ToolUse("1", "look", "{}"),)),
        Turn("user", (ToolResult("1", "", (Text("blue"), Image("image/png", "AA"))), ToolResult("9", "", (Text("e"),), failed=True))),
        Turn("user", (Image(url="data:image/gif;base64,R0lG"), Image(url="https://p.test/a.PNG?x=1"), Image(url="https://p.test/a"))),
    )
    contents = composed(turns=turns)["contents"]
    assert contents[1]["parts"] == [
        {"functionResponse": {"id": "1", "name": "look", "response": {"output": "blue"}}},
        {"inlineData": {"mimeType": "image/png", "data": "AA"}},
        {"functionResponse": {"id": "9", "name": "", "response": {"error": "e"}}},
    ]
    assert contents[2]["parts"] == [
        {"inlineData": {"mimeType": "image/gif", "data": "R0lG"}},
        {"fileData": {"mimeType": "image/png", "fileUri": "https://p.test/a.PNG?x=1"}},
        {"fileData": {"fileUri": "https://p.test/a"}},
    ]


def test_tools_that_take_nothing_are_declared_without_parameters():
    """Gemini refuses an object without properties; any other schema goes as it is."""
    empty = {"type": "object", "properties": {}, "additionalProperties": False}
    tools = (Tool("a", "", empty), Tool("b", "B", SCHEMA), Tool("c", "", {"$ref": "#/x"}), Tool("d"))
    assert composed(tools=tools)["tools"][0]["functionDeclarations"] == [
        {"name": "a"},
        {"name": "b", "description": "B", "parametersJsonSchema": SCHEMA},
        {"name": "c", "parametersJsonSchema": {"$ref": "#/x"}},
        {"name": "d"},
    ]


def test_a_tool_that_said_nothing_has_an_empty_output():
    """Its result is an answer too."""
    (content,) = composed(turns=(Turn("user", (ToolResult("1", "f", ()),)),))["contents"]
    assert content["parts"] == [{"functionResponse": {"id": "1", "name": "f", "response": {"output": ""}}}]


def test_instructions_alone_are_the_user_s():
    """Gemini refuses a call without contents."""
    assert composed(system=("Say hi.",)) == {"contents": [{"role": "user", "parts": [{"text": "Say hi."}]}]}


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (Choice("auto"), {"mode": "AUTO"}),
        (Choice("none"), {"mode": "NONE"}),
        (Choice("required"), {"mode": "ANY"}),
        (Choice("named", "f"), {"mode": "ANY", "allowedFunctionNames": ["f"]}),
    ],
)
def test_tool_choices_go_both_ways(choice, said):
    """Each has its mode, and comes back."""
    body = composed(choice=choice, tools=(Tool("f"), Tool("g")))
    assert body["toolConfig"] == {"functionCallingConfig": said}
    assert read(body).choice == choice


def test_what_gemini_cannot_be_told_is_refused_or_named():
    """It always may call several tools at once; a user and strictness are no part of its answers."""
    with pytest.raises(Rejected, match="`parallel_tools` cannot be expressed in the gemini dialect"):
        composed(parallel_tools=False, tools=(Tool("f"),))
    assert composed(parallel_tools=False) == {"contents": []}
    with pytest.raises(Rejected, match="`image` cannot be expressed"):
        composed(turns=(Turn("user", (Image("image/png"),)),))
    with pytest.raises(Rejected, match="`choice` cannot be expressed"):
        composed(choice=Choice("required"))
    assert composed(choice=Choice("auto")) == {"contents": []}
    with pytest.raises(Rejected, match="`stop` cannot be expressed"):
        composed(stop=tuple("abcdef"))
    assert composed(frequency_penalty=0.0, presence_penalty=0.0) == {"contents": []}
    prompt = Prompt(model="m", stream=True, user="u", tools=(Tool("f", strict=True),), harmless=("cache_control",))
    assert GEMINI.unsaid(prompt) == ("cache_control", "user", "tools.strict")
    thoughtless = Prompt(model="gemini-2.0-flash", stream=True, reasoning=Reasoning("high"))
    assert (GEMINI.unsaid(thoughtless), json.loads(GEMINI.compose(thoughtless).body)) == (("reasoning",), {"contents": []})


def test_gemini_s_own_schemas_become_json_schema():
    """Types in capitals, nullable, ordering and counts as strings."""
    own = {
        "type": "OBJECT",
        "propertyOrdering": ["a"],
        "properties": {
            "type": {"type": "STRING", "nullable": True, "format": "enum", "enum": ["x"]},
            "a": {"type": "ARRAY", "items": {"type": "INTEGER", "format": "int32"}, "min_items": "1"},
            "b": {"any_of": [{"type": "NUMBER"}, {"type": "TYPE_UNSPECIFIED"}]},
        },
    }
    assert read({"generationConfig": {"responseMimeType": "application/json", "responseSchema": own}}).shape == Shape(
        {
            "type": "object",
            "properties": {
                "type": {"type": ["string", "null"], "enum": ["x", None]},
                "a": {"type": "array", "items": {"type": "integer", "format": "int32"}, "minItems": 1},
                "b": {"anyOf": [{"type": "number"}, {}]},
            },
        }
    )


def test_half_characters_are_carried_on():
    """JavaScript cuts strings within a character: half of one stays the escape that it came as."""
    assert read(b'{"contents":[{"parts":[{"text":"a\\ud83d"}]}]}').turns == (Turn("user", (Text("a\ud83d"),)),)
    assert composed(system=("a\ud83d",))["contents"][0]["parts"] == [{"text": "a\ud83d"}]


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["model", "ANY", "application/json", "x"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["contents", "parts", "role", "text", "functionCall", "functionResponse", "response", "name", "args", "id", "inlineData",
             "fileData", "tools", "functionDeclarations", "parameters", "type", "properties", "generationConfig", "thinkingConfig",
             "thinkingBudget", "topK", "stopSequences", "systemInstruction", "toolConfig", "functionCallingConfig", "mode"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=25,
)  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(body=st.dictionaries(st.sampled_from(["contents", "tools", "generationConfig", "systemInstruction", "toolConfig"]), JSONS))
def test_odd_requests_are_read_or_refused(body):
    """Whatever a client sends, it is a prompt that can be composed, or a refusal."""
    try:
        prompt = read(body)
    except Rejected:
        return
    GEMINI.compose(prompt)
