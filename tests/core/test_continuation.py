"""What is asked of whoever goes on with an answer: exactly the delivered text, once, and no more tokens than were left."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gateway.core.continuation import CONTINUE, LEAST_TOKENS, continued, unseen
from gateway.core.prompt import Prompt, Text, ToolUse, Turn

USER = Turn("user", (Text("hello"),))
PROMPT = Prompt(model="m", stream=True, system=("Be brief.",), turns=(USER,), max_tokens=100)


def test_as_the_beginning_of_its_own_answer() -> None:
    """A model that goes on with a last turn of its own gets the text there, without the white space at its end."""
    prompt = continued(PROMPT, "Once upon\n", prefills=True, spent=None)
    assert prompt == structs.replace(PROMPT, turns=(USER, Turn("assistant", (Text("Once upon"),))))
    assert unseen("Once upon\n", prefills=True) == "\n"


def test_as_an_answer_to_be_continued() -> None:
    """Any other is told by its user where to go on, and sees the text as it was."""
    prompt = continued(PROMPT, "Once upon\n", prefills=False, spent=None)
    assert prompt.turns == (USER, Turn("assistant", (Text("Once upon\n"),)), Turn("user", (Text(CONTINUE),)))
    assert unseen("Once upon\n", prefills=False) == ""


@given(st.text(), st.booleans())
def test_nothing_of_the_text_is_lost(told: str, prefills: bool) -> None:
    """What the target is shown and what it is not are the text."""
    prompt = continued(PROMPT, told, prefills, None)
    shown = prompt.turns[1].parts[0] if len(prompt.turns) > 1 else Text("")
    assert isinstance(shown, Text)
    assert shown.text + unseen(told, prefills) == told


@pytest.mark.parametrize("prefills", [True, False])
def test_white_space_alone_is_no_answer(prefills: bool) -> None:
    """There is nothing to go on with: the call is asked again, and what the client has of the new answer is left out of it."""
    assert continued(PROMPT, " \n", prefills, None) == PROMPT
    assert unseen(" \n", prefills) == " \n"


def test_an_answer_that_the_client_had_begun() -> None:
    """The client's own beginning and the delivered text are one text of one turn; a tool call before it stays."""
    call = ToolUse("c", "f", "{}")
    turns = (USER, Turn("assistant", (call, Text("In short: "))))
    prompt = continued(structs.replace(PROMPT, turns=turns), "it is ", prefills=True, spent=None)
    assert prompt.turns == (USER, Turn("assistant", (call, Text("In short: it is"))))


def test_instructions_alone_become_a_turn() -> None:
    """An answer must follow on something: a call of instructions alone has them as its user's words."""
    prompt = continued(structs.replace(PROMPT, turns=()), "yes", prefills=False, spent=None)
    assert (prompt.system, prompt.turns[0]) == ((), Turn("user", (Text("Be brief."),)))


@pytest.mark.parametrize(("spent", "limit"), [(None, 100), (0, 100), (30, 70), (99, LEAST_TOKENS), (500, LEAST_TOKENS)])
def test_the_limit_shrinks_by_what_is_known_to_be_spent(spent: int | None, limit: int) -> None:
    """Never below what every provider takes."""
    assert continued(PROMPT, "x", prefills=True, spent=spent).max_tokens == limit


def test_no_limit_stays_none_and_a_small_one_small() -> None:
    """Nothing is made up."""
    assert continued(structs.replace(PROMPT, max_tokens=None), "x", prefills=True, spent=5).max_tokens is None
    assert continued(structs.replace(PROMPT, max_tokens=4), "x", prefills=True, spent=2).max_tokens == 4
