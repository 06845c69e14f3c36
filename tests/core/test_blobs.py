"""Pictures and sound in a request's body: their size and hash are kept, every other byte as it came."""

import base64
import hashlib
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.blobs import SHORTEST, STEP, lightened

DICE = random.Random(7)
SIZES = (800, 3000, 3001, 3002, STEP, 3 * STEP + 1)


def mark(data: bytes) -> str:
    return f"[base64: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}]"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,", "data:audio/wav;codecs=1;base64,"])
def test_a_picture_is_its_size_and_hash(size: int, prefix: str) -> None:
    """Wherever it stands, with or without the beginning of a data URL: the hash is that of the file itself."""
    data = DICE.randbytes(size)
    text = prefix + base64.b64encode(data).decode()
    for body in ({"a": text}, {"messages": [{"content": [{"text": "see"}, {"url": text}]}], "n": 1}, [text, text], ["x" * 5000, text]):
        light = json.loads(lightened(json.dumps(body).encode()))
        assert light == json.loads(json.dumps(body).replace(text, prefix + mark(data)))


def test_every_way_to_write_base64() -> None:
    """Without padding, with the letters of URLs, with escaped slashes and line breaks: the same file."""
    data = DICE.randbytes(5000)
    plain, url = base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()
    lines = base64.encodebytes(data).decode()
    for text in (plain, plain.rstrip("="), url, url.rstrip("="), lines):
        for body in (json.dumps({"a": text}), json.dumps({"a": text}).replace("/", "\\/")):
            assert json.loads(lightened(body.encode())) == {"a": mark(data)}


@pytest.mark.parametrize(
    "text",
    [
        base64.b64encode(b"short").decode(),
        "x" * 10_000,
        "a long text with Words, 1 or 2 " * 500,
        "ABCabc123" * 1000 + "!",
        "0123456789abcdef" * 1000,
        json.dumps({"inner": "A1b" * 10}) * 100,
    ],
)
def test_what_is_no_base64_stays(text: str) -> None:
    """Text, one letter over and over, hexadecimal: as it came."""
    body = json.dumps({"messages": [text], "tokens": list(range(3000))}).encode()
    assert lightened(body) == body


@settings(deadline=None)
@given(
    st.recursive(st.text(max_size=40) | st.integers(0, 2000), lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner))
)
def test_everything_else_is_untouched(value: Any) -> None:
    """Any JSON without long strings is what it was, and what stands beside a picture is too."""
    body = json.dumps(value).encode()
    assert lightened(body) == body
    data = bytes(range(256)) * 8
    beside = json.dumps([value, base64.b64encode(data).decode(), value]).encode()
    assert json.loads(lightened(beside)) == [value, mark(data), value]


def test_what_is_no_json_does_no_harm() -> None:
    """Any bytes come back, at most lighter."""
    for body in (b"", b'"', b'"' * 5000, b"\x00" * 5000, DICE.randbytes(20_000), b'"' + b"A1b" * SHORTEST):
        assert len(lightened(body)) <= len(body)
