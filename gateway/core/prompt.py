"""A chat request in no dialect: what one API asks, in words that every other can be told. Only translated calls pass through it."""

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct, field

Role = Literal["user", "assistant"]


class Text(Struct, frozen=True, tag=True):
    text: str


class Image(Struct, frozen=True, tag=True):
    """A picture: its bytes as base64 with a media type ("image/png"), or the address of it; never both."""

    media_type: str | None = None
    data: str | None = None
    url: str | None = None


class ToolUse(Struct, frozen=True, tag=True):
    """The assistant called a tool; `arguments` is a JSON object as text. `id` is the name its result refers to; `signature`
    proves to the provider that made the call that it is unchanged."""

    id: str
    name: str
    arguments: str
    signature: str | None = None


class ToolResult(Struct, frozen=True, tag=True):
    """What a tool answered; `name` repeats the tool's, for dialects that match results by name."""

    id: str
    name: str
    parts: tuple[Text | Image, ...]
    failed: bool = False


class Thought(Struct, frozen=True, tag=True):
    """Reasoning that an earlier answer gave; `signature` proves to the provider that gave it that it is unchanged."""

    text: str
    signature: str | None = None


Part = Text | Image | ToolUse | ToolResult | Thought


class Turn(Struct, frozen=True):
    """Everything one side said in a row. Tool results stand in the user's turn; two turns of one role never follow each other."""

    role: Role
    parts: tuple[Part, ...]


class Tool(Struct, frozen=True):
    """A function the model may call; `parameters` is its JSON Schema."""

    name: str
    description: str = ""
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Choice(Struct, frozen=True):
    """Which tools the model may or must use; `name` goes with "named" only."""

    mode: Literal["auto", "none", "required", "named"]
    name: str | None = None


class Shape(Struct, frozen=True):
    """The answer must be JSON: any, or of this schema."""

    schema: dict[str, Any] | None = None
    name: str = "answer"
    strict: bool | None = None


Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
BUDGETS: Mapping[Effort, int] = {"none": 0, "minimal": 512, "low": 1024, "medium": 8192, "high": 24_576, "xhigh": 32_768, "max": 65_536}
"""Tokens that a word stands for where only numbers are understood; low, medium and high as Google's own OpenAI surface has them."""


class Reasoning(Struct, frozen=True):
    """How much to think before answering: as a word, as a number of tokens (0 is not at all), or, with neither, that the model decides."""

    effort: Effort | None = None
    budget: int | None = None

    @property
    def tokens(self) -> int | None:
        """The budget, or what the effort stands for; None leaves it to the model."""
        return self.budget if self.budget is not None or self.effort is None else BUDGETS[self.effort]

    @property
    def word(self) -> Effort | None:
        """The effort, or the least one that the budget does not exceed; None leaves it to the model."""
        if self.effort is not None or self.budget is None:
            return self.effort
        return next((word for word, tokens in BUDGETS.items() if self.budget <= tokens), "max")


class Prompt(Struct, frozen=True, kw_only=True):
    """One chat request. None is "not said"; what is not said is left to the target's own default.

    `harmless` names what the client's dialect could say, this form cannot, and no answer depends on (a cache hint, a user id): it is
    dropped, and counted. What an answer does depend on is refused by the reader of the client's dialect instead.
    """

    model: str
    stream: bool
    system: tuple[str, ...] = ()
    turns: tuple[Turn, ...] = ()
    tools: tuple[Tool, ...] = ()
    choice: Choice | None = None
    parallel_tools: bool | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    stop: tuple[str, ...] = ()
    shape: Shape | None = None
    reasoning: Reasoning | None = None
    user: str | None = None
    harmless: tuple[str, ...] = field(default=())
