"""What a client asked for: the body as it came and the few fields Weir acts on."""

from typing import Literal

from msgspec import Struct

Operation = Literal["chat", "text_completion", "embeddings", "count_tokens", "realtime"]


class Call(Struct, frozen=True, kw_only=True):
    """One request of one client, read but never rewritten; or what a translation made of it for a target of another dialect.

    `path` is relative to an upstream's `base_url` ("/chat/completions") and may carry a query; `body` is byte for byte what the client
    sent; `include_usage` is what the client itself said about a usage frame: None when it said nothing, or has nothing to say.
    `choices` is how many answers it asked for in one, where the stream of all of them has one end. `prompt_name` and `prompt_version` are
    those of a prompt that the provider keeps, where the call refers to one.
    """

    dialect: str
    operation: Operation
    path: str
    model: str
    body: bytes
    stream: bool = False
    include_usage: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    choices: int = 1
    prompt_name: str | None = None
    prompt_version: str | None = None
