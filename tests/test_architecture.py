"""The house style that a machine can check: small files, small functions, names that say something, first lines that say what it is."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "gateway").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
EMPTY_NAMES = re.compile(r"(^|_)(utils?|helpers?|commons?|managers?|misc|base_utils)(_|$)")
FILE_LINES, FUNCTION_LINES = 400, 50

every_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function of a file, methods and inner ones too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_there_is_something_to_check() -> None:
    """A moved folder must not make these tests pass by checking nothing."""
    assert len(MODULES) > 60
    assert len(TESTS) > 30


@every_module
def test_a_file_is_under_400_lines(path: Path) -> None:
    """What grows beyond that is two things."""
    assert len(path.read_text().splitlines()) < FILE_LINES


@every_module
def test_a_function_has_at_most_50_lines(path: Path) -> None:
    """Docstring and signature included."""
    long = {f.name: lines for f in functions(path) if (lines := (f.end_lineno or 0) - f.lineno + 1) > FUNCTION_LINES}
    assert long == {}


@every_module
def test_a_file_says_in_its_first_line_what_it_is(path: Path) -> None:
    """The first statement is a docstring, and its first line a sentence or the beginning of one."""
    text = path.read_text()
    docstring = ast.get_docstring(ast.parse(text)) or ""
    assert text.startswith('"""')
    assert len(docstring.splitlines()[0]) > 15


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_test_file_says_what_it_tests(path: Path) -> None:
    """Tests keep to the first line too, and each test says its rule."""
    assert path.read_text().startswith('"""')
    assert [f.name for f in functions(path) if f.name.startswith("test_") and not ast.get_docstring(f)] == []


def test_no_name_that_says_nothing() -> None:
    """No utils, helpers, common or manager: such a file is where unlike things gather."""
    named = [*MODULES, *TESTS, *(path.parent for path in MODULES)]
    assert [str(path) for path in named if EMPTY_NAMES.search(path.stem)] == []
    classes = [node.name for path in MODULES for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)]
    assert [name for name in classes if re.search(r"(Manager|Helper|Utils?)$", name)] == []


def test_test_folders_mirror_rooms() -> None:
    """tests/wire tests gateway/wire; only what is told from outside, of no one room, has a folder of its own."""
    rooms = {path.name for path in (ROOT / "gateway").iterdir() if path.is_dir()}
    folders = {path.relative_to(ROOT / "tests").parts[0] for path in TESTS if path.parent != ROOT / "tests"}
    assert folders - rooms <= {"stories", "faults", "e2e", "conformance", "goldens", "rig", "dashboards", "browser", "backends"}
