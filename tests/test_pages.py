"""README and docs/: what they link to is there, and what they import can be imported."""

from __future__ import annotations

import importlib
import re

import pytest

from places import PACKAGE, ROOT

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@every_page
def test_links_lead_somewhere(page):
    for target, _, heading in re.findall(r"\]\(([^)#:]*)(#([\w-]+))?\)", page.read_text("utf-8")):
        file = page.parent / target if target else page
        assert file.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.MULTILINE)
            assert heading in [re.sub(r"[^\w -]", "", t.lower()).replace(" ", "-") for t in titles]


@every_page
def test_names_can_be_imported(page):
    for name in re.findall(r"`(emu(?:\.\w+)+)", page.read_text("utf-8")):
        path, _, last = name.rpartition(".")
        found = importlib.import_module(path)
        if not hasattr(found, last):
            importlib.import_module(name)


@every_page
def test_files_exist(page):
    for name in re.findall(r"\b(emu/[\w/]+\.(?:py|c|toml|json))\b", page.read_text("utf-8")):
        example = "NAME" in name or page.name == "extending.md"  # test_extending.py knows better
        assert example or (PACKAGE.parent / name).is_file(), name
