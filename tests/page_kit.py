"""Code blocks of a page, and a folder to run them in."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from places import PACKAGE, ROOT

INTO_PACKAGE = re.compile(r"(?:^\$ cp|>) .*\bemu/\w+/", re.MULTILINE)
NAMED = re.compile(r"# ([\w./-]+\.(?:py|toml))\n")


class Block(NamedTuple):
    """A fenced block. `path` is the file that its first line names, "" where it names none."""

    language: str
    text: str

    @property
    def path(self) -> str:
        found = NAMED.match(self.text)
        return found[1] if found and self.language in ("python", "toml") else ""


def blocks(page: str, *languages: str) -> list[Block]:
    """Those of these languages, of any where none is given."""
    found = (Block(*match) for match in re.findall(r"^```(\w*)\n(.*?)^```", page, re.S | re.M))
    return [block for block in found if not languages or block.language in languages]


class Folder:
    """An empty folder, with `python` and `hvcemu` of this process in the path.

    A block that names a file below emu/ gets a package there: this one's files, by links.
    """

    def __init__(self, path: Path) -> None:
        self.path, programs = path / "folder", path / "bin"
        self.path.mkdir()
        programs.mkdir()
        for name, command in (("python", ""), ("hvcemu", " -m emu")):
            script = programs / name
            script.write_text(f'#!/bin/sh\nexec "{sys.executable}"{command} "$@"\n')
            script.chmod(0o755)
        self._environment = {
            **os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "HVCEMU_CACHE": "0",
            "PYTHONPATH": f"{self.path}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "100",
        }  # fmt: skip

    def do(self, block: Block) -> None:
        """Write it or run it, as its language says."""
        if block.path.startswith("emu/") or INTO_PACKAGE.search(block.text):
            self._link_package()
        if block.path:
            self.write(block)
        elif block.language == "python":
            self.run("python", "-", given=block.text)
        elif block.language == "sh":
            self.run("sh", "-e", given=block.text)
        elif block.language == "console":
            for command, output in commands(block.text):
                assert self.run("sh", "-e", given=command) == output
        else:
            raise AssertionError(f"a block of {block.language or 'no language'} is not run")

    def write(self, block: Block) -> None:
        """Write it into its file."""
        path = self.path / block.path
        assert not path.exists(), path
        path.write_text(block.text, encoding="utf-8")

    def run(self, *words: str, given: str) -> str:
        """Run a program; returns its output."""
        done = subprocess.run(
            words, input=given, capture_output=True, text=True, cwd=self.path, check=False,
            env=self._environment, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, f"{given}\n{done.stdout}{done.stderr}"
        return done.stdout

    def _link_package(self) -> None:
        if (self.path / "emu").exists():
            return
        for folder, folders, files in os.walk(PACKAGE):
            folders[:] = [name for name in folders if name != "__pycache__"]
            there = self.path / "emu" / Path(folder).relative_to(PACKAGE)
            there.mkdir()
            for name in files:
                (there / name).symlink_to(Path(folder) / name)


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Each line behind a $, and what stands below it."""
    for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
        command, output = re.split(r"(?<!\\)\n", part, maxsplit=1)
        yield command, output
