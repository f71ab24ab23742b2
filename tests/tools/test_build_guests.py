"""The committed guests are what their sources give, byte for byte, in any directory.

Without the compiler only the sources' headers and the ELF files themselves can be looked at.
"""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from places import ROOT

GUESTS = ROOT / "guests"
TOOL = Path("tools") / "build_guests.py"
ELVES = sorted((GUESTS / "bin").glob("*.elf"))
OBJECTS = sorted((GUESTS / "bin").glob("*.o"))
SOURCES = sorted(path for path in GUESTS.iterdir() if path.suffix in (".c", ".S"))
# Where an image may lie: guests/lib/guest.ld.
IMAGE_START, IMAGE_END = 0x4008_0000, 0x4100_0000
PT_LOAD, ET_REL, ET_EXEC, EM_AARCH64 = 1, 1, 2, 183
PF_X, PF_W = 1, 2


def pinned_version() -> str:
    """The version the tool demands: read, not imported, since tools/ is no package."""
    found = re.search(r'^ZIGLANG = "(.+?)"', (ROOT / TOOL).read_text(), re.MULTILINE)
    assert found
    return found[1]


def installed_version() -> str | None:
    try:
        return importlib.metadata.version("ziglang")
    except importlib.metadata.PackageNotFoundError:
        return None


needs_compiler = pytest.mark.skipif(
    installed_version() != pinned_version(),
    reason=f"needs the compiler: pip install ziglang=={pinned_version()}",
)


def run_tool(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / TOOL), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def copy_tree(target: Path) -> Path:
    """A second checkout, as far as the tool looks."""
    shutil.copytree(GUESTS, target / "guests")
    (target / TOOL.parent).mkdir()
    shutil.copy(ROOT / TOOL, target / TOOL)
    return target


@needs_compiler
def test_committed_guests_are_what_their_sources_give() -> None:
    done = run_tool(ROOT, "--check")
    assert done.returncode == 0, done.stderr


@needs_compiler
def test_the_directory_does_not_matter(tmp_path: Path) -> None:
    done = run_tool(copy_tree(tmp_path / "elsewhere" / "under a name with blanks"), "--check")
    assert done.returncode == 0, done.stderr


@needs_compiler
def test_check_names_the_differing_file(tmp_path: Path) -> None:
    root = copy_tree(tmp_path / "copy")
    elf = root / "guests" / "bin" / "hello.elf"
    elf.write_bytes(elf.read_bytes()[:-1] + b"\xff")
    done = run_tool(root, "--check", "hello")
    assert done.returncode == 1
    assert "hello.elf: differs" in done.stderr


@needs_compiler
def test_check_names_a_missing_file_and_an_orphan(tmp_path: Path) -> None:
    root = copy_tree(tmp_path / "copy")
    (root / "guests" / "bin" / "hello.elf").rename(root / "guests" / "bin" / "nobody.elf")
    (root / "guests" / "bin" / "corners.o").rename(root / "guests" / "bin" / "hello.o")
    done = run_tool(root, "--check")
    assert done.returncode == 1
    assert "hello.elf: missing" in done.stderr
    assert "nobody.elf: has no source" in done.stderr
    assert "corners.o: missing" in done.stderr
    assert "hello.o: has no source" in done.stderr


@needs_compiler
def test_building_prints_a_table(tmp_path: Path) -> None:
    done = run_tool(copy_tree(tmp_path / "copy"), "hello", "spin")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"hello\.elf +[\d,]+ bytes\nspin\.elf +[\d,]+ bytes\n", done.stdout)


@needs_compiler
def test_a_guest_of_another_folder_goes_by_its_folders_name(tmp_path: Path) -> None:
    root = copy_tree(tmp_path / "copy")
    name = Path("guests") / "bin" / "bugs" / "nuttx_smc.elf"
    shutil.rmtree(root / "guests" / "bin" / "bugs")
    done = run_tool(root, "bugs/nuttx_smc", "corners")
    assert done.stdout.split()[0::3] == ["bugs/nuttx_smc.elf", "corners.o"]
    assert (root / name).read_bytes() == (ROOT / name).read_bytes()
    (root / name).rename(root / name.with_name("hello.elf"))
    done = run_tool(root, "--check")
    assert done.returncode == 1
    assert "nuttx_smc.elf: missing" in done.stderr
    assert "bugs/hello.elf: has no source" in done.stderr


@needs_compiler
def test_an_unknown_guest_is_refused() -> None:
    done = run_tool(ROOT, "no_such_guest")
    assert done.returncode == 1
    assert "no such guest: no_such_guest" in done.stderr


def test_without_the_compiler_one_line_says_how_to_get_it() -> None:
    code = (
        "import importlib.metadata as m, runpy, sys\n"
        "def absent(name): raise m.PackageNotFoundError(name)\n"
        "m.version = absent\n"
        f"sys.argv = ['build_guests.py']\n"
        f"runpy.run_path({str(ROOT / TOOL)!r}, run_name='__main__')\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        f"build_guests: the compiler is missing: pip install ziglang=={pinned_version()}\n"
    )


def test_every_source_has_its_elf() -> None:
    assert [path.stem for path in SOURCES] == [path.stem for path in ELVES]


def test_every_object_has_its_source() -> None:
    sources = sorted(path.stem for path in (GUESTS / "objects").iterdir())
    assert [path.stem for path in OBJECTS] == sources
    for path in OBJECTS:
        data = path.read_bytes()
        assert struct.unpack_from("<HH", data, 16) == (ET_REL, EM_AARCH64)
        assert str(ROOT).encode() not in data


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_every_guest_says_how_to_run_it_and_what_to_expect(source: Path) -> None:
    text = source.read_text()
    assert re.search(r"^// run: profile=\S+ cpus=\d+$", text, re.MULTILINE)
    assert re.search(r'^// expect: exit=\d+( console~"[^"]+")*$', text, re.MULTILINE)
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("elf", sorted((GUESTS / "bin").rglob("*.elf")), ids=lambda path: path.stem)
def test_segments_are_separate_and_never_writable_code(elf: Path) -> None:
    image = elf.read_bytes()
    kind, machine, _, entry, phoff = struct.unpack_from("<HHIQQ", image, 16)
    count = struct.unpack_from("<H", image, 56)[0]
    assert (image[:5], kind, machine) == (b"\x7fELF\x02", ET_EXEC, EM_AARCH64)
    end = IMAGE_START
    for number in range(count):
        p_type, flags, _, vaddr, paddr, _, memsz, _ = struct.unpack_from(
            "<IIQQQQQQ", image, phoff + 56 * number
        )
        assert p_type == PT_LOAD
        assert flags & (PF_X | PF_W) != PF_X | PF_W
        assert vaddr == paddr
        assert vaddr >= end
        end = vaddr + memsz
    assert IMAGE_START <= entry < end <= IMAGE_END
    assert str(ROOT).encode() not in image
