"""Guests by name."""

from pathlib import Path

import pytest

from emu.base.errors import EmuError
from emu.runs.bundled import find_image
from places import GUESTS


@pytest.mark.parametrize("name", ["hello", "hello.elf", "bugs/uboot_smccc_check"])
def test_a_bundled_guest(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = Path(find_image(name))
    assert found.samefile(GUESTS / f"{name.removesuffix('.elf')}.elf")


def test_a_file_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("hello").write_bytes(b"mine")
    assert find_image("hello") == "hello"
    assert find_image("./none.elf") == "./none.elf", "a path is a path: who opens it will say so"


@pytest.mark.parametrize(
    ("name", "hint"),
    [("helo", "did you mean hello"), ("bugs/uboot_smccc", "did you mean bugs/uboot_smccc_check"),
     ("qqq", "bundled are coremarkish, ")],
)  # fmt: skip
def test_a_name_that_is_none(name, hint):
    with pytest.raises(EmuError, match=f"{name}: no such file, and no guest of that name; {hint}"):
        find_image(name)
