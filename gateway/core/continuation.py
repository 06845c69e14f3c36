"""What another model is asked when an answer has broken off: to go on from exactly the text that its client has."""

from msgspec import structs

from gateway.core.prompt import Part, Prompt, Text, Turn

CONTINUE = (
    "Your answer above was cut off while it was being sent. Continue it from exactly where it stops: the first character that you write "
    "is put right behind its last one. Do not repeat any of it, do not begin again, and say nothing about the interruption."
)
"""What is said, as the user, to a model that cannot be made to go on with a turn of its own."""

LEAST_TOKENS = 16
"""A limit on what is still to come is never lower: OpenAI's Responses refuses less."""


def continued(prompt: Prompt, told: str, prefills: bool, spent: int | None) -> Prompt:
    """Return the call that asks for the rest of an answer of which `told` has reached the client.

    Where the target `prefills`, `told` is the beginning of its own answer, without the white space at its end (see `unseen`); elsewhere
    it is an answer that the user asks to be continued. `spent` is how many tokens of `max_tokens` are known to be used up. Of an answer
    that is nothing but white space there is nothing to continue: the call is asked again.
    """
    if spent and prompt.max_tokens is not None:
        prompt = structs.replace(prompt, max_tokens=min(prompt.max_tokens, max(LEAST_TOKENS, prompt.max_tokens - spent)))
    if not told.strip():
        return prompt
    if not prompt.turns:  # instructions alone: with an answer to them they need a turn of their own
        prompt = structs.replace(prompt, system=(), turns=(Turn("user", tuple(map(Text, prompt.system))),))
    turns = _answered(prompt.turns, told.rstrip() if prefills else told)
    return structs.replace(prompt, turns=turns if prefills else (*turns, Turn("user", (Text(CONTINUE),))))


def unseen(told: str, prefills: bool) -> str:
    """Return what of the delivered text the target is not shown: the white space at its end.

    Anthropic refuses a beginning that ends in white space, and to every tokenizer a word with its space is another token than one
    without. So the model is likely to say it again, and what of it the client has is then to be left out.
    """
    return told[len(told.rstrip()) :] if prefills or not told.strip() else ""


def _answered(turns: tuple[Turn, ...], told: str) -> tuple[Turn, ...]:
    """Add what the assistant has said; where the client itself had begun the answer, it is one text with that."""
    last = turns[-1]
    if last.role != "assistant":
        return (*turns, Turn("assistant", (Text(told),)))
    parts: tuple[Part, ...] = last.parts
    if parts and isinstance(begun := parts[-1], Text):
        parts, told = parts[:-1], begun.text + told
    return (*turns[:-1], Turn("assistant", (*parts, Text(told))))
