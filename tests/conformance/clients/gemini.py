"""generateContent by the `google-genai` package."""

from contextlib import closing
from functools import cache
from typing import Any

from google import genai
from google.genai import errors, types

from tests.conformance.outcome import PICTURE, SCHEMA, SYSTEM, TIMEOUT, TOOLS, Asked, Finish, Outcome, ToolCall

FINISH: dict[str, Finish] = {"STOP": "stop", "MAX_TOKENS": "length", "SAFETY": "filtered"}


def request(asked: Asked) -> dict[str, Any]:
    """The arguments of `generate_content`."""
    pictures = [types.Part.from_bytes(data=PICTURE, mime_type="image/png")] if asked.picture else []
    contents = [types.Content(role="user", parts=[types.Part(text=asked.text), *pictures])]
    if asked.calls:
        uses = [types.FunctionCall(id=call.id or None, name=call.name, args=call.arguments) for call in asked.calls]
        results = [types.FunctionResponse(id=call.id or None, name=call.name, response={"output": asked.result}) for call in asked.calls]
        contents.append(types.Content(role="model", parts=[types.Part(function_call=use) for use in uses]))
        contents.append(types.Content(role="user", parts=[types.Part(function_response=result) for result in results]))
    tools = [
        types.FunctionDeclaration(name=name, description=tool["description"], parameters_json_schema=tool["parameters"])
        for name, tool in TOOLS.items()
    ]
    config = types.GenerateContentConfig(
        system_instruction=SYSTEM,
        max_output_tokens=asked.max_tokens,
        tools=[types.Tool(function_declarations=tools)] if asked.tools else None,
        thinking_config=types.ThinkingConfig(thinking_budget=1024, include_thoughts=True) if asked.reasoning else None,
        response_mime_type="application/json" if asked.picture else None,
        response_json_schema=SCHEMA if asked.picture else None,
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )
    return {"model": asked.model, "contents": contents, "config": config}


@cache
def client(url: str) -> genai.Client:
    """One client for all questions, as applications have it."""
    retry = types.HttpRetryOptions(attempts=1)
    options = types.HttpOptions(base_url=url, timeout=int(TIMEOUT * 1000), retry_options=retry, client_args={"trust_env": False})
    return genai.Client(api_key="conformance", vertexai=False, http_options=options)


def ask(asked: Asked) -> Outcome:
    """Ask once and read to the end."""
    outcome = Outcome()
    models = client(asked.url).models
    try:
        if asked.stream:
            for chunk in models.generate_content_stream(**request(asked)):
                _read(chunk, outcome)
        else:
            _read(models.generate_content(**request(asked)), outcome)
    except errors.APIError as error:
        outcome.fail(error, error.code)
    return outcome


def leave(asked: Asked) -> None:
    """Close the stream after its first text; this SDK has no other way than to close the iterator."""
    with closing(client(asked.url).models.generate_content_stream(**request(asked))) as stream:
        next(chunk for chunk in stream if chunk.text)


def _read(answer: Any, outcome: Outcome) -> None:
    """Add a chunk, or the whole answer, which has the same shape."""
    if answer.usage_metadata is not None:
        usage = answer.usage_metadata
        outcome.input = usage.prompt_token_count
        outcome.output = None if usage.total_token_count is None else usage.total_token_count - usage.prompt_token_count
    for candidate in answer.candidates or ():
        for part in (candidate.content and candidate.content.parts) or ():
            if part.function_call is not None:
                call = part.function_call
                outcome.calls.append(ToolCall(call.id or "", call.name, call.args or {}))
            elif part.thought:
                outcome.reasoning += part.text or ""
            else:
                outcome.text += part.text or ""
            outcome.pieces += bool(part.text or part.function_call)
        if candidate.finish_reason is not None:
            finish = FINISH[candidate.finish_reason.value]
            outcome.finish = "tools" if finish == "stop" and outcome.calls else finish
