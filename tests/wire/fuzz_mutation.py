"""How the fuzz program spoils what it is given: bytes anywhere, JSON by its tree, and reads at random cuts."""

import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

TOKENS: tuple[bytes, ...] = (
    b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b"\n\r", b"\r\n\r\n", b"\r\r\n", b"\xef\xbb\xbf", b"\xef\xbb", b"\x00", b"\xff", b"\xc3",
    b"\xf0\x9f", b"\xe2\x80\xa8", b"\x85", b"data: ", b"data:", b"data", b"event: ", b"event: error\n", b"id: 1\n", b"retry: 5\n",
    b": comment\n", b":", b"error: {}", b"data: [DONE]\n\n", b"[DONE]", b'"', b"\\", b'\\"', b"\\\\", b"\\u0000", b"\\ud83d", b"\\ude00",
    b"\\u006d", b"{", b"}", b"[", b"]", b",", b":", b"{}", b"[]", b"[" * 70, b"{" * 70, b'{"a":' * 40, b"null", b"true", b"false", b"0",
    b"-1", b"1e999", b"-0.0", b"NaN", b"Infinity", b"9223372036854775807", b"9223372036854775808", b"18446744073709551616", b"9" * 400,
    b" " * 80, b"\t", b"x" * 80, b'"a":1,', b'"model":"m",', b'"error":{"message":"no"},', b'"index":0,', b"AAAA", b"\x00\x00\x00\x10",
    b"\x0b:event-type\x07\x00\x05chunk",
)  # fmt: skip

# What a value may be instead. Words that begin with "@" stand for JSON that `json.dumps` does not write.
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 127, 255, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63), -(2**63) - 1, 10**30, 0.5, -0.0,
    1e308, 3.0, "", " ", "x", "0", "1", "true", "null", "auto", "none", "user", "assistant", "system", "tool", "text", "error", "\ud83d",
    "\ude00x", "a\ud800b", "é漢👩‍👩‍👧", "\x00", "\n", "\r\n\r\n", "\u2028", "[DONE]", "data: x\n\n", '"', "\\", "{}", '{"a":1}', '{"a":',
    "x" * 300, "data:image/png;base64,AAAA", "https://example.org/a.png", [], {}, [[]], [None], [{}], {"": 0}, {"a": None},
    {"type": "text", "text": "hi"}, ["a", "b"], [0, 1], "@inf", "@nan", "@digits", "@deep:60", "@deep:480", "@deep:980", "@deep:3000",
    "@nest:60", "@nest:480", "@nest:980", "@nest:3000",
)  # fmt: skip
_WORD = re.compile(r'"@(inf|nan|digits|deep|nest)(?::(\d+))?"')
BIG_CHANCE = 0.002


def _written(found: re.Match[str]) -> str:
    depth = int(found[2] or 0)
    plain = {
        "inf": "1e999",
        "nan": "NaN",
        "digits": "7" * 5000,
        "deep": "[" * depth + "]" * depth,
        "nest": '{"a":' * depth + "1" + "}" * depth,
    }
    return plain[found[1]]


def dumps(tree: Any, rng: Random) -> bytes:
    """Write a tree in one of the ways that servers write JSON."""
    separators = rng.choice(((",", ":"), (", ", ": "), (",", " : ")))
    text = json.dumps(tree, ensure_ascii=rng.random() < 0.5, separators=separators, indent=rng.choice((None, None, None, None, 1)))
    return _WORD.sub(_written, text).encode("utf-8", rng.choice(("surrogatepass", "replace")))


def spoil_tree(tree: Any, rng: Random, others: Sequence[Any] = ()) -> Any:
    """Change one place of a JSON tree, in place where it can be: another value, a member less, a part of another tree, an item twice."""
    found = list(places(tree))
    if not found:
        return _copied(rng.choice(VALUES))
    holder, key = rng.choice(found)
    match rng.randrange(8):
        case 0 | 1 | 2:
            holder[key] = _copied(rng.choice(VALUES))
        case 3:
            del holder[key]
        case 4:
            other, name = rng.choice(list(places(rng.choice(others))) or [(VALUES, 0)]) if others else rng.choice(found)
            holder[key] = _copied(other[name])
        case 5 if isinstance(holder, list):
            holder[key:key] = [_copied(holder[key]) for _ in range(rng.choice((1, 1, 2, 40)))]
        case 5 | 6 if isinstance(holder, dict):
            holder[rng.choice(found)[1] if rng.random() < 0.7 else rng.choice(("model", "type", "error", "id", "text"))] = holder.pop(key)
            return _keyed(tree)
        case _:
            holder[key] = [holder[key]] if rng.random() < 0.5 else {"text": holder[key]}
    return tree


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every holder with each of its keys."""
    if isinstance(tree, dict | list):
        for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
            yield tree, key
            yield from places(tree[key])


def _keyed(tree: Any) -> Any:
    return {str(key): _keyed(found) for key, found in tree.items()} if isinstance(tree, dict) else tree


def _copied(tree: Any) -> Any:
    return json.loads(json.dumps(tree))


def spoil_bytes(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    """Change bytes in a few places."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        data = rng.choice(_STEPS)(data, rng, others)
    return data[: 1 << 22] if rng.random() < BIG_CHANCE * 4 else data[: 1 << 15]


def _flip(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :] if at < len(data) else data


def _poke(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + bytes([rng.choice(b'\x00\n\r"\\{}[],: \xff\x80a0')]) + data[at + 1 :]


def _insert(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(TOKENS) + data[at:]


def _delete(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    start, end = _span(data, rng)
    return data[:start] + data[end:]


def _repeat(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    start, end = _span(data, rng)
    times = 20_000 if rng.random() < BIG_CHANCE else rng.choice((2, 2, 3, 30))
    return data[:start] + data[start:end] * times + data[end:]


def _swap(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    start, end = _span(data, rng)
    middle = rng.randint(start, end)
    return data[:start] + data[middle:end] + data[start:middle] + data[end:]


def _cut(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    return data[: rng.randrange(len(data) + 1)] if rng.random() < 0.7 else data[rng.randrange(len(data) + 1) :]


def _splice(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    other = rng.choice(others)
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _line_ends(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    start, end = _span(data, rng) if rng.random() < 0.5 else (0, len(data))
    return data[:start] + data[start:end].replace(b"\n", rng.choice((b"\r\n", b"\r", b"\n\n", b"\r\r\n"))) + data[end:]


def _span(data: bytes, rng: Random) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.choice((1, 1, 2, 4, 16, 64, 256)))


_STEPS: tuple[Callable[[bytes, Random, Sequence[bytes]], bytes], ...] = (
    _flip, _poke, _poke, _insert, _insert, _delete, _repeat, _swap, _cut, _splice, _line_ends,
)  # fmt: skip

EVERY_BYTE = (-1,)
_EVENT_END, _END = re.compile(rb"\n\n|\r\n\r\n|\r\r|}\n"), re.compile(rb"[\r\n}\]]")


def some_places(data: bytes, rng: Random) -> tuple[int, ...]:
    """Return where reads end: anywhere, near line ends, or after every byte."""
    if len(data) < 2000 and rng.random() < 0.1:
        return EVERY_BYTE
    pattern = _EVENT_END if rng.random() < 0.4 else _END
    ends = [found.end() for found in itertools.islice(pattern.finditer(data), 400)]
    if ends and rng.random() < 0.4:
        return tuple(ends)  # as servers write: an event a read
    return tuple(sorted(rng.choice(ends) if ends and rng.random() < 0.4 else rng.randrange(len(data) + 1) for _ in range(rng.randrange(9))))


def cuts(data: bytes, places: Sequence[int]) -> list[bytes]:
    """Return the reads."""
    if tuple(places) == EVERY_BYTE:
        return [data[at : at + 1] for at in range(len(data))]
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]
