"""The builder of U-Boot without a network: a stand-in for apt, a source of ten lines, real make."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import build_uboot
import pytest

SOURCE = Path(build_uboot.__file__)
VERSION = "2023.01+dfsg"
TARGETS = "Debian http://a.example/debian/ {}\nDebian http://a.example/debian-security/ {}-s\n"
# A source that does as U-Boot's does: a configuration, then an image that depends on it.
MAKEFILE = """\
qemu_arm64_defconfig:
\techo CONFIG_ARM=y > $(O)/.config
olddefconfig:
\tgrep -q CONFIG_CMD_HVC=y $(O)/.config
u-boot.bin:
\tcp $(O)/.config $(O)/u-boot.bin
"""
BROKEN = MAKEFILE + "\techo 'a.c:1: fatal error: openssl/evp.h: missing' >&2; false\n"


def source(makefile: str | None = MAKEFILE) -> bytes:
    """Upstream's tar file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz") as tar:
        member = tarfile.TarInfo("u-boot-1/" + ("README" if makefile is None else "Makefile"))
        data = (makefile or "").encode()
        member.size, member.mtime = len(data), 1
        tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


class FakeApt(build_uboot.Apt):
    """apt that needs no archive."""

    content = source()
    targets = TARGETS.format("stable", "stable")
    name = f"u-boot_{VERSION}.orig.tar.xz"

    def __init__(self, cache: Path) -> None:
        (cache / "apt").mkdir(exist_ok=True)
        self.conf = cache / "apt" / "apt.conf"

    def run(self, *command: str, cwd: Path | None = None) -> str:
        if command[1] == "source" and cwd and self.name:
            (cwd / self.name).write_bytes(self.content)
        return self.targets if command[1] == "indextargets" else ""


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A cache, and main() that uses it; the attributes of the class are what apt answers."""

    class Apt(FakeApt):
        pass

    monkeypatch.setattr(build_uboot, "Apt", Apt)
    monkeypatch.setattr(build_uboot, "NEEDED", {"make": "make"})
    Apt.cache = tmp_path / "cache"
    Apt.main = staticmethod(lambda *more: build_uboot.main(["--cache", str(Apt.cache), *more]))
    return Apt


needs_make = pytest.mark.skipif(not shutil.which("make"), reason="needs make")


@needs_make
def test_build_then_cache(world, capsys):
    assert world.main() == 0
    image = world.cache / f"u-boot-{VERSION}" / "u-boot.bin"
    assert capsys.readouterr().out == f"{image}\n"
    assert image.read_text() == "CONFIG_ARM=y\n" + build_uboot.CONFIG
    rows = (world.cache / "apt/sources/source.list").read_text().splitlines()
    assert [row.split()[-3:] for row in rows] == [
        ["http://a.example/debian/", "stable", "main"],
        ["http://a.example/debian-security/", "stable-s", "main"],
    ]
    assert not list(world.cache.glob(".part-*"))
    world.content = source(BROKEN)
    assert world.main() == 0  # from the cache
    assert world.main("--force") == 2
    assert image.exists()


@needs_make
@pytest.mark.parametrize(("attribute", "value", "says"), [
    ("content", source(BROKEN), "openssl/evp.h: missing; apt-get install libssl-dev"),
    ("content", source(None), "holds no Makefile"),
    ("content", b"no tar file", "does not unpack"),
    ("name", "", "left no tar file"),
    ("targets", "", "no Debian archive"),
])  # fmt: skip
def test_failures_are_one_line(world, capsys, attribute, value, says):
    setattr(world, attribute, value)
    assert world.main() == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("build_uboot: ")
    assert says in last


def test_what_is_missing_is_named(world, capsys, monkeypatch):
    monkeypatch.setattr(build_uboot, "NEEDED", {"no-such-a": "pack-b", "no-such-b": "pack-a"})
    assert world.main() == 2
    assert capsys.readouterr().err.endswith("apt-get install pack-a pack-b\n")


def test_cache_that_cannot_be_made(world, capsys):
    world.cache.write_text("a file")
    assert world.main() == 2
    assert "choose another --cache DIR" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "says"), [
    ("  CC a.o\nld: warning: x\nmake: *** [all] Error 2\n", "make: *** [all] Error 2"),
    ("a.c:3: error: no\nmake: *** [a.o] Error 1\n", "a.c:3: error: no"),
    ("", "no reason given"),
])  # fmt: skip
def test_complaint(text, says):
    assert build_uboot.complaint(text) == f"make failed: {says}"


def test_the_newest_build_is_used(tmp_path):
    for version in ("2023.01+dfsg", "2025.01", "2023.10"):
        (tmp_path / f"u-boot-{version}").mkdir()
        (tmp_path / f"u-boot-{version}" / "u-boot.bin").touch()
    found = build_uboot.cached(tmp_path)
    assert found is not None
    assert found.parent.name == "u-boot-2025.01"
    assert build_uboot.cached(tmp_path / "nowhere") is None


def test_default_cache(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert build_uboot.default_cache() == Path("/x/hvcemu/u-boot")


def test_run_as_a_script():
    done = subprocess.run(
        [sys.executable, str(SOURCE), "--help"], capture_output=True, text=True, check=True
    )
    assert "--force" in done.stdout
