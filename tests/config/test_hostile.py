"""Whatever stands in a file, the reader answers with positions and never with what was meant to stay secret."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import ConfigErrors, all_keys, parse

UPSTREAM = "upstreams:\n  fast: {%s}\nroutes: [{name: chat, targets: [{upstream: fast}]}]\n"


def complaints(text: str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        parse(text, "r.yaml", environ or {})
    return [str(problem) for problem in caught.value.problems]


CANARY = "c4nary-V4lue"


def under(key: str, value: str) -> str:
    """Write a whole text in which only `key`, such as `routes[].match.models`, is given."""
    for step in reversed(key.replace("[]", ".[]").replace("*", "fast").split(".")):
        value = f"[{value}]" if step == "[]" else f"{{{step}: {value}}}"
    return value


@pytest.mark.parametrize("key", all_keys())
@pytest.mark.parametrize("shape", ["'${CANARY}'", "['${CANARY}']", "{a: '${CANARY}'}", "{'x y': '${CANARY}', b: ['${CANARY}']}"])
def test_what_a_variable_holds_is_never_told(key: str, shape: str) -> None:
    """Wherever a secret is put by mistake, a message shows the `${VAR}` of the file and not its value."""
    assert CANARY not in "".join(complaints(under(key, shape), {"CANARY": CANARY}))


@pytest.mark.parametrize(
    "keys",
    [
        "api_key: [%s]",
        "api_key: {a: %s}",
        "api_key: '%s x'",
        "api_key: file:%s",
        'api_key: "%s\\n x"',
        "headers: {authorization: '%s '}",
        'headers: {authorization: "Bearer %s\\r\\nx: y"}',
        "headers: {authorization: [%s]}",
        "headers: [%s]",
        "headers: %s",
        "base_url: 'http://x:%s@h'",
        "base_url: 'http://h?key=%s'",
        "api_key: *%s",
        "api_key: !%s!x y",
        "api_key: '%s",
        'api_key: "%s\\q"',
        "api_key: %s\n: [",
    ],
)
def test_a_secret_in_the_file_itself_is_never_told(keys: str) -> None:
    """Neither our messages nor YAML's repeat what stands where a secret belongs."""
    base = "" if "base_url" in keys else "base_url: http://h, "
    for text in complaints(UPSTREAM % (base + keys % CANARY)):
        assert CANARY not in text


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_with_positions(text: str) -> None:
    """Whatever the text, the answer is a configuration or problems at a line and a column, never another exception."""
    with pytest.raises(ConfigErrors) as caught:
        parse(text, "r.yaml", {})
    assert all(problem.line >= 1 and problem.col >= 1 for problem in caught.value.problems)


SCALARS = st.sampled_from(["1", "off", "null", "2s", "5%", "''", "fast", "${X}", "'*'", "&a x", "http://h"])
KEYS = st.sampled_from(["name", "upstream", "models", "adaptive", "headers", "a b", "<<", "''"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.lists(st.tuples(KEYS, inner), max_size=3).map(lambda pairs: f"{{{', '.join(f'{key}: {value}' for key, value in pairs)}}}"),
    ),
    max_leaves=6,
)


@given(st.sampled_from(all_keys()), VALUES)
def test_any_shape_under_any_key_is_refused_with_positions(key: str, value: str) -> None:
    """No value under any key makes the reader fail in another way than saying where it is wrong."""
    with pytest.raises(ConfigErrors) as caught:
        parse(under(key, value), "r.yaml", {})
    assert all(problem.line == 1 and problem.col >= 1 for problem in caught.value.problems)
