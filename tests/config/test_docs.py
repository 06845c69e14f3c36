"""The documentation of the configuration cannot drift from it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gateway.config import ConfigErrors, all_keys, json_schema, load, parse

TOP = Path(__file__).parents[2]
DOCS = (TOP / "docs" / "configuration.md").read_text()
ROWS = {
    row[1]: row[2].strip("`")
    for row in re.finditer(r"^\| `([a-z][^`]*)` \| [^|]* \| ([^|]*) \|", DOCS.partition("## Every key")[2], re.MULTILINE)
}
EXAMPLES = [text for text in re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL) if "routes:" in text]


def default_of(key: str) -> str:
    """Look a key's default up in the schema, written as the tables write it."""
    schema = json_schema()
    here: dict[str, Any] = schema
    required = False
    for step in key.replace("[]", ".[]").split("."):
        found = [here, *here.get("anyOf", []), *here.get("oneOf", [])]
        here = next(schema["$defs"][one["$ref"].rsplit("/", 1)[1]] if "$ref" in one else one for one in found if holds(schema, one, step))
        required = step in here.get("required", [])
        here = here["items"] if step == "[]" else here["additionalProperties"] if step == "*" else here["properties"][step]
    if required:
        return "required"
    if "default" not in here:
        return "-"
    default = here["default"]
    return "none" if default is None else default if isinstance(default, str) else json.dumps(default)


def holds(schema: dict[str, Any], one: dict[str, Any], step: str) -> bool:
    if "$ref" in one:
        one = schema["$defs"][one["$ref"].rsplit("/", 1)[1]]
    return (
        step in one.get("properties", {})
        or (step == "[]" and "items" in one)
        or (step == "*" and isinstance(one.get("additionalProperties"), dict))
    )


def test_every_key_has_its_row_and_every_row_its_key() -> None:
    """docs/configuration.md lists exactly the keys there are."""
    assert set(ROWS) == set(all_keys())


@pytest.mark.parametrize("key", all_keys())
def test_a_documented_default_is_the_default(key: str) -> None:
    """The default column says what the program does."""
    if ROWS[key] == "all five":
        assert len(json.loads(default_of(key))) == 5
    else:
        assert ROWS[key] == default_of(key)


@pytest.mark.parametrize("text", EXAMPLES)
def test_the_examples_in_the_documentation_load(text: str, tmp_path: Path) -> None:
    """Whoever copies one has a working file, given the variables and secrets it names."""
    (tmp_path / "west").write_text("key")
    text = text.replace("/run/secrets/", f"{tmp_path}/")
    assert parse(text, environ={"EAST_KEY": "k", "WEIR_ADMIN_TOKEN": "t"}).routes


def test_the_documented_problems_are_what_is_said() -> None:
    """The messages shown are real ones."""
    text = """\
upstreams:
  fast:
    base_url: http://127.0.0.1:9001/v1



routes:
  - name: chat
    polcy: priority
    targets: [{upstream: fst}]

    first_token: {timeout: 2}
"""
    with pytest.raises(ConfigErrors) as caught:
        parse(text, environ={})
    assert f"```\n{caught.value}\n```" in DOCS


def test_the_example_file_loads_with_nothing_set() -> None:
    """`weir check` passes on a fresh checkout."""
    config = load(TOP / "routes.yaml", {})
    assert list(config.upstreams) == ["openai", "local"]
    assert config.upstreams["openai"].api_key is None
    found = config.match("gpt-4o-2024-11-20", "openai", {})
    assert found is not None
    assert found.name == "chat"


def test_the_commented_lines_of_the_example_are_the_defaults() -> None:
    """Taking away every "# " before a key that is only shown changes nothing."""
    text = (TOP / "routes.yaml").read_text()
    shown = re.sub(r"^( +)# ((?!tls_ca)[a-z_]+: )", r"\1\2", text, flags=re.MULTILINE)
    assert shown.count("\n") == text.count("\n")
    assert parse(shown, environ={}) == parse(text, environ={})
    assert shown != text
