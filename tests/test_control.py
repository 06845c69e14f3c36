"""The line between the supervisor and a child: words in order, configurations whole, and nobody who ever waits."""

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.config import Config, parse
from gateway.control import LARGEST, MOST_PROBLEMS, Ear, Line, Outcome, Retire, Stop, Swap, Vacant, Word, pair

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


@contextlib.contextmanager
def no_file_free() -> Iterator[None]:
    """Let this process open nothing more for a while."""
    free = os.open("/dev/null", os.O_RDONLY)
    os.close(free)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


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


def test_a_configuration_waits_for_a_file_descriptor(line: tuple[Line, Line]) -> None:
    """A parent that has none free at the moment sends the words later, in their order, and loses none (G4)."""
    mine, its = line
    with no_file_free():
        mine.say(Swap(), config())
        mine.say(Stop())
        assert list(its.heard()) == []
    mine.flush()
    assert list(its.heard()) == [(Swap(), config()), (Stop(), None)]


async def test_a_child_without_a_free_file_descriptor_says_so(line: tuple[Line, Line], caplog: pytest.LogCaptureFixture) -> None:
    """It cannot take the configuration that comes, goes on with the one it has, and takes the same one when it comes again (G4)."""
    mine, its = line
    heard = list[Config | None]()
    ear = Ear(its.sock, lambda _, config: heard.append(config))
    mine.say(Swap(), config())
    with no_file_free():
        ear.read()
    [told] = caplog.messages
    assert (heard, "SIGHUP sends it again" in told) == ([None], True)
    mine.say(Swap(), config())
    ear.read()
    assert heard[1:] == [config()]


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
