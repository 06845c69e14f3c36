"""Editing one JSON object: the value asked for changes, every other byte stays."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire.document import edit_member, ends, find_members, insert_member, replace_member

SPACES = st.sampled_from(["", "", "", " ", "\n", "\t \r\n"])
TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["model", '"model"', '\\"model"', '{"model":1}', "\\", '\\\\"', "}]{[", "x" * 100, 'é"', "\u00e9\u2028", "a" * 70 + '"']
    ),
)
KEYS = st.one_of(TEXTS, st.sampled_from(["model", "model", "stream_options", "Model", "models"]))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)
MEMBERS = st.lists(st.tuples(KEYS, VALUES), max_size=6)


@st.composite
def quoted(draw, text: str) -> str:
    """A JSON string for the text, with escapes where the draw wants them."""
    if draw(st.booleans()):
        return json.dumps(text, ensure_ascii=draw(st.booleans()))
    return '"' + "".join(f"\\u{ord(c):04x}" if ord(c) < 0x10000 else json.dumps(c)[1:-1] for c in text) + '"'


@st.composite
def objects(draw, members: list) -> list[str]:
    """The pieces of an object: key text, value text, key text, value text; spacing included, duplicates welcome."""
    pieces = []
    for key, value in members:
        pieces.append(draw(SPACES) + draw(quoted(key)) + draw(SPACES) + ":" + draw(SPACES))
        pieces.append(json.dumps(value, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1]))))
        pieces.append(draw(SPACES))
    return pieces


def join(pieces: list[str], before: str = "", after: str = "") -> bytes:
    members = ["".join(pieces[at : at + 3]) for at in range(0, len(pieces), 3)]
    return (before + "{" + ",".join(members) + after + "}").encode("utf-8", "surrogatepass")


@settings(max_examples=300, deadline=None)
@given(data=st.data(), members=MEMBERS, before=SPACES, after=SPACES)
def test_a_replaced_member_is_all_that_changes(data, members, before, after):
    """Every occurrence of the key gets the value; everything else is byte for byte what it was."""
    members = [*members, ("model", "m")] if all(key != "model" for key, _ in members) else members
    pieces = data.draw(objects(members))
    expected = list(pieces)
    for number, (key, _) in enumerate(members):
        if key == "model":
            expected[3 * number + 1] = '"NEW"'
    body = join(pieces, before, after)
    edited = replace_member(body, "model", b'"NEW"')
    assert edited == join(expected, before, after)
    assert json.loads(edited) == {**json.loads(body), "model": "NEW"}


@settings(max_examples=200, deadline=None)
@given(data=st.data(), members=MEMBERS, key=st.sampled_from(["model", "stream_options", "x"]))
def test_found_members_are_the_values_of_that_key(data, members, key):
    """Each span found is one value of the key at the top level, in order, and none is missed."""
    body = join(data.draw(objects(members)))
    values = [json.loads(body[start:end]) for start, end in find_members(body, key)]
    assert values == [value for name, value in members if name == key]
    assert edit_member(body, key, lambda value: value) == body


@settings(max_examples=200, deadline=None)
@given(data=st.data(), members=MEMBERS, before=SPACES, after=SPACES)
def test_an_inserted_member_comes_first_and_moves_nothing(data, members, before, after):
    """The new member stands right after the opening brace; what was there follows unchanged."""
    body = join(data.draw(objects(members)), before, after)
    edited = insert_member(body, "new", b'{"a":true}')
    start = body.index(b"{") + 1
    assert edited.startswith(body[:start] + b'"new":{"a":true}')
    assert edited.endswith(body[start:])
    assert json.loads(edited) == {"new": {"a": True}, **{key: value for key, value in json.loads(body).items() if key != "new"}} or (
        "new" in json.loads(body)
    )


@pytest.mark.parametrize(
    ("body", "edited"),
    [
        (b'{"model":"a"}', b'{"model":"b"}'),
        (b' { "x" : [1, {"model":2}], "model"\t:\n"a" } ', b' { "x" : [1, {"model":2}], "model"\t:\n"b" } '),
        (b'{"model":"a","n":1e2,"model":"c"}', b'{"model":"b","n":1e2,"model":"b"}'),
        (b'{"mo\\u0064el":"a","x":"model"}', b'{"mo\\u0064el":"b","x":"model"}'),
        (b'{"x":"\\"model\\":1","model":"a\\\\"}', b'{"x":"\\"model\\":1","model":"b"}'),
        (b'{"x":"say \\"model","model":"a"}', b'{"x":"say \\"model","model":"b"}'),
        (b'{"model":null,"messages":[[],{},[{"a":"}"}]]}', b'{"model":"b","messages":[[],{},[{"a":"}"}]]}'),
    ],
)
def test_replacing_knows_keys_from_what_looks_like_them(body, edited):
    """Nested keys, values, escaped quotes and escaped keys are told apart; duplicates are all replaced."""
    assert replace_member(body, "model", b'"b"') == edited


def test_an_empty_object_gets_no_comma():
    """Inserting into an empty object gives an object of one member."""
    assert insert_member(b" { } ", "a", b"1") == b' {"a":1 } '
    assert insert_member(b"{}", "a", b"1") == b'{"a":1}'


def test_a_body_without_the_member_comes_back_as_it_is():
    """Nothing to edit is no edit: the very same object."""
    body = b'{"x":{"model":1}}'
    assert edit_member(body, "model", lambda _: b"2") is body


IMAGE = b'{"messages":[{"role":"user","content":[{"image":"data:%s"}],"model":1,"text":"a\\nb"}],"model":"a"}'


@pytest.mark.parametrize("filling", [b"QUJD", b'ab \\"c', b'","m":["a",{"b":1}],"n":"'])
def test_large_bodies_cost_linear_time(filling):
    """Four times the body costs about four times the work, whatever it is made of."""

    def work(size: int) -> float:
        body = IMAGE.replace(b"%s", filling * (size // len(filling)))
        best = float("inf")
        for _ in range(3):
            started = time.process_time()
            edited = replace_member(body, "model", b'"b"')
            best = min(best, time.process_time() - started)
        assert edited == body[:-2].removesuffix(b"a") + b'b"}'
        return best

    assert any(work(4 << 20) <= 8 * work(1 << 20) for _ in range(6))


@given(st.one_of(st.lists(VALUES, max_size=4), st.dictionaries(KEYS, VALUES, max_size=4)), st.sampled_from([None, 2]), st.data())
def test_only_a_document_that_is_whole_comes_to_its_end(value, indent, data):
    """Written in any way, with white space around it or more behind it, a container ends where it ends and no byte before."""
    body = json.dumps(value, indent=indent, ensure_ascii=data.draw(st.booleans())).encode("utf-8", "surrogatepass")
    cut = data.draw(st.integers(0, len(body) - 1))
    assert not ends(body[:cut])
    assert all(ends(before + body + after) for before, after in ((b"", b""), (b" \n", b"\n"), (b"\xef\xbb\xbf", b"{}"), (b"", b" x")))


@pytest.mark.parametrize("body", [b"", b"  ", b"null", b'"x"', b"<html></html>", b"data: {}\n\n", b"}", b'{"a":"\\"}', b"[1,{]"])
def test_what_is_no_container_does_not_end(body):
    """Nothing, a scalar, another language, or a bracket that nothing closes."""
    assert not ends(body)


@pytest.mark.parametrize("body", [b'{"a":NaN,}', b"{'a':1}", b'{"a":"\xff\xfe"}', b"[" * 5000 + b"]" * 5000])
def test_what_strict_parsers_refuse_may_still_end(body):
    """It is asked where a document ends, not whether it is a good one."""
    assert ends(body)
