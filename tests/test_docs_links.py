"""What the documentation names is there: its links, the files and the functions in them, the make targets, the configurations it shows."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import cli
from gateway.config import parse

TOP = Path(__file__).parents[1]
PAGES = sorted([*TOP.glob("*.md"), *TOP.glob("docs/**/*.md")])
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (TOP / "Makefile").read_text(), re.MULTILINE))
VARIABLES = {"EAST_KEY": "k", "OPENAI_API_KEY": "k", "WEIR_ADMIN_TOKEN": "t"}

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PLACE = re.compile(r"`((?:gateway|tests|docs|deploy)/[\w./*-]*)`")
NAME = re.compile(r"`((?:gateway|tests)/[\w/]+\.py)`\s+`([A-Za-z_][\w.]*)`")
WEIR = re.compile(r"(?:`|^|^\$ )weir ([a-z]+)", re.MULTILINE)
MAKE = re.compile(r"(?:`|^)make ([a-z][a-z-]*)", re.MULTILINE)


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return FENCE.sub("", page.read_text())


def relative_to_top(page: Path) -> str:
    return str(page.relative_to(TOP))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as the usual renderers make them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def definitions(tree: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[str]:
    """Yield every name a module defines, methods and fields of its classes as `Class.name`."""
    for node in tree.body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield prefix + node.name
            case ast.ClassDef():
                yield prefix + node.name
                yield from definitions(node, f"{prefix}{node.name}.")
            case ast.Assign():
                yield from (prefix + target.id for target in node.targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield prefix + name
            case _:
                pass


@pytest.mark.parametrize("page", PAGES, ids=relative_to_top)
def test_every_link_leads_somewhere(page: Path) -> None:
    """A relative link is a file or a folder of the repository, and its anchor a heading there."""
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), link
        assert TOP in (place, *place.parents), link
        assert not anchor or anchor in anchors(place), link


@pytest.mark.parametrize("page", PAGES, ids=relative_to_top)
def test_every_file_named_is_there(page: Path) -> None:
    """Whatever stands in backticks and begins with one of our folders exists."""
    missing = [place for place in PLACE.findall(prose(page)) if not any(TOP.glob(place.rstrip("/")))]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=relative_to_top)
def test_every_name_in_a_file_is_defined_there(page: Path) -> None:
    """A file followed by a name, each in backticks, says that the file defines the name."""
    for path, name in NAME.findall(prose(page)):
        assert name in set(definitions(ast.parse((TOP / path).read_text()))), f"{path} {name}"


@pytest.mark.parametrize("page", PAGES, ids=relative_to_top)
def test_every_make_target_named_exists(page: Path) -> None:
    """Whoever types what a page says finds a target of that name."""
    assert set(MAKE.findall(page.read_text())) <= TARGETS


@pytest.mark.parametrize("page", PAGES, ids=relative_to_top)
def test_every_command_named_exists(page: Path) -> None:
    """`weir` and a word is a command."""
    assert set(WEIR.findall(page.read_text())) <= set(cli.main.commands)


def test_the_index_lists_every_decision() -> None:
    """docs/decisions/README.md has a row for each file beside it."""
    index = TOP / "docs" / "decisions" / "README.md"
    decisions = {page.name for page in index.parent.glob("*.md")} - {index.name}
    assert set(LINK.findall(index.read_text())) == decisions


@pytest.mark.parametrize("page", PAGES, ids=relative_to_top)
def test_every_configuration_shown_is_valid(page: Path, tmp_path: Path) -> None:
    """A block of YAML with routes in it is a whole file that loads, given the variables and secrets it names."""
    (tmp_path / "west").write_text("key")
    for language, text in FENCE.findall(page.read_text()):
        if language == "yaml" and re.search(r"^routes:", text, re.MULTILINE):
            assert parse(text.replace("/run/secrets/", f"{tmp_path}/"), environ=VARIABLES).routes


def test_the_readme_is_short() -> None:
    """Who has to scroll for long reads nothing."""
    assert len((TOP / "README.md").read_text().splitlines()) < 250
