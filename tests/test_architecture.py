"""docs/architecture.md: every file and name in it exists, and its table is that of the rooms."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator

import pytest
from rooms import PACKAGE, ROOMS, purpose

from places import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
FILE = re.compile(r"([\w/]+\.(?:py|c))(?::([\w.]+))?")
NAME = re.compile(r"[A-Za-z_][\w.]*")
USERS_NAMES = {"El2"}
"""Of emu itself."""


def named(page: str) -> Iterator[tuple[str, str]]:
    """(file, name) of each code span; the name is "" where a file is meant."""
    page = page.replace("`file:name`", "")
    for paragraph in re.split(r"\n\s*\n|\n(?=\d\. )", page):
        file = ""
        for span in re.findall(r"`([^`]+)`", " ".join(paragraph.split())):
            if found := FILE.fullmatch(span):
                file = found[1]
                yield file, found[2] or ""
            elif NAME.fullmatch(span) and span not in USERS_NAMES and file:
                yield file, span


NAMED = sorted(set(named(PAGE)))


@functools.cache
def names_in(file: str) -> frozenset[str]:
    """Every name that a file defines, those of a class behind its own and a dot."""
    text = (PACKAGE / file).read_text(encoding="utf-8")
    if file.endswith(".c"):
        return frozenset(re.findall(r"^\w[^;=\n]*?\b(\w+)\([^;]*$", text, re.MULTILINE))
    return frozenset(defined(ast.parse(text).body, ""))


def defined(body: list[ast.stmt], prefix: str) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield prefix + node.name
        if isinstance(node, ast.ClassDef):
            yield from defined(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef) and prefix:
            yield from (prefix + name for name in given(node))
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = (name for target in targets for name in ast.walk(target))
            yield from (prefix + name.id for name in names if isinstance(name, ast.Name))


def given(method: ast.FunctionDef) -> Iterator[str]:
    """Attributes of self that a method sets."""
    for node in ast.walk(method):
        stored = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        if stored and isinstance(node.value, ast.Name) and node.value.id == "self":
            yield node.attr


@pytest.mark.parametrize(("file", "name"), NAMED, ids=lambda text: text or "itself")
def test_what_is_named_exists(file, name):
    assert (PACKAGE / file).is_file()
    assert not name or name in names_in(file)


def test_every_name_belongs_to_a_file():
    """Also one that stands alone: it is in the file its paragraph has named last."""
    spans = set(re.findall(r"`([^`]+)`", PAGE))
    alone = {span for span in spans if NAME.fullmatch(span) and not FILE.fullmatch(span)}
    assert alone - USERS_NAMES <= {name for _, name in NAMED}
    assert len(NAMED) > 80


def test_the_table_is_that_of_the_rooms():
    rows = re.findall(r"^\| (\w+) \| (.*) \| (.*) \|$", PAGE, re.MULTILINE)[1:]
    before = ["nothing", "base", *(f"base to {room}" for room in ROOMS[1:-1])]
    assert rows == [(room, purpose(room), may) for room, may in zip(ROOMS, before, strict=True)]


def test_every_way_fits_on_a_page():
    sections = PAGE.split("\n## ")[1:]
    assert len(sections) == 4
    for section in sections:
        assert len(section.strip().splitlines()) <= 45, section.partition("\n")[0]


def test_what_it_links_to_exists():
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target


# The test of the test.
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("`base/bus.py:Place`, then `Line`", [("base/bus.py", "Place"), ("base/bus.py", "Line")]),
        ("`base/bus.py` `x = 1`", [("base/bus.py", "")]),
        ("`base/bus.py:Place`\n\nand `Line`", [("base/bus.py", "Place")]),
    ],
)
def test_names_are_found(text, found):
    assert list(named(text)) == found


def test_what_a_file_defines():
    assert {"Board.sync", "Board.gic", "MONITOR_LINE", "Board"} <= names_in("machine/board.py")
    assert "Board.nothing" not in names_in("machine/board.py")
    assert {"take", "on_interrupt"} <= names_in("engine/_exceptions.c")
    assert "PyEval_RestoreThread" not in names_in("engine/_exceptions.c")
