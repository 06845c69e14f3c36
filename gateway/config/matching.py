"""Patterns with `*`, in time linear in the text: a client chooses the text, so no regular expression may backtrack over it."""


def is_glob(pattern: str) -> bool:
    return "*" in pattern


def glob(pattern: str, text: str) -> bool:
    """Say whether the whole text fits the pattern, in which each `*` stands for any run of characters."""
    first, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    *middle, last = rest
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
