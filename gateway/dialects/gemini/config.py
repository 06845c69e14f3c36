"""What a request says in its `generationConfig`, read without building the rest of it: pictures make a body large."""

from typing import Any

import msgspec
from msgspec import Struct

from gateway.core.call import Call
from gateway.core.errors import Rejected
from gateway.dialects.lenient import mapping, read_object, truth


class _Request(Struct, rename="camel"):
    """The one member; proto3 JSON may be in snake_case as well."""

    generation_config: Any = None
    snake: Any = msgspec.field(name="generation_config", default=None)


_REQUEST = msgspec.json.Decoder(_Request)


def read_config(body: bytes) -> dict[str, Any]:
    """Return the configuration, {} for none; raises `core.errors.Rejected` for a body that is no JSON object."""
    try:
        asked = _REQUEST.decode(body)
        config = asked.snake if asked.generation_config is None else asked.generation_config
    except (msgspec.MsgspecError, ValueError, RecursionError):
        found = read_object(body)
        config = found.get("generationConfig", found.get("generation_config"))
    return mapping(config)


def shows_thoughts(call: Call) -> bool:
    """Tell whether a client wants to see the reasoning: Gemini shows none unless it is asked to."""
    try:
        config = read_config(call.body)
    except Rejected:
        return False
    thinking = mapping(config.get("thinkingConfig", config.get("thinking_config")))
    return truth(thinking.get("includeThoughts", thinking.get("include_thoughts")))
