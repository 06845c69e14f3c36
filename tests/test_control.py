"""The line between the supervisor and a child: words in order, configurations whole, and nobody who ever waits."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.config import Config, parse
from gateway.control import LARGEST, MOST_PROBLEMS, Line, Outcome, Retire, Stop, Swap, Vacant, Word, pair

FILE = """
version: 1
upstreams:
{upstreams}
routes: [{{name: chat, match: {{models: ["*"]}}, targets: [{{upstream: u0}}]}}]
"""


def config(upstreams: int = 1, key: str = "sesame") -> Config:
    lines = [f"  u{number}: {{base_url: 'http://127.0.0.1:1/v1', api_key: {key}}}" for number in range(upstreams)]
    return parse(FILE.format(upstreams="\n".join(lines)))


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def line() -> Iterator[tuple[Line, Line]]:
    """The parent's end and the child's."""
    mine, its = pair()
    yield mine, Line(its)
    mine.close()
    its.close()


def test_words_come_in_order(line: tuple[Line, Line]) -> None:
    """Each is one packet; when all are heard there are no more, and nobody waits for one."""
    mine, its = line
    said: list[Word] = [Retire(), Outcome(3, "h", changed=True), Vacant(1, 2), Stop()]
    for word in said:
        mine.say(word)
    assert list(its.heard()) == [(word, None) for word in said]
    assert list(its.heard()) == []


def test_a_configuration_of_any_size_comes_whole(line: tuple[Line, Line]) -> None:
    """Secrets included; it is larger than a packet may be, and leaves no file open on either side."""
    mine, its = line
    large, before = config(2000), open_files()
    mine.say(Swap(), large)
    [(word, heard)] = its.heard()
    assert (word, heard, heard is large) == (Swap(), large, False)
    assert open_files() == before


def test_one_that_does_not_listen_holds_nobody_up(line: tuple[Line, Line]) -> None:
    """What finds no room waits; of configurations only the newest, so that a child that hangs costs no memory."""
    mine, its = line
    for number in range(3000):
        mine.say(Swap(), config(key=f"k{number}"))
    assert len(mine._waiting) == 1
    heard = [its.heard()]
    got = list(heard[0])
    mine.flush()
    got += its.heard()
    newest = got[-1][1]
    assert newest is not None
    assert newest == config(key="k2999")
    assert mine._waiting == type(mine._waiting)()


def test_the_end_of_the_other_side_is_told(line: tuple[Line, Line]) -> None:
    """What it had said is heard first; saying something to nobody is no error."""
    mine, its = line
    its.say(Stop())
    its.close()
    heard = []
    with pytest.raises(EOFError):
        heard.extend(mine.heard())
    with contextlib.suppress(EOFError):
        heard.extend(mine.heard())
    mine.say(Retire())
    assert mine._waiting == type(mine._waiting)()


def test_the_longest_list_of_problems_fits(line: tuple[Line, Line]) -> None:
    """An outcome is one packet, however much was wrong; its one line tells the first and how many there were."""
    mine, its = line
    outcome = Outcome(1, "h", problems=tuple("x" * 1000 for _ in range(MOST_PROBLEMS)))
    mine.say(outcome)
    assert list(its.heard()) == [(outcome, None)]
    assert LARGEST > 1000 * MOST_PROBLEMS
    assert outcome.error == "x" * 1000 + " (and 49 more)"
    assert Outcome(1, "h").error is None
