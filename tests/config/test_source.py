"""YAML as Weir reads it: texts and where they stand, within bounds."""

import pytest

from gateway.config.source import MAX_CHARACTERS, Place, UnreadableError, read


def test_scalars_are_text_and_keys_are_text() -> None:
    """Nothing that YAML 1.1 takes for a boolean, a number or a date is anything but what stands there; only null is nothing."""
    source = read("{on: off, yes: 012, 4.10: 2024-01-01, a: null, b: 'null', c: ~, d: '', e: 1:30}", {})
    assert source.tree == {"on": "off", "yes": "012", "4.10": "2024-01-01", "a": None, "b": "null", "c": None, "d": "", "e": "1:30"}
    assert source.findings == []


def test_everything_has_its_place() -> None:
    """Lines and columns count from 1; a scalar's place keeps the text before variables are filled in."""
    source = read("a:\n  - b: ${X}\n    é: [1, 2]\n", {"X": "filled"})
    assert source.tree == {"a": [{"b": "filled", "é": ["1", "2"]}]}
    assert source.keys[("a", 0, "b")] == Place(2, 5)
    assert source.values[("a", 0, "b")] == Place(2, 8, "${X}")
    assert source.values[("a", 0, "é", 1)] == Place(3, 12, "2")
    assert source.place(("a", 0, "gone", "deeper")) == Place(2, 5)


def test_windows_line_endings_and_a_mark_at_the_start_change_no_place() -> None:
    """A file saved by any editor reads the same."""
    source = read("\ufeffa: 1\r\nb: 2\r\n", {})
    assert source.tree == {"a": "1", "b": "2"}
    assert source.keys[("b",)] == Place(2, 1)


def test_aliases_and_merge_keys_work() -> None:
    """A mapping's own keys override what `<<` brings, earlier merged mappings override later ones, and marks lead to the origin."""
    source = read("a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], x: 3}\nd: {y: 4, <<: *a}\ne: *a\n", {})
    assert source.findings == []
    assert source.tree == {
        "a": {"x": "1", "y": "1"},
        "b": {"y": "2", "z": "2"},
        "c": {"x": "3", "y": "1", "z": "2"},
        "d": {"x": "1", "y": "4"},
        "e": {"x": "1", "y": "1"},
    }
    assert source.place(("c", "x")) == Place(3, 22, "3")
    assert source.place(("c", "z")) == Place(2, 17, "2")


def test_a_repeated_key_is_found_and_the_first_is_kept() -> None:
    """The second one is the mistake, and it is told where it stands."""
    source = read("a: 1\nb: 2\na: 3\n", {})
    assert source.tree == {"a": "1", "b": "2"}
    assert [(finding.path, finding.message, finding.place) for finding in source.findings] == [
        (("a",), "key 'a' is already on line 1", Place(3, 1))
    ]


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {b: {c: *a}}", "a: &a {<<: *a}", "a: &a {b: {<<: *a}}", "&a {b: *a}"])
def test_an_alias_of_itself_is_found(text: str) -> None:
    """A cycle is a mistake with a place, not an endless tree."""
    assert len(read(text, {}).findings) == 1


BOMBS = {
    "aliases": "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)),
    "merges": "a0: &a0 {}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 12)),
    "chain": "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 40)),
    "lists": "[" * 100_000,
    "mappings": "{a: " * 10_000,
    "keys": "? " * 10_000,
    "size": "#" * (MAX_CHARACTERS + 1),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_it_costs_anything(name: str) -> None:
    """Ten aliases of ten aliases of ten, endless nesting, endless text: one problem, soon."""
    with pytest.raises(UnreadableError, match=r"levels deep|more than|larger than"):
        read(BOMBS[name], {})


def test_an_unset_variable_breaks_its_own_value_only() -> None:
    """What is known to be unknown is not complained about twice."""
    source = read("a: ${NO}\nb: [1, '${NO}']\n", {})
    assert source.tree == {"a": None, "b": ["1", None]}
    assert [finding.path for finding in source.findings] == [("a",), ("b", 1)]
    assert source.told(("a", "deeper"))
    assert source.told(("b", 1))
    assert not source.told(("b",))
