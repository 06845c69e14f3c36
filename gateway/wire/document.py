"""One JSON object, edited byte by byte where it must be: the top-level member asked for changes, nothing else does.

Every function but `ends` takes a body already known to be a valid JSON object and a key of plain ASCII letters and underscores. Strings
without escapes are crossed by `bytes.find`, runs of short tokens by one regular expression: a 20 MB image in a prompt costs
milliseconds.
"""

import json
import re
from collections.abc import Callable, Iterator

_SPACE = re.compile(rb"[ \t\r\n]*+")
_BEFORE_KEY = re.compile(rb"[ \t\r\n,]*+")
_COLON = re.compile(rb"[ \t\r\n]*+:[ \t\r\n]*+")
_SCALAR = re.compile(rb"[^ \t\r\n,\]}]*+")
_REST_OF_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+"', re.DOTALL)
# Inside a container, everything that opens or closes nothing; longer strings and those with escapes are left to _string_end.
_QUIET = re.compile(rb'(?:[^"\[\]{}]++|"[^"\\]{0,64}+")*+')
_QUOTE, _OPENING, _CLOSING = ord('"'), b"{[", b"]}"


def replace_member(body: bytes, key: str, value: bytes) -> bytes:
    """Return the body with `value` (JSON) for every occurrence of `key`, which is known to be a top-level member."""
    if (span := _only_span(body, key)) is not None:
        whole = memoryview(body)  # slices of it are joined without a copy of their own
        return b"".join((whole[: span[0]], value, whole[span[1] :]))
    return edit_member(body, key, lambda _: value)


def edit_member(body: bytes, key: str, edit: Callable[[bytes], bytes]) -> bytes:
    """Return the body with every value of the top-level member `key` passed through `edit`; as it was if there is none."""
    whole = memoryview(body)
    parts: list[bytes | memoryview] = []
    position = 0
    for start, end in find_members(body, key):
        parts += (whole[position:start], edit(body[start:end]))
        position = end
    return b"".join((*parts, whole[position:])) if parts else body


def insert_member(body: bytes, key: str, value: bytes) -> bytes:
    """Return the body with one more member, right after its opening brace."""
    start = body.index(b"{") + 1
    empty = body.startswith(b"}", _end(_SPACE, body, start))
    whole = memoryview(body)
    return b"".join((whole[:start], _plain(key), b":", value, b"" if empty else b",", whole[start:]))


def find_members(body: bytes, key: str) -> list[tuple[int, int]]:
    """Return [start, end) of every value of the top-level member `key`, however the key is escaped and however often it occurs."""
    if _plain(key) not in body and not _may_escape_letters(body):
        return []
    return [(start, end) for name, start, end in _members(body) if _names(name, key)]


def ends(body: bytes) -> bool:
    """Tell whether the object or array that any body begins with comes to its end: no judgement of what stands in it or follows it."""
    body = body.removeprefix(b"\xef\xbb\xbf")
    start = _end(_SPACE, body, 0)
    try:
        return body[start] in _OPENING and _container_end(body, start) <= len(body)
    except (IndexError, ValueError):
        return False


def _only_span(body: bytes, key: str) -> tuple[int, int] | None:
    """Return where the value is when the key is written once and plainly: known to be there, it can only be that one."""
    quoted = _plain(key)
    if body.count(quoted) != 1 or _may_escape_letters(body):
        return None
    start = _end(_COLON, body, body.index(quoted) + len(quoted))
    return start, _value_end(body, start)


def _members(body: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield each top-level key, quoted as it is written, with the start and end of its value."""
    position = _end(_BEFORE_KEY, body, body.index(b"{") + 1)
    while body[position] == _QUOTE:
        key_end = _string_end(body, position)
        start = _end(_COLON, body, key_end)
        end = _value_end(body, start)
        yield body[position:key_end], start, end
        position = _end(_BEFORE_KEY, body, end)


def _value_end(body: bytes, start: int) -> int:
    if body[start] == _QUOTE:
        return _string_end(body, start)
    return _container_end(body, start) if body[start] in _OPENING else _end(_SCALAR, body, start)


def _string_end(body: bytes, start: int) -> int:
    """Return the index after the closing quote of the string that opens at `start`."""
    end = body.index(b'"', start + 1)
    escape = body.find(b"\\", start + 1, end)
    return end + 1 if escape < 0 else _end(_REST_OF_STRING, body, escape)


def _container_end(body: bytes, start: int) -> int:
    """Return the index after the bracket that closes the one at `start`."""
    depth, position = 1, start + 1
    while depth:
        position = _end(_QUIET, body, position)
        if body[position] == _QUOTE:
            position = _string_end(body, position)
            continue
        depth += -1 if body[position] in _CLOSING else 1
        position += 1
    return position


def _end(pattern: re.Pattern[bytes], body: bytes, position: int) -> int:
    found = pattern.match(body, position)
    if found is None:
        raise ValueError("not a valid JSON object")
    return found.end()


def _plain(key: str) -> bytes:
    return b'"' + key.encode() + b'"'


def _names(quoted: bytes, key: str) -> bool:
    return bool(json.loads(quoted) == key) if b"\\" in quoted else quoted == _plain(key)


def _may_escape_letters(body: bytes) -> bool:
    """Tell whether a key of plain letters could be hidden behind escapes (a letter needs a u00 escape); most images hold no backslash."""
    return body.find(b"\\") >= 0 and b"\\u00" in body
