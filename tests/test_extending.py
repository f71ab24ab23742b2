"""docs/extending.md: every block of it runs, each section in an empty folder of its own."""

from __future__ import annotations

import re

import pytest

from page_kit import Block, Folder, blocks, commands
from places import ROOT

PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
SECTIONS = dict(section.split("\n", 1) for section in re.split(r"^## ", PAGE, flags=re.M)[1:])


@pytest.mark.parametrize("title", SECTIONS)
def test_every_block_runs(title, tmp_path):
    folder = Folder(tmp_path)
    for block in blocks(SECTIONS[title]):
        folder.do(block)


@pytest.mark.parametrize("title", SECTIONS)
def test_every_section_has_a_test_that_is_run(title):
    written = {block.path for block in blocks(SECTIONS[title], "python") if block.path}
    run = "".join(block.text for block in blocks(SECTIONS[title], "sh"))
    tests = {path for path in written if path.startswith("test_")}
    assert tests
    assert tests == set(re.findall(r"pytest -q (\S+)", run))


def test_the_table_links_every_section():
    links = re.findall(r"^\| \[(.*?)\]\(#(.*?)\)", PAGE, re.M)
    assert [(f"{title[0].upper()}{title[1:]}") for title, _ in links] == list(SECTIONS)
    assert all(anchor == title.lower().replace(" ", "-") for title, anchor in links)


def test_the_files_it_names_exist():
    named = set(re.findall(r"\b((?:emu|tests|tools)/[\w/]+\.(?:py|json|toml))", PAGE))
    written = {block.path for block in blocks(PAGE)}
    copied = set(re.findall(r"(emu/\S+\.py)$", "".join(b.text for b in blocks(PAGE)), re.M))
    for name in named - written - copied:
        if "NAME" in name or name.endswith(("test_count.py", "test_extending.py")):
            continue
        assert (ROOT / name).exists(), name


# The test of the test: each kind of block that is wrong is found.
@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("python", "assert False\n"),
        ("sh", "false\ntrue\n"),
        ("console", "$ echo one\ntwo\n"),
        ("py", "1\n"),
    ],
)
def test_a_wrong_block_is_found(language, text, tmp_path):
    with pytest.raises(AssertionError):
        Folder(tmp_path).do(Block(language, text))


def test_the_folder_is_empty_and_outside_the_package(tmp_path):
    folder = Folder(tmp_path)
    assert folder.run("python", "-", given="import os, sys; print(os.listdir(), os.getcwd())") == (
        f"[] {tmp_path / 'folder'}\n"
    )


def test_blocks_and_commands():
    page = "```toml\n# a.toml\nx = 1\n```\n```sh\n# no file\n```\n"
    assert [block.path for block in blocks(page)] == ["a.toml", ""]
    assert blocks(page, "sh") == [Block("sh", "# no file\n")]
    assert list(commands("$ a\nb\n\n$ c\n")) == [("a", "b\n\n"), ("c", "")]
