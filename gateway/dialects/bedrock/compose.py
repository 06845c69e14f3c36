"""A prompt as a Converse request. Source: the Bedrock Runtime API reference, Converse.

What Converse has no word for goes to `additionalModelRequestFields`, which each family of models reads in its own way.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from gateway.core.call import Call
from gateway.core.errors import Rejected
from gateway.core.prompt import Choice, Image, Part, Prompt, Text, Thought, Tool, ToolResult, ToolUse
from gateway.dialects.bedrock import families
from gateway.dialects.lenient import arguments, encode, path_segment

_FORMATS = {"image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
_FOREIGN = re.compile(r"[^a-zA-Z0-9_-]")  # what is refused in the id of a tool call
_LONGEST_ID = 64


def path_of(model: str, verb: str) -> str:
    """Return the path of a model's door; the slashes and colons of ARNs are escaped, as AWS SDKs do."""
    return f"/model/{path_segment(model)}/{verb}"


def compose(prompt: Prompt) -> Call:
    """Make the Converse call that asks the same; raises `Rejected` that names what cannot be said here."""
    _refuse(prompt)
    inference = {"maxTokens": prompt.max_tokens, **families.sampling(prompt), "stopSequences": prompt.stop or None}
    body = {
        "messages": _messages(prompt),
        "system": [{"text": words} for words in prompt.system if words.strip()],
        "inferenceConfig": {name: value for name, value in inference.items() if value is not None},
        "toolConfig": _tools(prompt),
        "outputConfig": _output(prompt),
        "additionalModelRequestFields": _extra(prompt),
    }
    return Call(
        dialect="bedrock",
        operation="chat",
        path=path_of(prompt.model, "converse-stream" if prompt.stream else "converse"),
        model=prompt.model,
        body=encode({name: value for name, value in body.items() if value or name == "messages"}),
        stream=prompt.stream,
        temperature=prompt.temperature,
        top_p=prompt.top_p,
        max_tokens=prompt.max_tokens,
    )


def unsaid(prompt: Prompt) -> Sequence[str]:
    """Name what `compose` leaves out because an answer can do without it."""
    parts = [part for turn in prompt.turns for part in turn.parts]
    left_out = {
        "seed": prompt.seed is not None,  # everywhere a best effort
        "frequency_penalty": bool(prompt.frequency_penalty),
        "presence_penalty": bool(prompt.presence_penalty),
        "temperature": prompt.temperature != families.sampling(prompt).get("temperature"),
        "top_p": prompt.top_p != families.sampling(prompt).get("topP"),
        "top_k": prompt.top_k is not None and not families.top_k(prompt),
        "user": prompt.user is not None,
        "reasoning": prompt.reasoning is not None and prompt.reasoning.tokens != 0 and not families.thinking(prompt),
        "thought": any(isinstance(part, Thought) and not _is_vouched_for(part, prompt.model) for part in parts),
        "signature": any(isinstance(part, ToolUse) and part.signature for part in parts),
        "shape.strict": prompt.shape is not None and prompt.shape.strict is False,
    }
    return (*prompt.harmless, *(name for name, is_left_out in left_out.items() if is_left_out))


def _refuse(prompt: Prompt) -> None:
    """Raise for what an answer depends on and Converse cannot be told."""
    if prompt.shape is not None and prompt.shape.schema is None:
        raise _inexpressible("shape")
    if _has_tools(prompt) and prompt.parallel_tools is False and families.one_at_a_time(prompt) is None:
        raise _inexpressible("parallel_tools")
    if not prompt.tools and _mode(prompt.choice) in {"required", "named"}:
        raise _inexpressible("choice")
    if families.CLAUDE in prompt.model and not all(stop.strip() for stop in prompt.stop):
        raise _inexpressible("stop")  # white space alone it refuses to stop at


def _inexpressible(member: str) -> Rejected:
    return Rejected(f"`{member}` cannot be expressed in the bedrock dialect", code="untranslatable")


def _messages(prompt: Prompt) -> list[dict[str, Any]]:
    """Say the turns; where one has nothing left to say, its neighbours, which must not have the same role, become one."""
    messages: list[dict[str, Any]] = []
    for turn in prompt.turns:
        parts = turn.parts if _has_tools(prompt) else [piece for part in turn.parts for piece in _told(part)]
        content = list(_content(parts, prompt.model))
        if messages and messages[-1]["role"] == turn.role:
            messages[-1]["content"] += content
        elif content:
            messages.append({"role": turn.role, "content": content})
    return messages


def _content(parts: Iterable[Part], model: str) -> Iterator[dict[str, Any]]:
    """Say the parts of one turn, tool results first: nothing may stand between a call and its result."""
    for part in sorted(parts, key=lambda part: not isinstance(part, ToolResult)):
        if not isinstance(part, Thought) or _is_vouched_for(part, model):
            yield from _blocks(part)


def _told(part: Part) -> Iterator[Part]:
    """Tell of a call or a result in words: as what they are, they are refused in a call that offers no tools."""
    match part:
        case ToolUse():
            yield Text(f"[called {part.name} with {part.arguments or '{}'}]")
        case ToolResult():
            yield Text(f"[{part.name or 'the tool'} {'failed' if part.failed else 'answered'}]")
            yield from part.parts
        case _:
            yield part


def _is_vouched_for(thought: Thought, model: str) -> bool:
    """Tell whether reasoning can be said again: only Claude wants it back, and only with the signature that it gave."""
    return bool(thought.signature) and families.CLAUDE in model


def _blocks(part: Part) -> Iterator[dict[str, Any]]:
    """Say one part; blank text is refused, and so it is left out."""
    match part:
        case Text():
            if part.text.strip():
                yield {"text": part.text}
        case Image():
            yield {"image": _image(part)}
        case ToolUse():
            yield {"toolUse": {"toolUseId": _id(part.id), "name": part.name, "input": _input(part.arguments)}}
        case ToolResult():
            content = [block for piece in part.parts for block in _blocks(piece)]
            yield {"toolResult": {"toolUseId": _id(part.id), "content": content, "status": "error" if part.failed else "success"}}
        case Thought():
            yield {"reasoningContent": {"reasoningText": {"text": part.text, "signature": part.signature}}}


def _id(name: str) -> str:
    """Return the id of a call in characters and of a length that are taken."""
    return _FOREIGN.sub("_", name)[-_LONGEST_ID:] or "_"


def _image(image: Image) -> dict[str, Any]:
    """Say a picture: its bytes, or a place in S3; Bedrock fetches nothing from elsewhere."""
    if image.data is not None:
        source: dict[str, Any] = {"bytes": image.data}
    elif image.url is not None and image.url.startswith("s3://"):
        source = {"s3Location": {"uri": image.url}}
    else:
        raise _inexpressible("image.url")
    if (form := _FORMATS.get(image.media_type or _by_ending(image.url))) is None:
        raise _inexpressible("image.media_type")
    return {"format": form, "source": source}


def _by_ending(url: str | None) -> str:
    return "image/" + (url or "").rpartition(".")[2].lower()


def _input(said: str) -> dict[str, Any]:
    if (found := arguments(said)) is None:
        raise _inexpressible("arguments")
    return found


def _tools(prompt: Prompt) -> dict[str, Any]:
    if not _has_tools(prompt):
        return {}
    mode = _mode(prompt.choice)
    said: dict[str, Any] = {"tools": [{"toolSpec": _spec(tool)} for tool in prompt.tools]}
    if mode == "named":
        said["toolChoice"] = {"tool": {"name": prompt.choice.name if prompt.choice else ""}}
    elif mode is not None:
        said["toolChoice"] = {"any": {}} if mode == "required" else {"auto": {}}
    return said


def _spec(tool: Tool) -> dict[str, Any]:
    spec: dict[str, Any] = {"name": tool.name}
    if tool.description:
        spec["description"] = tool.description
    spec["inputSchema"] = {"json": {"type": "object", **(tool.parameters or {"properties": {}})}}
    if tool.strict is not None:
        spec["strict"] = tool.strict
    return spec


def _output(prompt: Prompt) -> dict[str, Any]:
    """Say the schema of the answer, as JSON within JSON, and the effort to make."""
    effort, shape = families.effort(prompt), prompt.shape
    said: dict[str, Any] = {"effort": effort} if effort else {}
    if shape is not None:
        schema = {"name": shape.name, "schema": encode(shape.schema).decode()}
        said["textFormat"] = {"type": "json_schema", "structure": {"jsonSchema": schema}}
    return said


def _extra(prompt: Prompt) -> dict[str, Any]:
    """Say what Converse has no word for, as the model's own family calls it."""
    alone = families.one_at_a_time(prompt) if _has_tools(prompt) and prompt.parallel_tools is False else None
    return {**families.thinking(prompt), **families.top_k(prompt), **(alone or {})}


def _has_tools(prompt: Prompt) -> bool:
    """Tell whether tools are offered: not to offer them is the only way to forbid them."""
    return bool(prompt.tools) and _mode(prompt.choice) != "none"


def _mode(choice: Choice | None) -> str | None:
    return choice.mode if choice else None
