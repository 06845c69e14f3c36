"""Keys in prompts and answers: the known shapes are struck out, places keep their meaning, and nothing else is touched."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.telemetry.redaction import MARK, SHAPES, Redactor, redacted

LETTERS = "aZ3bY4cX5dW6eV7fU8gT9hS0iR1jQ2kP3lO4mN5n"
KEYS = {
    "OpenAI, Anthropic and their like": ["sk-" + LETTERS, "sk-proj-" + LETTERS, "sk-ant-api03-" + LETTERS],
    "Stripe": ["sk_live_" + LETTERS[:24], "rk_live_" + LETTERS[:24]],
    "AWS key ids": ["AKIAABCDEFGHIJKLMN12", "ASIAABCDEFGHIJKLMN12"],
    "Google": ["AIza" + LETTERS[:35]],
    "GitHub": ["ghp_" + LETTERS, "github_pat_" + LETTERS],
    "GitLab": ["glpat-" + LETTERS[:20]],
    "Slack": ["xoxb-123456789012-" + LETTERS[:24]],
    "Hugging Face": ["hf_" + LETTERS[:34]],
    "signed tokens (JWT)": [f"eyJ{LETTERS}.eyJ{LETTERS}.{LETTERS}"],
    "bearer tokens": ["Bearer " + LETTERS, "bearer  " + LETTERS + "=="],
    "private keys (PEM)": [
        f"-----BEGIN {kind}PRIVATE KEY-----\nMII{LETTERS}\n{LETTERS}==\n-----END {kind}PRIVATE KEY-----" for kind in ("", "RSA ")
    ],
}
EACH = pytest.mark.parametrize("key", [key for keys in KEYS.values() for key in keys])
AROUND = [("", ""), ("my key is ", " and more"), ("{'k':'", "'}"), ("(", ")"), ("key=", ", done"), ("\n", "\n")]


def test_every_shape_has_an_example() -> None:
    """No shape is there untried."""
    assert set(KEYS) == set(SHAPES)


@EACH
@pytest.mark.parametrize(("before", "after"), AROUND)
def test_a_key_is_struck_out(key: str, before: str, after: str) -> None:
    """Nothing of it is left wherever it stands, and all that stands around it is; also in JSON, where a line break is an escape."""
    kept = re.match(r"[Bb]earer\s+", key)
    marked = (kept[0] if kept else "") + MARK
    assert redacted(before + key + after)[0] == before + marked + after
    assert json.loads(redacted(json.dumps({"a": before + key + after}))[0]) == {"a": before + marked + after}


@EACH
def test_places_move_with_the_text(key: str) -> None:
    """A place before, between and behind keys is at the same words afterwards; one inside is behind the mark."""
    text = f"one {key} two {key} three"
    clean, places = redacted(text, range(len(text) + 1))
    for word in ("one", "two", "three"):
        assert places[text.index(word)] == clean.index(word)
    assert places == sorted(places)
    assert (places[0], places[-1]) == (0, len(clean))
    assert clean[places[text.index(key) + len(key) // 2] - len(MARK) :].startswith(MARK)


@pytest.mark.parametrize(
    "text",
    [
        "the task-force is at risk-free odds",
        "sk-short",
        "disk-drive-with-a-very-long-name-indeed",
        "AKIA",
        "a bearer of bad news",
        "xAKIAABCDEFGHIJKLMN12",
    ],
)
def test_what_only_looks_so_stays(text: str) -> None:
    """Words that have a key's beginning in them are words."""
    assert redacted(text, [3]) == (text, [3])


@EACH
@settings(deadline=None)
@given(data=st.data())
def test_a_key_in_pieces_is_struck_out(key: str, data: st.DataObject) -> None:
    """However a text is cut, what is shown of it has no key in it, and is the same in the end."""
    text = f"say {key} twice: {key}\nend"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    redactor, shown = Redactor(), []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        shown.append(redactor.feed(text[start:end]))
        assert LETTERS[10:] not in "".join(shown)
    assert "".join(shown) + redactor.end() == redacted(text)[0]


def test_text_is_shown_as_it_comes() -> None:
    """Only the word that is being said waits: and no word waits for ever."""
    redactor = Redactor()
    assert redactor.feed("hello wor") == "hello "
    assert redactor.feed("ld, ") == "world, "
    assert len(redactor.feed("a" * 5000)) == 5000
    assert redactor.end() == ""
