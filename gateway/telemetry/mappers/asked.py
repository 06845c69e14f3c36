"""What more than one vendor wants to know, each answer as the kind of value that several of them take."""

import json
from collections.abc import Callable, Mapping

from gateway.telemetry.account import Account


def kind(chat: str, embedding: str) -> Callable[[Account], str]:
    """Return a reader of the vendor's word for the operation: one for generated text, one for embeddings."""
    return lambda account: embedding if account.record.operation == "embeddings" else chat


def model(account: Account) -> str | None:
    """Return the model that answered, or the one that was asked for."""
    return account.record.served_model or account.record.asked_model or None


def usage(name: str) -> Callable[[Account], int | None]:
    """Return a reader of one count of the usage."""
    return lambda account: getattr(account.record.usage, name, None)


def total_tokens(account: Account) -> int | None:
    """Return input and output together, when both are known."""
    said = account.record.usage
    return None if said is None or said.input is None or said.output is None else said.input + said.output


def parameters(account: Account) -> str | None:
    """Return how it was asked, as JSON; None when nothing was said."""
    record = account.record
    asked = {"temperature": record.temperature, "top_p": record.top_p, "max_tokens": record.max_tokens, "seed": record.seed}
    return written(asked)


def tags(account: Account) -> tuple[str, ...] | None:
    """Return the call's own tags (`x-weir-tag-*`) as `name:value`."""
    return tuple(f"{name}:{value}" for name, value in sorted(account.record.tags.items())) or None


def metadata(account: Account) -> str | None:
    """Return the call's own tags as a JSON object."""
    return written(account.record.tags)


def written(members: Mapping[str, object]) -> str | None:
    """Write a JSON object of what is known; None when nothing is."""
    known = {name: value for name, value in members.items() if value is not None}
    return json.dumps(known, separators=(",", ":"), ensure_ascii=False) if known else None
